"""Binance Spot's market streams: trades, best prices and depth differences of a symbol, on `/ws`.

Source: Binance Spot API documentation, "WebSocket Streams": SUBSCRIBE and UNSUBSCRIBE with `symbol@trade`,
`symbol@bookTicker`, `symbol@depth` (a speed such as `@100ms` may follow; differences leave as they arise). An update's
number is the exchange's count of events, which `depth` gives as lastUpdateId.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from core.venue.answers import Answers
from core.venue.events import StepAdvanced, Traded
from core.venue.exchange import Exchange, Happened

STREAMS_MAX: Final = 200
"""Of one connection."""
DEPTH_LEVELS: Final = 5_000
_KINDS: Final = ("trade", "bookTicker", "depth")

Stream = tuple[int, str]
"""Instrument and kind."""
Levels = tuple[dict[int, int], dict[int, int]]
"""Lots by price, of bids and of asks."""


class Subscriber(Protocol):
    def send(self, data: bytes) -> None: ...


class MarketStreams:
    """What each connection listens to, and the books as they were last told."""

    def __init__(self, exchange: Exchange, answers: Answers, clock_ms: Callable[[], int]) -> None:
        self._exchange = exchange
        self._answers = answers
        self._clock_ms = clock_ms
        self._names = {name.lower(): at for at, name in enumerate(exchange.scale.instruments)}
        self._wanted: dict[Subscriber, dict[Stream, str]] = {}
        self._told: dict[int, tuple[int, Levels]] = {}

    def message(self, subscriber: Subscriber, data: bytes) -> bytes:
        """The answer to one request of a connection, as JSON."""
        request_id: Any = None
        try:
            request = json.loads(data)
            request_id = request.get("id")
            self._change(subscriber, request["method"], list(request.get("params", ())))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            refusal = {"code": 2, "msg": f"Invalid request: {error}"}
            return json.dumps({"error": refusal, "id": request_id}).encode()
        return json.dumps({"result": None, "id": request_id}).encode()

    def _change(self, subscriber: Subscriber, method: str, names: list[str]) -> None:
        streams = {self._stream(name): name for name in names}
        wanted = self._wanted.setdefault(subscriber, {})
        if method == "SUBSCRIBE":
            if len(wanted | streams) > STREAMS_MAX:
                raise ValueError(f"more than {STREAMS_MAX} streams")
            wanted |= streams
            for instrument, kind in streams:
                if kind == "depth":
                    self._told.setdefault(instrument, self._book(instrument))
        elif method == "UNSUBSCRIBE":
            for stream in streams:
                wanted.pop(stream, None)
            self._drop_unwanted()
        else:
            raise ValueError(f"unknown method {method!r}")

    def _stream(self, name: str) -> Stream:
        symbol, _, rest = name.partition("@")
        kind = rest.partition("@")[0]
        if symbol not in self._names or kind not in _KINDS:
            raise ValueError(f"there is no stream {name!r}")
        return self._names[symbol], kind

    def forget(self, subscriber: Subscriber) -> None:
        """The connection is gone."""
        self._wanted.pop(subscriber, None)
        self._drop_unwanted()

    def _drop_unwanted(self) -> None:
        """A book that nobody follows is no longer told, so it would be a stale base for whoever asks next."""
        followed = {instrument for wanted in self._wanted.values() for instrument, kind in wanted if kind == "depth"}
        self._told = {instrument: told for instrument, told in self._told.items() if instrument in followed}

    def published(self, happened: list[Happened]) -> None:
        """Tell the subscribers what happened; it is in the journal."""
        if not any(self._wanted.values()):
            return
        moved = any(isinstance(item.event, StepAdvanced) for item in happened)
        touched = {item.order.instrument for item in happened if item.order is not None}
        seen: set[int] = set()
        for item in happened:
            event, order = item.event, item.order
            if isinstance(event, Traded) and order is not None and event.trade_id not in seen:
                seen.add(event.trade_id)
                row = self._answers.aggregate_trade(order, event)
                told = {"e": "trade", "E": event.time_ms, "s": self._symbol(order.instrument), "t": event.trade_id}
                self._send((order.instrument, "trade"), told | {name: row[name] for name in ("p", "q", "T", "m", "M")})
        for instrument, kind in {stream for wanted in self._wanted.values() for stream in wanted}:
            if (moved or instrument in touched) and kind != "trade":
                self._tell_book(instrument, kind)

    def _tell_book(self, instrument: int, kind: str) -> None:
        number = self._exchange.events_total
        if kind == "bookTicker":
            bids, asks = self._exchange.depth(instrument, 1, self._clock_ms())
            row = self._answers.book_ticker(instrument, bids, asks)
            short = {"b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty"}
            told = {"u": number, "s": row["symbol"]} | {name: row[full] for name, full in short.items()}
            self._send((instrument, kind), told)
            return
        before_number, before = self._told[instrument]
        after = self._book(instrument)
        sides = [self._changes(old, new) for old, new in zip(before, after[1], strict=True)]
        # Only what was told moves the number: the next difference begins right behind it.
        if any(sides):
            self._told[instrument] = after
            told = {"e": "depthUpdate", "E": self._clock_ms(), "s": self._symbol(instrument)}
            numbers = {"U": before_number + 1, "u": after[0]}
            self._send((instrument, kind), told | numbers | {"b": sides[0], "a": sides[1]})

    def _book(self, instrument: int) -> tuple[int, Levels]:
        bids, asks = self._exchange.depth(instrument, DEPTH_LEVELS, self._clock_ms())
        return self._exchange.events_total, (dict(bids), dict(asks))

    def _changes(self, old: dict[int, int], new: dict[int, int]) -> list[list[str]]:
        scale = self._answers.scale
        changed = {price: lots for price, lots in new.items() if old.get(price) != lots}
        changed |= {price: 0 for price in old if price not in new}
        return [[scale.tick.text(price), scale.lot.text(lots)] for price, lots in sorted(changed.items())]

    def _symbol(self, instrument: int) -> str:
        return self._exchange.scale.instruments[instrument]

    def _send(self, stream: Stream, told: dict[str, Any]) -> None:
        data = json.dumps(told, separators=(",", ":")).encode()
        for subscriber, wanted in self._wanted.items():
            if stream in wanted:
                subscriber.send(data)
