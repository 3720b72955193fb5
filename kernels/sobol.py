"""Sobol points as normal shocks: even where random draws leave gaps and clusters.

Points in the order of the Gray code (Antonov and Saleev 1979) by the direction numbers of Joe and Kuo (2008), shifted
digit by digit by random bits of the seed and the dimension, so that seeds give independent, unbiased estimates (Owen
1995 has the same end; a shift is its cheapest form). Point p is a pure function of seed and p: any split has the same
bits. Quantiles: of the normal by Wichura (1988), algorithm AS 241; of chi-squared by Newton's method from the
approximation of Wilson and Hilferty (1931).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.philox import philox
from kernels.sobol_directions import DIRECTIONS

DIMENSIONS_MAX: Final = len(DIRECTIONS) + 1
_BITS: Final = 32
_STREAM: Final = np.uint64(3)
"""Of the generator's counter: 0 to 2 are the random draws' (`kernels.monte_carlo`)."""
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_NEWTON_MAX: Final = 100


def _table() -> NDArray[np.uint32]:
    """Direction number j of each dimension, as the bits after the point: uint32 [dimensions, 32] (Joe and Kuo 2008)."""
    table = np.empty((DIMENSIONS_MAX, _BITS), np.uint32)
    table[0] = [1 << (_BITS - 1 - j) for j in range(_BITS)]
    for dimension, (coefficients, initial) in enumerate(DIRECTIONS, start=1):
        degree = len(initial)
        numbers = [m << (_BITS - 1 - j) for j, m in enumerate(initial)]
        for j in range(degree, _BITS):
            number = numbers[j - degree] ^ (numbers[j - degree] >> degree)
            for k in range(1, degree):
                if coefficients >> (degree - 1 - k) & 1:
                    number ^= numbers[j - k]
            numbers.append(number)
        table[dimension] = numbers
    return table


_TABLE: Final = _table()


def shifts_of(seed: int, dimensions: int) -> NDArray[np.uint32]:
    """The digital shift of each dimension: uint32 [dimensions]."""
    shifts = np.empty(dimensions, np.uint32)
    _fill_shifts(np.uint64(seed), shifts)
    return shifts


def sobol_points(dimensions: int, first: int, points: int) -> NDArray[np.uint32]:
    """The bits after the point of points first.. of the sequence itself, not shifted: uint32 [dimensions, points].

    Raises ValueError for more than `DIMENSIONS_MAX` dimensions, or a point of 2**32 or above.
    """
    if not (1 <= dimensions <= DIMENSIONS_MAX and first >= 0 and 0 <= points <= 2**_BITS - first):
        raise ValueError(f"{dimensions} dimensions, points {first} to {first + points}: want up to {DIMENSIONS_MAX}")
    out = np.empty((dimensions, points), np.uint32)
    for dimension in range(dimensions):
        _walk(_TABLE[dimension], np.uint32(0), first, out[dimension])
    return out


def sobol_shocks(shifts: NDArray[np.uint32], first: int, out: NDArray[np.float32]) -> None:
    """out: float32 [n, draws] gets standard normal shocks of points first..; dimension k makes row k."""
    _shocks(_TABLE, shifts, first, out)


def sobol_stretches(freedom: int, dimension: int, shift: Any, first: int, out: NDArray[np.float32]) -> None:
    """out: float32 [draws] gets sqrt((freedom - 2) / chi-squared) of points first.. of this dimension."""
    _stretches(freedom, _TABLE[dimension], shift, first, out)


@njit(cache=True)
def _fill_shifts(seed: Any, shifts: Any) -> None:
    for dimension in range(shifts.size):
        bits = philox(np.uint64(dimension), np.uint64(0), _STREAM, np.uint64(0), seed & _LOW, seed >> _HALF)
        shifts[dimension] = np.uint32(bits[0])


@njit(cache=True, nogil=True)
def _walk(directions: Any, shift: Any, first: int, out: Any) -> None:
    """The bits of points first.. of one dimension: one direction number comes or goes at each step."""
    bits = np.uint32(shift)
    gray = first ^ (first >> 1)
    for j in range(_BITS):
        if (gray >> j) & 1:
            bits ^= directions[j]
    for p in range(out.size):
        out[p] = bits
        following = first + p + 1
        j = 0
        while j < _BITS - 1 and not (following >> j) & 1:
            j += 1
        bits ^= directions[j]


@njit(cache=True, nogil=True)
def _shocks(table: Any, shifts: Any, first: int, out: Any) -> None:
    bits = np.empty(out.shape[1], np.uint32)
    for k in range(out.shape[0]):
        _walk(table[k], shifts[k], first, bits)
        for p in range(bits.size):
            out[k, p] = normal_quantile((np.float64(bits[p]) + 0.5) * 2.0**-32)


@njit(cache=True, nogil=True)
def _stretches(freedom: int, directions: Any, shift: Any, first: int, out: Any) -> None:
    bits = np.empty(out.size, np.uint32)
    _walk(directions, shift, first, bits)
    for p in range(out.size):
        chi_squared = chi_squared_quantile((np.float64(bits[p]) + 0.5) * 2.0**-32, freedom)
        out[p] = math.sqrt((freedom - 2) / chi_squared)


@njit(cache=True)
def normal_quantile(p: float) -> float:
    """Of the standard normal, 0 < p < 1; relative error about 1e-16 (Wichura 1988, AS 241, PPND16)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        above = 2509.0809287301226727 * r + 33430.575583588128105
        above = (above * r + 67265.770927008700853) * r + 45921.953931549871457
        above = (above * r + 13731.693765509461125) * r + 1971.5909503065514427
        above = (above * r + 133.14166789178437745) * r + 3.387132872796366608
        below = 5226.495278852545925 * r + 28729.085735721942674
        below = (below * r + 39307.89580009271061) * r + 21213.794301586595867
        below = (below * r + 5394.1960214247511077) * r + 687.1870074920579083
        below = (below * r + 42.313330701600911252) * r + 1.0
        return q * above / below
    r = math.sqrt(-math.log(p if q < 0.0 else 1.0 - p))
    if r <= 5.0:
        r -= 1.6
        above = 7.7454501427834140764e-4 * r + 0.0227238449892691845833
        above = (above * r + 0.24178072517745061177) * r + 1.27045825245236838258
        above = (above * r + 3.64784832476320460504) * r + 5.7694972214606914055
        above = (above * r + 4.6303378461565452959) * r + 1.42343711074968357734
        below = 1.05075007164441684324e-9 * r + 5.475938084995344946e-4
        below = (below * r + 0.0151986665636164571966) * r + 0.14810397642748007459
        below = (below * r + 0.68976733498510000455) * r + 1.6763848301838038494
        below = (below * r + 2.05319162663775882187) * r + 1.0
    else:
        r -= 5.0
        above = 2.01033439929228813265e-7 * r + 2.71155556874348757815e-5
        above = (above * r + 0.0012426609473880784386) * r + 0.026532189526576123093
        above = (above * r + 0.29656057182850489123) * r + 1.7848265399172913358
        above = (above * r + 5.4637849111641143699) * r + 6.6579046435011037772
        below = 2.04426310338993978564e-15 * r + 1.4215117583164458887e-7
        below = (below * r + 1.8463183175100546818e-5) * r + 7.868691311456132591e-4
        below = (below * r + 0.0148753612908506148525) * r + 0.13692988092273580531
        below = (below * r + 0.59983220655588793769) * r + 1.0
    return -above / below if q < 0.0 else above / below


