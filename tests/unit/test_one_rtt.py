"""The short way of reading and building packets against aioquic's own: same bytes delivered, same state left behind."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState

from net.identity import Identity
from net.one_rtt_packet import ONE_RTT
from net.one_rtt_reading import ReadingConnection
from net.quic_configuration import Configurations
from net.quic_connection import LinkConnection, initial_header
from net.transport import TransportSettings
from net.udp import Address

DIALLER: Address = ("127.0.0.1", 1)
ACCEPTOR: Address = ("127.0.0.1", 2)
SETTINGS = TransportSettings()
DIALLERS, ACCEPTORS = (Configurations(Identity.generate(number), SETTINGS) for number in (1, 2))


class GeneralConnection(LinkConnection):
    """What there was before: every packet read and built by aioquic."""

    def _confirm_handshake(self) -> None:
        super(ReadingConnection, self)._confirm_handshake()


@dataclass
class Network:
    """Two connections in virtual time, with a link that loses, delays, swaps and doubles datagrams."""

    kinds: tuple[type[LinkConnection], type[LinkConnection]]
    seed: int
    loss: float = 0.0
    doubled: float = 0.0
    delay_s: float = 0.001
    jitter_s: float = 0.0
    limits: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 1_000.0
        self.ends: list[LinkConnection | None] = [None, None]
        self.heard: tuple[dict[int, bytearray], dict[int, bytearray]] = (
            defaultdict(bytearray),
            defaultdict(bytearray),
        )
        self.finished: tuple[set[int], set[int]] = (set(), set())
        self.datagrams: tuple[list[bytes], list[bytes]] = ([], [])
        self.datagrams_sent = 0
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        configuration = DIALLERS.dialler(ACCEPTOR, 2, None)
        self._limit(configuration)
        dialler = self.kinds[0](configuration=configuration, ack_delay_s=SETTINGS.ack_delay_s)
        dialler.connect(ACCEPTOR, self.now)
        self.ends[0] = dialler

    def _limit(self, configuration: Any) -> None:
        for name, value in self.limits.items():
            setattr(configuration, name, value)

    def end(self, side: int) -> LinkConnection:
        connection = self.ends[side]
        assert connection is not None
        return connection

    def transmit(self, side: int) -> None:
        connection = self.ends[side]
        if connection is None:
            return
        for data, _ in connection.datagrams_to_send(self.now):
            self.datagrams_sent += 1
            for _ in range(1 + (self.random.random() < self.doubled)):
                if self.random.random() >= self.loss:
                    self._count += 1
                    due = self.now + self.delay_s + self.random.random() * self.jitter_s
                    heapq.heappush(self._flying, (due, self._count, 1 - side, data))

    def _receive(self, side: int, data: bytes) -> None:
        if self.ends[side] is None:
            header = initial_header(data, 8)
            assert header is not None
            configuration = ACCEPTORS.acceptor(DIALLER)
            self._limit(configuration)
            self.ends[side] = self.kinds[side](
                configuration=configuration,
                ack_delay_s=SETTINGS.ack_delay_s,
                original_destination_connection_id=header.destination_cid,
            )
        self.end(side).receive_datagram(data, (DIALLER, ACCEPTOR)[1 - side], self.now)
        self._hear(side)

    def _hear(self, side: int) -> None:
        while (event := self.end(side).next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                self.heard[side][event.stream_id] += event.data
                if event.end_stream:
                    assert event.stream_id not in self.finished[side]
                    self.finished[side].add(event.stream_id)
            elif isinstance(event, events.DatagramFrameReceived):
                self.datagrams[side].append(event.data)
            elif isinstance(event, events.ConnectionTerminated):
                pytest.fail(f"{event}")

    def run(self, seconds: float) -> None:
        """Let time pass: deliver what flies, ring timers."""
        until = self.now + seconds
        while True:
            due = [(self._flying[0][0], -1)] if self._flying else []
            # Late by a moment, as a clock is: sums of doubles may miss the very instant.
            due += [(max(at, self.now) + 1e-6, side) for side in (0, 1) if (at := self.timer(side)) is not None]
            at, which = min(due, default=(until, -2))
            if at >= until:
                self.now = until
                return
            self.now = at
            if which == -1:
                _, _, side, data = heapq.heappop(self._flying)
                self._receive(side, data)
                self.received(side)
            else:
                self.ring(which)

    def timer(self, side: int) -> float | None:
        connection = self.ends[side]
        return None if connection is None else connection.get_timer()

    def received(self, side: int) -> None:
        self.transmit(side)

    def ring(self, side: int) -> None:
        self.end(side).handle_timer(self.now)
        self.transmit(side)

    def settle(self) -> None:
        """A perfect link until all is said."""
        self.loss = self.doubled = self.jitter_s = 0.0
        self.run(8.0)


class LazyNetwork(Network):
    """As an endpoint has it: a timer is moved only to come earlier, and who rests after a packet is not asked to send.

    After every step it checks what that rests on.
    """

    def __post_init__(self) -> None:
        self.timers: list[float | None] = [None, None]
        self.rested = 0
        super().__post_init__()

    def rests(self, side: int) -> bool:
        timer, connection = self.timers[side], self.end(side)
        if timer is None or not connection.rests_until(timer):
            return False
        due = connection.get_timer()
        assert due is None or due >= timer - 1e-9
        for stream in connection._streams_queue:
            assert stream.sender.buffer_is_empty or stream.is_blocked
            assert not stream.sender.reset_pending
            assert not stream.receiver.stop_pending
        return True

    def arm(self, side: int) -> None:
        connection, timer = self.ends[side], self.timers[side]
        if connection is None or self.rests(side):
            return
        due = connection.get_timer()
        if due is not None and (timer is None or due < timer):
            self.timers[side] = due

    def transmit(self, side: int) -> None:
        super().transmit(side)
        self.check(side)
        self.arm(side)

    def check(self, side: int) -> None:
        connection = self.ends[side]
        if connection is not None and connection._plain:
            assert connection._one_rtt is not None
            assert connection._is_steady(connection._one_rtt)
            assert connection._limits_are_told()

    def timer(self, side: int) -> float | None:
        return self.timers[side]

    def received(self, side: int) -> None:
        self.check(side)
        if self.rests(side):
            self.rested += 1
        else:
            self.transmit(side)

    def ring(self, side: int) -> None:
        self.timers[side] = None
        due = self.end(side).get_timer()
        if due is not None and due <= self.now:
            super().ring(side)
        else:
            self.arm(side)


SHORT = LinkConnection
KINDS = [(SHORT, SHORT), (SHORT, GeneralConnection), (GeneralConnection, SHORT)]


def talk(network: Network, turns: int) -> tuple[dict[int, bytearray], dict[int, bytearray]]:
    """Random messages both ways on streams of their own and on lasting ones; what each side should have heard."""
    source = network.random
    network.run(1.0)
    lasting = [network.end(side).get_next_available_stream_id(is_unidirectional=True) for side in (0, 1)]
    said: tuple[dict[int, bytearray], dict[int, bytearray]] = (defaultdict(bytearray), defaultdict(bytearray))
    for side in (0, 1):
        network.end(side).send_stream_data(lasting[side], b"first")
        said[1 - side][lasting[side]] += b"first"
    for turn in range(turns):
        for side in (0, 1):
            connection = network.end(side)
            for _ in range(source.randrange(4)):
                data = source.randbytes(source.choice((1, 40, 200, 1_000, 9_000)))
                own = source.random() < 0.6
                fresh = connection.get_next_available_stream_id(is_unidirectional=True)
                stream_id = fresh if own else lasting[side]
                connection.send_stream_data(stream_id, data, end_stream=own)
                said[1 - side][stream_id] += data
            if source.random() < 0.1:
                connection.send_datagram_frame(b"digest")
            network.transmit(side)
        if turn == turns // 2:
            network.end(0).request_key_update()
        network.run(source.random() * 0.01)
    return said


def state_of(connection: QuicConnection) -> tuple[Any, ...]:
    """What must be nothing once all is said and acknowledged."""
    space = connection._loss.spaces[2]
    waiting = [stream for stream in connection._streams_queue if not stream.sender.buffer_is_empty]
    buffers = sum(len(stream.sender._buffer) for stream in connection._streams.values())
    return connection._loss.bytes_in_flight, space.ack_eliciting_in_flight, len(waiting), buffers, space.loss_time


@pytest.mark.parametrize("kinds", KINDS, ids=["both short", "dialler short", "acceptor short"])
@pytest.mark.parametrize("seed", range(6))
def test_all_that_is_said_arrives_whole_and_once_over_any_link(
    kinds: tuple[type[LinkConnection], type[LinkConnection]], seed: int
) -> None:
    network = Network(kinds, seed, loss=0.02 * seed, doubled=0.02, jitter_s=0.002 * seed)
    said = talk(network, 120)
    network.settle()
    for side in (0, 1):
        assert network.heard[side] == said[side]
        lasting = min(said[side])
        assert network.finished[side] == set(said[side]) - {lasting}
        assert state_of(network.end(side)) == (0, 0, 0, 0, None)
        assert network.end(side).open_streams() <= 2
        assert network.end(side)._cryptos[ONE_RTT].recv.key_phase == 1


def speak_of_everything(network: Network, said: tuple[dict[int, bytearray], dict[int, bytearray]]) -> None:
    """Whatever else a connection can be asked for, among data that ends with a frame of its own."""
    source = network.random
    for _ in range(20):
        side = source.randrange(2)
        connection = network.end(side)
        match source.randrange(4):
            case 0:
                connection.send_ping(1)
            case 1:
                connection.send_datagram_frame(bytes(source.randrange(900)))
            case 2:
                connection.change_connection_id()
            case 3:
                stream_id = connection.get_next_available_stream_id(is_unidirectional=True)
                for _ in range(source.randrange(1, 4)):
                    data = source.randbytes(source.randrange(1, 9_000))
                    connection.send_stream_data(stream_id, data)
                    said[1 - side][stream_id] += data
                    if source.random() < 0.5:
                        network.transmit(side)
                        network.run(source.random() * 0.02)
                connection.send_stream_data(stream_id, b"", end_stream=True)
        network.transmit(side)
        network.run(source.random() * 0.05)


@pytest.mark.parametrize("seed", range(8))
def test_who_rests_has_nothing_to_say_and_all_arrives_though_timers_are_lazy(seed: int) -> None:
    limits = [{}, {"max_data": 20_000, "max_stream_data": 6_000}, {"max_data": 200_000, "max_stream_data": 100_000}]
    network = LazyNetwork(
        (SHORT, SHORT),
        seed,
        loss=(0.0, 0.005, 0.02, 0.1)[seed % 4],
        doubled=0.1 * (seed % 2),
        jitter_s=(0.0, 0.001, 0.01)[seed % 3],
        limits=limits[seed % 3],
    )
    network.transmit(0)
    said = talk(network, 60)
    speak_of_everything(network, said)
    network.settle()
    for side in (0, 1):
        assert network.heard[side] == said[side]
        streams = network.end(side)._streams.values()
        assert not [each for each in streams if each.sender._buffer_fin is not None and not each.sender.is_finished]
    assert network.rested > 0


def test_a_lost_end_of_a_stream_goes_again_though_a_plain_packet_goes_before_it() -> None:
    network = Network((SHORT, SHORT), 1)
    network.run(1.0)
    speaker, hearer = network.end(0), network.end(1)
    stream_id = speaker.get_next_available_stream_id(is_unidirectional=True)

    def written(data: bytes, end_stream: bool) -> list[bytes]:
        network.now += 0.005
        speaker.send_stream_data(stream_id, data, end_stream)
        return [datagram for datagram, _ in speaker.datagrams_to_send(network.now)]

    # The head is lost and the end is lost; the middle arrives.
    written(b"A" * 50, False)
    middle = written(b"B" * 50, False)
    written(b"", True)
    for datagram in middle:
        hearer.receive_datagram(datagram, DIALLER, network.now)
    sender = speaker._streams[stream_id].sender
    sender.on_data_delivery(QuicDeliveryState.LOST, 0, 50, False)
    sender.on_data_delivery(QuicDeliveryState.LOST, 100, 100, True)
    network.now += 0.005
    for datagram, _ in speaker.datagrams_to_send(network.now):
        hearer.receive_datagram(datagram, DIALLER, network.now)
    network._hear(1)
    assert network.heard[1] == {stream_id: b"A" * 50 + b"B" * 50}
    assert network.finished[1] == {stream_id}


def test_a_plain_exchange_takes_the_short_way_only() -> None:
    network = Network((SHORT, SHORT), 1)
    network.run(1.0)
    before = [(end.packets_built_short, end.packets_read_short) for end in map(network.end, (0, 1))]
    sent_before = network.datagrams_sent
    for _ in range(100):
        for side in (0, 1):
            end = network.end(side)
            end.send_stream_data(end.get_next_available_stream_id(is_unidirectional=True), bytes(200), end_stream=True)
            network.transmit(side)
            network.run(0.004)
    network.run(1.0)
    built = sum(network.end(side).packets_built_short - before[side][0] for side in (0, 1))
    read = sum(network.end(side).packets_read_short - before[side][1] for side in (0, 1))
    sent = network.datagrams_sent - sent_before
    # Now and then MAX_STREAMS rides along, which aioquic writes.
    assert sent >= 200
    assert built >= 0.95 * sent
    assert read == sent


def test_limits_are_raised_as_streams_and_bytes_are_used() -> None:
    for kinds in KINDS:
        network = Network(kinds, 3, limits={"max_data": 40_000, "max_stream_data": 20_000})
        network.run(1.0)
        end = network.end(0)
        lasting = end.get_next_available_stream_id(is_unidirectional=True)
        said: dict[int, bytearray] = defaultdict(bytearray)
        end.send_stream_data(lasting, b"first")
        said[lasting] += b"first"
        for number in range(400):
            data = bytes([number % 251]) * 700
            own = end.get_next_available_stream_id(is_unidirectional=True) if number % 2 else lasting
            end.send_stream_data(own, data, end_stream=own != lasting)
            said[own] += data
            network.transmit(0)
            network.run(0.002)
        network.settle()
        assert network.heard[1] == said


@pytest.mark.parametrize("kinds", KINDS, ids=["both short", "dialler short", "acceptor short"])
def test_streams_that_end_by_an_acknowledgement_alone_make_room_for_new_ones(
    kinds: tuple[type[LinkConnection], type[LinkConnection]],
) -> None:
    """Requests as HTTP/3 has them, more at once than there may be streams, and no heartbeat that would help out."""
    network = Network(kinds, 1, delay_s=0.02)
    answered: set[int] = set()
    network.run(1.0)
    dialler, acceptor = network.end(0), network.end(1)
    for _ in range(200):
        dialler.send_stream_data(dialler.get_next_available_stream_id(), b"GET", end_stream=True)
    network.transmit(0)
    for _ in range(200):
        network.run(0.01)
        for stream_id in network.finished[1] - answered:
            answered.add(stream_id)
            acceptor.send_stream_data(stream_id, b"ok" * 20, end_stream=True)
        network.transmit(1)
    assert len(network.finished[0]) == 200


@pytest.mark.parametrize("kinds", KINDS, ids=["both short", "dialler short", "acceptor short"])
def test_a_limit_that_was_lost_is_told_again_though_nothing_else_is_to_be_said(
    kinds: tuple[type[LinkConnection], type[LinkConnection]],
) -> None:
    network = Network(kinds, 1, delay_s=0.02, limits={"max_data": 30_000, "max_stream_data": 4_000_000})
    network.run(1.0)
    speaker, hearer = network.end(0), network.end(1)
    stream_id = speaker.get_next_available_stream_id(is_unidirectional=True)
    back = hearer.get_next_available_stream_id(is_unidirectional=True)
    hearer.send_stream_data(back, b"x")
    network.transmit(1)
    network.run(1.0)
    transmit, limit, lost = network.transmit, hearer._local_max_data, []

    def losing_the_first_limit(side: int) -> None:
        before = limit.sent
        if side == 1 and not lost and network.ends[1] is not None:
            # What the hearer would send now is lost where it raises the limit; its next packet arrives, and proves it.
            loss, network.loss = network.loss, 1.0
            transmit(1)
            network.loss = loss
            if limit.sent not in (before, 0):
                lost.append(limit.sent)
                hearer.send_stream_data(back, b"y")
                transmit(1)
            return
        transmit(side)

    network.transmit = losing_the_first_limit  # type: ignore[method-assign]
    speaker.send_stream_data(stream_id, bytes(60_000))
    network.transmit(0)
    network.run(25.0)
    assert lost
    assert len(network.heard[1][stream_id]) == 60_000


@pytest.mark.parametrize("side", [0, 1])
def test_altered_and_repeated_packets_change_nothing(side: int) -> None:
    network = Network((SHORT, SHORT), 5)
    network.run(1.0)
    end, peer = network.end(side), network.end(1 - side)
    stream_id = end.get_next_available_stream_id(is_unidirectional=True)
    end.send_stream_data(stream_id, b"whole")
    ((datagram, _),) = end.datagrams_to_send(network.now)
    address = (DIALLER, ACCEPTOR)[side]
    source = random.Random(9)
    before = peer.newest_packet_received()
    for _ in range(300):
        altered = bytearray(datagram)
        altered[source.randrange(len(altered))] ^= 1 << source.randrange(8)
        peer.receive_datagram(bytes(altered), address, network.now)
        peer.receive_datagram(datagram[: source.randrange(len(datagram))], address, network.now)
    assert peer.newest_packet_received() == before
    assert peer.closing_reason() is None
    for _ in range(3):
        peer.receive_datagram(datagram, address, network.now)
    network._hear(1 - side)
    assert network.heard[1 - side] == {stream_id: b"whole"}


@pytest.mark.parametrize(
    "frames", [b"\x02\x00\x00", b"\x0a\x03\x09\x00", b"\x21\x00\x00\x00", b"\x0a\x03\x40", b"\x0e\x02\x00\x40"]
)
def test_malformed_frames_of_a_peer_close_the_connection_with_a_reason(frames: bytes) -> None:
    reasons = []
    for kind in (SHORT, GeneralConnection):
        network = Network((kind, kind), 7)
        network.run(1.0)
        speaker, hearer = network.end(0), network.end(1)
        number = speaker._packet_number
        header = bytes((0x41 | (speaker._spin_bit << 5),)) + speaker._peer_cid.cid + number.to_bytes(2)
        sealed = speaker._cryptos[ONE_RTT].send.encrypt_packet(header, frames, number)
        hearer.receive_datagram(sealed, DIALLER, network.now)
        reasons.append(hearer.closing_reason())
    assert reasons[0] == reasons[1]
    assert reasons[0]
