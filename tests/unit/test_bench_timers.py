"""The cost of the timers and their shares beside a sampler's, from figures made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.bench.export_cost import Replicate, kept_order_ns
from core.bench.export_cost import cost_rows as export_cost_rows
from core.bench.timers import FUNCTIONS, STRATEGY_TOO, compared, cost_rows, explained, share_rows
from core.spans import INDEX, NAMES
from core.telemetry import CycleTracer
from core.trader import Trader
from tests.tui.fixtures import FakeSession

CYCLE = FakeSession(seed=1, cycles=30).cycles[0]


def cycle(**own_ms: float):
    own = np.zeros(len(NAMES))
    for name, ms in own_ms.items():
        own[INDEX[name]] = ms
    count = np.ones(len(NAMES), np.int64)
    count[INDEX["pattern_matching_dtw_single"]] = 20_000
    return replace(CYCLE, exclusive_ms=own, count=count)


def folded(**us: int) -> bytes:
    """Stacks as pyinstrument's are folded: outermost first, a file and line behind each function."""
    lines = [f"run node.py:1;run cycle.py:94;{name} trader.py:7;deep kernel.py:3 {value}" for name, value in us.items()]
    return "\n".join([*lines, "run node.py:1;datagram quic.py:9 5000", "ingest feed.py:3 700"]).encode()


def test_shares_are_of_the_steps_that_compute_with_all_nested_in_them():
    cycles = [cycle(pattern_matching_dtw=1.0, pattern_matching_dtw_single=2.0, news_fetching=1.0, quic_consensus=50.0)]
    shares = {each.span: each for each in compared(cycles, folded(match_patterns=600, read_news=400))}
    assert list(shares) == list(FUNCTIONS)
    assert shares["pattern_matching_dtw"].timed == pytest.approx(0.75)
    assert shares["pattern_matching_dtw"].sampled == pytest.approx(0.60)
    assert shares["news_sentiment_analysis"].sampled == pytest.approx(0.40)
    assert shares["market_data_ingestion"].sampled == 0.0, "a function of that name elsewhere is none of ours"
    assert "one long call of compiled code" in explained(shares["pattern_matching_dtw"])
    assert "many Python calls" in explained(shares["news_sentiment_analysis"])
    assert share_rows(shares["pattern_matching_dtw"])[0].ratio is None
    with pytest.raises(ValueError, match="no step of a cycle"):
        compared(cycles, b"run node.py:1;idle loop.py:2 100")


def test_indicators_run_within_ingestion_and_count_for_strategy():
    stack = b"run cycle.py:94;ingest trader.py:7;_prepare trader.py:9 300\nrun cycle.py:94;ingest trader.py:7 100"
    shares = {each.span: each.sampled for each in compared([cycle(news_fetching=1.0)], stack)}
    assert shares["strategy_execution"] == pytest.approx(0.75)
    assert shares["market_data_ingestion"] == pytest.approx(0.25)


def test_the_functions_are_those_of_the_trader():
    for function in (*FUNCTIONS.values(), *STRATEGY_TOO):
        assert callable(getattr(Trader, function))


def test_the_cost_is_a_ratio_and_what_one_span_makes_of_it():
    rows = {row.name: row for row in cost_rows([(10.2, 10.0)] * 6, [cycle()])}
    assert rows["timers.cycle_ms"].ratio == pytest.approx(1.02), "off is 1.02 times as fast"
    assert rows["timers.spans_per_cycle"].ours == len(NAMES)
    assert rows["timers.expected_share"].ours == pytest.approx(
        rows["timers.span_ns"].ours * len(NAMES) / 1e6 / 10.2, rel=1e-9
    )
    assert "timers.cycle_ms" not in {row.name for row in cost_rows([(10.2, 10.0)] * 5, [cycle()])}


def test_a_tracer_that_does_not_time_still_knows_the_cycle():
    tracer = CycleTracer()
    tracer.timing = False
    tracer.begin(1)
    with tracer.span("news_fetching") as span:
        span.count = 7
    with tracer.coordination():
        tracer.sent(2, 3)
    _, times = tracer.finish(5_000_001)
    assert times.wall_ms == 5.0
    assert times.untimed_ms == 5.0
    assert times.count.sum() == 1, "the root alone"
    tracer.timing = True
    tracer.begin(1)
    with tracer.span("news_fetching"):
        pass
    _, times = tracer.finish()
    assert times.count[INDEX["news_fetching"]] == 1


def test_what_exporting_costs_is_a_ratio_of_both_sides():
    replicate = Replicate(wall_ms=(10.5, 10.0), processor_ms=(22.0, 20.0))
    wall, processor = export_cost_rows([replicate] * 6)
    assert (wall.name, wall.ours, wall.theirs) == ("otlp.cycle_ms", 10.0, 10.5)
    assert wall.ratio == pytest.approx(1.05), "off is 1.05 times as fast"
    assert (processor.name, processor.ours, processor.theirs) == ("otlp.processor_ms", 20.0, 22.0)
    assert export_cost_rows([replicate] * 5) == []


def test_keeping_an_orders_times_is_timed():
    assert kept_order_ns(repeats=2, orders=10) > 0.0
