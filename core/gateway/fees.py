"""What a venue took for a trade, in quanta of the quote currency: other people's venues take it in any currency."""

from __future__ import annotations

from decimal import Decimal

from core.orders.scale import MarketScale


def fee_quanta(scale: MarketScale, cost: Decimal, asset: str | None, pair: tuple[str, str], price: Decimal) -> int:
    """A fee to the nearest quantum, half to even. `pair`: base and quote asset of the instrument.

    One in the base asset counts at the trade's price, one without an asset as quote currency, and one in a third asset
    as nothing: the balances that we compare do not show it either. What rounding leaves shows in them, and is taken up
    there.
    """
    base, quote = pair
    if asset == base:
        return scale.quantum.count_nearest(cost * price)
    return scale.quantum.count_nearest(cost) if asset in (quote, None) else 0
