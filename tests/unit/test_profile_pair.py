"""Folded stacks, the flame of them, and the difference of two profiles."""

from __future__ import annotations

import asyncio
import csv
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

import core.put_back
from core.folded_stacks import flame, fold, frame_name, self_times_us, stacks
from core.profile_export import write_spans, write_spans_parquet
from core.profile_pair import Side, difference, take_pair, write_pair
from core.records import CycleRecord, SwarmSnapshot
from core.spans import NAMES
from core.toggles import BASELINE, OPTIMISED, Toggles, pressed
from tests.tui.fixtures import FakeSession

RUN = "run\x00/home/x/core/loop.py\x0010\x01l12"
JUDGE = "judge\x00/home/x/core/trader.py\x00120\x01l121"
SEND = "send\x00/home/x/net/quic.py\x0050"
RECORDS = [
    ([RUN], 0.001),
    ([RUN, JUDGE], 0.002),
    ([RUN, JUDGE, SEND], 0.003),
    ([RUN, SEND], 0.004),
    ([RUN, JUDGE], 0.001),
]


def test_a_frame_is_named_without_its_folder() -> None:
    assert frame_name(JUDGE) == "judge trader.py:120"
    assert frame_name("<module>\x00<string>\x001") == "<module>"
    assert frame_name("a;b\x00f.py\x001") == "a,b f.py:1"


def test_self_times_and_the_flame_add_up_to_the_samples() -> None:
    folded = fold(RECORDS)
    assert self_times_us(folded) == {"run loop.py:10": 1_000, "judge trader.py:120": 3_000, "send quic.py:50": 7_000}
    tree = flame(folded)
    assert tree.total_us == sum(us for _, us in stacks(folded)) == 11_000
    (run,) = tree.below
    assert (run.total_us, run.self_us) == (11_000, 1_000)
    assert [(each.name, each.total_us) for each in run.below] == [
        ("judge trader.py:120", 6_000),
        ("send quic.py:50", 4_000),
    ]
    assert run.below[0].below[0].self_us == 3_000


def test_what_is_no_folded_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        stacks(b"a;b 12\nnonsense\n")


def side(toggles: Toggles, decisions: int, text: bytes) -> Side:
    return Side(toggles, {"profile.folded": text}, decisions)


def test_the_difference_is_by_decision_and_the_largest_comes_first(tmp_path: Path) -> None:
    first = side(BASELINE, 10, b"loop;encode 1000\nloop;sign 500\n")
    second = side(OPTIMISED, 100, b"loop;encode 1000\nloop;batch 200\n")
    diff = difference(first, second)
    assert [(f.function, f.first_us, f.second_us) for f in diff.functions] == [
        ("encode", 100.0, 10.0),
        ("sign", 50.0, 0.0),
        ("batch", 0.0, 2.0),
    ]
    assert diff.total_us == (150.0, 12.0)
    write_pair(tmp_path, first, second, diff)
    rows = list(csv.reader((tmp_path / "diff.csv").open()))
    assert rows[1] == ["encode", "100.0", "10.0", "-90.0"]
    assert (tmp_path / "b" / "profile.folded").read_bytes() == second.files["profile.folded"]
    with pytest.raises(ValueError, match="no decision"):
        difference(side(BASELINE, 0, b"a 1\n"), second)
    with pytest.raises(ValueError, match="named"):
        write_pair(tmp_path / "x", Side(BASELINE, {"../evil": b""}, 1), second, diff)


class Swarm:
    """Trades a few cycles under whatever it is told, each time that its cycles are looked at."""

    def __init__(self, failing: bool = False) -> None:
        self.session = FakeSession(seed=3, cycles=20)
        self.asked: list[Toggles] = []
        self.failing = failing

    @property
    def cycles(self) -> deque[CycleRecord]:
        self.session.advance(4)
        return self.session.cycles

    def snapshot(self) -> SwarmSnapshot:
        return self.session.snapshot()

    async def set_toggles(self, toggles: Toggles) -> str:
        await asyncio.sleep(0)
        self.asked.append(toggles)
        self.session.toggles = toggles
        return ""

    async def profile(self, seconds: float) -> dict[str, Any]:
        if self.failing:
            raise ValueError("no")
        assert [record.toggles for record in list(self.session.cycles)[-10:]] == [self.session.toggles] * 10
        return {
            "files": {"profile.folded": self.session.toggles.label().replace(" ", "_").encode() + b" 5\n"},
            "decisions": 5,
        }


