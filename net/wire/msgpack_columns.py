"""MessagePack with the layout that makes Cap'n Proto fast: fields by position, a record array as one binary field."""

from __future__ import annotations

from functools import cache
from typing import Any

from net.messages import Application
from net.wire.errors import WireError
from net.wire.fields import Check, decoder_of, encoder_of, message_fields
from net.wire.layouts import check_records, unpack
from net.wire.msgpack_maps import pack


@cache
def _to_list(kind: type) -> Check:
    """From a message of `kind` to the list of its field values."""
    steps = [(field.name, encoder_of(field, _to_list)) for field in message_fields(kind)]

    def convert(message: Any) -> list[Any]:
        return [getattr(message, name) if step is None else step(getattr(message, name)) for name, step in steps]

    return convert


@cache
def _from_list(kind: type) -> Check:
    """From a list of field values to a message of `kind`; raises WireError."""
    steps = [decoder_of(field, _from_list) for field in message_fields(kind)]

    def convert(values: Any) -> Any:
        if type(values) is not list or len(values) != len(steps):
            raise WireError(f"{kind.__name__}: wanted a list of {len(steps)} fields")
        return kind(*[step(value) for step, value in zip(steps, values, strict=True)])

    return convert


def encode(message: Any) -> bytes:
    """The message as one MessagePack array. Raises WireError for a value that does not fit."""
    kind: Any = type(message)
    if kind is Application:
        check_records(message.layout, len(message.records))
    return pack(_to_list(kind)(message))


def decode(kind: type, data: bytes) -> Any:
    """A message of `kind`. Raises WireError."""
    message = _from_list(kind)(unpack(data))
    if kind is Application:
        check_records(message.layout, len(message.records))
    return message
