"""MessagePack as most programs start with it: every message a map with field names, every record a map of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgpack

from net.messages import Application
from net.wire.errors import WireError
from net.wire.fields import Check, decoder_of, encoder_of, message_fields
from net.wire.layouts import maps_as_records, rows_as_maps, unpack


@cache
def _to_map(kind: type) -> Check:
    """From a message of `kind` to a plain map."""
    steps = [(field.name, encoder_of(field, _to_map)) for field in message_fields(kind)]

    def convert(message: Any) -> dict[str, Any]:
        return {name: getattr(message, name) if step is None else step(getattr(message, name)) for name, step in steps}

    return convert


@cache
def _from_map(kind: type) -> Check:
    """From a plain map to a message of `kind`; raises WireError."""
    steps = [(field.name, decoder_of(field, _from_map)) for field in message_fields(kind)]

    def convert(values: Any) -> Any:
        if type(values) is not dict or len(values) != len(steps):
            raise WireError(f"{kind.__name__}: wanted a map of {len(steps)} fields")
        try:
            return kind(*[step(values[name]) for name, step in steps])
        except KeyError as error:
            raise WireError(f"{kind.__name__}: field {error} is missing") from error

    return convert


def encode(message: Any) -> bytes:
    """The message as one MessagePack map. Raises WireError for a value that does not fit."""
    kind: Any = type(message)
    values = _to_map(kind)(message)
    if kind is Application:
        values["records"] = rows_as_maps(message.layout, message.records)
    return pack(values)


def decode(kind: type, data: bytes) -> Any:
    """A message of `kind`. Raises WireError."""
    values = unpack(data)
    if kind is Application and type(values) is dict and type(values.get("layout")) is int:
        values["records"] = maps_as_records(values["layout"], values.get("records"))
    return _from_map(kind)(values)


_packer: Callable[[Any], bytes] = msgpack.Packer(autoreset=True).pack


def pack(values: Any) -> bytes:
    """Plain values as MessagePack. Raises WireError."""
    try:
        return _packer(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise WireError(f"a value does not fit MessagePack: {error}") from error
