"""Why the gateway refuses. Nothing was sent, and nothing was journalled, where one of these is raised."""

from __future__ import annotations

from core.records import VenueState


class GatewayError(RuntimeError):
    """The gateway refuses a request; the text says why and what to do."""


class VenueUnavailable(GatewayError):
    """The venue cannot be reached, or the journal is being reconciled with it. Ask again once it is connected."""

    def __init__(self, state: VenueState, reason: str) -> None:
        super().__init__(f"venue is {state}: {reason}" if reason else f"venue is {state}")
        self.state = state
        self.reason = reason


class TradingHalted(GatewayError):
    """The kill switch: no order leaves until trading is resumed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"trading is halted: {reason}; `tradetui resume` ends it")
        self.reason = reason


class GatewayStopping(GatewayError):
    """The gateway takes no new order: it waits for what is on the wire, and ends."""

    def __init__(self) -> None:
        super().__init__("the gateway is stopping; ask again once it is started")


class FencedError(GatewayError):
    """A later leader has already been here: this one has lost its office."""

    def __init__(self, asked: tuple[int, int], highest: tuple[int, int]) -> None:
        super().__init__(
            f"epoch {asked[0]}, term {asked[1]} is fenced off by epoch {highest[0]}, term {highest[1]};"
            " follow the new leader"
        )
        self.asked = asked
        self.highest = highest


class UnknownOrder(GatewayError):
    """The order was never prepared."""


class OtherTerms(GatewayError):
    """The client order id is known with other terms."""


class GatewayFull(GatewayError):
    """Too many orders are prepared or waiting."""


class GatewayJournalError(RuntimeError):
    """The journal is held by another process, or is no journal of ours."""
