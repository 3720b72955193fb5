"""`?`: what is on the screen, what the keys do and what each span is, in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from core.spans import DEPTH, MEANING, NAMES

SCREEN = (
    ("Time per cycle", "Every row is a span of the trading cycle, nested as indented. A solid bar is the span's own "
     "time; the thin line goes on to its p50 with everything nested in it; the upright tick is its p99. The column own "
     "is its share of the cycle: all rows add up to 100 %, with untimed for what no span covers. The largest is "
     "highlighted. +3 means that three nested spans are folded into the row. Behind is work that went on after the "
     "cycle had ended. The figures cover the last 200 cycles that ran under the present toggles, never a "
     "mixture."),
    ("Throughput", "Cycles a second and the median cycle time, now and for every past second."),
    ("Consensus", "The protocol in force, its epoch and term (view, in Byzantine mode), and the mean time of one round "
     "of votes. For every node: role, commit index, lag (entries that the leader had committed and the node had not "
     "when it spoke), and the round trip from the leader. ● leads, ○ follows, ! has no link, × is unreachable."),
    ("Toggles", "Each key with its present value, and after the arrow what pressing it gives. A change takes effect at "
     "the next cycle, on every node. Once 30 cycles have run under it, the median cycle time before is divided by the "
     "one after, with a 95 % interval (block bootstrap). A before/after on a busy machine can lie: repeat what "
     "matters."),
    ("Compare (2)", "An experiment runs a toggle's two values in turn, in blocks A B B A or B A A B of 8 cycles, and "
     "drops the first 2 of a block. Each replicate gives one ratio first / second in which a drift cancels; above 1 "
     "the second is faster. It stops when the 95 % interval (bootstrap-t) is within ±2.5 %, or within 15 % of a larger "
     "effect; if 300 replicates do not bring that, it cannot tell. Per span, alone is what the whole cycle gained from "
     "that span's own time (Amdahl); of 30 intervals one or two miss by chance. What-if is the limit by Amdahl before "
     "the run. Several toggles are a factorial design: main effects and interactions, from four on as a fraction, in "
     "which interactions joined by = share one figure."),
    ("Swarm (3)", "A bar is the end of a node's log. Links are round trips in ms as the node in the row sees them; z: "
     "the connection came back by 0-RTT. Under them: messages shed, strangers turned away and why."),
    ("Orders (4)", "The latest orders by state, why orders were refused and decisions denied, profit and equity. The "
     "book is the venue's, asked once a second; ● is what of a level is our own."),
    ("Profile (5)", "Spans by own time. Percentiles come from HDR histograms of every cycle of this sitting under the "
     "present toggles, merged over all leaders. ÷2 and gone: the whole cycle's speed-up if the span took half its "
     "time, or none (Amdahl). Stalls: p99.9 is five times p50 or more. Below, one "
     "span's latency over time, a column a second; and the last profile snapshot (e): a row a depth of calls, as wide "
     "as its share of the samples."),
    ("Cycle (6)", "The last cycle on one axis: when each of the leader's spans ran, then when the other nodes judged "
     "its proposals and handled its consensus messages, then when gateway and venue had its orders in hand. Gaps in "
     "all rows are waiting: for the network, the disk or a core. Asked for every other second."),
    ("with", "Settings that every figure on the screen was made under."),
)  # fmt: skip
KEYS = (
    ("b", "batching: one message a proposal, or up to 20 proposals in one message and one round"),
    ("s", "serialization: msgpack maps, Cap'n Proto columns, or msgpack columns"),
    ("m", "consensus: Byzantine (bft), Raft, or auto, where critical decisions need a Byzantine certificate"),
    ("o", "optimistic execution: prepare the order before the commit; nothing leaves before the certificate"),
    ("x", "streams: one ordered QUIC stream a peer, or one per message kind and round"),
    ("z", "0-RTT: reconnect with a full handshake, or resumed with early data"),
    ("p", "parallel orders: one after another, or 8 in flight"),
    ("c", "asynchronous confirmation: wait for each fill, or confirm in the background"),
    ("d", "DTW kernel: SIMD batch, pruned top-k, plain Python, scalar numba"),
    ("0", "all to the baseline; the DTW kernel stays"),
    ("9", "all to the optimised preset; the DTW kernel stays"),
    ("K", "the kill switch: no order leaves any more, open ones are cancelled. It asks nothing and acts at once; "
     "`tradetui resume`, or Resume under ^p, ends it"),
    ("space", "freeze the figures, or go on; data flows on. Toggles and warnings stay live"),
    (
        "← →",
        "look back over the sitting, a second a step at first; with shift by ten; home, end: start, present",
    ),
    ("1–6", "screens: monitor, compare, swarm, orders, profile, cycle"),
    ("a", "interleaved experiment on toggles of your choice; again to stop it"),
    ("[ ]", "orders: the book of the instrument before or after; profile: the latency of the span before or after"),
    ("S", "every setting, and the configuration file: changed values are checked, and written only if all are valid"),
    (
        "C",
        "take control, or give it up: one operator at a time may change the swarm, and the nodes see to it; who that "
        "is stands above at the right. The kill switch needs no control",
    ),
    (
        "k",
        "a fault on purpose: kill, pause, cut off, slow or turn a node; named under every figure while it is on",
    ),
    ("tab", "next of orders, positions, events (where one of them is shown at a time)"),
    (
        "e",
        "profile the leader for 2 s; writes profile, spans, toggles and this picture to a folder and says where. On "
        "compare: the leader in A and in B of the last experiment, with what each function costs a decision in both",
    ),
    ("q", "leave: asks whether trading goes on"),
    ("^p", "all commands, searchable"),
)  # fmt: skip


def help_page() -> Group:
    """The whole page."""
    spans = [("  " * depth + name, MEANING[name]) for name, depth in zip(NAMES, DEPTH, strict=True)]
    spans.append(("untimed", "what no span covers; shown, never hidden"))
    return Group(
        _title("The screen"),
        _rows(SCREEN),
        _title("Keys"),
        _rows(KEYS),
        _title("Spans"),
        _rows(spans),
    )


def _title(title: str) -> Text:
    return Text(f"\n{title}\n", "bold underline")


def _rows(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, meaning in rows:
        table.add_row(Text(name), Text(meaning))
    return table


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,space", "dismiss", "close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = "Help"
            scroll.border_subtitle = "↑ ↓ scroll · escape closes"
            yield Static(help_page())
