"""The replicated state as bytes, and back: what a checkpoint of the log carries.

The bytes are a function of the entries applied, so that the nodes' signatures over them agree. What differs between
nodes that applied the same entries is left out: whose signatures a certificate happened to collect, by votes of which
phase (the fast path decides by FAST ones, or by FINALIZE ones), the term in which a follower learnt of a Raft commit.
An open decision therefore comes back with a certificate that states and proves
nothing. A Raft leader gives its own word for it; the quorum's signatures of a Byzantine one are kept beside the
checkpoint by the node that saw them (`proofs_of`), or asked of a peer, and put back by `adopt_proofs`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import astuple, replace
from typing import Any, Final

import msgpack
import numpy as np

from core.applied import OpenDecision
from core.limits import Limits
from core.limits_change import decode_limits, encode_limits
from core.portfolio import Portfolio
from core.recent_exposure import RecentExposure
from core.records import OrderState
from core.swarm_state import SwarmState
from core.toggle_change import switch_fields, switch_of
from core.toggles import from_dict
from core.trading_results import TradingResults
from core.trading_state import TradingState, decode_trading, encode_trading
from net.certificate import CertificateError, Verifier, verify_committed
from net.membership import decode_membership, encode_membership
from net.messages import Certificate, Committed, CommittedEntries, Entry, EntryKind, Mode, Phase
from net.wire.codec import WireError, decode, encode
from net.wire.kinds import CodecKind

FORMAT: Final = 5


def take_snapshot(state: SwarmState) -> bytes:
    """The whole state, the same bytes on every node that applied the same entries."""
    entries: dict[int, Committed] = {}
    for decision in state.open_decisions.values():
        entries.setdefault(decision.committed.entry.index, decision.committed)
    order = state.switch_order
    values = {
        "format": FORMAT,
        "index": state.applied_index,
        "chain": state.chain,
        "membership": encode_membership(state.membership),
        "memberships_before": [(until, encode_membership(each)) for until, each in state.memberships_still_needed()],
        "portfolio": state.portfolio.to_bytes(),
        "toggles": (state.toggles.as_dict(), state.toggles_signed_ns, order and switch_fields(order)),
        "trading": (str(state.trading), state.trading_pressed_ns, state.trading_reason),
        "limits": (astuple(state.limits), state.limits_signed_ns),
        "operators": (
            state.trading_change and encode_trading(state.trading_change),
            state.limits_change and encode_limits(state.limits_change),
        ),
        "decisions_committed": state.decisions_committed,
        "decisions_denied": state.decisions_denied,
        "orders_closed": sorted((kind.value, count) for kind, count in state.orders_closed.items()),
        "results": state.results.to_row(),
        "last_report": state.last_report,
        "decided_step": state.decided_step.astype("<i8").tobytes(),
        "marks": state.marks.astype("<i8").tobytes(),
        "recent": state.recent.to_rows(),
        "entries": [_committed_fields(committed) for committed in entries.values()],
        "open": [_decision_fields(decision) for decision in state.open_decisions.values()],
    }
    packed: bytes = msgpack.packb(values)
    return packed


def restore_snapshot(state: SwarmState, data: bytes) -> None:
    """Make `state` what `take_snapshot` saw; proofs that it holds already stay with their decisions.

    Raises ValueError, and changes nothing, when the bytes are no snapshot of this market.
    """
    try:
        values: dict[str, Any] = msgpack.unpackb(data, use_list=False)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']} of another build, want {FORMAT}; start a new session")
        portfolio = Portfolio.from_bytes(values["portfolio"])
        instruments = len(state.spec.instruments)
        decided_step, marks = (
            np.frombuffer(values[name], "<i8").astype(np.int64) for name in ("decided_step", "marks")
        )
        if {portfolio.instruments, decided_step.size, marks.size} != {instruments}:
            raise ValueError(f"{portfolio.instruments} instruments; this market has {instruments}")
        recent = RecentExposure.from_rows(values["recent"], values["index"], instruments)
        membership = decode_membership(values["membership"])
        before = tuple((int(until), decode_membership(each)) for until, each in values["memberships_before"])
        toggles_values, toggles_signed_ns, switch = values["toggles"]
        toggles, order = from_dict(toggles_values), None if switch is None else switch_of(switch)
        trading, pressed_ns, reason = values["trading"]
        trading = TradingState(trading)
        limits_values, limits_signed_ns = values["limits"]
        limits = Limits(*limits_values)
        said_trading, said_limits = values["operators"]
        trading_change = None if said_trading is None else decode_trading(said_trading)
        limits_change = None if said_limits is None else decode_limits(said_limits)
        closed = {OrderState(kind): count for kind, count in values["orders_closed"]}
        results = TradingResults.from_row(values["results"])
        entries = {committed.entry.index: committed for committed in map(_committed, values["entries"])}
        decisions = [_decision(fields, entries) for fields in values["open"]]
        counters = [values[name] for name in ("index", "last_report", "decisions_committed", "decisions_denied")]
        if not all(type(count) is int and count >= 0 for count in counters) or len(values["chain"]) != 32:
            raise ValueError("counters or hash chain out of range")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError(f"swarm snapshot of {len(data)} bytes cannot be read: {error!r:.300}") from error
    proven = [decision.committed for decision in state.open_decisions.values()]
    state.membership, state.portfolio, state.toggles, state.recent = membership, portfolio, toggles, recent
    state.memberships_before = before
    state.applied_index, state.last_report, state.decisions_committed, state.decisions_denied = counters
    state.trading, state.trading_pressed_ns, state.trading_reason = trading, pressed_ns, reason
    state.limits, state.limits_signed_ns = limits, limits_signed_ns
    state.trading_change, state.limits_change = trading_change, limits_change
    state.toggles_signed_ns, state.switch_order = toggles_signed_ns, order
    state.chain, state.orders_closed, state.results = values["chain"], closed, results
    state.decided_step, state.marks = decided_step, marks
    state.open_decisions = OrderedDict((decision.client_order_id, decision) for decision in decisions)
    _put_back(state, proven)


def is_proven(committed: Committed) -> bool:
    """Whether the gateway can be convinced of this entry: by signatures held, or in Raft by this node's own word."""
    return committed.certificate.mode is not Mode.BFT or bool(committed.certificate.signers)


