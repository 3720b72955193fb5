"""Cap'n Proto written and read by `struct`, from the compiled schema: one segment, objects in the order of the fields.

pycapnp spends about 5 µs on the objects of a message before it copies a byte. The layout is simple enough to write
directly (capnproto.org/encoding.html): a data section of fixed slots, then one pointer word for each list, blob or
nested struct, whose contents follow depth first. That is also the order in which pycapnp allocates, so the bytes are
the same; a test holds them so for every message. The reader takes this form only, with every pointer checked to point
exactly where the writer would have put it: no overlaps, no amplification, time linear in the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import capnp

from net.wire.errors import COUNT_MAX, WireError
from net.wire.fields import FieldType, enum_check, message_fields

SCHEMA: Final[Any] = capnp.load(str(Path(__file__).with_name("schema.capnp")), imports=[])

_WORD: Final = struct.Struct("<Q")
_SEGMENT: Final = struct.Struct("<II")  # segments - 1, words of the first
_WORD_BYTES: Final = 8
_DATA_LIST: Final = 1 | 2 << 32  # list pointer, elements of one byte
_UINT_LIST: Final = 1 | 5 << 32
_POINTER_LIST: Final = 1 | 6 << 32
_STRUCT_LIST: Final = 1 | 7 << 32
_LIST_MASK: Final = (1 << 35) - 1
_PADDING: Final = tuple(bytes(-size % _WORD_BYTES) for size in range(_WORD_BYTES))

Writer = Callable[[Any, bytearray, int], None]
"""Write a value behind the pointer word at an offset; the value's words go to the end of the buffer."""
Reader = Callable[[bytes, int, int], tuple[Any, int]]
"""From data, the offset of the pointer word, and where the value must start: the value, and where the next starts."""


class NotCanonical(Exception):
    """Perhaps Cap'n Proto, but not laid out as written here."""


def struct_of(kind: type) -> Any:
    """pycapnp's struct for a message class; columns carry the name of what they are columns of."""
    return getattr(SCHEMA, kind.__name__.removesuffix("Columns"))


def camel_case(name: str) -> str:
    """`prev_log_index` as the schema spells it."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


class StructPlan:
    """How one message class lies in memory, from the schema's slots and the dataclass's fields."""

    __slots__ = ("data", "data_bytes", "kind", "pointers", "readers", "scalars", "size_bytes", "tag", "values")

    def __init__(self, kind: type) -> None:
        """Raises TypeError where schema and dataclass disagree."""
        node = struct_of(kind).schema.node.struct
        fields = message_fields(kind)
        slots = {field.name: field.slot for field in node.fields}
        if [camel_case(field.name) for field in fields] != [field.name for field in node.fields]:
            raise TypeError(f"schema.capnp: the fields of {kind.__name__} differ from those of net/messages.py")
        self.kind = kind
        self.data_bytes = node.dataWordCount * _WORD_BYTES
        self.size_bytes = self.data_bytes + node.pointerCount * _WORD_BYTES
        self.tag = node.dataWordCount << 32 | node.pointerCount << 48
        in_data = [field for field in fields if not _is_pointer(field)]
        self.data, self.values, self.scalars = _data_section(kind, fields, in_data, slots, self.data_bytes)
        self.pointers: list[tuple[str, Writer]] = []
        self.readers: list[tuple[int, Reader]] = []
        for target, field in enumerate(fields):
            if _is_pointer(field):
                if slots[camel_case(field.name)].offset != len(self.pointers):
                    raise TypeError(f"schema.capnp: {kind.__name__}.{field.name} is out of order")
                self.pointers.append((field.name, _writer(field)))
                self.readers.append((target, _reader(field)))

    def write(self, message: Any, out: bytearray, at: int) -> None:
        """Fill the struct's words at `at`; what its pointers lead to is appended. Raises struct.error."""
        self.data.pack_into(out, at, *self.values(message))
        at += self.data_bytes
        for name, write in self.pointers:
            write(getattr(message, name), out, at)
            at += _WORD_BYTES

    def read(self, data: bytes, at: int, cursor: int) -> tuple[Any, int]:
        """The message whose words are at `at` and whose contents start at `cursor`; raises NotCanonical, WireError."""
        values = self.data.unpack_from(data, at)
        arguments: list[Any] = [None] * (len(self.scalars) + len(self.readers))
        for target, index, convert in self.scalars:
            arguments[target] = values[index] if convert is None else convert(values[index])
        at += self.data_bytes
        for target, read in self.readers:
            arguments[target], cursor = read(data, at, cursor)
            at += _WORD_BYTES
        return self.kind(*arguments), cursor


