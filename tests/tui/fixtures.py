"""A made-up trading session for tests and screenshots: seeded, so that the same calls give the same snapshots.

NOTHING here is a measurement. The span times are drawn from a random generator around figures that look like those of
a real swarm, so that the screens can be tested and drawn without starting one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from core.attach import TradingAnswer
from core.book_ladder import BookLadder, LadderLevel
from core.cycle_trace import CycleTrace, SwarmTrace, Work, WorkInterval
from core.faults import CAPTIONS, Fault
from core.profile_pair import PairDiff, Side, difference, write_pair
from core.records import (
    Accusation,
    CycleRecord,
    EventRow,
    InControl,
    LogEnd,
    NodeStatus,
    OrderRow,
    OrderState,
    PeerLink,
    PeerNews,
    PositionRow,
    ResultsRow,
    Severity,
    SwarmSnapshot,
    VenueState,
)
from core.spans import INDEX, NAMES, PARENT, ROOT
from core.toggles import BASELINE, FIELD_OF_KEY, Consensus, DtwKernel, Serialization, Toggles, pressed
from core.trading_state import TradingState
from net.consensus import ReplicaStatus
from net.messages import Mode

START_NS = 1_763_217_000_000_000_000
PRICES = {
    "AAPL": 125.67, "AMD": 62.57, "BAC": 32.30, "BBY": 78.28, "CVX": 173.73, "GE": 63.88, "HD": 311.22, "JNJ": 174.09,
    "JPM": 129.58, "KO": 62.61, "LLY": 363.10, "MRK": 109.58, "MSFT": 233.43, "PEP": 179.28, "PFE": 49.25, "PG": 149.13,
    "RRC": 24.50, "UNH": 524.42, "WMT": 140.18, "XOM": 106.63,
}  # fmt: skip
_DTW_MS = {DtwKernel.BATCH: 1.6, DtwKernel.TOPK: 0.9, DtwKernel.NUMBA: 41.0, DtwKernel.PYTHON: 2100.0}
_CODEC_MS = {Serialization.MSGPACK: 1.9, Serialization.CAPNP: 0.42, Serialization.MSGPACK_COLUMNS: 0.33}
_ROUND_MS = {Consensus.BFT: 1.75, Consensus.RAFT: 0.62, Consensus.AUTO: 0.70}


def span_times(toggles: Toggles, random: np.random.Generator, orders: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Exclusive ms and counts of the 29 spans and the untimed ms of one invented cycle."""
    rounds = 1 if toggles.batching else 20
    in_flight = 8 if toggles.parallel_orders else 1
    base = {
        "market_data_ingestion": 0.31, "pattern_matching_dtw": 0.12,
        "pattern_matching_dtw_single": _DTW_MS[toggles.dtw_kernel],
        "news_sentiment_analysis": 0.02, "news_fetching": 0.05, "news_nlp_processing": 0.11, "news_aggregation": 0.03,
        "reasoningbank_query": 0.04, "reasoningbank_vector_search": 0.38, "reasoningbank_trajectory_lookup": 0.14,
        "reasoningbank_learning": 0.09, "risk_calculations": 0.03, "risk_var_calculation": 0.52,
        "risk_position_sizing": 0.07, "risk_exposure_checks": 0.06, "strategy_execution": 0.02,
        "strategy_signal_generation": 0.03, "strategy_indicators": 0.24, "strategy_pattern_signals": 0.08,
        "strategy_decision_logic": 0.17, "quic_coordination": 1.3 if toggles.stream_multiplexing else 1.8,
        "quic_message_serialization": _CODEC_MS[toggles.serialization],
        "quic_network_send": 0.8 if toggles.batching else 3.6,
        "quic_consensus": rounds * _ROUND_MS[toggles.consensus] * (1.6 if toggles.batching else 1.0),
        "order_execution": 0.05, "order_validation": 0.02 * orders,
        "order_placement": 0.55 * orders / in_flight * (0.8 if toggles.optimistic_execution else 1.0),
        "order_confirmation": 0.0 if toggles.async_confirmation else 0.45 * orders / in_flight,
    }  # fmt: skip
    count = dict.fromkeys(NAMES, 1) | {
        "pattern_matching_dtw_single": 20_000, "quic_message_serialization": 8 if toggles.batching else 160,
        "quic_network_send": 6 if toggles.batching else 120, "quic_consensus": rounds,
        "order_placement": orders, "order_confirmation": orders, "order_validation": orders,
    }  # fmt: skip
    noise = random.lognormal(0.0, 0.16, size=len(NAMES))
    if random.random() < 0.04:  # now and then the disk or the scheduler takes its time
        noise[INDEX["quic_consensus"]] *= 2.6
    exclusive = np.array([base.get(name, 0.0) for name in NAMES]) * noise
    return (
        exclusive,
        np.array([count[name] for name in NAMES], dtype=np.int64),
        float(0.35 * random.lognormal(0.0, 0.2)),
    )


