"""Who is in control: the latest claim, however claims arrive; observers never."""

from __future__ import annotations

import contextlib
from itertools import permutations

import pytest

from core.control_claims import FREE_TO_READ, Claim, ControlClaims
from core.telemetry_messages import Control
from net.identity import Identity, Roster, RosterEntry

OBSERVER = 300
NOW_NS = 1_000_000_000_000


def claims() -> ControlClaims:
    members = [(0, "node"), (200, "operator"), (201, "operator"), (OBSERVER, "observer")]
    roster = Roster(RosterEntry(i, f"{role}-{i}", role, Identity.generate(i).public_key) for i, role in members)
    return ControlClaims(roster, lambda: NOW_NS)


def test_an_observer_may_read_and_nothing_else_whoever_is_in_control() -> None:
    heard = claims()
    for kind in Control:
        if kind not in FREE_TO_READ:
            assert "an observer" in (heard.refusal(OBSERVER, kind) or "")
    assert all(heard.refusal(OBSERVER, kind) is None for kind in FREE_TO_READ)
    with pytest.raises(ValueError, match="an observer"):
        heard.claim(OBSERVER, Claim(NOW_NS, True, ""))
    assert heard.holder is None


def test_a_node_and_a_stranger_are_no_operators() -> None:
    assert claims().refusal(0, Control.SET_TOGGLES) is not None
    assert claims().refusal(999, Control.FAULT) is not None


def test_while_nobody_is_in_control_every_operator_acts() -> None:
    assert claims().refusal(200, Control.SET_TOGGLES) is None


def test_one_in_control_shuts_the_other_out_but_for_what_is_signed() -> None:
    heard = claims()
    heard.claim(200, Claim(NOW_NS, True, "ann@desk"))
    assert heard.refusal(200, Control.SET_TOGGLES) is None
    for kind in (Control.SET_TOGGLES, Control.TIMERS, Control.FAULT, Control.PROFILE):
        assert heard.refusal(201, kind) == "operator-200 is in control; C takes over"
    for kind in (Control.TRADING, Control.CHANGE_MEMBERS, Control.CLAIM, Control.EPOCH):
        assert heard.refusal(201, kind) is None


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_latest_claim_wins_in_any_order(order: tuple[int, ...]) -> None:
    sent = [(200, Claim(10, True, "")), (201, Claim(20, True, "")), (200, Claim(30, True, ""))]
    heard = claims()
    for position in order:
        with contextlib.suppress(ValueError):
            heard.claim(*sent[position])
    assert heard.holder is not None
    assert (heard.holder.operator, heard.holder.claimed_ns) == (200, 30)


def test_control_ends_with_the_link_and_comes_back_with_it_unless_another_came_later() -> None:
    heard = claims()
    mine = Claim(10, True, "")
    heard.claim(200, mine)
    heard.gone(201)
    assert heard.holder is not None
    heard.gone(200)
    assert heard.holder is None
    heard.claim(200, mine)
    assert heard.holder is not None
    heard.gone(200)
    heard.claim(201, Claim(20, True, ""))
    with pytest.raises(ValueError, match="later claim"):
        heard.claim(200, mine)
    assert heard.holder.operator == 201


def test_control_is_given_up_by_the_one_who_has_it() -> None:
    heard = claims()
    heard.claim(200, Claim(10, True, ""))
    heard.claim(201, Claim(20, False, ""))
    assert heard.holder is not None
    heard.claim(200, Claim(30, False, ""))
    assert heard.holder is None


def test_a_claim_from_the_far_future_is_refused() -> None:
    with pytest.raises(ValueError, match="ahead"):
        claims().claim(200, Claim(NOW_NS + 61_000_000_000, True, ""))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"claimed_ns": "1", "held": True, "label": ""},
        {"claimed_ns": 1, "held": 1, "label": ""},
        {"claimed_ns": 1, "held": True, "label": "x" * 65},
        {"claimed_ns": 1, "held": True, "label": "\x1b[2J"},
    ],
)
def test_what_is_no_claim_is_refused(values: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Claim.from_dict(values)
