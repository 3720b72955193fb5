"""Numeric kernels in numba and numpy: arrays in, arrays out."""
