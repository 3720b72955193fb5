"""Value at risk and expected shortfall by Monte Carlo: correlated normal or Student-t shocks.

Two modes, never to be confused. *Fresh draws*: `monte_carlo_losses` draws new shocks for its seed, and `loss_tail`
reads the tail. *Fixed scenarios*: `draw_scenarios` once, then `scenario_var_es` of any weights under the same shocks.

Path p of a seed is a pure function of both: the generator is `kernels.philox`, whose counter holds the path, or the
shifted Sobol sequence of `kernels.sobol`. So paths may be split over any number of threads or machines, in any order,
with the same bits. Normals by Box and Muller (1958) in float32 polynomials, which stay in
vector registers and agree with the exact functions to about 1e-6; a uniform's 24 bits end them at 5.8 deviations.

Quantile convention as in `kernels.risk`.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import checked, checked_level, shaped
from kernels.loss_tail import tail
from kernels.philox import philox
from kernels.sobol import DIMENSIONS_MAX, shifts_of, sobol_shocks, sobol_stretches

PATHS_MAX: Final = 2**31
_WIDTH: Final = 256
"""Paths at a time: their scratch stays in the first-level cache."""
_STRIP: Final = 2048
_DRAWS_AT_ONCE: Final = 16384
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


def monte_carlo_losses(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    weights: NDArray[np.float64],
    paths: int,
    seed: int,
    *,
    degrees: int | None = None,
    antithetic: bool = False,
    sobol: bool = False,
    first_path: int = 0,
) -> NDArray[np.float32]:
    """Losses of a portfolio under fresh shocks: paths first_path to first_path + paths - 1 of this seed.

    mean, weights: float64 [n]; covariance: float64 [n, n], positive semidefinite; degrees: of freedom of a multivariate
    Student-t with that covariance, a whole number above 2, normal where None; antithetic: path 2 k + 1 has the shocks
    of path 2 k with the sign changed; sobol: shifted Sobol points in place of random draws, an asset a dimension and
    one more for Student's t, best a power of two of them from path 0 on. Returns float32 [paths], fractions of equity,
    losses positive. ValueError on NaN, wrong dtype or shape, a covariance that is not positive semidefinite, paths,
    seed or degrees out of range, more dimensions than `DIMENSIONS_MAX`, or sobol and antithetic together.
    """
    loadings, centre = portfolio_loadings(mean, covariance, weights, sobol=sobol)
    check_draws(paths, first_path, seed, degrees)
    _check_sobol(mean.size, degrees, antithetic, sobol)
    # one draw makes two antithetic paths
    per_draw = 2 if antithetic else 1
    first_draw = first_path // per_draw
    moved = np.empty((first_path + paths - 1) // per_draw + 1 - first_draw, np.float32)
    for first in range(0, moved.size, _DRAWS_AT_ONCE):
        part = moved[first : first + _DRAWS_AT_ONCE]
        shocks = _drawn_shocks(mean.size, seed, first_draw + first, part.size, sobol)
        _weigh(shocks, loadings.astype(np.float32), part)
    if degrees is not None:
        moved *= drawn_stretches(int(degrees), mean.size, seed, first_draw, moved.size, sobol)
    if antithetic:
        skipped = first_path - first_draw * per_draw
        moved = np.column_stack([moved, -moved]).reshape(-1)[skipped : skipped + paths]
    return np.float32(-centre) - moved


def draw_scenarios(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    paths: int,
    seed: int,
    *,
    degrees: int | None = None,
    antithetic: bool = False,
    sobol: bool = False,
) -> NDArray[np.float32]:
    """The returns of every asset on every path, to be kept: float32 [n, paths]. Arguments as `monte_carlo_losses`."""
    mean = checked("mean", mean, np.float64, 1)
    factor = _factor(covariance, mean.size, sobol)
    check_draws(paths, 0, seed, degrees)
    _check_sobol(mean.size, degrees, antithetic, sobol)
    draws = -(-paths // 2) if antithetic else paths
    shocks = _drawn_shocks(mean.size, seed, 0, draws, sobol)
    if degrees is not None:
        shocks *= drawn_stretches(int(degrees), mean.size, seed, 0, draws, sobol)
    if antithetic:
        shocks = np.stack([shocks, -shocks], axis=2).reshape(mean.size, -1)[:, :paths]
    return np.ascontiguousarray((factor @ shocks + mean[:, None]).astype(np.float32))


def scenario_losses(scenarios: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Losses of weights float64 [n] under fixed scenarios float32 [n, paths]: float32 [paths].

    Raises ValueError on wrong dtype or shape, or weights that are not finite. Scenarios are not looked at for NaN.
    """
    _check_fit(scenarios, weights)
    weights = checked("weights", weights, np.float64, 1)
    out = np.empty(scenarios.shape[1], np.float32)
    _weigh(scenarios, -weights.astype(np.float32), out)
    return out


