"""Agents, pattern forecast, risk and decisions: what each must say in a case that one can see through."""

from __future__ import annotations

import numpy as np
import pytest

from core.decision import PROPOSAL_DTYPE, Reason, Side
from core.limits import check, limits_for_equity
from core.portfolio import Fill, Portfolio
from core.strategy.agents import (
    AGENTS,
    agent_inputs,
    all_votes,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
    price_votes,
    volatility_signal,
)
from core.strategy.decide import Combined, DecisionConfig, close_ticks, combine, propose, target_weights
from core.strategy.pattern import PatternConfig, PatternForecast, forecast_from_distances, forecast_from_neighbours
from core.strategy.risk import (
    RiskConfig,
    Sizing,
    ValueAtRisk,
    exposure_checks,
    position_sizing,
    var_calculation,
    within_value_at_risk,
)
from core.strategy.situation import DIMENSIONS, situation_vectors

CASH = 10**9


def walk(
    instruments: int = 6, steps: int = 252, seed: int = 0, drift: float = 0.0, deviation: float = 0.01
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100.0 * np.exp(np.cumsum(rng.normal(drift, deviation, (instruments, steps)), axis=1))


def test_momentum_follows_and_breakout_confirms_a_trend() -> None:
    up, down = agent_inputs(walk(drift=0.01)), agent_inputs(walk(drift=-0.01))
    assert (momentum_signal(up) > 0.5).all()
    assert (momentum_signal(down) < -0.5).all()
    assert breakout_signal(up).mean() > 0.3
    assert breakout_signal(down).mean() < -0.3


def test_mean_reversion_leans_against_a_jump() -> None:
    history = walk(deviation=0.002)
    history[0, -1] *= 1.05
    history[1, -1] *= 0.95
    signal = mean_reversion_signal(agent_inputs(history))
    assert signal[0] < -0.6
    assert signal[1] > 0.6


def test_volatility_prefers_calm() -> None:
    history = walk(2, seed=3)
    tail = np.random.default_rng(1).normal(0, 1, (2, 25)) * np.array([[0.002], [0.05]])
    history[:, -25:] = history[:, -26:-25] * np.exp(np.cumsum(tail, axis=1))
    signal = volatility_signal(agent_inputs(history))
    assert signal[0] > 0.5
    assert signal[1] < -0.5


def test_signals_do_not_depend_on_the_price_level_or_the_step_length() -> None:
    history = walk()
    np.testing.assert_allclose(price_votes(agent_inputs(history)), price_votes(agent_inputs(history * 1000)), atol=1e-9)
    calm = np.exp(np.log(history / 100) / 1000) * 100  # moves a thousand times smaller, as within a second
    np.testing.assert_allclose(price_votes(agent_inputs(history)), price_votes(agent_inputs(calm)), atol=0.06)


@pytest.mark.parametrize("history", [np.full((3, 252), 5.0), walk(3, 2), walk(3, 22), np.geomspace(1, 1e6, 252)[None]])
def test_flat_short_and_extreme_histories_give_bounded_votes(history: np.ndarray) -> None:
    inputs = agent_inputs(history)
    votes = all_votes(inputs, None, np.zeros(len(history)))
    assert np.isfinite(votes).all()
    assert np.abs(votes).max() <= 1.0
    situations = situation_vectors(inputs)
    assert situations.shape == (len(history), DIMENSIONS)
    assert situations.dtype == np.float32
    assert np.isfinite(situations).all()


def test_what_does_not_move_is_no_calm_and_gets_neither_vote_nor_size() -> None:
    history = walk(3, seed=3)
    history[0] = 5.0
    history[1, -25:] = history[1, -26]  # quiet of late: its own past still tells how large it may be
    inputs = agent_inputs(history)
    same = np.full(3, 0.01)
    votes = all_votes(inputs, PatternForecast(same, same, np.ones(3)), np.array([0.5, 0.0, 0.0]))
    assert votes[0].tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 0.5], "news alone speaks of it"
    assert volatility_signal(inputs)[:2].tolist() == [0.0, 0.0]
    assert volatility_signal(inputs)[2] != 0.0
    assert votes[1, 0] > 0.5
    weight = position_sizing(inputs).weight
    assert weight[0] == 0.0
    assert (weight[1:] > 0.0).all()


def test_bad_histories_are_refused() -> None:
    with pytest.raises(ValueError, match="2 steps"):
        agent_inputs(np.ones((3, 1)))
    bad = walk()
    bad[2, 5] = -1.0
    with pytest.raises(ValueError, match="positive"):
        agent_inputs(bad)


