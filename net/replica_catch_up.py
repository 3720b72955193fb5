"""How a node that lags gets what it lacks: decided entries along their hash chain, or a certified checkpoint."""

from __future__ import annotations

from dataclasses import replace

from net.certificate import CertificateError, entry_digest, verify_certificate
from net.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointVotes,
    UnknownSigners,
    check_certificate,
    sign_checkpoint,
)
from net.consensus import Evidence, RestoreState, RewriteLog, Send, Stranded
from net.fetching import FETCH_BYTES, Fetches, is_full
from net.laggards import Laggards
from net.messages import (
    CheckpointCertificate,
    CheckpointVote,
    Committed,
    CommittedEntries,
    FetchEntries,
    FetchSnapshot,
    Mode,
    SnapshotChunk,
)
from net.replica_ordering import ReplicaOrdering
from net.snapshot_transfer import CertifiedCheckpoint, SnapshotReceiver

_OWN_CHECKPOINTS_KEPT = 4
_TRANSFERS = 8
_SILENT_RESENDS = 4


class ReplicaCatchUp(ReplicaOrdering):
    """Checkpoints of this node, and everything between nodes that are not equally far."""

    def _start_catching_up(self) -> None:
        self._fetches = Fetches(self._settings.resend_interval_s)
        self._heartbeat_at = float("-inf")
        self._answered_at: dict[int, float] = {}
        self._laggards = Laggards(_TRANSFERS, _SILENT_RESENDS * self._settings.resend_interval_s)
        self._taken: dict[int, Checkpoint] = {}
        self._votes = CheckpointVotes()
        settings = self._settings
        self._stranded: dict[int, int] = {}
        """Who offered a checkpoint of unknown signers, and how far this node was then: said once."""
        self._receiver = SnapshotReceiver(
            2 * settings.resend_interval_s, settings.progress_timeout_max_s, settings.snapshot_chunk_bytes
        )

    # -- decided entries -------------------------------------------------------------------------------------------

    def _beat(self, now: float) -> None:
        """In a Byzantine log the leader says that it lives and how far it is; so do the others, more rarely."""
        if self._bft is None or now < self._heartbeat_at + self._settings.heartbeat_interval_s:
            return
        self._heartbeat_at = now
        if self._bft.leader == self.node or (self._raft is None and self._bft.take_rare_beat()):
            beat = CommittedEntries(self.epoch, self.commit_index, ())
            self._out.extend(Send(peer, beat) for peer in self.peers)

    def _answer_laggard(self, peer: int, now: float) -> None:
        """Tell a peer of an older epoch how far the log is; it then fetches what it lacks."""
        if now >= self._answered_at.get(peer, float("-inf")) + self._settings.resend_interval_s / 4:
            self._answered_at[peer] = now
            self._out.append(Send(peer, CommittedEntries(self.epoch, self.commit_index, ())))

    def _fetch(self, peer: int, now: float) -> None:
        """`peer` seems to be ahead: ask whose turn it is, it or another (`net.fetching`)."""
        turn = self._fetches.says_it_is_ahead(peer, self.peers, now)
        if turn is not None:
            self._ask_for_entries(turn)

    def _ask_for_entries(self, peer: int) -> None:
        first = self.history.last_index + 1
        self._out.append(Send(peer, FetchEntries(self.epoch, first, self._settings.message_entries)))

    def _on_fetch(self, sender: int, message: FetchEntries, now: float) -> None:
        if message.first_index < self.history.first_index:
            self._offer_snapshot(sender, now)
            return
        self._laggards.has_reached(sender, message.first_index - 1, now)
        limit = min(message.limit, self._settings.message_entries)
        entries = self.history.slice(message.first_index, limit, FETCH_BYTES)
        if entries:
            self._out.append(Send(sender, CommittedEntries(self.epoch, self.commit_index, entries)))

    def _on_committed_entries(self, sender: int, message: CommittedEntries, now: float) -> None:
        if message.epoch == self.epoch and self._bft is not None:
            self._bft.heard_from(sender, message.commit_index, now)
        advanced = False
        for committed in message.entries:
            if committed.entry.index != self.commit_index + 1:
                continue
            if not self._install(sender, committed, now):
                return
            advanced = True
        # Within a Raft epoch the leader's AppendEntries bring the rest.
        same_raft_epoch = message.epoch == self.epoch and self._raft is not None
        if message.commit_index <= self.commit_index or same_raft_epoch:
            return
        if advanced and is_full(message, self._settings.message_entries):
            self._fetches.ask(sender, now)
            self._ask_for_entries(sender)
        else:
            self._fetch(sender, now)

    def _install(self, sender: int, committed: Committed, now: float) -> bool:
        """Take one decided entry from a peer, along the hash chain and, in a Byzantine epoch, by its certificate."""
        certificate, epoch = committed.certificate, self._epoch
        proven = (
            committed.epoch == epoch.number
            and certificate.epoch == epoch.number
            and certificate.mode is epoch.mode
            and certificate.context == epoch.context
            and certificate.parent == self.history.digest
            and entry_digest(certificate.parent, committed.entry) == certificate.digest
        )
        if proven and epoch.mode is Mode.BFT:
            try:
                verify_certificate(certificate, committed.entry, self.verifier)
            except CertificateError as error:
                self._absorb([Evidence(sender, f"sent a decided entry without proof: {error}", b"")], now)
                return False
        if not proven:
            return False
        if self._raft is not None:
            self._absorb(self._raft.install([committed.entry], now), now)
        else:
            self._absorb_bft(self._byzantine.install(committed, now), now)
        return True

    # -- checkpoints of this node ----------------------------------------------------------------------------------

    def _on_checkpoint_taken(self, index: int, state: bytes, now: float) -> None:
        noted = self._noted.pop(index, None)
        if noted is None:
            return
        taken = self._taken[index] = replace(noted, state=state)
        while len(self._taken) > _OWN_CHECKPOINTS_KEPT:
            del self._taken[min(self._taken)]
        if self.voting:
            vote = sign_checkpoint(taken, self.node, self._sign)
            self._votes.add(vote)
            self._out.extend(Send(peer, vote) for peer in self.peers)
        self._certify(taken, now)

    def _on_checkpoint_vote(self, sender: int, vote: CheckpointVote, now: float) -> None:
        if vote.voter != sender or vote.index <= self._stable_index:
            return
        self._votes.add(vote)
        if vote.index in self._taken:
            self._certify(self._taken[vote.index], now)

    @property
    def _stable_index(self) -> int:
        return 0 if self._stable is None else self._stable.index

    def _certify(self, taken: Checkpoint, now: float) -> None:
        """Where a majority signed what this node holds, it is stable, and the log behind it is cut."""
        certificate, disagree = self._votes.certify(taken, self._verifies)
        for voter in disagree:
            self._absorb([Evidence(voter, f"signed another state behind entry {taken.index} than this node", b"")], now)
        if certificate is not None and taken.index > self._stable_index:
            self._cut_log(CertifiedCheckpoint(taken, certificate, taken.encode()), now)

    def _verifies(self, node: int, message: bytes, signature: bytes) -> bool:
        return self.verifier.verifies(node, message, signature)

    def _cut_log(self, stable: CertifiedCheckpoint, now: float) -> None:
        """The durable log begins at `stable`; in memory what follows the one before is kept for peers that lag, and
        what follows the one that a peer is being sent, as far as memory allows."""
        kept_from = self._laggards.kept_from(self._stable_index, now)
        kept_from = max(kept_from, min(self._stable_index, self.commit_index - self._settings.retained_entries))
        self._stable = stable
        self._forget_checkpoints(stable.index)
        self.history.trim(kept_from)
        if self._raft is not None and kept_from > self._epoch.base_index:
            self._raft.compact(kept_from)
        self._out.append(RewriteLog(self._live_records()))

    def _forget_checkpoints(self, index: int) -> None:
        self._taken = {at: taken for at, taken in self._taken.items() if at > index}
        self._votes.forget_up_to(index, self.membership.keys)

    # -- checkpoints for peers -------------------------------------------------------------------------------------

    def _note_progress(self, follower: int, now: float) -> None:
        """A Raft follower that a checkpoint was sent to has answered what came behind it."""
        if self._raft is not None and follower in self._laggards:
            self._laggards.has_reached(follower, self._raft.match_index.get(follower, 0), now)

    def _offer_snapshots(self, now: float) -> None:
        """A Raft leader knows which followers lack what its log no longer holds."""
        if self._raft is not None:
            for peer in self._raft.needs_snapshot:
                self._offer_snapshot(peer, now)

    def _offer_snapshot(self, peer: int, now: float) -> None:
        """Send the first chunk; the peer asks for the others. Again where that brought nothing."""
        if not self._laggards.is_busy(peer, now):
            self._send_chunk(peer, 0, 0, now)

    def _on_fetch_snapshot(self, sender: int, message: FetchSnapshot, now: float) -> None:
        self._send_chunk(sender, message.index, message.offset, now)

    def _send_chunk(self, peer: int, index: int, offset: int, now: float) -> None:
        """A piece of the checkpoint at `index` where it still is the one to send, else the beginning of a newer one."""
        if self._stable is not None:
            checkpoint = self._laggards.checkpoint_for(peer, self._stable, self.history.first_index, now)
            begin = offset if checkpoint.index == index else 0
            chunk = checkpoint.chunk(self.epoch, begin, self._settings.snapshot_chunk_bytes)
            if chunk is not None:
                self._out.append(Send(peer, chunk))

    def _on_snapshot_chunk(self, sender: int, chunk: SnapshotChunk, now: float) -> None:
        receiver, certificate = self._receiver, chunk.certificate
        if receiver.index <= self.commit_index:
            receiver.give_up()
        if certificate.index <= self.commit_index or not receiver.admits(sender, now):
            return
        try:
            if not receiver.knows(certificate):
                self._check(certificate)
            whole = receiver.take(sender, chunk, now)
        except UnknownSigners:
            receiver.set_aside(sender, now)
            if self._stranded.get(sender) != self.commit_index:
                self._stranded[sender] = self.commit_index
                self._out.append(Stranded(sender, certificate.index))
            return
        except CheckpointError as error:
            receiver.set_aside(sender, now)
            self._absorb([Evidence(sender, f"sent a false checkpoint: {error}", b"")], now)
            return
        if whole is not None:
            self._restore_from(whole, now)
        elif receiver.asks(now, self._settings.resend_interval_s):
            self._out.append(Send(sender, FetchSnapshot(self.epoch, receiver.index, receiver.offset)))

    def _check(self, certificate: CheckpointCertificate) -> None:
        check_certificate(certificate, self.membership, self.verifier)

    def _restore_from(self, certified: CertifiedCheckpoint, now: float) -> None:
        """Go on from a checkpoint that other nodes signed: what came before it is never seen here."""
        checkpoint = certified.checkpoint
        if checkpoint.index <= self.commit_index or checkpoint.epoch.number < self.epoch:
            return
        index, term, digest = checkpoint.index, checkpoint.last_term, checkpoint.digest
        same_epoch = checkpoint.epoch.number == self.epoch
        if not same_epoch:
            self._leave_epoch()
            self._enter_epoch(checkpoint.epoch)
        self._adopt(certified)
        self._forget_checkpoints(index)
        if not same_epoch:
            self._restart_core(checkpoint)
            effects = []
        elif self._raft is not None:
            effects = self._raft.install_snapshot(index, term, digest, now)
        else:
            effects = self._byzantine.install_snapshot(index, term, digest, now)
        self._out.append(RewriteLog(self._live_records()))
        self._out.append(RestoreState(index, checkpoint.state))
        self._absorb(effects, now)
        if not same_epoch:
            self._begin_epoch(now)
        # What was decided before the checkpoint is not known here.
        self._submissions.begin_slowly()