def scenario_var_es(scenarios: NDArray[np.float32], weights: NDArray[np.float64], level: float) -> tuple[float, float]:
    """`loss_tail` of `scenario_losses`, in one compiled call. Raises ValueError as both."""
    _check_fit(scenarios, weights)
    value_at_risk, shortfall = _weigh_and_tail(scenarios, weights, checked_level(level))
    if not (math.isfinite(value_at_risk) and math.isfinite(shortfall)):
        checked("weights", weights, np.float64, 1)
        raise ValueError("the scenarios hold numbers that are not finite, or too large for float32")
    return value_at_risk, shortfall


def component_shortfall(
    scenarios: NDArray[np.float32], weights: NDArray[np.float64], level: float
) -> NDArray[np.float64]:
    """What each position adds to the expected shortfall: float64 [n], summing to it (Euler allocation, Tasche 1999).

    The mean of each position's loss over the worst scenarios of the whole portfolio, the last one counted with its
    fraction. Arguments and errors as `scenario_var_es`.
    """
    losses = scenario_losses(scenarios, weights)
    tail = (1.0 - checked_level(level)) * losses.size
    whole = math.floor(tail + 1e-9)
    order = np.argsort(-losses, kind="stable")[: whole + 1]
    share = np.ones(whole + 1)
    share[whole] = max(tail - whole, 0.0)
    if whole == 0 and share[0] == 0.0:
        share[0] = 1.0
    each = -scenarios[:, order].astype(np.float64) * weights[:, None]
    return np.asarray(each @ share / share.sum())


def portfolio_loadings(
    mean: Any, covariance: Any, weights: Any, *, sobol: bool = False
) -> tuple[NDArray[np.float64], float]:
    """What each independent shock moves the portfolio by, and its mean return."""
    mean = checked("mean", mean, np.float64, 1)
    weights = checked("weights", weights, np.float64, 1)
    if mean.size != weights.size:
        raise ValueError(f"{weights.size} weights and {mean.size} means do not fit together")
    return _factor(covariance, mean.size, sobol).T @ weights, float(weights @ mean)


def _factor(covariance: Any, n: int, sobol: bool) -> NDArray[np.float64]:
    """A square root of the covariance: Cholesky's; for Sobol points, whose first dimensions are the most even, and for
    a singular covariance, by principal components, the largest first (Acworth, Broadie and Glasserman 1998).
    """
    covariance = checked("covariance", covariance, np.float64, 2)
    if covariance.shape != (n, n) or n == 0:
        raise ValueError(f"covariance {covariance.shape} does not fit {n} assets")
    if not sobol:
        with contextlib.suppress(np.linalg.LinAlgError):
            return np.linalg.cholesky(covariance)
    variances, components = np.linalg.eigh(covariance)
    # singular where assets make up others, or are more than the steps that they were seen; below is rounding
    if variances[0] < -1e-9 * np.abs(variances).max():
        raise ValueError(
            f"covariance must be positive semidefinite; a mix of assets has the variance {variances[0]:.3g}"
        )
    return np.ascontiguousarray((components * np.sqrt(np.maximum(variances, 0.0)))[:, ::-1])


def check_draws(paths: int, first_path: int, seed: int, degrees: int | None) -> None:
    if not (paths >= 1 and first_path >= 0 and first_path + paths <= PATHS_MAX):
        raise ValueError(f"paths {first_path} to {first_path + paths}: want 1 or more, below {PATHS_MAX}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {seed}")
    if degrees is not None and not (degrees == int(degrees) and 2 < degrees <= 1_000):
        raise ValueError(f"degrees of freedom must be a whole number from 3 to 1,000, got {degrees}")


