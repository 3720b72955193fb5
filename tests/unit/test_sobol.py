"""Sobol draws: the published sequence, exact quantiles, the same bits if split, and smaller errors than random ones."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.loss_tail import loss_tail
from kernels.monte_carlo import draw_scenarios, monte_carlo_losses, scenario_losses
from kernels.risk import parametric_var_es
from kernels.sobol import DIMENSIONS_MAX, chi_squared_quantile, normal_quantile, sobol_points

MEAN = np.linspace(-1e-3, 2e-3, 10)
_MIX = np.random.default_rng(0).standard_normal((10, 10))
COVARIANCE = _MIX @ _MIX.T * 1e-4
WEIGHTS = np.linspace(-0.1, 0.3, 10)


def test_points_are_the_published_ones() -> None:
    # Joe and Kuo, Notes on generating Sobol sequences (2008): the first ten points in three dimensions
    published = """0 0 0  .5 .5 .5  .75 .25 .25  .25 .75 .75  .375 .375 .625  .875 .875 .125  .625 .125 .875
    .125 .625 .375  .1875 .3125 .9375  .6875 .8125 .4375"""
    points = np.array([float(word) for word in published.split()]).reshape(10, 3)
    np.testing.assert_array_equal(sobol_points(3, 0, 10).T / 2.0**32, points)
    # scipy.stats.qmc.Sobol(40, scramble=False, bits=32), the last of 4,096 points, dimensions 36 to 40
    last = [753926144, 2492465152, 1408237568, 711983104, 976224256]
    assert sobol_points(40, 4095, 1)[35:, 0].tolist() == last


def test_each_interval_of_a_power_of_two_has_its_point() -> None:
    for dimension in sobol_points(DIMENSIONS_MAX, 0, 1_024):
        assert sorted(dimension >> 22) == list(range(1_024))


@pytest.mark.parametrize(
    ("p", "quantile"),
    # scipy.stats.norm.ppf
    [(1e-10, -6.361340902404056), (1e-3, -3.090232306167813), (0.6, 0.2533471031357997), (0.999999, 4.753424308817087)],
)
def test_normal_quantile(p: float, quantile: float) -> None:
    assert normal_quantile(p) == pytest.approx(quantile, rel=1e-14)


@pytest.mark.parametrize(
    ("freedom", "quantiles"),
    # scipy.stats.chi2.ppf at 1e-4, 0.025, 0.975 and 0.9999
    [
        (3, (0.005214832329027977, 0.21579528262389785, 9.348403604496148, 21.107513466160444)),
        (4, (0.028418475243555, 0.4844185570879299, 11.143286781877796, 23.512742444991076)),
        (30, (9.2580911621123, 16.79077226556663, 46.97924224367115, 67.63263025741439)),
        (1_000, (842.1681465654505, 914.257153799259, 1089.5309127749135, 1174.9334965841604)),
    ],
)
def test_chi_squared_quantile(freedom: int, quantiles: tuple[float, ...]) -> None:
    found = [chi_squared_quantile(p, freedom) for p in (1e-4, 0.025, 0.975, 0.9999)]
    assert found == pytest.approx(quantiles, rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 10),
    st.lists(st.integers(1, 700), min_size=1, max_size=4),
    st.integers(0, 2**64 - 1),
    st.sampled_from([None, 3, 4, 9]),
)
def test_paths_have_the_same_bits_however_they_are_split(
    n: int, sizes: list[int], seed: int, degrees: int | None
) -> None:
    arguments = (MEAN[:n], COVARIANCE[:n, :n].copy(), WEIGHTS[:n])
    options: dict[str, Any] = {"degrees": degrees, "sobol": True}
    whole = monte_carlo_losses(*arguments, sum(sizes), seed, **options)
    starts = np.cumsum([0, *sizes[:-1]])
    with ThreadPoolExecutor(3) as threads:
        parts = threads.map(
            lambda part: monte_carlo_losses(*arguments, part[0], seed, first_path=int(part[1]), **options),
            zip(sizes, starts, strict=True),
        )
        np.testing.assert_array_equal(np.concatenate(list(parts)), whole)


@pytest.mark.parametrize("degrees", [None, 5])
def test_fixed_scenarios_of_a_seed_are_its_fresh_draws(degrees: int | None) -> None:
    fresh = monte_carlo_losses(MEAN, COVARIANCE, WEIGHTS, 1_001, 9, degrees=degrees, sobol=True)
    scenarios = draw_scenarios(MEAN, COVARIANCE, 1_001, 9, degrees=degrees, sobol=True)
    np.testing.assert_allclose(scenario_losses(scenarios, WEIGHTS), fresh, atol=2e-6)


def figures(covariance: np.ndarray[Any, Any], seeds: range, **options: Any) -> np.ndarray[Any, Any]:
    """VaR and ES at 97.5 % of 4,096 paths of each seed."""
    losses = (monte_carlo_losses(MEAN, covariance, WEIGHTS, 4_096, seed, **options) for seed in seeds)
    return np.array([loss_tail(of_one, 0.975) for of_one in losses])


def test_errors_are_smaller_than_those_of_random_and_of_antithetic_draws() -> None:
    # as shares are: much in common, and a part of their own
    covariance = 2e-4 * (0.4 + 0.6 * np.eye(10))
    exact = np.array(parametric_var_es(MEAN, covariance, WEIGHTS, 0.975))
    seeds = range(24)
    errors = {
        name: np.sqrt(np.square(figures(covariance, seeds, **options) - exact).mean(axis=0))
        for name, options in {"random": {}, "antithetic": {"antithetic": True}, "sobol": {"sobol": True}}.items()
    }
    # 4,096 points do the work of four times as many draws, and more
    assert (errors["sobol"] < 0.5 * errors["random"]).all(), errors
    assert (errors["sobol"] < 0.5 * errors["antithetic"]).all(), errors


@pytest.mark.parametrize(("degrees", "quantile"), [(3, 3.182446), (4, 2.776445), (5, 2.570582), (30, 2.042272)])
def test_student_shocks_have_the_published_quantiles(degrees: int, quantile: float) -> None:
    losses = monte_carlo_losses(np.zeros(10), COVARIANCE, WEIGHTS, 2**17, 5, degrees=degrees, sobol=True)
    deviation = math.sqrt(WEIGHTS @ COVARIANCE @ WEIGHTS)
    scale = math.sqrt((degrees - 2) / degrees)
    assert loss_tail(losses, 0.975)[0] / deviation == pytest.approx(quantile * scale, rel=1e-2)


def test_what_cannot_be_is_refused() -> None:
    n = DIMENSIONS_MAX
    wide = (np.zeros(n), np.eye(n), np.ones(n))
    assert monte_carlo_losses(*wide, 8, 1, sobol=True).shape == (8,)
    with pytest.raises(ValueError, match="40 assets need 41 Sobol dimensions"):
        monte_carlo_losses(*wide, 8, 1, degrees=4, sobol=True)
    with pytest.raises(ValueError, match="choose one"):
        draw_scenarios(MEAN, COVARIANCE, 8, 1, antithetic=True, sobol=True)
    with pytest.raises(ValueError, match="want up to 40"):
        sobol_points(41, 0, 1)
