"""What a node's trader makes of settings at their edges, and of what fails around it."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.commands.start import check_data
from core.config import ConfigError, Settings
from core.limits import limits_for_equity
from core.market.events import PanelEvents
from core.market.layout import layout_of
from core.market.load import load_market
from core.memory import MemoryFileError
from core.patterns import library_of
from core.portfolio import ClosedTrade, Portfolio
from core.strategy.risk import RiskConfig, var_calculation
from core.strategy.situation import DIMENSIONS
from core.telemetry import CycleTracer
from core.toggles import DtwKernel
from core.trader import Trader
from tests.market_recordings import panel

DATA = load_market("us-stocks")
CASH = 10**12


def trader_in(folder: Path, said: list[str] | None = None, **settings: Any) -> Trader:
    """On the shipped stocks, flat; what it says goes into `said`."""
    told = [] if said is None else said
    state: Any = SimpleNamespace(portfolio=Portfolio(len(DATA.spec.symbols), CASH), limits=limits_for_equity(CASH))
    return Trader(Settings(**settings), DATA, state, folder, lambda severity, text: told.append(text))


def tracer_of_a_cycle() -> CycleTracer:
    tracer = CycleTracer()
    tracer.begin()
    return tracer


@pytest.mark.parametrize("patterns", [1, 6, 31])
def test_a_library_smaller_than_the_neighbours_asked_for_is_matched_whole(tmp_path: Path, patterns: int) -> None:
    trader, tracer = trader_in(tmp_path, pattern_count=patterns), tracer_of_a_cycle()
    trader.ingest(0, tracer)
    expected = []
    for kernel in (DtwKernel.TOPK, DtwKernel.BATCH):
        asyncio.run(trader.match_patterns(kernel, tracer))
        assert trader._forecast is not None
        expected.append(trader._forecast.expected_return)
    trader.close()
    np.testing.assert_allclose(expected[0], expected[1], rtol=1e-5, atol=1e-9)


def test_a_window_longer_than_the_feed_remembers_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = panel(steps=200).write(tmp_path / "short.csv")
    longest = load_market(path).layout.history_rows
    library_of(Settings(data=str(path), window_steps=longest), load_market(path))
    for settings in (Settings(data=str(path), window_steps=longest + 1), Settings(data=str(path), window_steps=252)):
        with pytest.raises(ValueError, match=f"Set window_steps to {longest} or less"):
            library_of(settings, load_market(path))
        with pytest.raises(ConfigError, match=f"--data .*short.csv: window_steps .* the feed keeps {longest}"):
            check_data(settings)


def test_a_new_lap_starts_without_the_headlines_of_the_last(tmp_path: Path) -> None:
    trader, tracer = trader_in(tmp_path), tracer_of_a_cycle()
    steps = DATA.layout.steps_per_lap
    tones = []
    for step in (steps - 1, steps):
        trader.ingest(step, tracer)
        trader.read_news(tracer)
        tones.append(trader._scores)
    trader.close()
    fresh = trader_in(tmp_path)
    fresh.ingest(steps, tracer)
    fresh.read_news(tracer)
    fresh.close()
    assert tones[0].any()
    np.testing.assert_array_equal(tones[1], fresh._scores)


def test_a_swarm_that_holds_nothing_yet_wants_no_more_than_its_value_at_risk_allows(tmp_path: Path) -> None:
    # twelve instruments that are one, and wild
    day = 0.08 * np.random.default_rng(5).standard_normal(400)
    close = np.rint(1e6 * np.exp(np.cumsum(day - day.mean()))).astype(np.int64)
    data = replace(
        DATA,
        spec=replace(DATA.spec, instruments=DATA.spec.instruments[:12], steps_total=400),
        layout=layout_of(400),
        ts_ns=DATA.ts_ns[:400],
        events=PanelEvents(np.repeat(close[:, None], 12, axis=1)),
    )
    state: Any = SimpleNamespace(portfolio=Portfolio(12, CASH), limits=limits_for_equity(CASH))
    trader = Trader(Settings(), data, state, tmp_path, lambda severity, text: None)
    tracer = tracer_of_a_cycle()
    cut = 0
    for step in range(20):
        trader.ingest(step, tracer)
        asyncio.run(trader.match_patterns(DtwKernel.BATCH, tracer))
        trader.read_news(tracer)
        trader.query_memory(tracer)
        trader.vote(tracer)
        trader.assess_risk(tracer)
        rows = trader.propose(tracer)
        weights = rows["target"] * trader.marks / CASH
        inputs, _ = trader._prepare()
        assert var_calculation(inputs, weights).worse <= RiskConfig().value_at_risk_max * (1 + 1e-9)
        assert trader._sizing is not None
        cut += trader._sizing.scale < 1.0
    trader.close()
    assert cut, "the limit never mattered"


def test_a_memory_that_cannot_be_written_is_told_once_and_its_trades_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.trader.MEMORY_RETRY_S", 0.0)
    said: list[str] = []
    trader = trader_in(tmp_path, said)
    votes, situations = np.zeros((20, 6)), np.zeros((20, DIMENSIONS), np.float32)
    trader._bank.observe(3, situations, votes)
    other = sqlite3.connect(tmp_path / "memory.sqlite", isolation_level=None)
    for outage in (1, 2):
        other.execute("BEGIN IMMEDIATE")
        for number in range(2):
            trade = ClosedTrade(0, 1, 1, 3, 4, 10_000, 10_300, 0, 300, f"o{outage}", f"c{outage}", number)
            trader.remember([trade])
            trader.learn()
        assert len(said) == outage
        assert "memory.sqlite cannot be written: database is locked" in said[-1]
        other.execute("ROLLBACK")
        trader.learn()
        assert trader.memory_digest()[0] == 2 * outage
    other.close()
    trader.close()


def test_a_memory_that_failed_is_left_alone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trader, tries = trader_in(tmp_path), []

    def fails(trades: list[ClosedTrade]) -> None:
        tries.append(len(trades))
        raise MemoryFileError("no room")

    monkeypatch.setattr(trader._bank, "learn", fails)
    for number in range(3):
        trader.remember([ClosedTrade(0, 1, 1, 3, 4, 10_000, 10_300, 0, 300, "o", "c", number)])
        trader.learn()
    assert tries == [1]
    trader._learn_not_before = 0.0
    trader.learn()
    assert tries == [1, 3]
    trader.close()
