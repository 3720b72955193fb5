"""The records of a node's durable log: what must survive a crash, and the bytes it takes on disk.

One msgpack array per record, its kind first. Decoding checks shape and ranges; a record that passes the log's checksum
and still does not decode was written by another version, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import msgpack

from net.messages import Certificate, CheckpointCertificate, Entry, EntryKind, Mode, Phase


class RecordKind(IntEnum):
    HARD_STATE = 1
    APPEND = 2
    COMMIT_INDEX = 3
    BLOCK = 4
    VOTE = 5
    CERTIFICATE = 6
    INSTALL = 7
    CHECKPOINT = 8
    INCARNATION = 9
    VIEW = 10
    NULLIFY = 11


class RecordError(ValueError):
    """A record of the durable log does not decode."""


@dataclass(frozen=True, slots=True)
class HardState:
    """Raft, figure 2: `currentTerm` and `votedFor`, of one epoch."""

    epoch: int
    term: int
    voted_for: int | None


@dataclass(frozen=True, slots=True)
class AppendRecord:
    """Raft: the log from `first_index` on is now `entries` (a conflicting tail is cut).

    `commit_index` is what was known to be committed then, so that commits under load cost no record of their own.
    """

    epoch: int
    first_index: int
    entries: tuple[Entry, ...]
    commit_index: int = 0


@dataclass(frozen=True, slots=True)
class CommitIndexRecord:
    """Raft: entries up to `commit_index` are committed. Written without a sync: losing it costs only a replay later.

    Written where no `AppendRecord` carries it, and always before the first record of the epoch that a commit begins.
    """

    epoch: int
    commit_index: int


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """Byzantine: a proposed block that this node voted for. `witness` tells AUTO's side log from the epoch's log."""

    epoch: int
    witness: bool
    parent: bytes
    entry: Entry
    signature: bytes = b""
    """The leader's on the proposal, where the fast path is on: others ask for it with a report (`net.bft_fast`)."""


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """Byzantine: a vote of this node, on disk before it leaves, so that a restarted node never contradicts itself."""

    epoch: int
    witness: bool
    phase: Phase
    view: int
    height: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """Byzantine: a notarization that this node voted to finalize on, or a finalization that commits."""

    certificate: Certificate
    witness: bool

    @property
    def epoch(self) -> int:
        return self.certificate.epoch


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """Byzantine: the view of a log that was rewritten, and what the votes that went with the old one still bind to.

    `finalize_top` is the highest height that this node FINALIZE-voted in `view` (-1: none), `voted` whether it
    NOTARIZE-voted there.
    """

    epoch: int
    witness: bool
    view: int
    finalize_top: int
    voted: bool


