"""The interleaved experiment: its bookkeeping on made-up records, its statistics on the noise of a real swarm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.factorial import Design, pair_design, toggle_design
from core.interleaved import STRAY_CYCLES_MAX, UNCOMPILED_CYCLES_MAX, InterleavedExperiment, Plan, Verdict
from core.paired_ratio import paired_ratios
from core.records import CycleRecord
from core.spans import INDEX, NAMES
from core.toggles import BASELINE, FIELD_OF_KEY, Toggles, pressed
from tests.recorded_noise import drawn_ms

BATCHED = replace(BASELINE, batching=True)
DESIGN = pair_design(BASELINE, BATCHED)


def record(cycle: int, wall_ms: float, toggles: Toggles, leader: int = 0) -> CycleRecord:
    """A cycle whose time is all consensus, but for a tenth that nothing covers."""
    spans = np.zeros(len(NAMES))
    spans[0] = wall_ms
    spans[INDEX["quic_consensus"]] = 0.9 * wall_ms
    own = np.zeros(len(NAMES))
    own[INDEX["quic_consensus"]] = 0.9 * wall_ms
    return CycleRecord(
        cycle, cycle, 1, leader, 1, 1, 0, wall_ms, 0.1 * wall_ms, toggles, np.ones(len(NAMES), np.int64), spans, own,
        np.zeros(len(NAMES)), 1, 1, 1, 1, 20, 0, 0, 0, 0,
    )  # fmt: skip


def run(
    design: Design, noise_ms: np.ndarray, cost: Callable[[Toggles], float], seed: int, plan: Plan | None = None
) -> InterleavedExperiment:
    """Play these cycle times, round and round; each setting multiplies them by its cost."""
    experiment = InterleavedExperiment(design, plan or Plan(), seed=seed)
    cycle = 0
    while not experiment.finished:
        cycle += 1
        toggles = experiment.wanted
        experiment.observe(record(cycle, float(noise_ms[cycle % len(noise_ms)]) * cost(toggles), toggles))
    return experiment


def test_cycles_on_numpy_kernels_enter_nothing():
    """A leader that has just started computes in numpy until its kernels are compiled."""
    experiment = InterleavedExperiment(DESIGN, Plan())
    for cycle in range(1, 200):
        experiment.observe(replace(record(cycle, 50.0, experiment.wanted), numpy_kernels=8))
    assert (experiment.replicates, experiment.progress, experiment.discarded) == (0, 0.0, 199)
    cycle = 200
    while experiment.replicates < 2:
        experiment.observe(record(cycle, 5.0, experiment.wanted))
        cycle += 1
    again = experiment.started_again
    experiment.observe(record(cycle, 5.0, experiment.wanted))
    while not experiment._block.records:
        cycle += 1
        experiment.observe(record(cycle, 5.0, experiment.wanted))
    experiment.observe(replace(record(cycle + 1, 50.0, experiment.wanted), numpy_kernels=1))
    assert experiment.started_again == again + 1
    assert not experiment._block.records


def test_kernels_that_never_compile_end_the_experiment():
    experiment = InterleavedExperiment(DESIGN, Plan())
    for cycle in range(1, UNCOMPILED_CYCLES_MAX + 2):
        assert not experiment.finished
        experiment.observe(replace(record(cycle, 50.0, experiment.wanted), numpy_kernels=8))
    assert experiment.finished
    assert "numpy" in experiment.failure


def verdicts(cost_b: float, repeats: int) -> Counter[Verdict]:
    """Of so many seeded repeats on recorded noise, where the second setting costs `cost_b` times the first."""
    found: Counter[Verdict] = Counter()
    for seed in range(repeats):
        experiment = run(DESIGN, drawn_ms(10_000, seed), lambda toggles: cost_b if toggles.batching else 1.0, seed)
        assert experiment.result is not None
        found[experiment.result.main.verdict] += 1
    return found


@pytest.mark.prove
def test_a_against_a_is_no_difference_in_91_of_100_on_recorded_noise():
    found = verdicts(1.0, 100)
    assert found[Verdict.NO_DIFFERENCE] >= 91, found


@pytest.mark.prove
@pytest.mark.parametrize(("cost", "verdict"), [(1 / 1.05, Verdict.FASTER), (1.05, Verdict.SLOWER)])
def test_five_percent_are_found_in_90_of_100_on_recorded_noise(cost, verdict):
    found = verdicts(cost, 100)
    assert found[verdict] >= 90, found


def test_a_few_repeats_on_recorded_noise():
    assert verdicts(1.0, 4)[Verdict.NO_DIFFERENCE] >= 3
    assert verdicts(1 / 1.05, 4)[Verdict.FASTER] >= 3


def noise(seed: int, spread: float = 0.1) -> np.ndarray:
    return 10.0 * np.exp(spread * np.random.default_rng(seed).normal(size=5_000))


def test_a_large_effect_stops_at_the_least_number_of_replicates():
    experiment = run(DESIGN, noise(7), lambda toggles: 0.4 if toggles.batching else 1.0, 1)
    result = experiment.result
    assert result is not None
    assert result.replicates == experiment.plan.replicates_min
    assert result.main.verdict is Verdict.FASTER
    assert result.main.ratio.low < 2.5 < result.main.ratio.high
    assert result.cycles == 12 * 4 * 8
    by_name = {span.name: span for span in result.spans}
    consensus = by_name["quic_consensus"]
    assert consensus.ratio is not None
    assert consensus.ratio.low < 2.5 < consensus.ratio.high
    assert by_name["news_fetching"].ratio is None, "a span that took no time has no ratio"
    assert consensus.first_own_ms == pytest.approx(9.0, rel=0.1)


def test_noise_that_never_settles_ends_in_cannot_tell():
    experiment = run(DESIGN, noise(2, spread=2.0), lambda _: 1.0, 2, Plan(replicates_max=14))
    assert experiment.result is not None
    assert experiment.result.replicates == 14
    assert experiment.result.main.verdict is Verdict.CANNOT_TELL


def test_a_drift_that_fools_before_and_after_does_not_fool_it():
    drift = 10.0 * np.exp(np.linspace(0.0, 1.5, 5_000)) * np.exp(0.02 * np.random.default_rng(3).normal(size=5_000))
    experiment = run(DESIGN, drift, lambda _: 1.0, 3)
    assert experiment.result is not None
    assert experiment.result.main.verdict is Verdict.NO_DIFFERENCE


def test_warm_up_and_overrun_enter_nothing():
    experiment = InterleavedExperiment(DESIGN, Plan(), seed=0)
    first = experiment.wanted
    other = BATCHED if first == BASELINE else BASELINE
    for cycle in range(1, 4):
        experiment.observe(record(cycle, 1e9, other))
    assert experiment.discarded == 3
    for cycle in range(4, 6):
        experiment.observe(record(cycle, 1e9, first))
    for cycle in range(6, 14):
        experiment.observe(record(cycle, 10.0, first))
    assert experiment.wanted == other
    assert experiment.discarded == 5
    experiment.observe(record(13, 1.0, other))
    assert experiment.discarded == 5, "a record that was seen is passed over"


def test_another_leader_or_another_hand_starts_the_replicate_again():
    experiment = InterleavedExperiment(DESIGN, Plan(), seed=0)
    first = experiment.wanted
    for cycle in range(1, 9):
        experiment.observe(record(cycle, 10.0, first))
    experiment.observe(record(10, 10.0, first, leader=2))
    assert experiment.started_again == 1
    for cycle in range(11, 19):
        experiment.observe(record(cycle, 10.0, first, leader=2))
    experiment.observe(record(20, 10.0, replace(first, zero_rtt=True), leader=2))
    assert experiment.started_again == 2
    for cycle in range(21, 22 + STRAY_CYCLES_MAX):
        experiment.observe(record(cycle, 10.0, replace(first, zero_rtt=True), leader=2))
    assert experiment.finished
    assert "other toggles" in experiment.failure


def test_a_factorial_design_finds_main_effects_and_the_interaction():
    design = toggle_design(BASELINE, ["p", "b"])
    assert design.keys == ("b", "p")

    def cost(toggles: Toggles) -> float:
        if toggles.batching and toggles.parallel_orders:
            return 0.5 * 0.8 * 1.3
        return (0.5 if toggles.batching else 1.0) * (0.8 if toggles.parallel_orders else 1.0)

    experiment = run(design, noise(4), cost, 4)
    assert experiment.result is not None
    found = {each.contrast.name: each.ratio for each in experiment.result.contrasts}
    # Each main effect is the geometric mean over both settings of the other.
    assert found["b"].low < 2.0 / 1.3**0.5 < found["b"].high
    assert found["p"].low < 1.25 / 1.3**0.5 < found["p"].high
    assert found["b×p"].ratio == pytest.approx(1.3**-0.5, rel=0.05)


@pytest.mark.parametrize("count", range(2, 10))
def test_designs_are_orthogonal_and_hold_the_baseline(count):
    keys = tuple(FIELD_OF_KEY)[:count]
    design = toggle_design(BASELINE, keys)
    assert design.cells[0] == BASELINE
    assert len(set(design.cells)) == len(design.cells)
    weights = np.array([contrast.weights for contrast in design.contrasts])
    products = weights @ weights.T
    assert np.allclose(products, np.diag(np.diag(products))), "effects are estimated apart from one another"
    assert np.allclose(weights.sum(axis=1), 0.0)
    assert [contrast.name for contrast in design.contrasts[:count]] == list(keys)
    visits = design.visits(np.random.default_rng(0))
    assert visits == visits[::-1]
    assert sorted(visits) == sorted([*range(len(design.cells))] * 2)


def test_keys_that_are_no_toggles_are_refused():
    for keys in ([], ["b", "b"], ["w"], ["0", "b"]):
        with pytest.raises(ValueError, match="an experiment needs"):
            toggle_design(BASELINE, keys)
    assert toggle_design(BASELINE, ["9"]).cells[1] == pressed(BASELINE, "9")


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(5)
    hits = 0
    for seed in range(400):
        (ratio,) = paired_ratios(np.log(1.2) + 0.1 * random.standard_t(5, size=(15, 1)), seed)
        hits += ratio.low <= 1.2 <= ratio.high
    assert 0.92 <= hits / 400 <= 0.98
    (constant,) = paired_ratios(np.full((8, 1), np.log(2.0)), 0)
    assert (constant.low, constant.high) == (constant.ratio, constant.ratio)
    for bad in (np.zeros((5, 1)), np.zeros(8), np.full((8, 1), np.nan)):
        with pytest.raises(ValueError, match="paired_ratios"):
            paired_ratios(bad, 0)


def test_a_whole_span_is_its_own_time_with_all_that_is_nested_in_it():
    experiment = run(DESIGN, noise(7), lambda toggles: 0.4 if toggles.batching else 1.0, 1)
    assert experiment.result is not None
    by_name = {span.name: span for span in experiment.result.spans}
    consensus, coordination = by_name["quic_consensus"], by_name["quic_coordination"]
    assert coordination.first_whole_ms == pytest.approx(consensus.first_own_ms + coordination.first_own_ms, rel=0.1)
    assert coordination.whole_ratio is not None
    assert coordination.whole_ratio.low < 2.5 < coordination.whole_ratio.high
    assert by_name["news_fetching"].whole_ratio is None


def test_times_divide_to_the_ratio_that_stands_beside_them():
    result = run(DESIGN, noise(11, spread=0.5), lambda toggles: 0.99 if toggles.batching else 1.0, 3).result
    assert result is not None
    first, second = result.cell_ms
    assert first / second == pytest.approx(result.main.ratio.ratio, rel=1e-12)
    measured = [span for span in result.spans if span.ratio is not None and span.whole_ratio is not None]
    assert len(measured) > 2
    for span in measured:
        assert span.first_ms / span.second_ms == pytest.approx(span.ratio.ratio, rel=1e-12)
        assert span.first_whole_ms / span.second_whole_ms == pytest.approx(span.whole_ratio.ratio, rel=1e-12)
    idle = next(span for span in result.spans if span.name == "news_fetching")
    assert (idle.ratio, idle.first_ms) == (None, 0.0)
