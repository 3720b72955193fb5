"""The CUDA functions in numba's simulator, which must be chosen before numba is loaded: in a process of their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from core.commands.risk import show_risk
from core.config import Settings
from core.market.load import load_market
from core.trader import GPU_CAPTION, Trader
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
    losses=monte_carlo_losses_gpu(mean, covariance, weights, 70, 2**40 + 3),
    stretched=monte_carlo_losses_gpu(mean, covariance, weights, 70, 2**40 + 3, degrees=5))
"""

TRADED = """
import asyncio
from pathlib import Path
import numpy as np
from core.config import Settings
from core.market.load import load_market
from core.telemetry import CycleTracer
from core.toggles import DtwKernel
from core.trader import GPU_CAPTION, Trader
data = load_market("us-stocks")
found = {}
for gpu in (False, True):
    settings = Settings(gpu=gpu, pattern_count=6, window_steps=8)
    folder = Path(%r) / str(gpu)
    folder.mkdir()
    said = []
    trader = Trader(settings, data, None, folder, lambda severity, text: said.append(text))
    assert (GPU_CAPTION in trader.captions) is (trader._on_gpu) is gpu
    tracer = CycleTracer()
    tracer.begin()
    trader.ingest(0, tracer)
    asyncio.run(trader.match_patterns(DtwKernel.BATCH, tracer))
    found[gpu] = trader._forecast
    assert said == []
    trader.close()
np.testing.assert_allclose(found[True].expected_return, found[False].expected_return, rtol=1e-4, atol=1e-9)
np.testing.assert_allclose(found[True].confidence, found[False].confidence, rtol=1e-4, atol=1e-9)
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
        expected = monte_carlo_losses(*portfolio, 70, 2**40 + 3, degrees=5)
        np.testing.assert_allclose(stored["stretched"], expected, rtol=1e-4, atol=1e-4)


def test_trading_uses_the_device_where_the_setting_asks_for_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRADED % str(tmp_path)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(available(), reason="this machine has a CUDA device")
def test_a_wish_for_a_device_that_is_not_there_is_answered_and_the_processor_computes(tmp_path: Path) -> None:
    said: list[str] = []
    settings = Settings(gpu=True, pattern_count=6)
    trader = Trader(settings, load_market("us-stocks"), None, tmp_path, lambda severity, text: said.append(text))  # type: ignore[arg-type]
    trader.close()
    assert said == ["gpu is set and there is no CUDA device: the processor computes"]
    assert GPU_CAPTION not in trader.captions
    console = Console(file=io.StringIO(), width=120)
    show_risk("us-stocks", 0.99, 2, None, console, gpu=True)
    assert "there is no CUDA device: the processor draws" in console.file.getvalue()  # type: ignore[attr-defined]


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
