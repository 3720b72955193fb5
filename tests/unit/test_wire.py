"""The fixed parts of the wire: header, bounds, layouts, refusals by name."""

from __future__ import annotations

import struct

import msgpack
import numpy as np
import pytest

from net.messages import AppendEntries, Application, Channel, Entry, EntryKind, FetchEntries, Vote
from net.wire.codec import HEADER_BYTES, KIND_OF, VERSION, CodecKind, WireError, decode, encode
from net.wire.errors import COUNT_MAX, MESSAGE_BYTES_MAX
from net.wire.layouts import decode_records, encode_records, register_layout

FETCH = FetchEntries(3, 17, 64)
LAYOUT = 60_010
DTYPE = np.dtype([("id", "<u4"), ("price", "<f8"), ("name", "S4")])
register_layout(LAYOUT, DTYPE)
ROWS = np.array([(1, 2.5, b"ab"), (2, -0.25, b"abcd")], DTYPE)


def application(layout: int, records: bytes) -> Application:
    return Application(Channel.OPINION, 1, 2, 3, layout, records, b"")


@pytest.mark.parametrize("codec", list(CodecKind))
def test_the_header_names_version_codec_and_kind(codec: CodecKind) -> None:
    assert encode(FETCH, codec)[:HEADER_BYTES] == bytes((VERSION, codec, KIND_OF[FetchEntries], 0))


def test_an_unknown_version_is_refused_by_name() -> None:
    data = bytearray(encode(FETCH, CodecKind.MSGPACK))
    data[0] += 1
    with pytest.raises(WireError, match=f"version 0x{data[0]:02x} is unknown"):
        decode(bytes(data))


@pytest.mark.parametrize(("position", "value"), [(1, 9), (2, 0), (2, 99), (3, 1)])
def test_unknown_codec_kind_and_reserved_byte_are_refused(position: int, value: int) -> None:
    data = bytearray(encode(FETCH, CodecKind.MSGPACK))
    data[position] = value
    with pytest.raises(WireError, match="unknown"):
        decode(bytes(data))


def test_a_message_longer_than_the_bound_is_refused_on_both_sides() -> None:
    large = application(0, b"")
    large = Application(large.channel, 1, 0, 0, 0, b"", bytes(MESSAGE_BYTES_MAX))
    for codec in CodecKind:
        with pytest.raises(WireError, match="longer than"):
            encode(large, codec)
    with pytest.raises(WireError, match="no message"):
        decode(bytes(MESSAGE_BYTES_MAX + 1))


def test_the_numbers_of_the_kinds_are_unique_bytes() -> None:
    assert len(set(KIND_OF.values())) == len(KIND_OF)
    assert all(0 < number < 256 for number in KIND_OF.values())


@pytest.mark.parametrize("codec", list(CodecKind))
def test_records_must_fit_their_layout(codec: CodecKind) -> None:
    with pytest.raises(WireError, match="no whole number of rows"):
        encode(application(LAYOUT, bytes(DTYPE.itemsize + 1)), codec)
    with pytest.raises(WireError, match="without a layout"):
        encode(application(0, b"x"), codec)
    with pytest.raises(WireError, match="not registered"):
        encode(application(59_999, b""), codec)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_an_integer_out_of_range_never_arrives(value: int) -> None:
    for codec in CodecKind:
        with pytest.raises(WireError):
            decode(encode(FetchEntries(1, value, 1), codec))


