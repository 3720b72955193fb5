"""A node that lies about what it judges: one in four decides nothing, two do."""

from __future__ import annotations

import numpy as np

from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE, Side, Veto
from core.faults import CAPTIONS, Fault, contrary
from core.judgement import tally


def judged(vetoes: list[Veto]) -> tuple[np.ndarray, np.ndarray]:
    proposals, opinions = np.zeros(len(vetoes), PROPOSAL_DTYPE), np.zeros(len(vetoes), OPINION_DTYPE)
    for rows in (proposals, opinions):
        rows["step"], rows["instrument"], rows["side"] = 7, np.arange(len(vetoes)), Side.BUY
    opinions["veto"], opinions["confidence"] = vetoes, 0.25
    return proposals, opinions


def test_a_lie_is_the_opposite_of_what_was_judged_and_leaves_the_judgement_alone() -> None:
    _, opinions = judged([Veto.NONE, Veto.PRICE_BAND])
    lies = contrary(opinions)
    assert lies["veto"].tolist() == [Veto.MEMORY, Veto.NONE]
    assert lies["side"].tolist() == [Side.SELL, Side.SELL]
    assert (lies["confidence"] == 1.0).all()
    assert opinions["veto"].tolist() == [Veto.NONE, Veto.PRICE_BAND]
    assert lies[["step", "instrument"]].tolist() == opinions[["step", "instrument"]].tolist()


def test_one_liar_of_four_denies_nothing_and_saves_nothing() -> None:
    proposals, opinions = judged([Veto.NONE, Veto.PRICE_BAND])
    honest = {0: opinions, 1: opinions}
    assert tally(proposals, honest | {2: contrary(opinions)}, 4).tolist() == [Veto.NONE, Veto.PRICE_BAND]
    two = {0: opinions, 1: contrary(opinions), 2: contrary(opinions)}
    assert tally(proposals, two, 4).tolist() == [Veto.MEMORY, Veto.NONE], "as the threshold says"


def test_every_fault_has_a_caption() -> None:
    assert CAPTIONS.keys() == set(Fault) - {Fault.NONE}
