"""`--json FILE`: known to be writable before anything is measured that it is to hold."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from core.session import SessionError


def output_file(text: str) -> Path:
    """The type of an argument that names a file to write at the end. Raises argparse.ArgumentTypeError, which names
    the argument, where nothing can be written there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written; name another file, or change its permissions")
    return path


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Raises SessionError where it can no longer be written, as on a disk that has become full."""
    try:
        path.write_text(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise SessionError(f"--json {path} cannot be written: {error.strerror}") from error
