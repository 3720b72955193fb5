"""Market data: recordings are loaded and checked whole (`load`), then played step by step (`feed`)."""
