"""The order journal: what was committed comes back, a failed transaction leaves nothing, one process at a time."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from core.gateway.connector import Balances
from core.gateway.errors import GatewayJournalError
from core.gateway.journal import OrderJournal
from core.orders.order import ExecutionReport, Order, OrderRequest, TimeInForce
from core.records import OrderState as S

REQUEST = OrderRequest("tt-a", 1, -1, 10, 100, TimeInForce.FOK, step=4, epoch=2, index=3, position=5)
ORDER = Order(REQUEST, S.PARTIALLY_FILLED, 4, 400, 2, frozenset({7}), venue_order_id=9, reason="because")
REPORT = ExecutionReport("tt-a", S.PARTIALLY_FILLED, 7, 4, 100, 2, 4, "", 55, 1, 1, -1, 2, 3, 5)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_everything_comes_back_equal(tmp_path: Path, synchronous: str) -> None:
    journal = OrderJournal(tmp_path, synchronous)  # type: ignore[arg-type]
    assert (journal.fence(), journal.baseline(), journal.last_sequence()) == ((0, 0), None, 0)
    journal.write([ORDER], [REPORT], fence=(3, 4), baseline=Balances(10**18, (5, -6)))
    journal.close()
    journal = OrderJournal(tmp_path)
    assert journal.order("tt-a") == ORDER
    assert journal.order_of_venue_id(9) == ORDER
    assert journal.open_orders() == [ORDER]
    assert journal.orders_in([S.FILLED]) == []
    assert journal.order("tt-b") is None
    assert (journal.fence(), journal.baseline()) == ((3, 4), Balances(10**18, (5, -6)))
    assert journal.reports_since(0, 10) == [REPORT]
    assert (journal.last_sequence(), journal.last_trade_id(1), journal.last_trade_id(0)) == (1, 7, 0)
    assert journal.traded(2) == Balances(400 - 2, (0, -4))
    journal.close()


def test_reports_page_in_order(tmp_path: Path) -> None:
    journal = OrderJournal(tmp_path)
    reports = [replace(REPORT, sequence=n, trade_id=n) for n in range(1, 11)]
    journal.write(reports=reports)
    assert journal.reports_since(3, 4) == reports[3:7]
    assert journal.reports_since(10, 4) == []
    journal.close()


def test_a_refused_row_takes_its_whole_transaction_back(tmp_path: Path) -> None:
    journal = OrderJournal(tmp_path)
    journal.write([ORDER], [REPORT])
    other = replace(ORDER, request=replace(REQUEST, client_order_id="tt-b"))
    with pytest.raises(sqlite3.IntegrityError):  # the same trade a second time
        journal.write([other], [replace(REPORT, sequence=2)], fence=(9, 9))
    assert journal.order("tt-b") is None
    assert journal.fence() == (0, 0)
    journal.write([other])
    assert journal.order("tt-b") is not None
    journal.close()


def test_a_number_that_sqlite_cannot_hold_leaves_no_transaction_open(tmp_path: Path) -> None:
    journal = OrderJournal(tmp_path)
    with pytest.raises(OverflowError):
        journal.write([replace(ORDER, request=replace(REQUEST, step=2**63))])
    journal.write([ORDER])
    assert journal.order("tt-a") is not None
    journal.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    journal = OrderJournal(tmp_path)
    with pytest.raises(GatewayJournalError, match="another gateway process"):
        OrderJournal(tmp_path)
    journal.close()
    OrderJournal(tmp_path).close()
