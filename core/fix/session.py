"""The FIX 4.4 session, sans-I/O: logon, heartbeats, gaps found and filled, duplicates told from news, goodbye.

Source: FIX 4.4 specification, volume 2, and the FIX session test cases. Messages and times go in, effects come out. An
application message is delivered once and in order, however often the link breaks: what is missing is asked for
(ResendRequest), what comes again is recognised by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.fix.message import BEGIN_STRING, Fields, FixError, FixMessage, encode, timestamp, unix_of
from core.fix.store import MessageStore

HEARTBEAT, TEST_REQUEST, RESEND_REQUEST, REJECT, SEQUENCE_RESET, LOGOUT, LOGON = "0", "1", "2", "3", "4", "5", "A"
ADMINISTRATIVE: Final = frozenset({HEARTBEAT, TEST_REQUEST, RESEND_REQUEST, REJECT, SEQUENCE_RESET, LOGOUT, LOGON})
CLOCK_TOLERANCE_S: Final = 120.0
"""SendingTime further from ours than this is refused (SessionRejectReason 10)."""
LOGOUT_WAIT_S: Final = 2.0
RESEND_SLICE: Final = 256
"""Messages that are sent again in one go; see `FixSession.resend_more`."""
TEST_AFTER: Final = 1.2
"""Silence of so many heartbeat intervals brings a TestRequest, of twice as many the end of the link."""


@dataclass(frozen=True, slots=True)
class Send:
    """These bytes go out."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    """An application message, in order and for the first time; once dealt with, call `done`."""

    message: FixMessage


@dataclass(frozen=True, slots=True)
class LoggedOn:
    """Application messages may be sent."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The link must be closed (after what was sent before)."""

    reason: str


Effect = Send | Deliver | LoggedOn | Disconnect


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """Who speaks to whom."""

    sender: str
    """Our CompID."""
    target: str
    """Theirs."""
    initiates: bool
    heartbeat_s: int = 30
    reset_on_logon: bool = False
    resends: bool = True
    """False: what a link lost is filled over, never sent again. So must be whoever sends orders: a late one kills."""


