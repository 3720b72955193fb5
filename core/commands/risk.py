"""`tradetui risk`: value at risk of an equally weighted portfolio by every method, and how each would have done.

The backtest is honest about time: the figure for a step comes from the `WINDOW` steps before it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from core.market.load import load_market
from kernels.backtest import conditional_coverage, kupiec, traffic_light
from kernels.loss_tail import loss_tail
from kernels.monte_carlo import monte_carlo_losses
from kernels.risk import historical_var_es, parametric_var_es
from kernels.sobol import DIMENSIONS_MAX
from kernels.value_at_risk import (
    component_var,
    cornish_fisher_rises,
    cornish_fisher_var,
    ewma_var_es,
    filtered_historical_var_es,
    moments,
)

WINDOW: Final = 500
PATHS: Final = 10_000
DEGREES: Final = 5
"""Of freedom of the Student-t shocks."""
SEED: Final = 1

Returns = NDArray[np.float64]
Figures = tuple[float, float | None]
Method = Callable[[Returns, Returns, float, int], Figures]


def _cornish_fisher(returns: Returns, weights: Returns, level: float, _: int) -> Figures:
    return cornish_fisher_var(*moments(returns @ weights), level), None


def _monte_carlo(returns: Returns, weights: Returns, level: float, seed: int, *, sobol: bool = False) -> Figures:
    mean, covariance = returns.mean(axis=0), np.atleast_2d(np.cov(returns.T))
    return loss_tail(monte_carlo_losses(mean, covariance, weights, PATHS, seed, degrees=DEGREES, sobol=sobol), level)


FRESH: Final = f"Monte Carlo, fresh draws, Student-t {DEGREES}"
SOBOL: Final = f"Monte Carlo, Sobol points, Student-t {DEGREES}"


def _monte_carlo_gpu(returns: Returns, weights: Returns, level: float, seed: int) -> Figures:
    from kernels.gpu import monte_carlo_losses_gpu

    mean, covariance = returns.mean(axis=0), np.atleast_2d(np.cov(returns.T))
    return loss_tail(monte_carlo_losses_gpu(mean, covariance, weights, PATHS, seed, degrees=DEGREES), level)


METHODS: Final[dict[str, Method]] = {
    "historical": lambda returns, weights, level, _: historical_var_es(returns, weights, level),
    "normal": lambda returns, weights, level, _: parametric_var_es(
        returns.mean(axis=0), np.atleast_2d(np.cov(returns.T)), weights, level
    ),
    "Cornish-Fisher": _cornish_fisher,
    "EWMA": lambda returns, weights, level, _: ewma_var_es(returns @ weights, level),
    "filtered historical": lambda returns, weights, level, _: filtered_historical_var_es(returns @ weights, level),
    FRESH: _monte_carlo,
    SOBOL: functools.partial(_monte_carlo, sobol=True),
}


def show_risk(
    source: str, level: float, steps: int, json_file: Path | None, console: Console, *, gpu: bool = False
) -> None:
    """Print and write every method's figures for the step after the recording's last, and its backtest.

    Raises MarketDataError for a recording that cannot be read; ValueError for one too short, or a bad level.
    """
    data = load_market(source)
    closes = data.closes(0, data.layout.steps_total)
    returns = np.ascontiguousarray((closes[:, 1:] / closes[:, :-1] - 1.0).T)
    if steps < 2 or len(returns) < WINDOW + steps:
        raise ValueError(
            f"{len(returns)} returns are too few for a backtest of {steps} steps, 2 or more, after {WINDOW} of history"
        )
    weights = np.full(returns.shape[1], 1.0 / returns.shape[1])
    methods = _methods(gpu, console)
    if returns.shape[1] + 1 > DIMENSIONS_MAX:
        del methods[SOBOL]
        console.print(f"without Sobol points: they have {DIMENSIONS_MAX} dimensions, an instrument each and one more")
    rows = [
        _row(name, method, returns, weights, level, steps)
        for name, method in track(methods.items(), "backtest", console=console, transient=True)
    ]
    last = returns[-WINDOW:]
    parts, _ = component_var(last.mean(axis=0), np.atleast_2d(np.cov(last.T)), weights, level)
    names = data.spec.symbols
    table = Table(
        *("method", "VaR %", "ES %", "violations", "expected", "Kupiec p", "coverage p", "Basel"),
        title=f"{data.spec.title}, equal weights, one step, {level:.1%}; backtest of {steps} steps",
        show_edge=False,
    )
    for row in rows:
        shortfall = "" if row["es"] is None else f"{100 * row['es']:.3f}"
        found = (
            f"{row['violations']}",
            f"{(1 - level) * steps:.1f}",
            f"{row['kupiec_p']:.3f}",
            f"{row['coverage_p']:.3f}",
        )
        table.add_row(row["method"], f"{100 * row['var']:.3f}", shortfall, *found, row["zone"])
    console.print(table)
    skewness, kurtosis = moments(last @ weights)[2:]
    if not cornish_fisher_rises(skewness, kurtosis, level):
        console.print(f"Cornish-Fisher: skewness {skewness:.2f} and kurtosis {kurtosis:.2f} are beyond its domain here")
    most = sorted(zip(parts, names, strict=True), reverse=True)[:3]
    console.print("most of the normal VaR: " + ", ".join(f"{name} {part / parts.sum():.1%}" for part, name in most))
    if json_file is not None:
        document = {
            "source": source,
            "level": level,
            "backtest_steps": steps,
            "history_steps": WINDOW,
            "monte_carlo": {"paths": PATHS, "seed": SEED, "degrees": DEGREES, "mode": "fresh draws and Sobol points"},
            "methods": rows,
            "component_var": dict(zip(names, parts.tolist(), strict=True)),
        }
        json_file.write_text(json.dumps(document, indent=1) + "\n")


def _methods(gpu: bool, console: Console) -> dict[str, Method]:
    """gpu: fresh draws on a CUDA device, where there is one."""
    if not gpu:
        return dict(METHODS)
    from kernels.gpu import available

    if not available():
        console.print("there is no CUDA device: the processor draws")
        return dict(METHODS)
    methods = dict(METHODS)
    del methods[FRESH]
    return methods | {f"{FRESH}, CUDA": _monte_carlo_gpu}


def _row(name: str, method: Method, returns: Returns, weights: Returns, level: float, steps: int) -> dict[str, Any]:
    hits = np.empty(steps, np.bool_)
    for step in range(steps):
        now = len(returns) - steps + step
        forecast = method(returns[now - WINDOW : now], weights, level, SEED + step)[0]
        hits[step] = -float(returns[now] @ weights) > forecast
    var, es = method(returns[-WINDOW:], weights, level, SEED + steps)
    violations = int(hits.sum())
    return {
        "method": name,
        "var": var,
        "es": es if es is None or math.isfinite(es) else None,
        "violations": violations,
        "kupiec_p": kupiec(violations, steps, level).p_value,
        "coverage_p": conditional_coverage(hits, level).p_value,
        "zone": traffic_light(violations, steps, level).zone,
    }
