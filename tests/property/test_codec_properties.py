"""All codecs carry the same messages, and refuse everything else with one error."""

from __future__ import annotations

import random
from dataclasses import fields
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.messages import Application, Channel, Message
from net.wire.codec import KIND_OF, CodecKind, WireError, decode, encode
from net.wire.fields import FieldType, message_fields
from net.wire.layouts import decode_records, encode_records, register_layout

LAYOUT = 9_001
ROW = np.dtype([("step", "<u8"), ("price", "<i8"), ("weight", "<f4"), ("name", "S5"), ("side", "i1"), ("on", "?")])
register_layout(LAYOUT, ROW)
UINT = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
BYTES = st.binary(max_size=80) | st.sampled_from([b"", b"\0", b"\0" * 7, b"\xff" * 8, b"x" * 4096])


def values_of(field: FieldType) -> st.SearchStrategy[Any]:
    if field.shape == "record":
        one = messages_of(field.element)
    elif field.shape == "enum":
        element: Any = field.element
        assert issubclass(element, IntEnum)
        one = st.sampled_from(list(element))
    else:
        one = {"uint": UINT, "bool": st.booleans(), "bytes": BYTES}[field.shape]
    if field.many:
        return st.lists(one, max_size=5).map(tuple)
    return st.none() | one if field.optional else one


def messages_of(kind: type) -> st.SearchStrategy[Any]:
    if kind is Application:
        rows = st.lists(
            st.tuples(
                UINT,
                st.integers(-(2**63), 2**63 - 1),
                st.floats(width=32, allow_nan=False),
                st.binary(max_size=5),
                st.integers(-128, 127),
                st.booleans(),
            ),
            max_size=4,
        )  # fmt: skip
        with_rows = st.builds(
            Application, st.sampled_from(list(Channel)), UINT, UINT, UINT, st.just(LAYOUT),
            rows.map(lambda values: np.array(values, ROW).tobytes()), BYTES,
        )  # fmt: skip
        without = st.builds(
            Application, st.sampled_from(list(Channel)), UINT, UINT, UINT, st.just(0), st.just(b""), BYTES
        )
        return with_rows | without
    by_name = {field.name: values_of(field) for field in message_fields(kind)}
    return st.builds(kind, **{field.name: by_name[field.name] for field in fields(kind)})


ANY_MESSAGE: st.SearchStrategy[Message] = st.one_of([messages_of(kind) for kind in KIND_OF])


@settings(max_examples=300, deadline=None)
@given(ANY_MESSAGE)
def test_every_codec_gives_the_same_message_back(message: Message) -> None:
    for codec in CodecKind:
        assert decode(encode(message, codec)) == message


@pytest.mark.parametrize("kind", list(KIND_OF), ids=lambda kind: kind.__name__)
def test_every_kind_of_message_is_tried(kind: type) -> None:
    @settings(max_examples=20, deadline=None)
    @given(messages_of(kind))
    def check(message: Message) -> None:
        for codec in CodecKind:
            assert decode(encode(message, codec)) == message

    check()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(UINT, st.integers(-(2**63), 2**63 - 1)), max_size=30))
def test_records_come_back_from_maps_and_columns(values: list[tuple[int, int]]) -> None:
    array = np.zeros(len(values), ROW)
    for at, (step, price) in enumerate(values):
        array["step"][at], array["price"][at] = step, price
    for codec in CodecKind:
        assert decode_records(encode_records(array, codec), LAYOUT).tobytes() == array.tobytes()


def mutated(data: bytes, source: random.Random) -> bytes:
    body = bytearray(data)
    choice = source.randrange(4)
    if choice == 0:
        return bytes(body[: source.randrange(len(body) + 1)])
    if choice == 1:
        return bytes(body) + source.randbytes(source.randrange(1, 40))
    for _ in range(source.randrange(1, 6)):
        body[source.randrange(4 if choice == 3 else 0, len(body))] = source.randrange(256)
    return bytes(body)


@settings(max_examples=400, deadline=None)
@given(ANY_MESSAGE, st.sampled_from(list(CodecKind)), st.randoms(use_true_random=False))
def test_mutated_bytes_decode_or_are_refused_by_name(message: Message, codec: CodecKind, source: random.Random) -> None:
    data = mutated(encode(message, codec), source)
    try:
        decoded = decode(data)
    except WireError:
        return
    assert decode(encode(decoded, codec)) == decoded


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(list(CodecKind)), st.sampled_from(list(KIND_OF.values())))
def test_random_bodies_decode_or_are_refused_by_name(body: bytes, codec: CodecKind, kind: int) -> None:
    try:
        decode(bytes((0xD1, codec, kind, 0)) + body)
    except WireError:
        return


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(WireError, match="wire version 0x7f is unknown"):
        decode(b"\x7f\x01\x01\x00abc")
