"""`tradetui pnl`: what a session's trading came to, by instrument."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from core.market.load import load_market
from core.performance import performance
from core.session import Session, SessionError
from core.venue.journal import JournalError, read_events
from core.venue.process import TRADER, journal_path


def show_performance(session: Session, console: Console) -> None:
    """Print it. Raises SessionError where the session holds no venue's journal, or a damaged one."""
    spec = load_market(session.settings().data).spec
    try:
        found = performance(read_events(journal_path(session.directory / "venue")), TRADER, len(spec.instruments))
    except (OSError, ValueError, JournalError) as error:
        raise SessionError(f"{session.directory.name}: {error}") from error
    quantum = spec.tick_size * spec.lot_size
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("position", "at", "FIFO", "average", "open", "fees", "turnover", "slip"):
        table.add_column(name, no_wrap=True, justify="right")
    for name, row in zip(spec.symbols, found.instruments, strict=True):
        if not row.turnover:
            continue
        money = (row.realised_fifo, row.realised_average_cost, row.unrealised, row.fees, row.turnover, row.slippage)
        average = f"{row.average_cost_ticks * spec.tick_size:,.2f}" if row.position_lots else "-"
        cells = [f"{float(value) * quantum:,.0f}" for value in money]
        table.add_row(name, f"{row.position_lots * spec.lot_size:,g}", average, *cells)
    console.print(table)
    profit = (found.equity - found.starting_cash) * quantum
    console.print(
        f"equity {found.equity * quantum:,.2f}, profit {profit:,.2f}; largest drawdown {found.drawdown * quantum:,.2f}"
        f" ({found.drawdown_fraction:.2%}); turnover {found.turnover * quantum:,.2f}; {found.winning_trades} of"
        f" {found.closed_trades} closed trades won ({found.hit_rate:.1%}); slippage {found.slippage_bps:.2f} bp against"
        " the decision price",
        highlight=False,
    )
    console.print(
        "FIFO: realised, after fees; average: realised at average cost, before fees; open: unrealised; slip: paid"
        " beyond the decision price, the close of the order's market step",
        style="dim",
    )
