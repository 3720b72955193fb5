"""The order requests of one ccxt link: one answer for each, and which of them have left this process.

ccxt keeps a request back in its throttle and while it connects: what was asked for may leave long after. The kill
switch must reach it there, so each request is known to be on the wire or not, by aiohttp's own word: its trace tells
before the first byte of a request is written.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from core.gateway.ccxt_exchange import ccxt_pro, code_of, said
from core.gateway.connector import Answer, ConnectorError, NoAnswer, Refusal

PENDING_MAX: Final = 4_096
_DUPLICATE: Final = "Duplicate order"


@dataclass(slots=True, eq=False)
class _Request:
    """One order or cancel that waits for its answer."""

    answered: Callable[[Answer], None]
    is_order: bool
    is_on_wire: bool = False
    is_recalled: bool = False
    """Nothing more of it may leave."""


_CURRENT: ContextVar[_Request | None] = ContextVar("ccxt_request", default=None)


class _Recalled(Exception):
    """A request was recalled before it was on the wire."""


class CcxtRequests:
    """Runs order requests as tasks. Each is answered exactly once, whatever it raises."""

    def __init__(self, timeout_ms: float, drained: Callable[[], None]) -> None:
        """`drained` is called after each answer."""
        self._timeout_ms = timeout_ms
        self._drained = drained
        self._pending: dict[asyncio.Task[None], _Request] = {}

    def start(
        self, work: Callable[[], Coroutine[Any, Any, Answer]], answered: Callable[[Answer], None], is_order: bool
    ) -> None:
        """Run `work`; `answered` gets what it returns. Only orders can be recalled. Raises ConnectorError."""
        if len(self._pending) >= PENDING_MAX:
            raise ConnectorError(f"{PENDING_MAX} requests wait for the venue; it does not keep up")
        request = _Request(answered, is_order)
        self._pending[asyncio.create_task(self._run(request, work))] = request

    def recall(self, reason: str) -> None:
        """When this returns no order leaves any more. Those that were not on the wire are answered with NoAnswer."""
        for task, request in list(self._pending.items()):
            if not request.is_order:
                continue
            request.is_recalled = True
            if not request.is_on_wire:
                del self._pending[task]
                task.cancel()
                request.answered(NoAnswer(reason))

    def fail(self, reason: str) -> None:
        """The link is gone: nothing that waits will be answered."""
        pending, self._pending = self._pending, {}
        for task, request in pending.items():
            task.cancel()
            request.answered(NoAnswer(reason, link_lost=True))

    async def _run(self, request: _Request, work: Callable[[], Coroutine[Any, Any, Answer]]) -> None:
        _CURRENT.set(request)
        answer = await self._answer_of(work)
        current = asyncio.current_task()
        if current is not None and self._pending.pop(current, None) is not None:
            request.answered(answer)
            self._drained()

    async def _answer_of(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        errors = ccxt_pro()
        try:
            async with asyncio.timeout(self._timeout_ms / 1e3):
                return await work()
        except TimeoutError:
            return NoAnswer(f"no answer within {self._timeout_ms:g} ms")
        except errors.OperationFailed as error:
            return NoAnswer(said(error))
        except errors.BaseError as error:
            return NoAnswer(said(error)) if _DUPLICATE in str(error) else Refusal(code_of(error), said(error))
        except Exception as error:
            # ccxt and an exchange's odd answers raise anything at all: the order may be there, so it is asked after.
            return NoAnswer(f"the answer is of no use: {said(repr(error))}")


def watch_wire(exchange: Any) -> None:
    """From now on the requests of this exchange are known to be on the wire as they get there. Needs a running loop."""
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_leaves)
    trace.freeze()
    exchange.open()
    exchange.session.trace_configs.append(trace)


async def _leaves(session: Any, context: types.SimpleNamespace, params: Any) -> None:
    """aiohttp is about to write a request. Raising keeps it from that."""
    request = _CURRENT.get()
    if request is None:
        return
    if request.is_recalled:
        raise _Recalled("recalled before it left")
    request.is_on_wire = True
