"""The Raft log and its compaction, and snapshots in the core (§7)."""

from __future__ import annotations

from random import Random

import pytest

from net.certificate import GENESIS_DIGEST
from net.durable import AppendRecord, CommitIndexRecord, HardState, decode_record
from net.messages import AppendEntriesReply, Entry, EntryKind
from net.raft import RaftCore
from net.raft_log import RaftLog
from tests.unit.raft_cores import SETTINGS, acknowledge, append, appends, committed, core, elect, entry, sent


def log_of(*terms: int) -> RaftLog:
    log = RaftLog(0, GENESIS_DIGEST)
    log.put(1, [entry(index, term) for index, term in enumerate(terms, 1)])
    return log


def test_a_compacted_log_keeps_term_and_digest_of_its_base() -> None:
    log, whole = log_of(1, 1, 2, 3), log_of(1, 1, 2, 3)
    log.compact(3)
    assert (log.base_index, log.last_index, log.last_term) == (3, 4, 3)
    assert [log.term_at(index) for index in (2, 3, 4, 5)] == [None, 2, 3, None]
    assert [log.digest_at(index) for index in (3, 4)] == [whole.digest_at(index) for index in (3, 4)]
    assert log.slice(3, 9) == ()
    with pytest.raises(IndexError, match="index 2 is outside"):
        log.digest_at(2)
    with pytest.raises(IndexError, match="do not fit"):
        log.put(3, [entry(3, 9)])
    log.compact(4)
    log.put(5, [entry(5, 3)])
    whole.put(5, [entry(5, 3)])
    assert log.digest_at(5) == whole.digest_at(5)
    assert log.last_term == 3


def test_a_log_restarted_at_a_checkpoint_keeps_what_follows_only_where_it_holds_that_entry() -> None:
    log, whole = log_of(1, 1, 2, 2), log_of(1, 1, 2, 2)
    log.restart(3, 2, whole.digest_at(3))
    assert (log.base_index, log.last_index) == (3, 4)
    other = log_of(1, 1, 1, 1)
    other.restart(3, 2, whole.digest_at(3))
    assert (other.base_index, other.last_index, other.last_term) == (3, 3, 2)
    short = log_of(1)
    short.restart(3, 2, whole.digest_at(3))
    short.put(4, [entry(4, 2)])
    assert short.digest_at(4) == whole.digest_at(4)


@pytest.mark.parametrize("base", [0, 2, 6])
def test_the_first_index_of_a_term_is_found_as_by_walking(base: int) -> None:
    random = Random(base)
    terms = sorted(random.choices(range(1, 6), k=30))
    log = log_of(*terms)
    log.compact(base)
    for index in range(base + 1, 31):
        walked = next(each for each in range(base + 1, 31) if terms[each - 1] == terms[index - 1])
        assert log.first_index_of_term(index) == walked


def test_a_slice_is_bounded_in_bytes_and_never_empty() -> None:
    log = RaftLog(0, GENESIS_DIGEST)
    log.put(1, [Entry(index, 1, EntryKind.DATA, bytes(1000)) for index in range(1, 10)])
    assert len(log.slice(1, 9)) == 9
    assert len(log.slice(1, 9, 3500)) == 3
    assert len(log.slice(1, 9, 10)) == 1


def follower_with(n: int, commit: int) -> RaftCore:
    follower = core()
    follower.step(4, append(1, 4, (0, 0), tuple(entry(index, 1) for index in range(1, n + 1)), commit), 0.1)
    return follower


def test_only_what_is_committed_is_compacted() -> None:
    follower = follower_with(4, 2)
    with pytest.raises(ValueError, match="3 is not committed"):
        follower.compact(3)
    follower.compact(2)
    assert follower.log.base_index == 2
    follower.compact(1)
    assert follower.log.base_index == 2, "no effect below the base"


def test_a_compacted_follower_answers_as_before() -> None:
    follower = follower_with(4, 3)
    follower.compact(3)
    below = follower.step(4, append(1, 4, (1, 1), (entry(2, 1), entry(3, 1), entry(4, 1), entry(5, 1)), 5), 0.2)
    assert sent(below) == [AppendEntriesReply(1, 1, 0, True, 5, 0, 7)]
    assert committed(below) == [4, 5]


def test_live_records_make_the_same_core_again() -> None:
    follower = follower_with(10, 6)
    follower.compact(5)
    records = [decode_record(record) for record in follower.live_records()]
    again = core()
    again.restore_snapshot(5, 1, follower.log.base_digest)
    recovered = []
    for record in records:
        match record:
            case HardState():
                again.restore_hard_state(record.term, record.voted_for)
            case AppendRecord():
                assert len(record.entries) <= SETTINGS.message_entries
                again.restore_entries(record.first_index, record.entries)
            case CommitIndexRecord():
                recovered += again.restore_commit_index(record.commit_index)
    assert [each.entry.index for each in recovered] == [6]
    for name in ("term", "voted_for", "commit_index"):
        assert getattr(again, name) == getattr(follower, name)
    assert again.log.slice(6, 99) == follower.log.slice(6, 99)
    assert again.log.digest_at(10) == follower.log.digest_at(10)


