"""`tradetui bench quic`: rounds and round trips of the endpoint against other carriers, and what each setting changes.

Every case holds both sides up at once, in processes of their own, and measures slices in turn, so that a slow spell of
the machine falls on both alike.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from core.bench.quic_cluster import QuicBenchError, QuicCluster, running
from core.bench.rows import Row, row_of_pairs, table_of, write_rows

SLICE_ROUNDS: Final = 800
BAD_LINK: Final = "delay=20ms,loss=1%"
PACED_PER_S: Final = 200.0
PACED_S: Final = 4.0
LOADS_PER_S: Final = (100, 2_000)
LOAD_S: Final = 1.0
STRANGERS_PER_S: Final = 50
RECONNECTS: Final = 50

Measure = Callable[[], Awaitable[dict[str, Any]]]
Case = Callable[[Path, int, Console], Awaitable[list[Row]]]


async def slices(sides: Mapping[str, Measure], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What each side measured in every round; each runs once unmeasured first, the order turns by one a round."""
    names = list(sides)
    for measure in sides.values():
        await measure()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(await sides[name]())
    return found


def column(runs: list[dict[str, Any]], name: str) -> list[float]:
    """One figure of every slice; `rounds_per_s` is made of two."""
    if name == "rounds_per_s":
        return [run["rounds"] / run["took_s"] for run in runs]
    return [float(run[name]) for run in runs]


async def rounds_and_round_trips(folder: Path, rounds: int, console: Console) -> list[Row]:
    """n = 4 and one peer, one round at a time: the product, aioquic's asyncio server in both its manners (asyncio's
    streams, as its documentation has it, and the protocol's events), bare UDP, qh3 where installed.
    """
    carriers = {
        "endpoint": "endpoint",
        "aioquic streams": "aioquic+streams+asyncio",
        "aioquic on uvloop": "aioquic",
        "aioquic": "aioquic+asyncio",
        "UDP": "udp",
    }
    if importlib.util.find_spec("qh3") is not None:
        carriers["qh3"] = "qh3"
    else:
        console.print("qh3 is not installed: its rows are left out", style="dim")
    async with AsyncExitStack() as stack:
        clusters: dict[str, QuicCluster] = {}
        for number, (name, carrier) in enumerate(carriers.items()):
            clusters[name] = await stack.enter_async_context(running(folder / str(number), 4, carrier))

        def ask(name: str, **command: Any) -> Measure:
            return lambda: clusters[name].ask(0, do="rounds", count=SLICE_ROUNDS, **command)

        all_four = await slices({name: ask(name) for name in clusters}, rounds)
        one_peer = await slices({name: ask(name, peers=1) for name in clusters}, rounds)
    rows = [_higher("quic.rounds.n4", "rounds/s", all_four, "aioquic", "rounds_per_s")]
    rows += [
        _higher(f"quic.rounds.n4.{name.replace(' ', '_')}", "rounds/s", all_four, name, "rounds_per_s")
        for name in clusters
        if name not in ("endpoint", "aioquic")
    ]
    for runs, label in ((all_four, "quic.round_p50.n4"), (one_peer, "quic.round_trip_p50")):
        rows += [_lower(f"{label}.{name.replace(' ', '_')}", "ms", runs, name, "p50_ms") for name in list(clusters)[1:]]
    return rows


def _higher(name: str, unit: str, runs: dict[str, list[dict[str, Any]]], other: str, figure: str) -> Row:
    ours, theirs = column(runs["endpoint"], figure), column(runs[other], figure)
    return row_of_pairs(name, unit, ours, other, theirs, higher_is_better=True)


def _lower(name: str, unit: str, runs: dict[str, list[dict[str, Any]]], other: str, figure: str) -> Row:
    return row_of_pairs(name, unit, column(runs["endpoint"], figure), other, column(runs[other], figure))


