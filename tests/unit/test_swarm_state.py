"""The replicated state machine: same entries, same state; vetoes, limits, duplicates and reports decide alike."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from nacl.signing import SigningKey
from numpy.typing import NDArray

from core.config import Settings
from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE, Reason, Side, Veto
from core.genesis import genesis_state
from core.market.spec import Instrument, MarketSpec
from core.orders.identity import client_order_id
from core.payload import (
    REPORT_DTYPE,
    REPORT_STATES,
    DecisionBatch,
    PayloadKind,
    ReportBatch,
    SignedOpinions,
    decode,
    encode_decisions,
    encode_reports,
    encode_toggle_change,
    opinion_bytes,
    report_bytes,
)
from core.records import OrderState
from core.session import GATEWAY_ID, OPERATOR_ID
from core.swarm_state import JUDGED_INDICES_MAX, SwarmState
from core.toggle_change import sign_toggles
from core.toggles import OPTIMISED, Consensus, Serialization, Toggles
from core.trading_state import TradingState
from core.vote_check import ContentVerdict, judge_content, judge_entry
from net.epoch import first_epoch
from net.identity import Roster, RosterEntry
from net.membership import Member, Membership
from net.membership_change import sign_change
from net.messages import Certificate, Committed, Entry, EntryKind, Mode, Phase
from net.payload_batch import encode_payloads

KEYS = {identity: SigningKey(bytes([identity]) * 32) for identity in (0, 1, 2, 3, GATEWAY_ID, OPERATOR_ID)}
ROLES = {GATEWAY_ID: "gateway", OPERATOR_ID: "operator"}
PAYLOADS: dict[int, bytes] = {}
"""Payload by log index, of the test that runs."""
CONTEXT = b"c" * 32
"""Of the epoch that `committed` puts every entry in."""
SPEC = MarketSpec(
    name="two",
    title="two instruments",
    instruments=(Instrument(0, "AAA"), Instrument(1, "BBB")),
    tick_size=0.01,
    lot_size=1.0,
    steps_total=1000,
    step_label="day",
    has_depth=False,
    source="test",
    annualisation=252.0,
)


def change_to(members: Membership) -> bytes:
    """The payload of a MEMBERSHIP entry by the word of node 0."""
    return sign_change(first_epoch(Mode.RAFT, 0, members), members, None, 0, lambda said: KEYS[0].sign(said).signature)


def make_state() -> SwarmState:
    entries = [
        RosterEntry(i, f"peer-{i}", ROLES.get(i, "node"), key.verify_key.encode(), None) for i, key in KEYS.items()
    ]
    return genesis_state(Settings.model_construct(), SPEC, Roster(entries))


def toggles_payload(toggles: Toggles, signed_ns: int = 1, mode: Mode = Mode.BFT) -> bytes:
    """What the operator signed in the epoch of `CONTEXT`, whose mode is `mode`."""
    epoch = replace(first_epoch(mode, 0, make_state().membership), context=CONTEXT)
    sign = KEYS[OPERATOR_ID].sign
    return encode_toggle_change(sign_toggles(toggles, epoch, signed_ns, OPERATOR_ID, lambda said: sign(said).signature))


def proposals(step: int, *rows: tuple[int, Side, int, int]) -> NDArray[np.void]:
    """(instrument, side, lots, limit ticks) rows."""
    array = np.zeros(len(rows), PROPOSAL_DTYPE)
    for at, (instrument, side, quantity, price) in enumerate(rows):
        array[at] = (step, quantity, price, 0, 0.5, instrument, side, Reason.MOMENTUM)
    return array


def batch(rows: NDArray[np.void], vetoes: dict[int, Veto] | None = None) -> DecisionBatch:
    opinions = []
    for peer in (1, 2):
        opinion = np.zeros(rows.size, OPINION_DTYPE)
        opinion["step"] = rows["step"]
        opinion["instrument"] = rows["instrument"]
        for row, veto in (vetoes or {}).items():
            opinion["veto"][row] = veto
        signature = KEYS[peer].sign(opinion_bytes(peer, rows, opinion)).signature
        opinions.append(SignedOpinions(peer, opinion, signature))
    return DecisionBatch(int(rows["step"][0]), 0, rows, tuple(opinions))


def committed(index: int, payload: bytes, kind: EntryKind = EntryKind.DATA) -> Committed:
    PAYLOADS[index] = payload
    entry = Entry(index, 1, kind, payload)
    digest = hashlib.sha256(payload).digest()
    proof = Certificate(Mode.RAFT, 1, CONTEXT, Phase.FINALIZE, 1, index, b"p" * 32, digest, (0,), (b"s" * 64,))
    return Committed(1, entry, proof)


def in_auto(entry: Committed) -> Committed:
    return replace(entry, certificate=replace(entry.certificate, mode=Mode.AUTO))


def report(
    sequence: int, index: int, position: int, state: OrderState, quantity: int = 0, price: int = 0
) -> tuple[object, ...]:
    digest = hashlib.sha256(PAYLOADS[index]).digest()
    name = client_order_id(1, index, position, digest).encode()
    return (sequence, sequence, quantity, price, 3, name, REPORT_STATES.index(state))


def reports(*rows: tuple[object, ...]) -> bytes:
    array = np.array(list(rows), REPORT_DTYPE)
    signature = KEYS[GATEWAY_ID].sign(report_bytes(array)).signature
    return encode_reports(ReportBatch(array, signature), Serialization.CAPNP)


@pytest.mark.parametrize("serialization", list(Serialization))
def test_decisions_come_back_from_every_layout(serialization: Serialization) -> None:
    original = batch(proposals(7, (0, Side.BUY, 10, 5000), (1, Side.HOLD, 0, 900)))
    back = decode(encode_decisions(original, serialization))
    assert isinstance(back, DecisionBatch)
    assert (back.step, back.proposer) == (7, 0)
    assert back.proposals.tobytes() == original.proposals.tobytes()
    assert [(s.peer, s.opinions.tobytes(), s.signature) for s in back.opinions] == [
        (s.peer, s.opinions.tobytes(), s.signature) for s in original.opinions
    ]


def test_accepted_order_reserves_and_a_fill_becomes_a_position() -> None:
    state = make_state()
    payload = encode_decisions(
        batch(proposals(0, (0, Side.BUY, 10, 5000), (1, Side.HOLD, 0, 900))), Serialization.CAPNP
    )
    applied = state.apply(committed(1, payload))
    assert [d.quantity for d in applied.accepted] == [10]
    assert state.portfolio.reserved_buy.tolist() == [10, 0]
    assert state.cycles_done == 1
    filled = state.apply(committed(2, reports(report(1, 1, 0, OrderState.FILLED, 10, 4990))))
    assert not filled.problem
    assert state.portfolio.positions.tolist() == [10, 0]
    assert state.portfolio.reserved_buy.tolist() == [0, 0]
    assert state.portfolio.cash == state.portfolio.starting_cash - 10 * 4990 - 3
    assert not state.open_decisions


def test_a_report_counts_once_and_a_gap_is_refused() -> None:
    state = make_state()
    payload = encode_decisions(
        batch(proposals(0, (0, Side.BUY, 10, 5000), (1, Side.HOLD, 0, 900))), Serialization.CAPNP
    )
    state.apply(committed(1, payload))
    rows = report(1, 1, 0, OrderState.FILLED, 10, 4990)
    state.apply(committed(2, reports(rows)))
    cash = state.portfolio.cash
    state.apply(committed(3, reports(rows)))
    assert state.portfolio.cash == cash
    gap = state.apply(committed(4, reports(report(3, 1, 0, OrderState.FILLED, 10, 4990))))
    assert "do not follow" in gap.problem
    assert state.last_report == 1


def test_fills_of_orders_that_nobody_decided_are_named() -> None:
    state = make_state()
    state.apply(committed(1, encoded(batch(proposals(0, (0, Side.BUY, 10, 5000))))))
    PAYLOADS[7] = b"another"
    ours = report(1, 1, 0, OrderState.FILLED, 10, 4990)
    strange, denied = report(2, 7, 0, OrderState.FILLED, 5, 4990), report(3, 7, 0, OrderState.DENIED)
    applied = state.apply(committed(2, encode_payloads([reports(ours, strange, denied)]), EntryKind.BATCH))
    assert applied.strays == (strange[5].decode(),)  # type: ignore[attr-defined]
    assert state.portfolio.positions.tolist() == [10, 0]
    assert state.last_report == 3


def test_a_malformed_report_is_refused_whole() -> None:
    state = make_state()
    payload = encode_decisions(
        batch(proposals(0, (0, Side.BUY, 10, 5000), (1, Side.HOLD, 0, 900))), Serialization.CAPNP
    )
    state.apply(committed(1, payload))
    for quantity, price in ((10, 0), (-10, 4990)):
        bad = reports(
            report(1, 1, 0, OrderState.PARTIALLY_FILLED, 1, 4990), report(2, 1, 0, OrderState.FILLED, quantity, price)
        )
        assert "malformed" in state.apply(committed(state.applied_index + 1, bad)).problem
        assert state.portfolio.positions.tolist() == [0, 0]
        assert state.last_report == 0


def test_vetoes_of_f_plus_one_peers_deny_and_block_nothing() -> None:
    state = make_state()
    rows = proposals(0, (0, Side.BUY, 10, 5000), (1, Side.BUY, 10, 900))
    applied = state.apply(committed(1, encode_decisions(batch(rows, {0: Veto.MEMORY}), Serialization.MSGPACK)))
    assert applied.vetoes == (Veto.MEMORY, 0)
    assert applied.denied == 1
    assert [d.instrument for d in applied.accepted] == [1]
    assert state.cycles_done == 1


def test_a_step_and_instrument_is_decided_once() -> None:
    state = make_state()
    payload = encode_decisions(
        batch(proposals(0, (0, Side.BUY, 10, 5000), (1, Side.HOLD, 0, 900))), Serialization.CAPNP
    )
    state.apply(committed(1, payload))
    again = state.apply(committed(2, payload))
    assert set(again.vetoes) == {Veto.DUPLICATE}
    assert not again.accepted
    assert state.decisions_committed == 2


def test_an_order_outside_the_limits_is_denied() -> None:
    state = make_state()
    too_much = state.limits.order_notional_max // 5000 + 1
    rows = proposals(0, (0, Side.BUY, too_much, 5000))
    applied = state.apply(committed(1, encode_decisions(batch(rows), Serialization.CAPNP)))
    assert applied.vetoes == (Veto.NOTIONAL_LIMIT,)
    assert not applied.accepted


def test_what_is_critical_in_auto_mode_and_has_no_witness_is_a_denial() -> None:
    state = make_state()
    rows = proposals(0, (0, Side.BUY, 10, 5000))
    state.limits = replace(state.limits, critical_notional=49_999)
    applied = state.apply(in_auto(committed(1, encode_decisions(batch(rows), Serialization.CAPNP))))
    assert applied.denied == 1
    assert not applied.accepted
    change = state.apply(in_auto(committed(2, toggles_payload(OPTIMISED))))
    assert change.problem
    assert state.toggles != OPTIMISED


def test_what_is_critical_is_judged_behind_the_entry_before_it() -> None:
    """Two orders that a node may decide in one go: the first takes the exposure beyond the soft limit."""
    first, second = (
        encode_decisions(batch(proposals(step, (0, Side.BUY, 10, 5000))), Serialization.CAPNP) for step in (0, 1)
    )
    hashes = []
    for asked_first in (False, True):
        state = make_state()
        state.limits = replace(state.limits, gross_exposure_soft=60_000)
        assert not asked_first or not state.payload_is_critical(second), "so a leader may order it as it stands"
        assert state.apply(in_auto(committed(1, first))).accepted
        assert state.payload_is_critical(second)
        assert state.apply(in_auto(committed(2, second))).denied == 1
        hashes.append(state.state_hash())
        witnessed = committed(2, second)
        again = make_state()
        again.limits = state.limits
        again.apply(in_auto(committed(1, first)))
        assert again.apply(replace(in_auto(witnessed), witness=witnessed.certificate)).accepted
    assert hashes[0] == hashes[1]


def test_a_denied_entry_changes_nothing_but_what_is_decided() -> None:
    state = make_state()
    rows = proposals(0, (0, Side.BUY, 10, 5000))
    applied = state.apply(committed(1, encode_decisions(batch(rows), Serialization.CAPNP)), denied=True)
    assert applied.denied == 1
    assert not applied.accepted
    change = state.apply(committed(2, toggles_payload(OPTIMISED)), denied=True)
    assert change.problem
    assert state.toggles != OPTIMISED


NESTED = b"\x91" * 900 + b"\x90"
HOSTILE = (
    bytes([PayloadKind.TRADING]) + msgpack.packb(("active", float("inf"), 100, "")) + bytes(64),
    bytes([PayloadKind.TRADING]) + msgpack.packb(("active", 1e300, 100, "")) + bytes(64),
    bytes([PayloadKind.TRADING]) + NESTED + bytes(64),
    bytes([PayloadKind.TOGGLES]) + msgpack.packb(([], None, 1, 100)) + bytes(64),
    bytes([PayloadKind.TOGGLES]) + msgpack.packb(("", None, 1, 100)) + bytes(64),
    bytes([PayloadKind.TOGGLES]) + NESTED + bytes(64),
    bytes([PayloadKind.LIMITS]) + NESTED + bytes(64),
    b"\x03[]",
)


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
def test_any_bytes_of_a_member_are_refused_or_change_nothing(payload: bytes) -> None:
    """One forwarded payload of a liar that made a check raise ended the process, again at every start."""
    state = make_state()
    assert judge_entry(state, EntryKind.DATA, payload, state.membership, leads=True) is ContentVerdict.REFUSE
    assert not state.payload_is_critical(payload)
    assert state.apply(committed(1, payload)).problem


@pytest.mark.parametrize("step", [2**62 + 1, 2**63, 2**64 - 1])
def test_a_step_beyond_all_time_is_refused_and_decides_nothing(step: int) -> None:
    state = make_state()
    payload = encode_decisions(batch(proposals(step, (0, Side.HOLD, 0, 0))), Serialization.CAPNP)
    assert judge_entry(state, EntryKind.DATA, payload, state.membership, leads=True) is ContentVerdict.REFUSE
    assert state.apply(committed(1, payload)).problem
    assert state.decided_step[0] == -1


def test_orders_beyond_those_that_can_be_open_are_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.swarm_state.OPEN_DECISIONS_MAX", 3)
    state = make_state()
    for step, accepted in ((0, 2), (1, 1), (2, 0)):
        rows = proposals(step, (0, Side.BUY, 1, 5000), (1, Side.BUY, 1, 5000))
        applied = state.apply(committed(step + 1, encode_decisions(batch(rows), Serialization.CAPNP)))
        assert len(applied.accepted) == accepted
        assert applied.vetoes == (0,) * accepted + (Veto.ORDER_RATE,) * (2 - accepted)


def test_the_hash_tells_states_apart_whatever_of_them_differs() -> None:
    hashes = {make_state().state_hash()}
    for number, change in enumerate(
        (
            {"limits": replace(make_state().limits, critical_notional=7)},
            {"trading": TradingState.HALTED},
            {"toggles": OPTIMISED},
            {"last_report": 5},
            {"trading_keys": {}},
            {"decided_step": make_state().decided_step + 1},
            {"marks": make_state().marks + 1},
        )
    ):
        state = make_state()
        for name, value in change.items():
            setattr(state, name, value)
        hashes.add(state.state_hash())
        assert len(hashes) == number + 2, change


def test_content_check_wants_a_quorum_of_right_signatures() -> None:
    state = make_state()
    good = batch(proposals(0, (0, Side.BUY, 10, 5000)))
    assert state.content_is_valid(encode_decisions(good, Serialization.CAPNP), signatures=True)
    first, second = good.opinions
    forged = SignedOpinions(second.peer, second.opinions, bytes(64))
    for opinions in ((first,), (first, first), (first, forged)):
        payload = encode_decisions(DecisionBatch(0, 0, good.proposals, opinions), Serialization.CAPNP)
        assert not state.content_is_valid(payload, signatures=True)
    tampered = good.proposals.copy()
    tampered["quantity"] = 11
    payload = encode_decisions(DecisionBatch(0, 0, tampered, good.opinions), Serialization.CAPNP)
    assert not state.content_is_valid(payload, signatures=True)
    assert not state.content_is_valid(b"\x01garbage", signatures=True)


def test_opinions_are_judged_by_the_members_of_the_epoch_that_they_are_proposed_in() -> None:
    """Whether this state has applied the change of the members already makes no difference to a vote."""
    state = make_state()
    before = state.membership
    payload = encode_decisions(batch(proposals(0, (0, Side.BUY, 10, 5000))), Serialization.CAPNP)
    without_2 = Membership(tuple(replace(each, voter=each.node != 2) for each in before.members))

    def verdicts() -> list[ContentVerdict]:
        return [judge_entry(state, EntryKind.DATA, payload, each, leads=False) for each in (before, without_2)]

    assert verdicts() == [ContentVerdict.ACCEPT, ContentVerdict.REFUSE], "2 gave its opinion"
    state.apply(committed(1, change_to(without_2), EntryKind.MEMBERSHIP))
    assert state.membership == without_2
    assert verdicts() == [ContentVerdict.ACCEPT, ContentVerdict.REFUSE]


def test_reports_that_the_gateway_did_not_sign_are_refused() -> None:
    state = make_state()
    array = np.array([report(1, 1, 0, OrderState.FILLED, 10, 4990)], REPORT_DTYPE)
    forged = encode_reports(ReportBatch(array, KEYS[0].sign(report_bytes(array)).signature), Serialization.CAPNP)
    assert not state.content_is_valid(forged, signatures=True)
    assert state.content_is_valid(reports(report(1, 1, 0, OrderState.FILLED, 10, 4990)), signatures=True)


def test_two_nodes_with_the_same_entries_agree_to_the_hash() -> None:
    one, two = make_state(), make_state()
    entries = [
        committed(1, encode_decisions(batch(proposals(0, (0, Side.BUY, 10, 5000))), Serialization.CAPNP)),
        committed(2, b"", EntryKind.NOOP),
        committed(3, toggles_payload(OPTIMISED)),
        committed(4, reports(report(1, 1, 0, OrderState.FILLED, 4, 4990))),
    ]
    for entry in entries:
        one.apply(entry)
        two.apply(entry)
    assert one.state_hash() == two.state_hash()
    assert one.toggles == replace(OPTIMISED, consensus=Consensus.BFT)
    two.apply(committed(5, b"", EntryKind.NOOP))
    assert one.state_hash() != two.state_hash()


def test_garbage_changes_nothing_and_says_so() -> None:
    state = make_state()
    assert "unknown payload kind" in state.apply(committed(1, b"\xff\x00")).problem
    assert "malformed" in state.apply(committed(2, b"\x06{}x")).problem
    with pytest.raises(ValueError, match="applied after"):
        state.apply(committed(2, b""))


def judged(state: SwarmState, rows: NDArray[np.void]) -> DecisionBatch:
    """What an honest proposer puts to the vote."""
    index, vetoes = state.judge_limits(rows)
    return replace(batch(rows), judged_index=index, limit_vetoes=vetoes)


def encoded(value: DecisionBatch) -> bytes:
    return encode_decisions(value, Serialization.CAPNP)


def test_an_order_beyond_the_limits_is_refused_at_the_vote_unless_its_proposer_says_that_it_is_denied() -> None:
    state = make_state()
    too_much = state.limits.order_notional_max // 5000 + 1
    rows = proposals(0, (0, Side.BUY, too_much, 5000), (1, Side.BUY, 10, 900))
    honest = judged(state, rows)
    assert list(honest.limit_vetoes) == [Veto.NOTIONAL_LIMIT, 0]
    assert judge_content(state, encoded(honest), leads=False) is ContentVerdict.ACCEPT
    for lie in (b"", bytes([0, Veto.NOTIONAL_LIMIT]), bytes([Veto.PRICE_BAND, 0])):
        lied = encoded(replace(honest, limit_vetoes=lie))
        assert judge_content(state, lied, leads=False) is ContentVerdict.REFUSE
        assert (
            judge_entry(state, EntryKind.DATA, lied, state.membership, leads=False, limits=False)
            is ContentVerdict.ACCEPT
        )
    applied = state.apply(committed(1, encoded(honest)))
    assert applied.vetoes == (Veto.NOTIONAL_LIMIT, 0)


def test_a_vote_waits_for_the_state_that_the_leader_judged_on() -> None:
    leader, replica = make_state(), make_state()
    fill = encoded(judged(leader, proposals(0, (0, Side.BUY, 2500, 5000), (1, Side.HOLD, 0, 900))))
    limit = leader.limits.position_notional_max
    leader.apply(committed(1, fill))
    rest = (limit - 2500 * 5000) // 5000 + 1
    ahead = encoded(judged(leader, proposals(1, (0, Side.BUY, rest, 5000))))
    assert judge_content(replica, ahead, leads=False) is ContentVerdict.WAIT
    replica.apply(committed(1, fill))
    assert judge_content(replica, ahead, leads=False) is ContentVerdict.ACCEPT
    # What was true at index 0 is told from what is true at index 1, also later on.
    pretended = replace(decode(ahead), judged_index=0, limit_vetoes=b"")
    assert judge_content(replica, encoded(pretended), leads=False) is ContentVerdict.ACCEPT
    assert replica.apply(committed(2, encoded(pretended))).vetoes == (Veto.POSITION_LIMIT,)
    wrong = replace(decode(ahead), limit_vetoes=b"")
    assert judge_content(replica, encoded(wrong), leads=False) is ContentVerdict.REFUSE


def test_a_state_that_does_not_come_before_the_entry_is_refused_and_an_honest_one_never() -> None:
    """Who lags must not refuse: the leader has applied more. Nobody has applied the entry that is voted on."""
    leader, replica = make_state(), make_state()
    for index in range(1, 6):
        leader.apply(committed(index, b"", EntryKind.NOOP))
    honest = judged(leader, proposals(0, (0, Side.BUY, 10, 5000)))
    assert honest.judged_index == 5
    members = leader.membership
    for index, verdict in ((6, ContentVerdict.WAIT), (9, ContentVerdict.WAIT), (5, ContentVerdict.REFUSE)):
        assert judge_entry(replica, EntryKind.DATA, encoded(honest), members, leads=False, index=index) is verdict
    assert judge_entry(leader, EntryKind.DATA, encoded(honest), members, leads=True, index=6) is ContentVerdict.ACCEPT
    for ahead in (6, 7, 2**62):
        lie = encoded(replace(honest, judged_index=ahead))
        batched = encode_payloads([encoded(honest), lie])
        for state in (leader, replica):
            for limits in (True, False):
                assert judge_content(state, lie, leads=False, limits=limits, index=6) is ContentVerdict.REFUSE
                refused = judge_entry(state, EntryKind.BATCH, batched, members, leads=False, limits=limits, index=6)
                assert refused is ContentVerdict.REFUSE


def test_a_proposal_judged_too_long_ago_is_voted_for_and_denied() -> None:
    """Refusing it could cost an honest leader its view: replicas reach the bound one after another."""
    state = make_state()
    too_much = state.limits.order_notional_max // 5000 + 1
    lie = replace(judged(state, proposals(0, (0, Side.BUY, too_much, 5000))), limit_vetoes=b"")
    old = judged(state, proposals(0, (1, Side.BUY, 10, 900)))
    for index in range(1, JUDGED_INDICES_MAX + 1):
        assert judge_content(state, encoded(lie), leads=False) is ContentVerdict.REFUSE
        state.apply(committed(index, b"", EntryKind.NOOP))
    assert judge_content(state, encoded(lie), leads=False) is ContentVerdict.REFUSE
    state.apply(committed(JUDGED_INDICES_MAX + 1, b"", EntryKind.NOOP))
    assert judge_content(state, encoded(lie), leads=False) is ContentVerdict.ACCEPT
    assert judge_content(state, encoded(lie), leads=True) is ContentVerdict.REFUSE, "a leader looks further back"
    assert judge_content(state, encoded(old), leads=True) is ContentVerdict.ACCEPT
    at = JUDGED_INDICES_MAX + 2
    assert state.apply(committed(at, encoded(lie))).vetoes == (Veto.NOTIONAL_LIMIT,)
    assert state.apply(committed(at + 1, encoded(old))).vetoes == (Veto.STALE_STATE,)
    early = replace(judged(state, proposals(1, (1, Side.BUY, 10, 900))), judged_index=at + 2)
    assert state.apply(committed(at + 2, encoded(early))).vetoes == (Veto.STALE_STATE,)
    assert not state.open_decisions


def test_opinions_count_from_voters_of_the_present_membership_only() -> None:
    state = make_state()
    payload = encode_decisions(batch(proposals(0, (0, Side.BUY, 10, 5000))), Serialization.CAPNP)
    assert judge_content(state, payload, leads=False) is ContentVerdict.ACCEPT
    members = tuple(Member(node, KEYS[node].verify_key.encode(), voter=node != 2) for node in range(4))
    assert not state.apply(committed(1, change_to(Membership(members)), EntryKind.MEMBERSHIP)).problem
    assert judge_content(state, payload, leads=False) is ContentVerdict.REFUSE
    before = state.membership
    assert state.apply(committed(2, b"junk", EntryKind.MEMBERSHIP)).problem
    assert state.membership == before


def test_a_batch_does_what_its_payloads_do_one_after_another() -> None:
    state, apart = make_state(), make_state()
    first = encoded(judged(state, proposals(0, (0, Side.BUY, 10, 5000))))
    second = encoded(judged(state, proposals(0, (1, Side.BUY, 20, 900))))
    toggles = toggles_payload(OPTIMISED)
    applied = state.apply(committed(1, encode_payloads([first, toggles, second, second, b"junk"]), EntryKind.BATCH))
    for index, payload in enumerate((first, toggles, second), 1):
        apart.apply(committed(index, payload))
    assert [(d.part, d.position, d.instrument) for d in applied.accepted] == [(0, 0, 0), (2, 0, 1)]
    assert [content for content, _ in applied.parts] == [first, toggles, second, second, b"junk"]
    assert [part.vetoes for _, part in applied.parts] == [(0,), (), (0,), (Veto.DUPLICATE,), ()]
    assert "unknown payload kind" in applied.problem
    assert state.toggles == replace(OPTIMISED, consensus=Consensus.BFT)
    assert state.portfolio.reserved_buy.tolist() == apart.portfolio.reserved_buy.tolist() == [10, 20]
    assert len({d.client_order_id for d in applied.accepted}) == 2
    assert "batch of" in state.apply(committed(2, b"\x02", EntryKind.BATCH)).problem


def test_one_refused_payload_refuses_its_batch_and_one_that_waits_holds_it() -> None:
    state = make_state()
    good = judged(state, proposals(0, (0, Side.BUY, 10, 5000)))
    later = replace(good, judged_index=5)
    too_much = state.limits.order_notional_max // 5000 + 1
    lie = replace(judged(state, proposals(0, (1, Side.BUY, too_much, 5000))), limit_vetoes=b"")
    for values, verdict in (
        ((good,), ContentVerdict.ACCEPT),
        ((good, later), ContentVerdict.WAIT),
        ((later, good, lie), ContentVerdict.REFUSE),
    ):
        payload = encode_payloads([encoded(value) for value in values])
        assert judge_entry(state, EntryKind.BATCH, payload, state.membership, leads=False) is verdict
    assert judge_entry(state, EntryKind.BATCH, b"junk", state.membership, leads=False) is ContentVerdict.REFUSE
    assert judge_entry(state, EntryKind.DATA, encoded(lie), state.membership, leads=False) is ContentVerdict.REFUSE
    assert judge_entry(state, EntryKind.SWITCH, b"junk", state.membership, leads=False) is ContentVerdict.ACCEPT
