"""All codecs carry the same messages; hostile bytes get a WireError and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.messages import AppendEntries
from net.wire.capnp_canonical import camel_case, struct_of
from net.wire.capnp_columns import decode_any_layout
from net.wire.codec import HEADER_BYTES, KIND_OF, CodecKind, WireError, decode, encode
from net.wire.entry_columns import AppendEntriesColumns, to_columns
from net.wire.fields import message_fields
from net.wire.layouts import decode_records, encode_records
from tests.property.messages import TICK_LAYOUT, any_message, message_of, rows

CODECS = list(CodecKind)
KINDS = list(KIND_OF)


def as_builder_arguments(message: Any) -> dict[str, Any]:
    """What pycapnp's `new_message` takes, nested messages as nested dictionaries."""
    if isinstance(message, AppendEntries):
        message = to_columns(message)
    values: dict[str, Any] = {}
    for field in message_fields(type(message)):
        value = getattr(message, field.name)
        if field.shape == "record":
            if value is None:
                continue
            value = [as_builder_arguments(one) for one in value] if field.many else as_builder_arguments(value)
        elif field.shape == "enum":
            value = int(value)
        elif field.many:
            value = list(value)
        values[camel_case(field.name)] = value
    return values


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_codec_gives_back_the_same_message(kind: type, data: st.DataObject) -> None:
    message = data.draw(message_of(kind))
    for codec in CODECS:
        again = decode(encode(message, codec))
        assert again == message
        assert type(again) is type(message)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_canonical_bytes_are_those_of_pycapnp(kind: type, data: st.DataObject) -> None:
    message = data.draw(message_of(kind))
    body = encode(message, CodecKind.CAPNP)[HEADER_BYTES:]
    builder = struct_of(kind).new_message(num_first_segment_words=len(body) // 8 + 8, **as_builder_arguments(message))
    assert builder.to_bytes() == body


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_other_layouts_are_read_by_pycapnp(kind: type, data: st.DataObject) -> None:
    message = data.draw(message_of(kind))
    builder = struct_of(kind).new_message(num_first_segment_words=4, **as_builder_arguments(message))
    body = builder.to_bytes()
    if kind is AppendEntries:
        assert decode_any_layout(AppendEntriesColumns, body) == to_columns(message)
    else:
        assert decode_any_layout(kind, body) == message
    head = encode(message, CodecKind.CAPNP)[:HEADER_BYTES]
    assert decode(head + body) == message


@given(array=rows(), codec=st.sampled_from(CODECS))
@settings(max_examples=100, deadline=None)
def test_record_arrays_survive_every_codec(array: np.ndarray, codec: CodecKind) -> None:
    again = decode_records(encode_records(array, codec), TICK_LAYOUT)
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()
    assert not again.flags.writeable


def decodes_or_refuses(data: bytes) -> None:
    """Whatever the bytes, `decode` gives a message that its codec carries, or WireError."""
    try:
        message = decode(data)
    except WireError:
        return
    assert decode(encode(message, CodecKind(data[1]))) == message


@given(message=any_message(), codec=st.sampled_from(CODECS), data=st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_messages_are_refused_or_still_messages(message: Any, codec: CodecKind, data: st.DataObject) -> None:
    frame = bytearray(encode(message, codec))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_refuses(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    decodes_or_refuses(bytes(frame))
    decodes_or_refuses(bytes(frame) + data.draw(st.binary(min_size=1, max_size=40)))


@given(body=st.binary(max_size=200), codec=st.integers(0, 4), kind=st.integers(0, 14))
@settings(max_examples=400, deadline=None)
def test_random_bytes_are_refused_or_messages(body: bytes, codec: int, kind: int) -> None:
    head = encode(next_message, CodecKind.MSGPACK)[:1]
    decodes_or_refuses(body)
    decodes_or_refuses(head + bytes((codec, kind, 0)) + body)


@given(array=rows(), codec=st.sampled_from(CODECS), data=st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_record_arrays_are_refused_or_still_arrays(
    array: np.ndarray, codec: CodecKind, data: st.DataObject
) -> None:
    frame = bytearray(encode_records(array, codec))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    for damaged in (bytes(frame), cut):
        try:
            assert decode_records(damaged, TICK_LAYOUT).dtype == array.dtype
        except WireError:
            continue


next_message = KINDS[8](1, 2, 3)
