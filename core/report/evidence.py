"""What a report is made from: the recording of a session, its settings, machine and experiments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.config import Settings
from core.experiment import WARM_UP_CYCLES
from core.recorder import recording_file
from core.recording import Recording
from core.records import CycleRecord, SwarmSnapshot
from core.report.captions import CaptionHistory
from core.session import Session, SessionError
from core.statistics import by_toggles
from core.toggles import Toggles, from_dict

CYCLES_READ = 20_000
"""The latest cycles of a recording; a longer one is cut, and the report says so."""
CYCLES_MIN = 20
"""Under one value of the toggles; with fewer, intervals mean nothing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One session's data. `cycles` is what ran under `toggles`, warm-up taken out (`warmed_up`)."""

    session: str
    settings: Settings
    machine: dict[str, Any]
    """Empty where the session does not say what it ran on."""
    captions: tuple[str, ...]
    """Every one that stood while `cycles` ran."""
    caption_history: CaptionHistory
    market: str
    end: SwarmSnapshot
    toggles: Toggles
    cycles: tuple[CycleRecord, ...]
    by_toggles: dict[Toggles, tuple[CycleRecord, ...]]
    """Every value of the toggles that ran, warm-up taken out; the one with the most cycles first."""
    cycles_read: int
    cycles_recorded: int
    experiments: tuple[dict[str, Any], ...]
    """As `core.experiment_log.to_dict` writes them, oldest first."""
    experiments_damaged: int = 0
    """Lines of their file that a full disk or a killed process cut short."""


def warmed_up(cycles: Sequence[CycleRecord]) -> list[CycleRecord]:
    """Without the first 3 cycles after each change of toggles, which pay for the switch itself, and without those that
    ran in numpy beside the compiler, which say nothing of a kernel."""
    compiled = [record for record in cycles if not record.numpy_kernels]
    found = []
    since = 0
    for k, record in enumerate(compiled):
        since = 0 if k == 0 or record.toggles != compiled[k - 1].toggles else since + 1
        if since >= WARM_UP_CYCLES:
            found.append(record)
    return found


def read_evidence(session: Session, toggles: Toggles | None = None) -> Evidence:
    """The session's data, profiled under `toggles`: by default where its last experiment of two settings began, as
    that can be measured against, or else the value that ran the most cycles.

    Raises RecordingError where there is no recording or it cannot be opened, SessionError where it holds too little.
    """
    recording = Recording(recording_file(session), read_only=True)
    try:
        _, last_ns = recording.span_ns()
        end = recording.snapshot(last_ns, CYCLES_READ, 0, 0)
        if end.cycles:  # as it was then: after it the recorder sees the nodes leave
            end = recording.snapshot(recording.end_of_cycle_ns(end.cycles[-1].cycle), CYCLES_READ, 0, 0)
        recorded = recording.cycle_count()
        since_ns = end.cycles[0].started_ns if end.cycles else last_ns
        times, captions = zip(*recording.captions(since_ns), strict=True)
    finally:
        recording.close()
    groups = {setting: tuple(found) for setting, found in by_toggles(warmed_up(end.cycles)).items()}
    groups = dict(sorted(groups.items(), key=lambda item: -len(item[1])))
    experiments, damaged = _experiments(session)
    chosen = toggles if toggles is not None else _began_at(experiments, groups) or next(iter(groups), end.toggles)
    cycles = groups.get(chosen, ())
    if len(cycles) < CYCLES_MIN:
        ran = "; ".join(f"{len(found)} under {setting.label()}" for setting, found in groups.items())
        raise SessionError(
            f"{session.directory.name}: {len(cycles)} cycles under {chosen.label()}, a report wants {CYCLES_MIN} or"
            f" more (recorded, after warm-up and with all kernels compiled: {ran or 'none'})"
        )
    history = CaptionHistory(np.array(times, np.int64), captions)
    return Evidence(
        session=session.directory.name,
        settings=session.settings(),
        machine=session.machine(),
        captions=history.during(cycles),
        caption_history=history,
        market=end.market,
        end=end,
        toggles=chosen,
        cycles=cycles,
        by_toggles=groups,
        cycles_read=len(end.cycles),
        cycles_recorded=recorded,
        experiments=experiments,
        experiments_damaged=damaged,
    )


def _began_at(experiments: Sequence[dict[str, Any]], groups: dict[Toggles, tuple[CycleRecord, ...]]) -> Toggles | None:
    for values in reversed(experiments):
        if len(values.get("cells", [])) == 2 and not values["failure"]:
            toggles = from_dict(values["cells"][0]["toggles"])
            if len(groups.get(toggles, ())) >= CYCLES_MIN:
                return toggles
    return None


def _experiments(session: Session) -> tuple[tuple[dict[str, Any], ...], int]:
    """Those that can be read, oldest first, and how many lines cannot."""
    try:
        lines = session.experiments_file.read_bytes().splitlines()
    except FileNotFoundError:
        return (), 0
    found, damaged = [], 0
    for line in filter(bytes.strip, lines):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            damaged += 1
    return tuple(found), damaged
