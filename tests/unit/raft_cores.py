"""Raft cores that are fed by hand, and what came out of them."""

from __future__ import annotations

from random import Random

from net.consensus import Commit, Effect, ReadReady, Send
from net.epoch import first_epoch
from net.membership import Member, Membership
from net.messages import (
    AppendEntries,
    AppendEntriesReply,
    ConsensusMessage,
    Entry,
    EntryKind,
    Mode,
    RequestVoteReply,
)
from net.raft import RaftCore
from net.settings import ConsensusSettings
from net.simulation.keys import roster_of, signer

SETTINGS = ConsensusSettings(window_entries=8, message_entries=4)
ROUND = 7


def membership(voters: int, learners: int = 0) -> Membership:
    """Nodes 0 to `voters - 1` vote, `learners` more only learn."""
    roster = roster_of(voters + learners)
    return Membership(tuple(Member(node, roster[node], node < voters) for node in range(voters + learners)))


def core(node: int = 0, n: int = 5, learners: int = 0, voting: bool = True) -> RaftCore:
    epoch = first_epoch(Mode.RAFT, None, membership(n, learners))
    made = RaftCore(node, epoch, signer(node), Random(1), SETTINGS, voting)
    made.start(0.0)
    return made


def sent(effects: list[Effect], to: int | None = None) -> list[ConsensusMessage]:
    return [effect.message for effect in effects if isinstance(effect, Send) and to in (None, effect.to)]


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def entry(index: int, term: int, payload: bytes = b"x") -> Entry:
    return Entry(index, term, EntryKind.DATA, payload)


def append(term: int, leader: int, previous: tuple[int, int], entries: tuple[Entry, ...], commit: int) -> AppendEntries:
    return AppendEntries(1, term, leader, previous[0], previous[1], commit, ROUND, entries)


def elect(leader: RaftCore, now: float = 1.0) -> list[Effect]:
    leader.tick(now)
    for peer in (1, 2):
        leader.step(peer, RequestVoteReply(1, leader.term + 1, peer, True, True), now)
    effects: list[Effect] = []
    for peer in (1, 2):
        effects += leader.step(peer, RequestVoteReply(1, leader.term, peer, True, False), now)
    assert leader.role == "leader"
    return effects


def acknowledge(
    leader: RaftCore, peer: int, index: int, now: float = 1.0, round_: int = 0, voting: bool = True
) -> list[Effect]:
    return leader.step(peer, AppendEntriesReply(1, leader.term, peer, True, index, 0, round_, voting), now)


def committed(effects: list[Effect]) -> list[int]:
    return [each.entry.index for effect in effects if isinstance(effect, Commit) for each in effect.entries]


def appends(effects: list[Effect], to: int) -> list[AppendEntries]:
    return [message for message in sent(effects, to) if isinstance(message, AppendEntries)]


def reads(effects: list[Effect]) -> list[tuple[int, int | None]]:
    return [(effect.request_id, effect.index) for effect in effects if isinstance(effect, ReadReady)]
