"""What a node tells the gateway of the operators' words: also of those that came to it with no certificate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from core.node_checkpoint import NodeCheckpoint
from core.node_observer import ObservingNode
from core.payload import encode_limits_change, encode_trading_change
from core.session import GATEWAY_ID
from core.swarm_snapshot import take_snapshot
from core.telemetry_messages import OrderKind, unpack
from net.messages import Application, Mode
from tests.unit.test_kill_switch import Bench, narrowed
from tests.unit.test_swarm_state import KEYS, committed
from tests.unit.test_trading_state import ACTIVE, HALTED, press, state_with_operator

WORDS = (encode_trading_change(press(ACTIVE, 6)), encode_limits_change(narrowed(7, 6)))


class TellingNode(ObservingNode):
    """A node that follows in Raft, with a link to the gateway that may be down."""

    def __init__(self, node: int, folder: Path) -> None:
        others: Any = MagicMock()
        self._node, self._state = node, state_with_operator()
        self._checkpoint = NodeCheckpoint(self._state, folder / "proofs", durable=False)
        self._replica: Any = SimpleNamespace(leader=None, mode=Mode.RAFT, term=2)
        self._gossip = self._orders = self._pending = self._leader = self._telemetry = self._trader = others
        self._endpoint = self._identity = others
        others.send, others.sign = self._send, lambda data: KEYS[node].sign(data).signature
        self._operators_entries, self._denials, self._leading = {}, Counter(), None
        self.linked = True
        self.told: list[bytes] = []

    def _send(self, peer: int, message: Application) -> bool:
        values = unpack(message.body)
        if self.linked and (peer, message.kind) == (GATEWAY_ID, OrderKind.TRADING) and "applied" in values:
            self.told.append(values["applied"])
        return self.linked

    def _limits_text(self) -> str:
        return ""


def hear(node: TellingNode, recovered: bool) -> None:
    for index, word in enumerate(WORDS, 1):
        node.committed(committed(index, word), False, recovered)


def test_followers_tell_what_they_applied_while_the_leaders_link_is_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path, mode=Mode.RAFT)
    bench.press(press(HALTED, 5))
    for each in (1, 2):
        node = TellingNode(each, tmp_path)
        hear(node, recovered=False)
        for word in node.told:
            bench.switch.on_applied(each, word)
    assert not bench.gateway.halted
    assert bench.limits.limits.critical_notional == 7


@pytest.mark.parametrize("how", ["recovered", "restored", "link was down"])
def test_who_comes_to_lead_tells_however_it_got_the_words(tmp_path: Path, how: str) -> None:
    node = TellingNode(1, tmp_path)
    if how == "restored":
        other = TellingNode(2, tmp_path)
        hear(other, recovered=False)
        node.restore(2, take_snapshot(other._state))
        assert node.told == list(WORDS)
        node.told.clear()
    else:
        node.linked = how != "link was down"
        hear(node, how == "recovered")
        assert not node.told
        node.linked = True
    node._replica.leader = 1
    node._leading = MagicMock()
    node._leading.done.return_value = False
    node.leader_changed(1, 3)
    assert node.told == list(WORDS)
