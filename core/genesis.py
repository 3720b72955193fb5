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


def genesis_state(settings: Settings, spec: MarketSpec, roster: Roster) -> SwarmState:
    """Flat positions, the starting cash, limits relative to it, the toggles that the settings name."""
    cash = cash_quanta(settings.starting_cash, spec.tick_size, spec.lot_size)
    return SwarmState(
        spec=spec,
        node_count=settings.nodes,
        limits=limits_for_equity(cash),
        portfolio=Portfolio(len(spec.instruments), cash),
        toggles=parse_toggles(settings.toggles),
        peer_keys={entry.id: entry.public_key for entry in roster if entry.role != "operator"},
        gateway_id=GATEWAY_ID,
    )
