"""What this node holds against others: the evidence that consensus found, kept on disk, one account per culprit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from core.records import Accusation

KEPT_PER_CULPRIT: Final = 16
"""Pieces of evidence written per culprit; more are counted only."""


class Accusations:
    """Evidence by culprit. The file has one JSON object a line: time_ns, culprit, reason, proof (hexadecimal)."""

    def __init__(self, file: Path) -> None:
        """Reads what an earlier life of this node wrote; a torn last line is left out."""
        self._file = file
        self._found: dict[int, Accusation] = {}
        self._written: dict[int, int] = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                row = json.loads(line)
                self._count(int(row["culprit"]), str(row["reason"]), bytes.fromhex(row["proof"]))
            except (ValueError, KeyError, TypeError):
                continue
            self._written[int(row["culprit"])] = self._written.get(int(row["culprit"]), 0) + 1

    def add(self, culprit: int, reason: str, proof: bytes) -> bool:
        """Take one piece of evidence; True when it is news: the first against this node, or the first with proof.

        `proof` is checked by consensus (`net.evidence`), or empty. Raises OSError when it cannot be written.
        """
        before = self._found.get(culprit)
        after = self._count(culprit, reason, proof)
        news = before is None or after.proven > before.proven
        written = self._written.get(culprit, 0)
        if news or written < KEPT_PER_CULPRIT:
            self._written[culprit] = written + 1
            row = {"time_ns": time.time_ns(), "culprit": culprit, "reason": reason, "proof": proof.hex()}
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return news

    def all(self) -> tuple[Accusation, ...]:
        """By culprit."""
        return tuple(self._found[culprit] for culprit in sorted(self._found))

    def _count(self, culprit: int, reason: str, proof: bytes) -> Accusation:
        """A proof replaces a suspicion; otherwise the first reason stays."""
        before = self._found.get(culprit)
        proven = bool(proof)
        if before is None:
            after = Accusation(culprit, reason, proven, 1)
        elif proven and not before.proven:
            after = Accusation(culprit, reason, True, before.count + 1)
        else:
            after = Accusation(culprit, before.reason, before.proven, before.count + 1)
        self._found[culprit] = after
        return after