@dataclass(frozen=True, slots=True)
class NullifyRecord:
    """Byzantine, fast path: another node's NULLIFY vote, which this node's votes in later views may stand on."""

    epoch: int
    witness: bool
    view: int
    height: int
    digest: bytes
    voter: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class InstallRecord:
    """An entry that a peer proved committed, with its proof (catch-up)."""

    entry: Entry
    certificate: Certificate

    @property
    def epoch(self) -> int:
        return self.certificate.epoch


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A stable checkpoint, encoded (`net.checkpoint`), in place of all records before: it begins a rewritten log."""

    data: bytes
    certificate: CheckpointCertificate


@dataclass(frozen=True, slots=True)
class IncarnationRecord:
    """The name of this disk (`net.membership.Member`): it is lost with the votes that it vouches for."""

    incarnation: bytes


Record = (
    HardState
    | AppendRecord
    | CommitIndexRecord
    | BlockRecord
    | VoteRecord
    | CertificateRecord
    | InstallRecord
    | CheckpointRecord
    | IncarnationRecord
    | ViewRecord
    | NullifyRecord
)

_UINT64_MAX: Final = (1 << 64) - 1
_pack: Final = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def _entry_fields(entry: Entry) -> tuple[int, int, int, bytes]:
    return (entry.index, entry.term, int(entry.kind), entry.payload)


def _entry(fields: Any) -> Entry:
    index, term, kind, payload = fields
    return Entry(index, term, EntryKind(kind), payload)


def _certificate_fields(certificate: Certificate) -> tuple[Any, ...]:
    return (
        int(certificate.mode),
        certificate.epoch,
        certificate.context,
        int(certificate.phase),
        certificate.term,
        certificate.index,
        certificate.parent,
        certificate.digest,
        certificate.signers,
        certificate.signatures,
    )


def _certificate(fields: Any) -> Certificate:
    mode, epoch, context, phase, term, index, parent, digest, signers, signatures = fields
    # A witness comes from a leader that may lie: what is of another type or size would break whoever checks it.
    numbers, texts = (epoch, term, index, *signers), (context, parent, digest, *signatures)
    if any(type(each) is not int or not 0 <= each <= _UINT64_MAX for each in numbers):
        raise RecordError("a certificate with a number out of range")
    if any(type(each) is not bytes for each in texts) or len(parent) != 32 or len(digest) != 32:
        raise RecordError("a certificate without its digests and signatures")
    return Certificate(
        Mode(mode), epoch, context, Phase(phase), term, index, parent, digest, tuple(signers), tuple(signatures)
    )


def encode_witness(witness: Certificate, kind: EntryKind, payload: bytes) -> bytes:
    """The payload of a WITNESSED entry: the certificate, and the entry it lets pass."""
    packed: bytes = _pack((_certificate_fields(witness), int(kind), payload))
    return packed


def decode_witness(payload: bytes) -> tuple[Certificate, EntryKind, bytes]:
    """Undo `encode_witness`; raises `RecordError` on anything else."""
    try:
        fields, kind, inner = msgpack.unpackb(payload, use_list=False)
        witness = _certificate(fields)
        if not isinstance(inner, bytes):
            raise RecordError("a witnessed entry without a payload")
        return witness, EntryKind(kind), inner
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RecordError(f"not a witnessed entry: {error}") from error


def encode_record(record: Record) -> bytes:
    """The bytes of one record."""
    fields: tuple[Any, ...]
    match record:
        case AppendRecord(epoch, first_index, entries, commit_index):
            rows = [_entry_fields(entry) for entry in entries]
            fields = (RecordKind.APPEND, epoch, first_index, rows, commit_index)
        case CommitIndexRecord(epoch, commit_index):
            fields = (RecordKind.COMMIT_INDEX, epoch, commit_index)
        case VoteRecord(epoch, witness, phase, view, height, digest, signature):
            fields = (RecordKind.VOTE, epoch, witness, int(phase), view, height, digest, signature)
        case BlockRecord(epoch, witness, parent, entry, signature):
            signed = (signature,) if signature else ()
            fields = (RecordKind.BLOCK, epoch, witness, parent, _entry_fields(entry), *signed)
        case CertificateRecord(certificate, witness):
            fields = (RecordKind.CERTIFICATE, _certificate_fields(certificate), witness)
        case HardState(epoch, term, voted_for):
            fields = (RecordKind.HARD_STATE, epoch, term, voted_for)
        case InstallRecord(entry, certificate):
            fields = (RecordKind.INSTALL, _entry_fields(entry), _certificate_fields(certificate))
        case CheckpointRecord(data, proof):
            fields = (RecordKind.CHECKPOINT, data, (proof.index, proof.digest, proof.signers, proof.signatures))
        case ViewRecord(epoch, witness, view, finalize_top, voted):
            fields = (RecordKind.VIEW, epoch, witness, view, finalize_top, voted)
        case NullifyRecord(epoch, witness, view, height, digest, voter, signature):
            fields = (RecordKind.NULLIFY, epoch, witness, view, height, digest, voter, signature)
        case IncarnationRecord(incarnation):
            fields = (RecordKind.INCARNATION, incarnation)
    packed: bytes = _pack((int(fields[0]), *fields[1:]))
    return packed


def decode_record(data: bytes) -> Record:
    """Undo `encode_record`; raises `RecordError` naming what is wrong."""
    try:
        kind, *fields = msgpack.unpackb(data, use_list=False)
        return _decode(RecordKind(kind), fields)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RecordError(f"a log record of {len(data)} bytes does not decode: {error}") from error


def _decode(kind: RecordKind, fields: list[Any]) -> Record:
    match kind:
        case RecordKind.APPEND:
            epoch, first_index, entries, commit_index = fields
            return AppendRecord(epoch, first_index, tuple(_entry(each) for each in entries), commit_index)
        case RecordKind.COMMIT_INDEX:
            epoch, commit_index = fields
            return CommitIndexRecord(epoch, commit_index)
        case RecordKind.VOTE:
            epoch, witness, phase, view, height, digest, signature = fields
            return VoteRecord(epoch, witness, Phase(phase), view, height, digest, signature)
        case RecordKind.BLOCK:
            epoch, witness, parent, entry, *signature = fields
            return BlockRecord(epoch, witness, parent, _entry(entry), *signature)
        case RecordKind.CERTIFICATE:
            certificate, witness = fields
            return CertificateRecord(_certificate(certificate), witness)
        case RecordKind.HARD_STATE:
            epoch, term, voted_for = fields
            return HardState(epoch, term, voted_for)
        case RecordKind.INSTALL:
            entry, certificate = fields
            return InstallRecord(_entry(entry), _certificate(certificate))
        case RecordKind.CHECKPOINT:
            checkpoint, (index, digest, signers, signatures) = fields
            return CheckpointRecord(checkpoint, CheckpointCertificate(index, digest, signers, signatures))
        case RecordKind.INCARNATION:
            (incarnation,) = fields
            return IncarnationRecord(incarnation)
        case RecordKind.VIEW:
            epoch, witness, view, finalize_top, voted = fields
            return ViewRecord(epoch, witness, view, finalize_top, voted)
        case RecordKind.NULLIFY:
            epoch, witness, view, height, digest, voter, signature = fields
            return NullifyRecord(epoch, witness, view, height, digest, voter, signature)