def test_situations_have_length_one_and_tell_a_rise_from_a_fall() -> None:
    up, down = (situation_vectors(agent_inputs(walk(drift=d, seed=4))) for d in (0.01, -0.01))
    np.testing.assert_allclose(np.linalg.norm(up, axis=1), 1.0, rtol=1e-5)
    assert (up @ up.T).mean() > 0.7
    assert (up @ down.T).mean() < -0.5


def test_the_forecast_is_that_of_the_nearest_patterns() -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(5, 9, (2, 500)).astype(np.float32)
    forward = rng.normal(0, 0.01, 500)
    near = np.arange(32)
    distances[0, near] = 0.1
    forward[near] = 0.03 + rng.normal(0, 0.002, 32)
    forecast = forecast_from_distances(distances, forward)
    assert forecast.expected_return[0] == pytest.approx(forward[near].mean(), rel=1e-6)
    assert forecast.confidence[0] > 0.7 > forecast.confidence[1]
    votes = all_votes(agent_inputs(walk(2)), forecast, None)
    assert votes[0, 0] > 0.7
    assert (votes[:, 5] == 0).all()


def test_both_forms_of_the_forecast_agree_and_ignore_abandoned_candidates() -> None:
    rng = np.random.default_rng(1)
    distances = rng.uniform(1, 9, (3, 200)).astype(np.float32)
    forward = rng.normal(0, 0.01, 200)
    full = forecast_from_distances(distances, forward, PatternConfig(neighbours=16))
    indices = np.argsort(distances, axis=1)[:, :20]
    nearest = np.take_along_axis(distances, indices, axis=1)
    nearest[:, 16:] = np.inf
    top = forecast_from_neighbours(indices, nearest, forward, PatternConfig(neighbours=16))
    for name in ("expected_return", "deviation", "confidence"):
        np.testing.assert_allclose(getattr(full, name), getattr(top, name), rtol=1e-5)
    nothing = forecast_from_neighbours(indices, np.full_like(nearest, np.inf), forward)
    assert (nothing.confidence == 0).all()
    with pytest.raises(ValueError, match="do not fit"):
        forecast_from_distances(distances, forward[:-1])


def test_combining_weighs_votes_and_names_who_had_most_to_say() -> None:
    votes = np.zeros((3, 6))
    votes[0] = [0.1, 0.9, -0.2, 0, 0, 0]
    votes[1, 5] = -1.0
    ones = np.ones((3, 6))
    combined = combine(votes, ones, DecisionConfig(base_weights=(1, 1, 1, 1, 1, 1)))
    np.testing.assert_allclose(combined.signal, [0.8 / 6, -1 / 6, 0.0])
    assert combined.reason.tolist() == [Reason.MOMENTUM, Reason.NEWS, Reason.NONE]
    trusted = ones.copy()
    trusted[0, 2], trusted[0, 1] = 1.6, 0.4
    assert combine(votes, trusted).signal[0] < combine(votes, ones).signal[0]
    assert AGENTS[1] is Reason.MOMENTUM


def test_targets_stay_within_the_gross_cap() -> None:
    combined = Combined(np.array([1.0, -1.0, 0.2]), np.zeros(3, np.uint8))
    weights = target_weights(combined, Sizing(np.array([1.0, 1.0, 1.0]), 1.0), DecisionConfig(gross_max=1.5))
    assert np.abs(weights).sum() == pytest.approx(1.5)
    assert np.sign(weights).tolist() == [1, -1, 1]


def test_sizing_shrinks_with_volatility_and_with_value_at_risk() -> None:
    calm, wild = agent_inputs(walk(deviation=0.01)), agent_inputs(walk(deviation=0.04))
    none, much = ValueAtRisk(0, 0, 0, 0), ValueAtRisk(0.06, 0.08, 0.05, 0.07)
    uncapped = RiskConfig(weight_max=1.0)
    assert (position_sizing(calm, uncapped).weight > 2 * position_sizing(wild, uncapped).weight).all()
    sizing = position_sizing(calm)
    assert (sizing.weight == RiskConfig().weight_max).all()
    assert sizing.scale == within_value_at_risk(sizing, none).scale == 1.0
    assert within_value_at_risk(sizing, much).scale == pytest.approx(0.5)
    # Skill close to none: Kelly, not volatility, caps the size.
    timid = position_sizing(wild, RiskConfig(sharpe_step=0.001, kelly_multiplier=0.25))
    np.testing.assert_allclose(
        timid.weight, 0.25 * 0.001 / np.maximum(wild.volatility, wild.long_volatility), rtol=1e-9
    )


