"""Which disk a node votes from: told from the log itself and a marker that is kept elsewhere."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from net.durable import IncarnationRecord, encode_record
from net.log import DurableLog
from net.membership import INCARNATION_BYTES


def claim_incarnation(log: DurableLog, marker: Path) -> bool:
    """Give an empty `log` its first record; whether it is empty although this node ran before, so that it was lost.

    The first log of a node is the one that the membership names from the start (the empty incarnation). A later empty
    one is another disk: what was voted from the first is forgotten, and a fresh incarnation says so to everybody until
    the membership names it. `marker` is a file that must not share the fate of the log, such as one beside the key.
    """
    if log.read_all():
        lost = False
    else:
        lost = marker.exists()
        log.append(encode_record(IncarnationRecord(secrets.token_bytes(INCARNATION_BYTES) if lost else b"")))
        log.sync()
    if not marker.exists():
        # The record comes first: a crash between the two leaves a log that nobody takes for lost.
        marker.parent.mkdir(parents=True, exist_ok=True)
        with marker.open("wb") as file:
            os.fsync(file.fileno())
    return lost
