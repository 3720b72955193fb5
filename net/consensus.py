"""The interface of a protocol core: messages and time in, effects out.

A core (`net.raft`, `net.bft`, `net.replica`) is sans-I/O: it opens no socket, reads no clock and draws no random number
that was not handed in. The shell that runs it applies the effects strictly in the order given, and must finish every
`Persist` before a later `Sync` and every `Sync` before a later `Send` or `Commit`: that is how a vote reaches the disk
before the message that promises it. A `Send` listed before the `Sync` may leave at once (a leader's AppendEntries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from net.membership import Membership
from net.messages import Committed, ConsensusMessage, EntryKind, Mode


@dataclass(frozen=True, slots=True)
class Send:
    """Give `message` to peer `to`; it may be lost."""

    to: int
    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class Persist:
    """Append `record` to the node's durable log (buffered until the next `Sync`)."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """Everything persisted so far must be on disk before what follows."""


@dataclass(frozen=True, slots=True)
class Commit:
    """These entries are decided, in index order, each with its proof; they will never change.

    `denied` holds the indices of entries that must take no effect: those with a wrong witness (AUTO), and those that
    should end the epoch and are not signed for that by who may. In AUTO, one without a witness may turn out to be
    critical when it is applied: then it takes none either.
    `recovered` marks what `start` replays from the node's own log after a restart.
    """

    entries: tuple[Committed, ...]
    denied: tuple[int, ...] = ()
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """The core now follows `leader` (None: unknown) in `term` (Raft term or Byzantine view)."""

    leader: int | None
    term: int


@dataclass(frozen=True, slots=True)
class EpochStarted:
    """A switch entry at `base_index` took effect: a new epoch orders the log from `base_index + 1` on."""

    epoch: int
    mode: Mode
    base_index: int
    membership: Membership


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """The state machine stands behind entry `index`: its state is wanted now, by `checkpoint_taken(index, state)`.

    The state's bytes must be the same on every node that applied the same entries.
    """

    index: int


@dataclass(frozen=True, slots=True)
class RestoreState:
    """The state machine must become `state`, as it was behind entry `index`: what came between is not replayed."""

    index: int
    state: bytes


@dataclass(frozen=True, slots=True)
class RewriteLog:
    """The durable log becomes `records`, as a whole or not at all: what a checkpoint makes obsolete is gone.

    It stands for all that was persisted before it; what is persisted after it is appended.
    """

    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReadReady:
    """A read asked for by `read_index` is linearizable once entries up to `index` are applied; None: ask again."""

    request_id: int
    index: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Misbehaviour of `culprit`, in words; `proof` is what anybody can check (`net.evidence`), or empty."""

    culprit: int
    reason: str
    proof: bytes


@dataclass(frozen=True, slots=True)
class Stranded:
    """What this node lacks comes from `peer` with a checkpoint of entry `index`, signed by voters unknown to this node.

    Either the peer makes them up, or they joined while this node was away: only an operator can tell.
    """

    peer: int
    index: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No honest voter of the running epoch votes for what this node submitted: it waits no longer, and is not decided.

    So it goes with what was made for other members, where the epoch ended first.
    """

    kind: EntryKind
    payload: bytes


Effect = (
    Send
    | Persist
    | Sync
    | Commit
    | LeaderChanged
    | EpochStarted
    | TakeCheckpoint
    | RestoreState
    | RewriteLog
    | ReadReady
    | Evidence
    | Stranded
    | Refused
)


class ProtocolCore(Protocol):
    """What Raft, Byzantine and the replica that composes them have in common."""

    def start(self, now: float) -> list[Effect]:
        """First call after construction (and recovery). `now` in seconds of any monotonic clock."""

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        """Take a message that the transport authenticated as coming from `sender`."""

    def tick(self, now: float) -> list[Effect]:
        """Let timers that are due fire."""

    def propose(self, payloads: Sequence[bytes], now: float) -> list[Effect]:
        """Order these payloads, one entry each, in this order. Where this node does not lead, they are forwarded."""

    def next_deadline(self) -> float | None:
        """When `tick` is wanted next, on the clock of `now`."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What the monitor shows of one node's consensus. Counters are since the process started."""

    node: int
    mode: Mode
    epoch: int
    term: int
    leader: int | None
    role: str
    """leader, follower, candidate or pre-candidate (Raft); leader or replica (BFT); learner or removed: no vote."""
    commit_index: int
    last_index: int
    peer_match_index: tuple[tuple[int, int], ...]
    rounds: int
    """Proposal rounds that this node led to commit."""
    messages_sent: int
    messages_received: int
    elections: int
    """Elections or view changes that this node saw."""
    evidence: tuple[str, ...]
    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    checkpoint_index: int = 0
    """The newest checkpoint that a majority of voters signed; 0: none yet."""
    first_index: int = 1
    """The oldest entry that this node can still give to a peer."""
