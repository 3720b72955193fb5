"""The limits as the gateway obeys them, kept over its restart: a signed change counts once the swarm has decided it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from core.limits import Limits
from core.limits_change import LimitsChange, decode_limits, encode_limits


class LimitsGate:
    """What an order may be at most."""

    def __init__(self, operators: Mapping[int, bytes], first: Limits, file: Path) -> None:
        """`operators`: who may change them. `file` keeps the last change obeyed; `first` holds where there is none.

        Raises ValueError where the file is damaged: the limits that it kept may have been narrower.
        """
        self._operators = operators
        self._file = file
        self.limits = first
        self._signed_ns = 0
        if file.exists():
            try:
                change = decode_limits(file.read_bytes())
            except ValueError as error:
                raise ValueError(f"{file} is damaged ({error}); remove it and set the limits again") from error
            self.limits, self._signed_ns = change.limits, change.signed_ns

    def committed(self, change: LimitsChange) -> bool:
        """A change whose certificate was checked, or that f + 1 voters have applied: obeyed where it is the latest.
        Returns whether it was.

        Raises ValueError where the signer may not, OSError where it cannot be kept (then it is not obeyed).
        """
        if not change.is_signed(self._operators):
            raise ValueError(f"a change of the limits by {change.signer}, who may not")
        if change.signed_ns <= self._signed_ns:
            return False
        temporary = self._file.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(encode_limits(change))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)
        self.limits, self._signed_ns = change.limits, change.signed_ns
        return True
