"""Hostile bytes against the codecs, the frame cutter and a whole connection: refused, counted, and nothing grows.

CI runs a small share; `make prove` runs a million frames.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from core.bench.wire import messages, proposals
from core.payload import PROPOSAL_LAYOUT
from net.framing import FrameError, Framer, frame
from net.quic import TransportSettings
from net.wire.codec import WireError, decode, encode
from net.wire.kinds import CodecKind
from net.wire.layouts import decode_records, encode_records
from tests.integration.endpoints import Member, pair, until

RESIDENT_GROWTH_MAX = 24 << 20
"""Bytes; a single unbounded allocation of a hostile length would be far above."""

HOSTILE_LENGTHS = (b"\xff" * 8, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff")


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Vandal:
    """Frames from a seed: random, cut short, lengthened, with flipped bytes, with hostile lengths planted."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        valid = [encode(message, codec) for message in messages((1, 16)).values() for codec in CodecKind]
        self._messages = valid
        self._arrays = [encode_records(proposals(size), codec) for size in (1, 16) for codec in CodecKind]

    def message(self) -> bytes:
        return self._damaged(self._random.choice(self._messages))

    def array(self) -> bytes:
        return self._damaged(self._random.choice(self._arrays))

    def _damaged(self, data: bytes) -> bytes:
        random = self._random
        kind = random.randrange(5)
        if kind == 0:
            return random.randbytes(random.randrange(300))
        if kind == 1:
            return data[: random.randrange(len(data))]
        if kind == 2:
            return data + random.randbytes(random.randrange(1, 40))
        changed = bytearray(data)
        if kind == 3:
            for _ in range(random.randrange(1, 5)):
                changed[random.randrange(len(changed))] = random.randrange(256)
        else:
            at = random.randrange(max(1, len(changed) - 8))
            hostile = random.choice(HOSTILE_LENGTHS)
            changed[at : at + len(hostile)] = hostile
        return bytes(changed)


def attack_codecs(count: int, seed: int) -> Counter[str]:
    """`count` frames: every one of them is refused by WireError or is a message again."""
    vandal, found = Vandal(seed), Counter[str]()
    for number in range(count):
        try:
            if number % 4:
                decode(vandal.message())
            else:
                decode_records(vandal.array(), PROPOSAL_LAYOUT)
        except WireError:
            found["refused"] += 1
        else:
            found["read"] += 1
    return found


def attack_framer(count: int, seed: int) -> Counter[str]:
    """`count` pieces of a stream, cut anywhere, a third of them damaged; a refused stream begins anew."""
    random, vandal, found = Random(seed), Vandal(seed), Counter[str]()
    framer = Framer(65_536)
    for _ in range(count):
        data = frame(vandal.message() or b"x")
        if random.randrange(3) == 0:
            data = random.randbytes(random.randrange(1, 64))
        try:
            for body in framer.feed(data[: random.randrange(1, len(data) + 1)]):
                assert len(body) <= 65_536
            assert framer.pending_bytes <= 65_536 + 65_536
        except FrameError:
            found["refused"] += 1
            framer = Framer(65_536)
        else:
            found["read"] += 1
    return found


def check(attack, count: int) -> Counter[str]:
    attack(min(count, 20_000), 1)
    before = resident_bytes()
    found = attack(count, 2)
    grown = resident_bytes() - before
    assert sum(found.values()) == count, "every frame is counted"
    assert min(found["refused"], found["read"]) > 0
    assert grown < RESIDENT_GROWTH_MAX, f"{grown:,} bytes more are resident"
    print(f"{attack.__name__}: {dict(found)}, resident {before:,} -> {before + grown:,} bytes")
    return found


@pytest.mark.parametrize("attack", [attack_codecs, attack_framer], ids=lambda attack: attack.__name__)
def test_hostile_frames_are_refused_and_counted(attack) -> None:
    check(attack, 20_000)


@pytest.mark.prove
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("attack", [attack_codecs, attack_framer], ids=lambda attack: attack.__name__)
def test_a_million_hostile_frames_leave_memory_flat(attack) -> None:
    check(attack, 1_000_000)


def counted(member: Member) -> int:
    return member.endpoint.messages_malformed + member.endpoint.messages_received


