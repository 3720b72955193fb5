"""What is wrong with a recording, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class MarketDataError(Exception):
    """A recording that cannot be played. Raised while loading, before anything starts; the data is refused whole.

    `row` is the 1-based data row of the file (a CSV's header is not counted) or None where no single row is to blame;
    `column` likewise.
    """

    def __init__(
        self, file: str | Path, problem: str, remedy: str, row: int | None = None, column: str | None = None
    ) -> None:
        # All arguments go up, so that the error survives pickling between processes.
        super().__init__(str(file), problem, remedy, row, column)
        self.file = str(file)
        self.problem = problem
        self.remedy = remedy
        self.row = row
        self.column = column

    def __str__(self) -> str:
        place = [self.file]
        if self.row is not None:
            place.append(f"row {self.row}")
        if self.column is not None:
            place.append(f"column {self.column}")
        return f"{', '.join(place)}: {self.problem}. {self.remedy}."
