"""What one node knows and thinks: its feed, its agents, its memory, its judgement of others' proposals.

The cycle calls the stages one by one and times each; a follower uses the same feed and memory to judge. Nothing here
talks to the network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.config import Settings
from core.decision import Veto
from core.judgement import judge
from core.market.events import MarketData
from core.market.feed import Feed, Step
from core.memory import MemoryFileError, ReasoningBank, Trajectories, verdict
from core.news.aggregate import SentimentAggregator
from core.news.feed import HeadlineFeed, RssHeadlines, SampleHeadlines
from core.news.lexicon import score
from core.patterns import hindsight, library_of
from core.portfolio import ClosedTrade
from core.pretrade import PreTradeLimits, PreTradeRisk
from core.records import Severity
from core.strategy.agents import AGENTS, AgentInputs, agent_inputs, all_votes
from core.strategy.decide import Combined, combine, propose, target_weights
from core.strategy.pattern import PatternConfig, PatternForecast, forecast_from_distances, forecast_from_neighbours
from core.strategy.risk import Sizing, exposure_checks, position_sizing, var_calculation, within_value_at_risk
from core.strategy.situation import DIMENSIONS, situation_vectors
from core.swarm_state import SwarmState
from core.telemetry import CycleTracer
from core.toggles import DtwKernel
from kernels.dtw import library_distances_python_range, library_distances_scalar
from kernels.dtw_batch import library_distances_batch
from kernels.dtw_sliding import SlidingWindows, slide, start_sliding
from kernels.dtw_topk import library_topk, pack_library
from kernels.indicator_table import IndicatorStream, start_indicators, step_indicators
from kernels.readiness import is_compiled, postponed

PYTHON_CHUNK = 50
"""Patterns between two looks at the event loop: plain Python DTW must not starve the heartbeats."""
NEIGHBOURS_REMEMBERED = 8
TRADES_WAITING_MAX = 10_000
MEMORY_RETRY_S = 5.0
MODELLED_LIQUIDITY = "modelled liquidity"
Answer = TypeVar("Answer")
GPU_CAPTION = "batch DTW on a CUDA device"


def headline_feed(settings: Settings, symbols: Sequence[str]) -> HeadlineFeed:
    """The sample, or the user's own RSS or Atom feed."""
    return SampleHeadlines(symbols) if settings.headlines == "sample" else RssHeadlines(settings.headlines, symbols)


