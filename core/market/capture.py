"""Binance-style captures: trades, best quotes and depth of one or more symbols, played as one-second steps.

Depth follows the exchange's rule for a local book (Binance Spot API, "How to manage a local order book correctly"):
updates up to a snapshot's update id are dropped, later ones are applied, also those received before the snapshot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from core.market.capture_depth import FIRST_UPDATE_ID, check_books, depth_in_order
from core.market.errors import MarketDataError
from core.market.events import MarketData, QuoteAgreement, Quotes, TickEvents, Trades
from core.market.recording import Recording, finish
from core.market.spec import lot_size_for, tick_size_for
from core.market.table import Kind, Table, column_names, first_true, read_table
from core.market.ticks import NS_PER_SECOND

_NAME: Final = re.compile(
    r"(?:(?P<venue>[a-z0-9]+)_)?(?P<symbol>[a-z0-9]+)_(?P<part>trades|quotes|depth)", re.IGNORECASE
)
_COLUMNS: Final = {
    "trades": {"ts_ns": Kind.INTEGER, "id": Kind.INTEGER, "px": Kind.FLOAT, "qty": Kind.FLOAT},
    "quotes": {
        "ts_ns": Kind.INTEGER,
        "u": Kind.INTEGER,
        "bid": Kind.FLOAT,
        "bid_qty": Kind.FLOAT,
        "ask": Kind.FLOAT,
        "ask_qty": Kind.FLOAT,
    },
    "depth": {
        "ts_ns": Kind.INTEGER,
        "u": Kind.INTEGER,
        "side": Kind.INTEGER,
        "px": Kind.FLOAT,
        "qty": Kind.FLOAT,
        "snap": Kind.INTEGER,
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """One symbol's tables."""

    trades: Table
    quotes: Table | None
    depth: Table | None


def capture_part(path: Path) -> tuple[str, str] | None:
    """Symbol and part of a file named as `spot_btcusdt_trades.parquet`, None for another name."""
    match = _NAME.fullmatch(path.stem)
    return (match["symbol"].upper(), match["part"].lower()) if match else None


def load_capture(connection: duckdb.DuckDBPyConnection, files: list[Path], recording: Recording) -> MarketData:
    """Trades of each symbol; quotes and depth of every symbol or of none. One tick and lot size for all of them.

    Steps are all seconds from the first in which every symbol has traded to the last with a trade. Raises
    MarketDataError.
    """
    parts = _read_parts(connection, files, recording.source)
    tables = [part.trades for part in parts.values()]
    tick_size = tick_size_for(np.concatenate([column for part in parts.values() for column in _prices(part)]))
    lot_size = lot_size_for(np.concatenate([column for part in parts.values() for column in _quantities(part)]))
    first = max(int(table["ts_ns"][0]) for table in tables) // NS_PER_SECOND
    last = max(int(table["ts_ns"][-1]) for table in tables) // NS_PER_SECOND
    ts_ns = np.arange(first + 1, last + 2, dtype=np.int64) * NS_PER_SECOND

    trades = tuple(
        Trades(table.units("px", tick_size), table.units("qty", lot_size), _ends(table["ts_ns"], ts_ns))
        for table in tables
    )
    quotes = tuple(_quotes_of(part.quotes, tick_size, ts_ns) for part in parts.values() if part.quotes)
    in_order = [
        depth_in_order(part.depth, (tick_size, lot_size), ts_ns) for part in parts.values() if part.depth is not None
    ]
    agreement: list[QuoteAgreement] = []
    for (symbol, part), depth in zip(parts.items(), in_order, strict=False):
        agreed = check_books(symbol, depth, part.quotes, tick_size)
        if agreed is not None:
            agreement.append(agreed)
    return finish(
        recording,
        symbols=list(parts),
        units=(tick_size, lot_size),
        ts_ns=ts_ns,
        events=TickEvents(trades, quotes, tuple(depth.events for depth in in_order)),
        step_label="second",
        step_text="1 second",
        agreement=tuple(agreement),
    )


