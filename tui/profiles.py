"""From the folder of a profile snapshot to what the screens show of it."""

from __future__ import annotations

import time
from pathlib import Path

from core.folded_stacks import flame
from core.profile_pair import PairDiff
from core.toggles import Toggles
from tui.view import ProfileShown


def profile_shown(folder: Path, pair: PairDiff | None, toggles: Toggles) -> ProfileShown | None:
    """None where the folder holds no stacks: nothing was sampled. Raises ValueError for stacks that are none."""
    file = folder / ("profile.folded" if pair is None else "b/profile.folded")
    if not file.exists():
        return None
    setting = f"B, {pair.second.label()}" if pair is not None else toggles.label()
    at = time.strftime("%H:%M:%S", time.localtime(file.stat().st_mtime))
    return ProfileShown(f"the leader at {at}, {setting}", flame(file.read_bytes()), pair)
