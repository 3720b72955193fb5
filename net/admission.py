"""Which first datagrams of a connection get any TLS work: members' at once, strangers' after a Retry and in bounds.

A handshake costs this process milliseconds, a Retry (RFC 9000 §8.1.2) some microseconds and no memory. A source that a
member was last proven at, or is listed at, goes ahead. Any other must first show that it owns its address, and gets
only so many handshakes a second. Where too many connections wait for their proof (a member's address can be forged),
members answer a Retry as well.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aioquic.quic.packet import QuicHeader, encode_quic_retry
from aioquic.quic.retry import QuicRetryTokenHandler

from net.udp import Address, source_network

RETRY_ABOVE_UNPROVEN: Final = 16
"""From so many connections without a proof on, members' addresses are checked too."""
STRANGERS_BURST: Final = 8.0
STRANGERS_PER_S: Final = 2.0
"""Handshakes that one stranger's network gets: at once, and from then on."""
NETWORKS_MAX: Final = 1_024
_CONNECTION_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Admitted:
    """A connection to begin, with the connection ids that its transport parameters must name."""

    original_destination_id: bytes
    retry_source_id: bytes | None


class Admission:
    """Decides, and counts. Times are seconds of any monotonic clock."""

    __slots__ = ("_buckets", "_tokens", "retries_sent", "strangers_shed", "unproven_max")

    def __init__(self, unproven_max: int) -> None:
        self.unproven_max = unproven_max
        self.retries_sent = 0
        self.strangers_shed = 0
        """First datagrams that were dropped: too many at once, or a token that is not ours."""
        self._tokens = QuicRetryTokenHandler()
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def decide(
        self, header: QuicHeader, address: Address, *, is_member: bool, unproven: int, now: float
    ) -> Admitted | bytes | None:
        """What to do about an Initial of no known connection: begin one, answer with these bytes, or nothing.

        `is_member`: the address is one of a member. `unproven`: connections that have not proven anything yet.
        """
        if is_member and unproven < RETRY_ABOVE_UNPROVEN:
            return Admitted(header.destination_cid, None)
        if not header.token:
            self.retries_sent += 1
            return self._retry(header, address, now)
        try:
            original = self._tokens.validate_token(
                address=address, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            self.strangers_shed += 1
            return None
        # Strangers may fill half of the places, the rest stays free for members.
        room = self.unproven_max if is_member else self.unproven_max // 2
        if unproven >= room or not (is_member or self._take(source_network(address), now)):
            self.strangers_shed += 1
            return None
        return Admitted(original, header.destination_cid)

    def _retry(self, header: QuicHeader, address: Address, now: float) -> bytes:
        assert header.version is not None
        source = os.urandom(_CONNECTION_ID_BYTES)
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        return encode_quic_retry(
            version=header.version,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )

    def _take(self, network: bytes, now: float) -> bool:
        """A token bucket per network of strangers; the longest unused are forgotten."""
        level, filled_at = self._buckets.pop(network, (STRANGERS_BURST, now))
        level = min(STRANGERS_BURST, level + (now - filled_at) * STRANGERS_PER_S)
        taken = level >= 1.0
        self._buckets[network] = (level - 1.0 if taken else level, now)
        while len(self._buckets) > NETWORKS_MAX:
            self._buckets.popitem(last=False)
        return taken
