"""Trades of one instrument, every one of them, played as one-second steps."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.market.events import MarketData, TickEvents, Trades
from core.market.recording import Recording, finish
from core.market.spec import lot_size_for, tick_size_for
from core.market.table import Kind, read_table

NS_PER_SECOND: Final = 1_000_000_000


def load_ticks(connection: duckdb.DuckDBPyConnection, path: Path, recording: Recording) -> MarketData:
    """`ts_ns`, `price`, `quantity`, rows sorted by time. A step is a second that has a trade.

    Raises MarketDataError.
    """
    table = read_table(connection, path, {"ts_ns": Kind.INTEGER, "price": Kind.FLOAT, "quantity": Kind.FLOAT})
    table.check_sorted("ts_ns")
    table.check_above("price")
    table.check_above("quantity")
    tick_size = recording.tick_size or tick_size_for(table["price"])
    lot_size = recording.lot_size or lot_size_for(table["quantity"])
    seconds, ends = seconds_with_events(table["ts_ns"])
    trades = Trades(price=table.units("price", tick_size), lots=table.units("quantity", lot_size), ends=ends)
    return finish(
        recording,
        symbols=[recording.symbol or path.stem.upper()],
        units=(tick_size, lot_size),
        ts_ns=(seconds + 1) * NS_PER_SECOND,
        events=TickEvents((trades,)),
        step_label="second",
        step_text="1 second",
    )


def seconds_with_events(ts_ns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The seconds in which anything happened, and how many events there are up to the end of each.

    ts_ns: int64 [events], sorted. Returns two int64 [seconds].
    """
    second = ts_ns // NS_PER_SECOND
    last = np.flatnonzero(np.diff(second, append=second[-1] + 1))
    return second[last], last + 1
