"""The whole chain of stages on the shipped prices, with a venue that fills at the spread: it must rebalance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.decision import Reason, Side
from core.judgement import judge, tally
from core.limits import check, limits_for_equity
from core.market.feed import Feed
from core.market.load import load_market
from core.memory import ReasoningBank, verdict
from core.news import SampleHeadlines, SentimentAggregator, score
from core.patterns import build_library
from core.portfolio import ClosedTrade, Fill, Portfolio, cash_quanta
from core.strategy.agents import agent_inputs, all_votes
from core.strategy.decide import combine, propose, target_weights
from core.strategy.pattern import forecast_from_distances
from core.strategy.risk import position_sizing, var_calculation, within_value_at_risk
from core.strategy.situation import DIMENSIONS, situation_vectors
from kernels.dtw import z_normalise
from kernels.dtw_batch import library_distances_batch, pack_patterns

FEE_PPM = 1_000


@dataclass(frozen=True, slots=True)
class Replay:
    orders: tuple[int, ...]
    equity: float
    """At the end, in units of the start."""
    reasons: tuple[int, ...]
    denied: int
    lessons: int
    flat_at_end: bool
    state_hash: bytes


def replay(folder: Path, first_step: int, steps: int) -> Replay:
    """Trade `steps` steps of us-stocks on one node that is its own peer."""
    data = load_market("us-stocks")
    library = build_library(data)
    packed = pack_patterns(library.patterns)
    feed, symbols = Feed(data), data.spec.symbols
    cash = cash_quanta(1_000_000, data.spec.tick_size, data.spec.lot_size)
    portfolio, limits = Portfolio(len(symbols), cash), limits_for_equity(cash)
    bank = ReasoningBank(folder / "memory.sqlite", len(symbols), DIMENSIONS)
    headlines, sentiment = SampleHeadlines(symbols), SentimentAggregator(symbols)
    closed: list[ClosedTrade] = []
    orders, denied, reasons, trade_id = [], 0, np.zeros(len(Reason), int), 0
    for number in range(first_step, first_step + steps):
        step = feed.advance_to(number)
        inputs, marks = agent_inputs(feed.history), step.close
        situations = situation_vectors(inputs)
        forecast = forecast_from_distances(
            library_distances_batch(z_normalise(feed.windows()), packed, len(library.patterns), 6),
            library.forward_return,
        )
        news = headlines.fetch(number)
        tones = sentiment.update(number, news, [score(headline.text) for headline in news], step.lap)
        bank.learn(closed)
        memory = bank.trajectory_lookup(*bank.vector_search(situations))
        votes = all_votes(inputs, forecast, tones)
        combined, sizing = combine(votes, verdict(memory)), position_sizing(inputs)
        sizing = within_value_at_risk(sizing, var_calculation(inputs, target_weights(combined, sizing)))
        rows = propose(number, marks, combined, sizing, portfolio, limits, step.last_of_lap)
        bank.observe(number, situations, votes)
        opinions = judge(rows, number, inputs, marks, portfolio, limits, bank)
        refused = (check(rows, portfolio, marks, limits) > 0) | (tally(rows, {1: opinions, 2: opinions}, 4) > 0)
        denied += int(refused.sum())
        fills = []
        for row in rows[~refused & (rows["side"] != Side.HOLD)]:
            trade_id += 1
            instrument, side, quantity = int(row["instrument"]), int(row["side"]), int(row["quantity"])
            mark = int(marks[instrument])
            price = mark + side * max(1, -(-mark // 10_000))
            assert side * (int(row["limit_price"]) - price) >= 0, "a limit that does not cross the spread"
            fee = quantity * price * FEE_PPM // 1_000_000
            fills.append(Fill(f"o{trade_id}", trade_id, instrument, side, quantity, price, fee, number))
            reasons[row["reason"]] += 1
        orders.append(len(fills))
        closed = portfolio.apply(fills)
    lessons = len(bank)
    bank.close()
    equity = portfolio.equity(marks) / cash
    flat = not portfolio.positions.any()
    return Replay(tuple(orders), equity, tuple(reasons), denied, lessons, flat, portfolio.state_hash())


def test_it_rebalances_learns_and_is_deterministic(tmp_path: Path) -> None:
    one = replay(tmp_path / "a", 0, 250)
    assert np.mean(one.orders) >= 5
    assert all(one.reasons[reason] > 0 for reason in (Reason.PATTERN, Reason.MOMENTUM, Reason.VOLATILITY))
    assert one.lessons > 100
    assert one.denied < 0.02 * 250 * 20
    assert 0.7 < one.equity < 1.4
    assert replay(tmp_path / "b", 0, 250).state_hash == one.state_hash


def test_a_lap_ends_flat(tmp_path: Path) -> None:
    last = load_market("us-stocks").layout.steps_per_lap
    end = replay(tmp_path, last - 20, 20)
    assert end.flat_at_end
    assert end.reasons[Reason.END_OF_LAP] > 10


@pytest.mark.prove
def test_orders_over_the_whole_live_segment(tmp_path: Path) -> None:
    whole = replay(tmp_path, 0, load_market("us-stocks").layout.steps_per_lap)
    print(f"orders a cycle {np.mean(whole.orders):.2f}, 5th percentile {np.percentile(whole.orders, 5):.0f},"
          f" equity {whole.equity:.3f}, denied {whole.denied}, reasons {whole.reasons}")  # fmt: skip
    assert np.mean(whole.orders) >= 5
    assert whole.flat_at_end
    assert whole.equity > 0.5
