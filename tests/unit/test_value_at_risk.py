"""Models of the tail and their backtests against published figures, and the command that shows them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from core.commands.risk import FRESH, METHODS, SOBOL, show_risk
from kernels.backtest import christoffersen, conditional_coverage, kupiec, traffic_light
from kernels.risk import parametric_var_es
from kernels.value_at_risk import (
    component_var,
    cornish_fisher_rises,
    cornish_fisher_var,
    ewma_deviations,
    ewma_var_es,
    filtered_historical_var_es,
    moments,
)
from tests.market_recordings import panel


def test_cornish_fisher_has_dowds_figure() -> None:
    # CornishFisherVaR(3.2, 5.6, 2, 3, .9) of the toolbox to Dowd 2005
    assert cornish_fisher_var(3.2, 5.6, 2.0, 3.0, 0.9) == pytest.approx(4.145348, abs=5e-7)
    assert not cornish_fisher_rises(2.0, 3.0, 0.9)
    assert cornish_fisher_rises(-0.3, 4.0, 0.99)
    assert cornish_fisher_var(0.0, 1.0, 0.0, 3.0, 0.99) == pytest.approx(2.326348, abs=1e-6)


def test_kupiec_has_the_published_figures() -> None:
    assert kupiec(57, 1043, 0.95).statistic == pytest.approx(0.46147, abs=5e-6)
    # the 5 % non-rejection regions of Kupiec's table, which counts 0 of 255 in although its ratio is 5.13
    for steps, level, fewest, most in ((255, 0.99, 1, 6), (510, 0.99, 2, 10), (1000, 0.99, 5, 16), (255, 0.95, 7, 20)):
        inside = [n for n in range(steps // 5) if kupiec(n, steps, level).p_value > 0.05]
        assert (inside[0], inside[-1]) == (fewest, most)


def test_basels_table() -> None:
    # table 2 of the 1996 framework: cumulative probability in %, zone, increase
    table = [
        (8.11, "green", 0.0), (28.58, "green", 0.0), (54.32, "green", 0.0), (75.81, "green", 0.0),
        (89.22, "green", 0.0), (95.88, "yellow", 0.4), (98.63, "yellow", 0.5), (99.60, "yellow", 0.65),
        (99.89, "yellow", 0.75), (99.97, "yellow", 0.85), (99.99, "red", 1.0),
    ]  # fmt: skip
    for violations, (percent, zone, increase) in enumerate(table):
        light = traffic_light(violations)
        assert (light.zone, light.increase) == (zone, increase)
        assert 100 * light.cumulative == pytest.approx(percent, abs=0.0055)
    assert traffic_light(40).increase == 1.0
    assert traffic_light(3, 500, 0.99).increase is None


def test_independence_worked_by_hand() -> None:
    # 4 steps after calm with 1 hit, 2 after a hit with 1 hit
    hits = np.array([0, 0, 1, 1, 0, 0, 0], bool)
    free = math.log(3 / 4) * 3 + math.log(1 / 4) + math.log(1 / 2) * 2
    bound = math.log(2 / 6) * 2 + math.log(4 / 6) * 4
    assert christoffersen(hits).statistic == pytest.approx(2 * (free - bound))
    both = conditional_coverage(hits, 0.9)
    assert both.statistic == pytest.approx(christoffersen(hits).statistic + kupiec(2, 7, 0.9).statistic)
    assert both.p_value == pytest.approx(math.exp(-both.statistic / 2))
    # clusters are found, and an even spread is not blamed
    clustered = np.zeros(1000, bool)
    clustered[100:125] = True
    assert christoffersen(clustered).p_value < 1e-6
    assert christoffersen(np.zeros(10, bool)) == (0.0, 1.0)
    assert christoffersen(np.ones(10, bool)) == (0.0, 1.0)


def test_tests_reject_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    hits = random.random((600, 1000)) < 0.05
    for test in (lambda h: kupiec(int(h.sum()), 1000, 0.95), christoffersen, lambda h: conditional_coverage(h, 0.95)):
        rejected = np.mean([test(row).p_value < 0.05 for row in hits])
        assert 0.02 < rejected < 0.10


def test_ewma_worked_by_hand() -> None:
    deviations = ewma_deviations(np.array([0.03, -0.04]), 0.9)
    first = (0.0009 + 0.0016) / 2
    second = 0.9 * first + 0.1 * 0.0009
    expected = [first, second, 0.9 * second + 0.1 * 0.0016]
    np.testing.assert_allclose(np.square(deviations), expected)
    var, es = ewma_var_es(np.array([0.03, -0.04]), 0.95, 0.9)
    assert var == pytest.approx(1.644854 * deviations[-1], rel=1e-6)
    assert es == pytest.approx(2.062713 * deviations[-1], rel=1e-6)


def test_filtered_figures_follow_volatility() -> None:
    random = np.random.default_rng(1)
    calm = random.standard_normal(1000)
    loud = np.concatenate([calm, 3.0 * random.standard_normal(200)])
    assert filtered_historical_var_es(loud, 0.99)[0] > 2.0 * filtered_historical_var_es(calm, 0.99)[0]
    # without a change of volatility it is plain history: a steady stream of plus and minus one
    steady = np.tile([1.0, -1.0], 50)
    assert filtered_historical_var_es(steady, 0.95) == pytest.approx((1.0, 1.0))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.floats(0.6, 0.99), st.integers(0, 2**32 - 1))
def test_components_sum_to_the_whole_and_margins_are_derivatives(n: int, level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    mix = random.standard_normal((n, n))
    mean, covariance, weights = random.standard_normal(n), mix @ mix.T + np.eye(n), random.standard_normal(n)
    parts, margins = component_var(mean, covariance, weights, level)
    whole = parametric_var_es(mean, covariance, weights, level)[0]
    assert parts.sum() == pytest.approx(whole, rel=1e-9, abs=1e-9)
    step = 1e-6
    for k in range(n):
        moved = weights.copy()
        moved[k] += step
        slope = (parametric_var_es(mean, covariance, moved, level)[0] - whole) / step
        assert slope == pytest.approx(margins[k], rel=1e-3, abs=1e-3)


def test_moments_of_known_distributions() -> None:
    random = np.random.default_rng(2)
    assert moments(random.exponential(size=400_000)) == pytest.approx((1.0, 1.0, 2.0, 9.0), rel=0.05)
    assert moments(np.full(5, 0.3)) == (pytest.approx(0.3), 0.0, 0.0, 3.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cornish_fisher_var(0.0, -1.0, 0.0, 3.0, 0.9), "deviation 0 or more"),
        (lambda: cornish_fisher_var(0.0, 1.0, math.nan, 3.0, 0.9), "finite"),
        (lambda: kupiec(3, 2, 0.95), "3 violations in 2"),
        (lambda: kupiec(0, 2, 1.0), "level must"),
        (lambda: christoffersen(np.zeros(5)), "bool array"),
        (lambda: christoffersen(np.zeros(1, bool)), "too few"),
        (lambda: ewma_deviations(np.array([0.0, np.nan])), "is nan"),
        (lambda: ewma_deviations(np.zeros(1)), "too few"),
        (lambda: ewma_deviations(np.zeros(3), 1.0), "decay must"),
        (lambda: component_var(np.zeros(2), np.eye(3), np.ones(3), 0.95), "do not fit"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_command_shows_every_method_with_its_backtest(tmp_path: Path) -> None:
    console, path = Console(file=io.StringIO(), width=120), tmp_path / "risk.json"
    show_risk("us-stocks", 0.99, 60, path, console)
    document = json.loads(path.read_text())
    assert [row["method"] for row in document["methods"]] == list(METHODS)
    for row in document["methods"]:
        assert 0.0 < row["var"] < 0.2
        assert row["es"] is None or row["es"] >= row["var"]
        assert 0 <= row["violations"] <= document["backtest_steps"] == 60
        assert 0.0 <= row["kupiec_p"] <= 1.0
    assert sum(document["component_var"].values()) == pytest.approx(document["methods"][1]["var"], rel=1e-9)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Monte Carlo, fresh draws" in shown


def test_command_takes_a_recording_whose_instruments_make_up_others(tmp_path: Path) -> None:
    sheet = panel(steps=505, symbols=("AAA", "BBB"))
    # the same as AAA under another name, and one that never moves
    sheet.rows = [
        row
        for date, name, close in sheet.rows
        for row in ([(date, name, close), (date, "COPY", close)] if name == "AAA" else [(date, name, close)])
    ]
    sheet.rows += [(date, "PEG", 1.0) for date in dict.fromkeys(date for date, _, _ in sheet.rows)]
    sheet.rows.sort(key=lambda row: (row[0], row[1]))
    console, path = Console(file=io.StringIO(), width=120), tmp_path / "risk.json"
    show_risk(str(sheet.write(tmp_path / "panel.csv")), 0.95, 2, path, console)
    found = {row["method"]: row["var"] for row in json.loads(path.read_text())["methods"]}
    assert list(found) == list(METHODS)
    assert found[SOBOL] == pytest.approx(found[FRESH], rel=0.2)
