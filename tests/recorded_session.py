"""A session directory for tests, made of the recorded sitting of a real swarm: its cycles, and experiments if given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.config import Settings
from core.recorder import recording_file
from core.recording import Moment, Recording
from core.records import CycleRecord
from core.session import Session, create_session
from tests.tui.recorded import load


def recorded_session(
    directory: Path,
    cycles: Sequence[CycleRecord] | None = None,
    experiments: Sequence[dict[str, Any]] = (),
) -> Session:
    """The sitting (60 cycles under the baseline, 240 optimised), or other `cycles` in its place."""
    sitting, _, _ = load()
    taken = tuple(sitting.cycles if cycles is None else cycles)
    session = create_session(Settings.model_construct(**Settings().model_dump()), directory)
    recording = Recording(recording_file(session))
    end_ns = taken[-1].started_ns + round(taken[-1].wall_ms * 1e6) + 1
    recording.append([Moment(replace(sitting, taken_ns=end_ns), taken, sitting.events, sitting.orders)])
    recording.close()
    if experiments:
        session.experiments_file.write_text("".join(json.dumps(each) + "\n" for each in experiments))
    return session
