"""One FIX link as an asyncio protocol: bytes to messages to the session, and the session's effects to the wire."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from core.fix.message import FixError, FixMessage, FixParser
from core.fix.session import Deliver, Disconnect, Effect, FixSession, LoggedOn, Send

TICK_S: Final = 0.5
WRITE_BUFFER_BYTES_MAX: Final = 24 << 20
RESEND_BUFFER_BYTES_MAX: Final = 1 << 20
"""While so much waits for the other side, no more of what it missed is sent again."""
RESEND_PAUSE_S: Final = 0.01


class FixHandler(Protocol):
    """What the owner of a link is told."""

    def session_of(self, connection: FixConnection, first: FixMessage) -> FixSession | None:
        """The session that an arriving first message opens; None refuses it. Asked of acceptors only."""

    def logged_on(self, connection: FixConnection) -> None:
        """Application messages may be sent."""

    def message(self, connection: FixConnection, message: FixMessage) -> None:
        """An application message, once and in order; dealt with when this returns."""

    def drained(self, connection: FixConnection) -> None:
        """Every message of one read was handed over: make durable what follows from them, they do not come again."""

    def closed(self, connection: FixConnection, reason: str) -> None:
        """The link is gone. Told exactly once."""


class FixConnection(asyncio.Protocol):
    """Either end of one link."""

    def __init__(
        self,
        handler: FixHandler,
        session: FixSession | None = None,
        clock_s: Callable[[], float] = time.time,
        write: Callable[[FixConnection, bytes], None] | None = None,
    ) -> None:
        """`session` None: an acceptor, whose session the first message names. `write` may hold bytes back."""
        self._handler = handler
        self._clock_s = clock_s
        self._parser = FixParser()
        self._transport: asyncio.Transport | None = None
        self._write = write
        self._timer: asyncio.TimerHandle | None = None
        self._resend_timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.session is not None:
            self._perform(self.session.connected(self._clock_s()))
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._parser.feed(data):
                self._receive(message)
                if self._transport is None or self._transport.is_closing():
                    break
        except FixError as error:
            self.abort(str(error))
        self._handler.drained(self)
        if self.session is not None:
            self.session.settled()
            self._resend_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in (self._timer, self._resend_timer):
            if timer is not None:
                timer.cancel()
        if self.session is not None:
            self.session.lost()
        self._handler.closed(self, self._reason or (str(exc) if exc else "closed by the other side"))

    @property
    def is_logged_on(self) -> bool:
        return self.session is not None and self.session.is_logged_on

    def send(self, kind: str, fields: list[tuple[int, str | int]]) -> None:
        """An application message."""
        if self.session is not None:
            self._perform(self.session.send(kind, fields, self._clock_s()))

    def logout(self, reason: str) -> None:
        """Say goodbye; the link closes when the other side has answered, or after a moment."""
        if self.session is not None:
            self._perform(self.session.logout(reason, self._clock_s()))

    def abort(self, reason: str) -> None:
        """Cut the link now."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    def close(self, reason: str) -> None:
        """Close once everything is written."""
        self._close(reason)

    def write_now(self, data: bytes) -> None:
        """Put bytes on the wire."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            self.abort("the other side does not read")

    def _receive(self, message: FixMessage) -> None:
        if self.session is None:
            self.session = self._handler.session_of(self, message)
            if self.session is None:
                self.abort("no session of ours")
                return
            self._perform(self.session.connected(self._clock_s()))
        self._perform(self.session.receive(message, self._clock_s()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._put(effect.data)
            elif isinstance(effect, Deliver):
                self._handler.message(self, effect.message)
                if self.session is not None:
                    self.session.done(effect.message)
            elif isinstance(effect, LoggedOn):
                self._handler.logged_on(self)
            elif isinstance(effect, Disconnect):
                self._close(effect.reason)

    def _resend_later(self) -> None:
        """What the other side missed goes out in slices, between everything else, and no faster than it is taken."""
        if self.session is None or not self.session.is_resending or self._resend_timer is not None:
            return
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        pause_s = RESEND_PAUSE_S if waiting > RESEND_BUFFER_BYTES_MAX else 0.0
        self._resend_timer = asyncio.get_running_loop().call_later(pause_s, self._resend)

    def _resend(self) -> None:
        self._resend_timer = None
        transport = self._transport
        if self.session is None or transport is None:
            return
        if transport.get_write_buffer_size() <= RESEND_BUFFER_BYTES_MAX:
            self._perform(self.session.resend_more(self._clock_s()))
        self._resend_later()

    def _put(self, data: bytes) -> None:
        if self._write is not None:
            self._write(self, data)
        else:
            self.write_now(data)

    def _close(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.close()

    def _tick(self) -> None:
        if self.session is not None:
            self._perform(self.session.tick(self._clock_s()))
        if self._transport is not None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
