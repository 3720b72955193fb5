"""Lying nodes where the fast path is on: they equivocate for whole chains, vote for both halves, and misreport."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from random import Random

from net.certificate import GENESIS_DIGEST, entry_digest, signed_bytes
from net.messages import (
    Certificate,
    CertificateNotice,
    ConsensusMessage,
    Entry,
    EntryKind,
    Mode,
    Phase,
    Propose,
    Vote,
)
from net.quorum import byzantine_quorum
from net.simulation.byzantine import Adversary
from net.simulation.keys import signer

Place = tuple[int, int]
_PLACES_KEPT = 48


class FastAdversary(Adversary):
    """Beside what every liar does: it keeps two chains for the two halves of the nodes and votes in both, tells each
    node another last vote when it gives up a view, and shows a certificate that it helped to make to one node only: at
    once, or when the view was left, so that what was decided and left behind comes to light.
    """

    def __init__(self, liars: tuple[int, ...], n: int) -> None:
        super().__init__(liars, n, fast_path=True)
        self._twin_of: dict[bytes, bytes] = {}
        self._digests: dict[Place, dict[bytes, bytes]] = {}
        """The blocks of each place, by digest, with their parents."""
        self._heard: defaultdict[tuple[int, int, bytes], dict[int, bytes]] = defaultdict(dict)

    def overhear(self, message: ConsensusMessage) -> None:
        """The liars know every proposal and every vote."""
        super().overhear(message)
        if isinstance(message, Propose):
            entry = Entry(message.height, message.view, message.kind, message.payload)
            place = self._digests.setdefault((message.view, message.height), {})
            place[entry_digest(message.parent, entry)] = message.parent
            while len(self._digests) > _PLACES_KEPT:
                del self._digests[next(iter(self._digests))]
        elif isinstance(message, Vote) and message.phase is Phase.FAST:
            self._heard[message.view, message.height, message.digest][message.voter] = message.signature

    def rewrite(self, sender: int, to: int, message: ConsensusMessage, random: Random) -> list[ConsensusMessage]:
        out = super().rewrite(sender, to, message, random)
        for each in out:
            self.overhear(each)
        draw = random.random()
        if draw < 0.3 and (secret := self._secret(sender, to, late=draw > 0.05)) is not None:
            out.append(secret)
        return out

    def _other_proposal(self, sender: int, to: int, message: Propose) -> ConsensusMessage:
        """A chain of its own for the other half of the nodes."""
        if not to % 2:
            return message
        parent = self._twin_of.get(message.parent, message.parent)
        payload = message.payload + b" twin" if message.kind is EntryKind.DATA else message.payload
        twin = entry_digest(parent, Entry(message.height, message.view, message.kind, payload))
        before = entry_digest(message.parent, Entry(message.height, message.view, message.kind, message.payload))
        self._twin_of[before] = twin
        return replace(
            message, parent=parent, payload=payload, signature=self._signed(sender, Phase.NOTARIZE, message, twin)
        )

    def _signed(self, sender: int, phase: Phase, place: Propose | Vote, digest: bytes) -> bytes:
        return signer(sender)(signed_bytes(self._context(1), phase, place.view, place.height, digest))

    def _votes(self, sender: int, to: int, vote: Vote, draw: float) -> list[ConsensusMessage]:
        if vote.voter != sender or vote.phase not in (Phase.FAST, Phase.NULLIFY) or draw > 0.85:
            return [vote] if draw > 0.85 else super()._votes(sender, to, vote, draw)
        if vote.phase is Phase.NULLIFY:
            return [self._misreport(sender, to, vote, draw)]
        # A vote for whatever may be on its way at this place.
        known = [*self._digests.get((vote.view, vote.height), {}), vote.digest]
        wanted = [self._twin_of.get(vote.digest, vote.digest)] if draw < 0.5 and to % 2 else dict.fromkeys(known)
        return [replace(vote, digest=each, signature=self._signed(sender, Phase.FAST, vote, each)) for each in wanted]

    def _misreport(self, sender: int, to: int, vote: Vote, draw: float) -> Vote:
        """Nothing, or one of the blocks of the view: its own or the other chain's, the highest or one below."""
        told = (0, GENESIS_DIGEST)
        places = sorted(place for place in self._digests if place[0] == vote.view)
        if places and draw > 0.35:
            place = places[-1] if draw > 0.5 else places[(to + vote.view) % len(places)]
            digests = list(self._digests[place])
            told = (place[1], digests[-1] if draw > 0.6 else digests[to % len(digests)])
        return self._nullify(sender, vote, *told)

    def _nullify(self, sender: int, vote: Vote, height: int, digest: bytes) -> Vote:
        said = signed_bytes(self._context(1), Phase.NULLIFY, vote.view, height, digest)
        return replace(vote, height=height, digest=digest, signature=signer(sender)(said))

    def _secret(self, sender: int, to: int, late: bool) -> CertificateNotice | None:
        """A certificate with its own vote, for one node of four. `late`: of a view that is over."""
        quorum = byzantine_quorum(self.n)
        latest = max((view for view, _ in self._digests), default=0)
        for (view, height), digests in reversed(self._digests.items()):
            if (view + height) % self.n != to or (late and view == latest):
                continue
            for digest, parent in digests.items():
                heard = self._heard.get((view, height, digest), {})
                if len(heard.keys() | {sender}) >= quorum:
                    said = signed_bytes(self._context(1), Phase.FAST, view, height, digest)
                    votes = {**heard, sender: signer(sender)(said)}
                    signers = tuple(sorted(votes)[:quorum])
                    marks = tuple(votes[node] for node in signers)
                    certificate = Certificate(
                        Mode.BFT, 1, self._context(1), Phase.FAST, view, height, parent, digest, signers, marks
                    )
                    return CertificateNotice(1, certificate)
        return None
