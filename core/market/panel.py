"""A panel: one close of each instrument on each date or at each time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.market.errors import MarketDataError
from core.market.events import MarketData, PanelEvents
from core.market.recording import Recording, finish
from core.market.spec import tick_size_for
from core.market.table import Kind, Table, first_true, read_table

_NS_PER_DAY: Final = 86_400_000_000_000
_UNITS_NS: Final = (
    ("day", _NS_PER_DAY),
    ("hour", 3_600_000_000_000),
    ("minute", 60_000_000_000),
    ("second", 1_000_000_000),
    ("millisecond", 1_000_000),
)


def load_panel(connection: duckdb.DuckDBPyConnection, path: Path, recording: Recording, time: str) -> MarketData:
    """`time` (`date` or `ts_ns`), `instrument`, `close`, rows sorted by time, every instrument at every time.

    Raises MarketDataError.
    """
    kinds = {time: Kind.DATE if time == "date" else Kind.INTEGER, "instrument": Kind.TEXT, "close": Kind.FLOAT}
    table = read_table(connection, path, kinds)
    table.check_sorted(time)
    table.check_above("close")
    symbols = sorted(set(table["instrument"]))
    position = {symbol: index for index, symbol in enumerate(symbols)}
    instrument = np.fromiter(map(position.__getitem__, table["instrument"]), dtype=np.int64, count=len(table))
    starts = np.flatnonzero(np.diff(table[time], prepend=table[time][0] - 1))
    row_of_time = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(table)))
    table.check_unique("instrument", row_of_time * len(symbols) + instrument, f"({time}, instrument)")
    _check_complete(table, time, starts, instrument, symbols)

    tick_size = recording.tick_size or tick_size_for(table["close"])
    close = np.empty((len(starts), len(symbols)), dtype=np.int64)
    close[row_of_time, instrument] = table.units("close", tick_size)
    ts_ns = table[time][starts].astype(np.int64)
    label, step_text = _step_of(ts_ns)
    return finish(
        recording,
        symbols=symbols,
        units=(tick_size, recording.lot_size or 1.0),
        ts_ns=ts_ns,
        events=PanelEvents(close),
        step_label=label,
        step_text=step_text,
    )


def _check_complete(
    table: Table, time: str, starts: NDArray[np.int64], instrument: NDArray[np.int64], symbols: list[str]
) -> None:
    counts = np.diff(starts, append=len(table))
    found = first_true(counts < len(symbols))
    if found is None:
        return
    start = int(starts[found])
    present = set(instrument[start : start + counts[found]].tolist())
    missing = [symbol for index, symbol in enumerate(symbols) if index not in present]
    when = (
        np.datetime64(int(table[time][start]), "ns").astype("datetime64[D]") if time == "date" else table[time][start]
    )
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    raise MarketDataError(
        table.file,
        f"{when} has no row for {named}",
        f"Fill the gap, leave that {time} out, or leave the instrument out; nothing is filled in for you",
        row=start + 1,
        column="instrument",
    )


def _step_of(ts_ns: NDArray[np.int64]) -> tuple[str, str]:
    """The unit of the usual gap between rows, and the gap in words: `day`, `1 day`."""
    gap = int(np.median(np.diff(ts_ns))) if len(ts_ns) > 1 else _NS_PER_DAY
    label, unit = next(((label, unit) for label, unit in _UNITS_NS if gap >= unit), _UNITS_NS[-1])
    count = max(1, round(gap / unit))
    return label, f"{count} {label}{'' if count == 1 else 's'}"
