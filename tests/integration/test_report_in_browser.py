"""The HTML report in a real browser: it shows its plots, prints, and asks for nothing.

`TRADETUI_REPORT=FILE TRADETUI_SCREENSHOT=OUT` take the picture of another report.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.browser import CHROMIUM, browser_page
from tests.recorded_session import recorded_session

pytestmark = [pytest.mark.prove, pytest.mark.timeout(180)]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_needs_no_network(tmp_path: Path) -> None:
    report = Path(os.environ.get("TRADETUI_REPORT", tmp_path / "report.html"))
    if "TRADETUI_REPORT" not in os.environ:
        session = recorded_session(tmp_path / "session")
        command = [sys.executable, "-m", "tui.commands", "report", str(session.directory), "--html", str(report)]
        subprocess.run(command, check=True)

    async def visit() -> tuple[list[dict[str, Any]], bytes, bytes, int]:
        async with browser_page(tmp_path / "browser", "1280,1800") as page:
            for domain in ("Page", "Network", "Log", "Runtime"):
                await page.ask(f"{domain}.enable")
            await page.ask("Page.navigate", url=report.resolve().as_uri())
            await page.listen(3.0)
            shown = "document.querySelectorAll('figure svg').length"
            plots = (await page.ask("Runtime.evaluate", expression=shown))["result"]["value"]
            picture = base64.b64decode((await page.ask("Page.captureScreenshot", format="png"))["data"])
            printed = base64.b64decode((await page.ask("Page.printToPDF", preferCSSPageSize=True))["data"])
            return page.events, picture, printed, plots

    events, picture, printed, plots = asyncio.run(visit())
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert requests == [report.resolve().as_uri()], "the file itself, and nothing else"
    complaints = [event for event in events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert complaints == []
    assert plots >= 3
    assert len(picture) > 50_000, "an empty page is a few kilobytes"
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") >= 2
    for name, data in (("TRADETUI_SCREENSHOT", picture), ("TRADETUI_PDF", printed)):
        if name in os.environ:
            Path(os.environ[name]).write_bytes(data)
