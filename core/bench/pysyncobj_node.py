"""One node of a PySyncObj cluster under the same closed loop as ours: `python -m core.bench.pysyncobj_node JSON`.

Tuned as it likes it best here: no batching, a tick of 2 ms. With `journal` each append is also flushed to the disk
(msync), which PySyncObj leaves to the kernel. It prints `ready` once it knows a leader, waits for a line, and the one
that leads then prints what it measured; it ends when standard input closes.
"""

from __future__ import annotations

import json
import selectors
import sys
import time
from functools import partial
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.journal import FileJournal

from core.bench.consensus_node import PAYLOAD_BYTES

TICK_S = 0.002


class Counter(SyncObj):  # type: ignore[misc]
    """A state machine that counts payloads."""

    def __init__(self, own: str, others: list[str], journal: str | None) -> None:
        self.applied = 0
        super().__init__(
            own,
            others,
            SyncObjConf(
                autoTick=False, appendEntriesUseBatch=False, journalFile=journal, connectionRetryTime=0.1, useFork=False
            ),
        )

    @replicated  # type: ignore[untyped-decorator]
    def apply(self, payload: bytes) -> None:
        self.applied += 1


def _sync_every_append() -> None:
    add = FileJournal.add

    def add_and_flush(self: Any, *entry: Any) -> None:
        add(self, *entry)
        self.flush()

    FileJournal.add = add_and_flush


def _load(counter: Counter, in_flight: int, warm_up_s: float, seconds: float) -> dict[str, Any]:
    latencies_ms: list[float] = []
    payload = bytes(PAYLOAD_BYTES)

    def start() -> None:
        counter.apply(payload, callback=partial(decided, time.perf_counter()))

    def decided(began: float, _result: Any, failure: Any) -> None:
        if failure:
            raise RuntimeError(f"PySyncObj refused a command: {failure}")
        latencies_ms.append((time.perf_counter() - began) * 1e3)
        start()

    for _ in range(in_flight):
        start()
    until = time.perf_counter() + warm_up_s
    while time.perf_counter() < until:
        counter.doTick(TICK_S)
    latencies_ms.clear()
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        counter.doTick(TICK_S)
    return {"took_s": time.perf_counter() - began, "latencies_ms": sorted(latencies_ms), "decided": len(latencies_ms)}


def main(config: dict[str, Any]) -> None:
    """Serve until standard input closes; measure on the first line where this node leads."""
    if config["journal"]:
        _sync_every_append()
    addresses: list[str] = config["addresses"]
    own = addresses[config["node"]]
    counter = Counter(own, [each for each in addresses if each != own], config["journal"])
    stdin = selectors.DefaultSelector()
    stdin.register(sys.stdin, selectors.EVENT_READ)
    told = False
    while True:
        counter.doTick(TICK_S)
        leader = counter._getLeader()
        if not told and counter.isReady() and leader is not None:
            told = True
            print(json.dumps({"leads": str(leader) == own}), flush=True)
        if stdin.select(0):
            if not sys.stdin.readline():
                return
            print(json.dumps(_load(counter, config["in_flight"], config["warm_up_s"], config["seconds"])), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