def proofs_of(state: SwarmState) -> bytes:
    """The Byzantine entries behind open decisions with all their signatures; for this node's own use and its peers'."""
    found = {
        d.committed.entry.index: d.committed for d in state.open_decisions.values() if d.committed.certificate.signers
    }
    return encode(CommittedEntries(0, state.applied_index, tuple(found.values())), CodecKind.CAPNP)


def adopt_proofs(state: SwarmState, data: bytes) -> int:
    """Put back what `proofs_of` gave, here or at a peer, where a decision lacks it; every signature is checked.

    By the keys of who voted in the epoch of the decision: they may vote no longer.

    Returns how many entries of open decisions still lack their proof. Raises ValueError for other bytes.
    """
    try:
        message = decode(data)
    except WireError as error:
        raise ValueError(f"{len(data)} bytes are no proofs: {error}") from error
    if not isinstance(message, CommittedEntries):
        raise ValueError(f"{type(message).__name__} holds no proofs")  # noqa: TRY004 - malformed data, not a wrong call
    missing = {d.committed.entry.index for d in state.open_decisions.values() if not is_proven(d.committed)}
    verifiers: dict[int, Verifier] = {}
    good = []
    for committed in message.entries:
        if committed.entry.index not in missing:
            continue
        epoch = committed.epoch
        if epoch not in verifiers:
            verifiers[epoch] = Verifier(state.members_of(epoch).voter_keys)
        try:
            verify_committed(committed, verifiers[epoch])
        except CertificateError:
            continue
        good.append(committed)
    _put_back(state, good)
    return len({d.committed.entry.index for d in state.open_decisions.values() if not is_proven(d.committed)})


def _put_back(state: SwarmState, proofs: Iterable[Committed]) -> None:
    known = {_place(committed): committed for committed in proofs if committed.certificate.signers}
    for name, decision in state.open_decisions.items():
        proof = known.get(_place(decision.committed))
        if proof is not None:
            state.open_decisions[name] = replace(decision, committed=proof)


def _place(committed: Committed) -> tuple[int, Entry, bytes, bytes]:
    certificate = committed.certificate
    return (committed.epoch, committed.entry, certificate.context, certificate.digest)


def _committed_fields(committed: Committed) -> tuple[Any, ...]:
    entry, witness = committed.entry, committed.witness
    return (
        committed.epoch,
        (entry.index, entry.term, int(entry.kind), entry.payload),
        _statement(committed.certificate, Phase.FINALIZE, entry.term),
        # A witness is part of the entry's own bytes, the same on every node.
        None
        if witness is None
        else (_statement(witness, witness.phase, witness.term), witness.signers, witness.signatures),
    )


def _statement(certificate: Certificate, phase: Phase, term: int) -> tuple[Any, ...]:
    return (
        int(certificate.mode),
        certificate.epoch,
        certificate.context,
        int(phase),
        term,
        certificate.index,
        certificate.parent,
        certificate.digest,
    )


def _certificate(statement: Any, signers: Any = (), signatures: Any = ()) -> Certificate:
    mode, epoch, context, phase, term, index, parent, digest = statement
    return Certificate(Mode(mode), epoch, context, Phase(phase), term, index, parent, digest, signers, signatures)


def _committed(fields: Any) -> Committed:
    epoch, (index, term, kind, payload), statement, witness = fields
    entry = Entry(index, term, EntryKind(kind), payload)
    return Committed(epoch, entry, _certificate(statement), None if witness is None else _certificate(*witness))


def _decision_fields(decision: OpenDecision) -> tuple[Any, ...]:
    return (
        decision.client_order_id,
        decision.committed.entry.index,
        decision.part,
        decision.position,
        decision.step,
        decision.instrument,
        decision.side,
        decision.quantity,
        decision.limit_price,
    )


def _decision(fields: Any, entries: dict[int, Committed]) -> OpenDecision:
    name, index, *terms = fields
    return OpenDecision(name, entries[index], *terms)
