"""A swarm whose kernels are not compiled yet trades at once, in numpy, and goes over to each kernel as it comes."""

from __future__ import annotations

import asyncio

import pytest

from kernels.warm import KERNELS
from tests.integration.swarm import running_swarm, until


@pytest.mark.prove
def test_trading_does_not_wait_for_the_compiler(tmp_path, monkeypatch):
    cache = tmp_path / "kernels"
    cache.mkdir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))

    async def session():
        async with running_swarm(tmp_path, cold=True) as swarm:
            first = swarm.client.cycles[0]
            assert first.numpy_kernels > 0
            assert first.decisions_committed == 20
            words = [caption for caption in swarm.snapshot().captions if caption.startswith("numpy kernels: ")]
            assert words, swarm.snapshot().captions
            assert words[0].endswith(f" of {len(KERNELS)} compiled")
            await until(lambda: swarm.client.cycles[-1].numpy_kernels < first.numpy_kernels, 120, "a compiled kernel")
            assert all(record.decisions_committed == 20 for record in swarm.client.cycles)
            for node in swarm.snapshot().nodes:
                assert node.accusations == ()

    asyncio.run(session())
    # the compiler was ended with its swarm, and what it had done is kept
    assert list(cache.glob("*.compiled"))
