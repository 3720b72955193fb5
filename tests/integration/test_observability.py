"""A real swarm from outside: its traces by OpenTelemetry's own protobufs, its metrics by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from core.commands.otlp import export
from core.otlp import SpanKind, trace_id
from core.spans import NAMES, ROOT
from tests.integration.browser import free_port
from tests.integration.swarm import RunningSwarm, running_swarm
from tests.otlp_receiver import Received, otlp_receiver

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(240)]
pytest.importorskip("opentelemetry.proto", reason="pip install 'tradetui[otel]'")
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"


@dataclass(frozen=True)
class Seen:
    """What came out of one sitting."""

    session: str
    sent: int
    received: Received
    pages: tuple[str, ...]
    leader: int | None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    async def sitting(url: str) -> tuple[str, int, tuple[str, ...], int | None]:
        folder, port = tmp_path_factory.mktemp("seen"), min(free_port(), 64_990)
        async with running_swarm(folder, toggles="optimised", http_port=port) as swarm:
            await swarm.cycles(10)
            sent = await export(swarm.session, url, 6.0, Console(quiet=True))
            pages = [await asyncio.to_thread(metrics, swarm, port + node) for node in range(4)]
            return swarm.session.directory.name, sent, tuple(pages), swarm.snapshot().leader

    with otlp_receiver() as received:
        name, sent, pages, leader = asyncio.run(sitting(received.url))
    return Seen(name, sent, received, pages, leader)


def metrics(swarm: RunningSwarm, port: int) -> str:
    token = swarm.session.http_token_file.read_text().strip()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


def test_one_trace_a_cycle_arrives_with_all_nodes_in_it(seen: Seen) -> None:
    assert seen.received.refused == 0
    found = seen.received.spans()
    roots = [span for _, span in found if span.name == ROOT]
    assert len(roots) == len({span.trace_id for span in roots}) == seen.sent > 3
    cycles = [each.value.int_value for span in roots for each in span.attributes if each.key == "tradetui.cycle"]
    assert {trace_id(seen.session, cycle) for cycle in cycles} == {span.trace_id for _, span in found}
    assert {span.name for _, span in found} >= {*NAMES} - {"order_confirmation"}
    nodes = {resource["service.instance.id"] for resource, _ in found}
    assert nodes == {*(f"node-{node}" for node in range(4)), "gateway", "venue"}
    judged = {span.trace_id for _, span in found if span.name == "judges proposals"}
    assert len(judged) >= 0.8 * seen.sent, "the peers' judgements are in their cycles' traces"
    assert seen.received.requests["/v1/metrics"]


ORDERS_WAY = (
    ("venue", "venue/order.place", SpanKind.SERVER),
    ("gateway", "venue/order.place", SpanKind.CLIENT),
    ("gateway", "gateway/execute", SpanKind.SERVER),
    ("node", "order_placement", SpanKind.CLIENT),
    ("node", "order_execution", SpanKind.INTERNAL),
    ("node", ROOT, SpanKind.INTERNAL),
)
"""From the venue up to the cycle."""


def test_an_orders_way_to_the_venue_is_in_the_trace_of_its_cycle(seen: Seen) -> None:
    """Parents are looked for within the trace: each link is one of the same trace."""
    by_id = {(span.trace_id, span.span_id): (resource, span) for resource, span in seen.received.spans()}
    ways = []
    for resource, span in by_id.values():
        if resource["service.instance.id"] != "venue":
            continue
        way, above = [], (resource, span)
        while above is not None:
            process, at = above[0]["service.instance.id"].partition("-")[0], above[1]
            way.append((process, at.name, SpanKind(at.kind)))
            parent = by_id.get((at.trace_id, at.parent_span_id))
            if process == "venue" and parent is not None:
                assert parent[1].start_time_unix_nano <= at.start_time_unix_nano
                assert at.end_time_unix_nano <= parent[1].end_time_unix_nano, "the answer comes after the work"
            above = parent
        ways.append(tuple(way))
    assert len(ways) > 10
    assert ways.count(ORDERS_WAY) >= 0.8 * len(ways), "at the ends a part may be missing"
    assert {span.name for _, span in by_id.values()} > {"gateway/prepare"}


def test_prometheus_reads_every_nodes_metrics(seen: Seen) -> None:
    leading = []
    for page in seen.pages:
        families = {family.name: family for family in text_string_to_metric_families(page)}
        assert families["tradetui_cycles"].type == "counter"
        assert families["tradetui_cycles"].samples[0].value >= 10
        assert len(families["tradetui_link_up"].samples) >= 4, "three peers and the gateway"
        assert all(family.documentation and family.type in ("counter", "gauge") for family in families.values())
        leading.append(families["tradetui_leads"].samples[0].value)
        assert page == "".join(line + "\n" for line in page.splitlines())
    assert sum(leading) == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")
def test_promtool_has_nothing_to_say(seen: Seen) -> None:
    for page in seen.pages:
        checked = subprocess.run(["promtool", "check", "metrics"], input=page, text=True, capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_dashboard_asks_for_metrics_that_there_are(seen: Seen) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    wanted = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"tradetui_\w+", target["expr"])
    }
    # A family without a sample yet, such as refusals where nobody was refused, is not on the page.
    there = {line.split()[2] for page in seen.pages for line in page.splitlines() if line.startswith("# TYPE")}
    assert wanted - there <= {"tradetui_refusals_total"}
    assert len({panel["id"] for panel in panels}) == len(panels) >= 10
