"""Each optimisation: what Amdahl's law allows, what the session's experiments measured, why they differ, what it costs.

A projection is an upper limit on the profile's exclusive times. A measurement is the interleaved experiment of the same
toggles from the same settings, if the session holds one; the last one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from core.report.evidence import Evidence
from core.report.profile import Profile
from core.toggles import BASELINE, FIELD_OF_KEY, Toggles, pressed
from core.what_if import ACTS_ON, family, remaining, what_if

DIFFERENCE_MAX = 0.20
"""Between projection and measurement; beyond it the report says why."""
SAID_MAX = 4
"""Spans that an explanation names."""

DAYS: dict[str, tuple[float, str]] = {
    "b": (2.5, "medium"),
    "s": (1.5, "medium"),
    "m": (4.0, "medium"),
    "p": (2.5, "low"),
    "c": (1.5, "low"),
}
"""Working days (the middle of its range) and risk by toggle, as the reference profile estimates them. It has none for
the others, and neither have we: give them with `--days x=2`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An interleaved experiment's ratio of cycle times, first / second, with its 95 % interval; medians in ms."""

    ratio: float
    low: float
    high: float
    first_ms: float
    second_ms: float
    cycles: int
    replicates: int
    verdict: str
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Optimisation:
    """`key` is a toggle's, or the keys of several. Ratios: above 1 a cycle takes less time with it on.

    `share` is the part of wall time in the spans that it acts on; `saved_ms` a cycle, as measured or else projected.
    """

    key: str
    name: str
    change: str
    share: float
    projected: float | None
    """None: without limit, as nothing would be left."""
    assumption: str
    measured: Measured | None
    why_different: str
    days: float | None
    risk: str
    saved_ms: float
    saved_from: str
    roi: float | None
    """Share in % × speed-up ÷ days, as the reference profile ranks. Amdahl's law is not in it. None where nothing would
    be left of the share, or a cycle was measured to gain more than it."""
    saved_ms_per_day: float | None
    """Wall time of a cycle saved a day of work: rank by this."""


def optimisations(evidence: Evidence, profile: Profile, days: Mapping[str, float]) -> tuple[Optimisation, ...]:
    """Every toggle that is off in the profile, then all of them together. `days` overrides the estimates by key."""
    off = [key for key, name in FIELD_OF_KEY.items() if key != "d" and _is_off(evidence.toggles, name)]
    single = [_one(evidence, profile, (key,), days) for key in off]
    return (*single, _one(evidence, profile, tuple(off), days)) if len(off) > 1 else tuple(single)


def _is_off(toggles: Toggles, name: str) -> bool:
    return bool(getattr(toggles, name) == getattr(BASELINE, name))


def _one(evidence: Evidence, profile: Profile, keys: tuple[str, ...], days: Mapping[str, float]) -> Optimisation:
    settings, summary = evidence.settings, profile.summary
    found = _experiment(evidence, keys)
    projection = what_if(profile.table, evidence.toggles, keys, settings.batch_max, settings.orders_in_flight)
    acted = {each for key in keys for span in ACTS_ON[key] for each in family(span)}
    share = sum(row.exclusive_share for row in profile.table.rows if row.name in acted)
    measured = _measured(found) if found is not None else None
    ratio = measured.ratio if measured is not None else projection.ratio
    saved = summary.cycle_ms_mean * (1.0 - 1.0 / ratio) if isfinite(ratio) else summary.cycle_ms_mean
    work, risk = _work(keys, days)
    # the speed-up of the part, from Amdahl's law backwards: what the whole gained, put down to the part
    part = share - (1.0 - 1.0 / ratio if isfinite(ratio) else share)
    speedup = share / part if part > 1e-9 else None
    return Optimisation(
        key="".join(keys),
        name=" ".join(FIELD_OF_KEY[key].replace("_", " ") for key in keys) if len(keys) == 1 else "all together",
        change=_change(evidence.toggles, keys, found),
        share=share,
        projected=projection.ratio if isfinite(projection.ratio) else None,
        assumption=projection.assumption if len(keys) == 1 else "each as above, together",
        measured=measured,
        why_different=_why(found, measured, keys, evidence) if found is not None and measured is not None else "",
        days=work,
        risk=risk,
        saved_ms=saved,
        saved_from="measured" if measured is not None else "projected, at most",
        roi=share * 100 * speedup / work if work and speedup is not None and share else None,
        saved_ms_per_day=saved / work if work else None,
    )