class FixSession:
    """One session over any number of links, one at a time. Times are Unix seconds, handed in."""

    def __init__(
        self, identity: SessionIdentity, store: MessageStore, logon_fields: Callable[[int, str], Fields] | None = None
    ) -> None:
        """`logon_fields(MsgSeqNum, SendingTime)` adds to our Logon what authenticates us."""
        self._identity = identity
        self._store = store
        self._logon_fields = logon_fields
        self._heartbeat_s = identity.heartbeat_s
        self._is_linked = False
        self._sent_s = self._heard_s = 0.0
        self._tested = False
        self._logout_s: float | None = None
        self._gap_until = 0
        self._resending: tuple[int, int] | None = None
        """First and last number that are still to be sent again."""
        self._held = 0
        """The first message that waits for the end of a resend, since nobody takes it before; 0: none."""
        self.is_logged_on = False

    # What the owner does

    def connected(self, now: float) -> list[Effect]:
        """A new link is up: an initiator says Logon."""
        self._is_linked, self.is_logged_on, self._tested, self._logout_s = True, False, False, None
        self._gap_until = self._held = 0
        self._resending = None
        self._sent_s = self._heard_s = now
        if not self._identity.initiates:
            return []
        if self._identity.reset_on_logon:
            self._store.reset()
        return [self._logon(now, reset=self._identity.reset_on_logon)]

    def lost(self) -> None:
        """The link is gone; numbers and messages stay."""
        self._is_linked = self.is_logged_on = False
        self._resending = None

    def send(self, kind: str, fields: Fields, now: float) -> list[Effect]:
        """An application message. Without a link it is kept, and goes out when the other side asks for the gap; it is
        dropped where the session does not resend. During a resend it is kept, and goes out after it."""
        sent = timestamp(now)
        if not self.is_logged_on and not self._identity.resends:
            return []
        sequence = self._store.sent(kind, fields if self._identity.resends else None, sent)
        if not self.is_logged_on:
            return []
        if self._resending is not None:
            self._held = self._held or sequence
            return []
        self._sent_s = now
        return [Send(encode(kind, sequence, self._identity.sender, self._identity.target, fields, sent))]

    def logout(self, reason: str, now: float) -> list[Effect]:
        """Say goodbye; the link ends when the other side answers, or does not in time."""
        if not self._is_linked or self._logout_s is not None:
            return []
        self._logout_s = now
        return [self._admin(LOGOUT, [(58, reason)] if reason else [], now)]

    def tick(self, now: float) -> list[Effect]:
        """Call about once a second: heartbeats, test requests, the end of a silent link."""
        if not self._is_linked:
            return []
        if self._logout_s is not None and now - self._logout_s > LOGOUT_WAIT_S:
            return self._end("no answer to our Logout")
        silent_s = now - self._heard_s
        if silent_s > 2 * TEST_AFTER * self._heartbeat_s:
            return self._end(f"silent for {silent_s:.0f} s")
        effects: list[Effect] = []
        if not self.is_logged_on:
            return effects
        if silent_s > TEST_AFTER * self._heartbeat_s and not self._tested:
            self._tested = True
            effects.append(self._admin(TEST_REQUEST, [(112, timestamp(now))], now))
        if now - self._sent_s >= self._heartbeat_s and self._resending is None:
            effects.append(self._admin(HEARTBEAT, [], now))
        return effects

    def receive(self, message: FixMessage, now: float) -> list[Effect]:
        """A message that arrived whole. Delivered ones count as dealt with when the next call comes."""
        self._heard_s, self._tested = now, False
        try:
            return self._receive(message, now)
        except FixError as error:
            # Without a readable number the order of things is lost: FIX says to log out.
            return [self._admin(LOGOUT, [(58, str(error))], now), *self._end(str(error))]

    # Inside

    def _receive(self, message: FixMessage, now: float) -> list[Effect]:
        kind, sequence = message.kind, message.sequence
        wrong = self._wrong_header(message, now)
        if wrong:
            reason, text = wrong
            fields: Fields = [(45, sequence), (372, kind), (373, reason), (58, text)]
            effects: list[Effect] = [self._admin(REJECT, fields, now)] if self.is_logged_on else []
            return [*effects, self._admin(LOGOUT, [(58, text)], now), *self._end(text)]
        if not self.is_logged_on and kind not in (LOGON, LOGOUT):
            return self._end(f"{kind} before Logon")
        if kind == LOGON:
            return self._on_logon(message, sequence, now)
        if kind == SEQUENCE_RESET and message.get(123) != "Y":
            return self._on_reset(message, sequence, now)
        if sequence > self._store.next_in:
            return self._on_gap(message, kind, sequence, now)
        if sequence < self._store.next_in:
            return self._on_low(message, sequence, now)
        return self._in_order(message, kind, sequence, now)

    def _wrong_header(self, message: FixMessage, now: float) -> tuple[int, str] | None:
        """SessionRejectReason and text of a header that is not of this session."""
        if message.get(8) != BEGIN_STRING.decode():
            return 99, f"BeginString {message.get(8)} is not FIX.4.4"
        if (message.get(49), message.get(56)) != (self._identity.target, self._identity.sender):
            return 9, f"CompID problem: {message.get(49)} to {message.get(56)}"
        if abs(unix_of(message.text(52)) - now) > CLOCK_TOLERANCE_S:
            return 10, "SendingTime accuracy problem"
        if message.is_possible_duplicate and unix_of(message.text(122)) > unix_of(message.text(52)) + 0.001:
            return 10, "OrigSendingTime is after SendingTime"
        return None

    def _on_logon(self, message: FixMessage, sequence: int, now: float) -> list[Effect]:
        if self.is_logged_on:
            return self._in_order(message, LOGON, sequence, now) if sequence == self._store.next_in else []
        reset = message.get(141) == "Y"
        if reset and not self._identity.initiates:
            self._store.reset()
        if sequence < self._store.next_in and not message.is_possible_duplicate:
            return self._on_low(message, sequence, now)
        effects: list[Effect] = []
        if not self._identity.initiates:
            self._heartbeat_s = max(1, message.integer(108, self._heartbeat_s))
            effects.append(self._logon(now, reset))
        self.is_logged_on = True
        if sequence == self._store.next_in:
            self._store.received(sequence + 1)
        effects.append(LoggedOn())
        if sequence > self._store.next_in:
            effects.append(self._ask_for_gap(sequence, now))
        return effects

    def _on_reset(self, message: FixMessage, sequence: int, now: float) -> list[Effect]:
        """SequenceReset without GapFill: the other side gives up what is missing, whatever its own number."""
        following = message.integer(36)
        if following < self._store.next_in:
            text = f"NewSeqNo {following} is below {self._store.next_in}"
            return [self._admin(REJECT, [(45, sequence), (371, 36), (372, "4"), (373, 5), (58, text)], now)]
        self._store.received(following)
        return []

    def _on_gap(self, message: FixMessage, kind: str, sequence: int, now: float) -> list[Effect]:
        """A number too high: ask for what is missing. What came too early is dropped; it will come again."""
        effects: list[Effect] = []
        if kind == RESEND_REQUEST:
            # Answered out of order, else two sides that both miss something would wait for each other.
            effects += self._resend(message, now)
        if kind == LOGOUT:
            return [self._admin(LOGOUT, [], now), *self._end("the other side logged out")]
        if sequence > self._gap_until:
            effects.append(self._ask_for_gap(sequence, now))
        return effects

    def _ask_for_gap(self, sequence: int, now: float) -> Effect:
        self._gap_until = sequence
        return self._admin(RESEND_REQUEST, [(7, self._store.next_in), (16, 0)], now)

    def _on_low(self, message: FixMessage, sequence: int, now: float) -> list[Effect]:
        if message.is_possible_duplicate:
            return []
        text = f"MsgSeqNum too low, expecting {self._store.next_in} but received {sequence}"
        return [self._admin(LOGOUT, [(58, text)], now), *self._end(text)]

    def _in_order(self, message: FixMessage, kind: str, sequence: int, now: float) -> list[Effect]:
        if kind not in ADMINISTRATIVE:
            # Counted once the owner has dealt with it: a crash before that brings it again.
            return [Deliver(message)]
        following = sequence + 1
        effects: list[Effect] = []
        if kind == SEQUENCE_RESET:
            following = message.integer(36)
            if following <= sequence:
                raise FixError(f"NewSeqNo {following} of a gap fill at {sequence} does not go on")
        elif kind == TEST_REQUEST:
            effects.append(self._admin(HEARTBEAT, [(112, message.text(112))], now))
        elif kind == RESEND_REQUEST:
            effects += self._resend(message, now)
        elif kind == LOGOUT:
            if self._logout_s is None:
                effects.append(self._admin(LOGOUT, [], now))
            effects += self._end(f"the other side logged out{': ' if message.get(58) else ''}{message.get(58) or ''}")
        self._store.received(following)
        return effects

    def done(self, message: FixMessage) -> None:
        """A delivered message was dealt with. A restart brings it again until `settled`."""
        self._store.received(message.sequence + 1)

    def settled(self) -> None:
        """What follows from every message that was dealt with is durable."""
        self._store.keep_received()

    @property
    def is_resending(self) -> bool:
        """A slice of what the other side missed went out, and more is left."""
        return self._resending is not None

    def resend_more(self, now: float) -> list[Effect]:
        """The next slice; call it while `is_resending`, once the link has taken the last."""
        return [] if self._resending is None else self._resend_slice(*self._resending, now)

    def _resend(self, message: FixMessage, now: float) -> list[Effect]:
        """Application messages again, marked as duplicates; gap fills over everything else, and over what is no longer
        kept."""
        first, last = message.integer(7), message.integer(16)
        newest = self._store.next_out - 1
        return self._resend_slice(max(1, first), newest if last == 0 else min(last, newest), now)

    def _resend_slice(self, first: int, last: int, now: float) -> list[Effect]:
        kept = self._store.messages(first, last, RESEND_SLICE)
        effects: list[Effect] = []
        at = first
        for sequence, kind, sent, fields in kept:
            if sequence > at:
                effects.append(self._gap_fill(at, sequence, now))
            effects.append(self._encoded(kind, sequence, fields, now, originally=sent))
            at = sequence + 1
        if len(kept) == RESEND_SLICE:
            self._resending = (at, last)
            return effects
        if at <= last:
            effects.append(self._gap_fill(at, last + 1, now))
        held, self._held = self._held, 0
        self._resending = (held, self._store.next_out - 1) if held else None
        return effects

    def _gap_fill(self, sequence: int, following: int, now: float) -> Effect:
        fields: Fields = [(123, "Y"), (36, following)]
        return self._encoded(SEQUENCE_RESET, sequence, fields, now, originally=timestamp(now))

    def _logon(self, now: float, reset: bool) -> Effect:
        sent = timestamp(now)
        fields: list[tuple[int, str | int]] = [(98, 0), (108, self._heartbeat_s)]
        if reset:
            fields.append((141, "Y"))
        if self._logon_fields is not None:
            fields += self._logon_fields(self._store.next_out, sent)
        return self._admin(LOGON, fields, now)

    def _admin(self, kind: str, fields: Fields, now: float) -> Effect:
        return self._encoded(kind, self._store.sent(kind, None, timestamp(now)), fields, now)

    def _encoded(self, kind: str, sequence: int, fields: Fields, now: float, originally: str = "") -> Effect:
        self._sent_s = now
        sent, identity = timestamp(now), self._identity
        return Send(encode(kind, sequence, identity.sender, identity.target, fields, sent, originally_sent=originally))

    def _end(self, reason: str) -> list[Effect]:
        self._is_linked = self.is_logged_on = False
        self._resending = None
        return [Disconnect(reason)]
