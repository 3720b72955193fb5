"""The one error of the wire, and the bounds that every codec keeps."""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES_MAX: Final = 16 << 20
"""Longest encoded message."""
COUNT_MAX: Final = 16_384
"""Most elements of one list or map in a message, rows of a record array in the map codec included."""
UINT64_MAX: Final = 2**64 - 1


class WireError(ValueError):
    """Bytes or a message that the wire does not carry; the text says what and where."""
