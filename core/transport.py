"""How the settings of a swarm become those of its endpoints."""

from __future__ import annotations

import ipaddress

from core.config import Settings
from core.session import SessionError
from net.identity import IdentityError, RosterEntry, parse_address
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
        monitor_dead_after_s=3.0 + 8 * slowest_s,
        unanswered_dial_s=1.0 + 8 * slowest_s,
    )


def monitor_transport_settings(push_interval_s: float) -> TransportSettings:
    """For whoever looks on: it is pushed news each `push_interval_s`, so silence shows without frequent pings."""
    return TransportSettings(heartbeat_s=1.0, dead_after_s=max(1.0, 2.5 * push_interval_s))


def listen_address(entry: RosterEntry, listen: str | None) -> tuple[str, int]:
    """Where a process listens: its roster's address, or `listen` (`host:port`).

    Beyond loopback it must be asked for twice, so that nothing is opened to a network by accident: by `--listen`, and
    by a roster that lists the member at an address which others can reach. Raises SessionError.
    """
    if entry.address is None:
        raise SessionError(f"the roster gives {entry.name} no address to listen on")
    listed = "{}:{}".format(*entry.address)
    if listen is None:
        if not _is_loopback(entry.address[0]):
            raise SessionError(
                f"{entry.name}: the roster lists {listed}, which is not loopback; "
                f"say that you want it: --listen {listed}"
            )
        return entry.address
    try:
        wanted = parse_address(listen)
    except IdentityError as error:
        raise SessionError(f"--listen: {error}") from error
    if not _is_loopback(wanted[0]) and _is_loopback(entry.address[0]):
        raise SessionError(
            f"--listen {listen}: the roster lists {entry.name} at {listed}, where no other machine reaches it; "
            "give it its address with `tradetui keys roster` first"
        )
    return wanted


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
