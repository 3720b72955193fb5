"""Every message that crosses the network, as frozen dataclasses.

Field names follow the papers: Raft from Ongaro and Ousterhout, "In Search of an Understandable Consensus
Algorithm" (2014), figure 2; the Byzantine messages from Chan and Pass, "Simplex Consensus" (eprint 2023/463).
Codecs (`net.wire`) turn these into bytes and back; all codecs yield equal objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Mode(IntEnum):
    """Which protocol orders the log of an epoch."""

    BFT = 1
    RAFT = 2
    AUTO = 3
    """Raft orders everything; a critical entry must carry a Byzantine certificate to take effect."""


class EntryKind(IntEnum):
    """What an entry of the replicated log is."""

    DATA = 0
    NOOP = 1
    """Raft §8: a new leader commits a blank entry of its own term."""
    SWITCH = 2
    """Ends the epoch; the payload names the next mode, by an operator's word (`net.mode_switch`)."""
    WITNESSED = 3
    """AUTO: a critical entry wrapped with its Byzantine certificate. Only on the wire; commits come unwrapped."""
    BATCH = 4
    """Several DATA payloads that one round decides (`net.payload_batch`)."""
    MEMBERSHIP = 5
    """Ends the epoch; the payload names the next epoch's members (`net.membership_change`)."""


ENDS_EPOCH = (EntryKind.SWITCH, EntryKind.MEMBERSHIP)
"""Signed for the epoch that such an entry ends, so it counts once."""


class Phase(IntEnum):
    """What a Byzantine vote says."""

    NOTARIZE = 1
    FINALIZE = 2
    NULLIFY = 3
    FAST = 4
    """Fast path (`net.bft_fast`): notarizes and finalizes at once, a quorum decides."""


DECIDING = (Phase.FINALIZE, Phase.FAST)
"""A quorum of either proves a decision: the signed bytes name the phase, and FAST is signed only on the fast path."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of the replicated log. `term` is the Raft term or the Byzantine view that proposed it."""

    index: int
    term: int
    kind: EntryKind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof that an entry is committed.

    BFT: a quorum of FINALIZE signatures. Raft: one signature, the leader's word (`signers` holds that one id).
    `context` is the epoch's digest (it covers epoch number, mode, base index and the hash of the sealed prefix), so a
    signature of one epoch never counts in another.
    """

    mode: Mode
    epoch: int
    context: bytes
    phase: Phase
    term: int
    index: int
    parent: bytes
    digest: bytes
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """An entry with the proof that it is committed. `witness` is the Byzantine proof of a critical entry in AUTO."""

    epoch: int
    entry: Entry
    certificate: Certificate
    witness: Certificate | None = None


@dataclass(frozen=True, slots=True)
class RequestVote:
    """`transfer`: the leader itself asked for this election (thesis §3.10), so hearing it lately is no objection."""

    epoch: int
    term: int
    candidate: int
    last_log_index: int
    last_log_term: int
    pre_vote: bool
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class RequestVoteReply:
    epoch: int
    term: int
    voter: int
    granted: bool
    pre_vote: bool


@dataclass(frozen=True, slots=True)
class AppendEntries:
    epoch: int
    term: int
    leader: int
    prev_log_index: int
    prev_log_term: int
    leader_commit: int
    round: int
    """The leader's count of its rounds of messages; the reply repeats it and so dates the lease (thesis §6.4).

    0: a commit index alone, which wants no reply.
    """
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendEntriesReply:
    """`conflict_index` is where the leader should back up to (§5.3, end); 0 on success.

    `voting` is False where the reply counts in no quorum: a learner's, or a voter's whose disk is not the one that the
    membership names. It still tells the leader what to send next.
    """

    epoch: int
    term: int
    follower: int
    success: bool
    match_index: int
    conflict_index: int
    round: int
    voting: bool = True


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Leadership transfer (thesis §3.10): the leader asks an up-to-date follower to campaign at once."""

    epoch: int
    term: int
    leader: int


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A follower asks its leader from which index on a read is linearizable (thesis §6.4)."""

    epoch: int
    request_id: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    """`granted` is False where the asked node does not lead or cannot know that it still does."""

    epoch: int
    request_id: int
    granted: bool
    index: int


@dataclass(frozen=True, slots=True)
class Propose:
    """The view's leader proposes the block of one height. `signature` is over the block digest in its context."""

    epoch: int
    view: int
    height: int
    parent: bytes
    kind: EntryKind
    payload: bytes
    leader: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Vote:
    """A signed vote. NULLIFY of (view, height) gives up every height from `height` on in `view`."""

    epoch: int
    phase: Phase
    view: int
    height: int
    digest: bytes
    voter: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class CertificateNotice:
    """A certificate passed on, so that everybody who lags can leave the view."""

    epoch: int
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class FetchEntries:
    """Ask a peer for committed entries from `first_index` on."""

    epoch: int
    first_index: int
    limit: int


