"""What answers while kernels are compiled: the compiled answer, to stated rounding."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels import readiness
from kernels.dtw import dtw_distance_python, library_distances_scalar, z_normalise
from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.dtw_topk import envelope, library_topk, pack_library, pattern_envelopes
from kernels.indicator_table import indicator_table
from kernels.risk import portfolio_var_es
from kernels.timeline import exclusive_time
from kernels.warm import KERNELS


@pytest.fixture
def numpy_only() -> Iterator[None]:
    names = [kernel.name for kernel in KERNELS]
    readiness.postpone(names)
    try:
        yield
    finally:
        for name in names:
            readiness.load(name, lambda: None)


def in_numpy(call, *arguments):
    """The same call, answered from numpy."""
    names = [kernel.name for kernel in KERNELS]
    readiness.postpone(names)
    try:
        return call(*arguments)
    finally:
        for name in names:
            readiness.load(name, lambda: None)


rows = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 45), st.integers(0, 2**32 - 1))
plain = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(rows)
@plain
def test_distances_are_the_compiled_ones(drawn):
    n, m, band, seed = drawn
    made = z_normalise(np.random.default_rng(seed).standard_normal((n + 3, m)).cumsum(axis=1))
    windows, patterns = made[:3], made[3:]
    blocks = pack_patterns(patterns)
    exact = np.array([[dtw_distance_python(w, p, band) for p in patterns] for w in windows])
    found = in_numpy(library_distances_batch, windows, blocks, n, band)
    np.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(library_distances_batch(windows, blocks, n, band), found, rtol=4e-6, atol=2e-6)
    scalar = in_numpy(library_distances_scalar, windows[0], patterns, band)
    # the very bits: the same operations in float64, in the same order
    np.testing.assert_array_equal(scalar, library_distances_scalar(windows[0], patterns, band))
    np.testing.assert_array_equal(scalar, exact[0].astype(np.float32))


@pytest.mark.parametrize("m", [8, 64])
def test_top_k_is_the_stable_order_of_its_own_distances(m):
    made = z_normalise(np.random.default_rng(m).standard_normal((220, m)).cumsum(axis=1))
    patterns = np.concatenate((made[:200], made[:5]))
    library = pack_library(patterns, 6)
    indices, distances = in_numpy(library_topk, made[200:], library, 32, 6)
    every = in_numpy(library_distances_batch, made[200:], library.blocks, len(patterns), 6)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1, kind="stable")[:, :32])
    np.testing.assert_array_equal(distances, np.sort(every, axis=1)[:, :32])
    np.testing.assert_allclose(distances, library_topk(made[200:], library, 32, 6)[1], rtol=4e-6)


@given(rows)
@plain
def test_envelopes_of_a_library_are_those_of_its_patterns(drawn):
    n, m, band, seed = drawn
    patterns = np.random.default_rng(seed).standard_normal((n, m)).astype(np.float32)
    lower, upper = np.empty_like(patterns), np.empty_like(patterns)
    for p in range(n):
        envelope.py_func(patterns[p], band, lower[p], upper[p])
    found = pattern_envelopes(patterns, band)
    np.testing.assert_array_equal(found[0], lower)
    np.testing.assert_array_equal(found[1], upper)


@pytest.mark.parametrize("steps", [0, 1, 2, 20, 21, 33, 34, 252])
def test_indicators_are_the_compiled_ones(steps):
    closes = np.exp(np.random.default_rng(steps).standard_normal((7, steps)).cumsum(axis=1) * 0.01) * 50
    closes[0] = 3.0
    np.testing.assert_allclose(in_numpy(indicator_table, closes), indicator_table(closes), rtol=1e-9, atol=1e-12)


def test_risk_is_the_compiled_one():
    generator = np.random.default_rng(1)
    returns, weights = generator.standard_t(4, (251, 20)) * 0.01, generator.standard_normal(20)
    for level in (0.9, 0.95, 0.99):
        np.testing.assert_allclose(
            in_numpy(portfolio_var_es, returns, weights, level), portfolio_var_es(returns, weights, level), rtol=1e-12
        )


def test_exclusive_times_are_the_compiled_ones():
    generator = np.random.default_rng(2)
    starts = generator.integers(0, 1000, 50)
    ends = starts + generator.integers(0, 300, 50)
    spans, depths = generator.integers(0, 6, 50), np.array([0, 1, 1, 2, 2, 3])
    expected = exclusive_time(starts, ends, spans, depths)
    np.testing.assert_array_equal(in_numpy(exclusive_time, starts, ends, spans, depths), expected)


def test_errors_are_the_same(numpy_only):
    rows = np.zeros((2, 8), np.float32)
    with pytest.raises(ValueError, match="float32"):
        library_distances_batch(rows.astype(np.float64), pack_patterns(rows), 2, 1)
    with pytest.raises(ValueError, match="k must lie"):
        library_topk(rows, pack_library(rows, 1), 3, 1)
    with pytest.raises(ValueError, match="positive"):
        indicator_table(np.zeros((1, 40)))


def test_only_the_thread_that_loads_sees_the_compiled_form_until_it_is_loaded(numpy_only):
    seen: dict[str, bool] = {}
    inside, go_on = threading.Event(), threading.Event()

    def call() -> None:
        seen["loading"], seen["another kernel"] = readiness.is_compiled("risk"), readiness.is_compiled("dtw_batch")
        inside.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=readiness.load, args=("risk", call))
    thread.start()
    assert inside.wait(10)
    seen["elsewhere"] = readiness.is_compiled("risk")
    go_on.set()
    thread.join(10)
    assert seen == {"loading": True, "another kernel": False, "elsewhere": False}
    assert readiness.is_compiled("risk")
    assert "risk" not in readiness.postponed()


def test_a_kernel_that_cannot_be_loaded_stays_in_numpy(numpy_only):
    def broken() -> None:
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match="no compiler"):
        readiness.load("risk", broken)
    assert not readiness.is_compiled("risk")
