"""Headless Chromium for tests: started on a free port, spoken to by the DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import websockets

from tests.integration.swarm import until

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


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


class Page:
    """One page of a browser. `events` are those that the browser sent, oldest first."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def ask(self, method: str, **values: Any) -> Any:
        """Send a command and return its result."""
        number = next(self._numbers)
        await self._connection.send(json.dumps({"id": number, "method": method, "params": values}))
        while True:
            message = json.loads(await self._connection.recv())
            if message.get("id") == number:
                return message["result"]
            self.events.append(message)

    async def listen(self, seconds: float) -> None:
        """Take what the browser says for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self.events.append(json.loads(await self._connection.recv()))


@contextlib.asynccontextmanager
async def browser_page(profile: Path, size: str = "1400,900") -> AsyncIterator[Page]:
    """A fresh page of a browser with its own profile folder; both end with the block."""
    debug = free_port()
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--remote-debugging-port={debug}",
        f"--user-data-dir={profile}", f"--window-size={size}", "about:blank",
    ]  # fmt: skip
    with start(command) as browser:
        try:
            await until(lambda: answers(f"http://127.0.0.1:{debug}/json/list"), 60, "the browser")
            pages = json.loads(answers(f"http://127.0.0.1:{debug}/json/list"))
            page = next(each for each in pages if each["type"] == "page")
            async with websockets.connect(page["webSocketDebuggerUrl"], max_size=None) as connection:
                yield Page(connection)
        finally:
            browser.terminate()
