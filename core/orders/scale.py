"""Integer ticks and lots on our side, decimal text on the venue's: exact both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation


class DecimalScale:
    """Counts of one decimal step, for example ticks of 0.01, as text and back."""

    __slots__ = ("_multiple", "_places", "_unit", "step")

    def __init__(self, step: str | float | Decimal) -> None:
        """`step` as text or the float that prints as it. Raises ValueError unless it is positive and finite."""
        try:
            self.step = Decimal(str(step)).normalize()
        except InvalidOperation:
            raise ValueError(f"step {step!r} is no decimal number") from None
        if not (self.step.is_finite() and self.step > 0):
            raise ValueError(f"step {step!r} must be positive")
        exponent = self.step.as_tuple().exponent
        assert isinstance(exponent, int)
        self._places = max(0, -exponent)
        self._unit: int = 10**self._places
        self._multiple = int(self.step * self._unit)

    def text(self, count: int) -> str:
        """`count` steps as plain decimal text, without an exponent."""
        value = count * self._multiple
        if not self._places:
            return str(value)
        whole, part = divmod(abs(value), self._unit)
        return f"{'-' if value < 0 else ''}{whole}.{part:0{self._places}d}"

    def count(self, text: str) -> int:
        """How many steps `text` is. Raises ValueError where it is no plain decimal or no whole multiple."""
        digits, _, decimals = text.removeprefix("-").partition(".")
        decimals = decimals.rstrip("0")
        if not (digits + decimals).isascii() or not (digits + "0" + decimals).isdigit() or not digits:
            raise ValueError(f"{text!r} is no decimal number")
        if len(decimals) > self._places:
            raise ValueError(f"{text!r} is finer than {self.step}")
        value = int(digits) * self._unit + int((decimals or "0").ljust(self._places, "0") if self._places else 0)
        count, rest = divmod(value, self._multiple)
        if rest:
            raise ValueError(f"{text!r} is no multiple of {self.step}")
        return -count if text.startswith("-") else count

    def count_decimal(self, value: Decimal) -> int:
        """How many steps a number is, however it is written. Raises ValueError where it is no whole multiple."""
        return self.count(f"{value.normalize():f}")

    def count_rounded(self, text: str) -> int:
        """How many whole steps there are in `text`, towards zero: an account may hold dust. Raises ArithmeticError."""
        return int(Decimal(text) / self.step)

    def count_nearest(self, value: Decimal) -> int:
        """How many steps are nearest to a number, half to even: other people's venues are finer."""
        return int((value / self.step).to_integral_value(ROUND_HALF_EVEN))


@dataclass(frozen=True, slots=True)
class MarketScale:
    """The instruments of a market and the steps of their prices (ticks), quantities (lots) and cash (quanta)."""

    instruments: tuple[str, ...]
    tick: DecimalScale
    lot: DecimalScale
    quantum: DecimalScale
    quote_asset: str = "USD"
    index: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, instruments: Sequence[str], tick_size: str | float, lot_size: str | float, quote_asset: str = "USD"
    ) -> MarketScale:
        """The scale of a `MarketSpec`. Raises ValueError for a size that is not positive or a name given twice."""
        names = tuple(instruments)
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"instruments {names} must be named once each, and at least one")
        tick, lot = DecimalScale(tick_size), DecimalScale(lot_size)
        quantum = DecimalScale(tick.step * lot.step)
        return cls(names, tick, lot, quantum, quote_asset, {name: i for i, name in enumerate(names)})
