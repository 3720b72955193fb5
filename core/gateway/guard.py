"""What the gateway asks of a decision before it becomes an order: a right certificate, and its own look at the limits.

The gateway trusts no single node. The certificate proves that the swarm decided; the opinions inside say whether the
peers vetoed; and the gateway's own books, built from its own fills, say whether the order stays within the limits.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.decision import Side, Veto
from core.gateway.decided_steps import DecidedSteps
from core.judgement import tally
from core.limits import Limits, check, reduces_only
from core.orders.identity import client_order_id
from core.orders.order import ExecutionReport, OrderRequest, TimeInForce
from core.payload import DecisionBatch, PayloadError, decode
from core.portfolio import Fill, Portfolio
from core.swarm_state import CLOSED_STATES, JUDGED_INDICES_MAX
from core.trading_state import TradingState
from net.certificate import CertificateError, Verifier, verify_committed
from net.membership import Membership
from net.messages import Committed, Mode
from net.payload_batch import PayloadBatchError, payloads_of

VERIFIED_MAX = 64
"""Entries whose certificate need not be checked again."""

MEMBERS_GRACE_S = 5.0
"""How long a decision of the epoch before a change of members may take to arrive."""


class GuardError(ValueError):
    """A decision that must not become an order; the text says why."""


class UnknownEpochError(GuardError):
    """The entry is of an epoch that is not known yet; it may be in a moment."""


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who decides from `epoch` on: whose signatures make a quorum, and of how many a veto must be."""

    epoch: int
    verifier: Verifier
    voters: int
    until_s: float = math.inf
    """Monotonic clock: after it their decisions are taken no more."""


