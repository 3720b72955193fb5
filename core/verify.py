"""Proof, from the files that a session left, that no decision was lost and no order doubled, to the last unit of cash.

Three witnesses that never read each other's files: the nodes' logs say what was decided, the gateway's journal what was
sent and reported, the venue's journal what was taken and traded. `verify` replays each and holds them against each
other. It works on copies, so a running swarm is not disturbed; what is under way then is counted, not faulted. In a
stopped session nothing is: an order whose answer its gateway never took is a finding, until the next start asks for it.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core.applied import OpenDecision
from core.gateway.journal import JOURNAL_NAME, OrderJournal
from core.gateway.reconcile import NEVER_REACHED
from core.market.errors import MarketDataError
from core.market.load import load_market
from core.market.spec import MarketSpec
from core.node_book import NodeBook, replay_node
from core.orders.identity import PREFIX
from core.orders.life_cycle import FINAL
from core.orders.order import ExecutionReport, Order
from core.orders.scale import MarketScale
from core.records import OrderState as S
from core.session import Session, SessionError
from core.swarm_state import CLOSED_STATES
from core.venue.account import VenueOrder
from core.venue.events import OrderStatus
from core.venue.exchange import Exchange
from core.venue.journal import read_events
from core.venue.process import TRADER, journal_path
from core.venue.settings import ExchangeSettings
from net.quorum import majority

STATE_OF: Final = {
    OrderStatus.NEW: S.ACCEPTED,
    OrderStatus.PARTIALLY_FILLED: S.PARTIALLY_FILLED,
    OrderStatus.FILLED: S.FILLED,
    OrderStatus.CANCELED: S.CANCELLED,
    OrderStatus.EXPIRED: S.EXPIRED,
    OrderStatus.EXPIRED_IN_MATCH: S.EXPIRED,
}
NEVER_COMMITTED: Final = "prepared, and never committed in this place"
"""Why journals of earlier versions deny orders that were prepared before their decision; now nothing is journalled."""
REPORTS: Final = "reports"
"""The folder of the journal's second copy."""
_UNSENT: Final = (S.INITIALISED, S.DENIED)
_UNSETTLED: Final = (S.SUBMITTED, S.UNKNOWN, S.PENDING_CANCEL)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up."""

    rule: str
    """`logs agree`, `decision has an order`, `order has a decision`, `order is at the venue`, `fills`, `cash`, …"""
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.text}"


@dataclass(slots=True)
class Verdict:
    """What was compared, and what did not agree."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.findings


def verify(session: Session) -> Verdict:
    """Compare logs, journal and venue of a session. Raises SessionError where a file is missing or unreadable, and for
    a session that trades with another venue than its own: that one's journal is not here to compare with."""
    elsewhere = session.settings().venue_address
    if elsewhere:
        raise SessionError(
            f"{session.directory.name} trades with {elsewhere}, whose journal is not here to compare with"
        )
    running = session.running() is not None
    with tempfile.TemporaryDirectory(prefix="tradetui-verify-") as folder:
        try:
            return _compare(session, _copy(session, Path(folder)), running)
        except SessionError:
            raise
        except (OSError, ValueError, RuntimeError, sqlite3.Error, MarketDataError) as error:
            what = f"gateway/{JOURNAL_NAME}: {error}" if isinstance(error, sqlite3.Error) else str(error)
            what = what.replace(folder, str(session.directory))
            raise SessionError(f"{session.directory.name} cannot be verified: {what}") from error


def _compare(session: Session, copies: Path, running: bool) -> Verdict:
    spec = load_market(session.settings().data).spec
    books = [replay_node(session, node, copies / f"node-{node}" / "log") for node in _nodes(session)]
    with closing(OrderJournal(copies / "gateway")) as journal, closing(OrderJournal(copies / REPORTS)) as later:
        return _Comparison(books, journal, later, _replay_venue(spec, copies), spec, running).run()


def _nodes(session: Session) -> list[int]:
    found = sorted(int(path.parent.name.removeprefix("node-")) for path in session.directory.glob("node-*/log"))
    if not found:
        raise SessionError(f"{session.directory.name} holds no node's log; nothing has been decided")
    return found


