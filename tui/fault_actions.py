"""`k`: faults on purpose, from the dialog to the node."""

from __future__ import annotations

from textual import work

from core.faults import Fault
from tui.fault_dialog import KILL, FaultDialog, Ordered
from tui.messages import (
    FaultAnswered,
    FaultFailed,
)
from tui.monitor_base import MonitorBase


class FaultActions(MonitorBase):
    """What a person asked a node to do wrong."""

    def action_fault(self) -> None:
        snapshot = self._live.snapshot
        if self._client.read_only or not snapshot.nodes:
            self._say("there is no node to disturb here")
            return
        faults = [caption for caption in snapshot.captions if caption.startswith("fault")]
        dialog = FaultDialog([node.node for node in snapshot.nodes], snapshot.leader, faults)
        self.push_screen(dialog, self._order_fault)

    def _order_fault(self, ordered: Ordered | None) -> None:
        if ordered is not None:
            self._switch_fault(ordered)

    @work(group="faults", exit_on_error=False)
    async def _switch_fault(self, ordered: Ordered) -> None:
        try:
            if ordered.fault == KILL:
                sentence = await self._client.kill_node(ordered.node)
            else:
                sentence = await self._client.set_fault(ordered.node, Fault(ordered.fault))
        except Exception as error:  # as with a key: told, and the monitor goes on
            self.post_message(FaultFailed(f"{type(error).__name__}: {error}"))
        else:
            self.post_message(FaultAnswered(sentence))

    def on_fault_answered(self, message: FaultAnswered) -> None:
        self._say(message.sentence)

    def on_fault_failed(self, message: FaultFailed) -> None:
        self.notify(message.reason, title="fault not switched", severity="error", timeout=10, markup=False)
        self.tick()
