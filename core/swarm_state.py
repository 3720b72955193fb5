"""The replicated state machine: what every node makes of the log, deterministically.

Two nodes that applied the same entries hold the same state and the same hash. A decision is accepted or denied here and
nowhere else: by the vetoes of the signed opinions it carries, by the limits against the replicated portfolio, and by
what was decided before. Nothing is looked up outside the entry and this state.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.applied import Applied, OpenDecision, sum_of
from core.decision import Side, Veto
from core.judgement import tally
from core.limits import Limits, check, is_critical, reduces_only
from core.limits_change import LimitsChange
from core.market.spec import MarketSpec
from core.orders.identity import client_order_id
from core.payload import (
    REPORT_STATES,
    DecisionBatch,
    Payload,
    PayloadError,
    ReportBatch,
    decode,
    opinion_bytes,
    report_bytes,
)
from core.portfolio import ORDERS_IN_FLIGHT_MAX, ClosedTrade, Fill, Portfolio
from core.recent_exposure import RecentExposure, exposure_of
from core.records import OrderState
from core.toggle_change import CONSENSUS_OF, MODE_OF, ToggleChange
from core.toggles import Toggles
from core.trading_results import TradingResults
from core.trading_state import TradingChange, TradingState
from net.identity import verify_signature
from net.membership import Membership, MembershipError, encode_membership
from net.membership_change import decode_change
from net.messages import ENDS_EPOCH, Committed, EntryKind, Mode
from net.mode_switch import SwitchError, SwitchOrder, check_switch, decode_switch
from net.payload_batch import PayloadBatchError, payloads_of
from net.quorum import byzantine_quorum

CLOSED_STATES: Final = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED, OrderState.DENIED}
)
OPEN_DECISIONS_MAX: Final = ORDERS_IN_FLIGHT_MAX
"""Decisions whose orders have not ended; an order on top of them is denied."""
STEP_MAX: Final = 1 << 62
"""A step is an int64 here and unsigned on the wire."""
JUDGED_INDICES_MAX: Final = 64
"""Entries between the state that a proposal was judged on and the proposal itself; one beyond is denied."""


@dataclass(slots=True)
class SwarmState:
    """Everything that the log decides. One per node; the gateway holds one too."""

    spec: MarketSpec
    membership: Membership
    """Who votes, and by which keys; MEMBERSHIP entries change it."""
    limits: Limits
    portfolio: Portfolio
    toggles: Toggles
    """As they hold. Their consensus is that of the running epoch: it becomes another one with the SWITCH entry."""
    gateway_key: bytes
    """The gateway's 32-byte Ed25519 public key; it signs execution reports."""
    trading_keys: dict[int, bytes] = field(default_factory=dict)
    """Who may change the trading state and (not the gateway) limits and toggles: public key by roster id of the
    operators and the gateway."""
    trading: TradingState = TradingState.ACTIVE
    trading_pressed_ns: int = 0
    """When the last change of the trading state was signed; an older one changes nothing."""
    trading_reason: str = ""
    trading_change: TradingChange | None = None
    """The last that was obeyed, whole: with its signature it can be shown to who reads no log."""
    limits_signed_ns: int = 0
    """When the last change of the limits was signed; an older one changes nothing."""
    limits_change: LimitsChange | None = None
    """As `trading_change`."""
    toggles_signed_ns: int = 0
    """When the last change of the toggles was signed; an older one changes nothing."""
    switch_order: SwitchOrder | None = None
    """The operator's order to switch that waits to be carried out; it ends with the epoch that it is signed for."""
    decisions_committed: int = 0
    decisions_denied: int = 0
    orders_closed: dict[OrderState, int] = field(default_factory=dict)
    results: TradingResults = field(default_factory=TradingResults)
    last_report: int = 0
    applied_index: int = 0
    open_decisions: OrderedDict[str, OpenDecision] = field(default_factory=OrderedDict)
    memberships_before: tuple[tuple[int, Membership], ...] = ()
    """Who decided up to each of these epochs, the oldest first, as far as decisions of then may still be open."""
    decided_step: NDArray[np.int64] = field(init=False)
    """int64[n]: last step decided for each instrument, -1 for none."""
    marks: NDArray[np.int64] = field(init=False)
    """int64[n]: ticks, the price of the last decision for each instrument."""
    recent: RecentExposure = field(init=False)
    """What the limits were checked against behind each of the last entries."""
    chain: bytes = b"\0" * 32
    """SHA-256 chain of everything applied."""

    def __post_init__(self) -> None:
        n = len(self.spec.instruments)
        self.decided_step = np.full(n, -1, np.int64)
        self.marks = np.zeros(n, np.int64)
        self.recent = RecentExposure(exposure_of(self.portfolio, self.marks, self.limits))

    @property
    def cycles_done(self) -> int:
        """Cycles whose every instrument is decided."""
        return int(self.decided_step.min()) + 1

    def state_hash(self) -> bytes:
        """32 bytes that two nodes share exactly when they applied the same entries, with the same effect.

        The operators' keys are of it: they come from each node's own roster, and rosters that differ let one node obey
        what another refuses.
        """
        operators = sorted((signer, key) for signer, key in self.trading_keys.items())
        words = (
            astuple(self.limits),
            self.limits_signed_ns,
            self.toggles.as_dict(),
            str(self.trading),
            self.trading_pressed_ns,
            self.last_report,
            operators,
        )
        parts = (
            self.chain,
            self.portfolio.state_hash(),
            self.decided_step.tobytes(),
            self.marks.tobytes(),
            encode_membership(self.membership),
            repr(words).encode(),
        )
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

    def apply(self, committed: Committed, denied: bool = False) -> Applied:
        """Take the next entry of the log; one that is `denied` changes nothing but what is decided.

        So does, in auto mode, what is critical behind the entry before it and comes without its Byzantine proof.

        Raises ValueError when entries come out of order (a fault of the caller, never of the data).
        """
        entry = committed.entry
        if entry.index <= self.applied_index:
            raise ValueError(f"entry {entry.index} applied after {self.applied_index}")
        self.applied_index = entry.index
        place = entry.index.to_bytes(8, "big") + bytes([entry.kind])
        self.chain = hashlib.sha256(self.chain + place + entry.payload).digest()
        applied = self._apply_entry(committed, denied)
        changed = any(isinstance(part.payload, DecisionBatch | ReportBatch | LimitsChange) for _, part in applied.parts)
        self.recent.applied(entry.index, exposure_of(self.portfolio, self.marks, self.limits) if changed else None)
        if changed:
            self.results.marked(self.portfolio.equity(self.marks))
        return applied

    def _apply_entry(self, committed: Committed, denied: bool) -> Applied:
        entry = committed.entry
        if entry.kind in ENDS_EPOCH and denied:
            return Applied(problem="nobody who may signed this end of the epoch")
        if entry.kind in ENDS_EPOCH:
            return self._end_epoch(committed)
        try:
            payloads = payloads_of(entry)
        except PayloadBatchError as error:
            return Applied(problem=str(error))
        parts = [(each, self._apply_payload(committed, part, each, denied)) for part, each in enumerate(payloads)]
        return sum_of(parts)

    def _apply_payload(self, committed: Committed, part: int, content: bytes, denied: bool) -> Applied:
        try:
            payload = decode(content)
        except PayloadError as error:
            return Applied(problem=str(error))
        needs_witness = committed.certificate.mode is Mode.AUTO and committed.witness is None
        witnessed = not denied and not (needs_witness and self._is_critical(payload))
        if isinstance(payload, DecisionBatch):
            digest = hashlib.sha256(content).digest()
            return self._apply_decisions(committed, part, digest, payload, witnessed)
        if not witnessed:
            return Applied(payload, problem="critical entry without its Byzantine certificate")
        if isinstance(payload, ReportBatch):
            return self._apply_reports(payload)
        if isinstance(payload, ToggleChange):
            return self._apply_toggles(committed, payload)
        return self._apply_limits(payload) if isinstance(payload, LimitsChange) else self._apply_trading(payload)

    def _apply_trading(self, change: TradingChange) -> Applied:
        if not self._may_change_trading(change):
            return Applied(change, problem="a change of the trading state by somebody who may not")
        if change.pressed_ns <= self.trading_pressed_ns:
            return Applied(change, problem=f"a later change of the trading state came before this {change.state}")
        self.trading, self.trading_pressed_ns = change.state, change.pressed_ns
        self.trading_reason, self.trading_change = change.reason, change
        return Applied(change)

    def limits_in_money(self) -> dict[str, float]:
        """The limits by name, quote currency; the price band in basis points."""
        quantum = self.spec.tick_size * self.spec.lot_size
        values = asdict(self.limits)
        return {name: value if name.endswith("_bps") else value * quantum for name, value in values.items()}

    def _apply_limits(self, change: LimitsChange) -> Applied:
        if not self.may_change(change):
            return Applied(change, problem="a change of the limits by somebody who may not")
        if change.signed_ns <= self.limits_signed_ns:
            return Applied(change, problem="a later change of the limits came before this one")
        self.limits, self.limits_signed_ns, self.limits_change = change.limits, change.signed_ns, change
        return Applied(change)

    def _apply_toggles(self, committed: Committed, change: ToggleChange) -> Applied:
        if not self.may_change(change):
            return Applied(change, problem="a change of the toggles by somebody who may not")
        if change.signed_ns <= self.toggles_signed_ns:
            return Applied(
                change, problem="a later change of the toggles came before, by the clocks of those who signed"
            )
        running = self.toggles.consensus
        order = None
        if change.toggles.consensus is not running:
            order = change.switch
            try:
                if order is None:
                    raise SwitchError("it brings no order to switch")
                voters = len(self.membership.voters)
                check_switch(order, committed.certificate.context, MODE_OF[running], voters, self.operator_keys)
            except SwitchError as error:
                return Applied(change, problem=f"consensus stays {running}: {error}", stale=True)
        self.toggles, self.switch_order = replace(change.toggles, consensus=running), order
        self.toggles_signed_ns = change.signed_ns
        return Applied(change)

    @property
    def operator_keys(self) -> dict[int, bytes]:
        """Public key by roster id."""
        return {signer: key for signer, key in self.trading_keys.items() if key != self.gateway_key}

    def may_change(self, change: LimitsChange | ToggleChange) -> bool:
        """Operators may; the gateway, which also signs words on the trading state, may not."""
        return change.is_signed(self.operator_keys)

    def _may_change_trading(self, change: TradingChange) -> bool:
        """Operators may do all; the gateway, which hears the venue go, may only halt."""
        by_gateway = self.trading_keys.get(change.signer) == self.gateway_key
        return change.is_signed(self.trading_keys) and not (by_gateway and change.state is not TradingState.HALTED)

    def _end_epoch(self, committed: Committed) -> Applied:
        """Another epoch begins, of another mode or of other members."""
        entry = committed.entry
        try:
            if entry.kind is EntryKind.SWITCH:
                order, _ = decode_switch(entry.payload)
                self.toggles = replace(self.toggles, consensus=CONSENSUS_OF[order.mode])
            else:
                after = decode_change(entry.payload).membership
                self.memberships_before = (*self.memberships_still_needed(), (committed.epoch, self.membership))
                self.membership = after
        except (SwitchError, MembershipError) as error:
            return Applied(problem=str(error))
        self.switch_order = None
        return Applied()

    def memberships_still_needed(self) -> tuple[tuple[int, Membership], ...]:
        """`memberships_before` as far as an open decision was decided by them: the same behind the same entries."""
        oldest = min((each.committed.epoch for each in self.open_decisions.values()), default=None)
        if oldest is None:
            return ()
        return tuple((until, members) for until, members in self.memberships_before if until >= oldest)

    def members_of(self, epoch: int) -> Membership:
        """Who decided in `epoch`, one that a decision is open of or the running one."""
        return next((members for until, members in self.memberships_before if epoch <= until), self.membership)

    def judge_limits(self, proposals: NDArray[np.void]) -> tuple[int, bytes]:
        """What a proposer states of its proposals: the index it judges them behind, and the limits' verdict there,
        one `Veto` code by row; empty where all pass.
        """
        vetoes = check(proposals, self.portfolio, self._marks_with(proposals), self.limits)
        return self.applied_index, vetoes.tobytes() if vetoes.any() else b""

    def content_is_valid(self, payload: bytes, *, signatures: bool) -> bool:
        """The stateless check: well formed, known instruments, and (Byzantine mode) opinions of a quorum of distinct
        nodes with right signatures, reports signed by the gateway.
        """
        try:
            value = decode(payload)
        except PayloadError:
            return False
        return self.value_is_valid(value, self.membership, signatures)

    def value_is_valid(self, value: Payload, members: Membership, signatures: bool) -> bool:
        """`content_is_valid` of a payload that was read; `members` are those whose opinions count."""
        if isinstance(value, DecisionBatch):
            return self._decisions_are_valid(value, members, signatures)
        if isinstance(value, ReportBatch) and signatures:
            return verify_signature(self.gateway_key, report_bytes(value.reports), value.signature)
        if isinstance(value, LimitsChange | ToggleChange):
            return self.may_change(value)
        return self._may_change_trading(value) if isinstance(value, TradingChange) else True

    def payload_is_critical(self, payload: bytes) -> bool:
        """The router: a function of the payload and of the state as it stands.

        Toggles, limits and the kill switch are critical; decisions are when one of them is by
        `core.limits.is_critical`; execution reports never are.
        """
        try:
            return self._is_critical(decode(payload))
        except PayloadError:
            return False

    def _is_critical(self, value: Payload) -> bool:
        if isinstance(value, DecisionBatch):
            instruments = value.proposals["instrument"]
            known = instruments.size > 0 and int(instruments.max()) < len(self.spec.instruments)
            return known and bool(self.critical_rows(value.proposals).any())
        return isinstance(value, ToggleChange | TradingChange | LimitsChange)

    def critical_rows(self, proposals: NDArray[np.void]) -> NDArray[np.bool_]:
        """bool[k]: which proposals the router sends to Byzantine consensus in auto mode."""
        return is_critical(proposals, self.portfolio, self._marks_with(proposals), self.limits)

    def _decisions_are_valid(self, batch: DecisionBatch, members: Membership, signatures: bool) -> bool:
        rows, voters = batch.proposals, members.voter_keys
        if rows.size == 0 or rows["instrument"].max() >= len(self.spec.instruments):
            return False
        if batch.step > STEP_MAX or (rows["step"] != batch.step).any():
            return False
        if np.unique(rows["instrument"]).size != rows.size:
            return False
        peers = {signed.peer for signed in batch.opinions}
        if (
            len(peers) != len(batch.opinions)
            or batch.proposer in peers
            or len(peers) + 1 < byzantine_quorum(len(voters))
        ):
            return False
        for signed in batch.opinions:
            if signed.peer not in voters or signed.opinions.size != rows.size:
                return False
            if signatures and not verify_signature(
                voters[signed.peer], opinion_bytes(signed.peer, rows, signed.opinions), signed.signature
            ):
                return False
        return True

    @property
    def opinion_quorum(self) -> int:
        """Opinions a proposal needs, the proposer's own included."""
        return byzantine_quorum(len(self.membership.voters))

    def _marks_with(self, proposals: NDArray[np.void]) -> NDArray[np.int64]:
        return marked(self.marks, proposals)

    def _apply_decisions(
        self, committed: Committed, part: int, digest: bytes, batch: DecisionBatch, witnessed: bool
    ) -> Applied:
        if not self._decisions_are_valid(batch, self.membership, signatures=False):
            return Applied(batch, problem="decisions are not well formed")
        rows = batch.proposals
        instruments = rows["instrument"].astype(np.int64)
        marks = self._marks_with(rows)
        vetoes = check(rows, self.portfolio, marks, self.limits)
        if batch.limit_vetoes:
            vetoes = np.where(vetoes == 0, np.frombuffer(batch.limit_vetoes, np.uint8), vetoes)
        if not 0 < committed.entry.index - batch.judged_index <= JUDGED_INDICES_MAX:
            vetoes = np.where(vetoes == 0, Veto.STALE_STATE, vetoes)
        denied_by_peers = tally(rows, {s.peer: s.opinions for s in batch.opinions}, len(self.membership.voters))
        vetoes = np.where((vetoes == 0) & (denied_by_peers != 0), denied_by_peers, vetoes)
        vetoes = np.where(vetoes == 0, self._trading_vetoes(rows), vetoes)
        vetoes = np.where(self.decided_step[instruments] >= batch.step, Veto.DUPLICATE, vetoes)
        if not witnessed:
            vetoes = np.where(vetoes == 0, Veto.EXPOSURE_LIMIT, vetoes)
        orders = np.flatnonzero((vetoes == 0) & (rows["side"] != Side.HOLD))
        vetoes[orders[max(0, OPEN_DECISIONS_MAX - len(self.open_decisions)) :]] = Veto.ORDER_RATE
        self.marks = marks
        fresh = vetoes != Veto.DUPLICATE
        self.decided_step[instruments[fresh]] = batch.step
        self.decisions_committed += int(fresh.sum())
        denied = int((fresh & (vetoes != 0)).sum())
        self.decisions_denied += denied
        positions = np.flatnonzero((vetoes == 0) & (rows["side"] != Side.HOLD)).tolist()
        accepted = tuple(self._open(committed, part, position, rows[position], digest) for position in positions)
        return Applied(batch, accepted, denied, tuple(int(v) for v in vetoes))

    def _trading_vetoes(self, rows: NDArray[np.void]) -> NDArray[np.uint8]:
        """uint8[k]: what the trading state refuses, by row."""
        orders = rows["side"] != Side.HOLD
        if self.trading is TradingState.HALTED:
            return np.where(orders, Veto.HALTED, Veto.NONE).astype(np.uint8)
        if self.trading is TradingState.REDUCING:
            return np.where(orders & ~reduces_only(rows, self.portfolio), Veto.REDUCING, Veto.NONE).astype(np.uint8)
        return np.zeros(rows.size, np.uint8)

    def _open(self, committed: Committed, part: int, position: int, row: np.void, digest: bytes) -> OpenDecision:
        entry = committed.entry
        name = client_order_id(committed.epoch, entry.index, position, digest)
        decision = OpenDecision(
            name,
            committed,
            part,
            position,
            int(row["step"]),
            int(row["instrument"]),
            int(row["side"]),
            int(row["quantity"]),
            int(row["limit_price"]),
        )
        self.portfolio.reserve(name, decision.instrument, decision.side, decision.quantity, decision.limit_price)
        self.open_decisions[name] = decision
        return decision

    def _apply_reports(self, batch: ReportBatch) -> Applied:
        rows = batch.reports[batch.reports["sequence"] > self.last_report]
        if rows.size == 0:
            return Applied(batch)
        first = int(rows["sequence"][0])
        if first != self.last_report + 1 or (np.diff(rows["sequence"].astype(np.int64)) != 1).any():
            return Applied(batch, problem=f"reports {first}… do not follow report {self.last_report}")
        traded = rows["quantity"] != 0
        if (
            (rows["quantity"] < 0).any()
            or (rows["price"][traded] < 1).any()
            or (rows["state"] >= len(REPORT_STATES)).any()
        ):
            return Applied(batch, problem=f"reports {first}… are malformed")
        closed_trades: list[ClosedTrade] = []
        strays: list[str] = []
        for row in rows:
            name = row["client_order_id"].decode(errors="replace")
            decision = self.open_decisions.get(name)
            if decision is None:
                strays += [name] if row["quantity"] > 0 else []
                continue
            if row["quantity"] > 0:
                closed = self.portfolio.apply([_fill(decision, row)])
                self.results.traded(int(row["quantity"]) * int(row["price"]), closed)
                closed_trades += closed
            state = REPORT_STATES[int(row["state"])]
            if state in CLOSED_STATES:
                self.portfolio.release(decision.client_order_id)
                self.open_decisions.pop(decision.client_order_id, None)
                self.orders_closed[state] = self.orders_closed.get(state, 0) + 1
        self.last_report = int(rows["sequence"][-1])
        return Applied(batch, closed_trades=tuple(closed_trades), strays=tuple(strays))


def _fill(decision: OpenDecision, row: np.void) -> Fill:
    return Fill(
        client_order_id=decision.client_order_id,
        trade_id=int(row["trade_id"]),
        instrument=decision.instrument,
        side=decision.side,
        quantity=int(row["quantity"]),
        price=int(row["price"]),
        fee=int(row["fee"]),
        step=decision.step,
    )


def marked(marks: NDArray[np.int64], proposals: NDArray[np.void]) -> NDArray[np.int64]:
    """Marks with the prices that the proposals name."""
    marked = marks.copy()
    priced = proposals["limit_price"] > 0
    marked[proposals["instrument"][priced]] = proposals["limit_price"][priced]
    return marked
