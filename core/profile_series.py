"""A profile that can be compared later: each span's own time in every cycle, with what it was measured under.

The file is JSON, so that a baseline can be kept in a repository and read without us: times are whole nanoseconds, one
list a span, in the order of cycles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.recorder import recording_file
from core.records import CycleRecord
from core.report.evidence import CYCLES_MIN, read_evidence
from core.session import Session, SessionError
from core.spans import NAMES
from core.toggles import Toggles, from_dict

FORMAT = "tradetui profile 1"
ROWS = (*NAMES, "untimed")
"""The root stands for the whole cycle: its own time would be 0."""
CYCLES_KEPT = 1_000
"""The latest of a longer session: more of them would not narrow an interval that drift has widened."""


@dataclass(frozen=True, slots=True)
class ProfileSeries:
    """`own_ms` is float64 (cycles, 30), ms, in the order of `ROWS`; column 0 is the wall time of the cycle."""

    name: str
    toggles: Toggles
    settings: dict[str, Any]
    machine: dict[str, Any]
    captions: tuple[str, ...]
    own_ms: NDArray[np.float64]


def own_times(cycles: Sequence[CycleRecord]) -> NDArray[np.float64]:
    """float64 (cycles, 30) in the order of `ROWS`, ms."""
    return np.array([[record.wall_ms, *record.exclusive_ms[1:], record.untimed_ms] for record in cycles])


def load_series(path: Path) -> dict[Toggles, ProfileSeries]:
    """What `path` holds, by toggles: a session's directory, or a kept profile. The setting with most cycles first.

    Raises SessionError for what is neither, RecordingError for a recording that cannot be opened.
    """
    if path.is_dir():
        return _of_session(Session(path.absolute()))
    try:
        values = json.loads(path.read_text())
        series = _of_file(values, path.name)
    except OSError as error:
        raise SessionError(f"{path}: {error.strerror}; want a session's directory or a kept profile") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SessionError(f"{path} is no kept profile ({FORMAT}): {error}") from None
    return {series.toggles: series}


def _of_session(session: Session) -> dict[Toggles, ProfileSeries]:
    if not recording_file(session).is_file():
        raise SessionError(f"{session.directory} holds no recording")
    evidence = read_evidence(session)
    return {
        toggles: ProfileSeries(
            session.directory.name,
            toggles,
            evidence.settings.model_dump(mode="json"),
            evidence.machine,
            evidence.caption_history.during(cycles[-CYCLES_KEPT:]),
            own_times(cycles[-CYCLES_KEPT:]),
        )
        for toggles, cycles in evidence.by_toggles.items()
        if len(cycles) >= CYCLES_MIN
    }


def _of_file(values: dict[str, Any], name: str) -> ProfileSeries:
    if values.get("format") != FORMAT:
        raise ValueError(f"format {values.get('format')!r}")
    if set(values["own_ns"]) != set(ROWS):
        raise ValueError("its spans are not the 29 and untimed")
    own_ms = np.array([values["own_ns"][row] for row in ROWS], np.float64).T / 1e6
    if own_ms.ndim != 2 or len(own_ms) < CYCLES_MIN or not np.isfinite(own_ms).all() or (own_ms < 0).any():
        raise ValueError(f"want {CYCLES_MIN} cycles or more, every time a number of 0 or more")
    return ProfileSeries(
        values.get("name", name),
        from_dict(values["toggles"]),
        dict(values["settings"]),
        dict(values["machine"]),
        tuple(values["captions"]),
        own_ms,
    )


def save_series(series: ProfileSeries, path: Path) -> None:
    """Write the file that `load_series` reads. Raises OSError."""
    own_ns = np.rint(series.own_ms * 1e6).astype(np.int64)
    head = {
        "format": FORMAT,
        "name": series.name,
        "cycles": len(own_ns),
        "machine": series.machine,
        "settings": series.settings,
        "captions": list(series.captions),
        "toggles": series.toggles.as_dict(),
    }
    # One line a span, so that a change of the file can be read.
    spans = ",\n".join(f"  {json.dumps(row)}: {json.dumps(own_ns[:, k].tolist())}" for k, row in enumerate(ROWS))
    path.write_text(json.dumps(head, indent=1)[:-2] + f',\n "own_ns": {{\n{spans}\n }}\n}}\n')
