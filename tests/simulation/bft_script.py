"""Byzantine scenarios as text, in the words of `script` and these. View 4 is the first, led by S1; S2 leads view 5.

    > cluster 4 [relay_votes=1]   votes go to everybody unless they are relayed; fast_path=1
    > liar S1                     its own messages never leave; it says only what follows
    > says S1->S2,S3 propose 4 a [after b]    S1 proposes, in view 4, a block of payload `a` behind `b` or the root
    > says S1->S2 notarize 4 a    or `finalize`: a vote for the block of payload `a`, whoever proposed it
    > says S1->S2 nullify 4 0     it gives up view 4 from height 0 on
    > says S1->S2 fast 4 a        on the fast path: a vote that counts at once
    > says S1->S2 report 4 a      on the fast path: it gives up view 4, and says that a was its last vote there; or root
    > show                        view, what is decided, and what is notarized above it, of every node

Blocks go by the payload: what it says must differ from block to block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from net.bft import BftCore
from net.bft_fast import FastBftCore
from net.certificate import GENESIS_DIGEST, Verifier, entry_digest, signed_bytes
from net.consensus import Commit, Effect, Evidence, LeaderChanged, Send
from net.durable import decode_record
from net.epoch import first_epoch, with_fast_path
from net.membership import all_voters
from net.messages import (
    CertificateNotice,
    ConsensusMessage,
    Entry,
    EntryKind,
    EvidenceNotice,
    FetchBlock,
    Forward,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.simulation.keys import roster_of, signer
from tests.simulation.script import ScriptedWorld, name_of, node_of

_NO_DIGEST = bytes(32)


def run_script(path: Path) -> str:
    """The text of the script with what its commands really do under each of them."""
    return BftWorld().play(path)


class BftWorld(ScriptedWorld):
    """Byzantine cores, and the names of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.liars: set[int] = set()
        self.names: dict[bytes, str] = {GENESIS_DIGEST: "root"}
        self.blocks: dict[str, tuple[int, bytes]] = {"root": (0, GENESIS_DIGEST)}

    # -- commands --------------------------------------------------------------------------------------------------

    def do_cluster(self, voters: str, *options: str) -> None:
        self.set_options({"relay_votes": 0.0} | {name: float(value) for name, value in (o.split("=") for o in options)})
        self.membership = all_voters(roster_of(int(voters)))
        epoch = first_epoch(Mode.BFT, 0, self.membership)
        self.epoch = with_fast_path(epoch) if self.settings.fast_path else epoch
        for node in self.membership.voters:
            self.disks[node] = []
            self.boot(node)

    def do_liar(self, name: str) -> None:
        self.liars.add(node_of(name))

    def do_propose(self, name: str, *payloads: str) -> None:
        core = self.cores[node_of(name)]
        contents = [(EntryKind.DATA, payload.encode()) for payload in payloads]
        self.apply(core, core.propose_contents(contents, self.now))

    def do_says(self, link: str, what: str, view: str, *words: str) -> None:
        name, listeners = link.split("->")
        sender = node_of(name)
        message = getattr(self, f"_{what}")(sender, int(view), *words)
        self._learn(message)
        for listener in listeners.split(","):
            self.flying.append((sender, node_of(listener), message))

    def _propose(self, sender: int, view: int, payload: str, _after: str = "after", parent: str = "root") -> Propose:
        height, digest = self.blocks[parent]
        entry = Entry(height + 1, view, EntryKind.DATA, payload.encode())
        said = signed_bytes(self.epoch.context, Phase.NOTARIZE, view, height + 1, entry_digest(digest, entry))
        return Propose(1, view, height + 1, digest, entry.kind, entry.payload, sender, signer(sender)(said))

    def _vote(self, sender: int, phase: Phase, view: int, height: int, digest: bytes) -> Vote:
        said = signed_bytes(self.epoch.context, phase, view, height, digest)
        return Vote(1, phase, view, height, digest, sender, signer(sender)(said))

    def _notarize(self, sender: int, view: int, block: str) -> Vote:
        return self._vote(sender, Phase.NOTARIZE, view, *self.blocks[block])

    def _finalize(self, sender: int, view: int, block: str) -> Vote:
        return self._vote(sender, Phase.FINALIZE, view, *self.blocks[block])

    def _nullify(self, sender: int, view: int, height: str) -> Vote:
        return self._vote(sender, Phase.NULLIFY, view, int(height), _NO_DIGEST)

    def _fast(self, sender: int, view: int, block: str) -> Vote:
        return self._vote(sender, Phase.FAST, view, *self.blocks[block])

    def _report(self, sender: int, view: int, block: str) -> Vote:
        return self._vote(sender, Phase.NULLIFY, view, *self.blocks[block])

    # -- the world -------------------------------------------------------------------------------------------------

    def boot(self, node: int) -> None:
        verifier = Verifier(self.membership.voter_keys)
        kind = FastBftCore if self.epoch.fast_path else BftCore
        core = kind(node, self.epoch, False, signer(node), verifier, self.settings, lambda *_: True)
        self.synced[node] = len(self.disks[node])
        for record in map(decode_record, self.disks[node]):
            core.restore(record)
        self.cores[node] = core
        self.apply(core, core.start(self.now))

    def apply(self, core: Any, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._learn(effect.message)
        if core.node in self.liars:
            effects = [each for each in effects if not isinstance(each, Send | Commit | Evidence)]
        super().apply(core, effects)

    def _learn(self, message: ConsensusMessage) -> None:
        if isinstance(message, Propose):
            entry = Entry(message.height, message.view, message.kind, message.payload)
            digest = entry_digest(message.parent, entry)
            name = message.payload.decode() or f"blank{message.view}"
            self.names[digest] = name
            self.blocks[name] = (message.height, digest)

    def happened(self, core: BftCore, effect: Effect) -> None:
        name = name_of(core.node)
        match effect:
            case Commit(entries):
                for each in entries:
                    payload = each.entry.payload.decode() or f"blank{each.entry.term}"
                    self.said.append(f"{name} decides {payload} at {each.entry.index}")
            case LeaderChanged(leader, view) if core.node not in self.liars and view > core.first_view:
                self.said.append(f"{name} enters view {view} of {name_of(leader or 0)}")
            case Evidence(culprit, reason, proof):
                proven = "proof" if proof else "suspicion"
                self.said.append(f"{name} has {proven} against {name_of(culprit)}: {reason}")

    def shown(self, node: int) -> str:
        core = self.cores[node]
        if node in self.liars:
            return f"{name_of(node)} lies"
        notarized = sorted((each.index, self.names[each.digest]) for each in core.notarized.values())
        above = "".join(f" {name}" for _, name in notarized)
        gave_up = ", given up" if core.nullified else ""
        tip = f" notarized{above}" if above else ""
        return f"{name_of(node)} view {core.view}{gave_up} decided up to {core.committed_height}{tip}"

    def described(self, message: ConsensusMessage) -> str:
        match message:
            case Propose():
                block = message.payload.decode() or f"blank{message.view}"
                return f"Propose view {message.view} {block} at {message.height} after {self.names[message.parent]}"
            case Vote() if message.phase is Phase.NULLIFY and any(message.digest):
                return f"Nullify view {message.view} after {self.names[message.digest]} of {name_of(message.voter)}"
            case Vote() if message.phase is Phase.NULLIFY:
                return f"Nullify view {message.view} from {message.height} of {name_of(message.voter)}"
            case Vote():
                voter = f" of {name_of(message.voter)}"
                return f"{message.phase.name.title()} view {message.view} {self.names[message.digest]}{voter}"
            case CertificateNotice(_, certificate):
                names = {Phase.NOTARIZE: "Notarization", Phase.FINALIZE: "Finalization", Phase.FAST: "Fast certificate"}
                kind = names[certificate.phase]
                signers = ",".join(map(name_of, certificate.signers))
                return f"{kind} view {certificate.term} {self.names[certificate.digest]} by {signers}"
            case EvidenceNotice():
                return f"Evidence against {name_of(message.first.voter)}"
            case FetchBlock():
                return f"FetchBlock {self.names.get(message.digest, '?')}"
            case Forward():
                return f"Forward {b' '.join(message.payloads).decode()}"
            case _:
                return type(message).__name__
