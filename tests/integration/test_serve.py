"""The monitor in a real browser: headless Chromium shows it, and its figures move."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.integration.swarm import running_swarm, until

pytestmark = [pytest.mark.swarm, pytest.mark.prove, pytest.mark.timeout(300)]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SETTLE_S = 12.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def answers(url: str) -> Any:
    """The JSON or text at `url`, None while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.read().decode()
    except OSError:
        return None


async def screenshots(debugger: str, url: str, count: int) -> list[bytes]:
    """PNGs of the page at `url`, two seconds apart, by the DevTools protocol."""
    found = []
    async with websockets.connect(debugger, max_size=None) as socket_:
        numbers = itertools.count(1)

        async def ask(method: str, **values: Any) -> Any:
            number = next(numbers)
            await socket_.send(json.dumps({"id": number, "method": method, "params": values}))
            while True:
                message = json.loads(await socket_.recv())
                if message.get("id") == number:
                    return message["result"]

        await ask("Page.enable")
        await ask("Page.navigate", url=url)
        await asyncio.sleep(SETTLE_S)
        for _ in range(count):
            found.append(base64.b64decode((await ask("Page.captureScreenshot", format="png"))["data"]))
            await asyncio.sleep(2.0)
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_moving_figures(tmp_path: Path) -> None:
    async def sitting() -> list[bytes]:
        async with running_swarm(tmp_path, toggles="optimised") as swarm:
            port, debug = free_port(), free_port()
            serve = [sys.executable, "-m", "tui.commands", "serve", "--session", str(swarm.session.directory)]
            browse = [
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--remote-debugging-port={debug}",
                f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1400,900", "about:blank",
            ]  # fmt: skip
            with (
                start([*serve, "--port", str(port)]) as server,
                start(browse) as browser,
            ):
                try:
                    url = f"http://127.0.0.1:{port}"
                    await until(lambda: answers(url), 30, "the server")
                    await until(lambda: answers(f"http://127.0.0.1:{debug}/json/list"), 60, "the browser")
                    pages = json.loads(answers(f"http://127.0.0.1:{debug}/json/list"))
                    page = next(each for each in pages if each["type"] == "page")
                    return await screenshots(page["webSocketDebuggerUrl"], url, 3)
                finally:
                    browser.terminate()
                    server.terminate()

    pictures = asyncio.run(sitting())
    keep = os.environ.get("TRADETUI_SCREENSHOT")
    if keep:
        Path(keep).write_bytes(pictures[-1])
    assert all(len(picture) > 20_000 for picture in pictures), "an empty page is a few kilobytes"
    assert len(set(pictures)) == len(pictures), "the figures move"