def _copy(session: Session, folder: Path) -> Path:
    """Copies that nobody writes to, in an order in which every witness knows what it must, of a running session too.

    The journal holds what the venue took before, the logs hold what the journal sent before; and the journal, once
    more, the reports that the logs count.
    """
    for name in ("venue", "gateway", REPORTS):
        (folder / name).mkdir()
    venue, journal = journal_path(session.directory / "venue"), session.directory / "gateway" / JOURNAL_NAME
    for path in (venue, journal):
        if not path.is_file():
            raise SessionError(f"{session.directory.name} has no {path.parent.name}/{path.name}; nothing was traded")
    shutil.copy(venue, folder / "venue")
    _copy_journal(journal, folder / "gateway")
    for node in _nodes(session):
        (folder / f"node-{node}").mkdir()
        shutil.copy(session.directory / f"node-{node}" / "log", folder / f"node-{node}" / "log")
    _copy_journal(journal, folder / REPORTS)
    return folder


def _copy_journal(journal: Path, folder: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as theirs,
        closing(sqlite3.connect(folder / JOURNAL_NAME)) as ours,
    ):
        theirs.backup(ours)


def _replay_venue(spec: MarketSpec, copies: Path) -> Exchange:
    exchange = Exchange(MarketScale.of(spec.symbols, spec.tick_size, spec.lot_size), ExchangeSettings())
    exchange.restore(read_events(journal_path(copies / "venue")))
    return exchange


