"""A 1-RTT packet (RFC 9000 §17.3.1), its protection (RFC 9001 §5) and the two frames that nearly all of them consist
of, as a connection in its steady state needs them.

Both frames are written in one shape, with every integer as long as the largest may become, which RFC 9000 §16 allows:
one `struct` call then reads or writes a whole frame, where integers of varying length take one call each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from aioquic import tls
from aioquic._crypto import AEAD_NONCE_LENGTH
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import decode_packet_number
from aioquic.quic.rangeset import RangeSet
from cryptography.exceptions import InvalidTag

ONE_RTT: Final = tls.Epoch.ONE_RTT
FIXED_BIT: Final = 0x40
SPIN_BIT: Final = 0x20
KEY_PHASE_BIT: Final = 0x04
PACKET_NUMBER_BYTES: Final = 2
TAG_BYTES: Final = 16

ACK_FRAME: Final = struct.Struct(">BQHBH")
"""Type, largest acknowledged, delay, number of further ranges (none), length of the range (RFC 9000 §19.3)."""
STREAM_HEAD: Final = struct.Struct(">BQQH")
"""Type, stream, offset, length (RFC 9000 §19.8)."""
EIGHT_BYTES: Final = 0xC000_0000_0000_0000
TWO_BYTES: Final = 0x4000
"""The mark of an integer of so many bytes (RFC 9000 §16)."""
TWO_BYTES_MAX: Final = 0x3FFF
FIN_BIT: Final = 0x01
LENGTH_BIT: Final = 0x02
OFFSET_BIT: Final = 0x04
"""Of a STREAM frame's type (RFC 9000 §19.8)."""

_FORM_AND_FIXED_BITS: Final = 0xC0
_RESERVED_BITS: Final = 0x18
_SAMPLE_BYTES: Final = 16


ranges_of: Final[Callable[[RangeSet], list[range]]] = attrgetter("_RangeSet__ranges")
"""The very list of a set, which aioquic changes in place: its own methods to read it take longer than the rest."""


class OneRtt:
    """What a steady connection uses for every packet, found once: aioquic keeps it under keys that hash slowly."""

    __slots__ = ("acknowledges", "crypto", "crypto_sender", "early_data", "receive", "send", "space")

    def __init__(self, connection: QuicConnection) -> None:
        self.space: Any = connection._spaces[ONE_RTT]
        self.acknowledges: list[range] = ranges_of(self.space.ack_queue)
        self.crypto: Any = connection._cryptos[ONE_RTT]
        self.receive: Any = self.crypto.recv
        self.send: Any = self.crypto.send
        self.early_data: Any = connection._cryptos[tls.Epoch.ZERO_RTT].recv
        self.crypto_sender: Any = connection._crypto_streams[ONE_RTT].sender


def open_packet(data: bytes, host_cid: bytes, steady: OneRtt) -> tuple[int, int, bytes] | None:
    """First byte, packet number and frames of a 1-RTT packet that comes in order and under the present keys, or None.

    RFC 9001 §5.4: header protection is taken off with a mask of what follows the longest packet number.
    """
    number_at = 1 + len(host_cid)
    sample_at = number_at + 4
    if len(data) < sample_at + _SAMPLE_BYTES or data[0] & _FORM_AND_FIXED_BITS != FIXED_BIT:
        return None
    if data[1:number_at] != host_cid:
        return None
    keys, space = steady.receive, steady.space
    mask = keys.hp._mask(data[sample_at : sample_at + _SAMPLE_BYTES])
    first = data[0] ^ (mask[0] & 0x1F)
    if first & _RESERVED_BITS or bool(first & KEY_PHASE_BIT) != bool(keys.key_phase):
        return None
    number_bytes = (first & 0x03) + 1
    payload_at = number_at + number_bytes
    cut = int.from_bytes(data[number_at:payload_at]) ^ int.from_bytes(mask[1 : 1 + number_bytes])
    number = space.expected_packet_number
    if cut != number & 0xFFFF or number_bytes != PACKET_NUMBER_BYTES:
        number = decode_packet_number(cut, 8 * number_bytes, number)
    if number <= space.largest_received_packet:
        return None
    header = bytes((first,)) + host_cid + cut.to_bytes(number_bytes)
    aead = keys.aead
    try:
        payload: bytes = aead._aead.decrypt((aead._iv ^ number).to_bytes(AEAD_NONCE_LENGTH), data[payload_at:], header)
    except InvalidTag:
        return None
    return (first, number, payload) if payload else None


def seal_packet(first: int, peer_cid: bytes, number: int, frames: bytes, steady: OneRtt) -> bytes:
    """A 1-RTT packet of `frames` (RFC 9001 §5.3, §5.4), its number cut to two bytes."""
    keys = steady.send
    cut = number & 0xFFFF
    aead, header = keys.aead, bytes((first,)) + peer_cid + cut.to_bytes(2)
    # As AEAD.encrypt has it, without its two calls.
    sealed: bytes = aead._aead.encrypt((aead._iv ^ number).to_bytes(AEAD_NONCE_LENGTH), frames, header)
    sample_at = 4 - PACKET_NUMBER_BYTES
    mask: bytes = keys.hp._mask(sealed[sample_at : sample_at + _SAMPLE_BYTES])
    masked = cut ^ (mask[1] << 8 | mask[2])
    return bytes((first ^ (mask[0] & 0x1F),)) + peer_cid + masked.to_bytes(2) + sealed
