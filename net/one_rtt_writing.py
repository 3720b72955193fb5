"""Building the packets of a connection in its steady state without aioquic's general machinery.

The counterpart of `net/one_rtt_reading.py`: while nothing but stream data and an acknowledgement of one range waits,
and fits one packet, the packet is written directly. Everything else (lost bytes in several ranges, a limit to raise, a
full congestion window, pacing, a path to validate) aioquic builds, and nothing has been changed before.
"""

from __future__ import annotations

from typing import Any, Final

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.stream import QuicStream, QuicStreamSender

from net.one_rtt_packet import (
    ACK_FRAME,
    ACK_TYPE,
    EIGHT_BYTES,
    FIN_BIT,
    FIXED_BIT,
    ONE_RTT,
    ONE_WAY_BIT,
    PACKET_NUMBER_BYTES,
    STREAM_HEAD,
    STREAM_TYPE,
    TAG_BYTES,
    TWO_BYTES,
    TWO_BYTES_MAX,
    OneRtt,
    ranges_of,
    seal_packet,
)
from net.one_rtt_reading import ACKED, CONNECTED, ReadingConnection
from net.udp import Address

_Bytes = bytes | bytearray
_PACKET_TYPE: Final = QuicPacketType.ONE_RTT


def _wants_a_probe(path: Any) -> bool:
    """Whether a path that is not the one in use has something to be told on it (RFC 9000 §9.5)."""
    return bool(path.remote_challenges) or not (path.is_validated or path.local_challenge_sent)