async def multiplexing(folder: Path, rounds: int, console: Console) -> list[Row]:
    """A stream per round against one ordered stream, rounds at an even rate over links that lose and delay."""
    console.print(f"multiplexing: links {BAD_LINK} (injected), {PACED_PER_S:g} rounds/s", style="dim")
    async with (
        running(folder / "many", 4, links=BAD_LINK, multiplexing=True) as many,
        running(folder / "one", 4, links=BAD_LINK) as one,
    ):
        found = await slices(
            {
                name: lambda cluster=cluster: cluster.ask(  # type: ignore[misc]
                    0, do="offered", per_s=PACED_PER_S, seconds=PACED_S, policy="off"
                )
                for name, cluster in {"many": many, "one": one}.items()
            },
            rounds,
        )
        lost = [(await cluster.ask(0, do="status"))["datagrams_lost"] for cluster in (many, one)]
    console.print(f"multiplexing: node 0 lost {lost[0]} and {lost[1]} datagrams on purpose", style="dim")
    return [
        row_of_pairs(
            f"quic.multiplexing.loss1.round_{figure}",
            "ms",
            column(found["many"], f"{figure}_ms"),
            f"one stream ({BAD_LINK})",
            column(found["one"], f"{figure}_ms"),
        )
        for figure in ("p50", "p99")
    ]


async def batching(folder: Path, rounds: int, console: Console) -> list[Row]:
    """The adaptive policy against the timer and against none, by offered load: latency of an item, datagrams of one."""
    rows = []
    async with running(folder / "batching", 4) as cluster:
        for per_s in LOADS_PER_S:

            def offer(policy: str, per_s: int = per_s) -> Measure:
                return lambda: cluster.ask(0, do="offered", per_s=per_s, seconds=LOAD_S, policy=policy)

            found = await slices({policy: offer(policy) for policy in ("adaptive", "timer", "off")}, rounds)
            for other in ("timer", "off"):
                for figure, unit in (("p50_ms", "ms"), ("p99_ms", "ms"), ("datagrams", "datagrams/s at node 0")):
                    ours, theirs = column(found["adaptive"], figure), column(found[other], figure)
                    name = f"quic.batching.{per_s}_per_s.{figure.removesuffix('_ms')}.{other}"
                    rows.append(row_of_pairs(name, unit, ours, other, theirs))
    return rows


async def strangers(folder: Path, rounds: int, console: Console) -> list[Row]:
    """Rounds while a stranger opens connections to node 0, against rounds in peace."""
    rows = []
    async with running(folder / "strangers", 4) as cluster:
        entry = cluster.roster.get(0)
        assert entry is not None
        assert entry.address is not None
        for answers in (False, True):
            async with _stranger(entry.address, answers) as flood:

                async def in_peace() -> dict[str, Any]:
                    return await cluster.ask(0, do="rounds", count=SLICE_ROUNDS)

                async def flooded(flood: Flood = flood) -> dict[str, Any]:
                    await flood.start()
                    measured = await cluster.ask(0, do="rounds", count=SLICE_ROUNDS)
                    await flood.stop()
                    return measured

                found = await slices({"flooded": flooded, "in peace": in_peace}, rounds)
            name = f"quic.stranger.{'answering' if answers else 'blind'}.rounds"
            ours, theirs = column(found["flooded"], "rounds_per_s"), column(found["in peace"], "rounds_per_s")
            rows.append(row_of_pairs(name, "rounds/s", ours, "in peace", theirs, higher_is_better=True))
            status = await cluster.ask(0, do="status")
            console.print(
                f"stranger ({'answers' if answers else 'ignores'} the Retry): {flood.opened} connections; node 0 "
                f"sent {status['retries_sent']} Retries, shed {status['strangers_shed']}, refused {status['refusals']}",
                style="dim",
            )
    return rows


