"""Client order ids and the exact text of integers."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core.orders.identity import PREFIX, client_order_id, is_client_order_id
from core.orders.scale import DecimalScale, MarketScale


def test_an_id_is_of_the_venue_s_alphabet_and_names_one_decision() -> None:
    base = (3, 7, 1, b"digest")
    same = client_order_id(*base)
    assert same == client_order_id(*base)
    assert is_client_order_id(same)
    assert same.startswith(PREFIX)
    others = {client_order_id(*base[:i], other, *base[i + 1 :]) for i, other in enumerate((4, 8, 2, b"x"))}
    assert len(others | {same}) == 5


def test_numbers_cannot_be_shifted_between_the_fields() -> None:
    assert client_order_id(1, 23, 4, b"") != client_order_id(12, 3, 4, b"")


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(ValueError, match="index -1"):
        client_order_id(1, -1, 0, b"")


@pytest.mark.parametrize("text", ["", "a" * 37, "with space", "ümlaut", None, 5])
def test_what_is_no_id(text: object) -> None:
    assert not is_client_order_id(text)


@given(st.sampled_from(["0.01", "1e-08", "0.25", "1", "5", "10", "0.5"]), st.integers(-(2**60), 2**60))
def test_text_and_back_is_exact(step: str, count: int) -> None:
    scale = DecimalScale(step)
    assert scale.count(scale.text(count)) == count
    assert "e" not in scale.text(count).lower()


def test_text_is_plain() -> None:
    assert DecimalScale(0.01).text(12345) == "123.45"
    assert DecimalScale(0.01).text(-5) == "-0.05"
    assert DecimalScale(1e-08).text(1) == "0.00000001"
    assert DecimalScale(0.25).text(3) == "0.75"
    assert DecimalScale("0.01").count("7") == 700
    assert DecimalScale("0.01").count("7.1000") == 710


@pytest.mark.parametrize(
    "text", ["0.005", "1.234", "abc", "", "1e3", "--1", "1.-2", ".5", "٣", "1 ", "nan", "-", "-.1"]
)
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|is finer"):
        DecimalScale("0.01").count(text)


@pytest.mark.parametrize("step", ["0", "-1", "nan", "inf", "x"])
def test_a_bad_step_is_refused(step: str) -> None:
    with pytest.raises(ValueError, match="step"):
        DecimalScale(step)


def test_a_market_scale_has_exact_quanta_and_refuses_doubled_names() -> None:
    scale = MarketScale.of(["A", "B"], 0.25, 0.001)
    assert str(scale.quantum.step) == "0.00025"
    assert scale.index == {"A": 0, "B": 1}
    with pytest.raises(ValueError, match="once each"):
        MarketScale.of(["A", "A"], 0.25, 1)