def _work(keys: tuple[str, ...], days: Mapping[str, float]) -> tuple[float | None, str]:
    known = {key: days.get(key, DAYS[key][0] if key in DAYS else None) for key in keys}
    if any(value is None for value in known.values()):
        return None, DAYS[keys[0]][1] if len(keys) == 1 and keys[0] in DAYS else ""
    risks = {DAYS[key][1] for key in keys if key in DAYS}
    return sum(value for value in known.values() if value is not None), "medium" if "medium" in risks else "low"


def _change(toggles: Toggles, keys: tuple[str, ...], found: Mapping[str, Any] | None) -> str:
    """From what to what: as the experiment had it, or as a press of the key would."""
    if len(keys) > 1:
        return " ".join(keys)
    name = FIELD_OF_KEY[keys[0]]
    before = toggles.as_dict()[name]
    after = found["cells"][1]["toggles"][name] if found is not None else pressed(toggles, keys[0]).as_dict()[name]
    return "off → on" if isinstance(before, bool) else f"{before} → {after}"


def _experiment(evidence: Evidence, keys: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The last comparison of just this toggle, or of all together as key 9 sets them, that began from the profile's
    settings and came to its end."""
    base = evidence.toggles.as_dict()
    # Key 9 sets what is on in another way, too: Raft becomes auto.
    together = pressed(evidence.toggles, "9").as_dict()
    for values in reversed(evidence.experiments):
        cells = values.get("cells", [])
        if values["failure"] or len(cells) != 2 or not values["contrasts"] or cells[0]["toggles"] != base:
            continue
        after = cells[1]["toggles"]
        if after == together if len(keys) > 1 else _changed(base, after) == {FIELD_OF_KEY[keys[0]]}:
            return dict(values)
    return None


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    return {name for name in first if first[name] != second[name]}


def _measured(values: Mapping[str, Any]) -> Measured:
    contrast = values["contrasts"][0]
    return Measured(
        ratio=contrast["ratio"],
        low=contrast["ratio_lo"],
        high=contrast["ratio_hi"],
        first_ms=values["cells"][0]["cycle_ms_p50"],
        second_ms=values["cells"][1]["cycle_ms_p50"],
        cycles=values["cycles"],
        replicates=values["replicates"],
        verdict=contrast["verdict"],
        captions=tuple(values["captions"]),
    )


def _why(values: Mapping[str, Any], measured: Measured, keys: tuple[str, ...], evidence: Evidence) -> str:
    """In which spans the time is that the projection took for saved; medians of own time in the experiment.

    Empty where projection and measurement differ by 20 % or less of the measured ratio.
    """
    second = {span["name"]: span["second_own_ms_p50"] for span in values["spans"]}
    own = {span["name"]: span["first_own_ms_p50"] for span in values["spans"]}
    left, _ = remaining(own, evidence.toggles, keys, evidence.settings.batch_max, evidence.settings.orders_in_flight)
    total, rest = sum(own.values()), sum(left.values())
    if not rest or abs(total / rest / measured.ratio - 1.0) <= DIFFERENCE_MAX:
        return ""
    gap = {name: second[name] - left[name] for name in own}
    worst = sorted(gap, key=lambda name: -abs(gap[name]))[:SAID_MAX]
    threshold = 0.05 * sum(abs(value) for value in gap.values())
    said = []
    for name in worst:
        if abs(gap[name]) < threshold:
            continue
        expected = f"{left[name]:.2f} ms expected"
        verb = "kept" if left[name] < second[name] <= own[name] else "went to"
        said.append(f"{name} {verb} {second[name]:.2f} of {own[name]:.2f} ms ({expected})")
    return "; ".join(said)
