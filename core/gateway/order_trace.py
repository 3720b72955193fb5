"""When the gateway had which orders in hand: its part of a cycle's trace (`core.cycle_trace`)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from core.cycle_trace import OrderInterval, Stage
from core.gateway.connector import Answer, NoAnswer, Refusal
from core.orders.order import OrderRequest

INTERVALS_KEPT: Final = 1_000
PROBLEM_CHARACTERS_MAX: Final = 200


class OrderTrace:
    """The last intervals, in the order of their ends. Always kept, as the nodes keep theirs: two readings of the clock
    an order; nothing is packed or sent unless somebody asks.
    """

    def __init__(self) -> None:
        self._intervals: deque[OrderInterval] = deque(maxlen=INTERVALS_KEPT)

    def add(self, stage: Stage, start_ns: int, step: int, orders: Sequence[str] = ()) -> None:
        """Something that ends now, and went well."""
        self._add(stage, start_ns, step, tuple(orders), "", "")

    def refused(self, start_ns: int, step: int, error: Exception, problem: str) -> None:
        """An EXECUTE of whose orders none left; `problem` is `error` in words."""
        self._add(Stage.EXECUTE, start_ns, step, (), type(error).__name__, problem)

    def answered(self, request: OrderRequest, sent_ns: int, answer: Answer) -> None:
        """The venue's word on an order, or that there is none, is here now."""
        error_type = problem = ""
        if isinstance(answer, Refusal):
            error_type, problem = str(answer.code), answer.message
        elif isinstance(answer, NoAnswer):
            error_type, problem = "link_lost" if answer.link_lost else "no_answer", answer.reason
        self._add(Stage.PLACE, sent_ns, request.step, (request.client_order_id,), error_type, problem)

    def _add(
        self, stage: Stage, start_ns: int, step: int, orders: tuple[str, ...], error_type: str, problem: str
    ) -> None:
        end_ns, words = time.perf_counter_ns(), problem[:PROBLEM_CHARACTERS_MAX]
        self._intervals.append(OrderInterval(stage, start_ns, end_ns, step, orders, error_type, words))

    def between(self, after_ns: int, until_ns: int) -> list[OrderInterval]:
        """What ended after the one and not after the other."""
        return [each for each in self._intervals if after_ns < each.end_ns <= until_ns]
