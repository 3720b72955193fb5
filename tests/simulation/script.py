"""Scenarios as text: commands behind `>`, under each what must come of it, and remarks behind `#`.

What the Raft and the Byzantine scripts share; each adds words of its own (`raft_script`, `bft_script`).

    > cluster 5                   nodes S1 to S5; any setting as NAME=VALUE
    > timeout S1                  S1's next timer fires
    > propose S1 a b              two payloads in one call
    > deliver [S1->S2] [quietly]  messages in flight arrive, and what they cause, until none is left
    > drop S1->S2 | drop all      messages in flight are lost
    > cut S1,S2 | heal            what crosses between these and the rest is lost; no more
    > crash S1 | restart S1       what was not synced is gone; back from the disk
    > skip 0.5                    so many seconds pass, and no timer fires
    > wait 0.5                    timers fire and messages arrive at once, for so many seconds
    > show                        what every node knows

Delivery is in the order of sending. No two nodes may decide different entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from net.consensus import Commit, Effect, Persist, Send, Sync
from net.membership import Membership
from net.messages import ConsensusMessage, Entry
from net.settings import ConsensusSettings


class ScriptedWorld(ABC):
    """Cores, their disks and the messages between them, all moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.settings = ConsensusSettings()
        self.membership = Membership(())
        self.cores: dict[int, Any] = {}
        self.disks: dict[int, list[bytes]] = {}
        self.synced: dict[int, int] = {}
        self.flying: deque[tuple[int, int, ConsensusMessage]] = deque()
        self.minority: frozenset[int] = frozenset()
        self.decided: dict[int, Entry] = {}
        self.said: list[str] = []

    def play(self, path: Path) -> str:
        """The text of the script with what its commands really do under each of them."""
        out = []
        for line in path.read_text().splitlines():
            if line.startswith(">"):
                out.append(line)
                out += self.execute(line[1:].split())
            elif not line or line.startswith("#"):
                out.append(line)
        return "\n".join(out) + "\n"

    def execute(self, words: list[str]) -> list[str]:
        """Run one command; returns what is to be seen of it."""
        getattr(self, f"do_{words[0]}")(*words[1:])
        said, self.said = self.said, []
        return said

    @abstractmethod
    def boot(self, node: int) -> None:
        """A core from the disk of `node`, started."""

    @abstractmethod
    def described(self, message: ConsensusMessage) -> str:
        """A message in few words."""

    @abstractmethod
    def shown(self, node: int) -> str:
        """What a live node knows, in a line."""

    @abstractmethod
    def happened(self, core: Any, effect: Effect) -> None:
        """Say what the protocol's own effects were."""

    # -- commands --------------------------------------------------------------------------------------------------

    def set_options(self, values: dict[str, float]) -> None:
        kinds = {name: type(getattr(self.settings, name)) for name in values}
        self.settings = replace(self.settings, **{name: kinds[name](value) for name, value in values.items()})

    def do_timeout(self, name: str) -> None:
        core = self.cores[node_of(name)]
        due = core.next_deadline()
        assert due is not None
        self.now = max(self.now, due)
        self.apply(core, core.tick(self.now))

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

    def do_show(self) -> None:
        self.said += [
            self.shown(node) if node in self.cores else f"{name_of(node)} down" for node in sorted(self.disks)
        ]

    # -- the world -------------------------------------------------------------------------------------------------

    def arrive(self, sender: int, to: int, message: ConsensusMessage, quietly: bool) -> None:
        core = self.cores.get(to)
        if core is None or (sender in self.minority) != (to in self.minority):
            return
        if not quietly:
            self.said.append(f"{name_of(sender)} -> {name_of(to)} {self.described(message)}")
        self.apply(core, core.step(sender, message, self.now))

    def apply(self, core: Any, effects: list[Effect]) -> None:
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
                        assert known == each.entry, (
                            f"{name_of(core.node)} decides {each.entry} where {known} was decided"
                        )
            self.happened(core, effect)


def node_of(name: str) -> int:
    return int(name.removeprefix("S")) - 1


def name_of(node: int) -> str:
    return f"S{node + 1}"


def link_of(word: str) -> tuple[int, int]:
    sender, to = word.split("->")
    return node_of(sender), node_of(to)
