"""The monitor in a real browser: headless Chromium shows it, and its figures move."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

import pytest

from tests.integration.browser import CHROMIUM, answers, browser_page, free_port, start
from tests.integration.swarm import running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.prove, pytest.mark.timeout(300)]
SETTLE_S = 12.0


async def screenshots(profile: Path, url: str, count: int) -> list[bytes]:
    """PNGs of the page at `url`, two seconds apart."""
    found = []
    async with browser_page(profile) as page:
        await page.ask("Page.enable")
        await page.ask("Page.navigate", url=url)
        await asyncio.sleep(SETTLE_S)
        for _ in range(count):
            found.append(base64.b64decode((await page.ask("Page.captureScreenshot", format="png"))["data"]))
            await asyncio.sleep(2.0)
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_moving_figures(tmp_path: Path) -> None:
    async def sitting() -> list[bytes]:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            port = free_port()
            serve = [sys.executable, "-m", "tui.commands", "serve", "--session", str(swarm.session.directory)]
            with start([*serve, "--port", str(port)]) as server:
                try:
                    url = f"http://127.0.0.1:{port}"
                    await until(lambda: answers(url), 30, "the server")
                    return await screenshots(tmp_path / "browser", url, 3)
                finally:
                    server.terminate()

    pictures = asyncio.run(sitting())
    keep = os.environ.get("TRADETUI_SCREENSHOT")
    if keep:
        Path(keep).write_bytes(pictures[-1])
    assert all(len(picture) > 20_000 for picture in pictures), "an empty page is a few kilobytes"
    assert len(set(pictures)) == len(pictures), "the figures move"
