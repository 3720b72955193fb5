"""What a log holds and does not note as decided, and whether an order is of it."""

from __future__ import annotations

import hashlib
from typing import cast

from core.node_book import NodeBook, _undecided
from core.orders.identity import client_order_id
from core.orders.order import OrderRequest, TimeInForce
from core.swarm_state import SwarmState
from net.durable import AppendRecord, BlockRecord, CommitIndexRecord, Record, encode_record
from net.messages import Entry, EntryKind
from net.payload_batch import encode_payloads

PARENT = b"p" * 32


def entry(index: int, payload: bytes, kind: EntryKind = EntryKind.DATA) -> Entry:
    return Entry(index, 1, kind, payload)


def undecided(*records: Record, decided: int = 0) -> dict[tuple[int, int], list[bytes]]:
    found = _undecided([encode_record(record) for record in records], decided)
    return {place: [each.payload for each in entries] for place, entries in found.items()}


def test_the_last_record_of_an_entry_stands_and_what_is_decided_is_left_out() -> None:
    records = (
        AppendRecord(1, 1, (entry(1, b"a"), entry(2, b"b"), entry(3, b"c"))),
        CommitIndexRecord(1, 1),
        AppendRecord(1, 3, (entry(3, b"d"),)),
    )
    assert undecided(*records, decided=1) == {(1, 2): [b"b"], (1, 3): [b"d"]}
    cut = AppendRecord(1, 2, (entry(2, b"e"),))
    assert undecided(*records, cut, decided=1) == {(1, 2): [b"e"]}, "what followed the cut is gone"


def test_blocks_of_one_height_compete_and_the_witness_log_is_another() -> None:
    blocks = [BlockRecord(2, False, PARENT, entry(5, payload)) for payload in (b"a", b"b")]
    witness = BlockRecord(2, True, PARENT, entry(6, b"w"))
    assert undecided(*blocks, witness, decided=4) == {(2, 5): [b"a", b"b"]}


def test_an_order_is_of_an_entry_by_its_place_and_the_digest_of_its_payload() -> None:
    batch = entry(5, encode_payloads([b"first", b"second"]), EntryKind.BATCH)
    book = NodeBook(0, 0, {}, {}, cast(SwarmState, None), {}, {(2, 5): (batch, entry(5, b"junk", EntryKind.BATCH))})

    def order(epoch: int, index: int, position: int, payload: bytes) -> OrderRequest:
        name = client_order_id(epoch, index, position, hashlib.sha256(payload).digest())
        return OrderRequest(name, 0, 1, 1, 1, TimeInForce.IOC, 0, epoch, index, position)

    assert book.holds_undecided(order(2, 5, 3, b"second"))
    assert not book.holds_undecided(order(2, 5, 3, b"third"))
    assert not book.holds_undecided(order(2, 6, 3, b"second"))
    assert not book.holds_undecided(order(1, 5, 3, b"second"))