@pytest.mark.parametrize("gross_max", [1.5, 0.4])
def test_targets_keep_the_value_at_risk_whatever_is_held(gross_max: float) -> None:
    # all instruments move together, so that twenty small positions are one large one
    common = walk(1, seed=2, deviation=0.05)
    inputs = agent_inputs(np.repeat(common, 20, axis=0) * np.exp(0.001 * np.log(walk(20, seed=3))))
    combined, config = Combined(np.ones(20), np.zeros(20, np.uint8)), DecisionConfig(gross_max=gross_max)
    sizing = position_sizing(inputs)
    wanted = var_calculation(inputs, target_weights(combined, sizing, config))
    assert wanted.worse > RiskConfig().value_at_risk_max
    scaled = within_value_at_risk(sizing, wanted)
    kept = var_calculation(inputs, target_weights(combined, scaled, config))
    assert kept.worse == pytest.approx(RiskConfig().value_at_risk_max, rel=1e-9)


def test_value_at_risk_of_one_position_is_its_own_tail() -> None:
    inputs = agent_inputs(walk(3))
    risk = var_calculation(inputs, np.array([0.5, 0.0, 0.0]))
    losses = np.sort(-0.5 * inputs.returns[:, 0])[::-1]
    assert risk.historical == pytest.approx(losses[6])  # 2.5 % of 251 returns is 6.3
    assert risk.historical_shortfall >= risk.historical
    assert risk.worse == max(risk.historical, risk.normal)


def case(signal: list[float], held: list[int], last: bool = False, config: DecisionConfig | None = None) -> np.ndarray:
    """Proposals for a full size of 10 % of equity an instrument, price 1,000 ticks."""
    n = len(signal)
    portfolio = Portfolio(n, CASH)
    portfolio.apply(
        Fill(f"p{i}", i, i, int(np.sign(lots)), abs(lots), 1000, 0, 0) for i, lots in enumerate(held) if lots
    )
    combined = Combined(np.array(signal), np.full(n, Reason.MOMENTUM, np.uint8))
    sizing = Sizing(np.full(n, 0.1), 1.0)
    return propose(9, np.full(n, 1000), combined, sizing, portfolio, limits_for_equity(CASH), last, config)


def test_proposals_go_to_the_edge_of_the_band() -> None:
    config = DecisionConfig(full_signal=0.5, rebalance_fraction=0.2, limit_offset_bps=20)
    # Full size is 100,000 lots, so the band is 20,000 lots either way.
    rows = case([0.5, 0.5, -0.5, 0.0, 0.0], [0, 85_000, 0, 50_000, 10_000], config=config)
    assert rows.dtype == PROPOSAL_DTYPE
    assert rows["side"].tolist() == [Side.BUY, Side.HOLD, Side.SELL, Side.SELL, Side.HOLD]
    assert rows["quantity"].tolist() == [80_000, 0, 80_000, 30_000, 0]
    assert rows["target"].tolist() == [100_000, 100_000, -100_000, 0, 0]
    assert rows["limit_price"].tolist() == [1002, 1000, 998, 998, 1000]
    assert rows["confidence"].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert rows["instrument"].tolist() == [0, 1, 2, 3, 4]
    assert (rows["step"] == 9).all()


def test_orders_in_flight_are_not_sent_again() -> None:
    portfolio = Portfolio(1, CASH)
    combined, sizing = Combined(np.array([1.0]), np.full(1, 2, np.uint8)), Sizing(np.full(1, 0.1), 1.0)
    limits, marks = limits_for_equity(CASH), np.full(1, 1000)
    first = propose(1, marks, combined, sizing, portfolio, limits, False)[0]
    portfolio.reserve("a", 0, int(first["side"]), int(first["quantity"]), int(first["limit_price"]))
    assert propose(1, marks, combined, sizing, portfolio, limits, False)[0]["side"] == Side.HOLD


def test_the_last_step_of_a_lap_closes_everything() -> None:
    rows = case([0.5, -0.5, 0.5], [70_000, -3, 0], last=True)
    assert rows["side"].tolist() == [Side.SELL, Side.BUY, Side.HOLD]
    assert rows["quantity"].tolist() == [70_000, 3, 0]
    assert (rows["target"] == 0).all()
    assert (rows["reason"] == Reason.END_OF_LAP).all()


