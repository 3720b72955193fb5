"""MessagePack with the layout that makes Cap'n Proto fast: fields by position, a record array as one binary field."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any, Final, cast

from net.messages import Application
from net.wire.errors import WireError
from net.wire.fields import Check, decoder_of, encoder_of, message_fields
from net.wire.layouts import check_records, unpack
from net.wire.msgpack_maps import pack

_PLAIN_TYPE: Final[dict[str, type]] = {"uint": int, "enum": int, "bool": bool, "bytes": bytes, "record": list}
"""What a field of a shape is once MessagePack is unpacked."""


@cache
def _to_list(kind: type) -> Check:
    """From a message of `kind` to its field values, in order."""
    described = message_fields(kind)
    steps = [(at, step) for at, field in enumerate(described) if (step := encoder_of(field, _to_list)) is not None]
    names = [field.name for field in described]
    take = attrgetter(*names)  # a lone field as it is, several as a tuple

    def convert(message: Any) -> Sequence[Any]:
        values = take(message)
        if not steps and len(names) > 1:
            return cast(Sequence[Any], values)
        fields = list(values) if len(names) > 1 else [values]
        for at, step in steps:
            fields[at] = step(fields[at])
        return fields

    return convert


@cache
def _from_list(kind: type) -> Check:
    """From a list of field values to a message of `kind`; raises WireError.

    The types of all fields are compared at once, then only what is nested or an enumeration goes through its own
    decoder. Values that do not pass go through the decoder of each field, which finds the words for what is wrong.
    """
    described = message_fields(kind)
    decoders = [decoder_of(field, _from_list) for field in described]
    expected = [_PLAIN_TYPE[field.shape] if not field.many else list for field in described]
    steps = [
        (at, decoders[at]) for at, field in enumerate(described) if field.many or field.shape in ("enum", "record")
    ]
    unsigned = [at for at, field in enumerate(described) if field.shape == "uint" and not field.many]
    take = itemgetter(*unsigned) if len(unsigned) > 1 else lambda values: [values[at] for at in unsigned]

    def convert(values: Any) -> Any:
        plain = type(values) is list and [*map(type, values)] == expected
        if plain and (not unsigned or min(take(values)) >= 0):
            for at, step in steps:
                values[at] = step(values[at])
            return kind(*values)
        if type(values) is not list or len(values) != len(decoders):
            raise WireError(f"{kind.__name__}: wanted a list of {len(decoders)} fields")
        return kind(*[decode_one(value) for decode_one, value in zip(decoders, values, strict=True)])

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
