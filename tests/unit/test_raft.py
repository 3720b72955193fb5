"""Raft's rules one by one, on a core that is fed by hand."""

from __future__ import annotations

from random import Random

import pytest

from net.certificate import Verifier, verify_certificate
from net.consensus import Commit, Effect, Persist, Send, Sync
from net.durable import AppendRecord, CommitIndexRecord, Record, decode_record
from net.epoch import first_epoch
from net.membership import all_voters
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    Mode,
    RequestVote,
    RequestVoteReply,
)
from net.raft import RaftCore
from net.simulation.keys import roster_of, signer
from tests.unit.raft_cores import ROUND, SETTINGS, acknowledge, append, committed, core, elect, entry, kinds, sent


def test_a_vote_is_on_disk_before_it_leaves_and_is_given_once_a_term() -> None:
    voter = core()
    effects = voter.step(1, RequestVote(1, 3, 1, 0, 0, False), 1.0)
    assert kinds(effects)[-1] is Send
    assert kinds(effects).index(Persist) < len(effects) - 2
    assert kinds(effects)[-2] is Sync
    assert sent(effects) == [RequestVoteReply(1, 3, 0, True, False)]
    assert sent(voter.step(2, RequestVote(1, 3, 2, 9, 3, False), 1.0)) == [RequestVoteReply(1, 3, 0, False, False)]
    assert sent(voter.step(1, RequestVote(1, 3, 1, 0, 0, False), 1.0)) == [RequestVoteReply(1, 3, 0, True, False)]


def test_a_stale_log_gets_no_vote() -> None:
    """§5.4.1: the later last term wins, then the longer log."""
    voter = core()
    voter.step(4, append(2, 4, (0, 0), (entry(1, 1), entry(2, 2)), 0), 0.1)
    for term, index, last_term, granted in ((5, 9, 1, False), (6, 1, 2, False), (7, 2, 2, True), (8, 1, 3, True)):
        effects = voter.step(1, RequestVote(1, term, 1, index, last_term, False), 5.0)
        assert sent(effects) == [RequestVoteReply(1, term, 0, granted, False)]


def test_who_hears_a_leader_helps_nobody_to_depose_it() -> None:
    follower = core()
    follower.step(4, append(2, 4, (0, 0), (), 0), 1.0)
    assert sent(follower.step(1, RequestVote(1, 3, 1, 9, 2, True), 1.1)) == [RequestVoteReply(1, 2, 0, False, True)]
    assert sent(follower.step(1, RequestVote(1, 3, 1, 9, 2, False), 1.1)) == [RequestVoteReply(1, 2, 0, False, False)]
    assert follower.term == 2
    assert sent(follower.step(1, RequestVote(1, 3, 1, 9, 2, True), 9.0)) == [RequestVoteReply(1, 3, 0, True, True)]


def test_a_pre_vote_binds_nobody() -> None:
    candidate = core()
    effects = candidate.tick(1.0)
    assert {message.pre_vote for message in sent(effects) if isinstance(message, RequestVote)} == {True}
    assert Persist not in kinds(effects)
    assert candidate.term == 0


def test_the_leaders_entries_leave_before_its_own_sync_and_the_followers_reply_after_its_sync() -> None:
    leader = core()
    elect(leader)
    effects = leader.propose([b"a", b"b", b"c"], 1.0)
    order = kinds(effects)
    assert order[:4] == [Send] * 4
    assert order[4:] == [Persist, Sync]
    assert len(sent(effects, to=1)) == 1, "one message for the whole batch"
    follower = core(1)
    message = sent(leader.propose([b"d"], 1.0), to=1)[0]
    assert isinstance(message, AppendEntries)
    noop = append(leader.term, 0, (0, 0), leader.log.slice(1, 4), 0)
    effects = follower.step(0, noop, 1.0)
    assert kinds(effects)[-3:] == [Persist, Sync, Send]


def test_figure_8_an_old_terms_entry_does_not_commit_by_counting() -> None:
    leader = core()
    leader.step(4, append(2, 4, (0, 0), (entry(1, 1), entry(2, 2)), 0), 0.1)
    elect(leader, 2.0)
    assert leader.log.last_index == 3
    for peer in (1, 2, 3):
        assert committed(acknowledge(leader, peer, 2, 2.0)) == []
    assert committed(acknowledge(leader, 1, 3, 2.0)) == []
    assert committed(acknowledge(leader, 2, 3, 2.0)) == [1, 2, 3]