def _check_sobol(assets: int, degrees: int | None, antithetic: bool, sobol: bool) -> None:
    if not sobol:
        return
    if antithetic:
        raise ValueError("antithetic and sobol are two ways to one end: choose one")
    dimensions = assets + (degrees is not None)
    if dimensions > DIMENSIONS_MAX:
        raise ValueError(f"{assets} assets need {dimensions} Sobol dimensions of {DIMENSIONS_MAX}: draw at random")


def _drawn_shocks(assets: int, seed: int, first: int, draws: int, sobol: bool) -> NDArray[np.float32]:
    """Standard normal shocks of draws first..: float32 [assets, draws]."""
    # the generator makes four at a time
    shocks = np.empty((assets if sobol else -(-assets // 4) * 4, draws), np.float32)
    if sobol:
        sobol_shocks(shifts_of(seed, assets), first, shocks)
    else:
        _shocks(np.uint64(seed), first, shocks)
    return shocks[:assets]


def drawn_stretches(degrees: int, assets: int, seed: int, first: int, draws: int, sobol: bool) -> NDArray[np.float32]:
    """What Student's t multiplies the shocks of draws first.. by: float32 [draws]."""
    stretch = np.empty(draws, np.float32)
    if sobol:
        sobol_stretches(degrees, assets, shifts_of(seed, assets + 1)[assets], first, stretch)
    else:
        _stretches(degrees, np.uint64(seed), first, stretch)
    return stretch


def _check_fit(scenarios: Any, weights: Any) -> None:
    if not isinstance(scenarios, np.ndarray) or scenarios.dtype != np.float32 or scenarios.ndim != 2:
        raise ValueError("scenarios must be a float32 array [assets, paths]")
    shaped("weights", weights, np.float64, 1)
    if scenarios.shape[0] != weights.size or not scenarios.size:
        raise ValueError(f"scenarios {scenarios.shape} do not fit {weights.size} weights")


@njit(cache=True)
def _random_bits(path: Any, count: int, step: int, stream: int, k0: Any, k1: Any, bits: Any) -> None:
    """bits: uint32 [4, _WIDTH]; the four numbers at (path, step, stream) of paths path to path + count - 1."""
    for lane in range(count):
        counter = (np.uint64(path) + np.uint64(lane)) & _LOW
        r0, r1, r2, r3 = philox(counter, np.uint64(step) & _LOW, np.uint64(stream) & _LOW, np.uint64(0), k0, k1)
        bits[0, lane] = r0
        bits[1, lane] = r1
        bits[2, lane] = r2
        bits[3, lane] = r3


# numpy's error model: a check for division by zero would keep loops out of vector registers
@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _logarithm_of_uniform(bits: Any) -> Any:
    """Natural logarithm of the uniform in (0, 1] that the upper 24 of 32 random bits make, error about 1e-6."""
    uniform = np.float32(np.int32(bits >> np.uint32(8)) + np.int32(1)) * np.float32(5.9604645e-8)
    # exponent and mantissa in [sqrt(1/2), sqrt(2)), then the series of the inverse hyperbolic tangent
    shifted = np.int32(np.float32(uniform).view(np.int32) - np.int32(0x3F3504F3))
    exponent = np.float32(np.int32(shifted >> np.int32(23)))
    mantissa = np.int32(np.int32(shifted & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)).view(np.float32)
    f = mantissa - np.float32(1.0)
    t = f / (np.float32(2.0) + f)
    t2 = t * t
    series = np.float32(0.2) + t2 * (np.float32(0.14285714) + t2 * np.float32(0.11111111))
    series = np.float32(1.0) + t2 * (np.float32(0.33333333) + t2 * series)
    return np.float32(2.0) * t * series + exponent * np.float32(0.69314718)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _normals(radius_bits: Any, angle_bits: Any, count: int, first: Any, second: Any) -> None:
    """Two independent normals of two random 32-bit numbers; Taylor series of sine and cosine of half the angle."""
    for lane in range(count):
        squared = np.float32(-2.0) * _logarithm_of_uniform(radius_bits[lane])
        # the logarithm of 1 may come out a hair above 0
        radius = math.sqrt(squared if squared > np.float32(0.0) else np.float32(0.0))
        turn = np.float32(np.int32(angle_bits[lane] >> np.uint32(8))) * np.float32(5.9604645e-8) - np.float32(0.5)
        x = turn * np.float32(3.14159265)
        x2 = x * x
        sine = np.float32(1 / 362880) - x2 * np.float32(1 / 39916800)
        sine = np.float32(1 / 120) + x2 * (np.float32(-1 / 5040) + x2 * sine)
        sine = x * (np.float32(1.0) + x2 * (np.float32(-1 / 6) + x2 * sine))
        cosine = np.float32(-1 / 3628800) + x2 * np.float32(1 / 479001600)
        cosine = np.float32(-1 / 720) + x2 * (np.float32(1 / 40320) + x2 * cosine)
        cosine = np.float32(1.0) + x2 * (np.float32(-0.5) + x2 * (np.float32(1 / 24) + x2 * cosine))
        first[lane] = radius * (np.float32(1.0) - np.float32(2.0) * sine * sine)
        second[lane] = radius * (np.float32(2.0) * sine * cosine)


@njit(cache=True, nogil=True)
def _shocks(seed: Any, first_draw: int, out: Any) -> None:
    """out: float32 [n, draws], n a multiple of 4; standard normal shocks of draws first_draw on."""
    k0, k1 = seed & _LOW, seed >> _HALF
    bits = np.empty((4, _WIDTH), np.uint32)
    n, draws = out.shape
    for first in range(0, draws, _WIDTH):
        count = min(_WIDTH, draws - first)
        stop = first + count
        for k in range(0, n, 4):
            _random_bits(first_draw + first, count, k // 4, 0, k0, k1, bits)
            _normals(bits[0], bits[1], count, out[k, first:stop], out[k + 1, first:stop])
            _normals(bits[2], bits[3], count, out[k + 2, first:stop], out[k + 3, first:stop])


@njit(cache=True, nogil=True, error_model="numpy")
def _stretches(freedom: int, seed: Any, first_draw: int, out: Any) -> None:
    """out: float32 [draws]; sqrt((freedom - 2) / chi-squared) of each draw.

    Chi-squared: minus twice the logarithms of freedom // 2 uniforms, and a squared normal where freedom is odd.
    """
    k0, k1 = seed & _LOW, seed >> _HALF
    bits, z = np.empty((4, _WIDTH), np.uint32), np.empty((2, _WIDTH), np.float32)
    for first in range(0, out.size, _WIDTH):
        part = out[first : first + _WIDTH]
        part[:] = np.float32(0.0)
        for step in range((freedom // 2 + 3) // 4):
            _random_bits(first_draw + first, part.size, step, 1, k0, k1, bits)
            for k in range(min(4, freedom // 2 - 4 * step)):
                row = bits[k]
                for lane in range(part.size):
                    part[lane] -= np.float32(2.0) * _logarithm_of_uniform(row[lane])
        if freedom % 2:
            _random_bits(first_draw + first, part.size, 0, 2, k0, k1, bits)
            _normals(bits[0], bits[1], part.size, z[0], z[1])
            for lane in range(part.size):
                part[lane] += z[0, lane] * z[0, lane]
        for lane in range(part.size):
            smallest = part[lane] if part[lane] > np.float32(1e-30) else np.float32(1e-30)
            part[lane] = math.sqrt(np.float32(freedom - 2) / smallest)


@njit(cache=True, fastmath={"contract"})
def _add(factor: Any, values: Any, total: Any) -> None:
    for p in range(total.size):
        total[p] += factor * values[p]


@njit(cache=True, nogil=True)
def _weigh(scenarios: Any, weights: Any, out: Any) -> None:
    n, paths = scenarios.shape
    for first in range(0, paths, _STRIP):
        strip = out[first : min(paths, first + _STRIP)]
        strip[:] = np.float32(0.0)
        for k in range(n):
            _add(weights[k], scenarios[k, first : first + strip.size], strip)


@njit(cache=True, fastmath={"reassoc"})
def _sum(values: Any) -> Any:
    total = np.float32(0.0)
    for p in range(values.size):
        total += values[p]
    return total


@njit(cache=True, nogil=True)
def _weigh_and_tail(scenarios: Any, weights: Any, level: float) -> Any:
    """NaN where a weight or a scenario is no number."""
    losses = np.empty(scenarios.shape[1], np.float32)
    short = np.empty(weights.size, np.float32)
    sound = True
    for k in range(weights.size):
        short[k] = -weights[k]
        sound = sound and abs(short[k]) < np.inf
    _weigh(scenarios, short, losses)
    # any NaN or infinity makes the sum one
    if not sound or not abs(_sum(losses)) < np.inf:
        return np.nan, np.nan
    return tail(losses, level)