def test_maps_carry_field_names_and_rows() -> None:
    body = encode(application(LAYOUT, ROWS.tobytes()), CodecKind.MSGPACK)[HEADER_BYTES:]
    values = msgpack.unpackb(body)
    assert values["channel"] == Channel.OPINION
    assert values["records"] == [
        {"id": 1, "price": 2.5, "name": b"ab"},
        {"id": 2, "price": -0.25, "name": b"abcd"},
    ]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"id": 1, "price": 2.5}], "fields"),
        ([{"id": 1, "price": 2.5, "nom": b""}], "KeyError"),
        ([{"id": 1.5, "price": 2.5, "name": b""}], "no int"),
        ([{"id": "1", "price": 2.5, "name": b""}], "no int"),
        ([{"id": 2**32, "price": 2.5, "name": b""}], "OverflowError"),
        ([{"id": 1, "price": 2.5, "name": b"abcde"}], "more than 4 bytes"),
        ([[1, 2.5, b""]], "TypeError"),
        ({"id": 1}, "list"),
        (None, "list"),
    ],
)
def test_rows_are_validated_value_by_value(rows: object, what: str) -> None:
    values = {"channel": 1, "kind": 0, "request_id": 0, "step": 0, "layout": LAYOUT, "records": rows, "body": b""}
    with pytest.raises(WireError, match=what):
        decode(bytes((VERSION, CodecKind.MSGPACK, 1, 0)) + msgpack.packb(values))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91" * 600,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x08\xff" + bytes(8),
        msgpack.packb({"epoch": 1, "first_index": 2}),
        msgpack.packb({"epoch": 1, "first_index": 2, "limit": True}),
        msgpack.packb({"epoch": 1, "first_index": 2, "limit": 3, "more": 4}),
        msgpack.packb([1, 2, 3]) + b"\0",
        msgpack.packb([1, 2, b"3"]),
    ],
)
def test_malformed_messagepack_is_refused(body: bytes) -> None:
    for codec in (CodecKind.MSGPACK, CodecKind.MSGPACK_COLUMNS):
        with pytest.raises(WireError):
            decode(bytes((VERSION, codec, KIND_OF[FetchEntries], 0)) + body)


def test_a_list_that_claims_too_many_elements_is_refused_in_every_codec() -> None:
    entry = Entry(1, 1, EntryKind.DATA, b"")
    many = AppendEntries(1, 1, 0, 0, 0, 0, 0, (entry,) * (COUNT_MAX + 1))
    for codec in CodecKind:
        with pytest.raises(WireError):
            decode(encode(many, codec))


def test_a_capnp_pointer_out_of_bounds_is_refused() -> None:
    vote = bytearray(encode(Vote(1, 1, 2, 3, b"d" * 32, 1, b"s" * 64), CodecKind.CAPNP))  # type: ignore[arg-type]
    pointer = HEADER_BYTES + 16 + 40
    (word,) = struct.unpack_from("<Q", vote, pointer)
    struct.pack_into("<Q", vote, pointer, word | 1 << 50)
    with pytest.raises(WireError, match="malformed Cap'n Proto"):
        decode(bytes(vote))


def test_columns_are_read_in_place() -> None:
    for codec in (CodecKind.CAPNP, CodecKind.MSGPACK_COLUMNS):
        data = encode_records(ROWS, codec)
        array = decode_records(data, LAYOUT)
        assert np.shares_memory(array, np.frombuffer(data, np.uint8))
        np.testing.assert_array_equal(array, ROWS)


def test_record_arrays_must_be_of_the_layout_asked_for() -> None:
    data = encode_records(ROWS, CodecKind.CAPNP)
    with pytest.raises(WireError, match="wanted records of layout 60011"):
        decode_records(data, LAYOUT + 1)
    with pytest.raises(WireError, match="registered dtype"):
        encode_records(np.zeros(1, np.dtype([("a", "<u1")])), CodecKind.CAPNP)


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        (np.dtype([("a", "<u1"), ("b", "<u8")], align=True), "padding"),
        (np.dtype([("a", ">u4")]), "little-endian"),
        (np.dtype([("a", "<u4", (2,))]), "little-endian"),
        (np.dtype("<u4"), "named fields"),
        (np.dtype([("a", "O")]), "little-endian"),
    ],
)
def test_layouts_with_more_than_one_byte_form_are_refused(dtype: np.dtype[np.void], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        register_layout(60_020, dtype)


def test_a_layout_keeps_its_dtype() -> None:
    register_layout(LAYOUT, DTYPE)
    with pytest.raises(ValueError, match="another dtype"):
        register_layout(LAYOUT, np.dtype([("a", "<u2")]))
    with pytest.raises(ValueError, match="already registered as layout"):
        register_layout(LAYOUT + 1, DTYPE)
