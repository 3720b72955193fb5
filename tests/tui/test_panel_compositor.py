"""What is written row by row leaves on a terminal what Textual would have drawn from scratch."""

from __future__ import annotations

import pyte
import pytest
from textual._compositor import ChopsUpdate, CompositorUpdate

from tests.tui.test_monitor import SIZES, drive
from tui.app import MonitorApp
from tui.panel_compositor import RowsUpdate


class Terminal:
    """Shows what the app writes; a headless app writes nothing itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updates: list[CompositorUpdate] = []
        monkeypatch.setattr(MonitorApp, "_display", lambda app, screen, update: self._display(app, update))
        self._screen = pyte.Screen(1, 1)

    def _display(self, app: MonitorApp, renderable: CompositorUpdate | None) -> None:
        if renderable is not None and not app._batch_count:
            self.updates.append(renderable)
            self._write(app, self._screen, renderable)

    @staticmethod
    def _write(app: MonitorApp, screen: pyte.Screen, update: CompositorUpdate) -> None:
        width, height = app.size
        screen.resize(height, width)
        pyte.Stream(screen).feed(update.render_segments(app.console))

    def shows_what_is_drawn_from_scratch(self, app: MonitorApp) -> bool:
        fresh = pyte.Screen(1, 1)
        self._write(app, fresh, app.screen._compositor.render_full_update())
        return all(self._screen.buffer[y] == fresh.buffer[y] for y in range(fresh.lines))


@pytest.mark.parametrize("size", SIZES[:2])
def test_rows_leave_what_textual_would_have_drawn(size, monkeypatch):
    terminal = Terminal(monkeypatch)

    async def ticks(app, client, pilot) -> set[type[CompositorUpdate]]:
        terminal.updates.clear()
        for _ in range(4):
            client.session.advance(2)
            app.tick(at_once=False)
            await pilot.pause()
            assert terminal.shows_what_is_drawn_from_scratch(app)
        return {type(update) for update in terminal.updates}

    async def body(app, client, pilot):
        for screen in ("1", "2", "3", "4", "5", "6", "1"):
            await pilot.press(screen)
            await pilot.pause()
            assert RowsUpdate in await ticks(app, client, pilot), screen
        app.notify("over the panels", timeout=600)
        await pilot.pause()
        assert ChopsUpdate in await ticks(app, client, pilot)
        app.clear_notifications()
        await pilot.pause()
        await ticks(app, client, pilot)
        assert await ticks(app, client, pilot) == {RowsUpdate}
        for key in ("question_mark", "escape", "ctrl+p", "escape", "space", "space", "tab"):
            await pilot.press(key)
            await pilot.pause()
            assert terminal.shows_what_is_drawn_from_scratch(app), key
        await pilot.resize_terminal(110, 35)
        assert RowsUpdate in await ticks(app, client, pilot)

    drive(size, body)


def test_nothing_is_written_where_nothing_changed(monkeypatch):
    terminal = Terminal(monkeypatch)

    async def body(app, client, pilot):
        client.freeze_snapshot()
        for _ in range(3):
            app.tick()
            await pilot.pause()
        terminal.updates.clear()
        app.tick()
        await pilot.pause()
        assert terminal.updates == []

    drive(SIZES[1], body)
