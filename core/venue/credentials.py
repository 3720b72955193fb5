"""API keys of one session: made once, kept in a 0600 file that only venue and gateway read. Signed requests."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class CredentialsError(RuntimeError):
    """The key file is missing, readable by others, or no key file; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`secret` never shows in a repr, a log or a screen."""

    api_key: str
    secret: str = field(repr=False)


def load_or_create_credentials(path: Path) -> Credentials:
    """Keys from `path`, made there (0600) when missing. Raises CredentialsError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = Credentials(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as out:
        json.dump({"api_key": fresh.api_key, "secret": fresh.secret}, out)
    try:
        os.link(temporary, path)  # fails where another process was first: its keys stand
    except FileExistsError:
        return load_credentials(path)
    finally:
        temporary.unlink()
    return fresh


def load_credentials(path: Path) -> Credentials:
    """Keys from `path`. Raises CredentialsError where it is missing, malformed, or open to others than its owner."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except FileNotFoundError:
        raise CredentialsError(f"{path} does not exist yet; the venue writes it when it starts") from None
    if mode & 0o077:
        raise CredentialsError(f"{path} may be read by others (mode {mode & 0o777:o}); chmod 600 it")
    try:
        values = json.loads(text)
        return Credentials(str(values["api_key"]), str(values["secret"]))
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"{path} holds no api_key and secret") from None


def signature(secret: str, params: Mapping[str, object]) -> str:
    """HMAC-SHA256 as hex over the parameters but `signature`, sorted by name, as `name=value` joined by `&`.

    Source: Binance Spot API documentation, "WebSocket API", "Request security", "SIGNED requests". Booleans are signed
    as JSON writes them.
    """
    text = "&".join(f"{name}={_text(params[name])}" for name in sorted(params) if name != "signature")
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def is_signed(secret: str, params: Mapping[str, object]) -> bool:
    """Whether `params["signature"]` is right, compared in constant time."""
    given = params.get("signature")
    # Bytes: compare_digest refuses text that is not ASCII, and a request may hold any.
    return isinstance(given, str) and hmac.compare_digest(signature(secret, params).encode(), given.encode())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
