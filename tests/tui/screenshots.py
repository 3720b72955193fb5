"""Pictures of every screen, the same every time: `python -m tests.tui.screenshots [folder]`.

Writes `{screen}-{80x24,120x40,200x50}.svg` by Textual's export and the same as PNG by resvg with Fira Code. Where that
font is not installed it says so and takes the machine's own monospace. Most show a recorded sitting, which
`tests.tui.recorded` records anew; experiment and traced cycle are of the invented session, and their caption says so.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import resvg_py
from textual.pilot import Pilot

from core.folded_stacks import flame
from tests.tui.fixtures import FakeClient, FakeSession
from tests.tui.recorded import RecordedClient, load
from tests.tui.test_screens import play
from tui.app import MonitorApp
from tui.screens import KEY_OF_SCREEN
from tui.view import ProfileShown

SIZES = ((80, 24), (120, 40), (200, 50))


CYCLES_A_TICK = 5
INVENTED = ("compare", "cycle")


async def rehearse(app: MonitorApp, client: RecordedClient, pilot: Pilot[bool]) -> None:
    """Play the recorded sitting, a tick now and then, so that history fills and the effect is measured."""
    for cycles in range(CYCLES_A_TICK, client.length + 1, CYCLES_A_TICK):
        client.show(cycles)
        app.tick()
        if cycles == CYCLES_A_TICK:
            await pilot.pause()  # the first nodes change the layout
    client.show(client.length)
    app.tick(at_once=True)


async def take_invented(mode: str, columns: int, rows: int) -> str:
    """SVG of a screen that the recorded sitting has nothing for."""
    session = FakeSession(seed=11, cycles=120)
    session.captions = ("an invented session: no figure here was measured",)
    client = FakeClient(session)
    app = MonitorApp(client, clock_ns=lambda: session.now_ns, tick_s=0.0)
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause()
        app.tick()
        for keys in (("b", "p"), ("s",), ("b",)):
            play(app, client, keys)
        session.advance(220)
        await pilot.press(KEY_OF_SCREEN[mode])
        for _ in range(3):
            app.tick()
            await pilot.pause()
        return app.export_screenshot(title="tradetui", simplify=True)


async def take(mode: str, columns: int, rows: int) -> str:
    """SVG of a screen at this size."""
    if mode in INVENTED:
        return await take_invented(mode, columns, rows)
    recording, ladder, folded = load()
    client = RecordedClient(recording, ladder)
    client.show(1)
    app = MonitorApp(client, clock_ns=lambda: client.now_ns, tick_s=0.0)
    if folded is not None:
        app._profile = ProfileShown("the leader, two seconds later", flame(folded))
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause()
        await rehearse(app, client, pilot)
        await pilot.press(KEY_OF_SCREEN[mode])
        await pilot.pause()
        app.tick(at_once=True)
        await pilot.pause()
        return app.export_screenshot(title="tradetui", simplify=True)


def font_files() -> list[str]:
    """Paths of the installed Fira Code faces; empty when it is missing or fontconfig is."""
    if shutil.which("fc-list") is None:
        return []
    listed = subprocess.run(["fc-list", ":family=Fira Code", "file"], capture_output=True, text=True, check=True)
    return sorted(line.rstrip(": ") for line in listed.stdout.splitlines() if line.strip())


def to_png(svg: str, fonts: list[str]) -> bytes:
    """Render without the network: web fonts are cut out, the family is the installed one."""
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return resvg_py.svg_to_bytes(
        svg_string=svg,
        font_files=fonts or None,
        monospace_family="Fira Code" if fonts else None,
        font_family="Fira Code" if fonts else None,
        zoom=1.0,
    )


def main(folder: Path) -> None:
    os.environ["TZ"] = "UTC"  # the same times of day wherever the pictures are made
    time.tzset()
    fonts = font_files()
    if not fonts:
        print("Fira Code is not installed (Debian: fonts-firacode); PNGs use the machine's monospace", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    for mode, (columns, rows) in product(KEY_OF_SCREEN, SIZES):
        svg = asyncio.run(take(mode, columns, rows))
        stem = folder / f"{mode}-{columns}x{rows}"
        stem.with_suffix(".svg").write_text(svg, encoding="utf-8")
        stem.with_suffix(".png").write_bytes(bytes(to_png(svg, fonts)))
        print(stem.with_suffix(".svg"), stem.with_suffix(".png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "screenshots")
