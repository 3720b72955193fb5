"""Several payloads in one entry of the log, so that one round and one signature decide many.

The payload of a BATCH entry is their number and lengths, 4 bytes little-endian each, then the payloads in order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from net.messages import Entry, EntryKind

PAYLOADS_MAX: Final = 4_096
BATCH_BYTES_MAX: Final = 256 * 1024
"""Payload bytes of one batch: well below what one message of the wire takes."""
_COUNT: Final = struct.Struct("<I")


class PayloadBatchError(ValueError):
    """The payload of a BATCH entry is malformed; the text says how."""


def encode_payloads(payloads: Sequence[bytes]) -> bytes:
    """The payload of a BATCH entry. Raises PayloadBatchError for none, or more than `PAYLOADS_MAX`."""
    if not 0 < len(payloads) <= PAYLOADS_MAX:
        raise PayloadBatchError(f"{len(payloads)} payloads; a batch holds 1 to {PAYLOADS_MAX}")
    return b"".join((struct.pack(f"<{len(payloads) + 1}I", len(payloads), *map(len, payloads)), *payloads))


def pack(contents: Sequence[tuple[EntryKind, bytes]], payloads_at_most: int) -> list[tuple[EntryKind, bytes]]:
    """`contents` in their order, runs of DATA packed into BATCH contents of at most so many payloads.

    A run of one stays DATA, and a batch stays below `BATCH_BYTES_MAX`; `payloads_at_most` 1 packs nothing.
    """
    packed: list[tuple[EntryKind, bytes]] = []
    run: list[bytes] = []
    size = 0

    def close() -> None:
        if len(run) > 1:
            packed.append((EntryKind.BATCH, encode_payloads(run)))
        else:
            packed.extend((EntryKind.DATA, payload) for payload in run)
        run.clear()

    most = min(payloads_at_most, PAYLOADS_MAX)
    for kind, payload in contents:
        if kind is not EntryKind.DATA or len(run) >= most or size + len(payload) > BATCH_BYTES_MAX:
            close()
            size = 0
        if kind is EntryKind.DATA:
            run.append(payload)
            size += len(payload)
        else:
            packed.append((kind, payload))
    close()
    return packed


def payloads_of(entry: Entry) -> tuple[bytes, ...]:
    """The DATA payloads that `entry` carries, in order: one of a DATA entry, all of a BATCH, none of another kind.

    Raises PayloadBatchError where a BATCH entry is malformed.
    """
    if entry.kind is EntryKind.DATA:
        return (entry.payload,)
    return decode_payloads(entry.payload) if entry.kind is EntryKind.BATCH else ()


def contents_of(kind: EntryKind, payload: bytes) -> list[tuple[EntryKind, bytes]]:
    """What was submitted and is in an entry of this content: the payloads of a batch, else the content itself."""
    if kind is EntryKind.BATCH:
        try:
            return [(EntryKind.DATA, each) for each in decode_payloads(payload)]
        except PayloadBatchError:
            return [(kind, payload)]
    return [(kind, payload)]


def decode_payloads(payload: bytes) -> tuple[bytes, ...]:
    """Undo `encode_payloads`; raises PayloadBatchError."""
    count = _COUNT.unpack_from(payload)[0] if len(payload) >= _COUNT.size else 0
    start = _COUNT.size * (count + 1)
    if not 0 < count <= PAYLOADS_MAX or len(payload) < start:
        raise PayloadBatchError(f"a batch of {count} payloads in {len(payload)} bytes")
    lengths = struct.unpack_from(f"<{count}I", payload, _COUNT.size)
    if start + sum(lengths) != len(payload):
        raise PayloadBatchError(f"payloads of {sum(lengths)} bytes in a batch of {len(payload) - start}")
    found = []
    for length in lengths:
        found.append(payload[start : start + length])
        start += length
    return tuple(found)
