"""The gateway's kill switch without processes: what fails beside it, a disk or another change, keeps no halt away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.gateway.kill_switch import KillSwitch
from core.gateway.limits_gate import LimitsGate
from core.gateway.trading_gate import TradingGate
from core.limits_change import LimitsChange, sign_limits
from core.payload import encode_limits_change, encode_trading_change
from core.records import Severity, VenueState
from core.session import GATEWAY_ID, OPERATOR_ID
from core.telemetry_messages import Control, OrderKind, application, unpack
from core.trading_state import TradingChange, TradingState, encode_trading
from net.messages import Application, Channel, Committed, CommittedEntries, EntryKind, Mode
from net.payload_batch import encode_payloads
from net.wire.codec import encode
from net.wire.kinds import CodecKind
from tests.unit.test_guard import byzantine, led, make_guard
from tests.unit.test_swarm_state import KEYS, make_state
from tests.unit.test_trading_state import ACTIVE, HALTED, OPERATOR, TRADING_KEYS, press


class FakeGateway:
    def __init__(self) -> None:
        self.halted = ""
        self.orders_sent = self.cancels_sent = 0
        self.fails: Exception | None = None

    def halt(self, reason: str) -> None:
        self.halted = reason
        if self.fails is not None:
            raise self.fails

    def resume(self) -> None:
        self.halted = ""


class FakeFeed:
    def __init__(self) -> None:
        self.trading, self.trading_reason = ACTIVE, ""
        self.events: list[tuple[Severity, str]] = []

    def event(self, severity: Severity, text: str) -> None:
        self.events.append((severity, text))

    def errors(self) -> list[str]:
        return [text for severity, text in self.events if severity is Severity.ERROR]


class FakeWire:
    def __init__(self) -> None:
        self.sent: list[tuple[int, Application]] = []

    def send(self, peer_id: int, message: Application, *, round_id: int = 0) -> bool:
        self.sent.append((peer_id, message))
        return True


class Bench:
    """A kill switch with everything around it."""

    def __init__(self, folder: Path, link_loss_s: float = 0.0, mode: Mode = Mode.BFT) -> None:
        self.gateway, self.feed, self.wire, self.guard = FakeGateway(), FakeFeed(), FakeWire(), make_guard(mode)
        self.limits = LimitsGate({OPERATOR_ID: OPERATOR.verify_key.encode()}, make_state().limits, folder / "limits")
        parts: tuple[Any, ...] = (self.gateway, self.guard, self.feed, self.wire)
        self.switch = KillSwitch(
            TradingGate(TRADING_KEYS, GATEWAY_ID, folder / "trading"),
            self.limits,
            *parts,
            sign=lambda data: KEYS[GATEWAY_ID].sign(data).signature,
            nodes=lambda: (0, 1),
            voters=lambda: (0, 1, 2, 3),
            link_loss_s=link_loss_s,
        )

    def press(self, change: TradingChange) -> str:
        body = {"change": encode_trading(change)}
        self.switch.on_operator(OPERATOR_ID, application(Channel.CONTROL, Control.TRADING, body))
        return str(unpack(self.wire.sent[-1][1].body)["text"])

    def committed(self, *payloads: bytes) -> None:
        self.proven(byzantine(encode_payloads(list(payloads)), kind=EntryKind.BATCH))

    def proven(self, entry: Committed) -> None:
        self.switch.on_committed(0, encode(CommittedEntries(1, 1, (entry,)), CodecKind.CAPNP))

    def applied(self, nodes: Sequence[int], payload: bytes) -> None:
        """What these nodes say when they reach the gateway."""
        for node in nodes:
            self.switch.on_applied(node, payload)

    def is_halted(self) -> bool:
        return bool(self.gateway.halted) and self.guard.trading is HALTED and self.feed.trading is HALTED


def narrowed(critical_notional: int, signed_ns: int) -> LimitsChange:
    limits = replace(make_state().limits, critical_notional=critical_notional)
    return sign_limits(limits, signed_ns, OPERATOR_ID, lambda data: OPERATOR.sign(data).signature)


def test_a_press_is_obeyed_and_answered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.press(press(HALTED, 5)) == "the gateway is halted"
    assert bench.is_halted()
    assert bench.gateway.halted == "kill switch: a test"
    assert "until the swarm has committed" in bench.press(press(ACTIVE, 6))
    assert bench.is_halted()
    bench.committed(encode_trading_change(press(ACTIVE, 6)))
    assert not bench.gateway.halted
    assert bench.guard.trading is ACTIVE
    assert not bench.feed.errors()


def test_a_full_disk_keeps_no_halt_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "missing")
    assert bench.press(press(HALTED, 5)) == "the gateway is halted"
    assert bench.is_halted()
    assert "could not be kept" in bench.feed.errors()[0]
    bench = Bench(tmp_path / "missing")
    bench.committed(encode_trading_change(press(HALTED, 5)))
    assert bench.is_halted()
    assert "could not be kept" in bench.feed.errors()[0]


def test_a_journal_that_fails_is_told_and_a_second_press_tries_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.gateway.fails = OSError("disk full")
    assert bench.press(press(HALTED, 5)) == "the gateway is halted"
    assert bench.is_halted()
    assert "disk full" in bench.feed.errors()[0]
    bench.gateway.fails, bench.gateway.halted = None, ""
    bench.press(press(HALTED, 6))
    assert bench.is_halted()
    assert sum(text.startswith("trading is halted: a test") for _, text in bench.feed.events) == 1, "told once"


def test_a_bad_change_of_the_limits_skips_no_halt_of_its_entry(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    forged = sign_limits(make_state().limits, 1, OPERATOR_ID, lambda data: KEYS[0].sign(data).signature)
    good = sign_limits(
        replace(make_state().limits, critical_notional=7), 2, OPERATOR_ID, lambda data: OPERATOR.sign(data).signature
    )
    bench.committed(encode_limits_change(forged), encode_limits_change(good), encode_trading_change(press(HALTED, 5)))
    assert bench.is_halted()
    assert bench.limits.limits.critical_notional == 7, "nor another change of the limits"
    assert len(bench.feed.errors()) == 1


def test_what_f_plus_one_voters_have_applied_is_obeyed_without_a_certificate(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.press(press(HALTED, 5))
    resume, narrow = encode_trading_change(press(ACTIVE, 6)), encode_limits_change(narrowed(7, 6))
    for word in (resume, narrow):
        bench.applied((1, 1, 9), word)
    assert bench.is_halted(), "one voter and a stranger may lie"
    assert bench.limits.limits == make_state().limits
    bench.applied((3,), encode_trading_change(press(ACTIVE, 7)))
    assert bench.is_halted(), "another word"
    for word in (resume, narrow):
        bench.applied((2,), word)
    assert not bench.gateway.halted
    assert bench.guard.trading is ACTIVE
    assert bench.limits.limits.critical_notional == 7
    bench.press(press(HALTED, 8))
    bench.applied((0, 1, 2, 3), resume)
    bench.applied((0, 1, 2, 3), encode_limits_change(narrowed(9, 5)))
    assert bench.is_halted(), "said again after a later word"
    assert bench.limits.limits.critical_notional == 7
    assert not bench.feed.errors()


def test_voters_cannot_forge_an_operators_word(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.press(press(HALTED, 5))
    bench.applied((0, 1, 2), encode_trading_change(press(ACTIVE, 6, key=KEYS[0])))
    bench.applied((0, 1, 2), encode_trading_change(press(ACTIVE, 6, signer=GATEWAY_ID, key=KEYS[GATEWAY_ID])))
    forged = sign_limits(make_state().limits, 6, OPERATOR_ID, lambda data: KEYS[0].sign(data).signature)
    bench.applied((0, 1, 2), encode_limits_change(forged))
    bench.applied((0,), b"junk")
    assert bench.is_halted()
    assert len(bench.feed.errors()) == 7


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.RAFT])
def test_in_auto_mode_one_leaders_word_is_not_enough(tmp_path: Path, mode: Mode) -> None:
    bench = Bench(tmp_path, mode=mode)
    bench.press(press(HALTED, 5))
    bench.proven(led(encode_trading_change(press(ACTIVE, 6)), mode))
    bench.proven(led(encode_limits_change(narrowed(7, 6)), mode))
    assert bench.is_halted() is (mode is Mode.AUTO)
    assert (bench.limits.limits == make_state().limits) is (mode is Mode.AUTO)
    assert sum("no Byzantine certificate" in text for text in bench.feed.errors()) == (2 if mode is Mode.AUTO else 0)


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_link_that_stays_away_halts_and_tells_the_nodes(tmp_path: Path, folder: str) -> None:
    async def work() -> None:
        bench = Bench(tmp_path / folder, link_loss_s=0.01)
        bench.switch.watch_link(VenueState.CONNECTED)
        bench.switch.watch_link(VenueState.DOWN)
        await asyncio.sleep(0.05)
        assert bench.is_halted()
        assert [(node, message.kind) for node, message in bench.wire.sent] == [
            (0, OrderKind.TRADING),
            (1, OrderKind.TRADING),
        ]

    asyncio.run(work())


@pytest.mark.parametrize("state", list(TradingState))
def test_obeying_again_changes_and_tells_nothing(tmp_path: Path, state: TradingState) -> None:
    bench = Bench(tmp_path)
    bench.committed(encode_trading_change(press(state, 5)))
    told = len(bench.feed.events)
    bench.switch.obey()
    assert len(bench.feed.events) == told
    assert bool(bench.gateway.halted) == (state is HALTED)