class SteadyConnection(ReadingConnection):
    """A connection that reads and builds the short way while it is steady.

    What a peer sees differs in shape only: integers are as long as they may become, and an acknowledgement reaches at
    most 16,384 packets back.
    """

    packets_built_short = 0

    # What may give the connection something else to say than stream data

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        stream = self._streams.get(stream_id)
        own = not stream_id & ONE_WAY_BIT or stream_id & 0x01 != self._is_client
        if stream is None or end_stream or not own or not _append(stream.sender, data):
            super().send_stream_data(stream_id, data, end_stream)
            if self._streams_blocked_pending:
                self._plain = False

    def send_datagram_frame(self, data: bytes) -> None:
        self._plain = False
        super().send_datagram_frame(data)

    def send_ping(self, uid: int) -> None:
        self._plain = False
        super().send_ping(uid)

    def request_key_update(self) -> None:
        self._plain = False
        super().request_key_update()

    def change_connection_id(self) -> None:
        self._plain = False
        super().change_connection_id()

    def close(self, *arguments: Any, **named: Any) -> None:
        self._plain = False
        super().close(*arguments, **named)

    def handle_timer(self, now: float) -> None:
        self._plain = False
        super().handle_timer(now)

    # Sending

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """As aioquic's, but a waiting acknowledgement rides with data that leaves: half the packets of a round.

        aioquic writes one only once its timer has expired.
        """
        datagram = self._build_short(now)
        if datagram is None:
            self._hasten_ack(now)
            self._plain = False
            return super().datagrams_to_send(now)
        return [(datagram, self._network_paths[0].addr)] if datagram else []

    def _hasten_ack(self, now: float) -> None:
        if self._one_rtt is None:
            return
        space = self._one_rtt.space
        if space.ack_at is None or space.ack_at <= now:
            return
        loss = self._loss
        if loss.congestion_window - loss.bytes_in_flight < self._max_datagram_size:
            return
        if loss._pacer.next_send_time(now=now) is not None:
            return
        has_data = any(not stream.sender.buffer_is_empty and not stream.is_blocked for stream in self._streams_queue)
        if self._datagrams_pending or has_data:
            space.ack_at = now

    def get_timer(self) -> float | None:
        """As aioquic's: when `handle_timer` is due."""
        steady = self._one_rtt
        if steady is None or self._state is not CONNECTED or not self._network_paths[0].is_validated:
            return super().get_timer()
        loss, space = self._loss, steady.space
        loss_at: float | None = space.loss_time
        if loss_at is None and space.ack_eliciting_in_flight:
            probe_s = loss.get_probe_timeout() * (1 << loss._pto_count)
            loss_at = loss._time_of_last_sent_ack_eliciting_packet + probe_s
        self._loss_at = loss_at
        due = self._close_at
        for each in (loss_at, space.ack_at, self._pacing_at):
            if each is not None and (due is None or each < due):
                due = each
        return due

    def rests_until(self, at: float) -> bool:
        """Whether there is nothing to send and no timer can be due before `at`, without working out when one is.

        Data that may not leave yet had aioquic asked for it, after which the connection does not count as plain.
        """
        steady = self._one_rtt
        if steady is None or not self._plain or self._pacing_at is not None:
            return False
        space, loss = steady.space, self._loss
        return (
            space.loss_time is None
            and (space.ack_at is None or at <= space.ack_at)
            and at <= (self._close_at or at)
            # The least that a probe timeout can be (RFC 9002 §6.2.1).
            and (
                not space.ack_eliciting_in_flight
                or at <= loss._time_of_last_sent_ack_eliciting_packet + loss.max_ack_delay
            )
        )

    def _is_steady(self, steady: OneRtt) -> bool:
        """Whether a packet can carry nothing but an acknowledgement and stream data."""
        if (
            not self._reads_plainly(steady)
            or self._handshake_done_pending
            or self._datagrams_pending
            or self._ping_pending
            or self._probe_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or any(_wants_a_probe(path) for path in self._network_paths[1:])
            or self._remote_preferred_address is not None
            or not steady.crypto_sender.buffer_is_empty
            or steady.crypto._update_key_requested
        ):
            return False
        return not self._network_paths[0].remote_challenges

    def _limits_are_told(self) -> bool:
        """Whether no MAX_DATA, MAX_STREAMS, MAX_STREAM_DATA or NEW_CONNECTION_ID is due."""
        data = self._local_max_data
        if data.used * 2 > data.value or data.value != data.sent:
            return False
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            if limit.value != limit.sent and limit.sent - limit.used < limit.value - limit.sent:
                return False
        for stream in self._streams.values():
            limit_bytes = stream.max_stream_data_local
            if limit_bytes != stream.max_stream_data_local_sent:
                return False
            if limit_bytes and stream.receiver.highest_offset * 2 > limit_bytes:
                return False
        # A list: a generator costs a tenth of building the packet.
        return False not in [connection_id.was_sent for connection_id in self._host_cids]

    def _build_short(self, now: float) -> bytes | None:
        """The one packet that holds all that waits; b"" where nothing does; None where aioquic must build."""
        steady = self._one_rtt
        if steady is None or not (self._plain or self._is_steady(steady)):
            return None
        space = steady.space
        waiting: list[tuple[QuicStream, range]] = []
        finished, stream_bytes, new_bytes = False, 0, 0
        for stream in self._streams_queue:
            sender = stream.sender
            if sender.is_finished and stream.receiver.is_finished:
                finished = True
            elif stream.receiver.stop_pending or sender.reset_pending:
                return None
            elif not sender.buffer_is_empty and not stream.is_blocked:
                ranges = ranges_of(sender._pending)
                if len(ranges) != 1:
                    return None
                start, stop = ranges[0].start, ranges[0].stop
                if stop - start > TWO_BYTES_MAX or stop > stream.max_stream_data_remote:
                    return None
                if sender._pending_eof and stop != sender._buffer_fin:
                    return None  # the stream's end was lost apart from these bytes: it is a frame of its own
                stream_bytes += STREAM_HEAD.size + stop - start
                if stop > sender.highest_offset:
                    new_bytes += stop - sender.highest_offset
                waiting.append((stream, ranges[0]))
        acknowledges = space.ack_at is not None and (space.ack_at <= now or bool(waiting))
        if finished:
            self._discard_finished()
        if not self._plain:
            self._plain = self._limits_are_told()
        if not waiting and not acknowledges:
            # A limit to raise rides with the acknowledgement that is due soon; where none is, it must go by itself.
            if space.ack_at is None and not self._plain:
                return None
            self._pacing_at = None
            return b""
        if not self._plain or (acknowledges and len(steady.acknowledges) != 1):
            return None
        if waiting and not self._may_send(stream_bytes, new_bytes, now):
            return None
        self._pacing_at = None
        return self._write_short(steady, waiting, acknowledges, now)

    def _may_send(self, stream_bytes: int, new_bytes: int, now: float) -> bool:
        """Whether so much fits one packet, the congestion window and the peer's credit, and the pacer lets it go."""
        loss = self._loss
        room = min(self._max_datagram_size, loss._cc.congestion_window - loss._cc.bytes_in_flight)
        room -= 1 + len(self._peer_cid.cid) + PACKET_NUMBER_BYTES + TAG_BYTES + ACK_FRAME.size
        if stream_bytes > room or self._remote_max_data_used + new_bytes > self._remote_max_data:
            return False
        return loss._pacer.packet_time is None or loss._pacer.next_send_time(now=now) is None

    def _discard_finished(self) -> None:
        for stream_id in [stream_id for stream_id, stream in self._streams.items() if stream.is_finished]:
            del self._streams[stream_id]
            if stream_id & 0x01 == self._is_client:
                # Let the peer open a new stream for each one that closes (RFC 9000 §4.6).
                self._stream_limit(stream_id).value += 1
                self._plain = False
        self._streams_queue = [stream for stream in self._streams_queue if not stream.is_finished]

    def _write_short(
        self, steady: OneRtt, waiting: list[tuple[QuicStream, range]], acknowledges: bool, now: float
    ) -> bytes:
        space = steady.space
        eliciting = bool(waiting)
        parts: list[_Bytes] = []
        if acknowledges:
            received = steady.acknowledges[0]
            delay = int((now - space.largest_received_time) * 1e6) >> self._local_ack_delay_exponent
            reach = len(received) - 1
            if delay > TWO_BYTES_MAX or reach > TWO_BYTES_MAX:
                # What lies further back was acknowledged before; a delay too long for the field is told as its maximum.
                delay, reach = min(delay, TWO_BYTES_MAX), min(reach, TWO_BYTES_MAX)
            parts.append(
                ACK_FRAME.pack(ACK_TYPE, EIGHT_BYTES | received.stop - 1, TWO_BYTES | delay, 0, TWO_BYTES | reach)
            )
            space.ack_at = None
        delivery = [self._take_pending(stream, pending, parts) for stream, pending in waiting]
        if len(self._streams_queue) > len(waiting):
            served = {stream for stream, _ in waiting}
            rest = [stream for stream in self._streams_queue if stream not in served]
            self._streams_queue = rest + [stream for stream, _ in waiting]
        number = self._packet_number
        first = FIXED_BIT | (self._spin_bit << 5) | (steady.receive.key_phase << 2) | (PACKET_NUMBER_BYTES - 1)
        datagram = seal_packet(first, self._peer_cid.cid, number, b"".join(parts), steady)
        self._packet_number = number + 1
        loss = self._loss
        space.sent_packets[number] = packet = QuicSentPacket(
            ONE_RTT, eliciting, eliciting, False, number, _PACKET_TYPE, now, len(datagram), delivery
        )
        if eliciting:
            space.ack_eliciting_in_flight += 1
            loss._time_of_last_sent_ack_eliciting_packet = now
            loss._cc.on_packet_sent(packet=packet)
            if not self._ack_eliciting_sent_since_receipt:
                self._restart_idle_timer(now)
                self._ack_eliciting_sent_since_receipt = True
        if loss._pacer.packet_time is not None:
            loss._pacer.update_after_send(now=now)
        self.packets_built_short += 1
        return datagram

    def _take_pending(self, stream: QuicStream, pending: range, parts: list[_Bytes]) -> tuple[Any, Any]:
        """Add all that a stream has to send to `parts`, in one frame; gives whom to tell when it arrives or is lost."""
        sender, stream_id = stream.sender, stream.stream_id
        assert stream_id is not None
        start, stop = pending.start, pending.stop
        base = sender._buffer_start
        data = sender._buffer[start - base : stop - base]
        ranges_of(sender._pending).clear()
        fin = sender._buffer_fin == stop
        if fin:
            sender._pending_eof = False
        sender.buffer_is_empty = not sender._pending_eof
        if stop > sender.highest_offset:
            self._remote_max_data_used += stop - sender.highest_offset
            sender.highest_offset = stop
        kind = STREAM_TYPE | FIN_BIT if fin else STREAM_TYPE
        parts += STREAM_HEAD.pack(kind, EIGHT_BYTES | stream_id, EIGHT_BYTES | start, TWO_BYTES | stop - start), data
        return stream_delivered, (sender, start, stop, fin)