@dataclass(frozen=True, slots=True)
class CommittedEntries:
    """The answer to `FetchEntries`; `commit_index` is the sender's."""

    epoch: int
    commit_index: int
    entries: tuple[Committed, ...]


@dataclass(frozen=True, slots=True)
class FetchBlock:
    """Ask for the block with this digest (a vote or certificate named it, its proposal never came)."""

    epoch: int
    height: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """Payloads for the leader to propose, from a node that is not the leader."""

    epoch: int
    kind: EntryKind
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CheckpointVote:
    """A signed statement: the log up to `index`, and the state behind it, have this digest (`net.checkpoint`)."""

    epoch: int
    index: int
    digest: bytes
    voter: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class CheckpointCertificate:
    """The signatures of a majority of voters over one checkpoint's digest."""

    index: int
    digest: bytes
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FetchSnapshot:
    """Ask for the encoded checkpoint of `index` from byte `offset` on."""

    epoch: int
    index: int
    offset: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """A piece of an encoded checkpoint of `total_bytes` bytes (Raft §7); every chunk carries the certificate.

    Whoever is asked for what its log no longer holds sends the first, the receiver fetches the others.
    """

    epoch: int
    offset: int
    total_bytes: int
    certificate: CheckpointCertificate
    data: bytes


@dataclass(frozen=True, slots=True)
class EvidenceNotice:
    """Two signed votes of one node that contradict each other (`net.evidence`), passed on to all.

    `witness`: of the log beside an AUTO epoch.
    """

    epoch: int
    witness: bool
    first: Vote
    second: Vote


@dataclass(frozen=True, slots=True)
class GossipVersion:
    """How new `key` of `origin` is at the sender."""

    origin: int
    key: int
    version: int


@dataclass(frozen=True, slots=True)
class GossipEntry:
    """A versioned value that `origin` signed."""

    origin: int
    key: int
    version: int
    value: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class GossipDigest:
    """Anti-entropy: what the sender has. The receiver answers with what is newer, and asks for what it lacks."""

    versions: tuple[GossipVersion, ...]


@dataclass(frozen=True, slots=True)
class GossipDelta:
    """Entries that the receiver lacks, and the versions that the sender wants."""

    entries: tuple[GossipEntry, ...]
    wanted: tuple[GossipVersion, ...]


class Channel(IntEnum):
    """Application channels; `net` carries their bodies without reading them."""

    OPINION = 1
    ORDER = 2
    TELEMETRY = 3
    CONTROL = 4


@dataclass(frozen=True, slots=True)
class Application:
    """A message of the layer above.

    `request_id` pairs a reply with its request (0: expects none). `records` is a packed record array whose dtype is
    registered in `net.wire.layouts` under `layout` (layout 0: no records); maps codecs expand it row by row, column
    codecs carry the bytes as they are. `body` is opaque.
    """

    channel: Channel
    kind: int
    request_id: int
    step: int
    layout: int
    records: bytes
    body: bytes


ConsensusMessage = (
    RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Propose
    | Vote
    | CertificateNotice
    | FetchEntries
    | CommittedEntries
    | FetchBlock
    | Forward
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
    | CheckpointVote
    | FetchSnapshot
    | SnapshotChunk
    | EvidenceNotice
)
GossipMessage = GossipDigest | GossipDelta
Message = ConsensusMessage | GossipMessage | Application
