"""From a message to bytes and back.

The first four bytes say everything a reader must know: `version, codec, kind, 0`. A reader takes whichever codec the
sender chose, so switching is the sender's alone, message by message.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, cast

from net import messages
from net.messages import Message
from net.wire import capnp_columns, msgpack_columns, msgpack_maps
from net.wire.errors import MESSAGE_BYTES_MAX, WireError
from net.wire.kinds import CodecKind

__all__ = ["CodecKind", "WireError", "decode", "encode"]

VERSION: Final = 0xD1
"""Wire format version 1; the high bits make a stray text or MessagePack value unlikely to pass."""
HEADER_BYTES: Final = 4

# The numbers are on the wire: append, never renumber.
KIND_OF: Final[dict[type, int]] = {
    messages.Application: 1,
    messages.RequestVote: 2,
    messages.RequestVoteReply: 3,
    messages.AppendEntries: 4,
    messages.AppendEntriesReply: 5,
    messages.Propose: 6,
    messages.Vote: 7,
    messages.CertificateNotice: 8,
    messages.FetchEntries: 9,
    messages.CommittedEntries: 10,
    messages.FetchBlock: 11,
    messages.Forward: 12,
    messages.TimeoutNow: 13,
    messages.ReadIndex: 14,
    messages.ReadIndexReply: 15,
    messages.GossipDigest: 16,
    messages.GossipDelta: 17,
    messages.CheckpointVote: 18,
    messages.FetchSnapshot: 19,
    messages.SnapshotChunk: 20,
    messages.EvidenceNotice: 21,
}
_CLASS_OF: Final = {number: kind for kind, number in KIND_OF.items()}


class _Codec(Protocol):
    """What the module of a codec has."""

    def encode(self, message: Any, /) -> bytes: ...

    def decode(self, kind: type, data: bytes, /) -> Any: ...


_CODECS: Final[dict[int, _Codec]] = {
    CodecKind.MSGPACK: msgpack_maps,
    CodecKind.CAPNP: capnp_columns,
    CodecKind.MSGPACK_COLUMNS: msgpack_columns,
}
_PREFIX: Final = {
    (codec, kind): bytes((VERSION, codec, number, 0)) for codec in _CODECS for kind, number in KIND_OF.items()
}


def encode(message: Message, kind: CodecKind) -> bytes:
    """`message` in the codec `kind`, header first. Raises WireError when a value does not fit or it is too long."""
    prefix = _PREFIX.get((kind, type(message)))
    if prefix is None:
        raise WireError(f"{type(message).__name__} is no message of the wire")
    data = prefix + _CODECS[kind].encode(message)
    if len(data) > MESSAGE_BYTES_MAX:
        raise WireError(f"{type(message).__name__} of {len(data)} bytes is longer than {MESSAGE_BYTES_MAX}")
    return data


def decode(data: bytes) -> Message:
    """The message in `data`, whichever codec wrote it. The message owns its bytes. Raises WireError, and only that."""
    if not HEADER_BYTES <= len(data) <= MESSAGE_BYTES_MAX:
        raise WireError(f"{len(data)} bytes are no message")
    version, codec, number, reserved = data[:HEADER_BYTES]
    if version != VERSION:
        raise WireError(f"wire version {version:#04x} is unknown; this program speaks {VERSION:#04x}")
    reader = _CODECS.get(codec)
    kind = _CLASS_OF.get(number)
    if reader is None or kind is None or reserved:
        raise WireError(f"codec {codec}, message kind {number}, reserved {reserved}: unknown")
    return cast(Message, reader.decode(kind, data[HEADER_BYTES:]))
