"""How what is submitted gets into the log: handing over to the leader, AUTO's witnesses, and what a commit sets off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from net.consensus import Commit, Effect, EpochStarted, Evidence, LeaderChanged, Refused, Send, TakeCheckpoint
from net.durable import RecordError, decode_witness
from net.epoch import Epoch
from net.membership_change import readmission, sign_change
from net.messages import ENDS_EPOCH, Committed, ConsensusMessage, EntryKind, Forward
from net.payload_batch import contents_of, pack
from net.raft import RaftCore
from net.replica_log import ReplicaLog
from net.submissions import Content

_EVIDENCE_KEPT = 32
_FORWARDED = (EntryKind.DATA, *ENDS_EPOCH)


class ReplicaOrdering(ReplicaLog):
    """Submissions on their way into the log, and the effects of the cores."""

    def _start_ordering(self) -> None:
        self._witness_at: float | None = None
        self._asked_readmission = False
        self._rounds = 0
        self._elections_before = 0
        self._future: list[tuple[int, ConsensusMessage]] = []
        self._replay: list[tuple[int, ConsensusMessage]] = []
        self._evidence: list[str] = []

    # -- submissions -----------------------------------------------------------------------------------------------

    def _submit(self, contents: list[Content], now: float) -> None:
        waiting = self._submissions
        waiting.add(contents)
        if waiting.handed_to is not None and waiting.handed_to == self._leader_key() and not waiting.is_slow:
            self._hand_over(contents, now)

    def _leader_key(self) -> tuple[int, int, int] | None:
        """Epoch, term and leader, once an entry of that term is decided: then the fate of all before it is known."""
        leader = self.leader
        if leader is None or not self._settled:
            return None
        return (self.epoch, self.term, leader)

    def _hand_over(self, contents: list[Content], now: float) -> None:
        leader = self.leader
        if not contents or leader is None:
            return
        if leader != self.node:
            self._forward((leader,), contents)
        elif self.voting:
            self._order(contents, now)
        else:
            # The view is its to lead, and it may not: the others must hear what waits, to leave that view.
            self._forward(self.peers, contents)

    def _hand_over_waiting(self, now: float) -> None:
        """Hand waiting submissions to a leader that has become known."""
        if len(self._submissions) and self._submissions.handed_to != (key := self._leader_key()):
            self._submissions.handed_to = key
            if key is not None:
                if self._auto is not None:
                    self._auto.clear()
                self._hand_over(self._submissions.next(), now)
        elif not self._submissions:
            if (key := self._leader_key()) != self._submissions.handed_to and self._auto is not None:
                self._auto.clear()
            self._submissions.handed_to = key
            self._hand_over_at = None
        elif self._submissions.owes_more and self._submissions.handed_to is not None:
            self._hand_over(self._submissions.next(), now)
        if self._hand_over_at is None and self._submissions and self._submissions.handed_to is not None:
            self._hand_over_at = now + self._settings.progress_timeout_s

    def _forward(self, nodes: Iterable[int], contents: list[Content]) -> None:
        """Runs of one kind travel in one message, in order."""
        position = 0
        while position < len(contents):
            kind = contents[position][0]
            run = position
            while run < len(contents) and contents[run][0] == kind and run - position < self._settings.message_entries:
                run += 1
            message = Forward(self.epoch, kind, tuple(payload for _, payload in contents[position:run]))
            self._out.extend(Send(to, message) for to in nodes)
            position = run

    def _order(self, contents: list[Content], now: float) -> None:
        """This node leads: put `contents` into the log."""
        if self._raft is None:
            self._absorb_bft(self._byzantine.propose_contents(contents, now), now)
        elif self._auto is None:
            self._absorb(self._raft.propose_entries(pack(contents, self._settings.batch_payloads), now), now)
        else:
            for refused in self._auto.add(contents):
                self._give_up(refused)
            self._pump_auto(now)

    def _hand_over_again(self, now: float) -> None:
        """Handed over long ago and still not decided: a forward was lost, or the leader ignores us."""
        self._hand_over_at = None
        waiting = self._submissions.next()
        leads = self.leader == self.node and self.voting
        if not leads:
            # A leader judges what it is to order, and tells nobody else what it refused.
            refused = {content for content in waiting if not self._may_be_ordered(*content)}
            for content in waiting:
                if content in refused:
                    self._give_up(content)
            waiting = [content for content in waiting if content not in refused]
        if not waiting:
            return
        self._hand_over_at = now + self._settings.progress_timeout_s
        leader = self.leader
        if leads:
            self._order_again(waiting, now)
        elif self._raft is None:
            # Everybody hears of it, so that a leader that ignores it loses its view.
            self._forward(self.peers, waiting)
            self._byzantine.want(waiting, now)
        elif leader is not None and leader != self.node:
            self._forward((leader,), waiting)

    def _may_be_ordered(self, kind: EntryKind, payload: bytes) -> bool:
        """Whether the replicas of this epoch order `payload`, as this node judges it; by Raft they order everything."""
        if kind in ENDS_EPOCH:
            return True
        if self._auto is not None:
            return self._may_pass(kind, payload)
        return self._raft is not None or self._judge_content(kind, payload)

    def _give_up(self, content: Content) -> None:
        """Nobody orders `content` in this epoch: where it was submitted here, it waits no longer.

        What is to end the epoch waits for as long as that runs (`_drop_settled_changes`).
        """
        if content[0] not in ENDS_EPOCH and self._submissions.settle(content):
            self._out.append(Refused(*content))

    def _order_again(self, contents: list[Content], now: float) -> None:
        """This node leads: what it submitted itself and its full queue dropped is not on its way."""
        raft = self._raft
        if raft is None:
            self._absorb_bft(self._byzantine.on_forward(self.node, contents, now), now)
        elif raft.role == "leader":
            self._order(self._not_in_flight(raft, contents), now)

    def _on_forward(self, sender: int, message: Forward, now: float) -> None:
        if message.kind not in _FORWARDED:
            return
        contents: list[Content] = [(message.kind, payload) for payload in message.payloads]
        if self._raft is not None and self._raft.role == "leader":
            self._order(self._not_in_flight(self._raft, contents), now)
        elif self._raft is None:
            self._absorb_bft(self._byzantine.on_forward(sender, contents, now), now)
        elif self._bft is not None:
            # AUTO's Raft leader asks for witnesses.
            wanted = [content for content in contents if self._needs_witness(*content)]
            self._absorb_bft(self._bft.on_forward(sender, wanted, now), now)

    def _not_in_flight(self, raft: RaftCore, contents: list[Content]) -> list[Content]:
        """Drop what was handed over before and waits here already."""
        flying = set() if self._auto is None else self._auto.contents()
        for kind, payload in raft.undecided:
            if kind is EntryKind.WITNESSED:
                with suppress(RecordError):
                    _, kind, payload = decode_witness(payload)
            flying.update(contents_of(kind, payload))
        return [each for each in contents if each not in flying]

    def _ask_for_readmission(self, now: float) -> None:
        """A voter whose disk was lost votes again once an epoch names the disk that it has now."""
        member = self.membership.member(self.node)
        exiled = member is not None and member.voter and not self.voting
        if not exiled or not self.incarnation or self._asked_readmission or self._leader_key() is None:
            return
        self._asked_readmission = True
        after = readmission(self.membership, self.node, self.incarnation)
        payload = sign_change(self._epoch, after, self.leader, self.node, self._sign)
        self._submit([(EntryKind.MEMBERSHIP, payload)], now)

    # -- AUTO ------------------------------------------------------------------------------------------------------

    def _pump_auto(self, now: float) -> None:
        """AUTO's leader: order what is ready; a critical entry waits for its witness and holds what follows."""
        raft, bft, auto = self._raft, self._bft, self._auto
        if raft is None or bft is None or auto is None or raft.role != "leader":
            return
        wanted = auto.unrequested(self._needs_witness)
        if self._witness_at is None and len(auto):
            self._witness_at = now + self._settings.progress_timeout_s
        if wanted:
            if bft.leader == self.node:
                self._absorb_bft(bft.propose_contents(wanted, now), now, pump=False)
            else:
                self._forward((bft.leader,), wanted)
        ready = auto.ready(self._needs_witness)
        if ready:
            self._witness_at = now + self._settings.progress_timeout_s if len(auto) else None
            self._absorb(raft.propose_entries(pack(ready, self._settings.batch_payloads), now), now)

    def _ask_for_witnesses_again(self, now: float) -> None:
        """A request was lost, or the witness log's leader ignores it: everybody hears of what is waited for."""
        self._witness_at = None
        raft, bft, auto = self._raft, self._bft, self._auto
        if raft is None or bft is None or auto is None or raft.role != "leader":
            return
        for refused in auto.sift():
            self._give_up(refused)
        auto.request_again()
        wanted = auto.unrequested(self._needs_witness)
        if bft.leader != self.node:
            self._forward(self.peers, wanted)
            bft.want(wanted, now)
        else:
            self._absorb_bft(bft.on_forward(self.node, wanted, now), now, pump=False)
        self._pump_auto(now)

    # -- effects of the cores --------------------------------------------------------------------------------------

    def _absorb(self, effects: list[Effect], now: float) -> None:
        """Effects of the core that orders the log; its commits become this replica's."""
        for effect in effects:
            if isinstance(effect, Commit):
                self._on_commit(effect.entries, now)
            elif isinstance(effect, Refused):
                self._give_up((effect.kind, effect.payload))
            else:
                if isinstance(effect, Evidence):
                    self._keep_evidence(effect)
                self._out.append(effect)

    def _absorb_bft(self, effects: list[Effect], now: float, pump: bool = True) -> None:
        if self._raft is None:
            self._absorb(effects, now)
            return
        auto = self._auto
        for effect in effects:
            if isinstance(effect, Commit):
                if auto is not None:
                    auto.add_witnesses(effect.entries)
                continue
            if isinstance(effect, LeaderChanged):
                if auto is not None:
                    auto.request_again()
                continue
            if isinstance(effect, Refused):
                # Asked for by the leader, whose queue has judged it already, or by a forward of another node's.
                continue
            if isinstance(effect, Evidence):
                self._keep_evidence(effect)
            self._out.append(effect)
        if pump:
            self._pump_auto(now)

    def _keep_evidence(self, effect: Evidence) -> None:
        self._evidence.append(f"node {effect.culprit}: {effect.reason}")
        del self._evidence[:-_EVIDENCE_KEPT]

    def _on_commit(self, entries: Sequence[Committed], now: float) -> None:
        """Give decided entries out, in one Commit up to each checkpoint and up to the end of the epoch."""
        outward: list[Committed] = []
        denied: list[int] = []
        led = self.leader == self.node
        interval = self._settings.checkpoint_interval_entries
        for committed in entries:
            index = committed.entry.index
            if index != self.history.last_index + 1 or committed.epoch != self._epoch.number:
                continue
            seen, refused, following = self._decide(committed)
            outward.append(seen)
            if refused:
                denied.append(index)
            if interval and index % interval == 0:
                self._note_checkpoint(index, following or self._epoch)
                self._out.append(Commit(tuple(outward), tuple(denied)))
                self._out.append(TakeCheckpoint(index))
                outward, denied = [], []
            if following is not None:
                self._rounds += led
                if outward:
                    self._out.append(Commit(tuple(outward), tuple(denied)))
                self._switch(following, now)
                return
        if outward:
            self._rounds += led
            self._out.append(Commit(tuple(outward), tuple(denied)))

    # -- epochs ----------------------------------------------------------------------------------------------------

    def _switch(self, epoch: Epoch, now: float) -> None:
        """The old protocol stops here; the new one starts from this state."""
        if self._raft is not None:
            # Followers learn the end of the epoch from the core that is dropped now.
            self._out.extend(self._raft.push_commit(now))
        self._leave_epoch()
        self._enter_epoch(epoch)
        self._begin_epoch(now)

    def _leave_epoch(self) -> None:
        self._elections_before += sum(core.elections for core in (self._raft, self._bft) if core is not None)
        if self._raft is not None:
            self._out.extend(self._raft.drop_reads())

    def _begin_epoch(self, now: float) -> None:
        """The running epoch was entered just now: start its cores, and take what came early for it."""
        self._drop_settled_changes()
        self._submissions.handed_to = None
        self._hand_over_at = self._witness_at = None
        self._asked_readmission = False
        epoch = self._epoch
        self._out.append(EpochStarted(epoch.number, epoch.mode, epoch.base_index, epoch.membership))
        self._start_cores(now)
        self._replay, self._future = self._future, []

    def _start_cores(self, now: float) -> None:
        if self._bft is not None:
            self._absorb_bft(self._bft.start(now), now)
        if self._raft is not None:
            self._absorb(self._raft.start(now), now)

    def _drop_settled_changes(self) -> None:
        """What was signed for an epoch that is over ends no other one."""
        for kind, payload in self._submissions.all():
            if kind in ENDS_EPOCH and not self._judge_content(kind, payload):
                self._submissions.settle((kind, payload))
