"""Percentiles of a whole session from HDR histograms: one per span and node, merged by adding counts.

Percentiles of nodes are never averaged: a histogram of all is the sum of the histograms. Values are counted in
microseconds to two digits, so a percentile is at most 1 % from the value that it stands for; 0 is counted apart.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from core.records import CycleRecord
from core.spans import NAMES
from core.toggles import Toggles

LARGEST_US = 600_000_000
DIGITS = 2
SETTINGS_KEPT = 8
"""Values of the toggles with histograms of their own; the one that ran longest ago goes first."""
SPANS = (*NAMES, "untimed")
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one span's inclusive time a cycle, over the cycles under one value of the toggles; ms."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class SpanHistograms:
    """Counts every cycle once; cycles in which a span did not run count as 0 ms for it.

    Cycles in numpy beside the compiler are counted apart, and told of only while there are no others.
    """

    def __init__(self) -> None:
        self._by_setting: OrderedDict[tuple[Toggles, bool], dict[int, list[HdrHistogram]]] = OrderedDict()
        """By toggles and whether in numpy; then by node."""

    def add(self, record: CycleRecord) -> None:
        """Count one cycle, to the node that led it."""
        setting = record.toggles, record.numpy_kernels > 0
        nodes = self._by_setting.setdefault(setting, {})
        self._by_setting.move_to_end(setting)
        if len(self._by_setting) > SETTINGS_KEPT:
            self._by_setting.popitem(last=False)
        histograms = nodes.get(record.leader)
        if histograms is None:
            histograms = nodes[record.leader] = [_empty() for _ in SPANS]
        values_us = [int(ms * 1e3 + 0.5) for ms in (*record.inclusive_ms.tolist(), record.untimed_ms)]
        for histogram, value in zip(histograms, values_us, strict=True):
            histogram.record_value(min(max(value, 0), LARGEST_US))

    def merged(self, toggles: Toggles) -> tuple[int, dict[str, Percentiles]]:
        """Cycles counted under `toggles` and the percentiles over all nodes by span; empty where none ran."""
        by_node = self._by_setting.get((toggles, False)) or self._by_setting.get((toggles, True), {})
        nodes = list(by_node.values())
        if not nodes:
            return 0, {}
        found = {}
        cycles = 0
        for k, name in enumerate(SPANS):
            whole = nodes[0][k]
            if len(nodes) > 1:
                whole = _empty()
                for histograms in nodes:
                    whole.add(histograms[k])
            cycles = whole.get_total_count()
            at = whole.get_percentile_to_value_dict(list(PERCENTILES))
            found[name] = Percentiles(*(at[percentile] / 1e3 for percentile in PERCENTILES))
        return cycles, found


def _empty() -> HdrHistogram:
    return HdrHistogram(1, LARGEST_US, DIGITS)
