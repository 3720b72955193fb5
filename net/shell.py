"""The shell of a protocol core: it gives the sans-I/O replica a disk, a clock and a wire.

Effects are applied in the order given. Messages to several peers in a row are encoded once. All messages that arrive in
one turn of the event loop share one sync (group commit): their replies wait until the turn's records are on disk.

It fails as a whole (fail-stop, Schlichting and Schneider 1983): where the core finds what can never be, the disk does
not take a record, or the observer cannot apply an entry, the core knows of effects that nobody carried out. So nothing
more is asked or applied, and the owner ends the process; the next one recovers from what is on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from net.consensus import (
    Commit,
    Effect,
    EpochStarted,
    Evidence,
    LeaderChanged,
    Persist,
    ReadReady,
    Refused,
    RestoreState,
    RewriteLog,
    Send,
    Stranded,
    Sync,
    TakeCheckpoint,
)
from net.membership import Membership, MembershipError
from net.messages import Committed, ConsensusMessage, Mode
from net.mode_switch import SwitchError, SwitchOrder
from net.submissions import TooManySubmissions


class Wire(Protocol):
    """What the shell needs of the transport."""

    def broadcast(self, peer_ids: Sequence[int], message: ConsensusMessage, *, round_id: int = 0) -> None: ...

    def flush(self) -> None: ...


class DurableLog(Protocol):
    """What the shell needs of the log."""

    def append(self, record: bytes) -> None: ...

    def sync(self) -> None: ...

    def rewrite(self, records: Sequence[bytes]) -> None: ...


class Core(Protocol):
    """What the shell drives: `net.replica.Replica`."""

    def start(self, now: float) -> list[Effect]: ...

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]: ...

    def tick(self, now: float) -> list[Effect]: ...

    def propose(self, payloads: Sequence[bytes], now: float) -> list[Effect]: ...

    def switch_mode(self, order: SwitchOrder, now: float) -> list[Effect]: ...

    def checkpoint_taken(self, index: int, state: bytes, now: float) -> list[Effect]: ...

    def transfer_leadership(self, to: int, now: float) -> list[Effect]: ...

    def read_index(self, request_id: int, now: float) -> list[Effect]: ...

    def change_membership(self, change: bytes, now: float) -> list[Effect]: ...

    def next_deadline(self) -> float | None: ...


class Observer(Protocol):
    """Who is told what the replica decides."""

    def committed(self, entry: Committed, denied: bool, recovered: bool) -> None: ...

    def leader_changed(self, leader: int | None, term: int) -> None: ...

    def epoch_started(self, epoch: int, mode: Mode, base_index: int, membership: Membership) -> None: ...

    def checkpoint(self, index: int) -> bytes: ...

    def restore(self, index: int, state: bytes) -> None: ...

    def evidence(self, culprit: int, reason: str, proof: bytes) -> None: ...

    def stranded(self, peer: int, index: int) -> None:
        """What this node lacks comes from `peer` with a checkpoint of entry `index`, which it has no means to check."""

    def refused(self, payload: bytes) -> None:
        """What this node proposed is not ordered in the epoch that runs now."""

    def failed(self, error: Exception) -> None:
        """The shell has stopped for good: the process must end and say why."""


class ReplicaShell:
    """Runs one replica on the current event loop."""

    def __init__(
        self,
        core: Core,
        log: DurableLog,
        wire: Wire,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = core
        self._log = log
        self._wire = wire
        self._observer = observer
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._inbox: list[tuple[int, ConsensusMessage]] = []
        self._reads: dict[int, asyncio.Future[int | None]] = {}
        self._last_read = 0
        self._stopped = False
        self.syncs = 0

    def start(self) -> None:
        self._ask(lambda: self._core.start(self._clock()))

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for read in self._reads.values():
            read.cancel()

    def deliver(self, sender: int, message: ConsensusMessage) -> None:
        """A message that the transport authenticated; handled at the end of this turn of the loop."""
        if self._stopped:
            return
        if not self._inbox:
            self._loop.call_soon(self._drain)
        self._inbox.append((sender, message))

    def propose(self, payloads: Sequence[bytes]) -> None:
        """Raises `TooManySubmissions`."""
        self._ask(lambda: self._core.propose(payloads, self._clock()), TooManySubmissions)

    def switch_mode(self, order: SwitchOrder) -> None:
        """Raises `SwitchError` where the order ends not the epoch that runs."""
        self._ask(lambda: self._core.switch_mode(order, self._clock()), SwitchError)

    def transfer_leadership(self, to: int) -> None:
        """Raises `RuntimeError` where this node does not lead, `ValueError` for no other voter."""
        self._ask(lambda: self._core.transfer_leadership(to, self._clock()), RuntimeError, ValueError)

    async def read_index(self) -> int | None:
        """From which index on a read of the applied state is linearizable; None: no leader confirmed it, ask again."""
        if self._stopped:
            return None
        self._last_read += 1
        read: asyncio.Future[int | None] = self._loop.create_future()
        self._reads[self._last_read] = read
        self._ask(lambda: self._core.read_index(self._last_read, self._clock()))
        return await read

    def change_membership(self, change: bytes) -> None:
        """Raises `MembershipError` where the change is not allowed."""
        self._ask(lambda: self._core.change_membership(change, self._clock()), MembershipError)

    def _drain(self) -> None:
        inbox, self._inbox = self._inbox, []
        self._ask(lambda: self._stepped(inbox))
        self._wire.flush()

    def _stepped(self, inbox: list[tuple[int, ConsensusMessage]]) -> list[Effect]:
        effects: list[Effect] = []
        for sender, message in inbox:
            effects += self._core.step(sender, message, self._clock())
        return effects

    def _tick(self) -> None:
        self._timer = None
        self._ask(lambda: self._core.tick(self._clock()))

    def _ask(self, ask: Callable[[], list[Effect]], *refusals: type[Exception]) -> None:
        """Apply what the core answers. `refusals`, these very types, mean that it did nothing: they are the caller's.

        Where a later message of a turn fails, those before it count as never received: nothing of them was sent.
        """
        if self._stopped:
            return
        try:
            effects = ask()
        except Exception as error:
            if type(error) in refusals:
                raise
            self._fail(error)
            return
        try:
            self._apply(effects)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.stop()
        self._observer.failed(error)

    def _apply(self, effects: list[Effect]) -> None:
        self._written(effects)
        synced = False
        position = 0
        while position < len(effects) and not self._stopped:
            effect = effects[position]
            if isinstance(effect, Send):
                position = self._send_run(effects, position)
                continue
            if isinstance(effect, Sync):
                if not synced:
                    # What was sent before it may leave: followers write their copies while this node writes its own.
                    self._wire.flush()
                    # Every record of this turn is in the buffer already: one sync keeps the promise of all.
                    self._log.sync()
                    self.syncs += 1
                    synced = True
            elif isinstance(effect, Commit):
                for entry in effect.entries:
                    self._observer.committed(entry, entry.entry.index in effect.denied, effect.recovered)
            elif isinstance(effect, LeaderChanged):
                self._observer.leader_changed(effect.leader, effect.term)
            elif isinstance(effect, TakeCheckpoint):
                # What the checkpoint sets off comes after all of this turn.
                state = self._observer.checkpoint(effect.index)
                effects += self._written(self._core.checkpoint_taken(effect.index, state, self._clock()))
                synced = False
            else:
                self._tell(effect)
            position += 1
        self._arm()

    def _tell(self, effect: Effect) -> None:
        match effect:
            case LeaderChanged(leader, term):
                self._observer.leader_changed(leader, term)
            case EpochStarted(epoch, mode, base_index, membership):
                self._observer.epoch_started(epoch, mode, base_index, membership)
            case RestoreState(index, state):
                self._observer.restore(index, state)
            case ReadReady(request_id, index):
                if (read := self._reads.pop(request_id, None)) is not None and not read.done():
                    read.set_result(index)
            case Evidence(culprit, reason, proof):
                self._observer.evidence(culprit, reason, proof)
            case Stranded(peer, index):
                self._observer.stranded(peer, index)
            case Refused(_, payload):
                self._observer.refused(payload)

    def _written(self, effects: list[Effect]) -> list[Effect]:
        """`effects`, whose records are in the log's buffer; those that a rewrite stands for come before it."""
        for effect in effects:
            if isinstance(effect, Persist):
                self._log.append(effect.record)
            elif isinstance(effect, RewriteLog):
                self._log.rewrite(effect.records)
        return effects

    def _send_run(self, effects: list[Effect], position: int) -> int:
        """Send the same message to every peer of a run of `Send`s; returns the position after the run."""
        first = effects[position]
        assert isinstance(first, Send)
        peers = [first.to]
        position += 1
        while position < len(effects):
            following = effects[position]
            if not isinstance(following, Send) or following.message is not first.message:
                break
            peers.append(following.to)
            position += 1
        self._wire.broadcast(peers, first.message, round_id=round_of(first.message))
        return position

    def _arm(self) -> None:
        deadline = self._core.next_deadline()
        if deadline is None or self._stopped:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._tick)


def round_of(message: ConsensusMessage) -> int:
    """A number that the messages of one consensus round share, for stream multiplexing; 0 where there is none."""
    height = getattr(message, "height", 0)
    return int(height) or int(getattr(message, "prev_log_index", 0))
