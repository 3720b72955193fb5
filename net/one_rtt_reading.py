"""Reading the packets of a connection in its steady state without aioquic's general machinery.

Nearly every packet of a swarm is alike: 1-RTT, in order, on the one validated path, an ACK of one range and a STREAM
frame or two. aioquic reads such a packet as it does a handshake's, with contexts, tables and checks for states that lie
behind, and that is most of what a round costs. Here the same fields are read directly. Whatever is not plain (another
path or key, a packet out of order, a gap in the acknowledgements) is left to aioquic before anything has been changed,
and every other frame goes to aioquic's own handler.

Touches private fields of aioquic as `net/quic_connection.py` does, for the same pinned version and under the same test.
"""

from __future__ import annotations

import math
from typing import Any, Final

from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.connection import (
    END_STATES,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.packet import NON_ACK_ELICITING_FRAME_TYPES, QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import StreamFinishedError

from net.one_rtt_packet import (
    ACK_FRAME,
    ACK_TYPE,
    EIGHT_BYTES,
    FIN_BIT,
    LENGTH_BIT,
    OFFSET_BIT,
    ONE_RTT,
    ONE_WAY_BIT,
    SPIN_BIT,
    STREAM_HEAD,
    STREAM_TYPE,
    TWO_BYTES,
    OneRtt,
    open_packet,
)
from net.udp import Address

ROUND_TRIP_EVERY_S: Final = 0.001
"""Acknowledgements that follow sooner give no new sample: aioquic counts no round trip as shorter than this."""
IDLE_TIMER_GRAIN_S: Final = 0.01
"""The idle timer is not put off again within so long: little of the many seconds that ours has."""
# A member of an enumeration is slow to look up.
ACKED: Final = QuicDeliveryState.ACKED
CONNECTED: Final = QuicConnectionState.CONNECTED
_STREAM_OFFSET_MAX: Final = (1 << 62) - 1


class ReadingConnection(QuicConnection):
    """Reads the short way while it is steady, which changes the time that it takes and little else.

    Round trips are measured at most once a millisecond, and the idle timer is up to `IDLE_TIMER_GRAIN_S` early.
    """

    packets_read_short = 0
    _one_rtt: OneRtt | None = None
    _plain = False
    """Whether it is known that nothing but stream data and acknowledgements is to be said, so that no packet need ask.

    Found by `SteadyConnection`; whatever may change it puts it back to False.
    """
    _idle_timer_set_at = _round_trip_measured_at = -math.inf

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        self._one_rtt = OneRtt(self)

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """As aioquic's; times are seconds of the caller's clock."""
        if not self._read_short(data, addr, now):
            self._plain = False
            super().receive_datagram(data, addr, now)

    def _reads_plainly(self, steady: OneRtt) -> bool:
        """Whether a packet can be read without aioquic."""
        return (
            self._state is CONNECTED
            and not self._close_pending
            and self._network_paths[0].is_validated
            and self._loss.peer_completed_address_validation
            and steady.early_data.aead is None
        )

    def _read_short(self, data: bytes, address: Address, now: float) -> bool:
        """Read a packet of the steady state; False, with nothing changed, where it is for aioquic to judge."""
        steady = self._one_rtt
        if steady is None or not (self._plain or self._reads_plainly(steady)):
            return False
        if self._network_paths[0].addr != address:
            return False
        opened = open_packet(data, self.host_cid, steady)
        if opened is None:
            return False
        first, number, payload = opened
        space = steady.space
        self.packets_read_short += 1
        if number >= space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = bool(first & SPIN_BIT) != self._is_client
            self._spin_highest_pn = number
        eliciting = False
        try:
            eliciting = self._read_frames(payload, space, now)
        except QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        # Whatever closes a connection ends that it is plain, which is quicker to see.
        if not self._plain and (self._state in END_STATES or self._close_pending):
            return True
        self._restart_idle_timer(now)
        self._ack_eliciting_sent_since_receipt = False
        space.largest_received_packet = number
        space.largest_received_time = now
        acknowledges = steady.acknowledges
        if acknowledges and acknowledges[-1].stop == number:
            acknowledges[-1] = range(acknowledges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(acknowledges) > MAX_ACK_RANGES:
                space.ack_queue.shift()
        space.received_packets.add(number)
        if eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay
        return True

    def _restart_idle_timer(self, now: float) -> None:
        if now - self._idle_timer_set_at < IDLE_TIMER_GRAIN_S:
            return
        self._idle_timer_set_at = now
        idle_s, peers_s = self._configuration.idle_timeout, self._remote_max_idle_timeout
        if peers_s is not None and peers_s < idle_s:
            idle_s = peers_s
        self._close_at = now + max(idle_s, 3 * self._loss.get_probe_timeout())

    def _read_frames(self, payload: bytes, space: Any, now: float) -> bool:
        """Act on every frame; whether one of them asks for an acknowledgement. Raises QuicConnectionError."""
        at, end, eliciting = 0, len(payload), False
        if payload[0] == ACK_TYPE and end >= ACK_FRAME.size:
            _, largest, delay, more, reach = ACK_FRAME.unpack_from(payload)
            smallest = (largest ^ EIGHT_BYTES) - (reach ^ TWO_BYTES)
            if largest >= EIGHT_BYTES and delay >> 14 == 1 == reach >> 14 and not more and smallest >= 0:
                delay_s = ((delay ^ TWO_BYTES) << self._remote_ack_delay_exponent) / 1e6
                self._acknowledge(smallest, largest ^ EIGHT_BYTES, delay_s, space, now)
                at = ACK_FRAME.size
        while end - at > STREAM_HEAD.size:
            kind, stream_id, offset, length = STREAM_HEAD.unpack_from(payload, at)
            fits = kind & ~FIN_BIT == STREAM_TYPE and stream_id & offset >= EIGHT_BYTES and length >> 14 == 1
            data_at = at + STREAM_HEAD.size
            if not fits or not 0 < (length := length ^ TWO_BYTES) <= end - data_at:
                break
            data = payload[data_at : data_at + length]
            if not self._take(stream_id ^ EIGHT_BYTES, offset ^ EIGHT_BYTES, data, kind & FIN_BIT):
                break
            at, eliciting = data_at + length, True
        if at == end:
            return eliciting
        return self._read_rest(payload, at, space, now) or eliciting

    def _read_rest(self, payload: bytes, at: int, space: Any, now: float) -> bool:
        """Frames in any of their shapes, from `at` on. Raises QuicConnectionError."""
        buffer = Buffer(data=payload)
        buffer.seek(at)
        eliciting = False
        while not buffer.eof():
            kind = payload[buffer.tell()]
            if kind & 0xF8 == QuicFrameType.STREAM_BASE:
                eliciting = True
                if self._read_stream(kind, buffer):
                    continue
            elif kind == ACK_TYPE and self._read_ack(buffer, space, now):
                continue
            if self._read_other(buffer, now):
                eliciting = True
        return eliciting

    def _read_stream(self, kind: int, buffer: Buffer) -> bool:
        """The next bytes, in order, of a stream that is open; False with `buffer` where it was."""
        start = buffer.tell()
        try:
            buffer.pull_uint8()
            stream_id = buffer.pull_uint_var()
            offset = buffer.pull_uint_var() if kind & OFFSET_BIT else 0
            length = buffer.pull_uint_var() if kind & LENGTH_BIT else buffer.capacity - buffer.tell()
        except ValueError:
            buffer.seek(start)
            return False
        if 0 < length <= buffer.capacity - buffer.tell():
            data = buffer.pull_bytes(length)
            if self._take(stream_id, offset, data, kind & FIN_BIT):
                return True
        buffer.seek(start)
        return False

    def _take(self, stream_id: int, offset: int, data: bytes, fin: int) -> bool:
        """Hand up new bytes of a stream where they are its next; False, with nothing done, where that is not plain."""
        limit, length = self._local_max_data, len(data)
        used = limit.used + length
        if used > limit.value or offset + length > _STREAM_OFFSET_MAX:
            return False
        if not self._takes(stream_id, offset, length, fin):
            return False
        limit.used = used
        if used * 2 > limit.value:
            self._plain = False
        self._events.append(events.StreamDataReceived(data, bool(fin), stream_id))
        return True

    def _takes(self, stream_id: int, offset: int, length: int, fin: int) -> bool:
        """Note new bytes of a stream where they are its next; False, with nothing noted, where that is not plain."""
        stream = self._streams.get(stream_id)
        if stream is None:
            # A message on a one-way stream of its own, whole in one frame: opened, finished and discarded in one.
            opened = self._local_max_streams_uni
            if (
                offset
                or not fin
                or stream_id & 0x03 != (ONE_WAY_BIT | self._is_client)
                or stream_id >> 2 != opened.used
                or opened.used >= opened.value
                or length > self._local_max_stream_data_uni
            ):
                return False
            opened.used += 1
            opened.value += 1
            if opened.sent - opened.used < opened.value - opened.sent:
                self._plain = False
            return True
        receiver = stream.receiver
        if (
            offset != receiver._buffer_start
            or offset != receiver.highest_offset
            or receiver._buffer
            or receiver._final_size is not None
            or receiver.is_finished
            or offset + length > stream.max_stream_data_local
        ):
            return False
        receiver._buffer_start = receiver.highest_offset = offset + length
        if receiver.highest_offset * 2 > stream.max_stream_data_local:
            self._plain = False
        if fin:
            receiver._final_size = offset + length
            receiver.is_finished = True
        return True

    def _read_ack(self, buffer: Buffer, space: Any, now: float) -> bool:
        """An ACK of one range (RFC 9000 §19.3); False with `buffer` where it was."""
        start = buffer.tell()
        try:
            buffer.pull_uint8()
            largest = buffer.pull_uint_var()
            delay = buffer.pull_uint_var()
            more_ranges = buffer.pull_uint_var()
            smallest = largest - buffer.pull_uint_var()
        except ValueError:
            buffer.seek(start)
            return False
        if more_ranges or smallest < 0:
            buffer.seek(start)
            return False
        self._acknowledge(smallest, largest, (delay << self._remote_ack_delay_exponent) / 1e6, space, now)
        return True

    def _acknowledge(self, smallest: int, largest: int, delay_s: float, space: Any, now: float) -> None:
        """Packets `smallest` to `largest` have arrived (RFC 9002 §5 and §6; appendix A.7)."""
        loss, sent = self._loss, space.sent_packets
        if largest > space.largest_acked_packet:
            space.largest_acked_packet = largest
        newest, eliciting = None, False
        for number in [number for number in sent if smallest <= number <= largest]:
            newest = sent.pop(number)
            if newest.is_ack_eliciting:
                eliciting = True
                space.ack_eliciting_in_flight -= 1
            if newest.in_flight:
                loss._cc.on_packet_acked(packet=newest, now=now)
            for handler, arguments in newest.delivery_handlers:
                handler(ACKED, *arguments)
        if newest is None:
            return
        if eliciting and newest.packet_number == largest and now - self._round_trip_measured_at >= ROUND_TRIP_EVERY_S:
            self._round_trip_measured_at = now
            _measure_round_trip(loss, now - newest.sent_time, delay_s, now)
        if sent and next(iter(sent)) < space.largest_acked_packet:
            self._plain = False
            loss._detect_loss(now=now, space=space)
        else:
            space.loss_time = None
        loss._pto_count = 0

    def _read_other(self, buffer: Buffer, now: float) -> bool:
        """One frame by aioquic's own handler; whether it asks for an acknowledgement. Raises QuicConnectionError."""
        self._plain = False
        try:
            kind = buffer.pull_uint_var()
        except ValueError as error:
            raise QuicConnectionError(QuicErrorCode.FRAME_ENCODING_ERROR, 0, "Malformed frame type") from error
        handlers: Any = self._QuicConnection__frame_handlers  # type: ignore[attr-defined]
        if kind not in handlers or ONE_RTT not in handlers[kind][1]:
            raise QuicConnectionError(QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Unknown frame type")
        context = QuicReceiveContext(
            epoch=ONE_RTT,
            host_cid=self.host_cid,
            network_path=self._network_paths[0],
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        try:
            handlers[kind][0](context, kind, buffer)
        except StreamFinishedError:
            pass  # a late frame of a stream that is over: its bytes were delivered, nothing is lost (RFC 9000 §3.2)
        except ValueError as error:
            raise QuicConnectionError(QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Failed to parse frame") from error
        return kind not in NON_ACK_ELICITING_FRAME_TYPES


def _measure_round_trip(loss: Any, latest_s: float, delay_s: float, now: float) -> None:
    """RFC 9002 §5.3, with aioquic's floor of 1 ms and its deviation from the least round trip."""
    delay_s = min(delay_s, loss.max_ack_delay)
    adjusted_s = max(latest_s, 0.001)
    loss._rtt_min = min(loss._rtt_min, adjusted_s)
    if adjusted_s > loss._rtt_min + delay_s:
        adjusted_s -= delay_s
    loss._rtt_latest = adjusted_s
    if loss._rtt_initialized:
        loss._rtt_variance += (abs(loss._rtt_min - adjusted_s) - loss._rtt_variance) / 4
        loss._rtt_smoothed += (adjusted_s - loss._rtt_smoothed) / 8
    else:
        loss._rtt_first_sample_time, loss._rtt_initialized = now, True
        loss._rtt_variance, loss._rtt_smoothed = latest_s / 2, latest_s
    loss._cc.on_rtt_measurement(now=now, rtt=latest_s)
    loss._pacer.update_rate(congestion_window=loss._cc.congestion_window, smoothed_rtt=loss._rtt_smoothed)
