"""Raft's elections: randomised timeouts (§5.2), the up-to-date rule (§5.4.1), pre-vote (thesis §9.6)."""

from __future__ import annotations

from random import Random

from net.consensus import Sync
from net.epoch import Epoch
from net.messages import RequestVote, RequestVoteReply, TimeoutNow
from net.quorum import majority
from net.raft_state import RaftState
from net.settings import ConsensusSettings


class RaftElection(RaftState):
    """Who leads. A node without a vote asks nobody and answers nobody."""

    def __init__(self, node: int, epoch: Epoch, random: Random, settings: ConsensusSettings, voting: bool) -> None:
        super().__init__(node, epoch, random, settings, voting)
        self.quorum = majority(len(epoch.membership.voters))
        self.elections = 0
        self._votes: set[int] = set()
        self._leader_heard_at = float("-inf")
        self._election_at = 0.0

    def _start_election_clock(self, now: float) -> None:
        if self.term > 0:
            # It may have heard a leader just before it went down, and that leader counts on its silence until a
            # timeout later (the lease, thesis §6.4.1). A node of term 0 never answered a leader of this epoch.
            self._leader_heard_at = now
        self._reset_election_timer(now)
        # The node that led before the switch campaigns at once; nobody has a leader to disturb yet.
        hinted = self.epoch.leader_hint == self.node and self.term == 0
        if self.voting and (hinted or not self.peers):
            self._campaign(now)

    def _reset_election_timer(self, now: float) -> None:
        low, high = self._settings.election_timeout_min_s, self._settings.election_timeout_max_s
        self._election_at = now + self._random.uniform(low, high)

    def _on_election_timeout(self, now: float) -> None:
        if self.voting:
            self._pre_campaign(now)
        else:
            self._set_leader(None)
            self._election_at = float("inf")

    def _pre_campaign(self, now: float) -> None:
        """Ask whether an election could be won, without disturbing anybody's term."""
        self.role = "pre-candidate"
        self._set_leader(None)
        self._votes = {self.node}
        self._reset_election_timer(now)
        if len(self._votes) >= self.quorum:
            self._campaign(now)
            return
        self._request_votes(self.term + 1, pre_vote=True)

    def _campaign(self, now: float, transfer: bool = False) -> None:
        self.role = "candidate"
        self.elections += 1
        self._set_leader(None)
        self._set_term(self.term + 1, self.node)
        self._votes = {self.node}
        self._reset_election_timer(now)
        self._out.append(Sync())
        if len(self._votes) >= self.quorum:
            self._lead(now)
            return
        self._request_votes(self.term, pre_vote=False, transfer=transfer)

    def _request_votes(self, term: int, pre_vote: bool, transfer: bool = False) -> None:
        log = self.log
        request = RequestVote(self.epoch.number, term, self.node, log.last_index, log.last_term, pre_vote, transfer)
        for peer in self.peers:
            self._send(peer, request)

    def _on_timeout_now(self, message: TimeoutNow, now: float) -> None:
        """Thesis §3.10: the leader wants this node to lead. No pre-vote: the leader itself gives way."""
        asked_by_leader = message.term == self.term and message.leader == self.leader
        if self.voting and self.role == "follower" and asked_by_leader:
            self._campaign(now, transfer=True)

    def _may_be_deposed(self, request: RequestVote, now: float) -> bool:
        """Whether hearing a leader lately is no reason to refuse (thesis §4.2.3, §6.4.1).

        The leader's lease rests on this: who answered a round refuses every other candidate for
        `election_timeout_min_s`. A transfer needs no wait, since its leader gave its lease up before it asked.
        """
        if request.transfer or request.candidate == self.leader:
            return True
        return self.role != "leader" and now >= self._leader_heard_at + self._settings.election_timeout_min_s

    def _on_request_vote(self, request: RequestVote, now: float) -> None:
        if not self.voting:
            return
        up_to_date = (request.last_log_term, request.last_log_index) >= (self.log.last_term, self.log.last_index)
        unbound = self._may_be_deposed(request, now)
        if request.pre_vote:
            granted = unbound and up_to_date and request.term > self.term
            self._reply_vote(request.candidate, request.term if granted else self.term, granted, pre_vote=True)
            return
        if request.term > self.term and unbound:
            self._become_follower(request.term, None, now)
        promised = self.voted_for == request.candidate
        granted = request.term == self.term and up_to_date and (unbound or promised) and self._grant(request, now)
        self._reply_vote(request.candidate, self.term, granted, pre_vote=False)

    def _grant(self, request: RequestVote, now: float) -> bool:
        """§5.2: one vote a term, on disk before it leaves."""
        if self.role == "leader" or self.voted_for not in (None, request.candidate):
            return False
        self.role = "follower"
        if self.voted_for is None:
            self._set_term(self.term, request.candidate)
        self._out.append(Sync())
        self._reset_election_timer(now)
        return True

    def _reply_vote(self, candidate: int, term: int, granted: bool, pre_vote: bool) -> None:
        self._send(candidate, RequestVoteReply(self.epoch.number, term, self.node, granted, pre_vote))

    def _on_vote_reply(self, reply: RequestVoteReply, now: float) -> None:
        if reply.voter not in self.peers:
            return
        if not reply.granted:
            if reply.term > self.term:
                self._become_follower(reply.term, None, now)
            return
        if reply.pre_vote:
            if self.role == "pre-candidate" and reply.term == self.term + 1:
                self._votes.add(reply.voter)
                if len(self._votes) >= self.quorum:
                    self._campaign(now)
        elif self.role == "candidate" and reply.term == self.term:
            self._votes.add(reply.voter)
            if len(self._votes) >= self.quorum:
                self._lead(now)

    def _become_follower(self, term: int, leader: int | None, now: float) -> None:
        if term > self.term:
            self._set_term(term, None)
            self._out.append(Sync())
        if self.role != "follower":
            self.role = "follower"
            self._reset_election_timer(now)
        self._set_leader(leader)

    def _lead(self, now: float) -> None:
        raise NotImplementedError
