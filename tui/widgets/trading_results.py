"""What trading has come to: drawdown, fees, turnover and how many trades won, as rows of the profit panel."""

from __future__ import annotations

from core.records import SwarmSnapshot
from tui.widgets.panel import Part, Row


def results_rows(snapshot: SwarmSnapshot) -> list[Row]:
    """Two rows; none before anything was heard."""
    found = snapshot.results
    if found is None:
        return []
    fall = f"-{found.drawdown:,.0f} ({found.drawdown_fraction:.1%})" if found.drawdown else "none"
    won = f"{found.winning_trades / found.closed_trades:.0%} of {found.closed_trades:,}" if found.closed_trades else "-"
    return [
        (
            Part("drawdown ", "muted"),
            Part(fall, "loss" if found.drawdown else "plain"),
            Part("  fees ", "muted"),
            Part(f"{found.fees:,.0f}"),
        ),
        (
            Part("won ", "muted"),
            Part(won),
            Part("  turnover ", "muted"),
            Part(f"{found.turnover:,.0f}"),
        ),
    ]
