"""When an acknowledgement leaves: two connections in virtual time, no socket."""

from __future__ import annotations

import pytest

from net.identity import Identity
from net.quic_configuration import Configurations
from net.quic_connection import PACKETS_UNACKNOWLEDGED_MAX, LinkConnection
from net.transport import TransportSettings

CLIENT, SERVER = ("127.0.0.1", 1), ("127.0.0.1", 2)
ACK_DELAY_S = 0.01
"""As in the product: after seconds without an acknowledgement the sender's pacing would hold its packets back."""
STREAM = 0


class Connections:
    """A client and a server that have shaken hands."""

    def __init__(self, tmp_path) -> None:
        settings = TransportSettings(ack_delay_s=ACK_DELAY_S)
        configurations = Configurations(Identity.load_or_create(tmp_path / "node-0.key", 0), settings)
        self.now = 0.0
        self.client = LinkConnection(configuration=configurations.dialler(SERVER, 1, None), ack_delay_s=ACK_DELAY_S)
        self.client.connect(SERVER, now=self.now)
        self.server = LinkConnection(
            configuration=configurations.acceptor(CLIENT),
            ack_delay_s=ACK_DELAY_S,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        for _ in range(6):
            self.carry(self.client)
            self.carry(self.server)
        self.settle()

    def settle(self) -> None:
        """Nothing is left to be acknowledged."""
        self.now += 2 * ACK_DELAY_S
        for _ in range(2):
            self.carry(self.server)
            self.carry(self.client)

    def carry(self, sender: LinkConnection) -> int:
        """What `sender` has to send reaches the other; how many datagrams. As a link does it."""
        other, address = (self.server, CLIENT) if sender is self.client else (self.client, SERVER)
        sender.hasten_ack(self.now)
        if sender.has_nothing_to_send(self.now):
            return 0
        datagrams = sender.datagrams_to_send(self.now)
        for data, _ in datagrams:
            other.receive_datagram(data, address, self.now)
        return len(datagrams)

    def say(self, sender: LinkConnection) -> int:
        sender.send_stream_data(STREAM, b"x" * 100)
        return self.carry(sender)


@pytest.fixture
def connections(tmp_path) -> Connections:
    return Connections(tmp_path)


def test_a_reply_takes_the_acknowledgement_along_once_that_has_waited_half_its_time(connections: Connections) -> None:
    assert connections.say(connections.client) == 1
    assert connections.client.unacknowledged_bytes() == 100
    assert connections.say(connections.server) == 1
    assert connections.client.unacknowledged_bytes() == 100, "an early reply goes without it"
    connections.now += ACK_DELAY_S / 2
    assert connections.say(connections.server) == 1
    assert connections.client.unacknowledged_bytes() == 0


def test_nothing_leaves_for_an_acknowledgement_alone_before_its_time(connections: Connections) -> None:
    connections.say(connections.client)
    connections.now += ACK_DELAY_S * 0.9
    assert connections.carry(connections.server) == 0
    connections.now += ACK_DELAY_S * 0.2
    assert connections.carry(connections.server) == 1
    assert connections.client.unacknowledged_bytes() == 0


def test_many_packets_are_acknowledged_at_once(connections: Connections) -> None:
    """A sender of much waits for its congestion window, not for the receiver's timer."""
    packets = acknowledged = 0
    while not acknowledged:
        connections.now += ACK_DELAY_S / 50
        assert connections.say(connections.client) == 1
        packets += 1
        acknowledged = connections.carry(connections.server)
    # The client's own acknowledgements of the handshake count as well.
    assert PACKETS_UNACKNOWLEDGED_MAX - 3 <= packets <= PACKETS_UNACKNOWLEDGED_MAX
    assert connections.client.unacknowledged_bytes() == 0
