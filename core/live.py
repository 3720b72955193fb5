"""Which venue orders go to, and the leave that they need to go beyond this machine.

A session trades with its own embedded venue unless `venue_address` names another. Beyond loopback a swarm starts only
with `--live` and with the address typed by a person; the leave is a file that the gateway looks for before it connects,
and that a stop takes away. Keys of such a venue come from the environment or from a file that its owner alone may read;
the environment's reach the gateway process and no other.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from core.config import ConfigError, Settings
from core.session import Session, SessionError
from core.venue.credentials import Credentials, CredentialsError, load_credentials

KEY_VARIABLE: Final = "TRADETUI_VENUE_API_KEY"
SECRET_VARIABLE: Final = "TRADETUI_VENUE_API_SECRET"
KEY_VARIABLES: Final = (KEY_VARIABLE, SECRET_VARIABLE)


@dataclass(frozen=True, slots=True)
class VenueAddress:
    """A venue that is not the session's own."""

    text: str
    """As it was given; this is what a person types to confirm."""
    host: str
    """Empty where ccxt knows it."""
    port: int = 0
    path: str = ""
    tls: bool = False
    exchange: str = ""
    """Its id in ccxt."""
    sandbox: bool = False

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def venue_address(settings: Settings) -> VenueAddress | None:
    """The venue of `settings`; None is the session's own. Raises ConfigError that names the bad setting."""
    text = settings.venue_address
    if not text:
        return None
    if settings.gateway_protocol == "ccxt":
        exchange, _, network = text.partition(":")
        if not exchange.isidentifier() or network not in ("", "sandbox"):
            raise ConfigError(f"venue_address = {text!r}; with ccxt want EXCHANGE or EXCHANGE:sandbox, as kraken")
        return VenueAddress(text, "", exchange=exchange, sandbox=network == "sandbox")
    is_fix = settings.gateway_protocol == "fix"
    schemes = {"tcp": False, "tls": True} if is_fix else {"ws": False, "wss": True}
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_address(text, schemes) from None
    extra = parts.username or parts.query or parts.fragment or (is_fix and parts.path)
    if parts.scheme not in schemes or not host or extra or (is_fix and port is None):
        raise _bad_address(text, schemes)
    tls = schemes[parts.scheme]
    return VenueAddress(text, host, port or (443 if tls else 80), parts.path, tls)


def _bad_address(text: str, schemes: Iterable[str]) -> ConfigError:
    wanted = " or ".join(f"{scheme}://HOST:PORT" for scheme in schemes)
    return ConfigError(f"venue_address = {text!r}; with this gateway_protocol want {wanted}")


def venue_credentials(settings: Settings, session: Session, environment: Mapping[str, str]) -> Credentials:
    """The gateway's keys. Raises CredentialsError that says where they are looked for."""
    if not settings.venue_address:
        return load_credentials(session.venue_keys_file)
    if settings.venue_keys:
        return load_credentials(Path(settings.venue_keys))
    key, secret = environment.get(KEY_VARIABLE), environment.get(SECRET_VARIABLE)
    if not key or not secret:
        raise CredentialsError(
            f"no keys: set {KEY_VARIABLE} and {SECRET_VARIABLE}, or venue_keys to a file of mode 600"
        )
    return Credentials(key, secret)


def needs_leave(settings: Settings) -> bool:
    """Whether orders would go beyond this machine. Raises ConfigError for a bad address."""
    address = venue_address(settings)
    return address is not None and not address.is_loopback


def confirm_live(settings: Settings, live: bool, ask: Callable[[str], str] | None = None) -> None:
    """Have a person type where real orders will go. Returns at once where none leave this machine.

    Raises ConfigError without `live`, without a terminal, or where something else was typed.
    """
    if not needs_leave(settings):
        return
    where = settings.venue_address
    if not live:
        raise ConfigError(f"orders would go to {where}, beyond this machine; add --live if you mean it")
    if ask is None:
        if not sys.stdin.isatty():
            raise ConfigError("--live wants a person at a terminal, to type where orders go")
        ask = input
    try:
        typed = ask(f"Orders will be sent to {where} with real keys. Type {where} to go on: ")
    except EOFError:
        typed = ""
    if typed.strip() != where:
        raise ConfigError(f"{where} was not typed: nothing is started")


def give_leave(session: Session, settings: Settings, live: bool) -> None:
    """Write the leave where `live`, and take an old one away. Raises SessionError where it is needed and not given."""
    take_leave_away(session)
    if not needs_leave(settings):
        return
    if not live:
        raise SessionError(f"orders would go to {settings.venue_address}, beyond this machine; nothing is started")
    session.live_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(session.live_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(settings.venue_address)


def take_leave_away(session: Session) -> None:
    """From now on no gateway of this session connects beyond this machine."""
    session.live_file.unlink(missing_ok=True)


def refuse_without_leave(session: Session, settings: Settings) -> None:
    """The gateway's own look, whoever started it. Raises SessionError."""
    if not needs_leave(settings):
        return
    given = session.live_file.read_text() if session.live_file.exists() else ""
    if given != settings.venue_address:
        raise SessionError(f"no leave to send orders to {settings.venue_address}: start the session with --live")
