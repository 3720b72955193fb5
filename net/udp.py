"""The UDP socket of an endpoint, its emulated links, and addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from random import Random
from typing import Any, Final, Protocol

from net.link_model import LinkModel

Address = Any
"""What the socket module gives: (host, port), for IPv6 (host, port, flow, scope)."""


EMULATED_IN_FLIGHT_MAX: Final = 16_384
"""Datagrams on emulated links at once; what comes on top is lost, as at a full router."""


class DatagramSocket(Protocol):
    """What an endpoint needs of its socket."""

    datagrams_sent: int
    datagrams_received: int
    bytes_sent: int
    bytes_received: int

    @property
    def bound(self) -> tuple[str, int]: ...
    def fileno(self) -> int: ...
    def receive(self, count_max: int) -> list[tuple[bytes, Address]]: ...
    def send(self, data: bytes, address: Address) -> None: ...
    def close(self) -> None: ...


class UdpSocket:
    """A bound, non-blocking socket that counts. Datagrams longer than `read_bytes` are cut, and fail to decrypt."""

    __slots__ = (
        "_read_bytes",
        "_socket",
        "bytes_received",
        "bytes_sent",
        "datagrams_received",
        "datagrams_sent",
        "send_failures",
    )

    def __init__(self, host: str, port: int, buffer_bytes: int, read_bytes: int) -> None:
        """Raises OSError when the address is taken or not ours."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self._read_bytes = read_bytes
        self.datagrams_sent = self.datagrams_received = self.bytes_sent = self.bytes_received = 0
        self.send_failures = 0

    @property
    def bound(self) -> tuple[str, int]:
        """Host and port that the socket listens on."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def fileno(self) -> int:
        """For the loop's reader."""
        return self._socket.fileno()

    def receive(self, count_max: int) -> list[tuple[bytes, Address]]:
        """What has arrived, at most `count_max` datagrams."""
        datagrams: list[tuple[bytes, Address]] = []
        read, size = self._socket.recvfrom, self._read_bytes
        for _ in range(count_max):
            try:
                data, address = read(size)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionError:
                continue  # an ICMP error of an earlier datagram, not of this read
            datagrams.append((data, address))
            self.bytes_received += len(data)
        self.datagrams_received += len(datagrams)
        return datagrams

    def send(self, data: bytes, address: Address) -> None:
        """Hand one datagram to the kernel; a full buffer or unreachable network loses it, and QUIC sends again."""
        try:
            self._socket.sendto(data, address)
        except OSError:
            self.send_failures += 1
            return
        self.datagrams_sent += 1
        self.bytes_sent += len(data)

    def close(self) -> None:
        """Unbind. Datagrams that are still on emulated links fail to leave."""
        self._socket.close()


class EmulatedSender:
    """Sends datagrams of one link later, or never, as its model says. They count as sent when they leave."""

    __slots__ = ("_loop", "_model", "_random", "_socket", "in_flight", "lost")

    def __init__(self, model: LinkModel, udp: DatagramSocket, loop: asyncio.AbstractEventLoop, random: Random) -> None:
        self._model = model
        self._socket = udp
        self._loop = loop
        self._random = random
        self.in_flight = 0
        self.lost = 0
        """On purpose."""

    def send(self, data: bytes, address: Address) -> None:
        """Give the datagram its fate."""
        delay_s = self._model.fate(self._random)
        if delay_s is None or self.in_flight >= EMULATED_IN_FLIGHT_MAX:
            self.lost += 1
            return
        if not delay_s:
            self._socket.send(data, address)
            return
        self.in_flight += 1
        self._loop.call_later(delay_s, self._leave, data, address)

    def _leave(self, data: bytes, address: Address) -> None:
        self.in_flight -= 1
        self._socket.send(data, address)


def numeric_address(address: tuple[str, int]) -> Address | None:
    """`address` in the socket's own form when its host is an IP address, None for a name that must be resolved."""
    host, port = address
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (host, port) if version == 4 else (host, port, 0, 0)


def is_loopback(address: Address) -> bool:
    """Whether a socket address is of this machine."""
    return ipaddress.ip_address(address[0].partition("%")[0]).is_loopback


def source_network(address: Address) -> bytes:
    """What one stranger can easily have many addresses of: an IPv4 address, the first 64 bits of an IPv6 one."""
    packed = ipaddress.ip_address(address[0].partition("%")[0]).packed
    return packed if len(packed) == 4 else packed[:8]
