"""Monte Carlo risk: the generator's published numbers, exact figures within their error, the same bits if split."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.loss_tail import loss_tail
from kernels.monte_carlo import (
    _shocks,
    component_shortfall,
    draw_scenarios,
    monte_carlo_losses,
    scenario_losses,
    scenario_var_es,
)
from kernels.philox import philox
from kernels.risk import historical_var_es, parametric_var_es

MEAN = np.linspace(-1e-3, 2e-3, 10)
_MIX = np.random.default_rng(0).standard_normal((10, 10))
COVARIANCE = _MIX @ _MIX.T * 1e-4
WEIGHTS = np.linspace(-0.1, 0.3, 10)


@pytest.mark.parametrize(
    ("counter", "key", "published"),
    [
        # kat_vectors of the Random123 distribution, philox4x32 10
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_generator_gives_the_published_numbers(counter: tuple[int, ...], key: tuple[int, ...], published: str) -> None:
    numbers = philox(*(np.uint64(word) for word in counter + key))
    assert " ".join(f"{int(number):08x}" for number in numbers) == published


def test_shocks_are_standard_normal_and_independent() -> None:
    shocks = np.empty((12, 200_000), np.float32)
    _shocks(np.uint64(3), 0, shocks)
    flat = shocks.astype(np.float64).ravel()
    n = flat.size
    # five standard errors of each moment
    assert abs(flat.mean()) < 5 / math.sqrt(n)
    assert abs(flat.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((flat**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((flat**4).mean() - 3) < 5 * math.sqrt(96 / n)
    off = np.corrcoef(shocks) - np.eye(12)
    assert np.abs(off).max() < 5 / math.sqrt(200_000)
    for level, quantile in ((0.975, 1.959964), (0.999, 3.090232)):
        beyond = (flat > quantile).mean()
        assert abs(beyond - (1 - level)) < 5 * math.sqrt(level * (1 - level) / n)


@pytest.mark.parametrize("antithetic", [False, True])
def test_normal_shocks_give_the_parametric_figures_within_their_error(antithetic: bool) -> None:
    paths = 400_000
    losses = monte_carlo_losses(MEAN, COVARIANCE, WEIGHTS, paths, 11, antithetic=antithetic)
    exact = parametric_var_es(MEAN, COVARIANCE, WEIGHTS, 0.975)
    deviation = math.sqrt(WEIGHTS @ COVARIANCE @ WEIGHTS)
    # of a quantile: sqrt(a (1 - a) / n) over the density there; the shortfall's is of the same size
    error = deviation * math.sqrt(0.025 * 0.975 / paths) / 0.05844
    var, es = loss_tail(losses, 0.975)
    assert abs(var - exact[0]) < 5 * error
    assert abs(es - exact[1]) < 5 * error


@pytest.mark.parametrize(("degrees", "quantile"), [(3, 3.182446), (4, 2.776445), (5, 2.570582), (30, 2.042272)])
def test_student_shocks_have_the_published_quantiles(degrees: int, quantile: float) -> None:
    # two-sided 5 % points of Student's table; scaled so that the covariance is the given one
    losses = monte_carlo_losses(np.zeros(10), COVARIANCE, WEIGHTS, 400_000, 5, degrees=degrees)
    deviation = math.sqrt(WEIGHTS @ COVARIANCE @ WEIGHTS)
    scale = math.sqrt((degrees - 2) / degrees)
    assert loss_tail(losses, 0.975)[0] / deviation == pytest.approx(quantile * scale, rel=0.015)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.lists(st.integers(1, 700), min_size=1, max_size=4),
    st.integers(0, 2**64 - 1),
    st.sampled_from([None, 3, 4, 9, 12]),
    st.booleans(),
)
def test_paths_have_the_same_bits_however_they_are_split(
    n: int, sizes: list[int], seed: int, degrees: int | None, antithetic: bool
) -> None:
    arguments = (MEAN[:n], COVARIANCE[:n, :n].copy(), WEIGHTS[:n])
    options = {"degrees": degrees, "antithetic": antithetic}
    whole = monte_carlo_losses(*arguments, sum(sizes), seed, **options)  # type: ignore[arg-type]
    starts = np.cumsum([0, *sizes[:-1]])
    with ThreadPoolExecutor(3) as threads:
        parts = threads.map(
            lambda part: monte_carlo_losses(*arguments, part[0], seed, first_path=int(part[1]), **options),  # type: ignore[arg-type]
            zip(sizes, starts, strict=True),
        )
        np.testing.assert_array_equal(np.concatenate(list(parts)), whole)


@pytest.mark.parametrize("options", [{}, {"antithetic": True}, {"degrees": 5}, {"degrees": 4, "antithetic": True}])
def test_fixed_scenarios_of_a_seed_are_its_fresh_draws(options: dict[str, int]) -> None:
    fresh = monte_carlo_losses(MEAN, COVARIANCE, WEIGHTS, 1_001, 9, **options)
    scenarios = draw_scenarios(MEAN, COVARIANCE, 1_001, 9, **options)
    losses = scenario_losses(scenarios, WEIGHTS)
    np.testing.assert_allclose(losses, fresh, atol=2e-6)
    assert scenario_var_es(scenarios, WEIGHTS, 0.95) == loss_tail(losses, 0.95)


def test_antithetic_paths_are_mirrored() -> None:
    losses = monte_carlo_losses(np.zeros(10), COVARIANCE, WEIGHTS, 1_000, 1, antithetic=True)
    np.testing.assert_array_equal(losses[::2], -losses[1::2])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3_000), st.floats(0.51, 0.999), st.integers(0, 2**32 - 1), st.sampled_from(["walk", "few", "one"])
)
def test_tail_equals_the_sorted_one(n: int, level: float, seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    losses = random.standard_normal(n).astype(np.float32)
    if kind == "few":
        losses = np.round(losses)
    elif kind == "one":
        # sorted, so that a sample at equal distances says nothing of its neighbours
        losses = np.sort(losses)
    var, es = loss_tail(losses, level)
    expected = historical_var_es(-losses.astype(np.float64)[:, None], np.ones(1), level)
    assert var == expected[0]
    assert es == pytest.approx(expected[1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("sobol", [False, True])
def test_assets_that_others_make_up_lose_what_the_others_do(sobol: bool) -> None:
    # ten assets and their mean, which is none of its own, and one that never moves
    mix = np.vstack([np.eye(10), np.full(10, 0.1), np.zeros(10)])
    covariance, mean = mix @ COVARIANCE @ mix.T, mix @ MEAN
    weights = np.zeros(12)
    weights[10:] = 1.0, 5.0
    made_up = loss_tail(monte_carlo_losses(mean, covariance, weights, 1 << 14, 3, sobol=sobol), 0.975)
    whole = loss_tail(monte_carlo_losses(MEAN, COVARIANCE, np.full(10, 0.1), 1 << 14, 3, sobol=sobol), 0.975)
    assert made_up == pytest.approx(whole, rel=0.05)
    scenarios = draw_scenarios(mean, covariance, 1_000, 3, sobol=sobol)
    np.testing.assert_allclose(scenarios[:10].mean(axis=0), scenarios[10], atol=1e-5)
    np.testing.assert_allclose(scenarios[11], 0.0, atol=1e-6)


def test_components_sum_to_the_shortfall() -> None:
    scenarios = draw_scenarios(MEAN, COVARIANCE, 5_000, 2)
    for level in (0.9, 0.975, 0.99999):
        parts = component_shortfall(scenarios, WEIGHTS, level)
        assert parts.sum() == pytest.approx(scenario_var_es(scenarios, WEIGHTS, level)[1], rel=1e-5)


def spoiled(value: float) -> NDArray[np.float64]:
    bad = COVARIANCE.copy()
    bad[0, 0] = value
    return bad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: monte_carlo_losses(MEAN, spoiled(-1.0), WEIGHTS, 10, 1), "positive semidefinite"),
        (lambda: monte_carlo_losses(MEAN, spoiled(-1.0), WEIGHTS, 10, 1, sobol=True), "positive semidefinite"),
        (lambda: monte_carlo_losses(MEAN, spoiled(np.nan), WEIGHTS, 10, 1), "is nan"),
        (lambda: monte_carlo_losses(MEAN[:4], COVARIANCE, WEIGHTS, 10, 1), "do not fit"),
        (lambda: monte_carlo_losses(MEAN, COVARIANCE, WEIGHTS, 0, 1), "1 or more"),
        (lambda: monte_carlo_losses(MEAN, COVARIANCE, WEIGHTS, 10, -1), "seed must"),
        (lambda: monte_carlo_losses(MEAN, COVARIANCE, WEIGHTS, 10, 1, degrees=2), "from 3 to"),
        (lambda: loss_tail(np.zeros(0, np.float32), 0.95), "at least one"),
        (lambda: loss_tail(np.array([np.inf], np.float32), 0.95), "is inf"),
        (lambda: loss_tail(np.zeros(3), 0.95), "dtype float32"),
        (lambda: loss_tail(np.zeros(3, np.float32), 0.4), "level must"),
        (lambda: scenario_losses(np.zeros((3, 5), np.float32), WEIGHTS), "do not fit 10 weights"),
        (lambda: scenario_var_es(np.zeros((3, 5), np.float32), WEIGHTS, 0.95), "do not fit 10 weights"),
        (lambda: scenario_var_es(np.zeros((10, 5), np.float32), WEIGHTS * np.nan, 0.95), r"weights\[0\] is nan"),
        (lambda: scenario_var_es(np.full((10, 5), np.nan, np.float32), WEIGHTS, 0.95), "not finite"),
        (lambda: scenario_losses(np.zeros((10, 5)), WEIGHTS), "float32 array"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
