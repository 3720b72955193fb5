"""Hypothesis strategies for every message of the wire, derived from the dataclasses like the codecs themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from net.messages import Application, Channel
from net.wire.codec import KIND_OF
from net.wire.fields import FieldType, message_fields
from net.wire.layouts import register_layout

TICK_LAYOUT = 60_001
TICK_DTYPE = np.dtype(
    [
        ("step", "<u8"),
        ("price", "<f8"),
        ("change", "<i4"),
        ("share", "<f4"),
        ("up", "?"),
        ("symbol", "S6"),
        ("flag", "u1"),
    ]
)
register_layout(TICK_LAYOUT, TICK_DTYPE)

_UINT = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
_BYTES = st.binary(max_size=80) | st.sampled_from([b"", b"\0", b"\0" * 7, b"\xff" * 8, b"x" * 4096])
_ROW = st.tuples(
    st.integers(0, 2**64 - 1),
    st.floats(allow_nan=False),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32, allow_nan=False),
    st.booleans(),
    st.binary(max_size=6).map(lambda text: text.rstrip(b"\0")),
    st.integers(0, 255),
)


def rows() -> st.SearchStrategy[np.ndarray]:
    """Record arrays of `TICK_DTYPE`."""
    return st.lists(_ROW, max_size=5).map(lambda values: np.array(values, TICK_DTYPE))


def message_of(kind: type) -> st.SearchStrategy[Any]:
    """Messages of one class, nested ones included."""
    if kind is Application:
        return _applications()
    return st.builds(kind, **{field.name: _values(field) for field in message_fields(kind)})


def any_message() -> st.SearchStrategy[Any]:
    """Messages of every class."""
    return st.one_of([message_of(kind) for kind in KIND_OF])


def _values(field: FieldType) -> st.SearchStrategy[Any]:
    one: st.SearchStrategy[Any]
    if field.shape == "uint":
        one = _UINT
    elif field.shape == "bool":
        one = st.booleans()
    elif field.shape == "enum":
        one = st.sampled_from(list(field.element))  # type: ignore[call-overload]
    elif field.shape == "bytes":
        one = _BYTES
    else:
        one = message_of(field.element)
    if field.many:
        return st.lists(one, max_size=4).map(tuple)
    return st.none() | one if field.optional else one


@st.composite
def _applications(draw: st.DrawFn) -> Application:
    layout = draw(st.sampled_from((0, TICK_LAYOUT)))
    return Application(
        draw(st.sampled_from(list(Channel))),
        draw(_UINT),
        draw(_UINT),
        draw(_UINT),
        layout,
        draw(rows()).tobytes() if layout else b"",
        draw(_BYTES),
    )
