"""The 29 spans of a trading cycle: names, nesting, and what each one is in plain words."""

from __future__ import annotations

from typing import Final

ROOT: Final = "trading_cycle_total"

PARENT: Final[dict[str, str]] = {
    "market_data_ingestion": ROOT,
    "pattern_matching_dtw": ROOT,
    "pattern_matching_dtw_single": "pattern_matching_dtw",
    "news_sentiment_analysis": ROOT,
    "news_fetching": "news_sentiment_analysis",
    "news_nlp_processing": "news_sentiment_analysis",
    "news_aggregation": "news_sentiment_analysis",
    "reasoningbank_query": ROOT,
    "reasoningbank_vector_search": "reasoningbank_query",
    "reasoningbank_trajectory_lookup": "reasoningbank_query",
    "reasoningbank_learning": "reasoningbank_query",
    "risk_calculations": ROOT,
    "risk_var_calculation": "risk_calculations",
    "risk_position_sizing": "risk_calculations",
    "risk_exposure_checks": "risk_calculations",
    "strategy_execution": ROOT,
    "strategy_signal_generation": "strategy_execution",
    "strategy_indicators": "strategy_signal_generation",
    "strategy_pattern_signals": "strategy_signal_generation",
    "strategy_decision_logic": "strategy_signal_generation",
    "quic_coordination": ROOT,
    "quic_message_serialization": "quic_coordination",
    "quic_network_send": "quic_coordination",
    "quic_consensus": "quic_coordination",
    "order_execution": ROOT,
    "order_validation": "order_execution",
    "order_placement": "order_execution",
    "order_confirmation": "order_execution",
}
"""Every span but the root, with its parent, in the order in which a cycle runs them."""

NAMES: Final[tuple[str, ...]] = (ROOT, *PARENT)
INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(NAMES)}


def _depth(name: str) -> int:
    depth = 0
    while name != ROOT:
        name = PARENT[name]
        depth += 1
    return depth


DEPTH: Final[tuple[int, ...]] = tuple(_depth(name) for name in NAMES)
"""Nesting depth of each span, in the order of `NAMES`; the root is 0."""

MEANING: Final[dict[str, str]] = {
    ROOT: "one whole trading cycle, from the market step to its orders",
    "market_data_ingestion": "drain the feed's events of this step, update books and bars",
    "pattern_matching_dtw": "compare every instrument's live window with the pattern library",
    "pattern_matching_dtw_single": "the DTW kernel itself; its count is the pairs compared",
    "news_sentiment_analysis": "headlines of this step",
    "news_fetching": "take new headlines from the feed",
    "news_nlp_processing": "score each headline with the finance lexicon",
    "news_aggregation": "decay and combine the scores per instrument",
    "reasoningbank_query": "what happened in similar situations before",
    "reasoningbank_vector_search": "nearest remembered situations by cosine similarity",
    "reasoningbank_trajectory_lookup": "read the trades behind them",
    "reasoningbank_learning": "judge closed trades by profit after fees, keep lessons",
    "risk_calculations": "how much could be lost, how much may be risked",
    "risk_var_calculation": "value at risk and expected shortfall of the portfolio",
    "risk_position_sizing": "Kelly fraction and volatility target per instrument",
    "risk_exposure_checks": "exposure and limits before and after",
    "strategy_execution": "six agents form one proposal per instrument",
    "strategy_signal_generation": "signals of all agents",
    "strategy_indicators": "moving averages, RSI, ATR, bands",
    "strategy_pattern_signals": "what followed the most similar patterns",
    "strategy_decision_logic": "weigh agents into side, quantity, limit, confidence",
    "quic_coordination": "ask the peers' agents, then agree; exclusive: waiting for opinions",
    "quic_message_serialization": "encoding and decoding messages on the leader",
    "quic_network_send": "handing datagrams to QUIC and the kernel on the leader",
    "quic_consensus": "from proposal to commit; exclusive: waiting for votes",
    "order_execution": "from committed decision to the venue's word",
    "order_validation": "pre-trade checks and building the order",
    "order_placement": "until the venue acknowledged",
    "order_confirmation": "until the order was filled or rejected",
}
