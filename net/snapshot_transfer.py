"""A checkpoint on its way to a peer that lags behind the log, in chunks (Raft §7)."""

from __future__ import annotations

from dataclasses import dataclass

from net.checkpoint import CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError, decode_checkpoint
from net.messages import CheckpointCertificate, SnapshotChunk

_ASIDE = 16
"""How many times the patience that it has used up a peer is set aside."""


@dataclass(frozen=True)
class CertifiedCheckpoint:
    """A stable checkpoint as it travels and stands in the log."""

    checkpoint: Checkpoint
    certificate: CheckpointCertificate
    data: bytes

    @property
    def index(self) -> int:
        return self.checkpoint.index

    def chunk(self, epoch: int, offset: int, limit: int) -> SnapshotChunk | None:
        """The piece from `offset` on, at most `limit` bytes; None past the end."""
        if not 0 <= offset < len(self.data):
            return None
        return SnapshotChunk(epoch, offset, len(self.data), self.certificate, self.data[offset : offset + limit])


def assemble(certificate: CheckpointCertificate, data: bytes) -> CertifiedCheckpoint:
    """The checkpoint in `data`; raises `CheckpointError` where it is not the one that `certificate` signs."""
    checkpoint = decode_checkpoint(data)
    if checkpoint.index != certificate.index or checkpoint.statement != certificate.digest:
        raise CheckpointError(f"the bytes are not the checkpoint of entry {certificate.index} that was signed")
    return CertifiedCheckpoint(checkpoint, certificate, data)


class SnapshotReceiver:
    """Collects the chunks of one checkpoint from one peer at a time, each asked for when the one before has come.

    A certificate says what the whole must be, not how long it is nor what is in a piece: so pieces of two peers are
    never put together, and who sends a false whole has made all of it. The caller has checked the certificate of every
    chunk that it gives.

    A peer keeps its turn while it keeps the pace of a chunk in `patience_s`, which bounds the whole transfer too; then
    whoever else has one takes over, and the slow one is set aside for a while. With every such change the patience
    doubles, up to `patience_max_s`: on a slow network all would take turns else, and none would ever end.
    """

    __slots__ = (
        "_aside_until",
        "_asked_at",
        "_asked_for",
        "_began_at",
        "_certificate",
        "_chunk_bytes",
        "_data",
        "_patience_max_s",
        "_patience_min_s",
        "_patience_s",
        "_progress_at",
        "_source",
        "_total_bytes",
    )

    def __init__(self, patience_s: float, patience_max_s: float, chunk_bytes: int) -> None:
        self._patience_s = self._patience_min_s = patience_s
        self._patience_max_s = max(patience_s, patience_max_s)
        self._chunk_bytes = chunk_bytes
        self._source: int | None = None
        self._certificate: CheckpointCertificate | None = None
        self._data = bytearray()
        self._total_bytes = 0
        self._began_at = self._progress_at = self._asked_at = float("-inf")
        self._asked_for: tuple[int | None, int, int] | None = None
        self._aside_until: dict[int, float] = {}

    @property
    def index(self) -> int:
        """The entry up to which a checkpoint is under way; 0: none."""
        return 0 if self._certificate is None else self._certificate.index

    @property
    def offset(self) -> int:
        """Where the next chunk should begin."""
        return len(self._data)

    def knows(self, certificate: CheckpointCertificate) -> bool:
        """Whether this very certificate was checked before."""
        return certificate == self._certificate

    def admits(self, sender: int, now: float) -> bool:
        """Whether it is the turn of `sender`: it has begun, or nobody has, or who has is overdue."""
        if now < self._aside_until.get(sender, float("-inf")):
            return False
        return self._source in (None, sender) or now >= self._due_at

    @property
    def _due_at(self) -> float:
        earned = self._patience_s * (2 + len(self._data) // self._chunk_bytes)
        return min(self._progress_at + self._patience_s, self._began_at + earned)

    def take(self, sender: int, chunk: SnapshotChunk, now: float) -> CertifiedCheckpoint | None:
        """Add `chunk` of a `sender` that is admitted, where it fits; the checkpoint once it is whole.

        Raises `CheckpointError` where the whole is not what was signed: all of it came from `sender`.
        """
        if not 0 < chunk.total_bytes <= CHECKPOINT_BYTES_MAX:
            raise CheckpointError(f"a checkpoint of {chunk.total_bytes} bytes; {CHECKPOINT_BYTES_MAX} are the limit")
        self._turn_to(sender, chunk, now)
        if chunk.certificate.index != self.index or chunk.offset != len(self._data) or not chunk.data:
            return None
        self._data += chunk.data
        self._progress_at = now
        if len(self._data) < self._total_bytes:
            return None
        data = bytes(self._data)
        self.give_up()
        whole = assemble(chunk.certificate, data)
        self._patience_s = self._patience_min_s
        return whole

    def _turn_to(self, sender: int, chunk: SnapshotChunk, now: float) -> None:
        """What was collected counts only for `sender` and this very checkpoint."""
        certificate = chunk.certificate
        if sender != self._source:
            if self._source is not None:
                self.set_aside(self._source, now)
            self._source = sender
            self._began_at = self._progress_at = now
        elif certificate.index < self.index:
            return
        elif certificate.index == self.index:
            if chunk.total_bytes != self._total_bytes:
                raise CheckpointError(f"one checkpoint of {self._total_bytes} and of {chunk.total_bytes} bytes")
            return
        # Who begins a newer one has not begun later because of it, or it could begin for ever.
        self._certificate, self._total_bytes = certificate, chunk.total_bytes
        self._data = bytearray()

    def asks(self, now: float, again_after_s: float) -> bool:
        """Whether the next chunk should be asked for now: it never was, or that brought nothing for so long."""
        wanted = (self._source, self.index, self.offset)
        if wanted == self._asked_for and now < self._asked_at + again_after_s:
            return False
        self._asked_for, self._asked_at = wanted, now
        return True

    def set_aside(self, sender: int, now: float) -> None:
        """`sender` was too slow, or told a lie: others first, for a while."""
        if sender == self._source:
            self.give_up()
        self._aside_until[sender] = now + _ASIDE * self._patience_s
        self._patience_s = min(2 * self._patience_s, self._patience_max_s)

    def give_up(self) -> None:
        """Forget what was collected, and from whom."""
        self._source = self._certificate = None
        self._data = bytearray()
        self._total_bytes = 0
