"""A receiver of OTLP over HTTP on loopback, built on its protobufs: what a collector would have taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS: dict[str, Any] = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


class Received:
    """Requests by path, parsed; what does not parse is answered with 400 and counted."""

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = {path: [] for path in KINDS}
        self.refused = 0
        self.url = ""

    def spans(self) -> list[tuple[dict[str, str], Any]]:
        """Every span with the attributes of its resource."""
        return [
            ({each.key: each.value.string_value for each in resource.resource.attributes}, span)
            for request in self.requests["/v1/traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def otlp_receiver() -> Iterator[Received]:
    """Listens until the block ends; `url` is its address."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = 200
            try:
                request = KINDS[self.path]()
                request.ParseFromString(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                received.requests[self.path].append(request)
            except Exception:
                received.refused += 1
                code = 400
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
