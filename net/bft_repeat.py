"""What a replica of the Byzantine protocol says again, because it may have been lost and still matters."""

from __future__ import annotations

from collections.abc import Iterator

from net.bft_state import BftState
from net.bft_votes import Slot
from net.messages import CertificateNotice, ConsensusMessage, FetchBlock, Phase, Vote

_HEIGHTS = 16
"""How many heights, blocks and views one repetition covers."""


def nullify_messages(state: BftState, vote: Vote) -> Iterator[ConsensusMessage]:
    """This node's NULLIFY, and the notarization that the next leader may have to extend because of it (I5)."""
    yield vote
    slot = state.slots.get((vote.view, vote.height - 1))
    if slot is not None and slot.notarization is not None:
        yield CertificateNotice(state.epoch.number, slot.notarization)
    block = state.blocks.get(vote.digest)
    for _ in range(_HEIGHTS):
        # The fast path: what the vote reports, from the top down.
        if block is None:
            break
        yield block.proposal
        block = state.blocks.get(block.parent)


def for_everybody(state: BftState) -> Iterator[ConsensusMessage]:
    """Own votes and certificates above the decided height, own NULLIFY votes, requests for blocks that never came."""
    first = max(state.committed_view, state.view - _HEIGHTS) if state.committed_view < state.view else state.view
    for view in range(first, state.view + 1):
        own = state.nullifications.of(view, state.node)
        if own is not None:
            yield from nullify_messages(state, own)
    live = [slot for slot in state.slots.values() if slot.view == state.view or slot.finalize_voted is not None]
    live.sort(key=lambda slot: (slot.height, slot.view))
    for slot in live[:_HEIGHTS]:
        yield from _slot_messages(state, slot)
    grounds = state.leader == state.node or state.vote_phase is Phase.FAST
    if grounds and not state.in_first_view and state.committed_view < state.view:
        yield from _grounds(state)
    for height, digest in _missing_blocks(state)[:_HEIGHTS]:
        yield FetchBlock(state.epoch.number, height, digest)


def for_laggard(state: BftState, view: int) -> Iterator[ConsensusMessage]:
    """What lets a peer leave an old view or height."""
    if state.last_certificate is not None:
        yield CertificateNotice(state.epoch.number, state.last_certificate)
    for old in range(max(view, state.committed_view), state.view):
        yield from state.nullifications.votes(old)


def for_fetch(state: BftState, request: FetchBlock) -> Iterator[ConsensusMessage]:
    """The block that a peer asks for, with its proof where it is decided."""
    block = state.blocks.get(request.digest)
    recent = state.recent.get(request.height)
    if block is not None:
        yield block.proposal
    elif recent is not None and recent[1].digest == request.digest:
        yield CertificateNotice(state.epoch.number, recent[1])
        yield recent[0]


def _slot_messages(state: BftState, slot: Slot) -> Iterator[ConsensusMessage]:
    number = state.epoch.number
    if slot.voted is not None:
        block = state.blocks.get(slot.voted)
        signature = slot.tally(state.vote_phase).signatures.get(slot.voted, {}).get(state.node)
        own = block is not None and block.proposal.leader == state.node
        if block is not None and own:
            yield block.proposal
        if signature is not None and not (own and state.vote_phase is Phase.NOTARIZE):
            yield Vote(number, state.vote_phase, slot.view, slot.height, slot.voted, state.node, signature)
    if slot.notarization is not None:
        yield CertificateNotice(number, slot.notarization)
    if slot.finalize_voted is not None:
        signature = slot.finalize.signatures.get(slot.finalize_voted, {}).get(state.node)
        if signature is not None:
            yield Vote(number, Phase.FINALIZE, slot.view, slot.height, slot.finalize_voted, state.node, signature)


def _grounds(state: BftState) -> Iterator[ConsensusMessage]:
    """The votes and the notarization that entitle the first block of this leader's view (R3)."""
    for view in range(max(state.committed_view, state.first_view), state.view):
        yield from state.nullifications.every(view)
    older = [certificate for certificate in state.notarized.values() if certificate.term < state.view]
    if older:
        yield CertificateNotice(state.epoch.number, max(older, key=lambda each: (each.term, each.index)))


def _missing_blocks(state: BftState) -> list[tuple[int, bytes]]:
    """Height and digest of blocks that certificates, votes or children name, and that never came; lowest first."""
    sought: dict[bytes, int] = {}
    for slot in state.slots.values():
        for certificate in (slot.notarization, slot.finalization):
            if certificate is not None:
                sought[certificate.digest] = slot.height
        for tally in (slot.tally(state.vote_phase), slot.finalize):
            for digest, votes in tally.signatures.items():
                if len(votes) > state.faults:
                    sought[digest] = slot.height
    for vote in state.nullifications.reports():
        if vote.height > state.committed_height and vote.view <= state.view:
            sought[vote.digest] = vote.height
    for block in state.blocks.values():
        if block.entry.index > state.committed_height + 1:
            sought.setdefault(block.parent, block.entry.index - 1)
    return sorted((height, digest) for digest, height in sought.items() if digest not in state.blocks)
