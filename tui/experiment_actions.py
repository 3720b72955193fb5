"""`a`: an interleaved experiment from its dialog to its end."""

from __future__ import annotations

import asyncio
import contextlib

from textual import work
from textual.worker import Worker, WorkerError

from core.experiment_log import to_dict
from core.experiment_run import run_experiment
from core.interleaved import ContrastResult
from tui.experiment_dialog import ExperimentDialog
from tui.experiments import Started, project
from tui.messages import (
    ExperimentEnded,
)
from tui.monitor_base import MonitorBase

SETTLE_S = 30.0
"""Whoever leaves waits no longer: a swarm without a quorum never goes back."""


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
        elif unknown := self._toggles_unknown():
            self._say(f"nothing is compared yet: {unknown}; a again")
        elif not isinstance(self.screen, ExperimentDialog):
            live = self._live
            change = live.change
            chosen = change.keys if change is not None and len(change.keys) == 1 else ()
            dialog = ExperimentDialog(live.snapshot.toggles, chosen, lambda keys: project(live, keys))
            self.push_screen(dialog, self._start_experiment)

    def _start_experiment(self, keys: tuple[str, ...] | None) -> None:
        if not keys:
            return
        if unknown := self._toggles_unknown():  # the palette lies over the dialog, and presses keys too
            self._say(f"nothing is compared yet: {unknown}; a again")
            return
        started = self._experiments.start(self._live, keys, self._clock_ns())
        self._experiment_work = self._experiment(started)
        self.action_show("compare")

    @work(group="experiment", exclusive=True, exit_on_error=False)
    async def _experiment(self, started: Started) -> None:
        reason = ""
        try:
            await run_experiment(self._client, started.experiment, self._not_back)
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
        if self._experiment_work is not None:
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

    @property
    def unsettled(self) -> list[Worker[None]]:
        """What still works on the swarm, or puts its toggles back."""
        return [each for each in (self._experiment_work, self._export_work) if each and not each.is_finished]

    async def settle(self) -> list[str]:
        """After the screen is gone: end what still works on the swarm, and wait until the toggles are put back.

        At most `SETTLE_S`. Returns what a person has to be told where they are not.
        """
        works = self.unsettled
        for each in works:
            if not each.is_cancelled:  # Textual cancels them with the screen
                each.cancel()
        ends = [asyncio.ensure_future(_end(each)) for each in works]
        # `asyncio.wait` cancels nothing when time is up: a worker would wait for its end all the same.
        _, pending = await asyncio.wait(ends, timeout=SETTLE_S) if ends else ((), ())
        untold, self._untold = self._untold, []
        if pending:
            untold.append(f"the swarm has not gone back to the toggles that it had in {SETTLE_S:g} s: look at them")
        return untold


async def _end(worker: Worker[None]) -> None:
    with contextlib.suppress(WorkerError):
        await worker.wait()


def _sentence(each: ContrastResult) -> str:
    return f"{each.contrast.name} {each.verdict}: {each.ratio.ratio:.3f}× ({each.ratio.low:.3f}–{each.ratio.high:.3f})"
