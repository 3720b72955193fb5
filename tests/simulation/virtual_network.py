"""Real endpoints in deterministic virtual time: an event loop whose clock jumps, and sockets that are queues.

Nothing waits: where the loop would sleep, its clock moves on. What a link does to a datagram is the product's own link
model (`net.link_model`), with a seeded generator.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from collections import deque
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

from net.identity import Identity, Roster
from net.quic import Endpoint
from net.transport import TransportSettings

T = TypeVar("T")


TURN_S = 1e-6
"""A turn of the loop takes this long: aioquic's pacer waits for a clock that moves."""


class _JumpingSelector(selectors.SelectSelector):
    """Moves the clock where a real one would sleep."""

    now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        self.now_s += TURN_S
        if not ready and timeout is not None and timeout > 0:
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now_s


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


class VirtualNetwork:
    """Sockets by address. A datagram arrives at once: delay and loss are the sender's emulated links."""

    def __init__(self) -> None:
        self.sockets: dict[tuple[str, int], VirtualSocket] = {}

    def open_socket(self, host: str, port: int, buffer_bytes: int, read_bytes: int) -> VirtualSocket:
        address = (host, port or 10_000 + len(self.sockets))
        self.sockets[address] = VirtualSocket(self, address)
        return self.sockets[address]

    def endpoint(
        self,
        identity: Identity,
        roster: Roster,
        settings: TransportSettings,
        on_message: Any,
        seed: int,
    ) -> Endpoint:
        """An endpoint of this network on the running loop."""
        entry = roster.get(identity.id)
        assert entry is not None
        assert entry.address is not None
        clock = asyncio.get_running_loop().time
        endpoint = Endpoint(
            identity,
            roster,
            entry.address,
            settings,
            on_message,
            lambda event: None,
            open_socket=self.open_socket,
            clock=clock,
        )
        endpoint._random = Random(seed)
        return endpoint


class VirtualSocket:
    """As `net.udp.UdpSocket`. An event counter stands in for the file descriptor, so that the loop sees arrivals."""

    def __init__(self, network: VirtualNetwork, address: tuple[str, int]) -> None:
        self._network = network
        self.bound = address
        self._arrived: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK)
        self.datagrams_sent = self.datagrams_received = self.bytes_sent = self.bytes_received = 0

    def fileno(self) -> int:
        return self._event

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        self.datagrams_sent += 1
        self.bytes_sent += len(data)
        target = self._network.sockets.get(tuple(address[:2]))  # type: ignore[arg-type]
        if target is not None:
            target._arrived.append((data, self.bound))
            os.eventfd_write(target._event, 1)

    def receive(self, count_max: int) -> list[tuple[bytes, Any]]:
        taken = [self._arrived.popleft() for _ in range(min(count_max, len(self._arrived)))]
        self.datagrams_received += len(taken)
        self.bytes_received += sum(len(data) for data, _ in taken)
        if not self._arrived:
            os.eventfd_read(self._event)
        return taken

    def close(self) -> None:
        del self._network.sockets[self.bound]
        os.close(self._event)
