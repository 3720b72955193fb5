"""The venue's checkpoints: memory forgets what ended, no answer does, and a restart reads the journal's tail only."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from core.orders.order import TimeInForce as T
from core.orders.scale import MarketScale
from core.venue import exchange as exchange_module
from core.venue.account import VenueOrder
from core.venue.archive import ARCHIVE_NAME, EVENTS_BETWEEN, OrderArchive
from core.venue.events import AccountOpened, VenueEvent
from core.venue.exchange import Exchange, NewOrder
from core.venue.journal import JournalError, VenueJournal, read_events
from core.venue.order_book import BUY, SELL
from core.venue.process import TRADER, Venue, journal_path
from core.venue.rejects import VenueReject
from core.venue.settings import ExchangeSettings, VenueSettings

OWNERS = (1, 2)
SYMBOLS = ("AAA", "BBB")
SCALE = MarketScale.of(SYMBOLS, "0.01", "1")
RULES = ExchangeSettings()
EVERY = 20


class Counting(Exchange):
    """Counts the events that a restart applies."""

    applied = 0

    def apply(self, event: VenueEvent) -> VenueOrder | None:
        self.applied += 1
        return super().apply(event)


class Files:
    """A journal, an archive and the exchange that they bring back."""

    def __init__(self, folder: Path, scale: MarketScale = SCALE) -> None:
        self.journal = VenueJournal(folder / "j")
        self.archive = OrderArchive(folder / "a", events_between=EVERY)
        self.exchange = Counting(scale, RULES, archive=self.archive)

    def recover(self) -> Counting:
        self.exchange.recover(self.journal)
        return self.exchange

    def publish(self) -> None:
        self.journal.append([item.event for item in self.exchange.take_happened()])
        if self.exchange.is_checkpoint_due:
            self.exchange.checkpoint(self.journal.position)

    def close(self) -> None:
        self.archive.close()
        self.journal.close()


def recovered(folder: Path) -> Exchange:
    """The journal replayed whole. What the checkpoint and the events behind it bring back answers alike."""
    files = Files(folder)
    try:
        files.recover()
        seen = everything(files.exchange)
        whole = Exchange(SCALE, RULES)
        whole.restore(read_events(folder / "j"))
        assert seen == everything(whole)
    finally:
        files.close()
    return whole


def trade_a_while(files: Files, source: random.Random, requests: int) -> None:
    """Orders that fill, rest, are cancelled and replaced, of two accounts that trade with each other too."""
    exchange = files.exchange
    if not exchange.accounts:
        for owner in OWNERS:
            exchange.open_account(owner, 10**12, 0)
    for _ in range(requests):
        now = exchange.events_total
        if exchange.step < 0 or source.random() < 0.05:
            exchange.advance(exchange.step + 1, [10_000 + source.randint(-40, 40), 20_000], now)
        owner, name = source.choice(OWNERS), f"o{exchange.events_total}"
        resting = exchange.open_orders(owner)
        what = source.random()
        if resting and what < 0.15:
            exchange.cancel(owner, source.choice(resting).order_id, None, "c", now)
        elif resting and what < 0.35:
            order = source.choice(resting)
            lots = order.executed_lots + source.randint(1, 6)
            if (lots, order.client_order_id) != (order.quantity_lots, name):
                exchange.replace(owner, order.order_id, None, name, order.price_ticks - 1, lots, now)
        else:
            price = 10_000 + source.randint(-40, 40)
            terms = source.choice([T.GTC, T.GTC, T.IOC])
            exchange.place(
                owner, NewOrder(name, 0, source.choice([BUY, SELL]), price, source.randint(1, 9), terms), now
            )
        files.publish()


def everything(exchange: Exchange) -> list[object]:
    """Every answer that an exchange has to give about what was."""
    found: list[object] = [exchange.step, exchange.closes, exchange.events_total]
    for owner in exchange.accounts:
        account, orders = exchange.accounts[owner], sorted(exchange.orders_of(owner), key=lambda o: o.order_id)
        found += [account.cash, account.base, exchange.open_orders(owner), account.locked_cash(RULES), orders]
        found += [exchange.order(owner, order.order_id, None) for order in orders]
        found += [exchange.order(owner, None, order.client_order_id) for order in orders]
        found += [exchange.trades_of(order) for order in orders]
        ids = [0, 1, *(trade.trade_id for trade in exchange.trades(owner, 0, 0, 10**6))]
        found += [exchange.trades(owner, 0, first, limit) for first in ids[::7] for limit in (1, 30, 10**6)]
        found += [
            exchange.page(owner, 0, first, limit) for first in (None, 0, 5, 60, 10**30) for limit in (1, 7, 1_000)
        ]
        found += [exchange.page(owner, 1, None, 9), exchange.trades(owner, 0, 10**30)]
    found += [exchange.recent(instrument, limit) for instrument in (0, 1) for limit in (1, 2, 25, 1_000)]
    # As they queue; the house's quotes are made anew at a restart.
    found += [[entry[0] for entry in book_side if entry[1] in OWNERS] for book_side in queues(exchange)]
    return found


def queues(exchange: Exchange) -> list[list[tuple[int, int, int]]]:
    return [exchange._books[0].queue(side, price) for side in (BUY, SELL) for price in range(9_900, 10_100)]


@pytest.mark.parametrize("seed", range(4))
def test_no_answer_depends_on_what_memory_still_holds_or_on_restarts(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    events = forgotten = 0
    for _ in range(4):
        files = Files(tmp_path)
        exchange = files.recover()
        resting = sum(len(exchange.open_orders(owner)) for owner in exchange.accounts)
        assert exchange.events_total == events
        assert exchange.applied <= EVERY + resting + 12, "a restart reads the tail only"
        trade_a_while(files, source, 60)
        events = exchange.events_total
        resting = sum(len(exchange.open_orders(owner)) for owner in OWNERS)
        assert len(exchange._orders) <= 2 * resting + EVERY
        assert len(exchange._trades[0]) <= resting + EVERY
        files.close()
        whole = recovered(tmp_path)
        forgotten += len(whole._orders) - len(exchange._orders)
    assert forgotten > 100
    assert len(list(read_events(tmp_path / "j"))) == events, "the journal keeps everything, for verify"


def test_an_order_that_memory_forgot_is_still_never_taken_twice(tmp_path: Path) -> None:
    files = Files(tmp_path)
    exchange = files.recover()
    trade_a_while(files, random.Random(1), 200)
    first = min((o for o in exchange.orders_of(1) if not o.is_open), key=lambda order: order.order_id)
    assert first.order_id not in exchange._orders
    assert (1, first.client_order_id) not in exchange._by_client
    terms = (first.instrument, first.side, first.price_ticks, first.quantity_lots, T(first.time_in_force))
    events = exchange.events_total
    assert exchange.place(1, NewOrder(first.client_order_id, *terms), 9) == (first, True)
    with pytest.raises(VenueReject, match="-2010 Duplicate"):
        exchange.place(1, replace(NewOrder(first.client_order_id, *terms), quantity_lots=77), 9)
    events += 1
    resting, _ = exchange.place(1, NewOrder("rests", 1, BUY, 10_000, 5, T.GTC), 9)
    with pytest.raises(VenueReject, match="-2010 Duplicate"):
        exchange.replace(1, resting.order_id, None, first.client_order_id, resting.price_ticks - 1, 5, 9)
    for order_id, name in ((10**30, None), (-1, None), (0, None), (None, "\ud800"), (None, "never")):
        with pytest.raises(VenueReject, match="-2013"):
            exchange.order(1, order_id, name)
    with pytest.raises(VenueReject, match="-2013"):
        exchange.order(2, first.order_id, None)
    assert exchange.events_total == events
    files.close()


def traded(folder: Path) -> None:
    files = Files(folder)
    files.recover()
    trade_a_while(files, random.Random(3), 120)
    for path in folder.iterdir():  # as SIGKILL leaves them: the archive's last checkpoints in its write-ahead log
        shutil.copy(path, folder.parent / path.name)
    files.close()


def test_killed_at_any_byte_of_a_checkpoint_it_comes_back_as_the_journal_has_it(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    traded(tmp_path / "live")
    log = (tmp_path / "a-wal").read_bytes()
    assert log
    killed, checkpoints = tmp_path / "killed", set()
    for size in (*range(0, len(log), len(log) // 40), len(log) - 1, len(log)):
        shutil.rmtree(killed, ignore_errors=True)
        killed.mkdir()
        for name in ("j", "a"):
            shutil.copy(tmp_path / name, killed / name)
        (killed / "a-wal").write_bytes(log[:size])
        archive = OrderArchive(killed / "a")
        checkpoints.add(archive.checkpoint())
        archive.close()
        recovered(killed)
    assert len(checkpoints) > 3


def test_an_archive_that_is_ahead_of_the_journal_is_made_anew(tmp_path: Path) -> None:
    """As after a power cut, or with a journal put back from an older copy."""
    (tmp_path / "live").mkdir()
    traded(tmp_path / "live")
    path = tmp_path / "live" / "j"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    whole = recovered(tmp_path / "live")
    files = Files(tmp_path / "live")
    exchange = files.recover()
    assert exchange.events_total == whole.events_total
    trade_a_while(files, random.Random(4), 60)  # and goes on: nothing of the other half is in the way
    files.close()
    recovered(tmp_path / "live")


def test_damage_before_the_checkpoint_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    traded(tmp_path / "live")
    path = tmp_path / "live" / "j"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    files = Files(tmp_path / "live")
    with pytest.raises(JournalError, match="is damaged at byte"):
        files.recover()
    files.close()
    assert path.read_bytes() == bytes(data)


@pytest.mark.parametrize("content", ["gone", "garbage", "format", "torn"])
def test_what_is_no_archive_is_made_anew_from_the_journal(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "EVENTS_AT_RESTART", 30)
    traded_in = tmp_path / "live"
    traded_in.mkdir()
    traded(traded_in)
    path = traded_in / "a"
    if content == "gone":
        path.unlink()
    elif content == "garbage":
        path.write_bytes(b"no database" * 1_000)
    elif content == "torn":
        path.write_bytes(path.read_bytes()[:5_000])
    else:
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 999")
        db.close()
    recovered(traded_in)
    files = Files(traded_in)
    assert files.recover().applied < 60, "and it has a checkpoint again"
    files.close()


def test_a_checkpoint_of_another_number_of_instruments_is_not_taken(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.recover()
    files.exchange.open_account(1, 5, 0)
    files.publish()
    files.exchange.checkpoint(files.journal.position)
    files.close()
    files = Files(tmp_path, MarketScale.of((*SYMBOLS, "CCC"), "0.01", "1"))
    assert files.recover().applied == 1
    assert files.exchange.accounts[1].base == [0, 0, 0]
    files.close()


def test_a_checkpoint_that_cannot_be_written_says_what_to_do_and_loses_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path)
    exchange = files.recover()
    trade_a_while(files, random.Random(5), 30)
    orders = dict(exchange._orders)
    files.archive._db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalError, match=r"a cannot be used: .* readonly database; make room, or stop the venue and"):
        exchange.checkpoint(files.journal.position)
    assert exchange._orders == orders
    files.archive._db.execute("PRAGMA query_only = OFF")
    exchange.checkpoint(files.journal.position)
    files.close()
    recovered(tmp_path)


class StillPrices:
    recorded_book = None

    def advance_to(self, step: int) -> Sequence[int]:
        return [10_000, 20_000]


def test_the_venue_makes_checkpoints_behind_its_answers_and_comes_back_from_them(tmp_path: Path) -> None:
    settings = VenueSettings(tmp_path / "venue", tmp_path / "keys" / "venue.json")

    async def work() -> None:
        venue = Venue(settings, SCALE, StillPrices())
        await venue.start()
        for at in range(EVENTS_BETWEEN):
            venue.exchange.place(TRADER, NewOrder(f"o{at}", 0, BUY, 10_100, 1, T.IOC), at)
            venue.server.publish()
            kept = len(venue.exchange._orders)
            await asyncio.sleep(0)
        assert kept < EVENTS_BETWEEN // 2
        ours = [astuple(order) for order in venue.exchange.orders_of(TRADER)]
        assert len(ours) == EVENTS_BETWEEN
        await venue.stop()
        again = Venue(settings, SCALE, StillPrices())
        assert [astuple(order) for order in again.exchange.orders_of(TRADER)] == ours
        assert len(again.exchange._orders) < EVENTS_BETWEEN // 2
        await again.stop()

    asyncio.run(work())
    assert (settings.directory / ARCHIVE_NAME).stat().st_mode & 0o777 == 0o600
    assert isinstance(next(read_events(journal_path(settings.directory))), AccountOpened)


def test_a_venue_whose_archive_cannot_be_written_ends(tmp_path: Path) -> None:
    settings = VenueSettings(tmp_path / "venue", tmp_path / "keys" / "venue.json")

    async def work() -> None:
        venue = Venue(settings, SCALE, StillPrices())
        await venue.start()
        venue.archive._db.execute("PRAGMA query_only = ON")
        for at in range(EVENTS_BETWEEN // 2 + 1):
            venue.exchange.place(TRADER, NewOrder(f"o{at}", 0, BUY, 10_100, 1, T.IOC), at)
            venue.server.publish()
        with pytest.raises(JournalError, match="the venue makes it again from its journal"):
            await venue.serve_until(asyncio.Event())
        await venue.stop()

    asyncio.run(work())
    again = Venue(settings, SCALE, StillPrices())
    assert len(again.exchange.orders_of(TRADER)) == EVENTS_BETWEEN // 2 + 1
    asyncio.run(again.stop())


def test_a_damaged_archive_ends_the_venue_and_is_made_anew_at_the_next_start(tmp_path: Path) -> None:
    """Not found damaged at the start, but where a question needs it."""
    settings = VenueSettings(tmp_path / "venue", tmp_path / "keys" / "venue.json")
    path = settings.directory / ARCHIVE_NAME

    async def work() -> None:
        venue = Venue(settings, SCALE, StillPrices())
        await venue.start()
        for at in range(EVENTS_BETWEEN):
            venue.exchange.place(TRADER, NewOrder(f"o{at}", 0, BUY, 10_100, 1, T.IOC), at)
            venue.server.publish()
            await asyncio.sleep(0)
        venue.archive._db.execute("PRAGMA writable_schema = ON")
        (root,) = venue.archive._db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orders'").fetchone()
        size = venue.archive._db.execute("PRAGMA page_size").fetchone()[0]
        venue.archive._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await venue.stop()
        with path.open("r+b") as file:
            file.seek((root - 1) * size)
            file.write(b"\xff" * size)
        again = Venue(settings, SCALE, StillPrices())
        await again.start()
        with pytest.raises(JournalError, match="made again from the journal"):
            again.exchange.orders_of(TRADER)
        with pytest.raises(JournalError, match="made again from the journal"):
            await asyncio.wait_for(again.serve_until(asyncio.Event()), 5)
        await again.stop()

    asyncio.run(work())
    healed = Venue(settings, SCALE, StillPrices())
    assert len(healed.exchange.orders_of(TRADER)) == EVENTS_BETWEEN
    asyncio.run(healed.stop())
