"""The experiments of one sitting: the one that runs, and those that ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from core.experiment_log import ExperimentState, state_of, with_captions
from core.factorial import toggle_design
from core.interleaved import InterleavedExperiment
from core.what_if import Projection, what_if
from tui.view import View

KEPT = 50


@dataclass(slots=True)
class Started:
    """An experiment under way, with what was known when it began.

    `captions` grow by what comes while it runs: a fault that was over before its end is in the result all the same.
    """

    experiment: InterleavedExperiment
    projection: Projection
    captions: tuple[str, ...]
    started_ns: int

    def saw(self, captions: tuple[str, ...]) -> None:
        self.captions = with_captions(self.captions, captions)

    def state(self, ended_ns: int = 0) -> ExperimentState:
        return state_of(self.experiment, self.projection, self.captions, self.started_ns, ended_ns)


def project(view: View, keys: tuple[str, ...]) -> Projection:
    """The limit by Amdahl's law for `keys`, from the present profile."""
    settings = view.snapshot.settings
    toggles = view.snapshot.toggles
    batch_max, in_flight = _whole(settings.get("batch_max"), 20), _whole(settings.get("orders_in_flight"), 8)
    return what_if(view.table, toggles, toggle_design(toggles, keys).keys, batch_max, in_flight)


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


class Experiments:
    """At most one runs at a time."""

    def __init__(self) -> None:
        self.running: Started | None = None
        self._ended: deque[ExperimentState] = deque(maxlen=KEPT)

    def start(self, view: View, keys: tuple[str, ...], now_ns: int) -> Started:
        """Raises ValueError for keys that are no toggles."""
        design = toggle_design(view.snapshot.toggles, keys)
        experiment = InterleavedExperiment(design, seed=view.snapshot.cycles_total)
        self.running = Started(experiment, project(view, keys), view.snapshot.captions, now_ns)
        return self.running

    def end(self, now_ns: int) -> ExperimentState:
        """What the running one came to; it is kept."""
        assert self.running is not None
        state = self.running.state(now_ns)
        self.running = None
        self._ended.append(state)
        return state

    def states(self) -> tuple[ExperimentState, ...]:
        """Oldest first, the running one last."""
        return (*self._ended, self.running.state()) if self.running is not None else tuple(self._ended)
