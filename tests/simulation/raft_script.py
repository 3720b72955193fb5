"""Raft scenarios as text: commands behind `>`, under each what must come of it, and remarks behind `#`.

    > cluster 5 learners=1        nodes S1 to S5 vote, S6 learns; any setting as NAME=VALUE
    > log S1 term=6 1 1 1 4       S1's disk: current term, and the terms of its entries
    > timeout S1                  S1's election timer fires
    > propose S1 a b              two entries in one call
    > deliver [S1->S2] [quietly]  messages in flight arrive, and what they cause, until none is left
    > elect S1                    its timer fires, and messages arrive quietly until it leads (what it then sends waits)
    > drop S1->S2 | drop all      messages in flight are lost
    > cut S1,S2 | heal            what crosses between these and the rest is lost; no more
    > crash S1 | restart S1       what was not synced is gone; back from the disk
    > skip 0.5                    so many seconds pass, and no timer fires
    > wait 0.5                    timers fire and messages arrive at once, for so many seconds
    > transfer S1 S3 | read S1 7  leadership transfer; a read with an id
    > compact S1 3 | snapshot S1->S4   cut a log; give a follower the checkpoint at that log's base
    > show                        role, term, commit index and log (terms; base in brackets) of every node

Delivery is in the order of sending. No two nodes may decide different entries, nor lead one term.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from random import Random

from net.consensus import Commit, Effect, LeaderChanged, Persist, ReadReady, Send, Sync
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
from net.settings import ConsensusSettings
from net.simulation.keys import roster_of, signer


def run_script(path: Path) -> str:
    """The text of the script with what its commands really do under each of them."""
    world, out = ScriptedCluster(), []
    for line in path.read_text().splitlines():
        if line.startswith(">"):
            out.append(line)
            out += world.execute(line[1:].split())
        elif not line or line.startswith("#"):
            out.append(line)
    return "\n".join(out) + "\n"


class ScriptedCluster:
    """Raft cores, their disks and the messages between them, all moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.settings = ConsensusSettings()
        self.membership = Membership(())
        self.cores: dict[int, RaftCore] = {}
        self.disks: dict[int, list[bytes]] = {}
        self.synced: dict[int, int] = {}
        self.flying: deque[tuple[int, int, ConsensusMessage]] = deque()
        self.minority: frozenset[int] = frozenset()
        self.decided: dict[int, Entry] = {}
        self.leaders: dict[int, int] = {}
        self.said: list[str] = []

    def execute(self, words: list[str]) -> list[str]:
        """Run one command; returns what is to be seen of it."""
        getattr(self, f"do_{words[0]}")(*words[1:])
        said, self.said = self.said, []
        return said

    # -- commands --------------------------------------------------------------------------------------------------

    def do_cluster(self, voters: str, *options: str) -> None:
        values = {name: float(value) for name, value in (option.split("=") for option in options)}
        n = int(voters)
        roster = roster_of(n + int(values.pop("learners", 0)))
        self.membership = Membership(tuple(Member(node, roster[node], node < n) for node in sorted(roster)))
        kinds = {name: type(getattr(self.settings, name)) for name in values}
        self.settings = replace(self.settings, **{name: kinds[name](value) for name, value in values.items()})
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

    def do_timeout(self, name: str) -> None:
        core = self.cores[node_of(name)]
        due = core.next_deadline()
        assert due is not None
        self.now = max(self.now, due)
        self.apply(core, core.tick(self.now))

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

    def do_deliver(self, *words: str) -> None:
        quietly = "quietly" in words
        pair = next((link_of(word) for word in words if "->" in word), None)
        kept: list[tuple[int, int, ConsensusMessage]] = []
        while self.flying:
            sender, to, message = self.flying.popleft()
            if pair is not None and (sender, to) != pair:
                kept.append((sender, to, message))
                continue
            self.arrive(sender, to, message, quietly)
        self.flying.extend(kept)

    def do_drop(self, which: str) -> None:
        pair = None if which == "all" else link_of(which)
        self.flying = deque(each for each in self.flying if pair is not None and each[:2] != pair)

    def do_cut(self, names: str) -> None:
        self.minority = frozenset(node_of(name) for name in names.split(","))

    def do_heal(self) -> None:
        self.minority = frozenset()

    def do_crash(self, name: str) -> None:
        node = node_of(name)
        del self.cores[node]
        del self.disks[node][self.synced[node] :]

    def do_restart(self, name: str) -> None:
        self.boot(node_of(name))

    def do_wait(self, seconds: str) -> None:
        end = self.now + float(seconds)
        while True:
            self.do_deliver("quietly")
            due = [(core.next_deadline() or end + 1, node) for node, core in sorted(self.cores.items())]
            at, node = min(due)
            if at > end:
                break
            self.now = max(self.now, at)
            self.apply(self.cores[node], self.cores[node].tick(self.now))
        self.now = end

    def do_skip(self, seconds: str) -> None:
        self.now += float(seconds)

    def do_compact(self, name: str, index: str) -> None:
        self.cores[node_of(name)].compact(int(index))

    def do_snapshot(self, link: str) -> None:
        sender, to = link_of(link)
        log, core = self.cores[sender].log, self.cores[to]
        self.apply(core, core.install_snapshot(log.base_index, log.base_term, log.base_digest, self.now))
        self.disks[to] = list(core.live_records())

    def do_show(self) -> None:
        for node in sorted(self.disks):
            core = self.cores.get(node)
            if core is None:
                self.said.append(f"{name_of(node)} down")
                continue
            log = core.log
            terms = [str(each.term) for each in log.slice(log.base_index + 1, log.last_index)]
            base = [f"[{log.base_index}]"] if log.base_index else []
            lease = " with lease" if self.now < core.lease_until else ""
            wants = "".join(f" {name_of(peer)} needs a snapshot" for peer in core.needs_snapshot)
            role = "learner" if node in self.membership.learners else core.role
            self.said.append(
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

    def arrive(self, sender: int, to: int, message: ConsensusMessage, quietly: bool) -> None:
        core = self.cores.get(to)
        if core is None or (sender in self.minority) != (to in self.minority):
            return
        if not quietly:
            self.said.append(f"{name_of(sender)} -> {name_of(to)} {described(message)}")
        self.apply(core, core.step(sender, message, self.now))

    def apply(self, core: RaftCore, effects: list[Effect]) -> None:
        name = name_of(core.node)
        for effect in effects:
            match effect:
                case Persist(record):
                    self.disks[core.node].append(record)
                case Sync():
                    self.synced[core.node] = len(self.disks[core.node])
                case Send(to, message):
                    self.flying.append((core.node, to, message))
                case Commit(entries):
                    for each in entries:
                        known = self.decided.setdefault(each.entry.index, each.entry)
                        assert known == each.entry, f"{name} decides {each.entry} where {known} was decided"
                    first, last = entries[0].entry.index, entries[-1].entry.index
                    self.said.append(f"{name} commits {first}" + (f" to {last}" if last > first else ""))
                case LeaderChanged(leader, term) if leader == core.node:
                    assert self.leaders.setdefault(term, leader) == leader, f"two lead term {term}"
                    self.said.append(f"{name} leads term {term}")
                case ReadReady(request_id, index):
                    self.said.append(f"{name} may read {request_id} " + ("not" if index is None else f"at {index}"))


def node_of(name: str) -> int:
    return int(name.removeprefix("S")) - 1


def name_of(node: int) -> str:
    return f"S{node + 1}"


def link_of(word: str) -> tuple[int, int]:
    sender, to = word.split("->")
    return node_of(sender), node_of(to)


def entry_of(index: int, term: int) -> Entry:
    return Entry(index, term, EntryKind.DATA, b"%d of term %d" % (index, term))


def described(message: ConsensusMessage) -> str:
    """A message in few words; places of the log as index/term."""
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