@njit(cache=True)
def _chi_squared_upper(x: float, freedom: int) -> Any:
    """Probability above x, and the density there: finite sums for whole degrees (Abramowitz and Stegun 26.4.4-5)."""
    half = 0.5 * x
    if freedom % 2:
        total = math.erfc(math.sqrt(half))
        term = math.exp(-half) / math.sqrt(math.pi * half)
        for i in range(1, (freedom + 1) // 2):
            term *= half / (i - 0.5)
            total += term
    else:
        term = math.exp(-half)
        total = term
        for i in range(1, freedom // 2):
            term *= half / i
            total += term
    return total, 0.5 * term


@njit(cache=True)
def chi_squared_quantile(p: float, freedom: int) -> float:
    """Of chi-squared with whole degrees of freedom from 2 to 1,000, 0 < p < 1; relative error below 1e-6."""
    spread = 2.0 / (9.0 * freedom)
    x = freedom * max(1.0 - spread + normal_quantile(p) * math.sqrt(spread), 1e-3) ** 3
    low, high = 0.0, 10.0 * freedom + 100.0
    for _ in range(_NEWTON_MAX):
        upper, density = _chi_squared_upper(x, freedom)
        beyond = (1.0 - p) - upper
        if beyond > 0.0:
            high = min(high, x)
        else:
            low = max(low, x)
        moved = x - beyond / density if density > 0.0 else -1.0
        if not low < moved < high:
            moved = 0.5 * (low + high)
        if abs(moved - x) <= 1e-9 * x:
            return moved
        x = moved
    return x
