"""Orders leave this machine only with `--live`, a typed confirmation, and keys that nobody else may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.commands.start import start_swarm
from core.config import ConfigError, Settings, load_settings
from core.gateway.connectors import make_connector
from core.gateway.settings import GatewaySettings
from core.live import confirm_live, give_leave, needs_leave, take_leave_away, venue_address, venue_credentials
from core.orders.scale import MarketScale
from core.session import Session, SessionError, create_session
from core.supervisor import _environment
from core.venue.credentials import CredentialsError

FAR = "wss://ws-api.testnet.example/ws-api/v3"
SCALE = MarketScale.of(["S0"], "0.01", "1")


def settings(address: str, protocol: str = "binance", **more: str) -> Settings:
    return load_settings(venue_address=address, gateway_protocol=protocol, **more)


@pytest.mark.parametrize(
    ("protocol", "address", "leaves"),
    [
        ("binance", "", False),
        ("binance", "ws://127.0.0.1:9000/ws-api/v3", False),
        ("binance", "ws://localhost:9000", False),
        ("binance", "ws://[::1]:9000", False),
        ("binance", FAR, True),
        ("binance", "wss://10.0.0.1:9000", True),
        ("binance", "ws://localhost.example:9000", True),
        ("binance", "ws://127.0.0.1.example:9000", True),
        ("fix", "tcp://127.0.0.1:9000", False),
        ("fix", "tls://fix.example:9000", True),
        ("ccxt", "", False),
        ("ccxt", "kraken", True),
        ("ccxt", "binance:sandbox", True),
    ],
)
def test_what_is_beyond_this_machine(protocol: str, address: str, leaves: bool) -> None:
    assert needs_leave(settings(address, protocol)) == leaves


@pytest.mark.parametrize(
    ("protocol", "address"),
    [
        ("binance", "https://x:1"),
        ("binance", "ws://user:pw@x:1"),
        ("binance", "ws://:1"),
        ("binance", "ws://x:port"),
        ("binance", "x:1"),
        ("fix", "ws://x:1"),
        ("fix", "tcp://x"),
        ("fix", "tcp://x:1/path"),
        ("ccxt", "wss://x"),
        ("ccxt", "kraken:live"),
    ],
)
def test_a_bad_address_is_refused_by_name(protocol: str, address: str) -> None:
    with pytest.raises(ConfigError, match="venue_address"):
        venue_address(settings(address, protocol))


def never(question: str) -> str:
    raise AssertionError("nobody is to be asked")


def test_the_address_must_be_typed() -> None:
    confirm_live(settings("ws://127.0.0.1:1"), live=False, ask=never)
    with pytest.raises(ConfigError, match="add --live"):
        confirm_live(settings(FAR), live=False, ask=never)
    with pytest.raises(ConfigError, match="at a terminal"):
        confirm_live(settings(FAR), live=True)
    for typed in ("", "y", "yes", FAR[:-1]):
        with pytest.raises(ConfigError, match="nothing is started"):
            confirm_live(settings(FAR), live=True, ask=lambda question, typed=typed: typed)  # type: ignore[misc]
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return f" {FAR} "

    confirm_live(settings(FAR), live=True, ask=answer)
    assert FAR in asked[0]


def test_nothing_starts_and_no_gateway_connects_without_the_leave(tmp_path: Path) -> None:
    far = settings(FAR)
    session = create_session(far, tmp_path / "session")
    with pytest.raises(SessionError, match="nothing is started"):
        start_swarm(far, owned=True, session=session)
    assert session.read_swarm() is None
    chosen = GatewaySettings(tmp_path / "gateway")
    with pytest.raises(SessionError, match="--live"):
        make_connector(session, far, SCALE, chosen)
    give_leave(session, far, live=True)
    assert session.live_file.stat().st_mode & 0o777 == 0o600
    assert make_connector(session, far, SCALE, chosen).replays is False
    with pytest.raises(SessionError, match="--live"):
        make_connector(session, settings("wss://elsewhere.example"), SCALE, chosen)
    take_leave_away(session)
    with pytest.raises(SessionError, match="--live"):
        make_connector(session, far, SCALE, chosen)
    give_leave(session, far, live=True)
    with pytest.raises(SessionError):
        give_leave(session, far, live=False)
    assert not session.live_file.exists(), "an old leave is no leave"


def test_keys_come_from_the_environment_or_a_file_of_mode_600(tmp_path: Path) -> None:
    session, file = Session(tmp_path), tmp_path / "keys.json"
    with pytest.raises(CredentialsError, match="TRADETUI_VENUE_API_KEY"):
        venue_credentials(settings(FAR), session, {"TRADETUI_VENUE_API_KEY": "k"})
    found = venue_credentials(
        settings(FAR), session, {"TRADETUI_VENUE_API_KEY": "k", "TRADETUI_VENUE_API_SECRET": "very-secret"}
    )
    assert (found.api_key, found.secret) == ("k", "very-secret")
    assert "very-secret" not in repr(found)
    file.write_text('{"api_key": "k", "secret": "very-secret"}')
    file.chmod(0o640)
    from_file = settings(FAR, venue_keys=str(file))
    with pytest.raises(CredentialsError, match="chmod 600") as refused:
        venue_credentials(from_file, session, {})
    assert "very-secret" not in str(refused.value)
    file.chmod(0o600)
    assert venue_credentials(from_file, session, {}).secret == "very-secret"


def test_only_the_gateway_process_is_given_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADETUI_VENUE_API_SECRET", "very-secret")
    assert _environment("gateway")["TRADETUI_VENUE_API_SECRET"] == "very-secret"
    for name in ("node-0", "venue", "recorder"):
        assert "very-secret" not in _environment(name).values()
    assert os.environ["TRADETUI_VENUE_API_SECRET"] == "very-secret"
