"""What a liar says that no honest node could: true messages with a false field, false names, entries of no form."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import msgpack

from net.epoch import first_epoch, make_epoch
from net.membership import all_voters, encode_membership
from net.messages import (
    Certificate,
    CertificateNotice,
    CommittedEntries,
    ConsensusMessage,
    EntryKind,
    Forward,
    Mode,
    SnapshotChunk,
    Vote,
)
from net.mode_switch import encode_switch, sign_switch
from net.simulation.keys import OPERATOR, OPERATOR_KEY, roster_of, signer

_FORWARDS, _CHUNKS, _OTHERS = 0.02, 0.05, 0.15
"""How often a message gives way to, or goes with, one of these: the first two beside any, others beside their kind."""


def malformed(
    to: int, message: ConsensusMessage, n: int, chunk: SnapshotChunk | None, random: Random
) -> ConsensusMessage | None:
    """Now and then something in place of, or beside, what a liar has to say to `to`.

    `chunk` is one of an honest node: a liar's own state is certified by nobody, so it has none to send.
    """
    if random.random() < _FORWARDS:
        return _forward(message.epoch, n, random)
    if chunk is not None and random.random() < _CHUNKS:
        return _altered_chunk(chunk, random)
    if random.random() >= _OTHERS:
        return None
    match message:
        case CertificateNotice():
            return replace(message, certificate=_altered(message.certificate, random))
        case CommittedEntries() if message.entries:
            return _altered_history(message, random)
        case Vote():
            return _in_another_name(to, message, n, random)
    return None


def _altered_chunk(chunk: SnapshotChunk, random: Random) -> SnapshotChunk:
    """The right certificate, and what it does not cover: where the bytes belong, how many there are, which."""
    match random.randrange(3):
        case 0:
            return replace(chunk, data=bytes(len(chunk.data)))
        case 1:
            return replace(chunk, offset=chunk.offset + random.choice((1, 200, 1 << 40)))
    end, total = chunk.offset + len(chunk.data), chunk.total_bytes
    return replace(chunk, total_bytes=random.choice((0, end, total - 1, total + 1, 1 << 40)))


def _altered(certificate: Certificate, random: Random) -> Certificate:
    """A true certificate under what its signatures do not cover, or with more of them than anybody checks."""
    match random.randrange(4):
        case 0:
            return replace(certificate, epoch=random.choice((0, certificate.epoch + 1, 99)))
        case 1:
            return replace(certificate, parent=random.choice((b"", b"a parent that never was", bytes(32))))
        case 2:
            return replace(certificate, mode=Mode.RAFT)
    strangers = [node for node in range(16) if node not in certificate.signers]
    return replace(
        certificate,
        signers=(*certificate.signers, strangers[0]),
        signatures=(*certificate.signatures, random.choice((b"", bytes(64), bytes(1000)))),
    )


def _altered_history(message: CommittedEntries, random: Random) -> CommittedEntries:
    """True entries with altered proofs, or with witnesses that nobody asked for."""
    if random.random() < 0.5:
        entries = tuple(replace(each, certificate=_altered(each.certificate, random)) for each in message.entries)
    else:
        entries = tuple(replace(each, witness=each.certificate) for each in message.entries)
    return replace(message, entries=entries)


def _in_another_name(to: int, vote: Vote, n: int, random: Random) -> Vote:
    """A vote of a node that said nothing of the kind: here, in a slot that is not begun, or in another view."""
    voter = random.choice([node for node in range(n) if node != to])
    height, view = vote.height + random.choice((0, 0, 5)), vote.view + random.choice((0, 0, 1))
    return replace(vote, voter=voter, height=height, view=view, signature=random.choice((bytes(64), vote.signature)))


def _forward(epoch: int, n: int, random: Random) -> Forward:
    """A switch or a change of membership that can begin no epoch, in the forms in which it is hard to see."""
    if random.random() < 0.5:
        return Forward(epoch, EntryKind.SWITCH, (random.choice(false_switches(n)),))
    members = encode_membership(all_voters(roster_of(n)))
    hint = random.choice((None, 0, 1.0, True, -1, 1 << 40, "0"))
    change = msgpack.packb((random.choice((1, 1, 1.0, 2)), members, hint, random.randrange(n), bytes(64)))
    return Forward(epoch, EntryKind.MEMBERSHIP, (random.choice((change, change, b"", members)),))


@cache
def false_switches(n: int) -> tuple[bytes, ...]:
    """Switches to Raft that end not the first epoch of `n` nodes: of no form, and those that no operator signed so."""
    epoch, sign = first_epoch(Mode.BFT, 0, all_voters(roster_of(n))), signer(OPERATOR_KEY)
    order = sign_switch(epoch, Mode.RAFT, OPERATOR, sign)
    later = make_epoch(3, Mode.BFT, 40, bytes(32), 0, epoch.membership)
    forged = (
        replace(order, signature=bytes(64)),
        replace(order, author=OPERATOR + 1),
        replace(order, author=0),
        sign_switch(epoch, Mode.RAFT, 0, signer(0)),
        replace(sign_switch(epoch, Mode.RAFT, 0, signer(0)), author=OPERATOR),
        replace(sign_switch(epoch, Mode.AUTO, OPERATOR, sign), mode=Mode.RAFT),
        sign_switch(later, Mode.RAFT, OPERATOR, sign),
    )
    whole = encode_switch(order, 0)
    odd = (
        b"",
        whole[:-1],
        whole + b"\0",
        b"\1" + whole[1:],
        whole[:3] + b"\0" + whole[4:],
        whole[:3] + b"\xff" + whole[4:],
    )
    return (*(encode_switch(each, 0) for each in forged), *odd, b"\1\0\0\2")
