from __future__ import annotations

import numpy as np
import pytest

from core.market.layout import HISTORY, STEPS_LEAST, layout_of
from core.market.spec import decimal_places, lot_size_for, tick_size_for


@pytest.mark.parametrize(
    ("prices", "tick"),
    [
        ([10.0, 11.0], 1.0),
        ([10.5, 11.25], 0.01),
        ([61_837.63, 2_683.8], 0.01),
        ([0.00001234, 0.00001235], 1e-8),
        ([10 / 3, 20 / 3], 1e-4),
        ([1 / 3_000, 20 / 3], 1e-8),
        ([1e12 + 0.5, 1e12 / 3], 0.1),
    ],
)
def test_the_tick_of_a_users_prices(prices: list[float], tick: float) -> None:
    assert tick_size_for(np.array(prices)) == tick


def test_the_lot_of_a_users_quantities() -> None:
    assert lot_size_for(np.array([1.0, 8.0])) == 1.0
    assert lot_size_for(np.array([0.02, 9e-05])) == 1e-5
    assert lot_size_for(np.array([1 / 3])) == 1e-8


def test_decimal_places_end_somewhere() -> None:
    assert decimal_places(np.array([0.1 + 0.2]), 6) == 1
    assert decimal_places(np.array([1 / 7]), 6) is None


def test_the_layout_in_integers() -> None:
    assert layout_of(8_313).library_rows == 3_326
    assert layout_of(1_000).library_rows == 400
    assert layout_of(1_000).history_rows == HISTORY
    assert layout_of(651).history_rows == 195
    for steps in range(STEPS_LEAST, 2_000):
        layout = layout_of(steps)
        assert layout.library_rows == int(np.ceil(steps * 4 / 10))
        assert layout.library_rows >= 65
        assert 64 <= layout.history_rows <= HISTORY
        assert layout.steps_per_lap >= 32
        assert layout.library_rows + layout.history_rows + layout.steps_per_lap == steps
    with pytest.raises(ValueError, match="160 steps are too few"):
        layout_of(160)