async def attack_link(count: int, seed: int) -> None:
    """A member gone bad: damaged messages inside good frames over a proven link. Each is dropped and counted."""
    vandal = Vandal(seed)
    async with pair(TransportSettings(queue_messages_max=1 << 20)) as (a, b):
        link = a.endpoint._peers[1].link
        assert link is not None
        before = resident_bytes()
        sent = 0
        while sent < count:
            for _ in range(min(200, count - sent)):
                # From the version byte on: what starts like a link frame is another test's matter.
                link.write_control(frame(bytes((0xD1,)) + vandal.message()[1:]))
                sent += 1
            await until(lambda want=sent: counted(b) == want, "all are counted")
            b.messages.clear()
        assert b.endpoint.messages_malformed > 0
        assert b.endpoint.connected(0), "a malformed message costs the message, not the link"
        grown = resident_bytes() - before
        assert grown < RESIDENT_GROWTH_MAX, f"{grown:,} bytes more are resident"
        print(f"{count:,} over a link: {b.endpoint.messages_malformed:,} refused, resident {before:,} + {grown:,}")


def test_hostile_messages_of_a_member_are_dropped_and_counted() -> None:
    asyncio.run(attack_link(2_000, 3))


@pytest.mark.prove
@pytest.mark.timeout(1_800)
def test_a_million_hostile_messages_over_a_proven_link() -> None:
    asyncio.run(attack_link(1_000_000, 4))


async def attack_socket(count: int, seed: int) -> None:
    """Random and damaged datagrams from strangers against the endpoint's socket, while members talk."""
    random = Random(seed)
    async with pair() as (a, b):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))
            real = await first_flight(a, b)
            before, received = resident_bytes(), b.endpoint.datagrams_received
            dropped, retries = b.endpoint.datagrams_dropped, b.endpoint.retries_sent
            link = b.endpoint._peers[0].link
            assert link is not None
            routed = link.datagrams_received
            for sent in range(count):
                stranger.sendto(damaged_datagram(random, real), b.address)
                if sent % 50 == 49:
                    await asyncio.sleep(0)
            await until(lambda: b.endpoint.datagrams_received - received >= 0.9 * count, "they are read", 60)
            # Some name a live connection and fail its decryption; a few of those are the member's own.
            kept = link.datagrams_received - routed
            assert b.endpoint.datagrams_dropped - dropped + kept == b.endpoint.datagrams_received - received
            assert b.endpoint.datagrams_dropped > dropped
            assert not b.endpoint.refusals
            assert len(b.endpoint._links) == 1
            assert a.endpoint.connected(1)
            grown = resident_bytes() - before
            assert grown < RESIDENT_GROWTH_MAX
            print(f"{count:,} datagrams: {b.endpoint.retries_sent - retries:,} Retries, {grown:,} bytes more resident")


async def first_flight(a, b) -> bytes:
    """The first datagram of a real dial."""
    sent: list[bytes] = []
    udp = a.endpoint._udp
    assert udp is not None

    class Tap:
        def __getattr__(self, name: str) -> object:
            return getattr(udp, name)

        def send(self, data: bytes, address: object) -> None:
            sent.append(data)
            udp.send(data, address)

    a.endpoint._udp = Tap()
    a.endpoint.reconnect(1)
    await until(lambda: a.endpoint.connected(1) and b.endpoint.links()[0].reconnects, "the reconnect")
    a.endpoint._udp = udp
    return next(data for data in sent if data[0] & 0xF0 == 0xC0 and len(data) >= 1_200)


def damaged_datagram(random: Random, real: bytes) -> bytes:
    kind = random.randrange(4)
    if kind == 0:
        return random.randbytes(random.randrange(1, 1_400))
    changed = bytearray(real)
    if kind == 1:
        return real[: random.randrange(1, len(real))]
    if kind == 2:
        changed[6:14] = random.randbytes(8)
    for _ in range(random.randrange(1, 8)):
        changed[random.randrange(60)] = random.randrange(256)
    return bytes(changed)


def test_hostile_datagrams_begin_nothing_and_disturb_nobody() -> None:
    asyncio.run(attack_socket(3_000, 5))


@pytest.mark.prove
@pytest.mark.timeout(1_800)
def test_a_million_hostile_datagrams() -> None:
    asyncio.run(attack_socket(1_000_000, 6))