plan_of = cache(StructPlan)


def encode(message: Any) -> bytes:
    """`message` as one Cap'n Proto message, segment table first. Raises WireError for a value that does not fit."""
    kind: Any = type(message)
    plan = plan_of(kind)
    out = bytearray(2 * _WORD_BYTES + plan.size_bytes)
    try:
        plan.write(message, out, 2 * _WORD_BYTES)
    except (struct.error, TypeError) as error:
        raise WireError(f"{plan.kind.__name__}: a value does not fit its field: {error}") from error
    _SEGMENT.pack_into(out, 0, 0, len(out) // _WORD_BYTES - 1)
    _WORD.pack_into(out, _WORD_BYTES, plan.tag)
    return bytes(out)


def decode(kind: type, data: bytes) -> Any:
    """A message of `kind`. Raises NotCanonical for any other layout and for damage, WireError for a bad value."""
    plan: StructPlan = plan_of(kind)
    body = 2 * _WORD_BYTES
    try:
        segments, words = _SEGMENT.unpack_from(data)
        if segments or (words + 1) * _WORD_BYTES != len(data) or _WORD.unpack_from(data, _WORD_BYTES)[0] != plan.tag:
            raise NotCanonical
        message, end = plan.read(data, body, body + plan.size_bytes)
    except struct.error as error:
        raise NotCanonical from error
    if end != len(data):
        raise NotCanonical
    return message


def _is_pointer(field: FieldType) -> bool:
    return field.many or field.shape in ("bytes", "record")


_FORMAT: Final = {"uint": ("Q", 8), "enum": ("B", 1), "bool": ("B", 1)}

Values = Callable[[Any], tuple[Any, ...] | list[Any]]
Scalars = list[tuple[int, int, Callable[[Any], Any] | None]]


def _data_section(
    kind: type, fields: tuple[FieldType, ...], in_data: list[FieldType], slots: dict[str, Any], size: int
) -> tuple[struct.Struct, Values, Scalars]:
    """The data section's `struct` format, how to read its values off a message, and how to turn them back."""
    at_byte: dict[int, list[tuple[FieldType, int]]] = {}
    for field in in_data:
        offset = slots[camel_case(field.name)].offset
        bit = offset % 8 if field.shape == "bool" else 0
        byte = offset // 8 if field.shape == "bool" else offset * _FORMAT[field.shape][1]
        at_byte.setdefault(byte, []).append((field, bit))
    layout, position = "<", 0
    parts: list[Callable[[Any], int]] = []
    names: list[str] = []
    scalars: Scalars = []
    order = {field.name: index for index, field in enumerate(fields)}
    for index, byte in enumerate(sorted(at_byte)):
        group = at_byte[byte]
        code, width = _FORMAT[group[0][0].shape]
        layout += f"{byte - position}x{code}"
        position = byte + width
        parts.append(
            _bits([(field.name, bit) for field, bit in group])
            if group[0][0].shape == "bool"
            else attrgetter(group[0][0].name)
        )
        names.append(group[0][0].name)
        for field, bit in group:
            scalars.append((order[field.name], index, _converter(field, bit)))
    layout += f"{size - position}x"
    if not in_data or any(field.shape == "bool" for field in in_data):
        return struct.Struct(layout), lambda message: [part(message) for part in parts], scalars
    if len(names) == 1:
        return struct.Struct(layout), lambda message: (parts[0](message),), scalars
    return struct.Struct(layout), attrgetter(*names), scalars


def _bits(flags: list[tuple[str, int]]) -> Callable[[Any], int]:
    def pack(message: Any) -> int:
        byte = 0
        for name, bit in flags:
            if getattr(message, name):
                byte |= 1 << bit
        return byte

    return pack


def _converter(field: FieldType, bit: int) -> Callable[[Any], Any] | None:
    if field.shape == "enum":
        return enum_check(field.element)
    if field.shape == "bool":
        return lambda byte: bool(byte >> bit & 1)
    return None


def _writer(field: FieldType) -> Writer:
    if field.shape == "record":
        plan = plan_of(field.element)
        return _write_structs(plan) if field.many else _write_struct(plan)
    if field.shape == "bytes":
        return _write_blobs if field.many else _write_blob
    return _write_uints


def _reader(field: FieldType) -> Reader:
    if field.shape == "record":
        plan = plan_of(field.element)
        return _read_structs(plan) if field.many else _read_struct(plan, field.optional)
    if field.shape == "bytes":
        return _read_blobs if field.many else _read_blob
    return _read_uints


def _write_blob(value: bytes, out: bytearray, at: int) -> None:
    size = len(value)
    _WORD.pack_into(out, at, (len(out) - at - _WORD_BYTES) >> 1 | _DATA_LIST | size << 35)
    out += value
    out += _PADDING[size & 7]


def _read_blob(data: bytes, at: int, cursor: int) -> tuple[bytes, int]:
    size, start = _list_pointer(data, at, cursor, _DATA_LIST)
    end = start + size
    cursor = end + -size % _WORD_BYTES
    if cursor > len(data):
        raise NotCanonical
    return data[start:end], cursor


def _list_pointer(data: bytes, at: int, cursor: int, code: int) -> tuple[int, int]:
    """Element count and start, once the pointer at `at` is known to lead to `cursor`."""
    word = _WORD.unpack_from(data, at)[0]
    if word & _LIST_MASK != (cursor - at - _WORD_BYTES) >> 1 | code:
        raise NotCanonical
    return word >> 35, cursor


def _write_blobs(values: tuple[bytes, ...], out: bytearray, at: int) -> None:
    start = len(out)
    _WORD.pack_into(out, at, (start - at - _WORD_BYTES) >> 1 | _POINTER_LIST | len(values) << 35)
    out += bytes(_WORD_BYTES * len(values))
    for index, value in enumerate(values):
        _write_blob(value, out, start + _WORD_BYTES * index)


def _read_blobs(data: bytes, at: int, cursor: int) -> tuple[tuple[bytes, ...], int]:
    count, start = _list_pointer(data, at, cursor, _POINTER_LIST)
    _check_count(count)
    cursor = start + _WORD_BYTES * count
    values = []
    for index in range(count):
        value, cursor = _read_blob(data, start + _WORD_BYTES * index, cursor)
        values.append(value)
    return tuple(values), cursor


def _write_uints(values: tuple[int, ...], out: bytearray, at: int) -> None:
    _WORD.pack_into(out, at, (len(out) - at - _WORD_BYTES) >> 1 | _UINT_LIST | len(values) << 35)
    out += struct.pack(f"<{len(values)}Q", *values)


def _read_uints(data: bytes, at: int, cursor: int) -> tuple[tuple[int, ...], int]:
    count, start = _list_pointer(data, at, cursor, _UINT_LIST)
    _check_count(count)
    return struct.unpack_from(f"<{count}Q", data, start), start + _WORD_BYTES * count


def _check_count(count: int) -> None:
    if count > COUNT_MAX:
        raise WireError(f"a list of {count} elements; at most {COUNT_MAX} are taken")


def _write_struct(plan: StructPlan) -> Writer:
    def write(value: Any, out: bytearray, at: int) -> None:
        if value is None:
            return  # a null pointer: the words are zero already
        start = len(out)
        _WORD.pack_into(out, at, (start - at - _WORD_BYTES) >> 1 | plan.tag)
        out += bytes(plan.size_bytes)
        plan.write(value, out, start)

    return write


def _read_struct(plan: StructPlan, optional: bool) -> Reader:
    def read(data: bytes, at: int, cursor: int) -> tuple[Any, int]:
        word = _WORD.unpack_from(data, at)[0]
        if not word and optional:
            return None, cursor
        if word != (cursor - at - _WORD_BYTES) >> 1 | plan.tag:
            raise NotCanonical
        return plan.read(data, cursor, cursor + plan.size_bytes)

    return read


def _write_structs(plan: StructPlan) -> Writer:
    def write(values: tuple[Any, ...], out: bytearray, at: int) -> None:
        count, start, size = len(values), len(out), plan.size_bytes
        _WORD.pack_into(out, at, (start - at - _WORD_BYTES) >> 1 | _STRUCT_LIST | count * size // _WORD_BYTES << 35)
        out += _WORD.pack(count << 2 | plan.tag)
        out += bytes(count * size)
        for index, value in enumerate(values):
            plan.write(value, out, start + _WORD_BYTES + index * size)

    return write


def _read_structs(plan: StructPlan) -> Reader:
    def read(data: bytes, at: int, cursor: int) -> tuple[Any, int]:
        words, start = _list_pointer(data, at, cursor, _STRUCT_LIST)
        size = plan.size_bytes
        count = words * _WORD_BYTES // size
        _check_count(count)
        if words * _WORD_BYTES != count * size or _WORD.unpack_from(data, start)[0] != count << 2 | plan.tag:
            raise NotCanonical
        start += _WORD_BYTES
        cursor = start + count * size
        values = []
        for index in range(count):
            value, cursor = plan.read(data, start + index * size, cursor)
            values.append(value)
        return tuple(values), cursor

    return read
