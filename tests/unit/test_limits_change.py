"""Limits changed while trading: signed by an operator, ordered by their time, judged by the limits of that index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from core.commands.limits import changed, parse_changes
from core.decision import Side, Veto
from core.gateway.limits_gate import LimitsGate
from core.limits import Limits
from core.limits_change import LimitsChange, decode_limits, encode_limits, sign_limits
from core.payload import decode, encode_limits_change
from core.session import GATEWAY_ID, OPERATOR_ID, SessionError
from core.swarm_snapshot import restore_snapshot, take_snapshot
from core.vote_check import ContentVerdict, judge_content
from tests.unit.test_swarm_state import KEYS, committed, encoded, judged, proposals
from tests.unit.test_trading_state import OPERATOR, TRADING_KEYS, state_with_operator

NARROW = Limits(1_000_000, 2_000_000, 8_000_000, 6_000_000, 500_000, 100)


def signed(
    limits: Limits = NARROW, signed_ns: int = 5, signer: int = OPERATOR_ID, key: SigningKey = OPERATOR
) -> LimitsChange:
    return sign_limits(limits, signed_ns, signer, lambda data: key.sign(data).signature)


def test_a_change_survives_its_encoding_and_a_changed_value_does_not() -> None:
    change = signed()
    assert decode_limits(encode_limits(change)) == change
    assert decode(encode_limits_change(change)) == change
    assert change.is_signed(TRADING_KEYS)
    for forged in (
        replace(change, limits=replace(NARROW, critical_notional=1)),
        replace(change, signed_ns=6),
        replace(change, signer=GATEWAY_ID),
    ):
        assert not forged.is_signed(TRADING_KEYS)


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 64, b"\x93\x90\x01\x02" + b"x" * 64, encode_limits(signed())[1:], encode_limits(signed()) + b"x"],
)
def test_other_bytes_are_no_change(data: bytes) -> None:
    with pytest.raises(ValueError, match="change of the limits"):
        decode_limits(data)


def test_new_limits_hold_from_their_entry_on_and_older_ones_come_too_late() -> None:
    state = state_with_operator()
    payload = encode_limits_change(signed())
    assert state.payload_is_critical(payload)
    assert judge_content(state, payload, leads=False) is ContentVerdict.ACCEPT
    order = proposals(0, (0, Side.BUY, 150, 10_000))
    before = encoded(judged(state, order))
    state.apply(committed(1, payload))
    assert state.limits == NARROW
    assert "a later change" in state.apply(committed(2, encode_limits_change(signed(signed_ns=4)))).problem
    # It was judged by the limits of index 0, and is denied by those that hold as it is applied.
    assert judge_content(state, before, leads=False) is ContentVerdict.ACCEPT
    assert state.apply(committed(3, before)).vetoes == (Veto.NOTIONAL_LIMIT,)
    after = judged(state, proposals(1, (0, Side.BUY, 150, 10_000)))
    assert list(after.limit_vetoes) == [Veto.NOTIONAL_LIMIT]
    lie = encoded(replace(after, limit_vetoes=b""))
    assert judge_content(state, lie, leads=False) is ContentVerdict.REFUSE
    other = state_with_operator()
    restore_snapshot(other, take_snapshot(state))
    assert (other.limits, other.limits_signed_ns, other.limits_change) == (NARROW, 5, signed())
    assert judge_content(other, lie, leads=False) is ContentVerdict.REFUSE
    assert take_snapshot(other) == take_snapshot(state)


@pytest.mark.parametrize(("signer", "key"), [(GATEWAY_ID, KEYS[GATEWAY_ID]), (0, KEYS[0]), (OPERATOR_ID, KEYS[0])])
def test_only_an_operator_changes_limits(signer: int, key: SigningKey, tmp_path: Path) -> None:
    state = state_with_operator()
    change = signed(signer=signer, key=key)
    assert judge_content(state, encode_limits_change(change), leads=False) is ContentVerdict.REFUSE
    assert "may not" in state.apply(committed(1, encode_limits_change(change))).problem
    assert state.limits != NARROW
    gate = LimitsGate({OPERATOR_ID: TRADING_KEYS[OPERATOR_ID]}, state.limits, tmp_path / "limits")
    with pytest.raises(ValueError, match="may not"):
        gate.committed(change)


def test_the_gateway_keeps_them_over_a_restart_and_does_not_guess_at_a_damaged_file(tmp_path: Path) -> None:
    operators, file = {OPERATOR_ID: TRADING_KEYS[OPERATOR_ID]}, tmp_path / "limits"
    first = state_with_operator().limits
    gate = LimitsGate(operators, first, file)
    assert gate.limits == first
    assert gate.committed(signed())
    assert not gate.committed(signed(first, signed_ns=4)), "an older word"
    again = LimitsGate(operators, first, file)
    assert again.limits == NARROW
    assert not again.committed(signed(first, signed_ns=5))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        LimitsGate(operators, first, file)


def test_changes_are_read_in_money_and_refused_whole() -> None:
    changes = parse_changes(["order_notional_max=150,000", "price_band_bps=50"])
    assert changed(state_with_operator().limits, changes, 0.01).order_notional_max == 15_000_000
    assert changed(NARROW, changes, 0.01).price_band_bps == 50
    for bad in (
        "order=1",
        "order_notional_max",
        "order_notional_max=much",
        "order_notional_max=inf",
        "price_band_bps=nan",
    ):
        with pytest.raises(SessionError, match=bad.split("=")[0]):
            parse_changes(["price_band_bps=50", bad])
    with pytest.raises(SessionError, match="gross_exposure_soft"):
        changed(NARROW, {"gross_exposure_max": 1.0}, 0.01)
