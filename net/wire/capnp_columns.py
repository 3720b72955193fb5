"""Cap'n Proto: a struct a message, a batch as one Data field that a reader uses in place.

Corrupt input often still decodes in Cap'n Proto, so everything that comes out is validated as the other codecs do, and
the segment table must account for every byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import capnp

from net.messages import AppendEntries, Application, Entry, EntryKind
from net.wire.errors import COUNT_MAX, WireError
from net.wire.fields import Check, FieldType, decoder_of, enum_check, message_fields
from net.wire.layouts import check_records

SCHEMA: Final = Path(__file__).with_name("schema.capnp")
TRAVERSAL_WORDS_MAX: Final = 8 << 20
"""Words that one reader may follow: four times the longest message, so that pointers cannot amplify it."""
NESTING_MAX: Final = 16
_ROW: Final = struct.Struct("<QQII")
_entry_kind: Final = enum_check(EntryKind)


@cache
def _structs() -> Any:
    capnp.remove_import_hook()
    return capnp.load(str(SCHEMA))


@cache
def _struct(kind: type) -> Any:
    return getattr(_structs(), kind.__name__)


def camel(name: str) -> str:
    """The schema's spelling of a field name."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def encode(message: Any) -> bytes:
    """The message as one Cap'n Proto message. Raises WireError for a value that does not fit."""
    kind: Any = type(message)
    if kind is Application:
        check_records(message.layout, len(message.records))
    try:
        if kind is AppendEntries:
            return _encode_append_entries(message)
        return bytes(_struct(kind).new_message(**_to_dict(kind)(message)).to_bytes())
    except (capnp.KjException, TypeError, ValueError, OverflowError, struct.error) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"{kind.__name__}: a value does not fit: {error}") from error


def decode(kind: type, data: bytes) -> Any:
    """A message of `kind`. Raises WireError."""
    _check_segments(kind, data)
    try:
        with _struct(kind).from_bytes(
            data, traversal_limit_in_words=TRAVERSAL_WORDS_MAX, nesting_limit=NESTING_MAX
        ) as reader:
            message: Any = _decode_append_entries(reader) if kind is AppendEntries else _from_reader(kind)(reader)
    except (capnp.KjException, ValueError, struct.error) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"{kind.__name__}: malformed Cap'n Proto: {str(error)[:120]}") from error
    if kind is Application:
        check_records(message.layout, len(message.records))
    return message


def _check_segments(kind: type, data: bytes) -> None:
    """The segment table (encoding spec, "Serialization over a stream") must cover the data to the byte."""
    if len(data) < 16 or len(data) % 8:
        raise WireError(f"{kind.__name__}: {len(data)} bytes are no Cap'n Proto message")
    count = int.from_bytes(data[:4], "little") + 1
    table = 4 + 4 * count + (4 if count % 2 == 0 else 0)
    if count > 512 or table > len(data):
        raise WireError(f"{kind.__name__}: {count} segments")
    words = sum(struct.unpack_from(f"<{count}I", data, 4))
    if table + 8 * words != len(data):
        raise WireError(f"{kind.__name__}: the segments do not add up to {len(data)} bytes")


@cache
def _to_dict(kind: type) -> Callable[[Any], dict[str, Any]]:
    """From a message of `kind` to the arguments of its struct."""
    steps = [(camel(field.name), field.name, _plain(field)) for field in message_fields(kind)]

    def convert(message: Any) -> dict[str, Any]:
        values = {}
        for target, name, step in steps:
            value = getattr(message, name)
            if step is not None:
                value = step(value)
            if value is not None:
                values[target] = value
        return values

    return convert


def _plain(field: FieldType) -> Check | None:
    one: Check | None = None
    if field.shape == "record":
        one = _to_dict(field.element)
    elif field.shape in ("enum", "uint"):
        one = int  # an IntEnum is no integer to pycapnp
    if field.many:
        return lambda values: [one(value) for value in values] if one is not None else list(values)
    if field.optional and one is not None:
        convert = one
        return lambda value: None if value is None else convert(value)
    return one


@cache
def _from_reader(kind: type) -> Check:
    """From a struct reader to a message of `kind`; raises WireError."""
    steps = [(camel(field.name), field, decoder_of(field, _from_reader)) for field in message_fields(kind)]

    def convert(reader: Any) -> Any:
        return kind(*[step(_value(reader, name, field)) for name, field, step in steps])

    return convert


def _value(reader: Any, name: str, field: FieldType) -> Any:
    if field.optional and not reader._has(name):
        return None
    value = getattr(reader, name)
    if not field.many:
        return value
    if len(value) > COUNT_MAX:
        raise WireError(f"{name}: a list of {len(value)} elements")
    return list(value)


def _encode_append_entries(message: AppendEntries) -> bytes:
    entries = message.entries
    built = _struct(AppendEntries).new_message(
        epoch=message.epoch,
        term=message.term,
        leader=message.leader,
        prevLogIndex=message.prev_log_index,
        prevLogTerm=message.prev_log_term,
        leaderCommit=message.leader_commit,
        entries=b"".join([_ROW.pack(e.index, e.term, e.kind, len(e.payload)) for e in entries]),
        payloads=b"".join([e.payload for e in entries]),
    )
    return bytes(built.to_bytes())


def _decode_append_entries(reader: Any) -> AppendEntries:
    rows, payloads = reader.entries, reader.payloads
    if len(rows) % _ROW.size or len(rows) > COUNT_MAX * _ROW.size:
        raise WireError(f"AppendEntries: {len(rows)} bytes are no rows of entries")
    entries = []
    offset = 0
    for index, term, kind, size in _ROW.iter_unpack(rows):
        entries.append(Entry(index, term, _entry_kind(kind), payloads[offset : offset + size]))
        offset += size
    if offset != len(payloads):
        raise WireError(f"AppendEntries: rows name {offset} bytes of payload, there are {len(payloads)}")
    return AppendEntries(
        reader.epoch,
        reader.term,
        reader.leader,
        reader.prevLogIndex,
        reader.prevLogTerm,
        reader.leaderCommit,
        tuple(entries),
    )
