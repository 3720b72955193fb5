"""The arrows on a recording: from its first moment on, and from the picture that is shown."""

from __future__ import annotations

import asyncio

from core.records import SwarmSnapshot
from tests.tui.fixtures import START_NS, FakeClient, FakeSession, empty_snapshot
from tests.tui.test_monitor import SIZES, settle
from tui.app import SEEK_NS, MonitorApp


class Recorded(FakeClient):
    """A recording of two minutes whose first cycle ends after the first second; it plays when a test says so."""

    seekable = True
    read_only = True
    last_ns = START_NS + 120 * SEEK_NS
    now_ns = START_NS

    def seek(self, at_ns: int) -> None:
        self.now_ns = min(self.last_ns, max(START_NS, at_ns))

    def snapshot(self) -> SwarmSnapshot:
        return super().snapshot() if self.now_ns >= START_NS + SEEK_NS else empty_snapshot()


def monitor() -> tuple[MonitorApp, Recorded]:
    client = Recorded(FakeSession(seed=11, cycles=30))
    return MonitorApp(client, clock_ns=lambda: client.now_ns, tick_s=0.0), client


def test_the_arrows_go_on_from_a_start_before_the_first_cycle():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[0]) as pilot:
            assert "starting" in await settle(app, pilot)
            await pilot.press("right")
            assert "cycles/s" in await settle(app, pilot)
            assert client.now_ns == START_NS + SEEK_NS

    asyncio.run(session())


def test_the_arrows_step_from_the_frozen_picture():
    async def session():
        app, client = monitor()
        async with app.run_test(size=SIZES[0]) as pilot:
            client.seek(START_NS + 20 * SEEK_NS)
            await settle(app, pilot)
            await pilot.press("space")
            client.seek(START_NS + 50 * SEEK_NS)  # it plays on behind the picture
            await settle(app, pilot)
            await pilot.press("left")
            await settle(app, pilot)
            assert client.now_ns == START_NS + 19 * SEEK_NS

    asyncio.run(session())