class _Comparison:
    """Every rule, one method each; `run` gives the verdict."""

    def __init__(
        self,
        books: list[NodeBook],
        journal: OrderJournal,
        later: OrderJournal,
        exchange: Exchange,
        spec: MarketSpec,
        running: bool,
    ) -> None:
        self._books = books
        self._longest = max(books, key=lambda book: book.state.applied_index)
        self._journal = journal
        self._orders = {order.request.client_order_id: order for order in journal.orders_in(S)}
        self._reports: list[ExecutionReport] = []
        while page := later.reports_since(self._reports[-1].sequence if self._reports else 0, 10_000):
            self._reports += page
        self._exchange = exchange
        self._at_venue = {order.client_order_id: order for order in exchange.orders_of(TRADER)}
        self._spec = spec
        self._running = running
        self._verdict = Verdict()

    def run(self) -> Verdict:
        self._logs_agree()
        self._decisions_have_orders()
        self._orders_have_decisions()
        self._venue_and_journal_agree()
        self._fills_are_in_the_position()
        self._ended_orders_are_counted()
        self._cash_balances()
        return self._verdict

    def _found(self, rule: str, subject: object, text: str) -> None:
        self._verdict.findings.append(Finding(rule, str(subject), text))

    def _count(self, **counts: int) -> None:
        self._verdict.counts |= {name.replace("_", " "): count for name, count in counts.items()}

    def _logs_agree(self) -> None:
        """Whatever two nodes hold at one index is the same."""
        chosen: dict[int, tuple[int, tuple[object, ...]]] = {}
        for book in self._books:
            for index, (epoch, entry) in book.entries.items():
                ours = (epoch, entry.kind, entry.payload)
                node, theirs = chosen.setdefault(index, (book.node, ours))
                if theirs != ours:
                    self._found("logs agree", f"entry {index}", f"nodes {node} and {book.node} hold different ones")
        self._states_agree()
        self._count(nodes=len(self._books), entries=self._longest.state.applied_index, entries_replayed=len(chosen))

    def _states_agree(self) -> None:
        """What two nodes made of the log up to one entry is the same; the first entry where it is not is told."""
        held: dict[int, tuple[int, bytes]] = {}
        for book in self._books:
            for index, ours in sorted(book.hashes.items()):
                node, theirs = held.setdefault(index, (book.node, ours))
                if theirs != ours:
                    text = f"another state behind entry {index} than node {node}"
                    self._found("states agree", f"node {book.node}", text)
                    break

    def _decisions(self) -> dict[str, OpenDecision]:
        found: dict[str, OpenDecision] = {}
        for book in self._books:
            found |= book.decisions
        return found

    def _decisions_have_orders(self) -> None:
        """Each accepted decision has one order on its terms, or one denial, in the journal."""
        open_count = denials = 0
        for name, decision in self._decisions().items():
            order = self._orders.get(name)
            if order is None or order.state is S.INITIALISED:
                if name in self._longest.state.open_decisions:
                    open_count += 1
                else:
                    self._found("decision has an order", name, "the journal holds neither order nor denial")
                continue
            denials += order.state is S.DENIED
            r = order.request
            ours = (decision.instrument, decision.side, decision.quantity, decision.limit_price, decision.step)
            if (r.instrument, r.side, r.quantity_lots, r.limit_ticks, r.step) != ours:
                self._found("decision has an order", name, f"the order has other terms: {r}")
        self._count(decisions=len(self._decisions()), denied_by_the_gateway=denials, not_handed_over_yet=open_count)

    def _orders_have_decisions(self) -> None:
        """Each order that was sent is the order of a decision; those behind every log's checkpoint are counted.

        A log notes what is decided a little later than it is. So a session that was killed may hold an order whose
        entry stands in a quorum of logs, and in none as decided: whoever leads the next start decides it again.
        """
        decisions = self._decisions()
        base = min(book.base_index for book in self._books)
        sent = [order for order in self._orders.values() if order.state not in _UNSENT]
        behind = unmarked = 0
        for order in sent:
            if order.request.client_order_id in decisions:
                continue
            if order.request.index <= base:
                behind += 1
            elif not (self._running and order.request.index > self._longest.state.applied_index):
                holders = sum(book.holds_undecided(order.request) for book in self._books)
                if holders >= majority(len(self._longest.state.membership.voters)):
                    unmarked += 1
                else:
                    text = f"no node's log decided it, {holders} hold its entry"
                    self._found("order has a decision", order.request.client_order_id, text)
        self._count(orders_sent=len(sent), orders_of_entries_behind_the_checkpoint=behind)
        self._count(orders_of_entries_not_noted_as_decided=unmarked)

    def _venue_and_journal_agree(self) -> None:
        """No order twice; each that the venue took is in the journal, and stands there as at the venue."""
        foreign = 0
        for name, theirs in self._at_venue.items():
            ours = self._orders.get(name)
            if ours is None and not name.startswith(PREFIX):
                foreign += 1
            elif ours is None:
                self._found("order is in the journal", name, "the venue took it, the journal does not hold it")
            elif not (self._running and ours.state not in FINAL) and ours.state not in _UNSETTLED:
                self._compare(ours, theirs)
        for name, order in self._orders.items():
            if name in self._at_venue or order.state in (*_UNSENT, *_UNSETTLED, S.REJECTED):
                continue
            never_there = order.state is S.EXPIRED and order.reason.startswith(NEVER_REACHED)
            if not never_there and not self._running:
                self._found("order is at the venue", name, f"it is {order.state}, and the venue never took it")
            if order.cumulative_quantity and not self._running:
                self._found("fills", name, f"{order.cumulative_quantity} lots filled, and the venue never took it")
        in_doubt = [order for order in self._orders.values() if order.state in _UNSETTLED]
        self._count(orders_at_the_venue=len(self._at_venue), orders_in_doubt=len(in_doubt), foreign_orders=foreign)
        if not self._running:
            for order in in_doubt:
                self._in_doubt(order)

    def _in_doubt(self, order: Order) -> None:
        """A stopped session whose gateway was killed, or stopped without a venue: nobody has taken the venue's word."""
        name = order.request.client_order_id
        theirs = self._at_venue.get(name)
        there = "never came" if theirs is None else f"{theirs.status}, {theirs.executed_lots} lots filled"
        text = f"{order.state} here, {there} at the venue; start the session again, its gateway then asks the venue"
        self._found("order is known", name, text)

    def _compare(self, ours: Order, theirs: VenueOrder) -> None:
        name, request = theirs.client_order_id, ours.request
        terms = (request.instrument, request.side, request.quantity_lots, request.limit_ticks)
        if terms != (theirs.instrument, theirs.side, theirs.quantity_lots, theirs.price_ticks):
            self._found("order is at the venue", name, "on other terms")
        if ours.state is not STATE_OF[theirs.status]:
            self._found("order is at the venue", name, f"{ours.state} here, {theirs.status} there")
        there = frozenset(trade.trade_id for trade in self._exchange.trades_of(theirs))
        if (ours.cumulative_quantity, ours.value_quanta, ours.fee_quanta, ours.trade_ids) != (
            theirs.executed_lots,
            theirs.value_quanta,
            theirs.fee_quanta,
            there,
        ):
            text = f"{ours.cumulative_quantity} lots for {ours.value_quanta} here, {theirs.executed_lots} for"
            self._found("fills", name, f"{text} {theirs.value_quanta} there")

    def _fills_are_in_the_position(self) -> None:
        """Reports are numbered without gaps, no trade twice; what the log counts is what they add up to."""
        numbers = [report.sequence for report in self._reports]
        if numbers != list(range(1, len(numbers) + 1)):
            self._found("reports", "sequence", "numbers are missing or doubled")
        trades = Counter((report.instrument, report.trade_id) for report in self._reports if report.trade_id)
        for (instrument, trade_id), times in trades.items():
            if times > 1:
                self._found("fills", f"trade {trade_id}", f"reported {times} times of instrument {instrument}")
        for book in self._books:
            self._book_holds(book)
        late = sum(1 for report in self._reports[self._longest.state.last_report :] if report.trade_id)
        # A fill that came after the nodes stopped: the leader of the next start commits its report.
        self._count(reports=len(numbers), fills=len(trades), fills_that_no_log_counts_yet=late)

    def _book_holds(self, book: NodeBook) -> None:
        state, last = book.state, book.state.last_report
        if last > len(self._reports):
            self._found("reports", f"node {book.node}", f"counts {last}, the journal holds {len(self._reports)}")
        positions, cash = [0] * len(self._spec.instruments), state.portfolio.starting_cash
        for report in self._reports[:last]:
            positions[report.instrument] += report.side * report.last_quantity
            cash -= report.side * report.last_quantity * report.last_price_ticks + report.fee_quanta
        if state.portfolio.positions.tolist() != positions:
            self._found("fills are in the position", f"node {book.node}", f"positions are not those of report {last}")
        if state.portfolio.cash != cash:
            self._found("cash", f"node {book.node}", f"{state.portfolio.cash} quanta; reports to {last} give {cash}")

    def _ended_orders_are_counted(self) -> None:
        """The log's count of ended orders, which its checkpoints carry, is the journal's at the same report."""
        state = self._longest.state
        ended = Counter(str(report.state) for report in _ends(self._reports[: state.last_report]))
        theirs = Counter({str(kind): count for kind, count in state.orders_closed.items()})
        if ended != theirs:
            self._found("ended orders", f"report {state.last_report}", f"journal {dict(ended)}, log {dict(theirs)}")

    def _cash_balances(self) -> None:
        """The venue's balances are the journal's baseline and all its fills, to the last unit; apart from fills of
        orders in doubt, of which the journal has not heard."""
        count, account = len(self._spec.instruments), self._exchange.accounts.get(TRADER)
        baseline, traded = self._journal.baseline(), self._journal.traded(count)
        if self._running:
            return
        if baseline is None:
            if self._at_venue:
                self._found("cash", "baseline", "the journal was never reconciled with the venue")
            return
        if account is None:
            self._found("cash", "the venue's account", "its journal does not open it")
            return
        cash, lots = self._unheard(count)
        if baseline.cash_quanta + traded.cash_quanta + cash != account.cash:
            text = f"{baseline.cash_quanta + traded.cash_quanta + cash} quanta here, {account.cash} there"
            self._found("cash", "the venue's account", text)
        ours = [a + b + c for a, b, c in zip(baseline.base_lots, traded.base_lots, lots, strict=True)]
        if ours != account.base:
            self._found("fills are in the position", "the venue's account", f"{ours} lots here, {account.base} there")
        self._count(cash_quanta=account.cash)

    def _unheard(self, instruments: int) -> tuple[int, list[int]]:
        """What fills that the journal has not heard of did to cash (quanta) and positions (lots)."""
        cash, lots = 0, [0] * instruments
        for name, order in self._orders.items():
            theirs = self._at_venue.get(name)
            if order.state not in _UNSETTLED or theirs is None:
                continue
            for trade in self._exchange.trades_of(theirs):
                if trade.trade_id not in order.trade_ids:
                    lots[theirs.instrument] += theirs.side * trade.quantity_lots
                    cash -= theirs.side * trade.quantity_lots * trade.price_ticks + trade.fee_quanta
        return cash, lots


def _ends(reports: Iterable[ExecutionReport]) -> Iterable[ExecutionReport]:
    """The first report of the end of each order, without those that were prepared for a decision that never came."""
    seen: set[str] = set()
    for report in reports:
        if report.state is S.DENIED and report.reason == NEVER_COMMITTED:
            continue
        if report.state in CLOSED_STATES and report.client_order_id not in seen:
            seen.add(report.client_order_id)
            yield report
