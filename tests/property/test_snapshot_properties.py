"""Snapshots of the replicated state: the same bytes on every node, and going on from one is as if nothing happened."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.decision import Side, Veto
from core.payload import REPORT_DTYPE, REPORT_STATES, ReportBatch, encode_decisions, encode_reports
from core.recent_exposure import KEPT_INDICES
from core.records import OrderState
from core.swarm_snapshot import adopt_proofs, is_proven, proofs_of, restore_snapshot, take_snapshot
from core.swarm_state import SwarmState
from core.toggles import BASELINE, OPTIMISED, Consensus, Serialization
from net.certificate import entry_digest, signed_bytes
from net.membership import Member, Membership
from net.messages import ENDS_EPOCH, Certificate, Committed, Entry, EntryKind, Mode, Phase
from net.mode_switch import SwitchOrder, encode_switch
from net.payload_batch import encode_payloads
from tests.unit.test_swarm_state import CONTEXT, KEYS, batch, change_to, make_state, proposals, toggles_payload

PARENT = b"p" * 32


class Log:
    """A random log, entry by entry, as two nodes see it: the leader with signatures, a follower of Raft without."""

    def __init__(self, seed: int, mode: Mode) -> None:
        self.random = Random(seed)
        self.mode = mode
        self.state = make_state()
        self.sequence = 0
        self.epoch = 1
        self._ends = False

    def next_entry(self, content: tuple[EntryKind, bytes] | None = None) -> Entry:
        self.epoch += self._ends
        kind, payload = content or self._content()
        self._ends = kind in ENDS_EPOCH
        return Entry(self.state.applied_index + 1, 3, kind, payload)

    def _content(self) -> tuple[EntryKind, bytes]:
        draw = self.random.random()
        if draw < 0.02:
            mode = Mode.RAFT if self.state.toggles.consensus is Consensus.BFT else Mode.BFT
            return EntryKind.SWITCH, encode_switch(SwitchOrder(mode, 200, bytes(64)), 0)
        if draw < 0.05:
            return EntryKind.NOOP, b""
        if draw < 0.10:
            signed_ns, toggles = self.random.randrange(1, 1000), self.random.choice([BASELINE, OPTIMISED])
            return EntryKind.DATA, toggles_payload(toggles, signed_ns)
        if draw < 0.13:
            keys = [KEYS[node].verify_key.encode() for node in range(4)]
            spare = Member(9, bytes(self.random.randbytes(32)), voter=False, incarnation=self.random.randbytes(16))
            return EntryKind.MEMBERSHIP, change_to(
                Membership((*(Member(node, key) for node, key in enumerate(keys)), spare))
            )
        if draw < 0.16:
            return EntryKind.DATA, self.random.randbytes(5)
        if draw < 0.26:
            return EntryKind.BATCH, encode_payloads([self._decisions() for _ in range(self.random.randrange(1, 4))])
        if draw < 0.45 and self.state.open_decisions:
            return EntryKind.DATA, self._reports()
        return EntryKind.DATA, self._decisions()

    def _decisions(self) -> bytes:
        step = self.state.cycles_done
        rows = []
        for instrument, price in ((0, 5000), (1, 900)):
            side = self.random.choice(list(Side))
            lots = 0 if side is Side.HOLD else self.random.randrange(1, 60)
            rows.append((instrument, side, lots, price + self.random.randrange(-20, 20)))
        some = proposals(step, *rows[: self.random.randrange(1, 3)])
        vetoes = {0: Veto.MEMORY} if self.random.random() < 0.1 else None
        index, stated = self.state.judge_limits(some)
        decided = replace(batch(some, vetoes), judged_index=index, limit_vetoes=stated)
        return encode_decisions(decided, self.random.choice(list(Serialization)))

    def _reports(self) -> bytes:
        rows = []
        for name, decision in list(self.state.open_decisions.items())[: self.random.randrange(1, 4)]:
            self.sequence += 1
            state = self.random.choice([OrderState.PARTIALLY_FILLED, OrderState.FILLED, OrderState.EXPIRED])
            quantity = 0 if state is OrderState.EXPIRED else self.random.randrange(1, decision.quantity + 1)
            price = decision.limit_price if quantity else 0
            rows.append((self.sequence, self.sequence, quantity, price, 3, name.encode(), REPORT_STATES.index(state)))
        return encode_reports(ReportBatch(np.array(rows, REPORT_DTYPE), bytes(64)), Serialization.CAPNP)

    def seen_by(self, entry: Entry, signers: tuple[int, ...], term: int, phase: Phase = Phase.FINALIZE) -> Committed:
        digest = entry_digest(PARENT, entry)
        signed = signed_bytes(CONTEXT, phase, term, entry.index, digest)
        signatures = tuple(KEYS[node].sign(signed).signature for node in signers)
        proof = Certificate(
            self.mode, self.epoch, CONTEXT, phase, term, entry.index, PARENT, digest, signers, signatures
        )
        return Committed(self.epoch, entry, proof)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), before=st.integers(0, 130), after=st.integers(0, 30), bft=st.booleans())
def test_going_on_from_a_snapshot_is_as_if_nothing_had_happened(seed: int, before: int, after: int, bft: bool) -> None:
    log = Log(seed, Mode.BFT if bft else Mode.RAFT)
    leader, follower = log.state, make_state()
    # In Raft a follower's certificate has no signer and its own term; in Byzantine mode another quorum's signatures.
    theirs = ((1, 2, 3), 3) if bft else ((), 8)
    for _ in range(before):
        entry = log.next_entry()
        leader.apply(log.seen_by(entry, (0, 1, 2) if bft else (0,), 3))
        follower.apply(log.seen_by(entry, *theirs))
    data = take_snapshot(leader)
    assert take_snapshot(follower) == data
    restored = make_state()
    restore_snapshot(restored, data)
    assert take_snapshot(restored) == data
    assert restored.state_hash() == leader.state_hash()
    for _ in range(after):
        entry = log.next_entry()
        committed = log.seen_by(entry, (0, 1, 2) if bft else (0,), 3)
        told, heard = leader.apply(committed), restored.apply(committed)
        assert (told.vetoes, told.problem, told.denied) == (heard.vetoes, heard.problem, heard.denied)
        assert told.closed_trades == heard.closed_trades
        assert [d.client_order_id for d in told.accepted] == [d.client_order_id for d in heard.accepted]
    assert take_snapshot(restored) == take_snapshot(leader)
    assert restored.state_hash() == leader.state_hash()


def history(seed: int, mode: Mode, entries: int, signers: tuple[int, ...], phase: Phase = Phase.FINALIZE) -> SwarmState:
    log = Log(seed, mode)
    for _ in range(entries):
        log.state.apply(log.seen_by(log.next_entry(), signers, 3, phase))
    return log.state


def test_by_which_votes_a_node_saw_an_open_decision_decided_is_no_part_of_the_bytes() -> None:
    """On the fast path one node decides a height by FAST votes and another, told by a descendant, by FINALIZE ones."""
    fast, slow = (history(5, Mode.BFT, 40, (0, 1, 2), phase) for phase in (Phase.FAST, Phase.FINALIZE))
    assert fast.open_decisions
    data = take_snapshot(fast)
    assert data == take_snapshot(slow)
    for proofs in (fast, slow):
        restored = make_state()
        restore_snapshot(restored, data)
        assert adopt_proofs(restored, proofs_of(proofs)) == 0
        assert restored.open_decisions == proofs.open_decisions, "the phase is that of the signatures"


def test_byzantine_proofs_come_back_from_the_node_that_saw_them_and_forged_ones_do_not() -> None:
    state = history(5, Mode.BFT, 40, (0, 1, 2))
    assert state.open_decisions
    restored = make_state()
    restore_snapshot(restored, take_snapshot(state))
    assert not any(is_proven(d.committed) for d in restored.open_decisions.values())
    thin = history(5, Mode.BFT, 40, (0, 1))
    wanted = len({d.committed.entry.index for d in state.open_decisions.values()})
    assert adopt_proofs(restored, proofs_of(thin)) == wanted
    assert adopt_proofs(restored, proofs_of(state)) == 0
    assert restored.open_decisions == state.open_decisions
    assert adopt_proofs(restored, proofs_of(make_state())) == 0
    with pytest.raises(ValueError, match="no proofs"):
        adopt_proofs(restored, b"junk")


def test_a_restore_in_place_keeps_the_proofs_that_are_there() -> None:
    state = history(5, Mode.BFT, 40, (0, 1, 2))
    before = dict(state.open_decisions)
    restore_snapshot(state, take_snapshot(state))
    assert dict(state.open_decisions) == before


def test_the_exposure_of_each_recent_entry_survives() -> None:
    state = history(9, Mode.RAFT, 200, (0,))
    restored = make_state()
    restore_snapshot(restored, take_snapshot(state))
    for index in range(201):
        ours, theirs = state.recent.at(index), restored.recent.at(index)
        assert (ours is None) == (index < 200 - KEPT_INDICES)
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.to_bytes() == theirs.to_bytes()
    assert state.recent.at(201) is None


def test_bytes_that_are_no_snapshot_change_nothing() -> None:
    state = history(3, Mode.RAFT, 30, (0,))
    data, chain = take_snapshot(state), hashlib.sha256(take_snapshot(state)).digest()
    values = msgpack.unpackb(data, use_list=False)
    other_market = values | {"marks": b"", "decided_step": b""}
    nonsense = [values | {name: "x"} for name in values]
    for bad in (b"", b"junk", data[:-1], *(msgpack.packb(v) for v in (other_market, *nonsense))):
        with pytest.raises(ValueError, match="cannot be read"):
            restore_snapshot(state, bad)
        assert hashlib.sha256(take_snapshot(state)).digest() == chain


def without(state: SwarmState, node: int) -> bytes:
    members = tuple(replace(each, voter=each.voter and each.node != node) for each in state.membership.members)
    return change_to(Membership(members))


def with_open_decisions() -> Log:
    log = Log(5, Mode.BFT)
    for _ in range(12):
        log.state.apply(log.seen_by(log.next_entry((EntryKind.DATA, log._decisions())), (0, 1, 2), 3))
    assert log.state.open_decisions
    return log


def test_a_decision_is_proven_by_who_voted_in_its_epoch_whoever_votes_since() -> None:
    """An order open across a change that drops a signer could never be handed over again after a restart."""
    log = with_open_decisions()
    for gone in (2, 1):
        content = (EntryKind.MEMBERSHIP, without(log.state, gone))
        log.state.apply(log.seen_by(log.next_entry(content), (0, 1, 2), 3))
    assert log.state.membership.voters == (0, 3)
    assert [until for until, _ in log.state.memberships_before] == [1, 2]
    restored = make_state()
    restore_snapshot(restored, take_snapshot(log.state))
    assert take_snapshot(restored) == take_snapshot(log.state)
    again = with_open_decisions().state
    for name, each in again.open_decisions.items():
        certificate = replace(each.committed.certificate, signers=(0, 1, 3))
        again.open_decisions[name] = replace(each, committed=replace(each.committed, certificate=certificate))
    wanted = len({each.committed.entry.index for each in again.open_decisions.values()})
    assert adopt_proofs(restored, proofs_of(again)) == wanted, "3 did not sign"
    assert adopt_proofs(restored, proofs_of(log.state)) == 0
    assert restored.open_decisions == log.state.open_decisions


def test_members_of_before_are_forgotten_with_the_last_decision_of_theirs() -> None:
    log = with_open_decisions()
    log.state.apply(log.seen_by(log.next_entry((EntryKind.MEMBERSHIP, without(log.state, 2))), (0, 1, 2), 3))
    assert len(log.state.memberships_still_needed()) == 1
    restored = make_state()
    restore_snapshot(restored, take_snapshot(log.state))
    rows = [
        (log.sequence + at, log.sequence + at, 0, 0, 3, name.encode(), REPORT_STATES.index(OrderState.EXPIRED))
        for at, name in enumerate(log.state.open_decisions, 1)
    ]
    ended = encode_reports(ReportBatch(np.array(rows, REPORT_DTYPE), bytes(64)), Serialization.CAPNP)
    entry = log.next_entry((EntryKind.DATA, ended))
    for state in (log.state, restored):
        state.apply(log.seen_by(entry, (0, 1, 3), 3))
        assert not state.open_decisions
        assert state.memberships_still_needed() == ()
    assert take_snapshot(log.state) == take_snapshot(restored)
    again = make_state()
    restore_snapshot(again, take_snapshot(log.state))
    assert again.memberships_before == ()
