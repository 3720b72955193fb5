"""Learners, leadership transfer, the leader's lease and ReadIndex."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from net.consensus import Effect
from net.epoch import first_epoch
from net.messages import (
    AppendEntriesReply,
    Mode,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from net.raft import RaftCore
from net.raft_leader import MESSAGE_PAYLOAD_BYTES
from net.simulation.keys import signer
from tests.unit.raft_cores import (
    SETTINGS,
    acknowledge,
    append,
    appends,
    committed,
    core,
    elect,
    entry,
    membership,
    reads,
    sent,
)

LEASE_S = SETTINGS.election_timeout_min_s / (1 + SETTINGS.lease_clock_drift)


def settled(n: int = 5, learners: int = 0) -> RaftCore:
    """Node 0 leads since 1.0; its first entry is committed by rounds that are dated 1.0."""
    leader = core(n=n, learners=learners)
    elect(leader)
    for peer in range(1, n):
        acknowledge(leader, peer, 1, round_=1)
    assert leader.is_settled_leader
    return leader


# -- learners, and voters whose disk is another ------------------------------------------------------------------------


def test_a_learner_gets_everything_and_counts_in_no_quorum() -> None:
    leader = settled(3, learners=2)
    effects = leader.propose([b"a"], 1.0)
    assert [len(appends(effects, peer)) for peer in (1, 2, 3, 4)] == [1, 1, 1, 1]
    for learner in (3, 4):
        assert committed(acknowledge(leader, learner, 2, voting=False)) == []
        assert committed(acknowledge(leader, learner, 2, voting=True)) == [], "whatever it says of itself"
    assert leader.match_index == {1: 1, 2: 1, 3: 2, 4: 2}
    assert committed(acknowledge(leader, 1, 2)) == [2]


def test_a_learner_neither_campaigns_nor_votes_nor_speaks_as_a_voter() -> None:
    learner = core(3, n=3, learners=1)
    assert learner.tick(9.0) == []
    assert learner.next_deadline() is None
    assert learner.step(1, RequestVote(1, 5, 1, 9, 4, False), 9.0) == []
    assert learner.step(1, RequestVote(1, 5, 1, 9, 4, True), 9.0) == []
    effects = learner.step(0, append(1, 0, (0, 0), (entry(1, 1),), 1), 9.1)
    assert sent(effects) == [AppendEntriesReply(1, 1, 3, True, 1, 0, 7, voting=False)]
    assert committed(effects) == [1]
    assert learner.step(0, TimeoutNow(1, 1, 0), 9.1) == []


def test_what_a_voter_without_its_disk_holds_counts_in_no_quorum() -> None:
    """It may have voted in a later term and forgotten that it must refuse this leader."""
    leader = settled(3)
    leader.propose([b"a"], 1.0)
    wiped = core(1, n=3, voting=False)
    (reply,) = sent(wiped.step(0, append(1, 0, (0, 0), leader.log.slice(1, 2), 1), 1.1))
    assert isinstance(reply, AppendEntriesReply)
    assert (reply.success, reply.match_index, reply.voting) == (True, 2, False)
    assert committed(leader.step(1, reply, 1.1)) == []
    assert committed(acknowledge(leader, 2, 2)) == [2]


def test_a_follower_that_lost_its_disk_is_sent_what_it_once_acknowledged() -> None:
    leader = settled(3)
    leader.propose([b"a", b"b"], 1.0)
    acknowledge(leader, 1, 3)
    refusal = AppendEntriesReply(1, leader.term, 1, False, 0, 1, 0, voting=False)
    (probe,) = appends(leader.step(1, refusal, 1.1), 1)
    assert (probe.prev_log_index, len(probe.entries)) == (0, 3)


def test_replies_that_do_not_count_keep_no_leader_in_office() -> None:
    leader = settled(3)
    for peer in (1, 2):
        leader.step(peer, AppendEntriesReply(1, leader.term, peer, True, 1, 0, 2, voting=False), 1.7)
    leader.tick(1.0 + SETTINGS.election_timeout_max_s + 0.01)
    assert leader.role == "follower"


def test_a_reply_beyond_the_leaders_log_changes_nothing() -> None:
    leader = settled(3)
    assert acknowledge(leader, 1, 99) == []
    assert leader.match_index[1] == 1


# -- flow control ------------------------------------------------------------------------------------------------------


def test_a_message_lost_in_mid_window_is_sent_again_at_the_next_refusal() -> None:
    leader, follower = settled(3), core(1, n=3)
    follower.step(0, append(leader.term, 0, (0, 0), leader.log.slice(1, 1), 1), 1.0)
    messages = [appends(leader.propose([b"%d" % number], 1.0 + number / 100), 1)[0] for number in range(5)]
    resent: list[list[int]] = []
    for message in messages[1:]:
        (refusal,) = sent(follower.step(0, message, 1.1))
        resent += [[each.index for each in again.entries] for again in appends(leader.step(1, refusal, 1.1), 1)]
    assert resent == [[2, 3, 4, 5]], "once, from the lost entry on, whatever else refuses"
    (probe,) = appends(leader.tick(1.3), 1)
    (reply,) = sent(follower.step(0, probe, 1.3))
    (rest,) = appends(leader.step(1, reply, 1.3), 1)
    follower.step(0, rest, 1.3)
    assert follower.log.last_index == leader.log.last_index == 6


def test_a_refusal_of_what_was_sent_before_the_last_back_up_sets_off_nothing() -> None:
    leader = settled(3)
    for number in range(4):
        leader.propose([b"x"], 1.0 + number / 100)
    (probe,) = appends(leader.step(1, AppendEntriesReply(1, leader.term, 1, False, 0, 2, 2), 1.1), 1)
    acknowledge(leader, 1, 5, 1.2, probe.round)
    assert leader.step(1, AppendEntriesReply(1, leader.term, 1, False, 0, 2, 3), 1.3) == []


def test_a_message_is_bounded_in_bytes() -> None:
    leader = settled(3)
    big = bytes(MESSAGE_PAYLOAD_BYTES * 2 // 5)
    first, second = appends(leader.propose([big, big, big], 1.0), 1)
    assert [len(first.entries), len(second.entries)] == [2, 1]


def test_followers_that_are_equally_far_get_the_same_object() -> None:
    leader = settled(4)
    effects = leader.propose([b"a"], 1.0)
    messages = [appends(effects, peer)[0] for peer in (1, 2, 3)]
    assert messages[0] is messages[1] is messages[2]


# -- leadership transfer (thesis §3.10) --------------------------------------------------------------------------------


def timeouts(effects: list[Effect]) -> list[object]:
    return [message for message in sent(effects) if isinstance(message, TimeoutNow)]


def test_who_is_up_to_date_is_told_at_once_and_others_when_they_are() -> None:
    leader = settled()
    assert sent(leader.transfer_leadership(1, 1.0), to=1)[-1] == TimeoutNow(1, 1, 0)
    leader = settled()
    leader.propose([b"a"], 1.0)
    assert timeouts(leader.transfer_leadership(1, 1.0)) == []
    assert timeouts(acknowledge(leader, 2, 2)) == []
    assert timeouts(acknowledge(leader, 1, 2)) == [TimeoutNow(1, 1, 0)]


def test_a_transfer_is_an_election_without_pre_vote_that_those_who_hear_the_leader_help() -> None:
    follower = core(1)
    follower.step(0, append(3, 0, (0, 0), (), 0), 1.0)
    assert follower.step(0, TimeoutNow(1, 2, 0), 1.01) == [], "of another term"
    assert follower.step(2, TimeoutNow(1, 3, 2), 1.01) == [], "not from its leader"
    requests = sent(follower.step(0, TimeoutNow(1, 3, 0), 1.01))
    assert requests[0] == RequestVote(1, 4, 1, 0, 0, False, transfer=True)
    voter = core(2)
    voter.step(0, append(3, 0, (0, 0), (), 0), 1.0)
    assert sent(voter.step(1, replace(requests[0], transfer=False), 1.02)) == [RequestVoteReply(1, 3, 2, False, False)]
    assert sent(voter.step(1, requests[0], 1.02)) == [RequestVoteReply(1, 4, 2, True, False)]


def test_the_leader_itself_gives_way_to_whom_it_asked() -> None:
    leader = settled()
    leader.transfer_leadership(1, 1.0)
    effects = leader.step(1, RequestVote(1, 2, 1, 1, 1, False, transfer=True), 1.01)
    assert sent(effects)[-1] == RequestVoteReply(1, 2, 0, True, False)
    assert (leader.role, leader.term) == ("follower", 2)


def test_proposals_wait_out_a_transfer_and_follow_if_it_fails() -> None:
    leader = settled()
    leader.transfer_leadership(1, 1.0)
    assert leader.transferring_to == 1
    assert leader.propose([b"held"], 1.1) == []
    assert leader.log.last_index == 1
    for peer in (2, 3):
        acknowledge(leader, peer, 1, 1.7)
    assert leader.next_deadline() is not None
    effects = leader.tick(1.0 + SETTINGS.election_timeout_max_s)
    assert leader.transferring_to is None
    assert leader.log.entry_at(2).payload == b"held"
    assert len(appends(effects, 2)) >= 1
    leader = settled()
    leader.transfer_leadership(1, 1.0)
    leader.propose([b"held"], 1.1)
    leader.step(1, RequestVote(1, 2, 1, 1, 1, False, transfer=True), 1.2)
    assert leader.log.last_index == 1, "who proposed it hands it to the next leader"


def test_leadership_goes_to_another_voter_only() -> None:
    leader = settled(3, learners=1)
    for to in (0, 3, 9):
        with pytest.raises(ValueError, match="another voter"):
            leader.transfer_leadership(to, 1.0)
    leader.transfer_leadership(1, 1.0)
    with pytest.raises(RuntimeError, match="on its way to node 1"):
        leader.transfer_leadership(2, 1.0)
    with pytest.raises(RuntimeError, match="does not lead"):
        core().transfer_leadership(1, 1.0)


# -- lease and ReadIndex (thesis §6.4) ---------------------------------------------------------------------------------


def test_the_lease_runs_from_when_the_round_was_sent_that_a_quorum_answered() -> None:
    leader = settled(5)
    assert leader.lease_until == pytest.approx(1.0 + LEASE_S)
    (first,) = appends(leader.propose([b"a"], 1.2), 1)
    acknowledge(leader, 1, 2, 1.29, first.round)
    assert leader.lease_until == pytest.approx(1.0 + LEASE_S), "two of five"
    acknowledge(leader, 2, 2, 1.3, first.round)
    assert leader.lease_until == pytest.approx(1.2 + LEASE_S)
    acknowledge(leader, 3, 2, 1.4, 999)
    assert leader.lease_until == pytest.approx(1.2 + LEASE_S), "a round that never was dates nothing"


def test_a_read_under_the_lease_needs_no_message_and_one_past_it_needs_a_round() -> None:
    leader = settled(3)
    assert leader.read_index(5, 1.1) != []
    assert reads(leader.read_index(6, 1.1)) == [(6, 1)]
    late = 1.0 + LEASE_S
    effects = leader.read_index(7, late)
    assert reads(effects) == []
    asked = appends(effects, 1)[0].round
    assert reads(acknowledge(leader, 1, 1, late, asked - 1)) == [], "an answer to what was sent before the read"
    assert reads(acknowledge(leader, 1, 1, late, asked)) == [(7, 1)]


def test_reads_that_arrive_during_a_round_share_the_next() -> None:
    leader = settled(3)
    first = appends(leader.read_index(1, 2.0), 1)[0].round
    assert [leader.read_index(number, 2.01) for number in (2, 3)] == [[], []]
    effects = acknowledge(leader, 1, 1, 2.02, first)
    assert reads(effects) == [(1, 1)]
    second = appends(effects, 2)[0].round
    assert reads(acknowledge(leader, 2, 1, 2.03, second)) == [(2, 1), (3, 1)]


def test_a_new_leader_reads_only_once_an_entry_of_its_term_is_committed() -> None:
    leader = core(n=3)
    leader.step(2, append(1, 2, (0, 0), (entry(1, 1), entry(2, 1)), 1), 0.1)
    elect(leader, 2.0)
    assert reads(leader.read_index(1, 2.0)) == []
    asked = leader._rounds.last
    assert reads(acknowledge(leader, 1, 2, 2.1, asked)) == [], "heard, but the old entries' fate is open"
    assert reads(acknowledge(leader, 1, 3, 2.1, asked)) == [(1, 3)]


def test_a_transfer_voids_the_lease_for_the_rest_of_the_term() -> None:
    """The TimeoutNow may arrive at any later time."""
    leader = settled(3)
    leader.transfer_leadership(1, 1.01)
    assert leader.lease_until == float("-inf")
    acknowledge(leader, 2, 1, 1.5, leader._rounds.last)
    leader.tick(1.01 + SETTINGS.election_timeout_max_s)
    assert leader.transferring_to is None
    acknowledge(leader, 2, 1, 1.9, leader._rounds.last)
    assert leader.lease_until == float("-inf")
    assert reads(leader.read_index(1, 1.9)) == []


def test_a_restarted_voter_votes_for_nobody_until_a_lease_it_may_have_given_is_over() -> None:
    voter = RaftCore(0, first_epoch(Mode.RAFT, None, membership(5)), signer(0), Random(1), SETTINGS)
    voter.restore_hard_state(3, None)
    voter.start(10.0)
    for pre_vote in (True, False):
        soon = voter.step(1, RequestVote(1, 4, 1, 9, 3, pre_vote), 10.0 + SETTINGS.election_timeout_min_s - 0.01)
        assert sent(soon) == [RequestVoteReply(1, 3, 0, False, pre_vote)]
    later = voter.step(1, RequestVote(1, 4, 1, 9, 3, False), 10.0 + SETTINGS.election_timeout_min_s)
    assert sent(later) == [RequestVoteReply(1, 4, 0, True, False)]


def test_a_clock_drift_without_bound_means_no_lease() -> None:
    leader = settled(3)
    leader._settings = replace(SETTINGS, lease_clock_drift=float("inf"))
    assert leader.lease_until == 1.0
    assert reads(leader.read_index(1, 1.0)) == []


def test_a_follower_asks_its_leader_and_gives_up_after_an_election_timeout() -> None:
    follower = core(1, n=3)
    assert reads(follower.read_index(1, 0.0)) == [(1, None)], "no leader"
    follower.step(0, append(1, 0, (0, 0), (), 0), 0.1)
    assert sent(follower.read_index(2, 0.1)) == [ReadIndex(1, 2)]
    assert reads(follower.step(2, ReadIndexReply(1, 2, True, 9), 0.2)) == [], "not from its leader"
    assert reads(follower.step(0, ReadIndexReply(1, 2, True, 9), 0.2)) == [(2, 9)]
    assert reads(follower.step(0, ReadIndexReply(1, 2, True, 9), 0.2)) == []
    follower.read_index(3, 0.2)
    follower.step(0, append(1, 0, (0, 0), (), 0), 0.9)
    assert follower.next_deadline() == pytest.approx(0.2 + SETTINGS.election_timeout_max_s)
    assert reads(follower.tick(0.2 + SETTINGS.election_timeout_max_s)) == [(3, None)]
    follower.read_index(4, 1.0)
    assert reads(follower.step(2, append(2, 2, (0, 0), (), 0), 1.1)) == [(4, None)], "another leads"


def test_a_leader_answers_reads_of_others_and_refuses_them_when_it_is_deposed() -> None:
    leader = settled(3)
    assert sent(leader.step(1, ReadIndex(1, 8), 1.1)) == [ReadIndexReply(1, 8, True, 1)]
    leader.step(1, ReadIndex(1, 9), 5.0)
    leader.read_index(10, 5.0)
    effects = leader.step(2, append(4, 2, (0, 0), (), 0), 5.1)
    assert sent(effects, to=1) == [ReadIndexReply(1, 9, False, 0)]
    assert reads(effects) == [(10, None)]
    assert sent(leader.step(1, ReadIndex(1, 11), 5.2)) == [ReadIndexReply(1, 11, False, 0)]


def test_reads_past_the_bound_are_refused() -> None:
    leader = settled(3)
    limit = SETTINGS.buffered_messages
    refused = [number for number in range(limit + 2) if reads(leader.read_index(number, 9.0))]
    assert refused == [limit, limit + 1]


def test_a_single_voter_reads_at_once() -> None:
    alone = core(n=1)
    alone.propose([b"a"], 0.0)
    assert reads(alone.read_index(1, 0.0)) == [(1, 2)]


def test_reads_that_wait_when_the_core_is_dropped_are_to_be_asked_again() -> None:
    leader, follower = core(), core(1)
    elect(leader)
    assert leader.read_index(1, 9.0) != []
    leader.step(2, ReadIndex(1, 8), 9.0)
    effects = leader.drop_reads()
    assert reads(effects) == [(1, None)]
    assert sent(effects, 2) == [ReadIndexReply(1, 8, False, 0)]
    follower.step(0, append(1, 0, (0, 0), (entry(1, 1),), 1), 1.0)
    follower.read_index(3, 1.0)
    assert reads(follower.drop_reads()) == [(3, None)]
    assert leader.drop_reads() == follower.drop_reads() == []