def test_the_leader_gives_its_word_where_it_is_asked_for() -> None:
    leader = core()
    elect(leader)
    acknowledge(leader, 1, 1)
    effects = acknowledge(leader, 2, 1)
    (commit,) = [effect for effect in effects if isinstance(effect, Commit)]
    assert commit.entries[0].certificate.signers == ()
    given = leader.with_word(commit.entries[0])
    verify_certificate(given.certificate, given.entry, Verifier(roster_of(5)))
    assert given.certificate.signers == (0,)
    assert leader.with_word(given) is given


def test_a_conflicting_tail_is_cut_and_a_committed_one_never() -> None:
    follower = core()
    follower.step(4, append(1, 4, (0, 0), (entry(1, 1), entry(2, 1), entry(3, 1)), 1), 0.1)
    effects = follower.step(3, append(2, 3, (1, 1), (entry(2, 2, b"y"),), 1), 0.2)
    (record,) = [decode_record(effect.record) for effect in effects if isinstance(effect, Persist)][-1:]
    assert record == AppendRecord(1, 2, (entry(2, 2, b"y"),), 1)
    assert follower.log.last_index == 2
    follower.step(3, append(3, 3, (0, 0), (entry(1, 9, b"z"),), 0), 0.3)
    assert follower.log.entry_at(1) == entry(1, 1)


def test_the_follower_names_where_to_back_up_to() -> None:
    """§5.3, end: the first index of the conflicting term, or the end of a log that is too short."""
    follower = core()
    follower.step(4, append(1, 4, (0, 0), (entry(1, 1), entry(2, 2), entry(3, 2), entry(4, 2)), 0), 0.1)
    short = sent(follower.step(3, append(5, 3, (9, 4), (), 0), 0.2))
    assert short == [AppendEntriesReply(1, 5, 0, False, 0, 5, ROUND)]
    conflict = sent(follower.step(3, append(5, 3, (4, 4), (), 0), 0.2))
    assert conflict == [AppendEntriesReply(1, 5, 0, False, 0, 2, ROUND)]


def test_after_a_back_up_the_log_is_probed_one_message_at_a_time() -> None:
    leader = core()
    leader.step(4, append(2, 4, (0, 0), tuple(entry(index, 1) for index in range(1, 9)), 0), 0.1)
    elect(leader, 2.0)
    reject = AppendEntriesReply(1, leader.term, 1, False, 0, 1, 0)
    (probe,) = sent(leader.step(1, reject, 2.0), to=1)
    assert isinstance(probe, AppendEntries)
    assert [each.index for each in probe.entries] == [1, 2, 3, 4]
    assert sent(leader.step(1, reject, 2.0), to=1) == [], "the same answer again sets off nothing"
    assert sent(leader.propose([b"more"], 2.0), to=1) == []
    assert len(sent(acknowledge(leader, 1, 4, 2.0), to=1)) == 2, "it fits: the window opens"


def test_the_window_bounds_what_is_in_flight() -> None:
    leader = core()
    elect(leader)
    acknowledge(leader, 1, 1)
    effects = leader.propose([b"%d" % number for number in range(30)], 1.0)
    to_follower = [message for message in sent(effects, to=1) if isinstance(message, AppendEntries)]
    assert [len(message.entries) for message in to_follower] == [4, 4]
    assert [each.index for each in to_follower[-1].entries][-1] == 9
    (following,) = [each for each in sent(acknowledge(leader, 1, 5), to=1) if isinstance(each, AppendEntries)]
    assert [each.index for each in following.entries] == [10, 11, 12, 13]


def test_a_commit_index_rides_on_the_next_message_or_goes_alone_and_unanswered() -> None:
    leader = core()
    elect(leader)
    acknowledge(leader, 1, 1)
    acknowledge(leader, 2, 1)
    deadline = leader.next_deadline()
    assert deadline is not None
    assert deadline == pytest.approx(1.0 + SETTINGS.commit_push_delay_s)
    (riding,) = sent(leader.propose([b"a"], 1.0), to=3)
    assert isinstance(riding, AppendEntries)
    assert riding.leader_commit == 1
    assert sent(leader.tick(deadline)) == [], "it has been carried"
    acknowledge(leader, 1, 2, 1.01)
    acknowledge(leader, 2, 2, 1.01)
    (push,) = sent(leader.tick(1.02), to=2)
    assert isinstance(push, AppendEntries)
    assert (push.leader_commit, push.entries) == (2, ())
    follower = core(2)
    follower.step(0, append(leader.term, 0, (0, 0), leader.log.slice(1, 2), 0), 1.0)
    effects = follower.step(0, push, 1.0)
    assert committed(effects) == [1, 2]
    assert sent(effects) == []
    heartbeat = sent(leader.tick(1.2), to=2)[0]
    assert len(sent(follower.step(0, heartbeat, 1.2))) == 1, "a heartbeat is answered"


