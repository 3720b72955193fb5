"""What aioquic is told for every connection."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Final

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration

from net.http import HTTP3_ALPN
from net.identity import Identity, self_signed_certificate
from net.transport import TransportSettings
from net.udp import Address, is_loopback

ALPN: Final = "tradetui/1"
CONNECTION_ID_BYTES: Final = 8
IDLE_TIMEOUT_S: Final = 30.0
"""A backstop only: heartbeats find a dead peer long before."""
_INITIAL_ROUND_TRIP_S: Final = 0.05
_MAX_DATA: Final = 16 << 20
_MAX_STREAM_DATA: Final = 4 << 20
_MAX_DATAGRAM_FRAME: Final = 65_535


class Configurations:
    """Makes configurations; the certificate is made once."""

    __slots__ = ("_acceptor", "_certificate", "_key", "_settings")

    def __init__(self, identity: Identity, settings: TransportSettings) -> None:
        self._certificate, self._key = self_signed_certificate(identity)
        self._settings = settings
        self._acceptor: dict[int, QuicConfiguration] = {}

    def acceptor(self, address: Address) -> QuicConfiguration:
        """For a connection from `address`; shared, aioquic does not write to it."""
        size = self._datagram_bytes(address)
        known = self._acceptor.get(size)
        if known is None:
            known = self._acceptor[size] = replace(
                self._common(size, is_client=False), certificate=self._certificate, private_key=self._key
            )
        return known

    def dialler(self, address: Address, peer: int, ticket: tls.SessionTicket | None) -> QuicConfiguration:
        """For a dial to `address`. The certificate's key is compared with the roster's, so no authority is asked."""
        return replace(
            self._common(self._datagram_bytes(address), is_client=True),
            server_name=f"member-{peer}.tradetui.invalid",
            session_ticket=ticket,
            verify_mode=ssl.CERT_NONE,
        )

    def _datagram_bytes(self, address: Address) -> int:
        return self._settings.loopback_datagram_bytes if is_loopback(address) else self._settings.datagram_bytes

    def _common(self, datagram_bytes: int, *, is_client: bool) -> QuicConfiguration:
        return QuicConfiguration(
            alpn_protocols=[ALPN] if is_client else [ALPN, HTTP3_ALPN],
            congestion_control_algorithm=self._settings.congestion_control,
            connection_id_length=CONNECTION_ID_BYTES,
            idle_timeout=IDLE_TIMEOUT_S,
            initial_rtt=_INITIAL_ROUND_TRIP_S,
            is_client=is_client,
            max_data=_MAX_DATA,
            max_datagram_frame_size=_MAX_DATAGRAM_FRAME,
            max_datagram_size=datagram_bytes,
            max_stream_data=_MAX_STREAM_DATA,
        )