def _append(sender: QuicStreamSender, data: bytes) -> bool:
    """Write more of a stream that is under way; False, with nothing written, where aioquic must judge."""
    if not data or sender._buffer_fin is not None or sender._reset_error_code is not None:
        return False
    ranges, start = ranges_of(sender._pending), sender._buffer_stop
    sender._buffer += data
    sender._buffer_stop = start + len(data)
    if ranges and ranges[-1].stop == start:
        ranges[-1] = range(ranges[-1].start, sender._buffer_stop)
    else:
        ranges.append(range(start, sender._buffer_stop))
    sender.buffer_is_empty = False
    return True


def stream_delivered(delivery: QuicDeliveryState, sender: QuicStreamSender, start: int, stop: int, fin: bool) -> None:
    """As aioquic's own, which this leaves all to but the plain case: the oldest bytes have arrived."""
    if (
        delivery is not ACKED
        or start != sender._buffer_start
        or ranges_of(sender._acked)
        or sender._reset_error_code is not None
    ):
        sender.on_data_delivery(delivery, start, stop, fin)
        return
    sender._buffer_start = stop
    del sender._buffer[: stop - start]
    if fin:
        sender._acked_fin = True
    if stop == sender._buffer_fin and sender._acked_fin:
        sender.is_finished = True