def test_a_pair_runs_under_both_and_puts_the_toggles_back() -> None:
    swarm, told = Swarm(), list[str]()
    first, second = asyncio.run(take_pair(swarm, OPTIMISED, BASELINE, 1.0, told.append))
    assert (first.toggles, second.toggles) == (OPTIMISED, BASELINE)
    assert swarm.asked == [OPTIMISED, BASELINE, BASELINE]
    failing = Swarm(failing=True)
    with pytest.raises(ValueError, match="no"):
        asyncio.run(take_pair(failing, OPTIMISED, BASELINE, 1.0, told.append))
    assert failing.asked == [OPTIMISED, BASELINE]
    assert told == []


def test_a_pair_puts_back_what_a_key_asked_for_and_no_cycle_has_run_under_yet() -> None:
    swarm = Swarm()
    swarm.session.toggles = pressed(BASELINE, "b")
    asyncio.run(take_pair(swarm, OPTIMISED, BASELINE, 1.0, list[str]().append))
    assert swarm.asked == [OPTIMISED, BASELINE, pressed(BASELINE, "b")]


def test_a_pair_that_is_cancelled_twice_ends_when_the_toggles_are_back() -> None:
    async def work() -> None:
        swarm = Swarm()
        running = asyncio.create_task(take_pair(swarm, OPTIMISED, BASELINE, 1.0, list[str]().append))
        while not swarm.asked:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert swarm.asked == [OPTIMISED, BASELINE]

    asyncio.run(work())


def test_a_pair_whose_way_back_is_refused_is_whole_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.put_back, "PUT_BACK_S", 0.05)

    class Refusing(Swarm):
        async def set_toggles(self, toggles: Toggles) -> str:
            if len(self.asked) >= 2:
                return "refused: another epoch"
            return await super().set_toggles(toggles)

    swarm, told = Refusing(), list[str]()
    swarm.session.toggles = pressed(BASELINE, "b")
    _, second = asyncio.run(take_pair(swarm, OPTIMISED, BASELINE, 1.0, told.append))
    assert second.decisions == 5
    assert "its last answer: refused: another epoch" in told[0]


def test_spans_are_those_of_compiled_kernels_unless_there_are_no_others(tmp_path: Path) -> None:
    def cycles_of(snapshot: SwarmSnapshot) -> list[str]:
        write_spans(tmp_path / "spans.csv", snapshot)
        with (tmp_path / "spans.csv").open() as file:
            return [row["cycles"] for row in csv.DictReader(file)]

    snapshot = FakeSession(seed=3, cycles=20).snapshot()
    in_numpy = tuple(replace(record, numpy_kernels=9) for record in snapshot.cycles)
    mixed = replace(snapshot, cycles=(*in_numpy[:5], *snapshot.cycles[5:]))
    assert cycles_of(mixed) == ["15"] * (len(NAMES) + 1)
    assert cycles_of(replace(snapshot, cycles=in_numpy)) == ["20"] * (len(NAMES) + 1)


def test_spans_as_parquet_hold_what_the_csv_holds(tmp_path: Path) -> None:
    write_spans(tmp_path / "it's.csv", FakeSession(seed=3, cycles=20).snapshot())
    write_spans_parquet(tmp_path / "it's.csv", tmp_path / "it's.parquet")
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT span, cycles, exclusive_ms FROM read_parquet(?)", [str(tmp_path / "it's.parquet")]
        )
        rows = found.fetchall()
    assert [row[0] for row in rows] == [*NAMES, "untimed"]
    with (tmp_path / "it's.csv").open() as file:
        assert [float(row["exclusive_ms"]) for row in csv.DictReader(file)] == [row[2] for row in rows]
