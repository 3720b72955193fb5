"""The measured effect of a change of toggles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.experiment import CYCLES_NEEDED, WARM_UP_CYCLES, EffectTracker, changed_keys, effect
from core.toggles import BASELINE, OPTIMISED, pressed
from tests.tui.fixtures import FakeSession


def cycle_times(random: np.random.Generator, n: int, median_ms: float) -> np.ndarray:
    """Skewed and correlated in time, as cycle times are."""
    noise = random.normal(size=n)
    for i in range(1, n):
        noise[i] = 0.4 * noise[i - 1] + 0.9 * noise[i]
    return median_ms * np.exp(0.15 * noise)


def test_a_real_effect_is_found_with_its_size():
    random = np.random.default_rng(5)
    found = effect(cycle_times(random, 200, 20.0), cycle_times(random, 200, 16.0), seed=1)
    assert found.verdict == "faster"
    assert found.low < 1.25 < found.high
    assert found.low < found.ratio < found.high
    assert effect(cycle_times(random, 200, 16.0), cycle_times(random, 200, 20.0), seed=1).verdict == "slower"


def test_the_same_seed_gives_the_same_interval():
    random = np.random.default_rng(6)
    before, after = cycle_times(random, 60, 20.0), cycle_times(random, 45, 20.0)
    assert effect(before, after, seed=9) == effect(before, after, seed=9)
    assert effect(before, after, seed=9) != effect(before, after, seed=10)


def test_no_effect_is_seldom_called_one():
    random = np.random.default_rng(7)
    wrong = sum(
        effect(cycle_times(random, 120, 20.0), cycle_times(random, 120, 20.0), seed=s, resamples=400).verdict
        != "no clear difference"
        for s in range(100)
    )
    assert wrong <= 15  # nominally 5; time correlation widens what a bootstrap of this size can see


def test_equal_constants_have_a_ratio_of_one():
    found = effect([2.0] * 30, [2.0] * 30, seed=0)
    assert (found.ratio, found.low, found.high, found.verdict) == (1.0, 1.0, 1.0, "no clear difference")


@pytest.mark.parametrize("bad", [[1.0], [1.0, 0.0], [1.0, float("nan")], [[1.0, 2.0]], [1.0, -3.0]])
def test_bad_times_are_refused(bad):
    with pytest.raises(ValueError, match="effect: after"):
        effect([1.0, 2.0], bad, seed=0)


def records(toggles_runs):
    """Cycle records with these (toggles, count, median) runs, numbered from 1."""
    template = FakeSession(seed=1, cycles=1).snapshot().cycles[0]
    random = np.random.default_rng(8)
    out = []
    for toggles, count, median_ms in toggles_runs:
        for wall in cycle_times(random, count, median_ms):
            out.append(replace(template, cycle=len(out) + 1, toggles=toggles, wall_ms=float(wall)))
    return out


BATCHED = pressed(BASELINE, "b")


def test_tracker_counts_then_measures():
    stream = records([(BASELINE, 100, 20.0), (BATCHED, 200, 10.0)])
    tracker = EffectTracker()
    assert tracker.update(stream[:100]) is None
    change = tracker.update(stream[:112])
    assert change is not None
    assert change.effect is None
    assert change.measured_cycles == 12 - WARM_UP_CYCLES
    assert change.keys == ("b",)
    assert "batching off→on" in change.label
    change = tracker.update(stream)
    assert change.effect.verdict == "faster"
    assert change.effect.low < 2.0 < change.effect.high


def test_tracker_gives_the_same_answer_however_the_stream_is_cut():
    stream = records([(BASELINE, 60, 20.0), (BATCHED, CYCLES_NEEDED + WARM_UP_CYCLES, 10.0)])
    whole, pieces = EffectTracker(seed=4), EffectTracker(seed=4)
    for end in range(1, len(stream) + 1):
        last = pieces.update(stream[:end][-7:])
    assert whole.update(stream) == last
    assert last.effect is not None


def test_keys_pressed_in_quick_succession_are_reported_together():
    both = pressed(BATCHED, "p")
    tracker = EffectTracker()
    change = tracker.update(records([(BASELINE, 60, 20.0), (BATCHED, 5, 15.0), (both, 60, 10.0)]))
    assert change.keys == ("b", "p")
    assert change.before == BASELINE


def test_a_key_pressed_and_taken_back_at_once_is_no_change():
    tracker = EffectTracker()
    assert tracker.update(records([(BASELINE, 60, 20.0), (BATCHED, 5, 15.0), (BASELINE, 60, 20.0)])) is None


def test_without_enough_cycles_before_nothing_is_claimed():
    change = EffectTracker().update(records([(BASELINE, 10, 20.0), (OPTIMISED, 100, 10.0)]))
    assert change.effect is None
    assert change.before_cycles == 10 - WARM_UP_CYCLES
    assert change.before_cycles < CYCLES_NEEDED


def test_a_measured_effect_outlives_the_window_of_records():
    stream = records([(BASELINE, 60, 20.0), (BATCHED, 300, 10.0)])
    tracker = EffectTracker()
    tracker.update(stream)
    assert tracker.update(stream[-20:]).effect is not None


def test_changed_keys():
    assert changed_keys(BASELINE, BASELINE) == ()
    assert changed_keys(BASELINE, OPTIMISED) == tuple("bsmoxzpc")
