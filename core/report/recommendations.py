"""What to do next, each sentence with the rule that made it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.report.evidence import Evidence
from core.report.optimisations import Optimisation
from core.report.profile import Profile
from core.toggles import DtwKernel
from core.what_if import amdahl

LEAVE_BELOW = 0.10
"""A share of wall time under which an operation is not worth speeding up."""
WORTH_TRYING = 1.05
"""A projected ratio from which on an experiment is worth its time."""
GPU_SPEEDUP = 10.0
"""Of the candidates on a GPU: the lower end of the reference profile's range, 10 to 50."""
GPU_CANDIDATES = ("pattern_matching_dtw", "risk_calculations")
TAIL_MAX = 3.0
UNTIMED_MAX = 0.10
CYCLES_WANTED = 100
FAULT_CAPTION = "fault: "
"""How the caption of a fault begins: what was measured under one may not hold without it."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do, the rule that says so, and the figures that the rule looked at."""

    text: str
    rule: str
    evidence: str


@dataclass(frozen=True, slots=True)
class GpuVerdict:
    """`limit` is what the whole cycle would gain if the candidates were `GPU_SPEEDUP` times as fast."""

    warranted: bool
    text: str
    share: float
    limit: float


def gpu_verdict(profile: Profile) -> GpuVerdict:
    """Warranted only once QUIC is under 10 % of the cycle and what a GPU could take over is 10 % or more."""
    share = sum(profile.share(name) for name in GPU_CANDIDATES)
    limit = amdahl(share, GPU_SPEEDUP)
    quic = profile.quic.share
    reasons = []
    if quic >= LEAVE_BELOW:
        reasons.append(f"QUIC is {quic:.1%} of the cycle, and no GPU speeds it up")
    if share < LEAVE_BELOW:
        reasons.append(f"pattern matching and risk are {share:.1%}")
    outcome = f"at {GPU_SPEEDUP:g} times their speed a cycle would be {limit:.2f} times as fast"
    if reasons:
        return GpuVerdict(False, f"Not warranted: {'; '.join(reasons)}; {outcome}.", share, limit)
    return GpuVerdict(
        True, f"Warranted: QUIC is {quic:.1%}, pattern matching and risk are {share:.1%}; {outcome}.", share, limit
    )


def recommendations(
    evidence: Evidence, profile: Profile, found: tuple[Optimisation, ...]
) -> tuple[Recommendation, ...]:
    """All rules, in the order of what they are about: the data, the toggles, the rest."""
    return (
        *_about_the_data(evidence, profile),
        *(each for optimisation in found for each in _about_a_toggle(optimisation)),
        *_about_spans(evidence, profile),
    )


def _about_the_data(evidence: Evidence, profile: Profile) -> Iterator[Recommendation]:
    summary = profile.summary
    if summary.cycles < CYCLES_WANTED:
        yield Recommendation(
            "Run longer before you decide anything.",
            f"fewer than {CYCLES_WANTED} cycles under one setting",
            f"{summary.cycles} cycles",
        )
    untimed = profile.table.untimed.exclusive_share
    if untimed >= UNTIMED_MAX:
        yield Recommendation(
            "Find out what no span covers: export a profile of the leader (key e).",
            f"untimed at {UNTIMED_MAX:.0%} or more",
            f"{untimed:.1%} untimed",
        )
    if summary.cycle_ms_p99 >= TAIL_MAX * summary.cycle_ms_p50:
        yield Recommendation(
            "Look at the slow cycles, not only at the median.",
            f"p99 at {TAIL_MAX:g} times p50 or more",
            f"p50 {summary.cycle_ms_p50:.2f} ms, p99 {summary.cycle_ms_p99:.2f} ms",
        )


def _about_a_toggle(each: Optimisation) -> Iterator[Recommendation]:
    key = each.key if len(each.key) == 1 else "9"
    if each.measured is not None:
        interval = f"{each.measured.ratio:.2f} × ({each.measured.low:.2f}–{each.measured.high:.2f})"
        faults = [caption for caption in each.measured.captions if caption.startswith(FAULT_CAPTION)]
        figures = ", ".join([interval, f"{each.measured.cycles} cycles", *faults])
        if each.measured.low > 1.0:
            yield Recommendation(f"Switch {each.name} on (key {key}).", "measured, interval above 1", figures)
        elif each.measured.high < 1.0:
            yield Recommendation(f"Leave {each.name} off.", "measured, interval below 1", figures)
        else:
            yield Recommendation(
                f"Leave {each.name} as it is: no difference was shown.", "measured, interval holds 1", figures
            )
    elif each.projected is None or each.projected >= WORTH_TRYING:
        limit = "no limit" if each.projected is None else f"at most {each.projected:.2f} ×"
        yield Recommendation(
            f"Measure {each.name}: tradetui experiment {key} --attach.",
            f"not measured here, projection at {WORTH_TRYING:g} or more",
            limit,
        )
    else:
        yield Recommendation(
            f"Do not spend time on {each.name}.",
            f"projection under {WORTH_TRYING:g}",
            f"at most {each.projected:.2f} ×",
        )


def _about_spans(evidence: Evidence, profile: Profile) -> Iterator[Recommendation]:
    dtw = profile.share("pattern_matching_dtw")
    rule = f"DTW under {LEAVE_BELOW:.0%} of wall time: leave it"
    if dtw < LEAVE_BELOW:
        yield Recommendation("Leave pattern matching alone.", rule, f"{dtw:.1%}")
    elif evidence.toggles.dtw_kernel is not DtwKernel.TOPK:
        yield Recommendation(
            "Try the pruned DTW kernel: tradetui experiment d --attach.",
            f"DTW at {LEAVE_BELOW:.0%} of wall time or more, kernel {evidence.toggles.dtw_kernel}",
            f"{dtw:.1%}",
        )
    serialization = profile.share("quic_message_serialization")
    if serialization < 0.01:
        yield Recommendation(
            "Do not look for a faster codec.", "serialization under 1 % of wall time", f"{serialization:.2%}"
        )
    if profile.quic.decisions_per_round <= 1.0 and evidence.toggles.batching:
        yield Recommendation(
            "Batching is on and gathers nothing: look at the batch policy.",
            "batching on, one decision a round or fewer",
            f"{profile.quic.decisions_per_round:.2f} decisions a round",
        )
    orders = profile.summary.orders_sent / profile.summary.cycles
    if orders <= 1.0:
        yield Recommendation(
            "Do not expect anything of parallel orders.", "at most one order a cycle", f"{orders:.2f} orders a cycle"
        )
