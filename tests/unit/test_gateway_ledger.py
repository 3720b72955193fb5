"""The venue's news in any order and number: the same order, the same reports; nothing told that is not journalled."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from core.gateway import ledger as ledger_module
from core.gateway.connector import EncodedOrder, VenueTrade, VenueUpdate
from core.gateway.journal import OrderJournal
from core.gateway.ledger import OrderLedger
from core.gateway.outbox import Outbox
from core.orders.life_cycle import RefusedTransition, initialise, move
from core.orders.order import OrderRequest, TimeInForce
from core.records import OrderState as S

NAME = "tt-a"
REQUEST = OrderRequest(NAME, 0, 1, 10, 100, TimeInForce.IOC, step=1, epoch=1, index=1, position=0)


def trade(trade_id: int, lots: int) -> VenueTrade:
    return VenueTrade(trade_id, lots, 100, 1, trade_id)


def update(state: S, cumulative: int, *trades: VenueTrade, name: str = NAME) -> VenueUpdate:
    return VenueUpdate(name, 77, 0, state, cumulative, trades, "", 99)


NEWS = [
    update(S.ACCEPTED, 0),
    update(S.PARTIALLY_FILLED, 4, trade(1, 4)),
    update(S.PARTIALLY_FILLED, 7, trade(2, 3)),
    update(S.EXPIRED, 7),
    update(S.EXPIRED, 7, trade(1, 4), trade(2, 3)),  # the answer to order.place, with all of it
]


def submitted(directory: Path, count: int = 1) -> tuple[OrderLedger, OrderJournal]:
    journal = OrderJournal(directory)
    ledger = OrderLedger(journal)
    for i in range(count):
        request = replace(REQUEST, client_order_id=NAME if i == 0 else f"tt-{i}")
        ledger.stage(move(initialise(request), S.SUBMITTED))
    ledger.commit()
    return ledger, journal


def test_any_order_and_repetition_of_news_ends_alike(tmp_path: Path) -> None:
    for number, news in enumerate(itertools.permutations([*NEWS, NEWS[2]])):
        if number % 24:  # 30 of the 720 orders
            continue
        ledger, journal = submitted(tmp_path / str(number))
        for item in news:
            ledger.absorb(item)
        reports = ledger.commit()
        order = ledger.get(NAME)
        assert order is not None
        assert (order.state, order.cumulative_quantity, order.value_quanta) == (S.EXPIRED, 7, 700)
        assert (order.fee_quanta, order.trade_ids, order.venue_order_id) == (2, {1, 2}, 77)
        assert sorted(r.trade_id for r in reports if r.trade_id) == [1, 2]
        assert [r.sequence for r in reports] == list(range(1, len(reports) + 1))
        assert sum(r.state is S.EXPIRED and not r.trade_id for r in reports) == 1
        assert journal.order(NAME) == order
        journal.close()


def test_missing_fills_are_asked_for_and_not_guessed(tmp_path: Path) -> None:
    ledger, _ = submitted(tmp_path)
    missing = ledger.absorb(update(S.FILLED, 10, trade(3, 2)))
    assert missing is not None
    assert (missing.state, missing.cumulative_quantity) == (S.PARTIALLY_FILLED, 2)
    assert ledger.absorb(update(S.FILLED, 10, trade(3, 2), trade(2, 8))) is None
    order = ledger.get(NAME)
    assert order is not None
    assert order.state is S.FILLED


@pytest.mark.parametrize("committed", [True, False])
def test_a_trade_that_another_order_has_is_told_and_stops_no_commit(tmp_path: Path, committed: bool) -> None:
    journal = OrderJournal(tmp_path)
    taken: list[tuple[str, int, str]] = []
    ledger = OrderLedger(
        journal, on_taken=lambda o, t, owner: taken.append((o.request.client_order_id, t.trade_id, owner))
    )
    for name in ("tt-a", "tt-b", "tt-c"):
        instrument = 1 if name == "tt-c" else 0
        request = replace(REQUEST, client_order_id=name, instrument=instrument)
        ledger.stage(move(initialise(request), S.SUBMITTED))
    ledger.absorb(update(S.PARTIALLY_FILLED, 4, trade(1, 4)))
    if committed:
        ledger.commit()
    assert ledger.absorb(update(S.FILLED, 10, trade(1, 4), trade(2, 6), name="tt-b")) is None
    assert ledger.absorb(update(S.FILLED, 10, trade(1, 10), name="tt-c")) is None, "another instrument's own"
    ledger.commit()
    assert taken == [("tt-b", 1, "tt-a")]
    found = {name: journal.order(name) for name in ("tt-a", "tt-b", "tt-c")}
    assert {n: (o.state, o.cumulative_quantity) for n, o in found.items() if o is not None} == {
        "tt-a": (S.PARTIALLY_FILLED, 4),
        "tt-b": (S.EXPIRED, 6),
        "tt-c": (S.FILLED, 10),
    }
    # Once more, and with news that does not repeat the trade: fills are asked for as before.
    assert ledger.absorb(update(S.FILLED, 10, trade(1, 4), trade(2, 6), name="tt-b")) is None
    assert ledger.absorb(update(S.FILLED, 10, trade(2, 6), name="tt-b")) is not None
    assert ledger.commit() == []


def test_a_cancel_on_its_way_is_undone_only_by_an_answer_to_a_question(tmp_path: Path) -> None:
    ledger, _ = submitted(tmp_path)
    ledger.absorb(update(S.ACCEPTED, 0))
    order = ledger.get(NAME)
    assert order is not None
    ledger.stage(move(order, S.PENDING_CANCEL))
    ledger.absorb(update(S.ACCEPTED, 0))
    assert ledger.get(NAME).state is S.PENDING_CANCEL  # type: ignore[union-attr]
    ledger.absorb(update(S.ACCEPTED, 0), asked=True)
    assert ledger.get(NAME).state is S.ACCEPTED  # type: ignore[union-attr]


def test_foreign_orders_and_impossible_fills_are_refused(tmp_path: Path) -> None:
    ledger, _ = submitted(tmp_path)
    with pytest.raises(KeyError):
        ledger.absorb(update(S.ACCEPTED, 0, name="tt-foreign"))
    with pytest.raises(RefusedTransition):
        ledger.absorb(update(S.FILLED, 10, trade(1, 11)))
    ledger.mark(ledger.get(NAME), S.REJECTED, "no")  # type: ignore[arg-type]
    with pytest.raises(RefusedTransition):
        ledger.absorb(update(S.FILLED, 10, trade(1, 10)))


def test_reports_are_told_after_they_are_journalled_and_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    ledger, journal = submitted(tmp_path)
    ledger.absorb(NEWS[1])
    assert journal.reports_since(0, 10) == []
    told = ledger.commit()
    assert journal.reports_since(0, 10) == told
    assert ledger.commit() == []
    ledger.absorb(NEWS[2])  # lost with the process
    journal.close()

    journal = OrderJournal(tmp_path)
    ledger = OrderLedger(journal)
    assert [o.cumulative_quantity for o in ledger.unfinished()] == [4]
    ledger.absorb(NEWS[4])
    again = ledger.commit()
    assert [r.sequence for r in told + again] == [1, 2, 3]
    assert [r.trade_id for r in told + again] == [1, 2, 0]


def test_old_finished_orders_leave_memory_and_are_still_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "RECENT_MAX", 3)
    ledger, _ = submitted(tmp_path, count=10)
    for order in ledger.unfinished():
        ledger.mark(order, S.EXPIRED, "done")
        ledger.commit()
    assert len(ledger._recent) == 3
    assert ledger.get(NAME) is not None
    assert ledger.absorb(update(S.EXPIRED, 7, trade(1, 7))) is None  # a late fill of one of them
    assert ledger.get(NAME).cumulative_quantity == 7  # type: ignore[union-attr]


def encoded(name: str, instrument: int) -> EncodedOrder:
    return EncodedOrder(replace(REQUEST, client_order_id=name, instrument=instrument), 0, b"")


def test_outbox_keeps_the_order_of_an_instrument_and_the_limit() -> None:
    sent: list[str] = []
    outbox = Outbox(lambda order: sent.append(order.request.client_order_id), queued_max=10)
    outbox.put([encoded("a1", 0), encoded("a2", 0), encoded("b1", 1), encoded("c1", 2), encoded("a3", 0)], limit=2)
    assert sent == ["a1", "b1"]
    outbox.answered("b1")
    assert sent == ["a1", "b1", "c1"]
    outbox.answered("a1")
    assert sent == ["a1", "b1", "c1", "a2"]
    outbox.answered("a1")  # said twice
    assert outbox.in_flight == 2
    outbox.answered("a2")
    assert sent[-1] == "a3"
    assert outbox.room() == 10


def test_outbox_of_limit_one_is_strictly_one_after_another() -> None:
    sent: list[str] = []
    outbox = Outbox(lambda order: sent.append(order.request.client_order_id), queued_max=10)
    outbox.put([encoded(name, i) for i, name in enumerate("abc")], limit=1)
    for expected in ("a", "b", "c"):
        assert sent[-1] == expected
        assert outbox.in_flight == 1
        outbox.answered(expected)
    assert sent == ["a", "b", "c"]


def test_a_lost_link_returns_what_was_never_sent() -> None:
    sent: list[str] = []
    outbox = Outbox(lambda order: sent.append(order.request.client_order_id), queued_max=10)
    outbox.put([encoded(name, i) for i, name in enumerate("abc")], limit=1)
    assert [order.request.client_order_id for order in outbox.clear()] == ["b", "c"]
    outbox.put([encoded("d", 0)], limit=1)
    assert sent == ["a", "d"]
