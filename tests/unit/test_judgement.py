"""A peer's judgement of proposals, and the rule by which vetoes deny them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE, Side, Veto
from core.judgement import judge, tally, veto_quorum
from core.limits import limits_for_equity
from core.memory import ReasoningBank
from core.portfolio import ClosedTrade, Fill, Portfolio
from core.strategy.agents import agent_inputs
from core.strategy.decide import close_ticks
from core.strategy.situation import DIMENSIONS, situation_vectors

CASH = 10**10
N = 4


def history(drift: float = 0.005) -> np.ndarray:
    rng = np.random.default_rng(2)
    return 100.0 * np.exp(np.cumsum(rng.normal(drift, 0.01, (N, 252)), axis=1))


INPUTS = agent_inputs(history())
MARKS = close_ticks(INPUTS.close, 0.01)
LIMITS = limits_for_equity(CASH)


def proposals(step: int = 5, side: int = 1, quantity: int = 10) -> np.ndarray:
    rows = np.zeros(N, PROPOSAL_DTYPE)
    rows["step"], rows["instrument"], rows["limit_price"] = step, np.arange(N), MARKS
    rows["side"], rows["quantity"] = side, quantity if side else 0
    return rows


def opinions_of(rows: np.ndarray, veto: list[int]) -> np.ndarray:
    out = np.zeros(len(rows), OPINION_DTYPE)
    out["step"], out["instrument"], out["veto"] = rows["step"], rows["instrument"], veto
    return out


def test_an_agreeing_peer_has_a_side_of_its_own_and_no_veto() -> None:
    opinions = judge(proposals(), 5, INPUTS, MARKS, Portfolio(N, CASH), LIMITS, None)
    assert opinions.dtype == OPINION_DTYPE
    assert (opinions["veto"] == Veto.NONE).all()
    assert (opinions["side"] == Side.BUY).sum() >= 3  # prices rise
    assert (opinions["confidence"] > 0).any()
    assert (opinions["confidence"] <= 1).all()
    falling = agent_inputs(history(-0.005))
    down = judge(proposals(), 5, falling, MARKS, Portfolio(N, CASH), LIMITS, None)
    assert (down["side"] == Side.SELL).sum() >= 3


@pytest.mark.parametrize("feed_step", [4, 6])
def test_another_step_is_stale_and_has_no_side(feed_step: int) -> None:
    opinions = judge(proposals(), feed_step, INPUTS, MARKS, Portfolio(N, CASH), LIMITS, None)
    assert (opinions["veto"] == Veto.STALE_DATA).all()
    assert (opinions["side"] == Side.HOLD).all()
    assert (opinions["confidence"] == 0).all()


def test_its_own_prices_and_limits_decide() -> None:
    portfolio = Portfolio(N, CASH)
    off = judge(proposals(), 5, INPUTS, MARKS + MARKS // 20, portfolio, LIMITS, None)
    assert (off["veto"] == Veto.PRICE_BAND).all()
    large = judge(proposals(quantity=10**6), 5, INPUTS, MARKS, portfolio, LIMITS, None)
    assert (large["veto"] != Veto.NONE).all()
    lie = proposals()
    lie["instrument"][0] = 999
    assert judge(lie, 5, INPUTS, MARKS, portfolio, LIMITS, None)["veto"].tolist() == [Veto.NOTIONAL_LIMIT, 0, 0, 0]
    with pytest.raises(TypeError, match="PROPOSAL_DTYPE"):
        judge(np.zeros(2), 5, INPUTS, MARKS, portfolio, LIMITS, None)


def bank_that_lost(path: Path) -> ReasoningBank:
    """Twelve ruinous longs of instrument 0 in the very situation of `INPUTS`."""
    bank = ReasoningBank(path / "m.sqlite", N, DIMENSIONS)
    bank.observe(1, situation_vectors(INPUTS), np.ones((N, 6)))
    bank.learn([ClosedTrade(0, 1, 1, 1, 2, 1000, 900, 0, -100, f"o{i}", f"c{i}", i) for i in range(12)])
    return bank


def test_memory_of_losses_vetoes_more_of_the_same_only(tmp_path: Path) -> None:
    bank = bank_that_lost(tmp_path)
    portfolio = Portfolio(N, CASH)
    assert judge(proposals(), 5, INPUTS, MARKS, portfolio, LIMITS, bank)["veto"][0] == Veto.MEMORY
    assert judge(proposals(side=-1), 5, INPUTS, MARKS, portfolio, LIMITS, bank)["veto"][0] == Veto.NONE
    assert judge(proposals(side=0), 5, INPUTS, MARKS, portfolio, LIMITS, bank)["veto"][0] == Veto.NONE
    portfolio.apply([Fill("s", 1, 0, -1, 50, int(MARKS[0]), 0, 0)])
    # Buying back a short reduces: memory of bad longs has no say.
    assert judge(proposals(), 5, INPUTS, MARKS, portfolio, LIMITS, bank)["veto"][0] == Veto.NONE
    bank.close()


@pytest.mark.parametrize(("nodes", "quorum"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3), (10, 4)])
def test_f_plus_one_vetoes_deny(nodes: int, quorum: int) -> None:
    assert veto_quorum(nodes) == quorum
    rows = proposals()
    said = opinions_of(rows, [Veto.PRICE_BAND, 0, 0, 0])
    enough = dict.fromkeys(range(quorum), said)
    assert tally(rows, enough, nodes).tolist() == [Veto.PRICE_BAND, 0, 0, 0]
    enough.pop(0)
    assert not tally(rows, enough, nodes).any()


def test_the_commonest_reason_is_named_whatever_the_order() -> None:
    rows = proposals()
    vetoes = {
        1: opinions_of(rows, [Veto.MEMORY, Veto.MEMORY, 0, Veto.STALE_DATA]),
        2: opinions_of(rows, [Veto.PRICE_BAND, Veto.PRICE_BAND, 0, 0]),
        3: opinions_of(rows, [Veto.MEMORY, 0, Veto.MEMORY, 0]),
    }
    expected = [Veto.MEMORY, Veto.PRICE_BAND, 0, 0]
    for order in permutations(vetoes):
        assert tally(rows, {peer: vetoes[peer] for peer in order}, 4).tolist() == expected
    shuffled = {peer: said[[2, 0, 3, 1]] for peer, said in vetoes.items()}
    assert tally(rows, shuffled, 4).tolist() == expected


def test_opinions_that_do_not_count() -> None:
    rows = proposals()
    twice = np.concatenate([opinions_of(rows, [Veto.MEMORY] * N)] * 2)
    assert not tally(rows, {1: twice}, 4).any()  # one peer is one voice
    other_step = opinions_of(rows, [Veto.MEMORY] * N)
    other_step["step"] += 1
    unknown_code = opinions_of(rows, [200] * N)
    assert not tally(rows, {1: other_step, 2: other_step, 3: unknown_code}, 4).any()
    assert not tally(rows, {}, 4).any()
    assert tally(rows[:0], {1: other_step}, 4).tolist() == []
    with pytest.raises(ValueError, match="nodes"):
        veto_quorum(0)
