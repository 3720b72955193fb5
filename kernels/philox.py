"""Random bits by counter: Philox4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

_MULTIPLIER_0: Final = np.uint64(0xD2511F53)
_MULTIPLIER_1: Final = np.uint64(0xCD9E8D57)
_WEYL_0: Final = np.uint64(0x9E3779B9)
_WEYL_1: Final = np.uint64(0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


@njit(cache=True)
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Philox4x32-10 of one counter and key, 32 bits each, in uint64: four random 32-bit numbers."""
    for _ in range(10):
        low = _MULTIPLIER_0 * c0
        high = _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (high >> _HALF) ^ c1 ^ k0, high & _LOW, (low >> _HALF) ^ c3 ^ k1, low & _LOW
        k0 = (k0 + _WEYL_0) & _LOW
        k1 = (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3
