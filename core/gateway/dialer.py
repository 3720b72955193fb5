"""What connectors with a socket of their own do alike: open the link in time, and fail what waits for an answer."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any

from core.gateway.connector import ConnectorError


class Dialer:
    """Where a venue listens, asked anew at each connect: it may come back elsewhere."""

    def __init__(self, endpoint: Callable[[], tuple[str, int]], timeout_ms: float, tls: bool) -> None:
        """What `endpoint` (host, port) raises as OSError or RuntimeError counts as "not there yet"."""
        self._endpoint = endpoint
        self._timeout_ms = timeout_ms
        self._tls = tls

    @property
    def tls(self) -> bool:
        return self._tls

    async def open(
        self,
        protocol_of: Callable[[str, int], asyncio.Protocol],
        greet: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Connect and `greet`; where either fails or takes too long, `close` and raise ConnectorError or OSError."""
        try:
            host, port = self._endpoint()
        except RuntimeError as error:
            raise ConnectorError(str(error)) from error
        protocol, name = protocol_of(host, port), host if self._tls else None
        try:
            async with asyncio.timeout(self._timeout_ms / 1e3):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: protocol, host, port, ssl=self._tls or None, server_hostname=name)
                await greet()
        except TimeoutError:
            await close()
            raise ConnectorError(f"venue at {host}:{port} does not answer") from None
        except (ConnectorError, OSError):
            await close()
            raise


def fail(future: Future[Any], error: BaseException) -> None:
    """Fail a future that perhaps nobody waits for: that wants no warning."""
    if not future.done():
        future.set_exception(error)
        future.exception()
