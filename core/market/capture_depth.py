"""From a capture's depth file to the order in which its updates are applied, with update ids and books checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.market.depth import BookState, DepthEvents
from core.market.events import QuoteAgreement
from core.market.table import Table, first_true

FIRST_UPDATE_ID: Final = "first_u"
"""Column with an update's first id (the exchange's `U`), not in every capture. Without it the ids cannot show a gap,
and it is found only where it leaves a crossed book or other best prices than the quotes'."""


@dataclass(frozen=True, slots=True, eq=False)
class OrderedDepth:
    """Depth in the order in which it is applied, and where each event came from."""

    events: DepthEvents
    table: Table
    row: NDArray[np.int64]
    """Index of each event in the file, int64 [events]."""


def depth_in_order(table: Table, units: tuple[float, float], ts_ns: NDArray[np.int64]) -> OrderedDepth:
    """One symbol's depth, ready to apply. `units` are tick and lot size, `ts_ns` int64 [steps] the rows' ends.

    Raises MarketDataError for no snapshot, update ids that go back or leave a gap, or a level that one update sets
    twice.
    """
    _check_update_ids(table)
    row, resets = _application_order(table)
    if FIRST_UPDATE_ID in table.columns:
        _check_no_gap(table, row)
    # An update that waited for its snapshot takes effect when the snapshot is there.
    effective_ns = np.maximum.accumulate(table["ts_ns"][row])
    prices, level = np.unique(table.units("px", units[0])[row], return_inverse=True)
    cell = table["side"][row] * len(prices) + level
    events = DepthEvents(
        prices=prices,
        cell=cell.astype(np.int64),
        lots=table.units("qty", units[1])[row],
        resets=resets,
        ends=np.searchsorted(effective_ns, ts_ns, side="left").astype(np.int64),
    )
    return OrderedDepth(events, table, row)


def _check_update_ids(table: Table) -> None:
    """Ids of updates never go back, nor do those of snapshots; no update sets a level twice."""
    for snapshot in (0, 1):
        rows = np.flatnonzero(table["snap"] == snapshot)
        ids = table["u"][rows]
        found = first_true(ids[1:] < ids[:-1])
        if found is not None:
            repeated = bool(np.any(ids[: found + 1] == ids[found + 1]))
            what = f"duplicate update id {ids[found + 1]}" if repeated else f"update id {ids[found + 1]} goes back"
            remedy = "Remove the repeated rows" if repeated else "Sort the file as it was received"
            table.refuse(int(rows[found + 1]), "u", what, remedy)
    if not np.any(table["snap"] == 1):
        table.refuse(0, "snap", "no row is part of a snapshot (snap = 1), so the book is unknown", "Record a snapshot")
    keys = (table["u"], table["side"], table["px"], table["snap"])
    order = np.lexsort(keys)
    same = np.ones(len(table) - 1, dtype=np.bool_)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    if np.any(same):
        later = int(order[1:][same].min())
        problem = f"duplicate update id {table['u'][later]}: it sets the same level twice"
        table.refuse(later, "u", problem, "Remove one of the rows")


def _application_order(table: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """File indices in the order in which they are applied, and the positions in it at which a snapshot starts.

    A snapshot is a run of snapshot rows. Updates before the first one wait for it.
    """
    snap = table["snap"] == 1
    starts = np.flatnonzero(snap & ~np.concatenate(([False], snap[:-1])))
    stops = np.flatnonzero(snap & ~np.concatenate((snap[1:], [False]))) + 1
    updates = np.flatnonzero(~snap)
    pieces: list[NDArray[np.int64]] = []
    resets: list[int] = []
    length = 0
    for index, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        following = int(starts[index + 1]) if index + 1 < len(starts) else len(snap)
        newer = updates[table["u"][updates] > table["u"][start]]
        piece = np.concatenate((np.arange(start, stop), newer[newer < following]))
        resets.append(length)
        pieces.append(piece)
        length += len(piece)
    return np.concatenate(pieces), np.array(resets, dtype=np.int64)


def _check_no_gap(table: Table, row: NDArray[np.int64]) -> None:
    """Each applied update starts at or before the id after the one that its predecessor (or snapshot) ended with."""
    reached = table["u"][row[:-1]]
    later = row[1:]
    starts = (table["snap"][later] == 0) & (table["u"][later] != reached)
    found = first_true(starts & (table[FIRST_UPDATE_ID][later] > reached + 1))
    if found is not None:
        first = table[FIRST_UPDATE_ID][later[found]]
        problem = f"gap in the update ids: {reached[found]} is followed by {first}"
        table.refuse(int(later[found]), FIRST_UPDATE_ID, problem, "Record again, or add a snapshot after the gap")


def check_books(symbol: str, depth: OrderedDepth, quotes: Table | None, tick_size: float) -> QuoteAgreement | None:
    """Rebuild every book of the recording once: none may be crossed; compare its best prices with the quotes'.

    A check is an update whose id the quotes have reached; the quote in force is the last one with an id not above the
    update's. None without quotes. Raises MarketDataError for a crossed book.
    """
    update_ids = depth.table["u"][depth.row]
    group_ends = np.flatnonzero(np.diff(update_ids, append=update_ids[-1] + 1)) + 1
    state = BookState(depth.events)
    best = np.empty((len(group_ends), 2), dtype=np.int64)
    for group, end in enumerate(group_ends.tolist()):
        state.apply_to(end)
        best[group] = state.best()
    crossed = first_true((best[:, 0] >= best[:, 1]) & (best[:, 1] > 0))
    if crossed is not None:
        bid, ask = (best[crossed] * tick_size).tolist()
        problem = f"the rebuilt book is crossed after this update: bid {bid:.10g} is not below ask {ask:.10g}"
        row = int(depth.row[group_ends[crossed] - 1])
        depth.table.refuse(row, "px", problem, "Updates before this row are missing or wrong; record them again")
    if quotes is None:
        return None
    in_force = np.searchsorted(quotes["u"], update_ids[group_ends - 1], side="right") - 1
    known = in_force >= 0
    recorded = np.column_stack((quotes.units("bid", tick_size), quotes.units("ask", tick_size)))[in_force[known]]
    agreed = np.all(recorded == best[known], axis=1)
    return QuoteAgreement(symbol, checks=int(known.sum()), agreed=int(agreed.sum()))