def _folded(sends_us: int, encodes_us: int) -> bytes:
    """Invented stacks of a loop that trades."""
    run = "run_forever base_events.py:600;_run cycle.py:80"
    rows = {
        f"{run};_judge trader.py:120;best_matches dtw_batch.py:44": 310_000,
        f"{run};_judge trader.py:120;neighbours bank.py:90": 150_000,
        f"{run};_coordinate cycle.py:140;broadcast quic.py:220;encode codec.py:60": encodes_us,
        f"{run};_coordinate cycle.py:140;broadcast quic.py:220;_transmit quic.py:260": sends_us,
        f"{run};_coordinate cycle.py:140;deliver bft.py:310;verify certificate.py:88": 280_000,
        f"{run};_execute order_flow.py:70;release gateway.py:150": 120_000,
        f"{run};_publish node.py:420": 40_000,
        "run_forever base_events.py:600;select selectors.py:450": 210_000,
    }
    return "".join(f"{stack} {us}\n" for stack, us in rows.items()).encode()


FOLDED_A, FOLDED_B = _folded(620_000, 330_000), _folded(180_000, 70_000)


class FakeSession:
    """The invented swarm: advances cycle by cycle; every attribute may be set by a test before the next snapshot."""

    def __init__(self, seed: int = 7, cycles: int = 0, toggles: Toggles = BASELINE) -> None:
        self.random = np.random.default_rng(seed)
        self.toggles = toggles
        self.now_ns = START_NS
        self.cycle = 0
        self.leader: int | None = 2
        self.term = 4
        self.epoch = 1
        self.rounds = 0
        self.unreachable: set[int] = set()
        self.unheard: set[int] = set()
        self.accusations: dict[int, tuple[Accusation, ...]] = {}
        self.disagreements: dict[int, tuple[tuple[int, int], ...]] = {}
        self.turned_away: dict[int, tuple[tuple[str, int], ...]] = {}
        self.venue = VenueState.CONNECTED
        self.trading, self.trading_reason = TradingState.ACTIVE, ""
        self.gateway_connected = True
        self.in_control: InControl | None = None
        self.equity_high = 1_000_000.0
        self.drawdown = 0.0
        self.captions: tuple[str, ...] = ("modelled liquidity", "venue latency 0 ms", "durability strict")
        self.cycles: deque[CycleRecord] = deque(maxlen=2000)
        self.orders: deque[OrderRow] = deque(maxlen=200)
        self.events: deque[EventRow] = deque(maxlen=500)
        self.quantity = dict.fromkeys(PRICES, 0.0)
        self.entry = dict(PRICES)
        self.mark = dict(PRICES)
        self.realised = dict.fromkeys(PRICES, 0.0)
        self.sent = self.filled = self.rejected = self.denied = self.committed = 0
        self.event("supervisor", "4 nodes, gateway and venue started")
        self.event("node 2", "leads term 4")
        self.advance(cycles)

    def event(self, source: str, text: str, severity: Severity = Severity.INFO) -> None:
        self.events.append(EventRow(self.now_ns, severity, source, text))

    def press(self, key: str) -> str:
        before = self.toggles
        self.toggles = pressed(before, key)
        if key in FIELD_OF_KEY:
            name = FIELD_OF_KEY[key]
            if name == "consensus":
                self.epoch += 1
            value = getattr(self.toggles, name)
            word = ("on" if value else "off") if isinstance(value, bool) else str(value)
            sentence = f"{name.replace('_', ' ')} is {word} from the next cycle on"
        else:
            sentence = f"{'baseline' if key == '0' else 'optimised'} preset from the next cycle on"
        self.event("monitor", sentence)
        return sentence

    def advance(self, cycles: int) -> None:
        for _ in range(cycles):
            self._one_cycle()

    def _one_cycle(self) -> None:
        orders = int(self.random.integers(4, 9))
        exclusive, count, untimed = span_times(self.toggles, self.random, orders)
        inclusive = exclusive.copy()
        for name in reversed(NAMES):
            if name != ROOT:
                inclusive[INDEX[PARENT[name]]] += inclusive[INDEX[name]]
        inclusive[0] += untimed
        wall = float(inclusive[0])
        background = np.zeros(len(NAMES))
        if self.toggles.async_confirmation:
            background[INDEX["order_confirmation"]] = 0.5 * orders
        self.cycle += 1
        rounds = int(count[INDEX["quic_consensus"]])
        self.rounds += rounds
        self.committed += 20
        self.cycles.append(
            CycleRecord(
                cycle=self.cycle, step=3325 + self.cycle, lap=1, leader=self.leader or 0, epoch=self.epoch,
                term=self.term, started_ns=self.now_ns, wall_ms=wall, untimed_ms=untimed, toggles=self.toggles,
                count=count, inclusive_ms=inclusive, exclusive_ms=exclusive, background_ms=background, rounds=rounds,
                messages=rounds * 6 + 120, datagrams=rounds * 9 + 60, bytes_on_wire=rounds * 900 + 8_000,
                decisions_committed=20, decisions_denied=0, orders_sent=orders, orders_filled=orders,
                orders_rejected=0,
            )
        )  # fmt: skip
        self.now_ns += int(wall * 1e6)
        for name in self.mark:
            self.mark[name] *= 1.0 + 0.0008 * float(self.random.normal())
        for _ in range(orders):
            self._one_order()

    def _one_order(self) -> None:
        names = list(PRICES)
        instrument = names[int(self.random.integers(len(names)))]
        held, price = self.quantity[instrument], round(self.mark[instrument], 2)
        side = "sell" if held > 0 and self.random.random() < 0.45 else "buy"
        quantity = float(self.random.integers(1, 9) * 5)
        if side == "sell":
            quantity = min(quantity, held)
        draw = self.random.random()
        state, filled, reason = OrderState.FILLED, quantity, ""
        if draw < 0.04:
            state, filled, reason = OrderState.REJECTED, 0.0, "insufficient balance"
        elif draw < 0.08:
            state, filled, reason = OrderState.DENIED, 0.0, "exposure above the soft limit"
        elif draw < 0.14:
            state, filled = OrderState.PARTIALLY_FILLED, float(max(1, quantity // 2))
        self.sent += state is not OrderState.DENIED
        self.filled += state is OrderState.FILLED
        self.rejected += state is OrderState.REJECTED
        self.denied += state is OrderState.DENIED
        self._book(instrument, side, filled, price)
        fee = round(0.001 * filled * price, 4)
        self.orders.appendleft(
            OrderRow(
                f"{self.cycle:08x}{self.sent + self.denied:08x}", 3325 + self.cycle, instrument, side, quantity,
                price, state, filled, price if filled else 0.0, fee, reason,
            )
        )  # fmt: skip

    def _book(self, instrument: str, side: str, quantity: float, price: float) -> None:
        held = self.quantity[instrument]
        if side == "buy" and quantity:
            self.entry[instrument] = (held * self.entry[instrument] + quantity * price) / (held + quantity)
            self.quantity[instrument] = held + quantity
        elif quantity:
            self.realised[instrument] += quantity * (price - self.entry[instrument]) - 0.001 * quantity * price
            self.quantity[instrument] = held - quantity

    def _node(self, node: int) -> NodeStatus:
        if node in self.unheard:
            return NodeStatus(node, 0, False, 0, 0, "never heard", None, (), "")
        modes = {Consensus.BFT: Mode.BFT, Consensus.RAFT: Mode.RAFT, Consensus.AUTO: Mode.AUTO}
        leads = node == self.leader
        lag = 0 if leads else (node + self.cycle) % 3
        status = ReplicaStatus(
            node=node, mode=modes[self.toggles.consensus], epoch=self.epoch, term=self.term, leader=self.leader,
            role="leader" if leads else "replica" if self.toggles.consensus is Consensus.BFT else "follower",
            commit_index=max(0, self.committed - lag), last_index=self.committed,
            peer_match_index=tuple((peer, self.committed - 4 * peer) for peer in range(4) if leads and peer != node),
            rounds=self.rounds if leads else 0, messages_sent=self.rounds * 3, messages_received=self.rounds * 3,
            elections=1, evidence=(),
        )  # fmt: skip
        links = tuple(
            PeerLink(peer, peer not in self.unreachable | self.unheard, 0.41 + 0.07 * ((node + peer) % 4), False, 0, "")
            for peer in range(4)
            if peer != node
        )
        activity = "leading" if leads else "following"
        if self.venue is VenueState.DOWN and leads:
            activity = "paused: venue is down"
        return NodeStatus(
            node, 4100 + node, node not in self.unreachable, 3325 + self.cycle, 1, activity, status, links, "strict",
            accusations=self.accusations.get(node, ()), disagreements=self.disagreements.get(node, ()),
            turned_away=self.turned_away.get(node, ()),
            leader_log=LogEnd(self.committed, self.committed),
            news=tuple(PeerNews(peer, 0.4, 3325 + self.cycle, self.committed, 7) for peer in range(4) if peer != node),
        )  # fmt: skip

    def _results(self, equity: float) -> ResultsRow:
        """As the swarm counts them, of the fills of this fake."""
        self.equity_high = max(self.equity_high, equity)
        self.drawdown = max(self.drawdown, self.equity_high - equity)
        turnover = sum(row.filled_quantity * row.average_price for row in self.orders)
        return ResultsRow(
            turnover / 1_000,
            turnover,
            self.drawdown,
            self.drawdown / self.equity_high,
            self.filled // 2,
            self.filled // 4,
        )

    def snapshot(self) -> SwarmSnapshot:
        positions = tuple(
            PositionRow(
                name, self.quantity[name], self.entry[name], self.mark[name], self.realised[name],
                self.quantity[name] * (self.mark[name] - self.entry[name]),
            )
            for name in PRICES
            if self.quantity[name] or self.realised[name]
        )  # fmt: skip
        invested = sum(row.quantity * row.mark_price for row in positions)
        profit = sum(row.realised + row.unrealised for row in positions)
        equity = 1_000_000.0 + profit
        return SwarmSnapshot(
            taken_ns=self.now_ns, session="20251115-143000", market="us-stocks: 20 instruments, 1 day a step",
            nodes=tuple(self._node(n) for n in range(4)), leader=self.leader, venue=self.venue,
            gateway_connected=self.gateway_connected, toggles=self.toggles, cycles=tuple(self.cycles),
            cycles_total=self.cycle, decisions_total=self.committed, denied_total=self.denied,
            orders_sent_total=self.sent, orders_filled_total=self.filled, orders_rejected_total=self.rejected,
            orders=tuple(self.orders), positions=positions, cash=equity - invested, equity=equity,
            events=tuple(self.events), captions=self.captions, instruments=tuple(PRICES),
            trading=self.trading, trading_reason=self.trading_reason,
            in_control=self.in_control, results=self._results(equity),
            denials=(("exposure limit", 41), ("var budget", 7)) if self.denied else (),
        )  # fmt: skip


def empty_snapshot() -> SwarmSnapshot:
    """What a client gives before it has heard from anybody."""
    return SwarmSnapshot(
        taken_ns=START_NS, session="", market="", nodes=(), leader=None, venue=VenueState.UNKNOWN,
        gateway_connected=False, toggles=BASELINE, cycles=(), cycles_total=0, decisions_total=0, denied_total=0,
        orders_sent_total=0, orders_filled_total=0, orders_rejected_total=0, orders=(), positions=(), cash=0.0,
        equity=0.0, events=(),
    )  # fmt: skip


class FakeClient:
    """A `SwarmClient` over a FakeSession (or a fixed snapshot); remembers what it was asked."""

    seekable = False
    read_only = False

    def __init__(self, session: FakeSession | None = None, owns_swarm: bool = True) -> None:
        self.session = session
        self.owns_swarm = owns_swarm
        self.may_stop = True
        self.fixed = empty_snapshot() if session is None else None
        self.pressed: list[str] = []
        self.refuse: str | None = None
        self.exports: list[tuple[Path, float]] = []
        self.faults: list[tuple[int, str]] = []
        self.fault_error: Exception | None = None
        self.kept: list[dict[str, object]] = []
        self.export_gate: asyncio.Event | None = None
        self.export_error: Exception | None = None
        self.svg = ""
        self.stopped = self.closed = False

    def snapshot(self) -> SwarmSnapshot:
        if self.fixed is not None:
            return self.fixed
        assert self.session is not None
        return self.session.snapshot()

    def freeze_snapshot(self) -> None:
        """Serve the present snapshot over and over: cheaper than building one a tick."""
        self.fixed = self.snapshot()

    @property
    def cycles(self) -> Sequence[CycleRecord]:
        return self.snapshot().cycles

    operator: int | None = 200

    async def take_control(self) -> str:
        assert self.session is not None
        self.session.in_control = InControl(200, "operator-0", "ann@desk", self.session.now_ns)
        return f"{self.session.in_control} is in control"

    async def give_up_control(self) -> str:
        assert self.session is not None
        self.session.in_control = None
        return "operator-0 gave up control"

    async def set_toggles(self, toggles: Toggles) -> str:
        assert self.session is not None
        self.session.toggles = toggles
        return f"set: now {toggles.label()}"

    async def trace(self) -> SwarmTrace:
        """The last cycle with its spans one after another, and each peer judging for a while in the middle."""
        assert self.session is not None
        record = self.session.cycles[-1]
        start = 1_000_000_000
        end = start + int(record.wall_ms * 1e6)
        intervals, at = [], start
        for index in range(1, len(NAMES)):
            length = int(record.exclusive_ms[index] * 1e6)
            intervals.append((index, at, at + length))
            at += length
        middle = (start + end) // 2
        work = tuple(
            WorkInterval(node, kind, middle, middle + 2_000_000 * (1 + node)) for node in range(4) for kind in Work
        )
        return SwarmTrace((CycleTrace(record.cycle, record.leader, start, end, tuple(intervals)),), work)

    async def ladder(self, instrument: str, levels: int) -> BookLadder:
        """Levels two basis points apart, with an own order on the second bid."""
        assert self.session is not None
        mark = round(self.session.mark[instrument], 2)
        steps = [max(0.01, round(mark * 0.0002, 2)) * (k + 0.5) for k in range(min(levels, 12))]
        sizes = [float(40 + (k * 37) % 90) for k in range(len(steps))]
        bids = tuple(
            LadderLevel(mark - step, size, 15.0 if k == 1 else 0.0)
            for k, (step, size) in enumerate(zip(steps, sizes, strict=True))
        )
        asks = tuple(LadderLevel(mark + step, size, 0.0) for step, size in zip(steps, reversed(sizes), strict=True))
        return BookLadder(instrument, bids, asks)

    async def kill_node(self, node: int) -> str:
        self.faults.append((node, "kill"))
        return f"node {node} was killed; the supervisor starts it again"

    async def set_fault(self, node: int, fault: Fault) -> str:
        if self.fault_error is not None:
            raise self.fault_error
        self.faults.append((node, str(fault)))
        assert self.session is not None
        self.session.captions = (*self.session.captions, f"fault: node {node} {CAPTIONS[fault]}")
        return f"node {node} {CAPTIONS[fault]}"

    def keep_experiment(self, values: dict[str, object]) -> None:
        self.kept.append(values)

    async def press(self, key: str) -> str:
        self.pressed.append(key)
        if self.refuse is not None:
            return self.refuse
        assert self.session is not None
        return self.session.press(key)

    async def change_trading(self, state: TradingState, reason: str) -> TradingAnswer:
        assert self.session is not None
        self.session.trading, self.session.trading_reason = state, reason
        return TradingAnswer(f"the gateway is {state}", f"committed: trading is {state}", 7)

    async def export_profile(self, directory: Path, svg: str, seconds: float) -> Path:
        self.exports.append((directory, seconds))
        self.svg = svg
        if self.export_gate is not None:
            await self.export_gate.wait()
        if self.export_error is not None:
            raise self.export_error
        return directory / "20251115-143000"

    async def export_pair(
        self,
        directory: Path,
        svg: str,
        seconds: float,
        first: Toggles,
        second: Toggles,
        tell: Callable[[str], None],
    ) -> tuple[Path, PairDiff]:
        folder = await self.export_profile(directory, svg, seconds)
        sides = [
            Side(toggles, {"profile.folded": text}, 640) for toggles, text in ((first, FOLDED_A), (second, FOLDED_B))
        ]
        diff = difference(*sides)
        write_pair(folder, *sides, diff)
        return folder, diff

    async def stop_swarm(self) -> None:
        self.stopped = True

    async def close(self) -> None:
        self.closed = True


def deterministic_client(owns_swarm: bool = True) -> FakeClient:
    """The session of the screenshots: a baseline run, then the optimised preset, with its effect measured."""
    session = FakeSession(seed=20251115, cycles=420)
    session.press("9")
    session.advance(900)
    session.event("venue", "round trip rose to 2.1 ms", Severity.WARNING)
    session.advance(60)
    session.event("gateway", "journal checkpoint at order 8,912")
    session.advance(40)
    return FakeClient(session, owns_swarm)
