"""Numeric kernels in numba and numpy: arrays in, arrays out."""

from kernels import cache

# before any kernel imports numba, which reads the directory once
cache.use()