def test_a_turn_too_large_for_one_order_takes_more_than_one_step() -> None:
    rows = case([-0.5], [200_000])
    limits = limits_for_equity(CASH)
    assert 0 < rows["quantity"][0] * 1000 <= limits.order_notional_max
    portfolio = Portfolio(1, CASH)
    portfolio.apply([Fill("p", 1, 0, 1, 200_000, 1000, 0, 0)])
    assert check(rows, portfolio, np.full(1, 1000), limits).tolist() == [0]


def test_proposals_stay_inside_fixed_limits_when_equity_has_grown() -> None:
    portfolio = Portfolio(4, 10 * CASH)
    combined = Combined(np.ones(4), np.full(4, 2, np.uint8))
    limits, marks = limits_for_equity(CASH), np.full(4, 1000)
    rows = propose(1, marks, combined, Sizing(np.full(4, 0.5), 1.0), portfolio, limits, False)
    assert (rows["side"] == Side.BUY).all()
    assert check(rows, portfolio, marks, limits).tolist() == [0] * 4


@pytest.mark.parametrize("band_bps", [1, 15, 19, 40, 100])
@pytest.mark.parametrize("mark", [1, 90, 1_003, 9_999, 123_457])
def test_limit_prices_stay_within_the_price_band(band_bps: int, mark: int) -> None:
    portfolio, marks = Portfolio(2, CASH), np.full(2, mark)
    portfolio.apply([Fill("p", 1, 1, 1, 50, mark, 0, 0)])
    limits = limits_for_equity(CASH, price_band_bps=band_bps)
    for signal, last in (([1.0, -1.0], False), ([-1.0, 1.0], False), ([0.0, 0.0], True)):
        combined = Combined(np.array(signal), np.full(2, Reason.MOMENTUM, np.uint8))
        rows = propose(9, marks, combined, Sizing(np.full(2, 0.05), 1.0), portfolio, limits, last)
        assert (rows["side"] != Side.HOLD).any()
        assert check(rows, portfolio, marks, limits).tolist() == [0, 0]


def test_risk_is_the_reason_when_it_cuts_what_the_agents_still_want() -> None:
    portfolio = Portfolio(1, CASH)
    portfolio.apply([Fill("p", 1, 0, 1, 90_000, 1000, 0, 0)])
    combined = Combined(np.array([1.0]), np.full(1, Reason.NEWS, np.uint8))
    row = propose(
        1, np.full(1, 1000), combined, Sizing(np.full(1, 0.1), 0.3), portfolio, limits_for_equity(CASH), False
    )[0]
    assert (row["side"], row["reason"]) == (Side.SELL, Reason.REDUCE_RISK)


def test_without_equity_nothing_is_wanted() -> None:
    portfolio = Portfolio(1, 0)
    portfolio.apply([Fill("p", 1, 0, 1, 10, 1000, 0, 0)])
    marks = np.full(1, 900)
    assert portfolio.equity(marks) < 0
    combined = Combined(np.array([1.0]), np.full(1, 2, np.uint8))
    row = propose(1, marks, combined, Sizing(np.full(1, 0.1), 1.0), portfolio, limits_for_equity(CASH), False)[0]
    assert (row["side"], row["quantity"]) == (Side.SELL, 10)


def test_exposure_counts_orders_in_flight() -> None:
    portfolio = Portfolio(2, CASH)
    portfolio.apply([Fill("p", 1, 0, -1, 1000, 1000, 0, 0)])
    portfolio.reserve("a", 1, 1, 500, 1000)
    exposure = exposure_checks(portfolio, np.full(2, 1000), limits_for_equity(CASH))
    assert (exposure.gross, exposure.net) == (1_500_000, -1_000_000)
    assert exposure.room == 2 * CASH - 1_500_000
    assert exposure.position_room.tolist() == [CASH // 4 - 1_000_000, CASH // 4 - 500_000]


def test_marks_are_whole_ticks() -> None:
    assert close_ticks(np.array([0.264, 1e-9, 12.3456]), 0.001).tolist() == [264, 1, 12346]


def test_decision_settings_refuse_nonsense() -> None:
    for bad in ({"base_weights": (0,) * 6}, {"base_weights": (-1, 1, 1, 1, 1, 1)}, {"full_signal": 0}):
        with pytest.raises(ValueError, match="base_weights"):
            DecisionConfig(**bad)
    with pytest.raises(ValueError, match="offsets"):
        DecisionConfig(limit_offset_bps=-1)
