"""From the trades behind similar situations to a weight for each agent: the judgement of the ReasoningBank.

After the retrieve, judge, distil loop of "ReasoningBank: Scaling Agent Self-Evolving with Reasoning Memory" (arXiv
2509.25140), with trades in place of language-model trajectories: success is realised profit after fees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Trajectories:
    """The trades behind the k nearest situations of each of n queries. Slots without a memory have similarity 0."""

    similarity: NDArray[np.float32]
    """[n, k], cosine, 0 where there is nothing or it points away."""
    votes: NDArray[np.float32]
    """[n, k, agents]: what each agent said when the trade was opened."""
    side: NDArray[np.int8]
    """[n, k]: +1 long, -1 short."""
    outcome: NDArray[np.float32]
    """[n, k]: realised profit after fees in units of the typical one, squashed to (-1, 1)."""


@dataclass(frozen=True, slots=True)
class VerdictConfig:
    strength: float = 0.75
    """How far a unanimous memory moves a weight from 1."""
    prior: float = 2.0
    """Evidence (sum of similarities) at which memory counts half."""
    weight_min: float = 0.4
    weight_max: float = 1.6


def verdict(trajectories: Trajectories, config: VerdictConfig | None = None) -> NDArray[np.float64]:
    """Weight multipliers float64[n, agents], 1.0 where memory says nothing.

    An agent is right when its vote pointed to the side that would have made money: the trade's side if it won, the
    other one if it lost. The similarity-weighted mean of that, shrunk by a prior, moves its weight.
    """
    chosen = config or VerdictConfig()
    rewarded = (trajectories.similarity * trajectories.side * trajectories.outcome)[:, None, :]
    right = np.matmul(rewarded, trajectories.votes)[:, 0, :].astype(np.float64)
    spoken = np.matmul(trajectories.similarity[:, None, :], np.abs(trajectories.votes))[:, 0, :]
    multiplier = 1.0 + chosen.strength * right / (spoken + chosen.prior)
    clipped: NDArray[np.float64] = np.clip(multiplier, chosen.weight_min, chosen.weight_max)
    return clipped


def record_of_side(
    trajectories: Trajectories, side: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How trades of `side` int8[n] went in situations like these: (mean outcome, evidence), float64[n] each.

    Evidence is the sum of similarities of the trades that were on that side; the mean is 0 without any.
    """
    weight = np.where(trajectories.side == side[:, None], trajectories.similarity, 0).astype(np.float64)
    evidence: NDArray[np.float64] = weight.sum(axis=1)
    mean = (weight * trajectories.outcome).sum(axis=1) / np.maximum(evidence, 1e-9)
    return mean, evidence
