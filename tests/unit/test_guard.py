"""The gateway's guard: no order without a right certificate, none vetoed by the peers, none outside its own limits."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from nacl.signing import SigningKey

from core.decision import Side, Veto
from core.gateway.guard import MEMBERS_GRACE_S, GuardError, OrderGuard, UnknownEpochError
from core.orders.order import ExecutionReport
from core.payload import encode_decisions
from core.records import OrderState
from core.swarm_state import JUDGED_INDICES_MAX
from core.toggles import OPTIMISED, Serialization
from net.certificate import entry_digest, epoch_context, leader_word_bytes, signed_bytes
from net.membership import all_voters
from net.messages import Certificate, Committed, Entry, EntryKind, Mode, Phase
from net.payload_batch import encode_payloads
from tests.unit.test_swarm_state import KEYS, batch, make_state, proposals, toggles_payload

PARENT = b"p" * 32
NODES = (0, 1, 2, 3)


def make_guard(mode: Mode = Mode.BFT) -> OrderGuard:
    state = make_state()
    members = all_voters({n: KEYS[n].verify_key.encode() for n in NODES})
    return OrderGuard(members, {1: mode}, state.limits, state.portfolio)


def payload_of(*rows: tuple[int, Side, int, int], vetoes: dict[int, Veto] | None = None) -> bytes:
    return encode_decisions(batch(proposals(0, *rows), vetoes), Serialization.CAPNP)


def byzantine(
    payload: bytes,
    signers: tuple[int, ...] = (0, 1, 2),
    keys: dict[int, SigningKey] | None = None,
    kind: EntryKind = EntryKind.DATA,
    index: int = 1,
) -> Committed:
    """An entry with a quorum of FINALIZE signatures."""
    entry = Entry(index, 4, kind, payload)
    context = epoch_context(1, Mode.BFT, 0, PARENT)
    digest = entry_digest(PARENT, entry)
    message = signed_bytes(context, Phase.FINALIZE, 4, index, digest)
    signatures = tuple((keys or KEYS)[n].sign(message).signature for n in signers)
    proof = Certificate(Mode.BFT, 1, context, Phase.FINALIZE, 4, index, PARENT, digest, signers, signatures)
    return Committed(1, entry, proof)


def led(payload: bytes, mode: Mode = Mode.RAFT, kind: EntryKind = EntryKind.DATA, index: int = 1) -> Committed:
    """An entry with the Raft leader's word."""
    entry = Entry(index, 2, kind, payload)
    context = epoch_context(1, mode, 0, PARENT)
    digest = entry_digest(PARENT, entry)
    word = KEYS[0].sign(leader_word_bytes(context, 2, index, PARENT, digest)).signature
    return Committed(1, entry, Certificate(mode, 1, context, Phase.FINALIZE, 2, index, PARENT, digest, (0,), (word,)))


def test_a_quorum_and_a_leaders_word_are_let_through() -> None:
    guard = make_guard()
    payload = payload_of((0, Side.BUY, 10, 5000), (1, Side.HOLD, 0, 900))
    guard.verify(byzantine(payload))
    make_guard(Mode.RAFT).verify(led(payload))
    (request,) = guard.requests_at(byzantine(payload), [0])
    assert (request.instrument, request.side, request.quantity_lots, request.limit_ticks) == (0, 1, 10, 5000)
    assert guard.check(byzantine(payload), [request]) == {}


@pytest.mark.parametrize("runs", list(Mode))
@pytest.mark.parametrize("said", list(Mode))
def test_a_leaders_word_counts_in_an_epoch_of_its_mode_alone(runs: Mode, said: Mode) -> None:
    """One lying voter of a Byzantine swarm could hand over an entry with a Raft certificate, its own word alone."""
    payload = payload_of((0, Side.BUY, 10, 5000))
    entry = byzantine(payload) if said is Mode.BFT else led(payload, said)
    if runs is said:
        make_guard(runs).verify(entry)
        return
    with pytest.raises(GuardError, match=f"of mode {said.name.lower()}, epoch 1 is of mode {runs.name.lower()}"):
        make_guard(runs).verify(entry)


