"""The CUDA functions in numba's simulator, which must be chosen before numba is loaded: in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels.dtw_batch import library_distances_batch, pack_patterns
from kernels.gpu import NoDeviceError, available, library_distances_gpu, monte_carlo_losses_gpu
from kernels.monte_carlo import monte_carlo_losses

SIMULATED = """
import numpy as np
from kernels.gpu import available, library_distances_gpu, monte_carlo_losses_gpu
assert available()
random = np.random.default_rng(1)
rows = random.standard_normal((40, 9)).cumsum(axis=1).astype(np.float32)
mix = random.standard_normal((5, 5))
covariance, mean, weights = mix @ mix.T, random.standard_normal(5), random.standard_normal(5)
bands = (0, 1, 3, 9)
found = [library_distances_gpu(rows[:2], rows[2:], band) for band in bands]
np.savez(%r, rows=rows, found=found, covariance=covariance, mean=mean, weights=weights,
    losses=monte_carlo_losses_gpu(mean, covariance, weights, 70, 2**40 + 3))
"""


def test_simulated_device_gives_the_processors_figures(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED % str(path)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as stored:
        rows = stored["rows"]
        for band, found in zip((0, 1, 3, 9), stored["found"], strict=True):
            expected = library_distances_batch(rows[:2], pack_patterns(rows[2:]), 38, band)
            np.testing.assert_allclose(found, expected, rtol=2e-6)
        portfolio = stored["mean"], stored["covariance"], stored["weights"]
        np.testing.assert_allclose(
            stored["losses"], monte_carlo_losses(*portfolio, 70, 2**40 + 3), rtol=1e-4, atol=1e-4
        )


@pytest.mark.skipif(available(), reason="this machine has a CUDA device")
def test_without_a_device_it_is_said_so() -> None:
    with pytest.raises(NoDeviceError, match="no CUDA device"):
        library_distances_gpu(np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32), 1)
    with pytest.raises(NoDeviceError, match="no CUDA device"):
        monte_carlo_losses_gpu(np.zeros(1), np.eye(1), np.ones(1), 4, 1)


def test_bad_input_is_refused_before_a_device_is_looked_for() -> None:
    with pytest.raises(ValueError, match="same steps"):
        library_distances_gpu(np.zeros((1, 4), np.float32), np.zeros((1, 5), np.float32), 1)
    with pytest.raises(ValueError, match="is nan"):
        library_distances_gpu(np.full((1, 4), np.nan, np.float32), np.zeros((1, 4), np.float32), 1)
    with pytest.raises(ValueError, match="1 or more"):
        monte_carlo_losses_gpu(np.zeros(1), np.eye(1), np.ones(1), 0, 1)
