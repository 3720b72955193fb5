"""Every setting of the venue. All that bends reality is 0 by default and shows itself as a caption."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from core.venue.fees import FeeSchedule
from core.venue.liquidity import LiquiditySettings
from core.venue.order_book import SelfTradePrevention

LOOPBACK = "127.0.0.1"


class AccountKind(StrEnum):
    SPOT = "spot"
    """Nothing is sold or spent that is not there (Binance Spot)."""
    MARGIN = "margin"
    """Balances may go negative while gross exposure stays within `leverage_max` times equity."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Trading of one instrument rests from market step `first` to `last`, both included; cancels are still taken."""

    instrument: int
    first: int
    last: int

    def __post_init__(self) -> None:
        """Raises ValueError for steps that are no range."""
        if not 0 <= self.first <= self.last:
            raise ValueError(f"venue: halt from step {self.first} to {self.last}; want 0 <= first <= last")


@dataclass(frozen=True, slots=True)
class Injection:
    """Faults and delays put in on purpose."""

    latency_ms: float = 0.0
    """Every answer and event leaves this much later; the order itself is matched at once."""
    jitter_ms: float = 0.0
    """Up to this much more, evenly spread; answers keep their order."""
    reject_rate: float = 0.0
    """Share of new orders refused with -2010."""
    drop_rate: float = 0.0
    """Share of requests that are lost: every other one before the venue acts, the others' answers after it did."""
    disconnect_rate: float = 0.0
    """Share of requests upon which the venue cuts the connection: every other one before it acts, or after."""
    seed: int = 0
    """Of jitter, rejects, drops and cuts."""

    def __post_init__(self) -> None:
        """Raises ValueError that names the bad setting."""
        if not 0 <= self.latency_ms <= 10_000 or not 0 <= self.jitter_ms <= 10_000:
            raise ValueError(f"venue: latency {self.latency_ms} ms, jitter {self.jitter_ms} ms; want 0 to 10,000")
        for name in ("reject_rate", "drop_rate", "disconnect_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"venue: {name} = {getattr(self, name)}; want 0 to 1")

    def captions(self) -> tuple[str, ...]:
        """What must stand beside every result."""
        found = []
        if self.latency_ms:
            found.append(f"venue latency {self.latency_ms:g} ms (injected)")
        if self.jitter_ms:
            found.append(f"venue jitter {self.jitter_ms:g} ms (injected)")
        for name, rate in (("rejects", self.reject_rate), ("drops", self.drop_rate), ("cuts", self.disconnect_rate)):
            if rate:
                found.append(f"venue {name} {rate:.1%} (injected)")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """Rules of the exchange itself."""

    account: AccountKind = AccountKind.MARGIN
    leverage_max: float = 4.0
    """Of a margin account: gross position value over equity, checked when an order could add exposure."""
    fees: FeeSchedule = field(default_factory=FeeSchedule)
    notional_min_quanta: int = 1
    """Smallest order value, in cash quanta."""
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_TAKER
    liquidity: LiquiditySettings = field(default_factory=LiquiditySettings)
    open_orders_max: int = 10_000
    """Resting orders of one account."""
    halts: tuple[Halt, ...] = ()
    """When trading of an instrument rests."""


@dataclass(frozen=True, slots=True)
class VenueSettings:
    """The venue process."""

    directory: Path
    """Holds the venue's journal; made when missing."""
    keys_file: Path
    """Written (0600) at the first start, read by the gateway."""
    cancel_on_disconnect: bool = False
    """Cancel an account's open orders when its last link is gone."""
    starting_cash: float = 1_000_000.0
    """Quote currency of the account at its first start; later starts take the journal's balances."""
    host: str = LOOPBACK
    port: int = 0
    """0 takes a free one; `ready` is told which."""
    rest_port: int = 0
    """Of the REST interface; 0 takes a free one."""
    fix_port: int = 0
    """Of the FIX interface; 0 takes a free one."""
    exchange: ExchangeSettings = field(default_factory=ExchangeSettings)
    injection: Injection = field(default_factory=Injection)
    sync_journal: bool = False
    """True: fdatasync before each answer, to survive a power cut. False survives SIGKILL of the process."""

    def captions(self, has_depth: bool) -> tuple[str, ...]:
        """What must stand beside every result of this venue."""
        found = [] if has_depth else ["modelled liquidity"]
        found += self.injection.captions()
        if self.cancel_on_disconnect:
            found.append("cancel on disconnect")
        if self.exchange.halts:
            found.append(f"{len(self.exchange.halts)} trading halts (set)")
        if self.exchange.account is AccountKind.MARGIN:
            found.append(f"margin account, leverage up to {self.exchange.leverage_max:g}")
        return tuple(found)
