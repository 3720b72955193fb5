"""`tradetui export`: a session's recording as Parquet files."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from core.recorder import recording_file
from core.recording import Recording
from core.session import Session


def recording_of(path: Path) -> Path:
    """The recording that `path` names: the file itself, or a session directory's."""
    return recording_file(Session(path)) if path.is_dir() else path


def export_recording(path: Path, directory: Path, console: Console) -> None:
    """Write every table to `directory`. Raises RecordingError."""
    recording = Recording(recording_of(path), read_only=True)
    try:
        for written in recording.export_parquet(directory):
            console.print(f"{written}  {written.stat().st_size:,} bytes", highlight=False)
    finally:
        recording.close()
