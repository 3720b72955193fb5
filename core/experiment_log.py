"""Finished experiments: one line of JSON each in the session's folder, and the figures that screens show of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from core.interleaved import ContrastResult, InterleavedExperiment, Result
from core.toggles import FIELD_OF_KEY, Toggles
from core.what_if import Projection


@dataclass(frozen=True, slots=True)
class ExperimentState:
    """An experiment as of one moment; immutable, so that a screen can draw it."""

    keys: tuple[str, ...]
    label: str
    running: bool
    replicates: int
    replicates_max: int
    progress: float
    discarded: int
    started_again: int
    result: Result | None
    failure: str
    projection: Projection
    """By Amdahl's law, made before the first cycle of the experiment."""
    started_ns: int
    ended_ns: int
    """0 while it runs."""
    captions: tuple[str, ...]
    """Settings that it was made under."""


def label_of(keys: tuple[str, ...], first: Toggles, second: Toggles | None) -> str:
    """`b batching off→on`, or, for a factorial design (`second` None), `b × p`."""
    if second is None:
        return " × ".join(keys)
    words = []
    for key, name in FIELD_OF_KEY.items():
        before, after = getattr(first, name), getattr(second, name)
        if before != after:
            words.append(f"{key} {name.replace('_', ' ')} {_word(before)}→{_word(after)}")
    return ", ".join(words) if len(words) < 3 else f"{len(words)} toggles: {' '.join(word[0] for word in words)}"


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def with_captions(known: tuple[str, ...], now: tuple[str, ...]) -> tuple[str, ...]:
    """All named settings and faults under which an experiment ran, in the order in which they came."""
    return tuple(dict.fromkeys(known + now))


def state_of(
    experiment: InterleavedExperiment,
    projection: Projection,
    captions: tuple[str, ...],
    started_ns: int,
    ended_ns: int = 0,
) -> ExperimentState:
    """What `experiment` is at this moment."""
    design = experiment.design
    two = len(design.cells) == 2
    return ExperimentState(
        keys=design.keys,
        label=label_of(design.keys, design.cells[0], design.cells[1] if two else None) or "A/A",
        running=not ended_ns,
        replicates=experiment.replicates,
        replicates_max=experiment.plan.replicates_max,
        progress=experiment.progress,
        discarded=experiment.discarded,
        started_again=experiment.started_again,
        result=experiment.result,
        failure=experiment.failure,
        projection=projection,
        started_ns=started_ns,
        ended_ns=ended_ns,
        captions=captions,
    )


def to_dict(state: ExperimentState) -> dict[str, Any]:
    """JSON-ready; times in ms, ratios first / second: above 1 the second is faster.

    `…_ms_p50` are medians of blocks, averaged over the replicates as `core.interleaved.SpanResult` says.
    """
    result = state.result
    values: dict[str, Any] = {
        "label": state.label,
        "keys": list(state.keys),
        "started_ns": state.started_ns,
        "ended_ns": state.ended_ns,
        "captions": list(state.captions),
        "failure": state.failure,
        "replicates": state.replicates,
        "cycles_discarded": state.discarded,
        "replicates_started_again": state.started_again,
        "projection": {
            "ratio_max": state.projection.ratio if isfinite(state.projection.ratio) else None,
            "assumption": state.projection.assumption,
        },
        "contrasts": [],
        "spans": [],
    }
    if result is not None:
        values["cycles"] = result.cycles
        values["cells"] = [
            {"toggles": toggles.as_dict(), "cycle_ms_p50": ms}
            for toggles, ms in zip(result.design.cells, result.cell_ms, strict=True)
        ]
        values["contrasts"] = [_contrast(each) for each in result.contrasts]
        values["spans"] = [
            {
                "name": span.name,
                "first_ms_p50": span.first_ms,
                "second_ms_p50": span.second_ms,
                "first_own_ms_p50": span.first_own_ms,
                "second_own_ms_p50": span.second_own_ms,
                "ratio": span.ratio.ratio if span.ratio else None,
                "ratio_lo": span.ratio.low if span.ratio else None,
                "ratio_hi": span.ratio.high if span.ratio else None,
            }
            for span in result.spans
        ]
    return values


def _contrast(each: ContrastResult) -> dict[str, Any]:
    ratio = each.ratio
    return {
        "name": each.contrast.name,
        "ratio": ratio.ratio,
        "ratio_lo": ratio.low,
        "ratio_hi": ratio.high,
        "verdict": str(each.verdict),
    }
