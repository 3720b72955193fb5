"""QuickFIX as initiator against our venue: logon, orders, fills, cancel, replace, and a drop with ResendRequest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from core.venue.credentials import load_credentials
from core.venue.process import TRADER, Venue
from tests.integration.own_process import in_own_process
from tests.integration.venue_session import running_venue, venue_settings

side = pytest.importorskip("tests.integration.quickfix_side", reason="QuickFIX is not installed here")


def with_quickfix(folder: Path, body: Callable[[object, Venue, asyncio.AbstractEventLoop], None]) -> None:
    """Run `body(trader, venue, loop)` in a thread beside a running venue."""

    async def work() -> None:
        async with asyncio.timeout(90), running_venue(folder) as (venue, _):
            keys = load_credentials(venue_settings(folder).keys_file)
            trader = side.Trader(folder / "quickfix", venue.fix_port, keys.api_key, keys.secret)
            loop = asyncio.get_running_loop()

            def run() -> None:
                trader.start()
                body(trader, venue, loop)

            await asyncio.to_thread(run)

    asyncio.run(work())


@in_own_process
def test_orders_fills_cancel_replace_status_and_refusals(tmp_path: Path) -> None:
    def body(trader, venue, loop):  # type: ignore[no-untyped-def]
        trader.order("fill", "1", "5", "120.00")
        trader.until("fill", "0", "F")
        filled = trader.heard[-1]
        assert (filled[39], filled[14], filled[151], filled[32]) == ("2", "5", "0", "5")
        assert float(filled[6]) == float(filled[31]) == 100.01
        trader.order("market", "2", "5", None)
        trader.until("market", "0", "F")
        trader.order("none", "1", "5", "90.00", in_force="4")
        trader.until("none", "0", "C")
        trader.order("maker", "1", "5", "120.00", t18="6")
        trader.until("maker", "8")
        assert trader.heard[-1][58].startswith("-2010 Order would immediately match")
        trader.order("rest", "1", "10", "90.00")
        trader.until("rest", "0")
        trader.send("G", t11="less", t41="rest", t55="S0", t54="1", t38="4", t40="2", t44="90.00")
        trader.until("less", "5")
        assert (trader.heard[-1][41], trader.heard[-1][151]) == ("rest", "4")
        trader.send("G", t11="dear", t41="less", t55="S0", t54="1", t38="4", t40="2", t44="120.00")
        trader.until("dear", "5", "F")
        trader.order("rest-2", "1", "10", "90.00")
        trader.until("rest-2", "0")
        trader.send("AF", t584="all", t585="7")
        side.wait_for(lambda: trader.heard[-1].get(584) == "all", "the mass status")
        assert (trader.heard[-1][11], trader.heard[-1][911], trader.heard[-1][912]) == ("rest-2", "1", "Y")
        trader.send("F", t11="cancel", t41="rest-2", t55="S0", t54="1", t38="10")
        trader.until("rest-2", "4", original=True)
        trader.send("F", t11="again", t41="rest-2", t55="S0", t54="1", t38="10")
        side.wait_for(lambda: trader.heard[-1][35] == "9", "the cancel is refused")
        assert (trader.heard[-1][434], trader.heard[-1][58]) == ("1", "-2011 Unknown order sent.")
        trader.send("G", t11="gone", t41="never", t55="S0", t54="1", t38="4", t40="2", t44="90.00")
        side.wait_for(lambda: trader.heard[-1].get(11) == "gone", "the replacement is refused")
        assert (trader.heard[-1][434], trader.heard[-1][102]) == ("2", "1")
        trader.send("H", t11="fill", t55="S0", t54="1")
        trader.until("fill", "0", "F", "I")
        trader.send("H", t11="never", t55="S0", t54="1")
        side.wait_for(lambda: trader.heard[-1].get(11) == "never", "a status of nothing")
        assert (trader.heard[-1][150], trader.heard[-1][39]) == ("I", "8")
        for name, changes, code in (
            ("fill", {"t38": "6"}, "-2010"),
            ("tick", {"t44": "90.001"}, "-1013"),
            ("lots", {"t38": "0.5"}, "-1013"),
            ("symbol", {"t55": "NOPE"}, "-1121"),
            ("force", {"t59": "6"}, "-1115"),
        ):
            terms = {"t11": name, "t55": "S0", "t54": "1", "t38": "5", "t40": "2", "t44": "90.00", "t59": "1"}
            count = len(trader.heard)
            trader.send("D", **terms | changes)
            side.wait_for(lambda count=count: len(trader.heard) > count, f"{name} is refused")
            assert trader.heard[-1][150] == "8"
            assert trader.heard[-1][58].startswith(code)
        trader.send("AF", t584="none", t585="7")
        side.wait_for(lambda: trader.heard[-1].get(584) == "none", "the mass status of nothing")
        assert trader.heard[-1][911] == "0"
        assert not [m for m in trader.administrative if m[35] == "3"], "QuickFIX or we rejected a message"
        assert venue.exchange.accounts[TRADER].base[0] == 4

    with_quickfix(tmp_path, body)


@in_own_process
def test_a_drop_is_made_good_by_a_resend(tmp_path: Path) -> None:
    def body(trader, venue, loop):  # type: ignore[no-untyped-def]
        trader.order("rest", "1", "10", "99.00")
        trader.until("rest", "0")

        def drop_and_fill() -> None:
            """The fill happens while nobody is connected: the session owes it."""
            venue.fix.drop_links()
            loop.call_later(0.05, fill)

        def fill() -> None:
            venue.exchange.advance(1, [9_000] * 5, 1)
            venue.server.publish()

        loop.call_soon_threadsafe(drop_and_fill)
        side.wait_for(lambda: trader.logons == 2, "QuickFIX logs on again")
        trader.until("rest", "0", "F")
        assert trader.heard[-1][43] == "Y", "it must have come as a possible duplicate, by resend"
        trader.order("after", "2", "10", "80.00")
        trader.until("after", "0", "F")
        assert trader.reports("rest") == ["0", "F"]

    with_quickfix(tmp_path, body)


@in_own_process
def test_a_logon_with_a_wrong_secret_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with running_venue(tmp_path) as (venue, _):
            keys = load_credentials(venue_settings(tmp_path).keys_file)
            trader = side.Trader(tmp_path / "quickfix", venue.fix_port, keys.api_key, "wrong")
            trader._initiator.start()
            await asyncio.sleep(0.5)
            assert not trader.is_on.is_set()

    asyncio.run(work())
