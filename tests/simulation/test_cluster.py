"""The simulator itself: it must not make up work that no replica asked for."""

from __future__ import annotations

from random import Random

import pytest

from net.epoch import first_epoch
from net.membership import MembershipError, all_voters
from net.membership_change import next_epoch
from net.messages import (
    Certificate,
    CertificateNotice,
    CheckpointCertificate,
    Committed,
    CommittedEntries,
    Entry,
    EntryKind,
    Forward,
    Mode,
    Phase,
    Propose,
    SnapshotChunk,
    Vote,
)
from net.mode_switch import SwitchError, switched_epoch
from net.simulation.byzantine import Adversary
from net.simulation.cluster import Cluster
from net.simulation.keys import AUTHORITIES, roster_of
from net.simulation.malformed import false_switches


@pytest.mark.parametrize("mode", list(Mode))
def test_a_deadline_that_moves_forward_leaves_no_chain_of_ticks(mode: Mode) -> None:
    """Found as `bft, n = 7, two liars`, seed 70: 876 queued ticks, and so many events that no end was seen."""
    cluster = Cluster(4, 1, mode)
    for number in range(60):
        cluster.propose(number % 4, [b"%d" % number])
        cluster.run(cluster.now + 0.05)
    cluster.run(cluster.now + 10.0)
    in_flight = 3 * len(cluster.nodes)
    assert len(cluster._queue) <= len(cluster.nodes) + in_flight


PROOF = Certificate(Mode.BFT, 1, bytes(32), Phase.FINALIZE, 4, 1, bytes(32), bytes(32), (0, 1, 2), (bytes(64),) * 3)
DECIDED = CommittedEntries(1, 1, (Committed(1, Entry(1, 4, EntryKind.DATA, b"x"), PROOF),))
CHUNK = SnapshotChunk(1, 0, 300, CheckpointCertificate(6, bytes(32), (0, 1), (bytes(64),) * 2), bytes(200))
VOTE = Vote(1, Phase.NOTARIZE, 4, 1, b"d" * 32, 3, bytes(64))


def test_liars_say_what_has_no_honest_form() -> None:
    """Each of these was said by no liar once, and some broke whoever heard it."""
    liar, random = Adversary((3,), 4), Random(1)
    liar.overhear(CHUNK)
    said = [
        each
        for message in (VOTE, CertificateNotice(1, PROOF), DECIDED)
        for _ in range(1500)
        for each in liar.rewrite(3, 0, message, random)
    ]
    certificates = [each.certificate for each in said if isinstance(each, CertificateNotice)]
    certificates += [row.certificate for each in said if isinstance(each, CommittedEntries) for row in each.entries]
    assert {certificate.epoch for certificate in certificates} == {0, 1, 2, 99}
    assert {certificate.mode for certificate in certificates} == {Mode.BFT, Mode.RAFT}
    assert len({certificate.parent for certificate in certificates}) == 3
    assert {len(certificate.signers) for certificate in certificates} == {3, 4}
    assert any(row.witness for each in said if isinstance(each, CommittedEntries) for row in each.entries)
    chunks = [each for each in said if isinstance(each, SnapshotChunk)]
    assert {0, 200, 299, 300, 301} < {chunk.total_bytes for chunk in chunks}
    assert len({chunk.offset for chunk in chunks}) == 4
    assert {each.voter for each in said if isinstance(each, Vote)} == {1, 2, 3}
    forwards = {(each.kind, payload) for each in said if isinstance(each, Forward) for payload in each.payloads}
    assert {kind for kind, _ in forwards} == {EntryKind.SWITCH, EntryKind.MEMBERSHIP}
    assert {payload for kind, payload in forwards if kind is EntryKind.SWITCH} == set(false_switches(4))
    epoch = first_epoch(Mode.BFT, 0, all_voters(roster_of(4)))
    for kind, payload in forwards:
        begun = switched_epoch if kind is EntryKind.SWITCH else next_epoch
        with pytest.raises((SwitchError, MembershipError)):
            begun(epoch, payload, 1, bytes(32), AUTHORITIES)


def test_a_lying_leader_proposes_switches_that_no_operator_signed() -> None:
    liar, random = Adversary((0,), 4), Random(1)
    proposed = set()
    for height in range(1, 400):
        honest = Propose(1, 4, height, bytes(32), EntryKind.DATA, b"x", 0, bytes(64))
        told = {each for to in (1, 2, 3) for each in liar.rewrite(0, to, honest, random) if isinstance(each, Propose)}
        proposed |= {each.payload for each in told if each.kind is EntryKind.SWITCH and each.height == height}
    assert len(proposed) > 8
    assert proposed <= set(false_switches(4))
