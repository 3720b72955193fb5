"""Amdahl's law, and what a toggle could do at most."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from core.statistics import span_table
from core.toggles import BASELINE, FIELD_OF_KEY, OPTIMISED, Consensus, DtwKernel, Serialization, Toggles
from core.what_if import ACTS_ON, amdahl, family, what_if
from tests.tui.fixtures import FakeSession


def test_amdahl():
    assert amdahl(0.5, 2.0) == pytest.approx(4 / 3)
    assert amdahl(0.9, inf) == pytest.approx(10.0)
    assert amdahl(0.0, 100.0) == 1.0
    assert amdahl(1.0, inf) == inf


def test_a_limit_is_never_beaten_by_what_the_spans_say():
    table = span_table(tuple(FakeSession(seed=1, cycles=50).cycles))
    share = {row.name: row.exclusive_share for row in table.rows}
    coordination = sum(share[name] for name in family("quic_coordination"))
    found = what_if(table, BASELINE, ["b"], 20, 8)
    assert found.ratio == pytest.approx(amdahl(coordination, 20.0))
    assert found.assumption == "quic_coordination ÷20"
    both = what_if(table, BASELINE, ["b", "c"], 20, 8)
    assert both.ratio > found.ratio
    assert what_if(table, BASELINE, ["z"], 20, 8).ratio == pytest.approx(1.0)
    on = what_if(table, replace(BASELINE, batching=True), ["b"], 20, 8)
    assert (round(on.ratio, 9), on.assumption) == (1.0, "b is on already")


@pytest.mark.parametrize(
    ("toggles", "key", "saves"),
    [
        (replace(BASELINE, dtw_kernel=DtwKernel.PYTHON), "d", True),
        (replace(BASELINE, dtw_kernel=DtwKernel.NUMBA), "d", True),
        (BASELINE, "d", True),
        (replace(BASELINE, dtw_kernel=DtwKernel.TOPK), "d", False),
        (replace(BASELINE, serialization=Serialization.CAPNP), "s", True),
        (replace(BASELINE, serialization=Serialization.MSGPACK_COLUMNS), "s", False),
        (BASELINE, "m", True),
        (replace(BASELINE, consensus=Consensus.RAFT), "m", False),
        (OPTIMISED, "p", False),
    ],
)
def test_a_press_saves_time_where_it_leads_to_a_faster_value(toggles: Toggles, key: str, saves: bool) -> None:
    table = span_table(tuple(FakeSession(seed=1, cycles=50).cycles))
    found = what_if(table, toggles, [key], 20, 8)
    assert (found.ratio > 1.0 + 1e-9, "on already" not in found.assumption) == (saves, saves)


def test_every_toggle_says_where_it_acts():
    assert set(ACTS_ON) == set(FIELD_OF_KEY)
    assert all(family(span) for spans in ACTS_ON.values() for span in spans)
