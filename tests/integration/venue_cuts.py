"""The link between gateway and venue, cut after any byte."""

from __future__ import annotations

import asyncio

from core.gateway.errors import VenueUnavailable
from core.records import OrderState as S
from tests.integration.venue_session import HOST, Trader, authority, entry


class CuttingProxy:
    """Passes bytes between gateway and venue, and cuts the link once so many have passed in one direction.

    The bytes up to the cut arrive, those after it never do: as when a cable is pulled. `cut_at` None never cuts.
    """

    def __init__(self, venue_port: int) -> None:
        self._venue_port = venue_port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.to_venue = True
        self.cut_at: int | None = None
        self.passed = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def arm(self, to_venue: bool, cut_at: int) -> None:
        self.to_venue, self.cut_at, self.passed = to_venue, cut_at, 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        venue_reader, venue_writer = await asyncio.open_connection(HOST, self._venue_port)
        ways = [
            asyncio.create_task(self._pass(reader, venue_writer, to_venue=True)),
            asyncio.create_task(self._pass(venue_reader, writer, to_venue=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            # What was passed on before the cut still arrives.
            writer.close()
            venue_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_venue: bool) -> None:
        while data := await reader.read(65_536):
            if self.cut_at is not None and to_venue == self.to_venue:
                left = self.cut_at - self.passed
                self.passed += len(data)
                if left <= len(data):
                    self.cut_at = None
                    writer.write(data[:left])
                    return
            writer.write(data)


async def entries_through_cuts(trader: Trader, proxy: CuttingProxy, cuts: list[tuple[bool, int]]) -> int:
    """Entries of eight orders until each cut (to the venue or from it, after so many bytes) has come; returns how many.

    The entry that met the cut is asked for again, as by a leader who heard nothing. Bytes of one entry may end just
    short of a late cut: it then falls into the next one's.
    """
    index = 0
    for to_venue, cut_at in cuts:
        await trader.settled()
        proxy.arm(to_venue, cut_at)
        while proxy.cut_at is not None:
            index += 1
            await ask(trader, index)
        await ask(trader, index)
    await trader.settled()
    return index


async def ask(trader: Trader, index: int) -> None:
    """As a leader does: again once the venue is back, until every order has its outcome."""
    while True:
        try:
            trader.gateway.advance(index)
            outcomes = await trader.gateway.execute(entry(index), authority(), in_flight=8)
        except VenueUnavailable:
            await trader.gateway.connected()
            continue
        assert all(outcome.state not in (S.INITIALISED, S.SUBMITTED, S.UNKNOWN) for outcome in outcomes)
        return
