"""The session's own venue, asked when it had which order in hand.

Over its REST interface, whatever protocol the orders take: their link is not to wait for it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from core.gateway.connector import ConnectorError
from core.session import LOOPBACK
from core.venue.credentials import Credentials
from core.venue.rest import PREFIX

TIMEOUT_S: Final = 2.0
"""Less than monitors wait for the gateway."""
ANSWER_BYTES_MAX: Final = 1 << 20
PATH: Final = f"{PREFIX}replay/times"
UNREADABLE: Final = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    asyncio.LimitOverrunError,
)
"""What a venue raises that is away, or answers what is no answer."""


class VenueTimes:
    """Implements `core.gateway.trace_answers.TracedVenue`."""

    def __init__(self, port_file: Path, credentials: Callable[[], Credentials]) -> None:
        """Both are read anew at each question: the venue may come back elsewhere."""
        self._port_file = port_file
        self._credentials = credentials

    async def after(self, after_ns: int) -> list[tuple[str, int, int]]:
        """Client order id, start and end of each order whose handling ended after `after_ns`, oldest first; ns of the
        machine's monotonic clock. Raises ConnectorError.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._get(f"after={after_ns}&timestamp={time.time_ns() // 1_000_000}")
            return [(str(name), int(start), int(end)) for name, start, end in answer["orders"]]
        except UNREADABLE as error:
            raise ConnectorError(f"the venue tells no times: {str(error) or repr(error)}") from error

    async def _get(self, query: str) -> Any:
        keys = self._credentials()
        query += "&signature=" + hmac.digest(keys.secret.encode(), query.encode(), "sha256").hex()
        port = int(self._port_file.read_text())
        reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=ANSWER_BYTES_MAX)
        try:
            head = f"GET {PATH}?{query} HTTP/1.1\r\nHost: {LOOPBACK}\r\nX-MBX-APIKEY: {keys.api_key}\r\n\r\n"
            writer.write(head.encode())
            status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            lengths = [line.partition(":")[2] for line in headers if line.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0]))
        finally:
            writer.close()
        if status.split(" ")[1] != "200":
            raise ValueError(f"{status}: {body[:200]!r}")
        return json.loads(body)
