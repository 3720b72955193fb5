"""`a`: an interleaved experiment from its dialog to its end."""

from __future__ import annotations

import contextlib

from textual import work
from textual.worker import WorkerError

from core.experiment_log import to_dict
from core.experiment_run import run_experiment
from core.interleaved import ContrastResult
from tui.experiment_dialog import ExperimentDialog
from tui.experiments import Started, project
from tui.messages import (
    ExperimentEnded,
)
from tui.monitor_base import MonitorBase


class ExperimentActions(MonitorBase):
    """At most one experiment at a time; what it found is kept with the session."""

    def action_experiment(self) -> None:
        if self._experiments.running is not None:
            self._end_experiment()
        elif self._client.read_only:
            self._say("nothing can be compared here: this monitor changes nothing")
        elif self._profiling:
            self._say("nothing is compared while a profile is taken: it slows the leader")
        elif not self._live.started:
            self._say("nothing to compare: no cycle has run yet")
        elif not isinstance(self.screen, ExperimentDialog):
            live = self._live
            change = live.change
            chosen = change.keys if change is not None and len(change.keys) == 1 else ()
            dialog = ExperimentDialog(live.snapshot.toggles, chosen, lambda keys: project(live, keys))
            self.push_screen(dialog, self._start_experiment)

    def _start_experiment(self, keys: tuple[str, ...] | None) -> None:
        if not keys:
            return
        started = self._experiments.start(self._live, keys, self._clock_ns())
        self._ending = False
        self._experiment_work = self._experiment(started)
        self.action_show("compare")

    @work(group="experiment", exclusive=True, exit_on_error=False)
    async def _experiment(self, started: Started) -> None:
        reason = ""
        try:
            await run_experiment(self._client, started.experiment)
        except Exception as error:  # as with a key: told, and the monitor goes on
            reason = f"{type(error).__name__}: {error}"
            started.experiment.give_up(reason)
        finally:
            try:
                self._client.keep_experiment(to_dict(self._experiments.end(self._clock_ns())))
            except OSError as error:
                reason = f"the result is not kept with the session: {error}"
            self.post_message(ExperimentEnded(reason or started.experiment.failure))

    def _end_experiment(self) -> None:
        """Once: a second cancel would fall into the toggles' way back."""
        if self._experiment_work is not None and not self._ending:
            self._ending = True
            self._experiment_work.cancel()
        self._say("the experiment ends: the toggles go back to what they were")

    def on_experiment_ended(self, message: ExperimentEnded) -> None:
        state = self._experiments.states()[-1]
        if message.reason:
            self.notify(message.reason, title="experiment ended early", severity="warning", timeout=15, markup=False)
        elif state.result is not None:
            text = "\n".join(map(_sentence, state.result.main_effects))
            self.notify(text, title=state.label, timeout=15, markup=False)
        self.tick()

    async def settle(self) -> None:
        """After the screen is gone: end what still works on the swarm, and wait until the toggles are put back."""
        if self._experiment_work is not None:
            if not self._ending:
                self._experiment_work.cancel()
            with contextlib.suppress(WorkerError):
                await self._experiment_work.wait()


def _sentence(each: ContrastResult) -> str:
    return f"{each.contrast.name} {each.verdict}: {each.ratio.ratio:.3f}× ({each.ratio.low:.3f}–{each.ratio.high:.3f})"
