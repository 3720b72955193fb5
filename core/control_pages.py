"""`/status`, `/metrics` and `/events` of a node, for whoever shows the session's token."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec

from core.records import EventRow
from core.telemetry_messages import NodeReport, plain_number
from net.http import HttpAnswer, HttpRequest
from net.quic import Endpoint

JSON: Final = "application/json"
PROMETHEUS: Final = "text/plain; version=0.0.4"


def load_or_create_token(path: Path) -> str:
    """The token in `path` (64 hexadecimal digits), made on the first start with mode 0600."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    try:
        os.link(temporary, path)  # fails where another process was first: then its token counts
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_text().strip()


class ControlPages:
    """Answers; reads only."""

    def __init__(
        self,
        token: str,
        endpoint: Endpoint,
        report: Callable[[tuple[EventRow, ...]], NodeReport],
        events: Callable[[], tuple[EventRow, ...]],
    ) -> None:
        self._wanted = f"Bearer {token}".encode()
        self._endpoint = endpoint
        self._report = report
        self._events = events
        self.unanswered: Callable[[], int] = lambda: 0
        """Requests over plain HTTP that got no answer."""

    def answer(self, request: HttpRequest) -> HttpAnswer:
        """The page, or why not."""
        if not hmac.compare_digest(request.authorization.encode("latin-1", "replace"), self._wanted):
            return HttpAnswer(401, "text/plain", b"send Authorization: Bearer and the token of keys/http.token\n")
        if request.method != "GET":
            return HttpAnswer(405, "text/plain", b"only GET\n")
        path = request.path.partition("?")[0]
        if path == "/status":
            values = msgspec.to_builtins(self._report(()), builtin_types=(bytes,), enc_hook=plain_number)
            return HttpAnswer(200, JSON, json.dumps(values, default=_plain).encode())
        if path == "/events":
            rows = "".join(json.dumps(asdict(event)) + "\n" for event in self._events())
            return HttpAnswer(200, "application/x-ndjson", rows.encode())
        if path == "/metrics":
            return HttpAnswer(200, PROMETHEUS, self._metrics().encode())
        return HttpAnswer(404, "text/plain", b"there are /status, /metrics and /events\n")

    def _metrics(self) -> str:
        report, endpoint = self._report(()), self._endpoint
        metrics = _Metrics()
        metrics.add("tradetui_cycles_total", "counter", "Trading cycles done.", report.cycles_total)
        metrics.add("tradetui_decisions_total", "counter", "Decisions committed.", report.decisions_total)
        metrics.add("tradetui_decisions_denied_total", "counter", "Decisions denied.", report.denied_total)
        metrics.add("tradetui_equity", "gauge", "Equity, quote currency.", report.equity)
        replica = report.status.replica
        if replica is not None:
            metrics.add("tradetui_commit_index", "gauge", "Highest committed entry.", replica.commit_index)
            leads = int(replica.leader == report.status.node)
            metrics.add("tradetui_leads", "gauge", "1 where this node leads.", leads)
        for name, text in (
            ("datagrams_sent", "UDP datagrams sent."),
            ("datagrams_received", "UDP datagrams received."),
            ("datagrams_dropped", "UDP datagrams of no connection."),
            ("bytes_sent", "UDP payload bytes sent."),
            ("bytes_received", "UDP payload bytes received."),
            ("messages_malformed", "Messages that did not decode."),
            ("retries_sent", "Strangers answered with a Retry."),
            ("strangers_shed", "Strangers not answered, because they were too many."),
        ):
            metrics.add(f"tradetui_{name}_total", "counter", text, getattr(endpoint, name))
        text = "Plain HTTP requests without an answer: clients slow, gone, or too many."
        metrics.add("tradetui_http_unanswered_total", "counter", text, self.unanswered())
        for reason, count in sorted(endpoint.refusals.items()):
            metrics.add("tradetui_refusals_total", "counter", "Refused handshakes.", count, reason=reason)
        for link in endpoint.links():
            peer = str(link.peer)
            metrics.add("tradetui_link_up", "gauge", "1 while the link is up.", int(link.connected), peer=peer)
            metrics.add(
                "tradetui_link_round_trip_seconds", "gauge", "Last heartbeat.", link.round_trip_ms / 1e3, peer=peer
            )
            metrics.add("tradetui_link_shed_total", "counter", "Messages shed.", link.shed, peer=peer)
        return metrics.text()


class _Metrics:
    """Prometheus' text format: samples of one name together, under its help and type."""

    def __init__(self) -> None:
        self._samples: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, text: str, value: float, **labels: str) -> None:
        lines = self._samples.setdefault(name, [f"# HELP {name} {text}", f"# TYPE {name} {kind}"])
        quoted = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
        lines.append(f"{name}{{{quoted}}} {value}" if quoted else f"{name} {value}")

    def text(self) -> str:
        return "".join("\n".join(lines) + "\n" for lines in self._samples.values())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
