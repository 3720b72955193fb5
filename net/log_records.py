"""The bytes of the durable log: checksummed records, and how a torn tail is told from damage.

Layout: the 8-byte magic, then records of a 16-byte header and the body, then zeros up to the end of the room that the
file was given in advance. The header is the body's length, its CRC-32 (`zlib.crc32`), the number of the batch, and the
CRC-32 of those three, so that a flipped bit in a length is told from the end. All records between two syncs are of one
batch, and no record of a batch is written before the batch ahead of it is on disk.

A disk writes whole sectors in any order. So a crash may leave holes of zeros in the last batch and nowhere else: what
begins with a hole, and is followed by records of one batch at most, was never promised to anybody and is cut. Anything
else that fails its checksum is damage, and the file is refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

MAGIC: Final = b"TTLOG\x00\x00\x02"
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""
_HEADER: Final = struct.Struct("<IIII")
_CHECKED: Final = struct.Struct("<III")
_CRC: Final = struct.Struct("<I")


class LogError(OSError):
    """The log cannot be used; the message names the file and what to do."""


class LogDamaged(LogError):
    """A record of the log fails its checksum, and no crash explains it."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(
            f"{path}: damaged at byte {offset}: {reason}; restore the file or let the node catch up afresh"
        )
        self.path = path
        self.offset = offset


@dataclass(frozen=True, slots=True)
class WholeRecord:
    """A record that passes its checksums; `end` is the offset behind it."""

    end: int
    batch: int
    body: bytes


def encode(record: bytes, batch: int) -> bytes:
    """Header and body. Raises ValueError above 64 MiB."""
    length = len(record)
    if length > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {length} bytes is above the limit of {MAX_RECORD_BYTES}")
    checked = _CHECKED.pack(length, zlib.crc32(record), batch)
    return checked + _CRC.pack(zlib.crc32(checked)) + record


def read_records(file: BinaryIO, path: Path) -> Iterator[WholeRecord]:
    """Every whole record of an open log, oldest first; the end is where the last one ends.

    Raises `LogDamaged`, whatever was given out before.
    """
    offset = len(MAGIC)
    file.seek(offset)
    while True:
        header = file.read(_HEADER.size)
        length = _length(header)
        body = file.read(length) if length is not None else b""
        record = _whole(header, body, offset)
        if record is None:
            _check_torn(file, path, offset, header if length is not None else None)
            return
        yield record
        offset = record.end


def _length(header: bytes) -> int | None:
    if len(header) < _HEADER.size or zlib.crc32(header[: _CHECKED.size]) != _CRC.unpack_from(header, _CHECKED.size)[0]:
        return None
    length = int(_CRC.unpack_from(header)[0])
    return length if length <= MAX_RECORD_BYTES else None


def _whole(header: bytes, body: bytes, offset: int) -> WholeRecord | None:
    if _length(header) is None:
        return None
    length, body_crc, batch, _ = _HEADER.unpack(header)
    if len(body) < length or zlib.crc32(body) != body_crc:
        return None
    return WholeRecord(offset + _HEADER.size + length, batch, body)


def _check_torn(file: BinaryIO, path: Path, offset: int, header: bytes | None) -> None:
    """Return where what stands at `offset` is the unfinished end of the log; raise `LogDamaged` where it is not.

    `header` is that of the record there, None where it fails its own checksum.
    """
    file.seek(offset)
    rest = file.read()
    written = rest.rstrip(b"\0")
    if not written:
        return
    length, batches = 0, set()
    if header is not None:
        length, _, batch, _ = _HEADER.unpack(header)
        batches.add(batch)
    # A file that was not given its room in advance ends where the write was cut.
    if len(rest) < _HEADER.size + length:
        return
    if not _has_hole(rest[: _HEADER.size + length], offset):
        part = "header" if header is None else "body"
        raise LogDamaged(path, offset, f"the {part} of a record fails its checksum")
    batches.update(record.batch for record in _found_in(written))
    if len(batches) > 1:
        raise LogDamaged(path, offset, "a hole of zeros, and records behind it that were written after a sync")


def _has_hole(record: bytes, offset: int) -> bool:
    """Whether the part of a sector that belongs to this record, from `offset` on, is all zeros."""
    start = 0
    while start < len(record):
        end = start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES
        if not any(record[start:end]):
            return True
        start = end
    return False


def _found_in(rest: bytes) -> Iterator[WholeRecord]:
    """Whole records anywhere in `rest`: where a hole swallowed a header, nothing says where the next one begins."""
    at = 0
    while at + _HEADER.size <= len(rest):
        header = rest[at : at + _HEADER.size]
        length = _length(header)
        start = at + _HEADER.size
        record = _whole(header, rest[start : start + length], at) if length is not None else None
        if record is None:
            at += 1
        else:
            yield record
            at = record.end
