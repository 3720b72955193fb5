"""A checkpoint on its way to a peer that lags behind the log, in chunks (Raft §7)."""

from __future__ import annotations

from dataclasses import dataclass

from net.checkpoint import CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError, decode_checkpoint
from net.messages import CheckpointCertificate, SnapshotChunk


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
    """Collects the chunks of one checkpoint at a time, each asked for when the one before has come.

    The caller has checked the certificate of every chunk that it gives, and says when time has passed (`give_up`).
    """

    __slots__ = ("_certificate", "_data", "_total_bytes", "progress_at")

    def __init__(self) -> None:
        self._certificate: CheckpointCertificate | None = None
        self._data = bytearray()
        self._total_bytes = 0
        self.progress_at = float("-inf")

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

    def take(self, chunk: SnapshotChunk, now: float) -> CertifiedCheckpoint | None:
        """Add `chunk` where it fits; the checkpoint once it is whole. A newer one takes an older one's place.

        Raises `CheckpointError` where the whole is not what was signed; collecting then begins anew.
        """
        if not 0 < chunk.total_bytes <= CHECKPOINT_BYTES_MAX:
            raise CheckpointError(f"a checkpoint of {chunk.total_bytes} bytes; {CHECKPOINT_BYTES_MAX} are the limit")
        if chunk.certificate.index > self.index:
            self.give_up()
            self._certificate, self._total_bytes = chunk.certificate, chunk.total_bytes
        fits = chunk.certificate.index == self.index and chunk.total_bytes == self._total_bytes
        if not fits or chunk.offset != len(self._data) or not chunk.data:
            return None
        self._data += chunk.data
        self.progress_at = now
        if len(self._data) < self._total_bytes:
            return None
        certificate, data = chunk.certificate, bytes(self._data)
        self.give_up()
        return assemble(certificate, data)

    def give_up(self) -> None:
        """Forget what was collected."""
        self._certificate = None
        self._data = bytearray()
        self._total_bytes = 0
