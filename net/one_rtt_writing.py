"""Building the packets of a connection in its steady state without aioquic's general machinery.

The counterpart of `net/one_rtt_reading.py`: while nothing but stream data and an acknowledgement of one range waits,
and fits one packet, the packet is written directly. Everything else (lost bytes in several ranges, a limit to raise, a
full congestion window, pacing, a path to validate) aioquic builds, and nothing has been changed before.
"""

from __future__ import annotations

from typing import Any, Final

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.stream import QuicStream

from net.one_rtt_packet import FIXED_BIT, ONE_RTT, PACKET_NUMBER_BYTES, TAG_BYTES, OneRtt, seal_packet
from net.one_rtt_reading import FIN_BIT, LENGTH_BIT, OFFSET_BIT, ReadingConnection
from net.udp import Address

_ACK_BYTES_MAX: Final = 1 + 4 * 8
_STREAM_HEAD_BYTES_MAX: Final = 1 + 8 + 8 + 2
_STREAM_BYTES_MAX: Final = 0x3FFF
"""What a length of two bytes holds (RFC 9000 §16)."""
_LENGTH_OF_TWO_BYTES: Final = 0x4000


def _wants_a_probe(path: Any) -> bool:
    """Whether a path that is not the one in use has something to be told on it (RFC 9000 §9.5)."""
    return bool(path.remote_challenges) or not (path.is_validated or path.local_challenge_sent)


class SteadyConnection(ReadingConnection):
    """A connection that reads and builds the short way while it is steady. What a peer sees is the same either way."""

    packets_built_short = 0

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """As aioquic's, but a waiting acknowledgement rides with data that leaves: half the packets of a round.

        aioquic writes one only once its timer has expired.
        """
        datagram = self._build_short(now)
        if datagram is None:
            self._hasten_ack(now)
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
        if (
            steady is None
            or self._state is not QuicConnectionState.CONNECTED
            or not self._network_paths[0].is_validated
        ):
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

    def _is_steady(self, steady: OneRtt) -> bool:
        """Whether a packet can carry nothing but an acknowledgement and stream data."""
        if (
            self._state is not QuicConnectionState.CONNECTED
            or self._close_pending
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
        path = self._network_paths[0]
        return path.is_validated and not path.remote_challenges

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
        if steady is None or not self._is_steady(steady):
            return None
        loss, space = self._loss, steady.space
        waiting: list[tuple[QuicStream, range]] = []
        finished = False
        room = min(self._max_datagram_size, loss.congestion_window - loss.bytes_in_flight)
        room -= 1 + len(self._peer_cid.cid) + PACKET_NUMBER_BYTES + TAG_BYTES + _ACK_BYTES_MAX
        credit = self._remote_max_data - self._remote_max_data_used
        for stream in self._streams_queue:
            sender = stream.sender
            if sender.is_finished and stream.receiver.is_finished:
                finished = True
            elif stream.receiver.stop_pending or sender.reset_pending:
                return None
            elif not sender.buffer_is_empty and not stream.is_blocked:
                if len(sender._pending) != 1:
                    return None
                pending = sender._pending[0]
                length = len(pending)
                room -= _STREAM_HEAD_BYTES_MAX + length
                credit -= max(0, pending.stop - sender.highest_offset)
                if room < 0 or credit < 0 or length > _STREAM_BYTES_MAX:
                    return None
                if pending.stop > stream.max_stream_data_remote:
                    return None
                waiting.append((stream, pending))
        acknowledges = space.ack_at is not None and (space.ack_at <= now or bool(waiting))
        if finished:
            self._discard_finished()
        if not waiting and not acknowledges:
            # A limit to raise rides with the acknowledgement that is due soon; where none is, it must go by itself.
            if space.ack_at is None and not self._limits_are_told():
                return None
            self._pacing_at = None
            return b""
        if not self._limits_are_told() or (acknowledges and len(space.ack_queue) != 1):
            return None
        if waiting and loss._pacer.next_send_time(now=now) is not None:
            return None
        self._pacing_at = None
        return self._write_short(steady, waiting, acknowledges, now)

    def _discard_finished(self) -> None:
        for stream_id in [stream_id for stream_id, stream in self._streams.items() if stream.is_finished]:
            del self._streams[stream_id]
            if stream_id & 0x01 == self._is_client:
                # Let the peer open a new stream for each one that closes (RFC 9000 §4.6).
                self._stream_limit(stream_id).value += 1
        self._streams_queue = [stream for stream in self._streams_queue if not stream.is_finished]

    def _write_short(
        self, steady: OneRtt, waiting: list[tuple[QuicStream, range]], acknowledges: bool, now: float
    ) -> bytes:
        space = steady.space
        buffer = Buffer(capacity=self._max_datagram_size)
        delivery: list[tuple[Any, Any]] = []
        if acknowledges:
            received = space.ack_queue[0]
            buffer.push_uint8(QuicFrameType.ACK)
            buffer.push_uint_var(received.stop - 1)
            buffer.push_uint_var(int((now - space.largest_received_time) * 1e6) >> self._local_ack_delay_exponent)
            buffer.push_uint8(0)
            buffer.push_uint_var(len(received) - 1)
            delivery.append((self._on_ack_delivery, (space, space.largest_received_packet)))
            space.ack_at = None
        for stream, pending in waiting:
            delivery.append(self._write_stream(stream, pending, buffer))
        if len(self._streams_queue) > len(waiting):
            served = {stream for stream, _ in waiting}
            rest = [stream for stream in self._streams_queue if stream not in served]
            self._streams_queue = rest + [stream for stream, _ in waiting]
        number = self._packet_number
        first = FIXED_BIT | (self._spin_bit << 5) | (steady.receive.key_phase << 2) | (PACKET_NUMBER_BYTES - 1)
        datagram = seal_packet(first, self._peer_cid.cid, number, buffer.data, steady)
        self._packet_number = number + 1
        packet = QuicSentPacket(
            ONE_RTT, bool(waiting), bool(waiting), False, number, QuicPacketType.ONE_RTT, now, len(datagram), delivery
        )
        self._loss.on_packet_sent(packet=packet, space=space)
        self._loss._pacer.update_after_send(now=now)
        if waiting and not self._ack_eliciting_sent_since_receipt:
            self._restart_idle_timer(now)
            self._ack_eliciting_sent_since_receipt = True
        self._network_paths[0].bytes_sent += len(datagram)
        self.packets_built_short += 1
        return datagram

    def _write_stream(self, stream: QuicStream, pending: range, buffer: Buffer) -> tuple[Any, Any]:
        """All that a stream has to send, in one frame; gives what is to be called when it arrives or is lost."""
        sender, stream_id = stream.sender, stream.stream_id
        assert stream_id is not None
        start, stop = pending.start, pending.stop
        base = sender._buffer_start
        data = bytes(sender._buffer[start - base : stop - base])
        sender._pending.shift()
        fin = sender._buffer_fin == stop
        if fin:
            sender._pending_eof = False
        sender.buffer_is_empty = not sender._pending_eof
        if stop > sender.highest_offset:
            self._remote_max_data_used += stop - sender.highest_offset
            sender.highest_offset = stop
        kind = QuicFrameType.STREAM_BASE | LENGTH_BIT | (OFFSET_BIT if start else 0) | (FIN_BIT if fin else 0)
        buffer.push_uint8(kind)
        buffer.push_uint_var(stream_id)
        if start:
            buffer.push_uint_var(start)
        buffer.push_uint16(len(data) | _LENGTH_OF_TWO_BYTES)
        buffer.push_bytes(data)
        return sender.on_data_delivery, (start, stop, fin)
