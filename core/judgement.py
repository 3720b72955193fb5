"""What a peer's agent makes of proposals, and the rule by which peers deny them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE, Side, Veto
from core.limits import Limits, check
from core.memory import ReasoningBank, VerdictConfig, record_of_side, verdict
from core.portfolio import Portfolio
from core.strategy.agents import AgentInputs, price_votes
from core.strategy.decide import DecisionConfig, combine
from core.strategy.situation import situation_vectors


@dataclass(frozen=True, slots=True)
class JudgementConfig:
    neighbours: int = 8
    """Memories looked at for each proposal."""
    memory_evidence_min: float = 4.0
    """Sum of similarities of trades on the proposed side before memory may veto."""
    memory_outcome_max: float = -0.75
    """Veto when their mean outcome (-1 ruinous, 0 even, 1 splendid) is at or below this."""
    hold_below: float = 0.05
    """A weighted vote weaker than this is a HOLD of the peer."""


def judge(
    proposals: NDArray[Any],
    feed_step: int,
    inputs: AgentInputs,
    marks: NDArray[np.int64],
    portfolio: Portfolio,
    limits: Limits,
    memory: ReasoningBank | None,
    config: JudgementConfig | None = None,
    decision: DecisionConfig | None = None,
) -> NDArray[Any]:
    """This node's opinions, OPINION_DTYPE[rows], row by row as PROPOSAL_DTYPE `proposals`.

    `feed_step`, `inputs` and `marks` are of the peer's own feed at the newest step it has. Side and confidence are
    those of its own price agents, weighed by its own memory. A veto says, first that applies: the feed is at another
    step; a limit would be broken, or the price is off its own marks; memory of such trades is bad. What reduces a
    position is never vetoed by memory. Raises TypeError when `proposals` has another dtype.
    """
    chosen = config or JudgementConfig()
    if proposals.dtype != PROPOSAL_DTYPE:
        raise TypeError(f"judge wants PROPOSAL_DTYPE rows, not {proposals.dtype}")
    opinions = np.zeros(len(proposals), OPINION_DTYPE)
    opinions["step"] = proposals["step"]
    opinions["instrument"] = proposals["instrument"]
    stale = proposals["step"] != feed_step
    known = proposals["instrument"] < portfolio.instruments
    instrument = np.where(known, proposals["instrument"], 0).astype(np.int64)
    veto = check(proposals, portfolio, marks, limits)
    votes = price_votes(inputs)[instrument]
    multipliers = np.ones_like(votes)
    # A HOLD changes nothing: memory is asked about orders only.
    orders = np.flatnonzero((proposals["side"] != Side.HOLD) & ~stale)
    if memory is not None and len(memory) and len(orders):
        rows = instrument[orders]
        side = proposals["side"][orders]
        trajectories = memory.trajectory_lookup(
            *memory.vector_search(situation_vectors(inputs)[rows], chosen.neighbours)
        )
        multipliers[orders] = verdict(trajectories, VerdictConfig())
        outcome, evidence = record_of_side(trajectories, side)
        bad = (outcome <= chosen.memory_outcome_max) & (evidence >= chosen.memory_evidence_min)
        bad &= portfolio.positions[rows] * side >= 0
        veto[orders[bad & (veto[orders] == Veto.NONE)]] = Veto.MEMORY
    combined = combine(votes, multipliers, decision)
    full = (decision or DecisionConfig()).full_signal
    opinions["side"] = np.where(np.abs(combined.signal) < chosen.hold_below, 0, np.sign(combined.signal))
    opinions["confidence"] = np.clip(np.abs(combined.signal) / full, 0.0, 1.0)
    # Without data of that step the peer has no side, whatever else it would say.
    veto[stale] = Veto.STALE_DATA
    opinions["side"][stale] = Side.HOLD
    opinions["confidence"][stale] = 0.0
    opinions["veto"] = veto
    return opinions


def veto_quorum(node_count: int) -> int:
    """Vetoes of distinct peers that deny a proposal: f + 1, f = (n - 1) // 3.

    So at least one honest peer said no, and f traitors alone cannot stop trading.
    """
    if node_count < 1:
        raise ValueError(f"{node_count} nodes; want 1 or more")
    return (node_count - 1) // 3 + 1


def tally(proposals: NDArray[Any], opinions_by_peer: Mapping[int, NDArray[Any]], node_count: int) -> NDArray[np.uint8]:
    """Veto codes uint8[rows]: 0 lets a proposal pass, otherwise the code named most often (the lower one on a tie).

    A proposal is denied when `veto_quorum(node_count)` peers, each counted once, veto it. An opinion counts for the
    row whose step and instrument it names; others, and codes that are no `Veto`, count for nothing. The result does
    not depend on the order of peers or of opinions.
    """
    rows = len(proposals)
    highest = int(max(Veto))
    counts = np.zeros((rows, highest + 1), np.int64)
    row_of: dict[tuple[int, int], int] | None = None
    for opinions in opinions_by_peer.values():
        if len(opinions) == rows and _aligned(proposals, opinions):
            codes = opinions["veto"]
            valid = np.flatnonzero((codes > 0) & (codes <= highest))
            counts[valid, codes[valid]] += 1
            continue
        if row_of is None:
            row_of = {(int(p["step"]), int(p["instrument"])): at for at, p in reversed(list(enumerate(proposals)))}
        said: dict[int, int] = {}
        for opinion in opinions:
            at = row_of.get((int(opinion["step"]), int(opinion["instrument"])))
            code = int(opinion["veto"])
            if at is not None and 0 < code <= highest:
                said[at] = min(said.get(at, code), code)
        for at, code in said.items():
            counts[at, code] += 1
    denied = counts.sum(axis=1) >= veto_quorum(node_count)
    result: NDArray[np.uint8] = np.where(denied, counts.argmax(axis=1), 0).astype(np.uint8)
    return result


def _aligned(proposals: NDArray[Any], opinions: NDArray[Any]) -> bool:
    """Row by row the same step and instrument, and no row twice."""
    return bool(
        (proposals["step"] == opinions["step"]).all()
        and (proposals["instrument"] == opinions["instrument"]).all()
        and np.unique(proposals["instrument"]).size == len(proposals)
    )
