"""What trading has come to: drawdown, fees, turnover and how many trades won, as rows of the profit panel."""

from __future__ import annotations

from core.records import SwarmSnapshot
from tui.widgets.panel import Part, Row


def results_rows(snapshot: SwarmSnapshot, width: int) -> list[Row]:
    """As many figures on a row as fit `width` cells; none before anything was heard."""
    found = snapshot.results
    if found is None:
        return []
    fall = f"-{found.drawdown:,.0f} ({found.drawdown_fraction:.1%})" if found.drawdown else "none"
    won = f"{found.winning_trades / found.closed_trades:.0%} of {found.closed_trades:,}" if found.closed_trades else "-"
    figures = (
        ("drawdown", Part(fall, "loss" if found.drawdown else "plain")),
        ("fees", Part(f"{found.fees:,.0f}")),
        ("won", Part(won)),
        ("turnover", Part(f"{found.turnover:,.0f}")),
    )
    rows: list[Row] = []
    left = 0
    for name, figure in figures:
        cells = len(name) + 1 + len(figure.text)
        if rows and cells + 2 <= left:
            rows[-1] += (Part(f"  {name} ", "muted"), figure)
            left -= cells + 2
        else:
            rows.append((Part(f"{name} ", "muted"), figure))
            left = width - cells
    return rows
