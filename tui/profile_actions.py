"""`e`: the profile snapshot, of the leader as it is or in A and in B."""

from __future__ import annotations

import asyncio

from textual import work

from core.toggles import Toggles
from tui.messages import (
    ProfileFailed,
    ProfileWritten,
)
from tui.monitor_base import MonitorBase
from tui.profiles import profile_shown
from tui.screens import CompareScreen, ProfileScreen

PROFILE_S = 2.0


class ProfileActions(MonitorBase):
    """One snapshot at a time."""

    def action_export(self) -> None:
        if not self._live.started:
            self._say("nothing to profile: no cycle has run yet")
            return
        if not self._may_export:
            self._say("no profile is taken from this page: its files would lie on the server")
            return
        if self._profiling:
            self._say("already profiling: one at a time")
            return
        pair = self._pair()
        if pair is not None and self._experiments.running is not None:
            self._say("nothing is profiled while an experiment runs: a stops it")
            return
        if pair is not None and (unknown := self._toggles_unknown()):
            self._say(f"nothing is profiled yet: {unknown}; e again")
            return
        self._profiling, self._pairing = True, pair is not None
        self._export_work = self._export(self.export_screenshot(title="tradetui", simplify=True), pair)
        self.tick()

    def _pair(self) -> tuple[Toggles, Toggles] | None:
        """On the compare screen the two settings of the last experiment; none for a factorial design or a recording."""
        state = self._live.experiment
        if self.current_mode != CompareScreen.MODE or self._client.read_only or state is None:
            return None
        cells = state.result.design.cells if state.result is not None else ()
        return (cells[0], cells[1]) if len(cells) == 2 else None

    @work(group="profile", exit_on_error=False)
    async def _export(self, svg: str, settings: tuple[Toggles, Toggles] | None) -> None:
        try:
            if settings is None:
                pair = None
                folder = await self._client.export_profile(self._export_directory, svg, PROFILE_S)
            else:
                directory, tell = self._export_directory, self._not_back
                folder, pair = await self._client.export_pair(directory, svg, PROFILE_S, *settings, tell)
            shown = await asyncio.to_thread(profile_shown, folder, pair, self._live.snapshot.toggles)
        except Exception as error:  # as above: told, and the monitor goes on
            self.post_message(ProfileFailed(f"{type(error).__name__}: {error}"))
        else:
            self.post_message(ProfileWritten(folder, shown))

    def on_profile_written(self, message: ProfileWritten) -> None:
        self._profiling = self._pairing = False
        if message.shown is not None:
            self._profile = message.shown
            for screen in self.screen_stack:
                if isinstance(screen, ProfileScreen):
                    screen.show_tab("flame")
        self.notify(str(message.folder), title="profile snapshot written to", timeout=15, markup=False)
        self.tick()

    def on_profile_failed(self, message: ProfileFailed) -> None:
        self._profiling = self._pairing = False
        self.notify(message.reason, title="no profile snapshot", severity="error", timeout=15, markup=False)
        self.tick()