def leader_compacted_to_4() -> RaftCore:
    leader = core()
    elect(leader)
    leader.propose([b"%d" % number for number in range(5)], 1.0)
    for peer in (1, 2, 3):
        acknowledge(leader, peer, 6)
    assert leader.commit_index == 6
    leader.compact(4)
    return leader


def test_a_follower_below_the_log_is_named_and_gets_heartbeats_until_it_has_the_checkpoint() -> None:
    leader = leader_compacted_to_4()
    effects = leader.step(4, AppendEntriesReply(1, leader.term, 4, False, 0, 1, 0), 1.0)
    (probe,) = appends(effects, 4)
    assert (probe.prev_log_index, probe.prev_log_term, probe.entries) == (4, leader.term, ())
    assert leader.needs_snapshot == (4,)
    assert appends(leader.propose([b"more"], 1.0), 4) == []
    (heartbeat,) = appends(leader.tick(1.2), 4)
    lagging = core(4)
    refusal = sent(lagging.step(0, heartbeat, 1.2))
    assert refusal == [AppendEntriesReply(1, leader.term, 4, False, 0, 1, heartbeat.round)]
    assert appends(leader.step(4, refusal[0], 1.2), 4) == []
    lagging.install_snapshot(4, leader.term, leader.log.base_digest, 1.2)
    (heartbeat,) = appends(leader.tick(1.4), 4)
    (reply,) = sent(lagging.step(0, heartbeat, 1.4))
    (entries,) = appends(leader.step(4, reply, 1.4), 4)
    assert [each.index for each in entries.entries] == [5, 6, 7]
    assert leader.needs_snapshot == ()
    assert committed(lagging.step(0, entries, 1.4)) == [5, 6]
    assert lagging.log.digest_at(7) == leader.log.digest_at(7)


def test_a_checkpoint_below_the_commit_index_changes_nothing() -> None:
    follower = follower_with(4, 3)
    assert follower.install_snapshot(3, 9, bytes(32), 0.2) == []
    assert follower.log.base_index == 0
    follower.install_snapshot(6, 2, b"d" * 32, 0.2)
    assert (follower.log.last_index, follower.log.last_term, follower.commit_index) == (6, 2, 6)


def test_pushed_commits_do_not_put_off_the_heartbeat_of_a_follower_that_waits_for_a_checkpoint() -> None:
    """Found by a loaded cluster: pushes ask for no reply, so a follower that had its checkpoint was never heard."""
    leader = leader_compacted_to_4()
    leader.step(4, AppendEntriesReply(1, leader.term, 4, False, 0, 1, 0), 1.0)
    assert leader.needs_snapshot == (4,)
    asked = 0
    for step in range(1, 101):
        now = 1.0 + step * 0.005
        leader.propose([b"more"], now)
        for peer in (1, 2, 3):
            acknowledge(leader, peer, leader.log.last_index, now)
        messages = appends(leader.tick(now + 0.002), 4)
        assert all(message.round for message in messages), "each asks for a reply"
        asked += len(messages)
    assert 3 <= asked <= 6, "one each heartbeat interval"


def test_a_follower_that_is_away_under_load_is_asked_for_a_reply_each_heartbeat_interval() -> None:
    """Pushed commits want no reply: a node that came back and held all that the leader believed was never heard."""
    leader = core()
    elect(leader)
    asked = 0
    for step in range(1, 101):
        now = 1.0 + step * 0.005
        effects = leader.propose([b"more"], now)
        for peer in (1, 2, 3):
            effects += acknowledge(leader, peer, leader.log.last_index, now)
        effects += leader.tick(now + 0.002)
        if leader.log.last_index > SETTINGS.window_entries + 1:
            asked += sum(message.round > 0 for message in appends(effects, 4))
    assert 4 <= asked <= 6, "one each heartbeat interval"


def test_a_new_leader_speaks_at_once_in_a_log_that_is_longer_than_its_window() -> None:
    leader = core()
    for index in range(1, 4 * SETTINGS.window_entries):
        leader.step(1, append(1, 1, (index - 1, min(1, index - 1)), (entry(index, 1),), index), 0.0)
    last = leader.log.last_index
    (first,) = appends(elect(leader), 4)
    assert (first.prev_log_index, [each.index for each in first.entries]) == (last, [last + 1])
