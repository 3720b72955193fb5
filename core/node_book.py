"""One node's log, replayed as the node itself would, for whoever compares logs with what came of them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from core.applied import OpenDecision
from core.genesis import genesis_state
from core.market.load import load_market
from core.node_gossip import HASH_EVERY_ENTRIES
from core.orders.identity import client_order_id
from core.orders.order import OrderRequest
from core.session import Session
from core.swarm_snapshot import restore_snapshot
from core.swarm_state import SwarmState
from core.toggle_change import MODE_OF
from core.toggles import parse_toggles
from net.consensus import Commit, RestoreState
from net.durable import AppendRecord, BlockRecord, decode_record
from net.identity import Identity
from net.log import DurableLog
from net.messages import Entry
from net.payload_batch import PayloadBatchError, payloads_of
from net.replica import Replica
from net.settings import ConsensusSettings


@dataclass(frozen=True, slots=True)
class NodeBook:
    """One node's log, replayed on a fresh state or on its last checkpoint."""

    node: int
    base_index: int
    """Entry of the checkpoint that the log begins with; 0: the log is whole."""
    entries: dict[int, tuple[int, Entry]]
    """Epoch and entry by index."""
    decisions: dict[str, OpenDecision]
    """Every decision that was accepted behind the checkpoint, and those that it held open, by client order id."""
    state: SwarmState
    hashes: dict[int, bytes]
    """Hash of the state behind every `HASH_EVERY_ENTRIES`th entry and behind the last."""
    undecided: dict[tuple[int, int], tuple[Entry, ...]]
    """By epoch and index: entries of the log that it does not note as decided; several where blocks competed."""

    def holds_undecided(self, request: OrderRequest) -> bool:
        """Whether an order is that of an entry which this log holds and does not note as decided."""
        for entry in self.undecided.get((request.epoch, request.index), ()):
            try:
                digests = [hashlib.sha256(payload).digest() for payload in payloads_of(entry)]
            except PayloadBatchError:
                continue
            names = (client_order_id(request.epoch, request.index, request.position, digest) for digest in digests)
            if request.client_order_id in names:
                return True
        return False


def replay_node(session: Session, node: int, log_file: Path | None = None) -> NodeBook:
    """Recover a node's log exactly as the node would, and apply it.

    `log_file`: a copy to read instead of the node's own, which must otherwise be stopped. Raises LogError.
    """
    settings, roster = session.settings(), session.roster()
    state = genesis_state(settings, load_market(settings.data).spec, roster)
    identity = Identity.load_or_create(session.key_file(f"node-{node}"), node)
    with DurableLog(log_file or session.folder(f"node-{node}") / "log", "none") as log:
        records = log.read_all()
        replica = Replica.recover(
            records,
            node,
            state.membership.voter_keys,
            identity.sign,
            random.Random(0),
            mode=MODE_OF[parse_toggles(settings.toggles).consensus],
            leader_hint=0,
            settings=ConsensusSettings(fast_path=settings.fast_path),
            critical=state.payload_is_critical,
            joining=node not in state.membership.voter_keys,
            authorities={entry.id: entry.public_key for entry in roster.of_role("operator")},
        )
        effects = replica.start(0.0)
    hashes: dict[int, bytes] = {}
    base, decisions, entries = 0, dict[str, OpenDecision](), dict[int, tuple[int, Entry]]()
    for effect in effects:
        if isinstance(effect, RestoreState):
            restore_snapshot(state, effect.state)
            base, decisions = effect.index, dict(state.open_decisions)
        elif isinstance(effect, Commit):
            for committed in effect.entries:
                applied = state.apply(committed, committed.entry.index in effect.denied)
                entries[committed.entry.index] = (committed.epoch, committed.entry)
                if committed.entry.index % HASH_EVERY_ENTRIES == 0:
                    hashes[committed.entry.index] = state.state_hash()
                decisions |= {decision.client_order_id: decision for decision in applied.accepted}
    hashes[state.applied_index] = state.state_hash()
    return NodeBook(node, base, entries, decisions, state, hashes, _undecided(records, state.applied_index))


def _undecided(records: list[bytes], decided_index: int) -> dict[tuple[int, int], tuple[Entry, ...]]:
    """Entries above `decided_index`, as the last record about them has them."""
    found: dict[tuple[int, int], tuple[Entry, ...]] = {}
    for record in map(decode_record, records):
        if isinstance(record, AppendRecord):
            cut = [place for place in found if place[0] == record.epoch and place[1] >= record.first_index]
            for place in cut:
                del found[place]
            for entry in record.entries:
                if entry.index > decided_index:
                    found[record.epoch, entry.index] = (entry,)
        elif isinstance(record, BlockRecord) and not record.witness and record.entry.index > decided_index:
            place = (record.epoch, record.entry.index)
            found[place] = (*found.get(place, ()), record.entry)
    return found
