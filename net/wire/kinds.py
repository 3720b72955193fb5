"""The three codecs by number."""

from __future__ import annotations

from enum import IntEnum


class CodecKind(IntEnum):
    """Who wrote the bytes; the number is on the wire."""

    MSGPACK = 1
    """MessagePack maps with field names, records row by row."""
    CAPNP = 2
    """Cap'n Proto structs, records as one `Data` field."""
    MSGPACK_COLUMNS = 3
    """MessagePack arrays, records as one binary field."""
