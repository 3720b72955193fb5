"""What the monitor's workers tell the app. Each carries plain values and is never changed after it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from core.book_ladder import BookLadder
from core.cycle_trace import SwarmTrace
from core.quote_reading import QuoteReading
from tui.view import ProfileShown


@dataclass
class KeyAnswered(Message):
    """The swarm answered a toggle key with a sentence."""

    key: str
    sentence: str


@dataclass
class KeyFailed(Message):
    """A toggle key could not be sent."""

    key: str
    reason: str


@dataclass
class ControlAnswered(Message):
    """What became of taking or giving up control, in a sentence."""

    sentence: str


@dataclass
class TraceTaken(Message):
    """What the nodes did when; None with the reason where it could not be had."""

    trace: SwarmTrace | None
    reason: str = ""


@dataclass
class LadderTaken(Message):
    """The venue's book of the instrument that is shown; None with the reason where it could not be had."""

    instrument: str
    ladder: BookLadder | None
    reason: str = ""
    quotes: QuoteReading | None = None


@dataclass
class FaultAnswered(Message):
    """What became of a fault that was asked for, in a sentence."""

    sentence: str


@dataclass
class FaultFailed(Message):
    """A fault could not be switched."""

    reason: str


@dataclass
class NotBack(Message):
    """The swarm did not go back to the toggles that it had before an experiment or a pair of profiles."""

    sentence: str


@dataclass
class ProfileWritten(Message):
    """The profile snapshot is complete in `folder`; `shown` is None where nothing could be sampled."""

    folder: Path
    shown: ProfileShown | None


@dataclass
class ProfileFailed(Message):
    """The profile snapshot ended without a folder."""

    reason: str


@dataclass
class ExperimentEnded(Message):
    """The interleaved experiment came to its end, or was ended; `reason` is empty where it ended by itself."""

    reason: str
