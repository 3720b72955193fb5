"""How the settings of a swarm become those of its endpoints."""

from __future__ import annotations

from core.config import Settings
from net.link_model import parse_links
from net.transport import TransportSettings


def transport_settings(settings: Settings) -> TransportSettings:
    """For nodes and the gateway. What the toggles say is set as they change.

    On emulated links a peer counts as gone only after several round trips more.
    """
    links = parse_links(settings.link)
    slowest_s = max(model.delay_s + model.jitter_s for model in (links.default, *links.pairs.values()))
    return TransportSettings(
        links=links,
        congestion_control=settings.congestion_control,
        dead_after_s=0.5 + 8 * slowest_s,
        unanswered_dial_s=1.0 + 8 * slowest_s,
    )
