"""A stranger that opens QUIC connections at a steady rate.

Run as `python -m core.bench.quic_stranger HOST PORT PER_S ANSWERS`. ANSWERS 1: it also answers the Retry that it gets,
with its token, as a client must. First flights are made before the start and each is used once. It prints `ready`, and
starts and stops at a line on standard input. Loopback only.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections import deque

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from net.quic_configuration import ALPN
from net.udp import UdpSocket, is_loopback

MADE_AHEAD = 600


class Stranger:
    """Connections of one socket each, so that every one comes from a port of its own."""

    def __init__(self, address: tuple[str, int], per_s: float, answers: bool) -> None:
        self._address = address
        self._per_s = per_s
        self._answers = answers
        self._made: deque[QuicConnection] = deque()
        self._open: deque[tuple[QuicConnection, UdpSocket]] = deque()
        self.opened = 0

    def make(self) -> None:
        """First flights, up to `MADE_AHEAD`."""
        while len(self._made) < MADE_AHEAD:
            configuration = QuicConfiguration(alpn_protocols=[ALPN], is_client=True, verify_mode=ssl.CERT_NONE)
            connection = QuicConnection(configuration=configuration)
            connection.connect(self._address, now=time.monotonic())
            self._made.append(connection)

    async def run(self, stopping: asyncio.Event) -> None:
        began, first = time.monotonic(), self.opened
        while not stopping.is_set():
            while self._made and self.opened - first < (time.monotonic() - began) * self._per_s:
                self._begin()
            self._answer()
            await asyncio.sleep(0.005)

    def _begin(self) -> None:
        connection, udp = self._made.popleft(), UdpSocket(*_any_of(self._address), 1 << 18, 2_048)
        self.opened += 1
        self._send(connection, udp)
        self._open.append((connection, udp))
        if len(self._open) > 50:
            self._open.popleft()[1].close()

    def _answer(self) -> None:
        for connection, udp in self._open if self._answers else ():
            received = udp.receive(16)
            for data, address in received:
                connection.receive_datagram(data, address, time.monotonic())
            if received:
                self._send(connection, udp)

    def _send(self, connection: QuicConnection, udp: UdpSocket) -> None:
        for data, _ in connection.datagrams_to_send(time.monotonic()):
            udp.send(data, self._address)


def _any_of(address: tuple[str, int]) -> tuple[str, int]:
    return address[0], 0


async def _main(address: tuple[str, int], per_s: float, answers: bool) -> None:
    stranger = Stranger(address, per_s, answers)
    stranger.make()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while await reader.readline():
        stopping = asyncio.Event()
        task = loop.create_task(stranger.run(stopping))
        again = await reader.readline()
        stopping.set()
        await task
        stranger.make()
        print(stranger.opened, flush=True)
        if not again:
            return


if __name__ == "__main__":
    HOST, PORT, PER_S, ANSWERS = sys.argv[1:]
    TARGET = (HOST, int(PORT))
    if not is_loopback(TARGET):
        sys.exit(f"{HOST} is not of this machine; the stranger floods nobody else")
    asyncio.run(_main(TARGET, float(PER_S), ANSWERS == "1"))
