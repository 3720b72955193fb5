"""The kill switch without processes: signed, ordered by its time, obeyed at once, undone only by the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from core.decision import Side, Veto
from core.gateway.guard import GuardError
from core.gateway.trading_gate import TradingGate
from core.payload import decode, encode_decisions, encode_trading_change
from core.session import GATEWAY_ID, OPERATOR_ID
from core.swarm_snapshot import restore_snapshot, take_snapshot
from core.swarm_state import SwarmState
from core.toggles import Serialization
from core.trading_state import TradingChange, TradingState, decode_trading, encode_trading, sign_trading
from core.vote_check import ContentVerdict, judge_content
from net.messages import Committed, EntryKind
from net.payload_batch import encode_payloads
from tests.unit.test_guard import byzantine, led, make_guard, payload_of
from tests.unit.test_swarm_state import KEYS, batch, committed, make_state, proposals

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
OPERATOR = SigningKey(b"o" * 32)
TRADING_KEYS = {OPERATOR_ID: OPERATOR.verify_key.encode(), GATEWAY_ID: KEYS[GATEWAY_ID].verify_key.encode()}


def press(state: TradingState, pressed_ns: int, signer: int = OPERATOR_ID, key: SigningKey = OPERATOR) -> TradingChange:
    return sign_trading(state, pressed_ns, signer, "a test", lambda data: key.sign(data).signature)


def state_with_operator() -> SwarmState:
    state = make_state()
    state.trading_keys = TRADING_KEYS
    return state


def order(step: int, instrument: int = 0, side: Side = Side.BUY) -> bytes:
    return encode_decisions(batch(proposals(step, (instrument, side, 10, 10_000))), Serialization.CAPNP)


def test_a_change_survives_its_encoding_and_a_changed_byte_does_not() -> None:
    change = press(HALTED, 5)
    assert decode_trading(encode_trading(change)) == change
    assert change.is_signed(TRADING_KEYS)
    assert decode(encode_trading_change(change)) == change
    for forged in (replace(change, state=ACTIVE), replace(change, pressed_ns=6), replace(change, reason="x")):
        assert not forged.is_signed(TRADING_KEYS)
    assert not press(HALTED, 5, key=SigningKey(b"x" * 32)).is_signed(TRADING_KEYS)
    assert not press(HALTED, 5, signer=3).is_signed(TRADING_KEYS)


@pytest.mark.parametrize("data", [b"", b"x" * 64, b"\x90" + b"x" * 64, encode_trading(press(HALTED, 5))[1:]])
def test_other_bytes_are_no_change(data: bytes) -> None:
    with pytest.raises(ValueError, match="change of the trading state"):
        decode_trading(data)


def test_a_halt_denies_orders_lets_holds_pass_and_ends_by_a_later_word() -> None:
    state = state_with_operator()
    state.apply(committed(1, encode_trading_change(press(HALTED, 10))))
    assert (state.trading, state.trading_reason) == (HALTED, "a test")
    applied = state.apply(committed(2, order(0)))
    assert (applied.vetoes, applied.accepted) == ((Veto.HALTED,), ())
    hold = encode_decisions(batch(proposals(1, (0, Side.HOLD, 0, 0))), Serialization.CAPNP)
    assert state.apply(committed(3, hold)).vetoes == (0,)
    late = state.apply(committed(4, encode_trading_change(press(ACTIVE, 9))))
    assert "a later change" in late.problem
    assert state.trading is HALTED
    state.apply(committed(5, encode_trading_change(press(ACTIVE, 11))))
    assert len(state.apply(committed(6, order(2))).accepted) == 1


def test_reducing_lets_only_what_reduces_pass() -> None:
    state = state_with_operator()
    state.portfolio.positions[0] = 30
    state.apply(committed(1, encode_trading_change(press(REDUCING, 10))))
    assert state.apply(committed(2, order(0, 0, Side.BUY))).vetoes == (Veto.REDUCING,)
    assert state.apply(committed(3, order(1, 1, Side.SELL))).vetoes == (Veto.REDUCING,)
    assert state.apply(committed(4, order(2, 0, Side.SELL))).vetoes == (Veto.NONE,)


def test_it_is_critical_checked_at_the_vote_and_kept_in_snapshots() -> None:
    state = state_with_operator()
    payload = encode_trading_change(press(HALTED, 10))
    assert state.payload_is_critical(payload)
    assert judge_content(state, payload, leads=False) is ContentVerdict.ACCEPT
    for forged in (press(HALTED, 10, key=KEYS[0]), press(HALTED, 10, signer=0, key=KEYS[0])):
        bad = encode_trading_change(forged)
        assert judge_content(state, bad, leads=False) is ContentVerdict.REFUSE
    assert "somebody who may not" in state.apply(committed(1, bad)).problem
    state.apply(committed(2, payload))
    other = state_with_operator()
    restore_snapshot(other, take_snapshot(state))
    assert (other.trading, other.trading_pressed_ns, other.trading_reason) == (HALTED, 10, "a test")
    assert other.trading_change == press(HALTED, 10)
    assert take_snapshot(other) == take_snapshot(state)


def test_the_gateway_may_halt_and_nothing_else() -> None:
    state = state_with_operator()
    by_gateway = {"signer": GATEWAY_ID, "key": KEYS[GATEWAY_ID]}
    assert "may not" in state.apply(committed(1, encode_trading_change(press(REDUCING, 5, **by_gateway)))).problem
    state.apply(committed(2, encode_trading_change(press(HALTED, 6, **by_gateway))))
    assert state.trading is HALTED
    assert "may not" in state.apply(committed(3, encode_trading_change(press(ACTIVE, 7, **by_gateway)))).problem


def gate(folder: Path) -> TradingGate:
    return TradingGate(TRADING_KEYS, GATEWAY_ID, folder / "trading")


def entry(change: TradingChange) -> Committed:
    return byzantine(encode_trading_change(change))


def test_the_gate_obeys_a_stricter_word_at_once_and_a_looser_one_by_the_log_alone(tmp_path: Path) -> None:
    found = gate(tmp_path)
    assert found.hear(press(REDUCING, 10))
    assert found.hear(press(HALTED, 11))
    assert not found.hear(press(HALTED, 12)), "nothing changes"
    assert not found.hear(press(ACTIVE, 13))
    assert not found.hear(press(REDUCING, 14))
    assert gate(tmp_path).state is HALTED, "a restart changes nothing"
    assert not found.committed(entry(press(ACTIVE, 9))), "an old entry, replayed, changes nothing"
    assert found.state is HALTED
    assert found.committed(entry(press(ACTIVE, 15)))
    assert found.state is ACTIVE
    assert not found.committed(entry(press(HALTED, 11))), "an old entry, replayed, changes nothing"
    assert gate(tmp_path).state is ACTIVE


def test_a_halt_from_a_clock_that_is_behind_is_obeyed_and_makes_no_older_entry_count_again(tmp_path: Path) -> None:
    found = gate(tmp_path)
    assert found.hear(press(HALTED, 20))
    assert found.committed(entry(press(ACTIVE, 30)))
    assert found.hear(press(HALTED, 11))
    again = gate(tmp_path)
    assert again.state is HALTED
    for each in (found, again):
        assert not each.committed(entry(press(ACTIVE, 25))), "older than the latest change"
        assert each.committed(entry(press(ACTIVE, 31)))


def test_a_word_that_cannot_be_kept_is_obeyed_all_the_same(tmp_path: Path) -> None:
    for word in ("hear", "committed"):
        found = TradingGate(TRADING_KEYS, GATEWAY_ID, tmp_path / "missing" / "trading")
        with pytest.raises(OSError, match="missing"):
            found.hear(press(HALTED, 10)) if word == "hear" else found.committed(entry(press(HALTED, 10)))
        assert found.state is HALTED


def test_a_strangers_word_keeps_no_other_of_its_entry_from_being_obeyed(tmp_path: Path) -> None:
    found = gate(tmp_path)
    words = [encode_trading_change(press(HALTED, 10, key=KEYS[0])), encode_trading_change(press(HALTED, 11))]
    with pytest.raises(ValueError, match="may not"):
        found.committed(byzantine(encode_payloads(words), kind=EntryKind.BATCH))
    assert found.state is HALTED
    assert gate(tmp_path).state is HALTED


def test_the_gate_refuses_strangers_other_entries_and_a_damaged_file(tmp_path: Path) -> None:
    found = gate(tmp_path)
    with pytest.raises(ValueError, match="may not"):
        found.hear(press(HALTED, 10, key=KEYS[0]))
    found.hear(press(HALTED, 10))
    with pytest.raises(ValueError, match="may not"):
        found.committed(entry(press(ACTIVE, 12, signer=GATEWAY_ID, key=KEYS[GATEWAY_ID])))
    with pytest.raises(ValueError, match="may not"):
        found.committed(entry(press(ACTIVE, 12, key=KEYS[0])))
    with pytest.raises(ValueError, match="holds no change"):
        found.committed(byzantine(order(0)))
    with pytest.raises(ValueError, match="entry 1"):
        found.committed(byzantine(b"\xff", kind=EntryKind.DATA))
    assert found.state is HALTED
    (tmp_path / "trading").write_bytes(b"torn")
    assert gate(tmp_path).state is HALTED


def test_the_guard_denies_by_the_trading_state() -> None:
    guard = make_guard()
    payload = payload_of((0, Side.BUY, 10, 10_000), (1, Side.SELL, 10, 10_000))
    proof = led(payload)
    requests = guard.requests_at(proof, [0, 1])
    assert guard.check(proof, requests) == {}
    guard.trading = REDUCING
    guard.portfolio.positions[1] = 10
    assert list(guard.check(proof, requests)) == [requests[0].client_order_id]
    guard.trading = HALTED
    assert set(guard.check(proof, requests).values()) == {"trading is halted"}
    thin = byzantine(payload, signers=(0, 1))
    with pytest.raises(GuardError, match="certificate refused"):
        guard.verify_certificate(thin)
