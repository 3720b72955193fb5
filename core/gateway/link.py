"""The gateway's link to its venue: connect, reconcile, stay connected; reconcile again on a timer and when asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from core.essential import essential
from core.gateway.connector import Connector, ConnectorError, VenueUpdate
from core.gateway.placement import Placement
from core.gateway.reconcile import Reconciler
from core.gateway.settings import GatewaySettings
from core.records import VenueState


class VenueLink:
    """Keeps one connector connected. It is what the connector tells (`connector.LinkHandler`)."""

    def __init__(
        self,
        settings: GatewaySettings,
        connector: Connector,
        placement: Placement,
        reconciler: Reconciler,
        on_state: Callable[[VenueState, str], None],
        on_error: Callable[[str], None],
    ) -> None:
        """`on_error` hears what no venue should bring about: a message that nobody understood, a journal on a full
        disk. The link is then closed and opened again; it must not raise, nor must `on_state`.
        """
        self.state = VenueState.UNKNOWN
        self.reason = "not connected yet"
        self._settings = settings
        self._connector = connector
        self._placement = placement
        self._reconciler = reconciler
        self._on_state = on_state
        self._on_error = on_error
        self._is_lost = False
        self._wake = asyncio.Event()
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Connected and reconciled."""
        return self.state is VenueState.CONNECTED

    def start(self) -> None:
        self._task = essential(self._stay_connected())

    async def connected(self) -> None:
        """Returns once the venue is connected and reconciled. Raises what ended the link for good."""
        assert self._task is not None, "start first"
        waiting = asyncio.ensure_future(self._connected.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
        finally:
            waiting.cancel()

    async def stop(self) -> None:
        """Close the link; it is not opened again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._connector.close()

    def reconcile_soon(self) -> None:
        """Compare journal and venue now, not at the next interval: a new leader has taken over."""
        self._wake.set()

    async def give_up(self, reason: str) -> None:
        """This link is of no use any more: close it and connect anew."""
        if self.is_connected:
            await self._close()
            self.lost(reason)

    async def _stay_connected(self) -> None:
        settings = self._settings
        backoff_ms = settings.backoff_min_ms
        while True:
            self._is_lost = False
            self._wake.clear()
            try:
                await self._connector.connect(self)
                self._set_state(VenueState.RECONCILING, "comparing the journal with the venue")
                await self._reconciler.run()
                if self._is_lost:
                    raise ConnectorError(self.reason)
                backoff_ms = settings.backoff_min_ms
                self._placement.settle_known()
                self._set_state(VenueState.CONNECTED, "")
                self._placement.commit()  # halted meanwhile: what the venue still holds is cancelled now
                await self._reconcile_until_lost()
            except Exception as error:
                await self._end_link(error)
                await asyncio.sleep(backoff_ms / 1e3)
                backoff_ms = min(2 * backoff_ms, settings.backoff_max_ms)

    async def _end_link(self, error: Exception) -> None:
        """Whatever it was: a venue that is not connected is DOWN, and is tried again."""
        is_usual = isinstance(error, ConnectorError | OSError)
        if not is_usual:
            self._on_error(f"the link to the venue failed and is opened anew: {error!r}")
        await self._close()
        if not self._is_lost:
            self.lost(str(error) if is_usual else repr(error))

    async def _close(self) -> None:
        try:
            await self._connector.close()
        except Exception as error:
            self._on_error(f"the link to the venue did not close: {error!r}")

    async def _reconcile_until_lost(self) -> None:
        """Each interval and when asked, beside trading. Raises ConnectorError where the venue does not answer."""
        while not self._is_lost:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.reconcile_interval_s or None):
                    await self._wake.wait()
            self._wake.clear()
            if not self._is_lost:
                await self._reconciler.run(self._placement.under_way)

    def _set_state(self, state: VenueState, reason: str) -> None:
        self.state, self.reason = state, reason
        if state is VenueState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
        self._on_state(state, reason)

    # LinkHandler

    def updated(self, update: VenueUpdate) -> None:
        """An event of the user stream."""
        self._placement.updated(update)

    def drained(self) -> None:
        """One commit for everything that one read brought. Where it fails, all of it waits for the next one."""
        try:
            self._placement.commit()
        except Exception as error:
            self._on_error(f"the venue's news could not be journalled: {error!r}")

    def lost(self, reason: str) -> None:
        """The link is gone: DOWN at once; what was never sent expires, what was sent is unknown."""
        self._is_lost = True
        self._wake.set()
        self._set_state(VenueState.DOWN, reason)
        try:
            self._placement.link_lost(reason)
        except Exception as error:
            self._on_error(f"the loss of the link could not be journalled: {error!r}")
