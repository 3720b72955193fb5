"""Cap'n Proto (`schema.capnp`): control messages as structs, a batch of records as one `Data` field.

Written and read by `net.wire.capnp_canonical`; bytes of another writer that are laid out otherwise are read by pycapnp.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Final

import capnp

from net.messages import AppendEntries, Application
from net.wire import capnp_canonical
from net.wire.capnp_canonical import NotCanonical, camel_case, struct_of
from net.wire.entry_columns import AppendEntriesColumns, from_columns, to_columns
from net.wire.errors import COUNT_MAX, WireError
from net.wire.fields import Check, FieldType, enum_check, message_fields
from net.wire.layouts import check_records

_NESTING_MAX: Final = 16
_TRAVERSAL_SLACK_WORDS: Final = 1_024


def encode(message: Any) -> bytes:
    """The message in canonical layout. Raises WireError for a value that does not fit."""
    kind = type(message)
    if kind is Application:
        check_records(message.layout, len(message.records))
    elif kind is AppendEntries:
        try:
            message = to_columns(message)
        except (struct.error, TypeError) as error:
            raise WireError(f"AppendEntries: a value does not fit its field: {error}") from error
    return capnp_canonical.encode(message)


def decode(kind: type, data: bytes) -> Any:
    """A message of `kind`, which owns its bytes. Raises WireError."""
    layout = AppendEntriesColumns if kind is AppendEntries else kind
    try:
        message = capnp_canonical.decode(layout, data)
    except NotCanonical:
        message = decode_any_layout(layout, data)
    if kind is Application:
        check_records(message.layout, len(message.records))
    return from_columns(message) if kind is AppendEntries else message


def decode_any_layout(kind: type, data: bytes) -> Any:
    """As `decode`, through pycapnp: several segments, any order. Damage often still decodes, so values are checked.

    The traversal limit is cumulative, which keeps pointers that overlap from multiplying the bytes. Blobs are copied:
    `get_data_as_view` of pycapnp 2.2.4 leaks the message. Raises WireError.
    """
    limit = len(data) // 8 + _TRAVERSAL_SLACK_WORDS
    try:
        with struct_of(kind).from_bytes(data, traversal_limit_in_words=limit, nesting_limit=_NESTING_MAX) as reader:
            return _converter(kind)(reader)
    except (capnp.KjException, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"{kind.__name__}: malformed Cap'n Proto") from error


@cache
def _converter(kind: type) -> Check:
    """From pycapnp's reader to a message of `kind`."""
    steps = [(camel_case(field.name), _field_converter(field)) for field in message_fields(kind)]
    absent = {camel_case(field.name) for field in message_fields(kind) if field.shape == "record" and not field.many}

    def convert(reader: Any) -> Any:
        arguments = []
        for name, step in steps:
            missing = name in absent and not reader._has(name)
            arguments.append(step(None if missing else getattr(reader, name)))
        return kind(*arguments)

    return convert


def _field_converter(field: FieldType) -> Check:
    one: Check = {"uint": int, "bool": bool, "bytes": bytes}.get(field.shape) or _element_converter(field)

    def many(values: Any) -> tuple[Any, ...]:
        if len(values) > COUNT_MAX:
            raise WireError(f"{field.name}: a list of {len(values)} elements; at most {COUNT_MAX} are taken")
        return tuple([one(value) for value in values])

    def nested(value: Any) -> Any:
        if value is None and not field.optional:
            raise WireError(f"{field.name} is missing")
        return None if value is None else one(value)

    if field.many:
        return many
    return nested if field.shape == "record" else one


def _element_converter(field: FieldType) -> Check:
    return _converter(field.element) if field.shape == "record" else enum_check(field.element)