def test_an_epoch_that_nobody_told_of_yet_is_another_matter() -> None:
    guard = make_guard()
    entry = led(payload_of((0, Side.BUY, 10, 5000)))
    ahead = replace(entry, epoch=2, certificate=replace(entry.certificate, epoch=2))
    with pytest.raises(UnknownEpochError, match="epoch 2 in mode raft"):
        guard.verify(ahead)
    guard.set_members(all_voters({n: KEYS[n].verify_key.encode() for n in NODES}), {1: Mode.BFT, 2: Mode.RAFT})
    guard.verify(ahead)


def test_tampered_foreign_and_thin_certificates_are_refused() -> None:
    guard = make_guard()
    payload = payload_of((0, Side.BUY, 10, 5000))
    good = byzantine(payload)
    other = replace(good, entry=replace(good.entry, payload=payload_of((0, Side.BUY, 11, 5000))))
    strangers = {n: SigningKey(bytes([n + 50]) * 32) for n in NODES}
    for bad in (
        other,
        byzantine(payload, signers=(0, 1)),
        byzantine(payload, signers=(0, 1, 1)),
        byzantine(payload, keys=strangers),
        replace(good, certificate=replace(good.certificate, context=b"x" * 32)),
        replace(good, certificate=replace(good.certificate, phase=Phase.NOTARIZE)),
    ):
        with pytest.raises(GuardError, match="certificate refused"):
            guard.verify(bad)
    anothers = replace(led(payload), certificate=replace(led(payload).certificate, signers=(1,)))
    with pytest.raises(GuardError, match="certificate refused"):
        make_guard(Mode.RAFT).verify(anothers)


def test_a_checked_certificate_does_not_vouch_for_another_payload() -> None:
    guard = make_guard()
    good = byzantine(payload_of((0, Side.BUY, 10, 5000)))
    guard.verify(good)
    with pytest.raises(GuardError):
        guard.verify(replace(good, entry=replace(good.entry, payload=payload_of((0, Side.BUY, 99, 5000)))))


def test_vetoed_and_oversized_orders_are_denied_with_the_reason() -> None:
    guard = make_guard()
    too_much = make_state().limits.order_notional_max // 5000 + 1
    committed = byzantine(payload_of((0, Side.BUY, too_much, 5000), (1, Side.BUY, 10, 900), vetoes={1: Veto.MEMORY}))
    requests = guard.requests_at(committed, [0, 1])
    denials = guard.check(committed, requests)
    assert denials[requests[0].client_order_id] == "outside the gateway's limits: notional limit"
    assert denials[requests[1].client_order_id] == "vetoed by the peers: memory"


def test_orders_in_flight_count_against_the_limits_until_they_end() -> None:
    guard = make_guard()
    limit = make_state().limits.position_notional_max
    committed = byzantine(payload_of((0, Side.BUY, int(0.55 * limit / 5000), 5000)))
    (first,) = guard.requests_at(committed, [0])
    assert guard.check(committed, [first]) == {}
    guard.reserve([first])
    (second,) = guard.requests(2, 9, committed.entry.payload)
    assert "position limit" in guard.check(committed, [second])[second.client_order_id]
    ended = ExecutionReport(first.client_order_id, OrderState.EXPIRED, 0, 0, 0, 0, 0, "", 0, 1, 0, 1, 1, 1, 0)
    guard.reported(ended, step=0)
    assert guard.check(committed, [second]) == {}


def test_a_large_order_in_auto_mode_needs_the_byzantine_witness() -> None:
    guard = make_guard(Mode.AUTO)
    critical = make_state().limits.critical_notional // 5000 + 1
    with pytest.raises(GuardError, match="no Byzantine certificate"):
        guard.verify(led(payload_of((0, Side.BUY, critical, 5000)), Mode.AUTO))
    guard.verify(led(payload_of((0, Side.BUY, 1, 5000)), Mode.AUTO))


def test_what_is_no_order_is_refused_by_name() -> None:
    guard = make_guard()
    committed = byzantine(payload_of((0, Side.HOLD, 0, 5000)))
    with pytest.raises(GuardError, match="no order at positions"):
        guard.requests_at(committed, [0])
    with pytest.raises(GuardError, match="holds no decisions"):
        guard.verify(byzantine(toggles_payload(OPTIMISED)))


