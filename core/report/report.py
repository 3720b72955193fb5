"""A report: everything that it says as values, before anything is laid out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from core.report.evidence import Evidence
from core.report.optimisations import Optimisation, optimisations
from core.report.profile import Profile, Verdict, make_profile, verdict_of
from core.report.recommendations import GpuVerdict, Recommendation, gpu_verdict, recommendations
from core.report.reference import ReferenceProfile, known_flaws, reference_profile
from core.spans import NAMES, ROOT


@dataclass(frozen=True, slots=True)
class ComparedSpan:
    """An operation here and in the reference profile: ms a cycle, shares of wall time, inclusive and exclusive, and
    the verdict that each one's exclusive share deserves."""

    name: str
    reference_ms: float
    ms: float
    reference_inclusive_share: float
    inclusive_share: float
    reference_exclusive_share: float
    exclusive_share: float
    reference_verdict: Verdict
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Report:
    evidence: Evidence
    made: str
    profile: Profile
    optimisations: tuple[Optimisation, ...]
    recommendations: tuple[Recommendation, ...]
    gpu: GpuVerdict
    compared: tuple[ComparedSpan, ...]
    flaws: tuple[str, ...]


def make_report(evidence: Evidence, days: Mapping[str, float]) -> Report:
    """`days`: estimates of work by toggle key, beside or instead of the reference profile's."""
    profile = make_profile(evidence)
    found = optimisations(evidence, profile, days)
    reference = reference_profile()
    return Report(
        evidence=evidence,
        made=time.strftime("%Y-%m-%d %H:%M"),
        profile=profile,
        optimisations=found,
        recommendations=recommendations(evidence, profile, found),
        gpu=gpu_verdict(profile),
        compared=_compared(profile, reference),
        flaws=known_flaws(reference),
    )


def _compared(profile: Profile, reference: ReferenceProfile) -> tuple[ComparedSpan, ...]:
    n = profile.summary.cycles
    rows = {row.name: row for row in profile.table.rows}
    found = []
    for name in (*NAMES, "untimed"):
        own = reference.exclusive_ms(name) / reference.wall_ms
        total = reference.total_ms.get(name, reference.exclusive_ms(name))
        ours = rows[name]
        found.append(
            ComparedSpan(
                name=name,
                reference_ms=total / reference.cycles,
                ms=ours.inclusive_ms / n,
                reference_inclusive_share=total / reference.wall_ms,
                inclusive_share=ours.inclusive_ms / profile.table.wall_ms,
                reference_exclusive_share=own,
                exclusive_share=ours.exclusive_share,
                reference_verdict=verdict_of(own),
                verdict=verdict_of(ours.exclusive_share),
            )
        )
    return tuple(each for each in found if each.name != ROOT) + tuple(each for each in found if each.name == ROOT)


def under_what(evidence: Evidence) -> dict[str, str]:
    """What every figure of a report was measured under, for a person."""
    machine = evidence.machine
    defaults = type(evidence.settings).model_fields
    changed = {
        name: getattr(evidence.settings, name)
        for name, field in defaults.items()
        if getattr(evidence.settings, name) != field.default and name != "toggles"
    }
    cut = "" if evidence.cycles_read == evidence.cycles_recorded else f", of {evidence.cycles_recorded:,} recorded"
    damaged = evidence.experiments_damaged
    skipped = {"experiments": f"{damaged} cut short in experiments.jsonl and left out"} if damaged else {}
    return {
        "session": evidence.session,
        "market": evidence.market,
        "toggles": evidence.toggles.label(),
        "cycles": f"{len(evidence.cycles):,} under these toggles, of {evidence.cycles_read:,} read{cut};"
        " the first 3 after each switch left out, and those that ran before all kernels were compiled",
        "captions": ", ".join(evidence.captions) or "none",
        "settings": ", ".join(f"{name} = {value}" for name, value in changed.items()) or "all defaults",
        "machine": (
            f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, {machine['system']}"
            if machine
            else "not noted by this session"
        ),
        "intervals": "95 %; of shares and medians by circular block bootstrap over cycles, of experiments as measured",
        **skipped,
    }


def to_dict(report: Report) -> dict[str, Any]:
    """JSON-ready: times in ms, shares 0 to 1, ratios above 1 for faster."""
    evidence, profile = report.evidence, report.profile
    return {
        "session": evidence.session,
        "made": report.made,
        "machine": evidence.machine,
        "settings": evidence.settings.model_dump(),
        "captions": list(evidence.captions),
        "toggles": evidence.toggles.as_dict(),
        "confidence": 0.95,
        "summary": asdict(profile.summary),
        "ranking": [asdict(row) for row in profile.ranking],
        "steps": [asdict(step) for step in profile.steps],
        "quic": asdict(profile.quic),
        "kernels": [asdict(kernel) for kernel in profile.kernels],
        "settings_that_ran": [asdict(setting) for setting in profile.settings],
        "optimisations": [asdict(each) for each in report.optimisations],
        "recommendations": [asdict(each) for each in report.recommendations],
        "gpu": asdict(report.gpu),
        "reference": {"rows": [asdict(row) for row in report.compared], "known_flaws": list(report.flaws)},
    }
