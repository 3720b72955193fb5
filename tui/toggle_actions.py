"""Keys that change the running swarm: toggles, control, the trading state. Each is sent, answered, and told."""

from __future__ import annotations

from textual import work

from core.trading_state import TradingState
from tui.messages import (
    ControlAnswered,
    KeyAnswered,
    KeyFailed,
)
from tui.monitor_base import MonitorBase

KEYS_WAITING = 32
"""Toggle keys sent and not yet answered; more are refused rather than queued without end."""


class ToggleActions(MonitorBase):
    """Toggle keys, `C`, and the kill switch."""

    def action_press(self, key: str) -> None:
        if len(self._asked) >= KEYS_WAITING:
            self._say(f"{key} was not sent: {KEYS_WAITING} keys are still waiting for an answer")
            return
        if self._pairing:
            self._say(f"{key} was not sent: a profile is taken under two settings")
            return
        if self._experiments.running is not None:
            self._say(f"{key} was not sent: an experiment sets the toggles; a stops it")
            return
        self._asked.append(key)
        self._send_key(key)
        self.tick()

    @work(group="keys", exit_on_error=False)
    async def _send_key(self, key: str) -> None:
        """Keys reach the swarm one at a time, in the order in which they were pressed."""
        async with self._press_order:
            try:
                sentence = await self._client.press(key)
            except Exception as error:  # a monitor must outlive whatever breaks on the way; the person is told
                self.post_message(KeyFailed(key, f"{type(error).__name__}: {error}"))
            else:
                self.post_message(KeyAnswered(key, sentence))

    def on_key_answered(self, message: KeyAnswered) -> None:
        self._asked.remove(message.key)
        self._answered_ns = self._clock_ns()
        self._say(message.sentence)

    def on_key_failed(self, message: KeyFailed) -> None:
        self._asked.remove(message.key)
        self.notify(message.reason, title=f"key {message.key} failed", severity="error", timeout=10, markup=False)
        self.tick()

    def action_control(self) -> None:
        if self._client.read_only:
            self._say("this monitor only looks on")
        else:
            self._change_control()

    @work(group="control", exclusive=True, exit_on_error=False)
    async def _change_control(self) -> None:
        holder = self._client.snapshot().in_control
        mine = holder is not None and holder.operator == self._client.operator
        try:
            sentence = await (self._client.give_up_control() if mine else self._client.take_control())
        except Exception as error:  # as with a key: told, and the monitor goes on
            sentence = f"control: {error}"
        self.post_message(ControlAnswered(sentence))

    def on_control_answered(self, message: ControlAnswered) -> None:
        self._say(message.sentence)

    def action_trading(self, state: str) -> None:
        """The kill switch asks nothing: it acts, and says what it did."""
        self._send_trading(TradingState(state))

    @work(group="trading", exit_on_error=False)
    async def _send_trading(self, state: TradingState) -> None:
        try:
            answer = await self._client.change_trading(state, "from the monitor")
        except Exception as error:  # as above: told, and the monitor goes on
            self.notify(
                f"{type(error).__name__}: {error}",
                title=f"{state}: not sent",
                severity="error",
                timeout=15,
                markup=False,
            )
        else:
            self.notify(f"{answer.gateway}; {answer.swarm}", title="trading state", timeout=10, markup=False)
        self.tick()
