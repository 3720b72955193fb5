"""What monitors are told comes back as it was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.records import EventRow, NodeStatus, OrderRow, OrderState, PeerLink, PositionRow, Severity
from core.telemetry_messages import (
    GatewayReport,
    NodeReport,
    cycle_from_dict,
    cycle_to_dict,
    epoch_from_dict,
    epoch_to_dict,
    gateway_report,
    node_report,
    pack,
    report_message,
    unpack,
)
from core.toggles import OPTIMISED
from net.consensus import ReplicaStatus
from net.epoch import make_epoch, with_fast_path
from net.membership import all_voters
from net.messages import Mode
from tests.tui.recorded import load


def test_cycle_records() -> None:
    for record in load()[0].cycles[-3:]:
        back = cycle_from_dict(unpack(pack(cycle_to_dict(record))))
        for name in ("count", "inclusive_ms", "exclusive_ms", "background_ms"):
            assert np.array_equal(getattr(back, name), getattr(record, name))
        assert (back.cycle, back.toggles, back.wall_ms) == (record.cycle, record.toggles, record.wall_ms)


def test_node_and_gateway_reports() -> None:
    replica = ReplicaStatus(1, Mode.AUTO, 2, 3, 0, "follower", 10, 11, ((0, 9), (2, 8)), 5, 6, 7, 1, ("node 3 lied",))
    status = NodeStatus(1, 99, True, 4, 1, "following", replica, (PeerLink(0, True, 0.5, False, 0, ""),), "strict")
    status = replace(status, turned_away=(("answered with Retry", 3), ("wrong certificate", 1)))
    event = EventRow(1, Severity.WARNING, "node 1", "text")
    node = NodeReport(status, OPTIMISED, 1, 2, 3, (PositionRow("A", 1, 2, 3, 4, 5),), 1.5, 2.5, (event,), ("c",), "m")
    assert node_report(report_message(node).body) == node
    order = OrderRow("id", 1, "A", "buy", 1, 2, OrderState.FILLED, 1, 2, 0.1, "")
    gateway = GatewayReport(7, "connected", 3, 2, 1, (order,), (event,))
    assert gateway_report(report_message(gateway).body) == gateway


@pytest.mark.parametrize("read", [unpack, node_report, gateway_report])
def test_garbage_is_refused(read: Callable[[bytes], object]) -> None:
    with pytest.raises(ValueError, match="malformed telemetry"):
        read(b"\xc1")


@pytest.mark.parametrize("values", [{}, [], {"pid": "7"}, {"pid": 7, "venue": "connected", "orders": [{"step": 1}]}])
def test_other_values_are_refused(values: object) -> None:
    for read in (node_report, gateway_report):
        with pytest.raises(ValueError, match="malformed telemetry"):
            read(pack(values))


@pytest.mark.parametrize("fast_path", [False, True])
def test_an_operator_gets_the_very_epoch_that_the_nodes_sign_over(fast_path: bool) -> None:
    epoch = make_epoch(3, Mode.BFT, 17, b"d" * 32, 2, all_voters({node: bytes([node]) * 32 for node in range(4)}))
    epoch = with_fast_path(epoch) if fast_path else epoch
    assert epoch_from_dict(unpack(pack(epoch_to_dict(epoch)))) == epoch
