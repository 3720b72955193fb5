"""Small recordings that the market tests write to disk: deterministic, and valid until a test spoils a cell."""

from __future__ import annotations

import csv
import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

CAPTURE_DIRECTORY = Path(__file__).parents[2] / "shared" / "data" / "tests-only"
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


@dataclass
class Sheet:
    """One file before it is written."""

    header: list[str]
    rows: list[list[Any]]

    def column(self, name: str) -> int:
        return self.header.index(name)

    def set(self, row: int, column: str, value: Any) -> None:
        """`row` is 1-based, as in the messages."""
        self.rows[row - 1][self.column(column)] = value

    def drop(self, column: str) -> None:
        index = self.column(column)
        self.header = [name for name in self.header if name != column]
        self.rows = [row[:index] + row[index + 1 :] for row in self.rows]

    def write(self, path: Path) -> Path:
        text = path.with_suffix(".csv")
        with text.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.header)
            writer.writerows(self.rows)
        if path.suffix == ".parquet":
            duckdb.sql(f"SELECT * FROM read_csv('{text}', header = true)").write_parquet(str(path))
            text.unlink()
        return path


def panel(steps: int = 200, symbols: tuple[str, ...] = ("AAA", "BBB", "CCC")) -> Sheet:
    day = datetime.date(2020, 1, 1)
    rows: list[list[Any]] = []
    for step in range(steps):
        date = (day + datetime.timedelta(days=step)).isoformat()
        for index, symbol in enumerate(symbols):
            rows.append([date, symbol, round(50 + 10 * index + 5 * math.sin(step / 7 + index) + 0.01 * step, 2)])
    return Sheet(["date", "instrument", "close"], rows)


def ticks(seconds: int = 200) -> Sheet:
    """One to four trades in each second, two of them at one stamp; every tenth second is without any."""
    rows: list[list[Any]] = []
    for second in range(seconds):
        if second % 10 == 9:
            continue
        for trade in range(1 + second % 4):
            stamp = START_NS + second * SECOND_NS + max(0, trade - 1) * 1_000
            price = 100 + round(4 * 5 * math.sin(second / 9 + trade)) / 4
            rows.append([stamp, price, 1 + (second + trade) % 5])
    return Sheet(["ts_ns", "price", "quantity"], rows)


def _mid(second: int, phase: float) -> int:
    return 10_000 + round(40 * math.sin(second / 11 + phase))


def _levels(second: int, phase: float) -> dict[tuple[int, int], int]:
    """(side, price in cents) to hundredths of a unit: five levels a side around the mid."""
    mid = _mid(second, phase)
    book = {}
    for distance in range(1, 6):
        book[(0, mid - distance)] = 100 + distance + second % 3
        book[(1, mid + distance)] = 200 + distance + second % 5
    return book


def capture(phase: float = 0.0, seconds: int = 200) -> dict[str, Sheet]:
    """Trades, quotes and depth of one symbol. One update is older than the snapshot, one newer came before it."""
    trades = Sheet(["ts_ns", "id", "px", "qty", "buyer_maker"], [])
    quotes = Sheet(["ts_ns", "u", "bid", "bid_qty", "ask", "ask_qty"], [])
    depth = Sheet(["ts_ns", "u", "side", "px", "qty", "snap"], [])
    book = _levels(0, phase)
    stale_price = min(price for side, price in book if side == 0)
    depth.rows.append([START_NS, 900, 0, stale_price / 100, 77.0, 0])
    far_bid, far_ask = 9_000, 11_000
    depth.rows += [[START_NS + 10, 1001, 0, far_bid / 100, 1.5, 0], [START_NS + 10, 1001, 1, far_ask / 100, 2.5, 0]]
    depth.rows += [
        [START_NS + 20, 1000, side, price / 100, lots / 100, 1] for (side, price), lots in sorted(book.items())
    ]
    for second in range(seconds):
        stamp = START_NS + second * SECOND_NS + 1_000
        if second:
            following = _levels(second, phase)
            changed = {cell: following.get(cell, 0) for cell in {*book, *following}}
            depth.rows += [
                [stamp, 1001 + second, side, price / 100, lots / 100, 0]
                for (side, price), lots in sorted(changed.items())
                if book.get((side, price), 0) != lots
            ]
            book = following
        mid = _mid(second, phase)
        bid_lots, ask_lots = book[(0, mid - 1)], book[(1, mid + 1)]
        quotes.rows.append([stamp, 1001 + second, (mid - 1) / 100, bid_lots / 100, (mid + 1) / 100, ask_lots / 100])
        if second % 3 != 2:
            for trade in range(2):
                price = (mid - 1 + 2 * trade) / 100
                trades.rows.append([stamp + 5 + trade, 5_000 + 2 * second + trade, price, 0.25, trade == 0])
    return {"trades": trades, "quotes": quotes, "depth": depth}


def write_capture(directory: Path, symbols: dict[str, dict[str, Sheet]], suffix: str = ".parquet") -> Path:
    directory.mkdir(exist_ok=True)
    for symbol, sheets in symbols.items():
        for part, sheet in sheets.items():
            sheet.write(directory / f"spot_{symbol}_{part}{suffix}")
    return directory


def real_capture() -> Path:
    """The recorded Binance capture beside the checkout; the test is skipped where it is missing."""
    if not CAPTURE_DIRECTORY.is_dir():
        pytest.skip("the recorded Binance capture (shared/data/tests-only beside the checkout) is missing")
    return CAPTURE_DIRECTORY
