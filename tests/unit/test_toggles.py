"""Toggles: keys, presets, text form; a bad value is named and refused."""

from __future__ import annotations

import pytest

from core.toggles import (
    BASELINE,
    FIELD_OF_KEY,
    OPTIMISED,
    Consensus,
    DtwKernel,
    Serialization,
    Toggles,
    from_dict,
    parse_toggles,
    pressed,
)


def test_every_key_comes_back_to_where_it_began() -> None:
    for key, name in FIELD_OF_KEY.items():
        toggles, seen = BASELINE, []
        for _ in range(8):
            toggles = pressed(toggles, key)
            seen.append(getattr(toggles, name))
            if toggles == BASELINE:
                break
        assert toggles == BASELINE, key
        assert len(set(seen)) == len(seen) >= 2


def test_presets_leave_the_dtw_kernel_alone() -> None:
    slow = Toggles(dtw_kernel=DtwKernel.PYTHON)
    assert pressed(slow, "9").dtw_kernel is DtwKernel.PYTHON
    assert pressed(pressed(slow, "9"), "0") == slow


def test_text_form() -> None:
    assert parse_toggles("optimised") == OPTIMISED
    assert parse_toggles("b,s,m=raft") == Toggles(
        batching=True, serialization=Serialization.CAPNP, consensus=Consensus.RAFT
    )
    assert parse_toggles("optimised,-b,m=bft").batching is False
    assert parse_toggles("p=on,c=off") == Toggles(parallel_orders=True)


@pytest.mark.parametrize("text", ["", "q", "b,baseline", "m=paxos", "b=maybe", "-b=on"])
def test_a_bad_value_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="toggles:"):
        parse_toggles(text)


def test_dict_form_round_trips() -> None:
    assert from_dict(OPTIMISED.as_dict()) == OPTIMISED
    with pytest.raises(ValueError, match="unknown fields"):
        from_dict({"batching": True, "turbo": True})
