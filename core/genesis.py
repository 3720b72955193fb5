"""The replicated state before the first entry of the log; the same on every node and on the gateway."""

from __future__ import annotations

from core.config import Settings
from core.limits import limits_for_equity
from core.market.spec import MarketSpec
from core.portfolio import Portfolio, cash_quanta
from core.session import GATEWAY_ID
from core.swarm_state import SwarmState
from core.toggles import parse_toggles
from net.identity import Roster
from net.membership import Membership, all_voters


def genesis_state(settings: Settings, spec: MarketSpec, roster: Roster) -> SwarmState:
    """Flat positions, the starting cash, limits relative to it, the toggles that the settings name."""
    gateway = roster.get(GATEWAY_ID)
    assert gateway is not None, "a session's roster names its gateway"
    cash = cash_quanta(settings.starting_cash, spec.tick_size, spec.lot_size)
    return SwarmState(
        spec=spec,
        membership=first_membership(settings, roster),
        limits=limits_for_equity(cash),
        portfolio=Portfolio(len(spec.instruments), cash),
        toggles=parse_toggles(settings.toggles),
        gateway_key=gateway.public_key,
        trading_keys={entry.id: entry.public_key for entry in (gateway, *roster.of_role("operator"))},
    )


def first_membership(settings: Settings, roster: Roster) -> Membership:
    """Who votes in the first epoch: nodes 0 to `settings.nodes` - 1. Others of the roster join later, by the log."""
    nodes = (entry for entry in roster.of_role("node") if entry.id < settings.nodes)
    return all_voters({entry.id: entry.public_key for entry in nodes})