def test_a_leader_that_a_majority_does_not_hear_steps_down() -> None:
    leader = core()
    elect(leader)
    acknowledge(leader, 1, 1, 1.5)
    acknowledge(leader, 2, 1, 1.5)
    leader.tick(1.81)
    assert leader.role == "leader"
    acknowledge(leader, 1, 1, 2.5)
    leader.tick(2.62)
    assert leader.role == "follower"
    assert leader.leader is None


def test_messages_of_an_older_term_change_nothing() -> None:
    follower = core()
    follower.step(4, append(5, 4, (0, 0), (entry(1, 5),), 0), 0.1)
    effects = follower.step(3, append(4, 3, (0, 0), (entry(1, 4, b"old"),), 1), 0.2)
    assert sent(effects) == [AppendEntriesReply(1, 5, 0, False, 0, 2, ROUND)]
    assert follower.log.entry_at(1).term == 5
    assert follower.leader == 4


def test_a_message_under_anothers_name_is_ignored() -> None:
    follower = core()
    assert follower.step(2, append(5, 4, (0, 0), (entry(1, 5),), 1), 0.1) == []
    assert follower.step(2, RequestVote(1, 9, 1, 9, 9, False), 0.1) == []
    assert follower.term == 0


def test_a_hint_saves_the_election_timeout() -> None:
    hinted = RaftCore(2, first_epoch(Mode.RAFT, 2, all_voters(roster_of(5))), signer(2), Random(1), SETTINGS)
    requests = sent(hinted.start(0.0))
    assert {message.pre_vote for message in requests if isinstance(message, RequestVote)} == {False}
    assert hinted.role == "candidate"


def test_a_single_node_decides_alone_after_its_sync() -> None:
    alone = RaftCore(0, first_epoch(Mode.RAFT, None, all_voters(roster_of(1))), signer(0), Random(1), SETTINGS)
    alone.start(0.0)
    effects = alone.propose([b"a"], 0.0)
    assert committed(effects) == [2]
    assert kinds(effects).index(Sync) < kinds(effects).index(Commit)


def test_only_a_leader_takes_proposals() -> None:
    with pytest.raises(RuntimeError, match="does not lead"):
        core().propose([b"a"], 0.0)


def test_a_back_up_stops_at_what_is_known_to_match() -> None:
    """The follower's run of equal terms may begin far below; the entries there are known to be the same."""
    leader = core()
    leader.step(4, append(2, 4, (0, 0), tuple(entry(index, 1) for index in range(1, 5)), 0), 0.1)
    elect(leader, 2.0)
    acknowledge(leader, 1, 3, 2.0)
    (probe,) = sent(leader.step(1, AppendEntriesReply(1, leader.term, 1, False, 0, 1, 0), 2.0), to=1)
    assert isinstance(probe, AppendEntries)
    assert probe.prev_log_index == 3


def records(effects: list[Effect]) -> list[Record]:
    return [decode_record(effect.record) for effect in effects if isinstance(effect, Persist)]


def test_a_commit_index_reaches_the_disk_with_entries_or_alone_before_its_commit() -> None:
    """The records of the epoch that a commit begins must find it decided when the log is read back."""
    follower = core()
    follower.step(4, append(1, 4, (0, 0), (entry(1, 1), entry(2, 1)), 0), 0.1)
    effects = follower.step(4, append(1, 4, (2, 1), (entry(3, 1),), 3), 0.2)
    assert records(effects) == [AppendRecord(1, 3, (entry(3, 1),), 0)]
    assert records(follower.step(4, append(1, 4, (3, 1), (entry(4, 1),), 3), 0.3)) == [
        AppendRecord(1, 4, (entry(4, 1),), 3)
    ]
    effects = follower.step(4, append(1, 4, (4, 1), (), 4), 0.4)
    assert records(effects) == [CommitIndexRecord(1, 4)]
    assert kinds(effects).index(Persist) < kinds(effects).index(Commit)
    assert records(follower.step(4, append(1, 4, (4, 1), (), 4), 0.5)) == []
    effects = follower.install([entry(5, 1)], 0.6)
    assert records(effects)[-1] == CommitIndexRecord(1, 5)
    assert kinds(effects)[-1] is Commit
    follower.step(4, append(1, 4, (5, 1), (entry(6, 1),), 6), 0.7)
    assert records(follower.push_commit(0.8)) == [CommitIndexRecord(1, 6)]
