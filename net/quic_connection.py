"""What a link needs of aioquic and aioquic keeps private; a test per pinned version holds each of them in place.

aioquic is sans-I/O and nearly all that a transport needs is public. What is not: the TLS exporter, the key in the
peer's certificate, what waits to be sent, whether the peer is heard, and a close that is seen when it arrives instead
of after the draining period. How packets of the steady state are read and built: `net/one_rtt_reading.py`,
`net/one_rtt_writing.py`.
"""

from __future__ import annotations

from typing import Any, Final

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicHeader, QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicDeliveryState
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from net.one_rtt_writing import SteadyConnection

SUPPORTED_AIOQUIC: Final = "1.7.2"
"""The version whose private fields this file was written and tested against."""

INITIAL_DATAGRAM_BYTES_MIN: Final = 1_200
"""RFC 9000 §14.1: a shorter first datagram is dropped."""
DATAGRAMS_WAITING_MAX: Final = 64
DATAGRAM_OVERHEAD_BYTES: Final = 64
"""What a packet's header, tag, acknowledgement and a DATAGRAM frame's head take of a UDP datagram, generously."""
_ONE_RTT: Final = tls.Epoch.ONE_RTT
_VERSIONS: Final = frozenset(QuicConfiguration(is_client=False).supported_versions)


class LinkConnection(SteadyConnection):
    """A QUIC connection with the few extra doors that a link needs. Times are seconds of `time.monotonic`."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        ack_delay_s: float,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        session_ticket_fetcher: tls.SessionTicketFetcher | None = None,
        session_ticket_handler: tls.SessionTicketHandler | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
            session_ticket_fetcher=session_ticket_fetcher,
            session_ticket_handler=session_ticket_handler,
        )
        # aioquic's own 1 ms makes a packet of nearly every acknowledgement.
        self._ack_delay = ack_delay_s
        self._exporter_master: bytes | None = None
        self._exporter_hash: hashes.HashAlgorithm | None = None

    def _initialize(self, peer_cid: bytes) -> None:
        early = list(self._spaces[_ONE_RTT].sent_packets.values()) if self._spaces else []
        super()._initialize(peer_cid)
        for packet in early:
            # A Retry begins the connection anew. What rode in early data is lost with it, which aioquic forgets.
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.LOST, *arguments)
        install_key = self.tls.update_traffic_key_cb

        def watch(direction: tls.Direction, epoch: tls.Epoch, suite: tls.CipherSuite, secret: bytes) -> None:
            # At the first 1-RTT key the transcript is ClientHello..server Finished on both sides, which is what
            # RFC 8446 §7.1 derives exporter_master_secret from.
            if epoch is _ONE_RTT and self._exporter_master is None:
                schedule: Any = self.tls.key_schedule
                self._exporter_master = schedule.derive_secret(b"exp master")
                self._exporter_hash = schedule.algorithm
            install_key(direction, epoch, suite, secret)

        self.tls.update_traffic_key_cb = watch

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """`length` bytes that only the two ends of this very connection know (RFC 8446 §7.5).

        Raises RuntimeError before the handshake has derived the master secret.
        """
        algorithm, master = self._exporter_hash, self._exporter_master
        if algorithm is None or master is None:
            raise RuntimeError("the handshake has not come far enough for an exporter")
        derived = tls.hkdf_expand_label(algorithm, master, label, _digest(algorithm, b""), algorithm.digest_size)
        return tls.hkdf_expand_label(algorithm, derived, b"exporter", _digest(algorithm, context), length)

    def peer_public_key(self) -> bytes | None:
        """The raw Ed25519 key (32 bytes) in the certificate that the peer showed, None without one or of another kind.

        aioquic has checked by then that the peer owns the key; whose key it is, the caller must check.
        """
        certificate = self.tls._peer_certificate
        if certificate is None:
            return None
        key = certificate.public_key()
        return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None

    def unacknowledged_bytes(self) -> int:
        """Stream bytes that were written and that the peer has not acknowledged yet, sent or not."""
        return sum([len(stream.sender._buffer) for stream in self._streams_queue])

    def takes_datagram(self, size: int) -> bool:
        """Whether an unreliable datagram of `size` bytes can go: the peer takes them, it fits, few wait already."""
        remote_max = self._remote_max_datagram_frame_size
        room = min(self._max_datagram_size - DATAGRAM_OVERHEAD_BYTES, remote_max or 0)
        return size <= room and len(self._datagrams_pending) < DATAGRAMS_WAITING_MAX

    def next_event(self) -> events.QuicEvent | None:
        """As aioquic's, which raises and catches an error for each time that there is none."""
        return self._events.popleft() if self._events else None

    def newest_packet_received(self) -> int:
        """The highest number of a 1-RTT packet that decrypted, or -1: it rises with every packet of a living peer."""
        if self._one_rtt is not None:
            return int(self._one_rtt.space.largest_received_packet)
        space = self._spaces.get(_ONE_RTT)
        return -1 if space is None else int(space.largest_received_packet)

    def open_streams(self) -> int:
        """Streams that are not finished on both sides. The cost of a packet grows with them."""
        return len(self._streams)

    def closing_reason(self) -> str | None:
        """Why the connection closes, from the moment that either side said so; None while it lives.

        aioquic tells the application only after the draining period, three probe timeouts later.
        """
        event = self._close_event
        if event is None:
            return None
        return event.reason_phrase or f"error {event.error_code:#x}"


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def initial_header(data: bytes, connection_id_bytes: int) -> QuicHeader | None:
    """The header of a first datagram in a version that is spoken here, None where `data` opens no connection."""
    if len(data) < INITIAL_DATAGRAM_BYTES_MIN:
        return None
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=connection_id_bytes)
    except ValueError:
        return None
    if header.packet_type != QuicPacketType.INITIAL or header.version not in _VERSIONS:
        return None
    return header
