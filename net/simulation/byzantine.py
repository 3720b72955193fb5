"""Lying nodes: a replica of our own whose messages an adversary rewrites, with its real keys."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from net.certificate import GENESIS_DIGEST, entry_digest, signed_bytes
from net.checkpoint import Checkpoint, sign_checkpoint
from net.epoch import first_epoch
from net.membership import all_voters
from net.messages import (
    AppendEntries,
    CertificateNotice,
    CheckpointCertificate,
    CheckpointVote,
    CommittedEntries,
    ConsensusMessage,
    Entry,
    EntryKind,
    EvidenceNotice,
    FetchBlock,
    Forward,
    Mode,
    Phase,
    Propose,
    SnapshotChunk,
    Vote,
)
from net.mode_switch import SwitchError, decode_switch, encode_switch
from net.simulation.keys import OPERATOR, context_of, roster_of, signer
from net.simulation.malformed import false_switches, malformed

_WITNESSING = (Propose, Vote, CertificateNotice, FetchBlock, EvidenceNotice, Forward)
_SWITCHES = 0.05
"""How often a lying leader proposes one that no operator signed."""
_FORGERIES = 0.05
"""How often a message goes with a forged switch, of whoever does nothing else."""


class Adversary:
    """Each liar draws a strategy per message: say nothing, say two things, sign falsehoods, repeat old messages, start
    a view behind what is notarized, give up what it finalized, offer a checkpoint that nobody else signed, propose a
    switch that no operator signed, and say what has no honest form (`net.simulation.malformed`).
    """

    def __init__(self, liars: tuple[int, ...], n: int, fast_path: bool = False) -> None:
        self.liars = liars
        self.n = n
        self._fast_path = fast_path
        self._said: list[ConsensusMessage] = []
        self._blocks: list[tuple[int, bytes]] = [(0, GENESIS_DIGEST)]
        self._chunk: SnapshotChunk | None = None
        self._starts: dict[tuple[int, int], Propose] = {}
        self._switches: dict[tuple[int, int], Propose | None] = {}
        self._epoch = first_epoch(Mode.BFT, 0, all_voters(roster_of(n)))

    def overhear(self, message: ConsensusMessage) -> None:
        """The liars know every proposal, and the beginning of the newest snapshot that was sent."""
        if isinstance(message, SnapshotChunk) and message.offset == 0:
            self._chunk = message
        if isinstance(message, Propose):
            entry = Entry(message.height, message.view, message.kind, message.payload)
            block = (message.height, entry_digest(message.parent, entry))
            if block not in self._blocks[-20:]:
                self._blocks.append(block)

    def rewrite(self, sender: int, to: int, message: ConsensusMessage, random: Random) -> list[ConsensusMessage]:
        """What `sender` really sends to `to` in place of `message`."""
        if len(self._said) < 200:
            self._said.append(message)
        odd = malformed(to, message, self.n, self._chunk, random)
        if odd is not None:
            return [odd, message] if random.random() < 0.5 else [odd]
        draw = random.random()
        if draw < 0.1:
            return []
        if draw < 0.2:
            return [message, random.choice(self._said)]
        if isinstance(message, Propose) and message.kind is EntryKind.NOOP and message.leader == sender:
            return [self._older_start(sender, message, random)]
        if isinstance(message, Propose) and message.leader == sender:
            switch = self._false_switch(sender, message, random)
            if switch is not None:
                return [switch]
        if isinstance(message, Propose) and (draw < 0.7 or to % 2):
            return [self._other_proposal(sender, to, message)]
        if isinstance(message, Vote):
            return self._votes(sender, to, message, draw)
        if isinstance(message, CommittedEntries) and draw < 0.6:
            return [self._false_history(message)]
        if isinstance(message, CheckpointVote) and draw < 0.6:
            return [message, self._false_snapshot(sender, message)]
        return [message]

    def _other_proposal(self, sender: int, to: int, message: Propose) -> ConsensusMessage:
        """Another block for the other half of the nodes, rightly signed."""
        payload = message.payload + b" twin" if to % 2 and message.kind is EntryKind.DATA else message.payload
        entry = Entry(message.height, message.view, message.kind, payload)
        digest = entry_digest(message.parent, entry)
        said = signed_bytes(self._context(message.epoch), Phase.NOTARIZE, message.view, message.height, digest)
        return replace(message, payload=payload, signature=signer(sender)(said))

    def _older_start(self, sender: int, message: Propose, random: Random) -> ConsensusMessage:
        """Start the view, for everybody alike, from a block that may be older than what is finalized."""
        key = (message.view, message.height)
        if key not in self._starts:
            height, parent = random.choice([*self._blocks[-3:], (message.height - 1, message.parent)])
            entry = Entry(height + 1, message.view, message.kind, message.payload)
            digest = entry_digest(parent, entry)
            said = signed_bytes(self._context(message.epoch), Phase.NOTARIZE, message.view, height + 1, digest)
            self._starts[key] = replace(message, height=height + 1, parent=parent, signature=signer(sender)(said))
        return self._starts[key]

    def _false_switch(self, sender: int, message: Propose, random: Random) -> Propose | None:
        """Now and then a switch in place of what should be proposed: rightly signed by its leader, the same for all."""
        key = (message.view, message.height)
        if key not in self._switches:
            switch = None
            if random.random() < _SWITCHES:
                payload = random.choice(false_switches(self.n))
                entry = Entry(message.height, message.view, EntryKind.SWITCH, payload)
                digest = entry_digest(message.parent, entry)
                said = signed_bytes(self._context(message.epoch), Phase.NOTARIZE, message.view, message.height, digest)
                switch = replace(message, kind=EntryKind.SWITCH, payload=payload, signature=signer(sender)(said))
            self._switches[key] = switch
        return self._switches[key]

    def _votes(self, sender: int, to: int, vote: Vote, draw: float) -> list[ConsensusMessage]:
        context = self._context(vote.epoch)
        sign = signer(sender)
        if draw < 0.3:
            return [replace(vote, signature=bytes(64))]
        if vote.voter != sender:
            return [vote]
        if vote.phase is Phase.NULLIFY and draw < 0.7:
            height = vote.height + (5 if to % 2 else 0)
            return [
                replace(
                    vote,
                    height=height,
                    signature=sign(signed_bytes(context, vote.phase, vote.view, height, vote.digest)),
                )
            ]
        if draw < 0.5:
            digest = bytes([to]) * 32
            said = signed_bytes(context, vote.phase, vote.view, vote.height, digest)
            return [replace(vote, digest=digest, signature=sign(said)), vote]
        if draw < 0.65:
            # Give up a view that it goes on voting in.
            said = signed_bytes(context, Phase.NULLIFY, vote.view, 0, GENESIS_DIGEST)
            return [Vote(vote.epoch, Phase.NULLIFY, vote.view, 0, GENESIS_DIGEST, sender, sign(said)), vote]
        if draw < 0.75 and vote.phase is Phase.NOTARIZE:
            # Vote to finalize what is not notarized yet.
            said = signed_bytes(context, Phase.FINALIZE, vote.view, vote.height, vote.digest)
            return [vote, replace(vote, phase=Phase.FINALIZE, signature=sign(said))]
        return [vote]

    def _context(self, epoch: int) -> bytes:
        return context_of(epoch, self._fast_path)

    def _false_history(self, message: CommittedEntries) -> ConsensusMessage:
        entries = tuple(
            replace(each, entry=replace(each.entry, payload=each.entry.payload + b" false")) for each in message.entries
        )
        return replace(message, commit_index=message.commit_index + 3, entries=entries)

    def _false_snapshot(self, sender: int, vote: CheckpointVote) -> ConsensusMessage:
        """A state ahead of everybody that only the liar signed."""
        index = vote.index + 3
        checkpoint = Checkpoint(self._epoch, index, bytes(32), 1, 0, (), b"a state that never was")
        signed = sign_checkpoint(checkpoint, sender, signer(sender))
        certificate = CheckpointCertificate(index, signed.digest, (sender,), (signed.signature,))
        data = checkpoint.encode()
        return SnapshotChunk(vote.epoch, 0, len(data), certificate, data)


class WitnessAdversary(Adversary):
    """Lies in the Byzantine log beside an AUTO epoch, and in what it forwards; whoever lies to Raft can halt it."""

    def rewrite(self, sender: int, to: int, message: ConsensusMessage, random: Random) -> list[ConsensusMessage]:
        if not isinstance(message, _WITNESSING):
            return [message]
        return [each for each in super().rewrite(sender, to, message, random) if isinstance(each, _WITNESSING)]

    def _context(self, epoch: int) -> bytes:
        return context_of(epoch, witness=True)


class SwitchForger(Adversary):
    """Keeps to the protocols, whichever runs, and forwards switches without right: overheard ones once more, whatever
    epoch runs by then, and altered.
    """

    def __init__(self, liars: tuple[int, ...], n: int) -> None:
        super().__init__(liars, n)
        self._orders: list[bytes] = []

    def overhear(self, message: ConsensusMessage) -> None:
        """Every switch that is forwarded, proposed or appended; newest last."""
        said: list[tuple[EntryKind, bytes]] = []
        if isinstance(message, Forward):
            said = [(message.kind, payload) for payload in message.payloads]
        elif isinstance(message, Propose):
            said = [(message.kind, message.payload)]
        elif isinstance(message, AppendEntries):
            said = [(entry.kind, entry.payload) for entry in message.entries]
        for kind, payload in said:
            if kind is EntryKind.SWITCH and payload not in self._orders:
                self._orders = [*self._orders[-5:], payload]

    def rewrite(self, sender: int, to: int, message: ConsensusMessage, random: Random) -> list[ConsensusMessage]:
        if random.random() > _FORGERIES:
            return [message]
        # What is false already is left so: with another change it might become what the operator signed.
        forged = self._altered(random.choice(self._orders), random) if self._orders else None
        payload = random.choice(false_switches(self.n)) if forged is None else forged
        return [message, Forward(message.epoch, EntryKind.SWITCH, (payload,))]

    def _altered(self, payload: bytes, random: Random) -> bytes:
        try:
            order, hint = decode_switch(payload)
        except SwitchError:
            return payload
        match random.randrange(4):
            case 0:
                order = replace(order, mode=random.choice(tuple(Mode)))
            case 1:
                order = replace(order, author=random.choice((*self.liars, OPERATOR + 1)))
            case 2:
                order = replace(order, signature=random.randbytes(64))
        return encode_switch(order, hint)
