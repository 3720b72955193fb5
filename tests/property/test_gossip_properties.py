"""Gossip against input that may be anything: nothing raises, nothing unsigned is kept, versions never fall."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from net.gossip import VERSION_MAX, Gossip, GossipSettings, gossip_bytes
from net.identity import verify_signature
from net.messages import GossipDelta, GossipDigest, GossipEntry, GossipVersion

KEYS = [SigningKey(bytes([node + 1]) * 32) for node in range(4)]
MEMBERS = {node: bytes(key.verify_key) for node, key in enumerate(KEYS)}
SETTINGS = GossipSettings(keys_max=3, value_bytes_max=64, delta_bytes_max=200, answers_per_interval_max=1_000)


def make(node: int = 0, started_ns: int = 100) -> Gossip:
    return Gossip(node, MEMBERS, lambda data: KEYS[node].sign(data).signature, Random(1), started_ns, SETTINGS)


def signed(origin: int, key: int, version: int, value: bytes, by: int | None = None) -> GossipEntry:
    signer = KEYS[origin if by is None else by]
    return GossipEntry(origin, key, version, value, signer.sign(gossip_bytes(origin, key, version, value)).signature)


numbers = st.integers(0, 5) | st.sampled_from([VERSION_MAX, VERSION_MAX + 1, 2**64 - 1])
versions = st.builds(GossipVersion, numbers, numbers, numbers)


@st.composite
def entries(draw: st.DrawFn) -> GossipEntry:
    origin, key, version = draw(numbers), draw(numbers), draw(numbers)
    value = draw(st.binary(max_size=70))
    if draw(st.booleans()) and origin < 4:
        return signed(origin, min(key, 5), min(version, VERSION_MAX), value, by=draw(st.sampled_from([origin, 1])))
    return GossipEntry(origin, key, version, value, draw(st.binary(max_size=70)))


messages = st.builds(GossipDigest, st.lists(versions, max_size=30).map(tuple)) | st.builds(
    GossipDelta, st.lists(entries(), max_size=6).map(tuple), st.lists(versions, max_size=30).map(tuple)
)


@settings(max_examples=150, deadline=None)
@given(incoming=st.lists(st.tuples(st.integers(0, 5), messages), max_size=20))
def test_whatever_comes_in_only_signed_entries_of_members_are_kept(incoming: list[tuple[int, Any]]) -> None:
    core = make()
    core.publish(0, b"own")
    newest: dict[tuple[int, int], int] = {}
    for turn, (sender, message) in enumerate(incoming):
        for send in core.step(sender, message, float(turn)):
            assert send.to == sender
            if isinstance(send.message, GossipDelta):
                assert sum(len(e.value) for e in send.message.entries[:-1]) <= SETTINGS.delta_bytes_max
        for entry in core.entries():
            assert entry.origin in MEMBERS
            assert entry.key < SETTINGS.keys_max
            assert len(entry.value) <= SETTINGS.value_bytes_max
            data = gossip_bytes(entry.origin, entry.key, entry.version, entry.value)
            assert verify_signature(MEMBERS[entry.origin], data, entry.signature)
            assert entry.version >= newest.get((entry.origin, entry.key), 0)
            newest[entry.origin, entry.key] = entry.version
    assert core.value(0, 0) == b"own"
    assert len(core.entries()) <= len(MEMBERS) * SETTINGS.keys_max


@settings(max_examples=100, deadline=None)
@given(said=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.binary(max_size=64)), max_size=25))
def test_exchanges_among_all_pairs_leave_one_newest_value_everywhere(said: list[tuple[int, int, bytes]]) -> None:
    cores = [make(node) for node in range(4)]
    newest: dict[tuple[int, int], bytes] = {}
    for node, key, value in said:
        cores[node].publish(key, value)
        newest[node, key] = value
    for turn in range(40):
        for core in cores:
            queue = [(core._node, send) for send in core.tick(turn * SETTINGS.interval_s)]
            while queue:
                sender, send = queue.pop()
                queue += [(send.to, s) for s in cores[send.to].step(sender, send.message, float(turn))]
    for core in cores:
        assert {(e.origin, e.key): e.value for e in core.entries()} == newest


def test_refusals_are_counted_by_reason_and_refused_whole() -> None:
    core = make()
    good = signed(2, 0, 5, b"good")
    forged = signed(3, 0, 5, b"forged", by=1)
    long = signed(2, 1, 5, b"x" * 65)
    strange = signed(2, 7, 5, b"strange key")
    cases = {
        "from no member": (9, GossipDigest(())),
        "forged entry": (1, GossipDelta((good, forged), ())),
        "malformed entry": (1, GossipDelta((good, long), ())),
        "too many entries": (1, GossipDelta((good, good), ())),
        "malformed versions": (1, GossipDigest((GossipVersion(1, 0, 1), GossipVersion(1, 0, 2)))),
        "too many versions": (1, GossipDigest(tuple(GossipVersion(o, 0, 1) for o in range(100)))),
    }
    for reason, (sender, message) in cases.items():
        assert core.step(sender, message, 0.0) == []
        assert core.refused[reason] == 1, reason
        assert core.entries() == ()
    assert core.step(1, GossipDelta((good, strange), ()), 0.0) == []
    assert core.refused["malformed entry"] == 2
    assert core.value(2, 0) is None
    core.step(1, GossipDelta((good,), ()), 0.0)
    assert core.value(2, 0) == b"good"
    tampered = replace(signed(2, 0, 6, b"newer"), value=b"other")
    core.step(1, GossipDelta((tampered,), ()), 0.0)
    assert core.value(2, 0) == b"good"


def test_a_peer_that_floods_is_answered_a_bounded_number_of_times() -> None:
    core = Gossip(0, MEMBERS, lambda data: KEYS[0].sign(data).signature, Random(1), 1)
    core.publish(0, b"own")
    core.tick(0.0)
    answers = sum(len(core.step(1, GossipDigest(()), 0.1)) for _ in range(100))
    assert answers == GossipSettings().answers_per_interval_max
    assert core.refused["too many messages"] == 100 - answers
    core.tick(1.0)
    assert core.step(1, GossipDigest(()), 1.1)


def test_a_member_that_leaves_or_changes_its_key_is_forgotten() -> None:
    core = make()
    core.step(1, GossipDelta((signed(1, 0, 5, b"one"), signed(2, 0, 5, b"two")), ()), 3.0)
    assert core.heard_at(2) == 3.0
    core.set_members({0: MEMBERS[0], 1: MEMBERS[1], 2: bytes(SigningKey(b"n" * 32).verify_key)})
    assert [entry.origin for entry in core.entries()] == [1]
    assert core.heard_at(2) is None
    with pytest.raises(ValueError, match="not among the members"):
        core.set_members({1: MEMBERS[1]})


def test_what_is_out_of_bounds_is_not_published() -> None:
    core = make()
    for key, value in ((3, b""), (0, b"x" * 65)):
        with pytest.raises(ValueError, match="out of bounds"):
            core.publish(key, value)
    with pytest.raises(ValueError, match="not among the members"):
        Gossip(9, MEMBERS, bytes, Random(1), 1)