class Trader:
    """One node's view of the market. All arrays are by instrument, in the order of `MarketSpec.instruments`."""

    def __init__(
        self,
        settings: Settings,
        data: MarketData,
        state: SwarmState,
        folder: Path,
        event: Callable[[Severity, str], None],
    ) -> None:
        """Builds the pattern library and opens the memory. Raises what these raise (nothing is half-open then)."""
        self._settings = settings
        self._state = state
        self._event = event
        self._feed = Feed(data)
        library = library_of(settings, data)
        caption = hindsight(library, data) if settings.patterns else ""
        self._patterns = library.patterns
        self._forward_return = library.forward_return
        self._packed = pack_library(library.patterns, settings.band_steps)
        symbols = data.spec.symbols
        self._headlines = headline_feed(settings, symbols)
        self._sentiment = SentimentAggregator(symbols)
        self._bank = ReasoningBank(folder / "memory.sqlite", len(symbols), DIMENSIONS, len(AGENTS))
        self._pretrade = PreTradeRisk(
            PreTradeLimits(
                settings.order_rate_max_s,
                settings.var_budget_fraction,
                settings.daily_loss_fraction_max,
                settings.clock_skew_max_ms,
            )
        )
        self._closed_trades: list[ClosedTrade] = []
        self._learn_not_before = 0.0
        self._memory_problem = ""
        self.captions: tuple[str, ...] = () if data.spec.has_depth else (MODELLED_LIQUIDITY,)
        self.captions += (caption,) if caption else ()
        self._step: Step | None = None
        self._live: SlidingWindows | None = None
        self._indicators: IndicatorStream | None = None
        self._on_gpu = settings.gpu and self._try_gpu()
        self._inputs: AgentInputs | None = None
        self._situations: NDArray[np.float32] | None = None
        self._forecast: PatternForecast | None = None
        self._scores: NDArray[np.float64] = np.zeros(len(symbols))
        self._trajectories: Trajectories | None = None
        self._votes: NDArray[np.float64] | None = None
        self._combined: Combined | None = None
        self._sizing: Sizing | None = None

    def _try_gpu(self) -> bool:
        """Whether the batch kernel can run on a CUDA device; compiles it for that, before anything waits."""
        from kernels.gpu import available, library_distances_gpu

        if not available():
            self._event(Severity.WARNING, "gpu is set and there is no CUDA device: the processor computes")
            return False
        library_distances_gpu(self._patterns[:1], self._patterns[:1], self._settings.band_steps)
        self.captions += (GPU_CAPTION,)
        return True

    def close(self) -> None:
        self._bank.close()
        self._headlines.close()

    def memory_digest(self) -> tuple[int, bytes]:
        """Lessons remembered, and 16 bytes over which trades they are of."""
        return len(self._bank), self._bank.digest

    @property
    def step(self) -> int:
        return self._step.number if self._step is not None else 0

    @property
    def lap(self) -> int:
        """Counted from 1, as people do."""
        return self._step.lap + 1 if self._step is not None else 1

    @property
    def marks(self) -> NDArray[np.int64]:
        """Ticks, int64[n]: closes of the last step this node saw, zeros before the first."""
        return self._step.close if self._step is not None else np.zeros_like(self._state.marks)

    def _advance(self, step: int) -> Step:
        if self._step is None or self._step.number != step:
            self._step = self._feed.advance_to(step)
            self._inputs = None
            self._situations = None
            if self._step.first_of_lap and step:
                self._event(
                    Severity.INFO, f"lap {self._step.lap + 1} begins at step {step}; no price is carried across"
                )
        return self._step

    def _prepare(self) -> tuple[AgentInputs, NDArray[np.float32]]:
        if self._inputs is None or self._situations is None:
            history = self._feed.history
            self._inputs = agent_inputs(history, self._follow_indicators(history))
            self._situations = situation_vectors(self._inputs)
        return self._inputs, self._situations

    def _follow_indicators(self, history: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The indicators go on from the last step where the feed went one further, else begin anew with the history;
        None while they are not compiled.
        """
        if not is_compiled("indicators"):
            return None
        stream = self._indicators
        if stream is not None and np.array_equal(stream.recent, history[:, -1 - stream.recent.shape[1] : -1]):
            step_indicators(stream, history[:, -1])
        else:
            stream = self._indicators = start_indicators(history)
        return stream.table.copy()

    # The stages of a cycle, in order.

    def ingest(self, step: int, tracer: CycleTracer) -> None:
        """Span `market_data_ingestion`, then the indicators that later stages share."""
        with tracer.span("market_data_ingestion"):
            self._advance(step)
        with (
            tracer.span("strategy_execution") as execution,
            tracer.span("strategy_signal_generation") as generation,
            tracer.span("strategy_indicators"),
        ):
            # The same call of these two spans goes on in `vote` and `propose`.
            execution.count = generation.count = 0
            self._prepare()

    async def match_patterns(self, kernel: DtwKernel, tracer: CycleTracer) -> None:
        """Span `pattern_matching_dtw`: the live windows against the library."""
        with tracer.span("pattern_matching_dtw"):
            live = self._live_windows()
            windows = live.windows
            neighbours = min(PatternConfig().neighbours, len(self._patterns))
            pairs = len(windows) * len(self._patterns)
            with tracer.span("pattern_matching_dtw_single") as span:
                span.count = pairs
                if kernel is DtwKernel.TOPK:
                    nearest = await _beside_the_loop_in_numpy(
                        library_topk, windows, self._packed, neighbours, live.band, live.hulls
                    )
                else:
                    distances = await self._distances(windows, kernel)
            if kernel is DtwKernel.TOPK:
                self._forecast = forecast_from_neighbours(nearest[0], nearest[1], self._forward_return)
            else:
                self._forecast = forecast_from_distances(distances, self._forward_return)

    def _live_windows(self) -> SlidingWindows:
        """The windows that end at the present step; slid on where the feed went one step further, else begun anew."""
        closes = self._feed.windows(self._settings.window_steps)
        live = self._live
        if live is not None and np.array_equal(live.values[:, 1:], closes[:, :-1]):
            slide(live, closes[:, -1])
        else:
            live = self._live = start_sliding(closes, self._settings.band_steps)
        return live

    async def _distances(self, windows: NDArray[np.float32], kernel: DtwKernel) -> NDArray[np.float32]:
        band = self._settings.band_steps
        if kernel is DtwKernel.BATCH and self._on_gpu:
            from kernels.gpu import library_distances_gpu

            return library_distances_gpu(windows, self._patterns, band)
        if kernel is DtwKernel.BATCH:
            blocks = self._packed.blocks
            return await _beside_the_loop_in_numpy(library_distances_batch, windows, blocks, len(self._patterns), band)
        if kernel is DtwKernel.NUMBA:
            return await _beside_the_loop_in_numpy(_scalar_distances, windows, self._patterns, band)
        rows = []
        for window in windows:
            parts = []
            for start in range(0, len(self._patterns), PYTHON_CHUNK):
                stop = min(start + PYTHON_CHUNK, len(self._patterns))
                parts.append(library_distances_python_range(window, self._patterns, band, start, stop))
                await asyncio.sleep(0)
            rows.append(np.concatenate(parts))
        return np.stack(rows)

    def read_news(self, tracer: CycleTracer) -> None:
        """Span `news_sentiment_analysis`."""
        step = self.step
        with tracer.span("news_sentiment_analysis"):
            with tracer.span("news_fetching"):
                headlines = self._headlines.fetch(step)
            with tracer.span("news_nlp_processing"):
                scores = [score(headline.text) for headline in headlines]
            with tracer.span("news_aggregation"):
                self._scores = self._sentiment.update(step, headlines, scores, self.lap)
        for text in self._headlines.take_events():
            self._event(Severity.WARNING, text)

    def query_memory(self, tracer: CycleTracer) -> None:
        """Span `reasoningbank_query`: what happened in similar situations, and what closed trades taught."""
        _, situations = self._prepare()
        with tracer.span("reasoningbank_query"):
            with tracer.span("reasoningbank_learning"):
                self.learn()
            with tracer.span("reasoningbank_vector_search"):
                indices, similarity = self._bank.vector_search(situations, NEIGHBOURS_REMEMBERED)
            with tracer.span("reasoningbank_trajectory_lookup"):
                self._trajectories = self._bank.trajectory_lookup(indices, similarity)

    def vote(self, tracer: CycleTracer) -> None:
        """The agents' common view, whose targets `assess_risk` judges; a part of span `strategy_execution`."""
        inputs, _ = self._prepare()
        assert self._forecast is not None
        assert self._trajectories is not None
        with (
            tracer.span("strategy_execution") as execution,
            tracer.span("strategy_signal_generation") as generation,
        ):
            # The same call of these goes on in `propose`.
            execution.count = generation.count = 0
            with tracer.span("strategy_pattern_signals"):
                self._votes = all_votes(inputs, self._forecast, self._scores)
            with tracer.span("strategy_decision_logic") as logic:
                logic.count = 0
                self._combined = combine(self._votes, verdict(self._trajectories))

    def assess_risk(self, tracer: CycleTracer) -> None:
        """Span `risk_calculations`: how large positions may be, and how much of that the agents' targets may take."""
        inputs, _ = self._prepare()
        assert self._combined is not None
        with tracer.span("risk_calculations"):
            with tracer.span("risk_position_sizing"):
                sizing = position_sizing(inputs)
            with tracer.span("risk_var_calculation"):
                wanted = var_calculation(inputs, target_weights(self._combined, sizing))
                self._sizing = within_value_at_risk(sizing, wanted)
            with tracer.span("risk_exposure_checks"):
                exposure_checks(self._state.portfolio, self.marks, self._state.limits)

    def propose(self, tracer: CycleTracer) -> NDArray[np.void]:
        """Span `strategy_execution`: one proposal per instrument, PROPOSAL_DTYPE[n]."""
        _, situations = self._prepare()
        assert self._votes is not None
        assert self._combined is not None
        assert self._sizing is not None
        assert self._step is not None
        with (
            tracer.span("strategy_execution"),
            tracer.span("strategy_signal_generation"),
            tracer.span("strategy_decision_logic"),
        ):
            proposals: NDArray[np.void] = propose(
                self._step.number,
                self.marks,
                self._combined,
                self._sizing,
                self._state.portfolio,
                self._state.limits,
                self._step.last_of_lap,
            )
        self._bank.observe(self._step.number, situations, self._votes)
        return proposals

    # What a follower does.

    def judge(self, step: int, proposals: NDArray[np.void], proposed_ns: int) -> NDArray[np.void]:
        """This node's own opinions on another's proposals, OPINION_DTYPE[k], from its own feed at that step.

        The feed never goes back: proposals of an earlier step than it has reached are judged stale.
        """
        if self._step is None or step > self._step.number:
            self._advance(step)
            inputs, situations = self._prepare()
            self._bank.observe(step, situations, all_votes(inputs, None, None))
        inputs, _ = self._prepare()
        state = self._state
        opinions: NDArray[np.void] = judge(
            proposals, self.step, inputs, self.marks, state.portfolio, state.limits, self._bank
        )
        passed = np.flatnonzero(opinions["veto"] == Veto.NONE)
        if len(passed):
            opinions["veto"][passed] = self._pretrade.check(
                proposals[passed], state.portfolio, self.marks, inputs.returns, proposed_ns, time.time_ns()
            )
        return opinions

    def accepted(self, orders: int) -> None:
        """So many orders were committed just now: this node counts their rate."""
        self._pretrade.accepted(orders, time.time_ns())

    def remember(self, trades: Sequence[ClosedTrade]) -> None:
        """Trades that closed; `learn` judges them at its next call."""
        self._closed_trades += trades
        del self._closed_trades[:-TRADES_WAITING_MAX]

    def learn(self) -> None:
        """Judge the trades that closed since the last call and keep their lessons.

        Memory is advice: a file that cannot be written is told of once, the trades wait, and trading goes on.
        """
        problem = self._bank.problem
        if self._closed_trades:
            if time.monotonic() < self._learn_not_before:
                return
            try:
                self._bank.learn(self._closed_trades)
                self._closed_trades = []
            except MemoryFileError as error:
                self._learn_not_before = time.monotonic() + MEMORY_RETRY_S
                problem = str(error)
        if problem != self._memory_problem:
            self._memory_problem = problem
            if problem:
                self._event(Severity.WARNING, problem)


def _scalar_distances(windows: NDArray[np.float32], patterns: NDArray[np.float32], band: int) -> NDArray[np.float32]:
    return np.stack([library_distances_scalar(window, patterns, band) for window in windows])


async def _beside_the_loop_in_numpy(call: Callable[..., Answer], *arguments: Any) -> Answer:
    """In a thread while kernels are not compiled: numpy takes a large library seconds, and heartbeats must go on."""
    return await asyncio.to_thread(call, *arguments) if postponed() else call(*arguments)
