"""Byzantine agreement: the timers of a replica, how it gives up a view (R5 of `net.bft`), and what it can prove."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from net import bft_repeat
from net.bft_state import BftState
from net.certificate import Verifier, signed_bytes
from net.consensus import Effect, Evidence, LeaderChanged, Persist, Send, Sync
from net.decided import Decided
from net.durable import VoteRecord, encode_record
from net.epoch import Epoch
from net.evidence import PROOFS_PER_CULPRIT_MAX, Contradiction, EvidenceError
from net.messages import (
    Certificate,
    ConsensusMessage,
    EntryKind,
    EvidenceNotice,
    Phase,
    Vote,
)
from net.settings import ConsensusSettings
from net.submissions import Content

NO_DIGEST = bytes(32)
VIEWS_AHEAD = 64


class BftViews(BftState):
    """A replica that watches its leader, and leaves its view."""

    def __init__(
        self,
        node: int,
        epoch: Epoch,
        witness: bool,
        sign: Callable[[bytes], bytes],
        verifier: Verifier,
        settings: ConsensusSettings,
        validate: Callable[[EntryKind, bytes, int | None], bool],
        voting: bool = True,
    ) -> None:
        """`voting` is False for a learner, and for a voter whose disk is not the one that the membership names."""
        super().__init__(node, epoch, witness, verifier, settings, validate, voting)
        self._queue: deque[Content] = deque()
        self._wanted: dict[Content, None] = {}
        # Who misses what it submitted says so every progress timeout.
        self._decided = Decided(0.75 * settings.progress_timeout_s)
        self._barren_views = 0
        self._leader_heard_at = 0.0
        self._waiting_since: float | None = None
        self._resend_at: float | None = None
        self._answered_at: dict[int, float] = {}
        self._held_back: list[Certificate] = []
        self._relay_at: float | None = None
        self._unchecked: list[tuple[int, Certificate]] = []
        self._check_at: float | None = None
        self._leads_on_disk = -1
        self._proofs: dict[int, set[str]] = {}
        self._beats = 0
        self._sign = sign
        self._out: list[Effect] = []

    def _vote_where_possible(self, now: float) -> None:
        raise NotImplementedError

    def _propose_where_possible(self, now: float) -> None:
        raise NotImplementedError

    def _send_all(self, message: ConsensusMessage) -> None:
        self._out.extend(Send(peer, message) for peer in self.peers)

    # -- timers -------------------------------------------------------------------------------------------------------

    def _stretch(self) -> float:
        """Timeouts double with every view that decided nothing, so that some view is long enough at last."""
        return float(2 ** min(self._barren_views, 6))

    def _patience(self) -> float:
        settings = self._settings
        return min(settings.progress_timeout_s * self._stretch(), settings.progress_timeout_max_s)

    def _silence_deadline(self) -> float:
        settings = self._settings
        timeout = min(settings.election_timeout_max_s * self._stretch(), settings.progress_timeout_max_s)
        return self._leader_heard_at + timeout

    def _is_waiting(self) -> bool:
        if self.sealed:
            return False
        if self._wanted or self._queue or self.finalized:
            return True
        if self.view > self.first_view and self.committed_view < self.view:
            return True
        return any(slot.view == self.view and self._is_under_way(slot) for slot in self.slots.values())

    def _watch(self, now: float) -> None:
        """Timers run while something is under way, and only then."""
        if self._is_waiting() or self.nullified:
            if self._waiting_since is None:
                self._waiting_since = now
            if self._resend_at is None:
                self._resend_at = now + self._settings.resend_interval_s
        else:
            self._waiting_since = None
            self._resend_at = None

    # -- giving up a view ---------------------------------------------------------------------------------------------

    def _nullify(self, now: float) -> None:
        """R5."""
        if self.nullified or self.sealed or not self.voting:
            return
        self._cast_nullify(self.view, *self._report())
        self._check_nullified(now)

    def _report(self) -> tuple[int, bytes]:
        """The height and digest of this node's NULLIFY vote in the current view."""
        return self.finalize_top + 1, NO_DIGEST

    def _cast_nullify(self, view: int, height: int, digest: bytes) -> None:
        signature = self._sign(signed_bytes(self.context, Phase.NULLIFY, view, height, digest))
        vote = Vote(self.epoch.number, Phase.NULLIFY, view, height, digest, self.node, signature)
        record = VoteRecord(self.epoch.number, self.witness, Phase.NULLIFY, view, height, digest, signature)
        self._out.append(Persist(encode_record(record)))
        self._out.append(Sync())
        self.nullifications.add(vote)
        for message in bft_repeat.nullify_messages(self, vote):
            self._send_all(message)

    def _on_nullify(self, sender: int, vote: Vote, now: float) -> None:
        if vote.view < self.committed_view or vote.view > self.view + VIEWS_AHEAD:
            self._answer_laggard(sender, vote.view, now)
            return
        before = self.nullifications.of(vote.view, vote.voter)
        if before is None or (before.height, before.digest) != (vote.height, vote.digest):
            said = signed_bytes(self.context, Phase.NULLIFY, vote.view, vote.height, vote.digest)
            unfit = vote.digest != NO_DIGEST and self.vote_phase is Phase.NOTARIZE
            if unfit or not self._verifier.verifies(vote.voter, said, vote.signature):
                if sender == vote.voter:
                    self._out.append(Evidence(sender, "NULLIFY vote with a wrong signature", b""))
                return
            if before is not None:
                self._prove(Contradiction(self.context, before, vote))
                self._on_second_nullify(sender, vote, now)
                return
            self._keep_nullify(vote)
            self._check_nullified(now)
            self._vote_where_possible(now)
            self._propose_where_possible(now)
        if vote.view < self.view and sender == vote.voter:
            self._answer_laggard(sender, vote.view, now)

    def _keep_nullify(self, vote: Vote) -> None:
        self.nullifications.add(vote)

    def _on_second_nullify(self, sender: int, vote: Vote, now: float) -> None:
        """A voter's second NULLIFY of one view counts for nothing."""

    def _check_nullified(self, now: float) -> None:
        """f + 1 votes hold an honest one, and a leader may give itself up: join. A quorum of votes: the next view."""
        highest = self.nullifications.highest_view_with(self.quorum)
        if highest is not None and highest >= self.view:
            self._enter_view(highest + 1, now)
            return
        resigned = self.nullifications.of(self.view, self.leader) is not None
        if not self.nullified and (resigned or self.nullifications.count(self.view) > self.faults):
            self._nullify(now)

    def _enter_view(self, view: int, now: float) -> None:
        if view <= self.view:
            return
        # Without the votes of those that skip a view, a liar's vote could leave the next leader without grounds.
        for left in range(max(self.view, view - VIEWS_AHEAD), view):
            if self.voting and self.nullifications.of(left, self.node) is None:
                self._cast_nullify(left, *(self._report() if left == self.view else (0, NO_DIGEST)))
        self.view = view
        self.elections += 1
        self._barren_views += 1
        self.finalize_top = -1
        self.voted_in_view = False
        self.tip = None
        self._waiting_since = now
        self._resend_at = now + self._settings.resend_interval_s
        self._leader_heard_at = now
        # What was queued is handed over again by those who submitted it, once the new view has decided something.
        self._queue.clear()
        self._wanted.clear()
        self._out.append(LeaderChanged(self.leader, view))
        self._vote_where_possible(now)
        self._propose_where_possible(now)

    # -- evidence and lag ---------------------------------------------------------------------------------------------

    def _prove(self, contradiction: Contradiction) -> None:
        """Keep a checked proof, and pass it on once: the liar may have told each of us something else."""
        proofs = self._proofs.setdefault(contradiction.culprit, set())
        if len(proofs) >= PROOFS_PER_CULPRIT_MAX or contradiction.reason in proofs:
            return
        proofs.add(contradiction.reason)
        self._out.append(Evidence(contradiction.culprit, contradiction.reason, contradiction.encode()))
        self._send_all(EvidenceNotice(self.epoch.number, self.witness, contradiction.first, contradiction.second))

    def _on_evidence(self, sender: int, notice: EvidenceNotice) -> None:
        contradiction = Contradiction(self.context, notice.first, notice.second)
        proofs = self._proofs.get(contradiction.culprit, ())
        known = contradiction.reason in proofs or contradiction.culprit == self.node
        if notice.witness is not self.witness or known:
            return
        if len(proofs) >= PROOFS_PER_CULPRIT_MAX:
            return
        try:
            contradiction.check(self._verifier)
        except EvidenceError as error:
            self._out.append(Evidence(sender, f"passed on false evidence: {error}", b""))
            return
        self._prove(contradiction)

    def _in_range(self, sender: int, view: int, height: int, now: float) -> bool:
        """Whether a slot is worth keeping (a liar must not fill the memory); peers that lag get an answer."""
        if height <= self.committed_height:
            if height < self.committed_height or view < self.view:
                self._answer_laggard(sender, view, now)
            return False
        if height > self.committed_height + 4 * self._settings.bft_window + 64:
            self.far_behind = True
            return False
        if view < self.view:
            self._answer_laggard(sender, view, now)
        return self.first_view <= view <= self.view + VIEWS_AHEAD and view >= self.committed_view

    def _answer_laggard(self, peer: int, view: int, now: float) -> None:
        """Send what lets a peer leave an old view or height."""
        if now < self._answered_at.get(peer, float("-inf")) + self._settings.resend_interval_s / 2:
            return
        self._answered_at[peer] = now
        self._out.extend(Send(peer, message) for message in bft_repeat.for_laggard(self, view))
