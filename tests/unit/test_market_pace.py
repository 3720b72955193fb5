from __future__ import annotations

import pytest

from core.market.pace import Pace, parse_pace


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("max", 0.0), ("1/s", 1.0), ("20/s", 0.05), ("0.5/s", 2.0), (".25/s", 4.0), (" MAX ", 0.0), ("2 / s", 0.5)],
)
def test_a_pace_is_read(text: str, seconds: float) -> None:
    pace = parse_pace(text)
    assert pace.seconds_per_step == seconds
    assert parse_pace(pace.text) == pace


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0/s", "0.0/s", "-1/s", "1", "1/m", "nan/s", "inf/s", "1e3/s", "1//s", "0." + "0" * 320 + "1/s"],
)
def test_a_bad_pace_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="pace") as caught:
        parse_pace(text)
    assert repr(text) in str(caught.value)


def test_a_pace_is_a_value() -> None:
    assert parse_pace("1/s") == Pace(text="1/s", seconds_per_step=1.0)