def _read_parts(connection: duckdb.DuckDBPyConnection, files: list[Path], source: str) -> dict[str, _Parts]:
    """Symbol to tables, symbols in alphabetical order, every column checked."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(files):
        named = capture_part(path)
        if named is None:
            problem = "the file is no part of a capture, as the files beside it are"
            raise MarketDataError(path, problem, "Name it as spot_btcusdt_trades.parquet, or take it away")
        symbol, part = named
        if part in found.setdefault(symbol, {}):
            problem = f"{symbol} has two {part} files, the other is {found[symbol][part].name}"
            raise MarketDataError(path, problem, "Keep one of them")
        found[symbol][part] = path
    for part in ("trades", "quotes", "depth"):
        without = [symbol for symbol, paths in found.items() if part not in paths]
        if without and (part == "trades" or len(without) < len(found)):
            problem = f"there is no {part} file for {', '.join(without)}"
            rule = "Every symbol needs trades" if part == "trades" else f"Give {part} for every symbol or for none"
            raise MarketDataError(source, problem, rule)
    return {symbol: _read_symbol(connection, paths) for symbol, paths in sorted(found.items())}


def _read_symbol(connection: duckdb.DuckDBPyConnection, paths: dict[str, Path]) -> _Parts:
    tables: dict[str, Table] = {}
    for part, path in paths.items():
        has_first_id = part == "depth" and FIRST_UPDATE_ID in column_names(connection, path)
        optional = {FIRST_UPDATE_ID: Kind.INTEGER} if has_first_id else {}
        tables[part] = read_table(connection, path, _COLUMNS[part] | optional)
    for table in tables.values():
        table.check_sorted("ts_ns")
    trades, quotes, depth = tables["trades"], tables.get("quotes"), tables.get("depth")
    trades.check_above("px")
    trades.check_above("qty")
    trades.check_unique("id", trades["id"], "trade id")
    if quotes is not None:
        for column in ("bid", "ask"):
            quotes.check_above(column)
        for column in ("bid_qty", "ask_qty"):
            quotes.check_above(column, zero_allowed=True)
        _check_rising(quotes)
        crossed = first_true(quotes["bid"] >= quotes["ask"])
        if crossed is not None:
            problem = f"the book is crossed: bid {quotes['bid'][crossed]} is not below ask {quotes['ask'][crossed]}"
            quotes.refuse(crossed, "bid", problem, "Correct the row or remove it")
    if depth is not None:
        depth.check_above("px")
        depth.check_above("qty", zero_allowed=True)
        depth.check_one_of("side", (0, 1))
        depth.check_one_of("snap", (0, 1))
    return _Parts(trades, quotes, depth)


def _check_rising(quotes: Table) -> None:
    """Update ids only rise."""
    quotes.check_unique("u", quotes["u"], "update id")
    found = first_true(quotes["u"][1:] < quotes["u"][:-1])
    if found is not None:
        quotes.refuse(found + 1, "u", "the update id goes back from the row before", "Sort the file as it was received")


def _prices(part: _Parts) -> list[NDArray[np.float64]]:
    columns = [part.trades["px"]]
    if part.quotes is not None:
        columns += [part.quotes["bid"], part.quotes["ask"]]
    if part.depth is not None:
        columns.append(part.depth["px"])
    return columns


def _quantities(part: _Parts) -> list[NDArray[np.float64]]:
    columns = [part.trades["qty"]]
    if part.depth is not None:
        columns.append(part.depth["qty"])
    return columns


def _quotes_of(table: Table, tick_size: float, ts_ns: NDArray[np.int64]) -> Quotes:
    return Quotes(table.units("bid", tick_size), table.units("ask", tick_size), _ends(table["ts_ns"], ts_ns))


def _ends(event_ts_ns: NDArray[np.int64], row_ts_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Events strictly before the end of each row. Both int64 and sorted; returns int64 [rows]."""
    return np.searchsorted(event_ts_ns, row_ts_ns, side="left").astype(np.int64)
