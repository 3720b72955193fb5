"""What the gateway lets through at all, kept over its restart.

A stricter state holds from the moment that a signed change of it is heard. A looser one holds with the certificate of
the log entry that carries it, or by the word of f + 1 voters that applied it; and only if it was signed after every
change that was obeyed before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.payload import PayloadError, decode
from core.trading_state import STRICTNESS, TradingChange, TradingState, decode_trading, encode_trading
from net.messages import Committed
from net.payload_batch import PayloadBatchError, payloads_of


class TradingGate:
    """The trading state as the gateway obeys it."""

    def __init__(self, keys: Mapping[int, bytes], gateway_id: int, file: Path) -> None:
        """`keys`: who may change it. `file` keeps the last change obeyed; a damaged one means HALTED."""
        self._keys = keys
        self._gateway_id = gateway_id
        self._file = file
        self.state = TradingState.ACTIVE
        self.reason = ""
        self._pressed_ns = 0
        self._read()

    def hear(self, change: TradingChange) -> bool:
        """A signed change, not committed yet: obeyed where it is stricter. Returns whether the state changed.

        To be called only with what its signer itself brought, over its own link: it counts whatever its clock says, as
        the machine that presses may be behind, and so an old one counts again. Raises ValueError where the signer may
        not, OSError where it cannot be kept (it is obeyed all the same).
        """
        if not change.is_signed(self._keys):
            raise ValueError(f"a change of the trading state by {change.signer}, who may not")
        if STRICTNESS[change.state] <= STRICTNESS[self.state]:
            return False
        self._obey(change)
        self._keep(change)
        return True

    def committed(self, committed: Committed) -> bool:
        """A change whose certificate was checked: obeyed where it is the latest. Returns whether the state changed.

        Raises ValueError where the entry holds none, or where a signer may not (the others are obeyed all the same);
        OSError as `hear`.
        """
        try:
            values = [decode(payload) for payload in payloads_of(committed.entry)]
        except (PayloadError, PayloadBatchError) as error:
            raise ValueError(f"entry {committed.entry.index}: {error}") from error
        changes = [value for value in values if isinstance(value, TradingChange)]
        if not changes:
            raise ValueError(f"entry {committed.entry.index} holds no change of the trading state")
        return self._decided(changes)

    def agreed(self, change: TradingChange) -> bool:
        """A change that f + 1 voters have applied: obeyed, and raises, as one with its certificate."""
        return self._decided([change])

    def _decided(self, changes: Sequence[TradingChange]) -> bool:
        before, obeyed, strangers = self.state, None, []
        for change in changes:
            loosens = STRICTNESS[change.state] < STRICTNESS[self.state]
            if not change.is_signed(self._keys) or (loosens and change.signer == self._gateway_id):
                strangers.append(change.signer)
            elif change.pressed_ns > self._pressed_ns:
                self._obey(change)
                obeyed = change
        if obeyed is not None:
            self._keep(obeyed)
        if strangers:
            raise ValueError(f"a change of the trading state by {', '.join(map(str, strangers))}, who may not")
        return self.state is not before

    def _obey(self, change: TradingChange) -> None:
        self.state, self.reason = change.state, change.reason
        # Never back: else what was committed before the latest change would count again.
        self._pressed_ns = max(change.pressed_ns, self._pressed_ns)

    def _keep(self, change: TradingChange) -> None:
        """The file is our own, nobody checks the signature in it: so its time may be that of the latest change."""
        temporary = self._file.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(encode_trading(replace(change, pressed_ns=self._pressed_ns)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)

    def _read(self) -> None:
        try:
            change = decode_trading(self._file.read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            self.state, self.reason = TradingState.HALTED, f"{self._file.name} is damaged"
            return
        self.state, self.reason, self._pressed_ns = change.state, change.reason, change.pressed_ns
