"""What the fields of a message are, read once from its dataclass: codecs are derived from this, field by field."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from net import messages
from net.wire.errors import COUNT_MAX, UINT64_MAX, WireError

Shape = Literal["uint", "bool", "enum", "bytes", "record"]


@dataclass(frozen=True, slots=True)
class FieldType:
    """One field: an element shape, perhaps repeated (`many`) or absent (`optional`, records only)."""

    name: str
    shape: Shape
    element: type
    many: bool = False
    optional: bool = False


@cache
def message_fields(kind: type) -> tuple[FieldType, ...]:
    """The fields of a message dataclass in order. Raises TypeError for a type that the wire does not know."""
    hints = get_type_hints(kind, vars(messages))
    return tuple(_field_type(kind, field.name, hints[field.name]) for field in fields(kind))


def _field_type(owner: type, name: str, hint: Any) -> FieldType:
    many = optional = False
    arguments = get_args(hint)
    if get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        many, hint = True, arguments[0]
    elif get_origin(hint) in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        optional = True
        hint = arguments[0] if arguments[1] is type(None) else arguments[1]
    shape = _shape(hint)
    if shape is None or (optional and shape != "record"):
        raise TypeError(f"{owner.__name__}.{name}: the wire has no form for {hint}")
    return FieldType(name, shape, hint, many, optional)


def _shape(hint: Any) -> Shape | None:
    if hint is bool:
        return "bool"
    if hint is int:
        return "uint"
    if hint is bytes:
        return "bytes"
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return "enum"
    if isinstance(hint, type) and is_dataclass(hint):
        return "record"
    return None


Check = Callable[[Any], Any]


def _check_uint(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= UINT64_MAX:
        raise WireError(f"{value!r:.40} is no unsigned 64-bit integer")
    return value


def _check_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise WireError(f"{value!r:.40} is no boolean")
    return value


def _check_bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise WireError(f"{value!r:.40} is no byte string")
    return value


def enum_check(kind: type) -> Check:
    """A function from an integer to the member of `kind`; it raises WireError for any other value."""
    members = {int(member): member for member in kind}  # type: ignore[attr-defined]

    def check(value: Any) -> Any:
        if type(value) is not int or value not in members:
            raise WireError(f"{value!r:.40} is no {kind.__name__}")
        return members[value]

    return check


_SCALAR: Final[dict[str, Check]] = {"uint": _check_uint, "bool": _check_bool, "bytes": _check_bytes}


def decoder_of(field: FieldType, record: Callable[[type], Check]) -> Check:
    """From a decoded plain value to the field's value, validated.

    `record` makes the decoder of a nested dataclass. The decoder raises WireError.
    """
    if field.shape == "record":
        one = record(field.element)
    elif field.shape == "enum":
        one = enum_check(field.element)
    else:
        one = _SCALAR[field.shape]
    if field.many:
        return _many(one)
    return _optional(one) if field.optional else one


def _many(one: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) > COUNT_MAX:
            raise WireError(f"wanted a list of at most {COUNT_MAX} elements")
        return tuple([one(element) for element in value])

    return check


def _optional(one: Check) -> Check:
    def check(value: Any) -> Any:
        return None if value is None else one(value)

    return check


def encoder_of(field: FieldType, record: Callable[[type], Check]) -> Check | None:
    """From the field's value to a plain one, or None where the value is plain already."""
    if field.shape != "record":
        return None
    one = record(field.element)
    if field.many:
        return lambda value: [one(element) for element in value]
    return _optional(one) if field.optional else one