class Flood:
    """The stranger's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.opened = 0

    async def start(self) -> None:
        self._stdin.write(b"go\n")

    async def stop(self) -> None:
        self._stdin.write(b"stop\n")
        self.opened = int(await self._stdout.readline())


@asynccontextmanager
async def _stranger(address: tuple[str, int], answers: bool) -> AsyncIterator[Flood]:
    arguments = (address[0], str(address[1]), str(STRANGERS_PER_S), "1" if answers else "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "core.bench.quic_stranger",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        if await process.stdout.readline() != b"ready\n":
            raise QuicBenchError("the stranger did not start")
        yield Flood(process)
    finally:
        process.kill()
        await process.wait()


async def reconnects(folder: Path, rounds: int, console: Console) -> list[Row]:
    """Node 0 is ended and started again: from its dial to the first answer of a peer, resumed and in full."""
    cluster = QuicCluster(folder / "reconnect", 2, "endpoint", {"zero_rtt": True})
    found: dict[bool, list[float]] = {True: [], False: []}
    try:
        await cluster.start(1)
        for number in range(2 * max(rounds, RECONNECTS) + 1):
            resumes = number % 2 == 0
            await cluster.start(0, zero_rtt=resumes)
            reply = await cluster.ask(0, do="reconnect")
            await cluster.stop(0)
            if number == 0:
                continue  # the first life has no ticket
            if reply["resumed"] != resumes:
                raise QuicBenchError(f"restart {number}: resumed {reply['resumed']}, wanted {resumes}")
            found[resumes].append(reply["first_message_ms"])
    finally:
        await cluster.close()
    return [row_of_pairs("quic.reconnect.first_message", "ms", found[True], "full handshake", found[False])]


async def soak(folder: Path, seconds: float, console: Console) -> list[Row]:
    """Rounds at full rate for so long, multiplexed, 4 in flight: resident memory and open streams, start and end."""
    rows = []
    async with running(folder, 4, multiplexing=True) as cluster:

        async def load(for_s: float) -> int:
            done, ends_at = 0, asyncio.get_running_loop().time() + for_s
            while asyncio.get_running_loop().time() < ends_at:
                done += (await cluster.ask(0, do="rounds", count=SLICE_ROUNDS, in_flight=4))["rounds"]
            return done

        await load(min(10.0, seconds / 4))  # caches and pools fill first
        before = [await cluster.ask(node, do="status") for node in range(4)]
        rounds = await load(seconds)
        await asyncio.sleep(0.5)  # the last acknowledgements
        after = [await cluster.ask(node, do="status") for node in range(4)]
    console.print(f"soak: {rounds:,} rounds in {seconds:g} s", style="dim")
    for node, (start, end) in enumerate(zip(before, after, strict=True)):
        for figure, unit in (("resident_bytes", "bytes"), ("open_streams", "streams")):
            rows += [Row(f"quic.soak.{figure}.node{node}.start", unit, start[figure])]
            rows += [Row(f"quic.soak.{figure}.node{node}.end", unit, end[figure])]
    return rows


CASES: Final[dict[str, Case]] = {
    "rounds": rounds_and_round_trips,
    "multiplexing": multiplexing,
    "batching": batching,
    "strangers": strangers,
    "reconnects": reconnects,
}


async def bench_quic(
    cases: list[str], rounds: int, soak_s: float, json_file: Path | None, console: Console
) -> list[Row]:
    """Measure the named cases, then soak, print the table, write `json_file`. Raises QuicBenchError, OSError."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tradetui-bench-") as folder:
        for name in cases:
            console.print(f"measuring {name}", style="dim")
            rows += await CASES[name](Path(folder) / name, rounds, console)
        if soak_s:
            rows += await soak(Path(folder) / "soak", soak_s, console)
    console.print(table_of("quic: separate processes on loopback", rows))
    if json_file is not None:
        settings = {
            "rounds": rounds,
            "slice_rounds": SLICE_ROUNDS,
            "multiplexing_link": f"{BAD_LINK} (injected)",
            "multiplexing_rounds_per_s": PACED_PER_S,
            "loads_per_s": LOADS_PER_S,
            "strangers_per_s": STRANGERS_PER_S,
            "reconnects": RECONNECTS,
            "soak_s": soak_s,
        }
        write_rows(json_file, settings, rows)
    return rows
