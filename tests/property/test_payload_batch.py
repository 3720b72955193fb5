"""Payload batches: what goes in comes out in order; anything else is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.messages import Entry, EntryKind
from net.payload_batch import PAYLOADS_MAX, PayloadBatchError, decode_payloads, encode_payloads, payloads_of


@given(payloads=st.lists(st.binary(max_size=50), min_size=1, max_size=20))
def test_payloads_come_back_in_order(payloads: list[bytes]) -> None:
    entry = Entry(1, 1, EntryKind.BATCH, encode_payloads(payloads))
    assert payloads_of(entry) == tuple(payloads)


@given(data=st.binary(max_size=60))
def test_other_bytes_are_refused_or_are_exactly_a_batch(data: bytes) -> None:
    try:
        payloads = decode_payloads(data)
    except PayloadBatchError:
        return
    assert encode_payloads(payloads) == data


@given(payloads=st.lists(st.binary(max_size=20), min_size=1, max_size=5), cut=st.integers(1, 8))
def test_a_batch_cut_short_or_with_bytes_too_many_is_refused(payloads: list[bytes], cut: int) -> None:
    data = encode_payloads(payloads)
    for bad in (data[:-cut], data + b"x" * cut):
        with pytest.raises(PayloadBatchError):
            decode_payloads(bad)


def test_other_entries_carry_one_payload_or_none() -> None:
    assert payloads_of(Entry(1, 1, EntryKind.DATA, b"x")) == (b"x",)
    for kind in (EntryKind.NOOP, EntryKind.SWITCH, EntryKind.MEMBERSHIP):
        assert payloads_of(Entry(1, 1, kind, b"x")) == ()
    with pytest.raises(PayloadBatchError, match="0 payloads"):
        encode_payloads([])
    with pytest.raises(PayloadBatchError):
        encode_payloads([b""] * (PAYLOADS_MAX + 1))