def test_orders_of_a_batch_are_told_apart_by_their_payload() -> None:
    guard = make_guard()
    first, second = payload_of((0, Side.BUY, 10, 5000)), payload_of((1, Side.BUY, 20, 900), vetoes={0: Veto.MEMORY})
    both = byzantine(encode_payloads([first, toggles_payload(OPTIMISED), second]), kind=EntryKind.BATCH)
    guard.verify(both)
    (one,), (two,) = guard.requests_at(both, [0]), guard.requests_at(both, [0], 2)
    assert (one.instrument, two.instrument) == (0, 1)
    assert one.client_order_id != two.client_order_id
    assert guard.check(both, [one]) == {}
    assert guard.check(both, [two], 2) == {two.client_order_id: "vetoed by the peers: memory"}
    for part, words in ((1, "holds no decisions"), (3, "no payload 3"), (-1, "no payload -1")):
        with pytest.raises(GuardError, match=words):
            guard.requests_at(both, [0], part)
    critical = payload_of((0, Side.BUY, make_state().limits.critical_notional // 5000 + 1, 5000))
    with pytest.raises(GuardError, match="no Byzantine certificate"):
        make_guard(Mode.AUTO).verify(led(encode_payloads([first, critical]), Mode.AUTO, EntryKind.BATCH))
    with pytest.raises(GuardError, match="batch of"):
        guard.verify(byzantine(b"junk", kind=EntryKind.BATCH))


def test_what_the_members_before_decided_counts_for_a_while_and_only_in_their_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard, now_s = make_guard(), 100.0
    monkeypatch.setattr("core.gateway.guard.time.monotonic", lambda: now_s)
    decided = byzantine(payload_of((0, Side.BUY, 1, 100)))
    guard.set_members(all_voters({n: KEYS[n].verify_key.encode() for n in (1, 2, 3)}), {1: Mode.BFT, 2: Mode.BFT})
    guard.verify_certificate(decided)
    of_the_new_epoch = replace(decided, epoch=2, certificate=replace(decided.certificate, epoch=2))
    with pytest.raises(GuardError, match="not in the roster"):
        guard.verify_certificate(of_the_new_epoch)
    now_s += MEMBERS_GRACE_S
    with pytest.raises(GuardError, match="not in the roster"):
        guard.verify_certificate(decided)


def test_a_veto_is_counted_by_the_voters_of_the_orders_own_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four are a veto; of seven, three are."""
    guard, now_s = make_guard(), 100.0
    monkeypatch.setattr("core.gateway.guard.time.monotonic", lambda: now_s)
    vetoes = {0: Veto.MEMORY}  # by both peers
    decided = byzantine(payload_of((0, Side.BUY, 1, 100), vetoes=vetoes))
    (request,) = guard.requests_at(decided, [0])
    assert guard.check(decided, [request]) == {request.client_order_id: "vetoed by the peers: memory"}
    seven = all_voters({n: SigningKey(bytes([n + 1]) * 32).verify_key.encode() for n in range(7)})
    guard.set_members(seven, {1: Mode.BFT, 2: Mode.BFT})
    assert guard.check(decided, [request]), "it was decided by four, of whom two are a veto"
    later = replace(decided, epoch=2)
    (request,) = guard.requests_at(later, [0])
    assert guard.check(later, [request]) == {}, "of seven, two are none"
    guard.set_members(all_voters({n: KEYS[n].verify_key.encode() for n in NODES}), {3: Mode.BFT})
    assert guard.check(later, [request]) == {}, "nor after another change"
    assert guard.check(replace(decided, epoch=3), [request])


def at_step(step: int, index: int, quantity: int = 10, judged: int | None = None, vetoes: bytes = b"") -> Committed:
    """A quorum's decision to buy instrument 0."""
    rows = proposals(step, (0, Side.BUY, quantity, 5000))
    decided = replace(batch(rows), judged_index=index - 1 if judged is None else judged, limit_vetoes=vetoes)
    return byzantine(encode_decisions(decided, Serialization.CAPNP), index=index)


def bring(guard: OrderGuard, committed: Committed, part: int = 0) -> dict[str, str]:
    guard.verify(committed)
    return guard.check(committed, guard.requests_at(committed, [0], part), part)


def both_say(committed: Committed, guard: OrderGuard) -> bool:
    """Whether the state machine, asked with this one entry, accepts its order; the guard must say the same."""
    accepted = bool(make_state().apply(committed).accepted)
    try:
        assert not bring(guard, committed)
    except GuardError:
        return False
    assert accepted
    return True


def test_what_the_state_machine_denied_as_stale_is_refused_and_nothing_else() -> None:
    last = JUDGED_INDICES_MAX
    for index, judged, good in (
        (1, 0, True),
        (last, 0, True),
        (last + 1, 0, False),
        (9, 8, True),
        (9, 9, False),
        (9, 10, False),
        (9, 2**63, False),
    ):
        committed = at_step(3, index, judged=judged)
        assert bool(make_state().apply(committed).accepted) is good
        assert both_say(committed, make_guard()) is good, (index, judged)


def test_an_order_that_its_own_proposer_says_is_beyond_the_limits_is_refused() -> None:
    vetoed = at_step(3, 5, vetoes=bytes([Veto.POSITION_LIMIT]))
    assert not make_state().apply(vetoed).accepted
    with pytest.raises(GuardError, match="denied position 0: position limit"):
        bring(make_guard(), vetoed)


def test_decisions_of_mixed_steps_are_none() -> None:
    rows = proposals(3, (0, Side.BUY, 10, 5000), (1, Side.BUY, 10, 900))
    rows["step"][1] = 4
    mixed = byzantine(encode_decisions(batch(rows), Serialization.CAPNP))
    assert make_state().apply(mixed).problem
    with pytest.raises(GuardError, match="not well formed"):
        bring(make_guard(), mixed)


def test_a_second_decision_of_a_step_is_refused_in_whatever_order_entries_come() -> None:
    guard = make_guard()
    first, again, later = at_step(3, 5), at_step(3, 6, quantity=11), at_step(4, 9)
    assert not bring(guard, later), "an old entry may come after a newer one, from the leader that takes over"
    assert not bring(guard, first)
    for _ in range(2):
        with pytest.raises(GuardError, match="step 3 of instrument 0 was decided before"):
            bring(guard, again)
    assert not bring(guard, first), "and once more after a reconnect"
    assert not bring(guard, at_step(5, 10))
    with pytest.raises(GuardError, match="decided before"):
        bring(guard, at_step(4, 12))
    assert not bring(guard, at_step(4, 8)), "below the entry that decided it"


def test_a_second_decision_of_a_step_in_one_entry_is_refused() -> None:
    guard = make_guard()
    parts = [encode_decisions(batch(proposals(3, (0, Side.BUY, lots, 5000))), Serialization.CAPNP) for lots in (1, 2)]
    both = byzantine(encode_payloads(parts), kind=EntryKind.BATCH)
    assert len(make_state().apply(both).accepted) == 1
    assert not bring(guard, both)
    with pytest.raises(GuardError, match="decided before"):
        bring(guard, both, part=1)


@pytest.mark.parametrize("mode", [Mode.RAFT, Mode.AUTO])
def test_one_leaders_word_makes_no_step_look_decided(mode: Mode) -> None:
    guard = make_guard(mode)
    lie = replace(batch(proposals(2**40, (0, Side.BUY, 1, 5000))), judged_index=2)
    assert not bring(guard, led(encode_decisions(lie, Serialization.CAPNP), mode, index=3))
    members = all_voters({n: KEYS[n].verify_key.encode() for n in NODES})
    guard.set_members(members, {1: mode, 2: Mode.BFT})
    later = at_step(3, 5)
    assert not bring(guard, replace(later, epoch=2, certificate=replace(later.certificate, epoch=2)))


def test_random_orders_of_arrival_refuse_exactly_what_the_state_machine_calls_a_duplicate() -> None:
    chance = random.Random(7)
    for _ in range(50):
        steps = [chance.randrange(6) for _ in range(12)]
        log = [at_step(step, index, quantity=index) for index, step in enumerate(steps, 1)]
        state = make_state()
        state.limits = replace(state.limits, position_notional_max=10**15, gross_exposure_max=10**15)
        accepted = [bool(state.apply(each).accepted) for each in log]
        guard = make_guard()
        chance.shuffle(arrivals := list(range(12)))
        for at in arrivals:
            guard.verify(log[at])
        chance.shuffle(arrivals)
        for at in arrivals:
            try:
                bring(guard, log[at])
                sent = True
            except GuardError:
                sent = False
            assert sent is accepted[at], (steps, at)
