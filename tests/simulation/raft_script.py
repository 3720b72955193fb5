"""Raft scenarios as text, in the words of `script` and these:

    > cluster 5 learners=1        nodes S1 to S5 vote, S6 learns; any setting as NAME=VALUE
    > log S1 term=6 1 1 1 4       S1's disk: current term, and the terms of its entries
    > elect S1                    its timer fires, and messages arrive quietly until it leads (what it then sends waits)
    > transfer S1 S3 | read S1 7  leadership transfer; a read with an id
    > compact S1 3 | snapshot S1->S4   cut a log; give a follower the checkpoint at that log's base
    > show                        role, term, commit index and log (terms; base in brackets) of every node

No two nodes may lead one term.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from net.consensus import Commit, Effect, LeaderChanged, ReadReady
from net.durable import AppendRecord, CommitIndexRecord, HardState, decode_record, encode_record
from net.epoch import first_epoch
from net.membership import Member, Membership
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    ConsensusMessage,
    Entry,
    EntryKind,
    Mode,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from net.raft import RaftCore
from net.simulation.keys import roster_of, signer
from tests.simulation.script import ScriptedWorld, link_of, name_of, node_of


def run_script(path: Path) -> str:
    """The text of the script with what its commands really do under each of them."""
    return RaftWorld().play(path)


class RaftWorld(ScriptedWorld):
    """Raft cores, and who led which term."""

    def __init__(self) -> None:
        super().__init__()
        self.leaders: dict[int, int] = {}

    # -- commands --------------------------------------------------------------------------------------------------

    def do_cluster(self, voters: str, *options: str) -> None:
        values = {name: float(value) for name, value in (option.split("=") for option in options)}
        n = int(voters)
        roster = roster_of(n + int(values.pop("learners", 0)))
        self.membership = Membership(tuple(Member(node, roster[node], node < n) for node in sorted(roster)))
        self.set_options(values)
        for node in roster:
            self.disks[node] = []
            self.boot(node)

    def do_log(self, name: str, *words: str) -> None:
        node, terms = node_of(name), [int(word) for word in words if "=" not in word]
        options = dict(word.split("=") for word in words if "=" in word)
        entries = tuple(entry_of(index, term) for index, term in enumerate(terms, 1))
        self.disks[node] = [
            encode_record(HardState(1, int(options.get("term", max(terms))), None)),
            encode_record(AppendRecord(1, 1, entries, int(options.get("commit", 0)))),
        ]
        self.boot(node)

    def do_elect(self, name: str) -> None:
        core = self.cores[node_of(name)]
        self.do_timeout(name)
        while core.role != "leader":
            if not self.flying:
                # The first try may only have told it of a newer term.
                assert core.term < max(each.term for each in self.cores.values()) + 2, f"{name} is not elected"
                self.do_timeout(name)
            self.arrive(*self.flying.popleft(), quietly=True)

    def do_propose(self, name: str, *payloads: str) -> None:
        core = self.cores[node_of(name)]
        self.apply(core, core.propose([payload.encode() for payload in payloads], self.now))

    def do_transfer(self, name: str, to: str) -> None:
        core = self.cores[node_of(name)]
        self.apply(core, core.transfer_leadership(node_of(to), self.now))

    def do_read(self, name: str, request_id: str) -> None:
        core = self.cores[node_of(name)]
        self.apply(core, core.read_index(int(request_id), self.now))

    def do_compact(self, name: str, index: str) -> None:
        self.cores[node_of(name)].compact(int(index))

    def do_snapshot(self, link: str) -> None:
        sender, to = link_of(link)
        log, core = self.cores[sender].log, self.cores[to]
        self.apply(core, core.install_snapshot(log.base_index, log.base_term, log.base_digest, self.now))
        self.disks[to] = list(core.live_records())

    def shown(self, node: int) -> str:
        core = self.cores[node]
        log = core.log
        terms = [str(each.term) for each in log.slice(log.base_index + 1, log.last_index)]
        base = [f"[{log.base_index}]"] if log.base_index else []
        lease = " with lease" if self.now < core.lease_until else ""
        wants = "".join(f" {name_of(peer)} needs a snapshot" for peer in core.needs_snapshot)
        role = "learner" if node in self.membership.learners else core.role
        return (
            f"{name_of(node)} {role}{lease} term {core.term} commit {core.commit_index}"
            f" log {' '.join(base + terms)}{wants}"
        )

    # -- the world -------------------------------------------------------------------------------------------------

    def boot(self, node: int) -> None:
        epoch = first_epoch(Mode.RAFT, None, self.membership)
        core = RaftCore(node, epoch, signer(node), Random(node), self.settings, self.membership.entitles(node, b""))
        self.synced[node] = len(self.disks[node])
        for record in map(decode_record, self.disks[node]):
            if isinstance(record, HardState):
                core.restore_hard_state(record.term, record.voted_for)
            elif isinstance(record, AppendRecord):
                core.restore_entries(record.first_index, record.entries)
                core.restore_commit_index(record.commit_index)
            elif isinstance(record, CommitIndexRecord):
                core.restore_commit_index(record.commit_index)
        self.cores[node] = core
        self.apply(core, core.start(self.now))

    def happened(self, core: RaftCore, effect: Effect) -> None:
        name = name_of(core.node)
        match effect:
            case Commit(entries):
                first, last = entries[0].entry.index, entries[-1].entry.index
                self.said.append(f"{name} commits {first}" + (f" to {last}" if last > first else ""))
            case LeaderChanged(leader, term) if leader == core.node:
                assert self.leaders.setdefault(term, leader) == leader, f"two lead term {term}"
                self.said.append(f"{name} leads term {term}")
            case ReadReady(request_id, index):
                self.said.append(f"{name} may read {request_id} " + ("not" if index is None else f"at {index}"))

    def described(self, message: ConsensusMessage) -> str:
        """A message in few words; places of the log as index/term."""
        return described(message)


def entry_of(index: int, term: int) -> Entry:
    return Entry(index, term, EntryKind.DATA, b"%d of term %d" % (index, term))


def described(message: ConsensusMessage) -> str:
    match message:
        case RequestVote():
            kind = "PreVote" if message.pre_vote else "RequestVote"
            transfer = " for a transfer" if message.transfer else ""
            return f"{kind} term {message.term} log {message.last_log_index}/{message.last_log_term}{transfer}"
        case RequestVoteReply():
            kind = "PreVote" if message.pre_vote else "Vote"
            return f"{kind} {'granted' if message.granted else 'refused'} term {message.term}"
        case AppendEntries():
            sent = " ".join(f"{each.index}/{each.term}" for each in message.entries)
            place = f"{message.prev_log_index}/{message.prev_log_term}"
            return f"Append term {message.term} after {place} commit {message.leader_commit} [{sent}]"
        case AppendEntriesReply():
            counts = "" if message.voting else " as a learner"
            if message.success:
                return f"Append accepted{counts} up to {message.match_index}"
            return f"Append refused{counts} term {message.term}: back up to {message.conflict_index}"
        case TimeoutNow():
            return f"TimeoutNow term {message.term}"
        case ReadIndex():
            return f"ReadIndex {message.request_id}"
        case ReadIndexReply():
            return f"ReadIndex {message.request_id} " + (f"at {message.index}" if message.granted else "refused")
        case _:
            return type(message).__name__
