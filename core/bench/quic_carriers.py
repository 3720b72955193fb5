"""What carries a round's messages in `tradetui bench quic`: the product's endpoint, stock asyncio QUIC, or bare UDP.

All carry the same encoded messages, so that only the transport differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from net import framing
from net.identity import Identity, Roster, self_signed_certificate
from net.messages import Message
from net.quic import Endpoint
from net.quic_configuration import ALPN
from net.transport import PeerEvent, TransportSettings
from net.udp import UdpSocket
from net.wire.codec import decode, encode
from net.wire.kinds import CodecKind

CODEC = CodecKind.MSGPACK_COLUMNS
SOCKET_BUFFER_BYTES = 4 << 20
OnMessage = Callable[[int, Message], None]


class Carrier(Protocol):
    """Node 0 leads and reaches everybody; the others answer it."""

    async def start(self) -> None: ...
    def connected(self) -> int: ...
    def broadcast(self, peers: Sequence[int], message: Message, round_id: int) -> None: ...
    def flush(self) -> None:
        """Send now what `broadcast` only wrote."""

    def datagrams(self) -> int: ...
    async def close(self) -> None: ...


class EndpointCarrier:
    """The product."""

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        settings: TransportSettings,
        on_message: OnMessage,
        on_peer: Callable[[PeerEvent], None] = lambda event: None,
        tickets: Path | None = None,
    ) -> None:
        entry = roster.get(identity.id)
        assert entry is not None
        assert entry.address is not None
        self.endpoint = Endpoint(identity, roster, entry.address, settings, on_message, on_peer, tickets=tickets)
        self._others = [other.id for other in roster if other.id != identity.id]

    async def start(self) -> None:
        await self.endpoint.start()
        for peer in self._others:
            self.endpoint.dial(peer)

    def connected(self) -> int:
        return sum(link.connected for link in self.endpoint.links())

    def broadcast(self, peers: Sequence[int], message: Message, round_id: int) -> None:
        self.endpoint.broadcast(peers, message, round_id=round_id)

    def flush(self) -> None:
        self.endpoint.flush()

    def datagrams(self) -> int:
        return self.endpoint.datagrams_sent + self.endpoint.datagrams_received

    async def close(self) -> None:
        await self.endpoint.close()


class StockCarrier:
    """`connect` and `serve` of aioquic's (or qh3's) asyncio module, as they come, one stream a peer.

    Messages are taken from the protocol's events, which is the faster of the two ways that it offers.
    """

    def __init__(self, library: str, identity: Identity, roster: Roster, on_message: OnMessage) -> None:
        """Raises ImportError where `library` is not installed."""
        self._asyncio: Any = importlib.import_module(f"{library}.asyncio")
        self._configurations: Any = importlib.import_module(f"{library}.quic.configuration")
        self._events: Any = importlib.import_module(f"{library}.quic.events")
        self._identity = identity
        self._roster = roster
        self._on_message = on_message
        self._streams: dict[int, tuple[Any, int]] = {}
        self._contexts: list[Any] = []
        self._server: Any = None

    async def start(self) -> None:
        entry = self._roster.get(self._identity.id)
        assert entry is not None
        assert entry.address is not None
        if self._identity.id:
            configuration = self._configuration(is_client=False)
            certificate, key = self_signed_certificate(self._identity)
            configuration.certificate, configuration.private_key = certificate, key
            self._server = await self._asyncio.serve(
                *entry.address, configuration=configuration, create_protocol=self._protocol(0)
            )
            return
        for other in self._roster:
            if other.address is None or other.id == 0:
                continue
            context = self._asyncio.connect(
                *other.address,
                configuration=self._configuration(is_client=True),
                create_protocol=self._protocol(other.id),
            )
            protocol = await context.__aenter__()
            self._contexts.append(context)
            self._streams[other.id] = (protocol, protocol._quic.get_next_available_stream_id())

    def _configuration(self, *, is_client: bool) -> Any:
        return self._configurations.QuicConfiguration(
            alpn_protocols=[ALPN], is_client=is_client, idle_timeout=600.0, verify_mode=ssl.CERT_NONE
        )

    def _protocol(self, peer: int) -> Any:
        carrier, received = self, self._events.StreamDataReceived

        class Protocol(self._asyncio.QuicConnectionProtocol):  # type: ignore[misc,name-defined]
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                self.framer = framing.Framer(1 << 24)

            def quic_event_received(self, event: Any) -> None:
                if isinstance(event, received):
                    carrier._streams.setdefault(peer, (self, event.stream_id))
                    for body in self.framer.feed(event.data):
                        carrier._on_message(peer, decode(body))

        return Protocol

    def connected(self) -> int:
        return len(self._streams)

    def broadcast(self, peers: Sequence[int], message: Message, round_id: int) -> None:
        data = framing.frame(encode(message, CODEC))
        for peer in peers:
            protocol, stream_id = self._streams[peer]
            protocol._quic.send_stream_data(stream_id, data)
            protocol.transmit()

    def flush(self) -> None:
        """Done."""

    def datagrams(self) -> int:
        return 0

    async def close(self) -> None:
        for context in self._contexts:
            await context.__aexit__(None, None, None)
        if self._server is not None:
            self._server.close()


class StreamCarrier(StockCarrier):
    """The same through asyncio's StreamReader and StreamWriter, as aioquic's documentation has a server written."""

    def __init__(self, library: str, identity: Identity, roster: Roster, on_message: OnMessage) -> None:
        super().__init__(library, identity, roster, on_message)
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await super().start()
        for peer, (protocol, _) in self._streams.items():
            self._take(peer, *await protocol.create_stream())

    def _protocol(self, peer: int) -> Any:
        def with_handler(*arguments: Any, **named: Any) -> Any:
            named["stream_handler"] = lambda reader, writer: self._take(peer, reader, writer)
            return self._asyncio.QuicConnectionProtocol(*arguments, **named)

        return with_handler

    def _take(self, peer: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[peer] = writer
        task = asyncio.ensure_future(self._read(peer, reader))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, peer: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                length = int.from_bytes(await reader.readexactly(framing.LENGTH_BYTES))
                self._on_message(peer, decode(await reader.readexactly(length)))

    def broadcast(self, peers: Sequence[int], message: Message, round_id: int) -> None:
        data = framing.frame(encode(message, CODEC))
        for peer in peers:
            self._writers[peer].write(data)

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        await super().close()


class UdpCarrier:
    """Bare datagrams: no encryption, no acknowledgement, no order."""

    def __init__(self, identity: Identity, roster: Roster, on_message: OnMessage) -> None:
        self._identity = identity
        self._addresses = {entry.id: entry.address for entry in roster if entry.address}
        self._on_message = on_message
        host, port = self._addresses[identity.id]
        self._udp = UdpSocket(host, port, SOCKET_BUFFER_BYTES, 65_536)

    async def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._udp.fileno(), self._readable)

    def _readable(self) -> None:
        for data, _ in self._udp.receive(64):
            self._on_message(data[0], decode(data[1:]))

    def connected(self) -> int:
        return len(self._addresses) - 1

    def broadcast(self, peers: Sequence[int], message: Message, round_id: int) -> None:
        data = bytes((self._identity.id,)) + encode(message, CODEC)
        for peer in peers:
            self._udp.send(data, self._addresses[peer])

    def flush(self) -> None:
        """Done."""

    def datagrams(self) -> int:
        return self._udp.datagrams_sent + self._udp.datagrams_received

    async def close(self) -> None:
        self._udp.close()