class OrderGuard:
    """Checks decisions against the roster and against the gateway's own books."""

    def __init__(self, membership: Membership, modes: Mapping[int, Mode], limits: Limits, portfolio: Portfolio) -> None:
        """`portfolio` starts flat; `reported` brings it up to date, first of all from the journal."""
        self._modes = dict(modes)
        self._electorates = [Electorate(max(modes), Verifier(membership.voter_keys), len(membership.voters))]
        self._limits = limits
        self._portfolio = portfolio
        self._marks: NDArray[np.int64] = np.zeros(portfolio.instruments, np.int64)
        self.trading = TradingState.ACTIVE
        self.decided = DecidedSteps()
        self._verified: dict[tuple[int, int], Committed] = {}

    def set_members(self, membership: Membership, modes: Mapping[int, Mode]) -> None:
        """Who decides from the newest epoch of `modes` on, and the mode of each.

        What was decided before it may still be on its way: for `MEMBERS_GRACE_S` the members before count for entries
        of their own epochs, and no longer, as one of them may have left.
        """
        self._modes, epoch = dict(modes), max(modes)
        now_s = time.monotonic()
        before = [replace(each, until_s=min(each.until_s, now_s + MEMBERS_GRACE_S)) for each in self._electorates]
        self._electorates = [each for each in before if each.until_s > now_s and each.epoch < epoch]
        self._electorates.append(Electorate(epoch, Verifier(membership.voter_keys), len(membership.voters)))

    def _electorate(self, epoch: int) -> Electorate:
        """Who decided in `epoch`; the members of now where those of then are forgotten."""
        now_s = time.monotonic()
        of_then = [each for each in self._electorates if each.epoch <= epoch and each.until_s > now_s]
        return of_then[-1] if of_then else self._electorates[-1]

    def set_limits(self, limits: Limits) -> None:
        """What an order may be at most from now on."""
        self._limits = limits

    @property
    def portfolio(self) -> Portfolio:
        return self._portfolio

    def requests(self, epoch: int, index: int, payload: bytes) -> list[OrderRequest]:
        """The orders that a payload means when it commits at `index` of `epoch`, holds left out. Raises GuardError."""
        batch = self._decisions(payload)
        digest = hashlib.sha256(payload).digest()
        rows = batch.proposals
        return [
            _request(rows[position], epoch, index, position, digest)
            for position in np.flatnonzero(rows["side"] != Side.HOLD).tolist()
        ]

    def verify_certificate(self, committed: Committed) -> None:
        """Check that an entry, whatever it holds, was decided. Raises GuardError, UnknownEpochError for one of an epoch
        that too few nodes have told of yet.
        """
        self._refuse_another_mode(committed)
        try:
            verify_committed(committed, self._electorate(committed.epoch).verifier)
        except CertificateError as error:
            raise GuardError(f"certificate refused: {error}") from error

    def _refuse_another_mode(self, committed: Committed) -> None:
        """Outside Byzantine mode a certificate is one node's word, so it counts only where f + 1 told of that mode.

        Of an epoch that ended while the gateway was away nobody tells: what is left open of it is taken as it comes.
        """
        epoch, mode = committed.epoch, committed.certificate.mode
        known = self._modes.get(epoch)
        if known is None and epoch > max(self._modes) and mode is not Mode.BFT:
            raise UnknownEpochError(f"epoch {epoch} in mode {mode.name.lower()}: too few nodes have told of it yet")
        if known is not None and mode is not known:
            raise GuardError(
                f"entry {committed.entry.index}: a certificate of mode {mode.name.lower()}, epoch {epoch} is of mode "
                f"{known.name.lower()}"
            )

    def verify(self, committed: Committed) -> None:
        """Check the certificate of a decided entry. Raises GuardError: then nothing of it may be sent."""
        place = (committed.epoch, committed.entry.index)
        if self._verified.get(place) == committed:
            return
        self.verify_certificate(committed)
        for part, batch in self._all_decisions(committed):
            self._refuse_unwitnessed(committed, batch.proposals)
            if is_by_quorum(committed):
                for instrument in batch.proposals["instrument"].tolist():
                    self.decided.take(instrument, (committed.entry.index, part), batch.step)
        self._verified[place] = committed
        while len(self._verified) > VERIFIED_MAX:
            del self._verified[next(iter(self._verified))]

    def payload(self, committed: Committed, part: int) -> bytes:
        """The payload of a decided entry that its `part` names. Raises GuardError where it has none."""
        try:
            payloads = payloads_of(committed.entry)
        except PayloadBatchError as error:
            raise GuardError(str(error)) from error
        if not 0 <= part < len(payloads):
            raise GuardError(f"entry {committed.entry.index} has no payload {part}, it holds {len(payloads)}")
        return payloads[part]

    def requests_at(self, committed: Committed, positions: list[int], part: int = 0) -> list[OrderRequest]:
        """The orders of some rows of a decided entry. Raises GuardError for a row that is none."""
        payload = self.payload(committed, part)
        wanted = {r.position: r for r in self.requests(committed.epoch, committed.entry.index, payload)}
        missing = [position for position in positions if position not in wanted]
        if missing:
            raise GuardError(f"entry {committed.entry.index} has no order at positions {missing}")
        return [wanted[position] for position in positions]

    def check(self, committed: Committed, requests: list[OrderRequest], part: int = 0) -> dict[str, str]:
        """Orders that must not be sent, with the reason: vetoed by the peers, or outside the gateway's own limits.

        Raises GuardError where the state machine denied one: no honest leader brings it.
        """
        batch = self._decisions(self.payload(committed, part))
        self._refuse_denied(committed.entry.index, part, batch, requests)
        rows = batch.proposals
        positions = [request.position for request in requests]
        marks = self._marks_with(rows)
        voters = self._electorate(committed.epoch).voters
        vetoes = tally(rows, {s.peer: s.opinions for s in batch.opinions}, voters)[positions]
        limits = check(rows[positions], self._portfolio, marks, self._limits)
        self._marks = marks
        reducing = reduces_only(rows[positions], self._portfolio)
        denials = {}
        for row, (request, veto, limit) in enumerate(zip(requests, vetoes.tolist(), limits.tolist(), strict=True)):
            if self.trading is TradingState.HALTED:
                denials[request.client_order_id] = "trading is halted"
            elif self.trading is TradingState.REDUCING and not reducing[row]:
                denials[request.client_order_id] = "trading is reducing: this order would add exposure"
            elif veto or limit:
                source = "vetoed by the peers" if veto else "outside the gateway's limits"
                denials[request.client_order_id] = f"{source}: {_veto_name(veto or limit)}"
        return denials

    def reserve(self, requests: list[OrderRequest]) -> None:
        """Count orders as in flight before they are sent."""
        for r in requests:
            self._portfolio.reserve(r.client_order_id, r.instrument, r.side, r.quantity_lots, r.limit_ticks)

    def release(self, requests: list[OrderRequest]) -> None:
        """Orders that were not sent after all."""
        for request in requests:
            self._portfolio.release(request.client_order_id)

    def reported(self, report: ExecutionReport, step: int) -> None:
        """Keep the gateway's own books: one execution report of its journal, in order."""
        if report.last_quantity:
            fill = Fill(
                report.client_order_id,
                report.trade_id,
                report.instrument,
                report.side,
                report.last_quantity,
                report.last_price_ticks,
                report.fee_quanta,
                step,
            )
            self._portfolio.apply([fill])
        if report.state in CLOSED_STATES:
            self._portfolio.release(report.client_order_id)

    def _refuse_denied(self, index: int, part: int, batch: DecisionBatch, requests: list[OrderRequest]) -> None:
        """Raise GuardError where the state machine denied one of `requests`, on grounds that proven entries show.

        Nobody counts the fills of such an order, and no honest leader brings it. So it is refused and not journalled:
        a denial in the journal is the end of an order that the swarm waits for. Each rule is the state machine's own
        (`SwarmState._apply_decisions`), never a stricter one: what is wrongly refused here stops the trading.
        """
        rows = batch.proposals
        if (rows["step"] != batch.step).any() or np.unique(rows["instrument"]).size != rows.size:
            raise GuardError(f"entry {index}: the swarm decided nothing, its decisions are not well formed")
        if not 0 < index - batch.judged_index <= JUDGED_INDICES_MAX:
            raise GuardError(
                f"entry {index}: the swarm denied it, judged on a stale state (entry {batch.judged_index})"
            )
        for request in requests:
            stated = batch.limit_vetoes[request.position] if batch.limit_vetoes else Veto.NONE
            if stated:
                raise GuardError(f"entry {index}: the swarm denied position {request.position}: {_veto_name(stated)}")
            if self.decided.before(request.instrument, (index, part)) >= batch.step:
                text = f"step {batch.step} of instrument {request.instrument} was decided before"
                raise GuardError(f"entry {index}: the swarm denied position {request.position}: {text}")

    def _all_decisions(self, committed: Committed) -> list[tuple[int, DecisionBatch]]:
        """The decisions of an entry, each with which payload it is; others may share it. Raises GuardError for none."""
        try:
            values = enumerate(map(decode, payloads_of(committed.entry)))
            found = [(part, value) for part, value in values if isinstance(value, DecisionBatch)]
        except (PayloadError, PayloadBatchError) as error:
            raise GuardError(str(error)) from error
        if not found:
            raise GuardError("the payload holds no decisions")
        return found

    def _decisions(self, payload: bytes) -> DecisionBatch:
        try:
            batch = decode(payload)
        except PayloadError as error:
            raise GuardError(str(error)) from error
        if not isinstance(batch, DecisionBatch):
            raise GuardError("the payload holds no decisions")
        if batch.proposals.size and int(batch.proposals["instrument"].max()) >= self._portfolio.instruments:
            raise GuardError("a decision names an instrument that is not traded")
        return batch

    def _refuse_unwitnessed(self, committed: Committed, rows: NDArray[np.void]) -> None:
        """In auto mode a large order needs the Byzantine quorum beside the leader's word."""
        if committed.certificate.mode is not Mode.AUTO or committed.witness is not None:
            return
        notional = rows["quantity"].astype(np.float64) * rows["limit_price"]
        if ((rows["side"] != Side.HOLD) & (notional > self._limits.critical_notional)).any():
            raise GuardError(f"entry {committed.entry.index} is critical and has no Byzantine certificate")

    def _marks_with(self, rows: NDArray[np.void]) -> NDArray[np.int64]:
        marks = self._marks.copy()
        priced = rows["limit_price"] > 0
        marks[rows["instrument"][priced]] = rows["limit_price"][priced]
        return marks


def is_by_quorum(committed: Committed) -> bool:
    """Whether a Byzantine quorum signed what is decided and where: its honest ones vote for well-formed decisions only.

    A single leader's word, of Raft and auto mode, must not make later orders of honest leaders look decided.
    """
    return committed.certificate.mode is Mode.BFT


def _request(row: np.void, epoch: int, index: int, position: int, digest: bytes) -> OrderRequest:
    return OrderRequest(
        client_order_id=client_order_id(epoch, index, position, digest),
        instrument=int(row["instrument"]),
        side=int(row["side"]),
        quantity_lots=int(row["quantity"]),
        limit_ticks=int(row["limit_price"]),
        time_in_force=TimeInForce.IOC,
        step=int(row["step"]),
        epoch=epoch,
        index=index,
        position=position,
    )


def _veto_name(code: int) -> str:
    try:
        return Veto(code).name.lower().replace("_", " ")
    except ValueError:
        return f"code {code}"
