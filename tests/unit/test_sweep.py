"""Sweeps: what a specification means, what is kept and taken up again, and what the effects are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from core.config import ConfigError
from core.factorial_effects import effects, student_t_quantile
from core.session import SessionError
from core.sweep import FIGURES, SweepFile, sweep
from core.sweep_spec import read_spec, runs_of
from core.toggles import parse_toggles

SPEC = """
cycles = 20
replicates = 2
[settings]
toggles = "optimised"
[factors]
b = ["off", "on"]
m = ["bft", "raft", "auto"]
venue_latency_ms = [0, 3]
"""


def written(folder: Path, text: str = SPEC) -> Path:
    path = folder / "spec.toml"
    path.write_text(text)
    return path


def test_a_specification_is_every_combination_in_an_order_as_drawn(tmp_path):
    spec = read_spec(written(tmp_path))
    runs = runs_of(spec)
    assert len(spec.cells()) == 12
    assert len(runs) == 24
    for replicate in range(2):
        part = [run.cell for run in runs if run.replicate == replicate]
        assert sorted(part) == sorted(spec.cells())
    assert [run.replicate for run in runs] == [0] * 12 + [1] * 12, "replicate after replicate"
    assert [run.cell for run in runs[:12]] != [run.cell for run in runs[12:]]
    assert runs_of(spec) == runs
    flags = {run.cell: run.flags for run in runs}
    toggles = parse_toggles(flags[0, 1, 1]["toggles"])
    assert (toggles.batching, str(toggles.consensus), toggles.parallel_orders) == (False, "raft", True)
    assert flags[0, 1, 1]["venue_latency_ms"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cycles = 20", "want a table"),
        ("cycles = 5\n[factors]\nb=['off','on']", "cycles = 5"),
        ("replicates = 0\n[factors]\nb=['off','on']", "replicates = 0"),
        ("cycle = 20\n[factors]\nb=['off','on']", "cycle is unknown"),
        ("[factors]\nb=['on']", "two different values"),
        ("[factors]\nb=['on','on']", "two different values"),
        ("[factors]\nspeed=[1,2]", "neither a toggle"),
        ("[factors]\ntoggles=['baseline','optimised']", "neither a toggle"),
        ("[factors]\nm=['bft','paxos']", "paxos"),
        ("[factors]\nnodes=[4,40]", "nodes = 40"),
        ("[factors\n", "no TOML"),
        ("settings = 3\n[factors]\nb=['off','on']", r"settings = 3: want a table"),
        ("settings = 'x'\n[factors]\nb=['off','on']", r"settings = 'x': want a table"),
        ("replicates = 9999\n[factors]\nb=['off','on']", "at most 10,000"),
    ],
)
def test_a_bad_specification_is_refused_before_anything_runs(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read_spec(written(tmp_path, text))


class Invented:
    """Stands in for machines: a run's time follows from its cell; some fail, some are lost."""

    def __init__(
        self,
        failing: Set[tuple[int, ...]] = frozenset(),
        stop_after: int = 10**9,
        numpy: Set[tuple[int, ...]] = frozenset(),
    ) -> None:
        self.failing, self.stop_after, self.numpy = failing, stop_after, numpy
        self.ran: list[tuple[tuple[int, ...], int]] = []

    def results(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number, run in reversed(list(enumerate(tasks))):
            if len(self.ran) == self.stop_after:
                raise KeyboardInterrupt
            self.ran.append((run.cell, run.replicate))
            ms = 10.0 / (1 + run.cell[0]) * 2.0 ** run.cell[-1] * (1.01 if run.replicate else 1.0)
            span = {"p50_ms": ms, "p99_ms": 2 * ms}
            spans = {"trading_cycle_total": span, "quic_coordination": span, "order_execution": span}
            result = {"spans": spans, "cycles_per_s": 1e3 / ms, "decisions": {"committed": 400}, "orders": {"sent": 9}}
            result |= {"cycles": 20, "numpy_kernel_cycles": 3 if run.cell in self.numpy else 0}
            error = "the swarm stopped" if run.cell in self.failing else ""
            yield number, {"error": error, "result": result, "host": "here", "pid": 1, "took_s": 1.0}

    def close(self) -> None:
        return


def nothing(done: int, of: int) -> None:
    return


def test_a_sweep_that_was_broken_off_goes_on_and_runs_nothing_twice(tmp_path):
    spec, path = read_spec(written(tmp_path)), tmp_path / "out.duckdb"
    first = Invented(stop_after=7)
    file = SweepFile(path, spec)
    with pytest.raises(KeyboardInterrupt):
        sweep(spec, file, first, nothing)
    file.close()
    second = Invented()
    file = SweepFile(path, spec)
    told: list[tuple[int, int]] = []
    assert sweep(spec, file, second, lambda done, of: told.append((done, of))) == []
    assert not set(first.ran) & set(second.ran)
    assert len(first.ran) + len(second.ran) == 24
    assert told[0] == (7, 24)
    assert told[-1] == (24, 24)
    assert {(each.cell, each.replicate) for each in file.finished()} == {(r.cell, r.replicate) for r in runs_of(spec)}
    found = {each.name: each for each in file.write_effects()}
    assert found["b=on"].ratio == pytest.approx(2.0)
    assert found["venue_latency_ms=3"].ratio == pytest.approx(0.5)
    assert found["m=raft"].ratio == pytest.approx(1.0)
    assert found["b=on × venue_latency_ms=3"].ratio == pytest.approx(1.0)
    file.close()
    with duckdb.connect(str(path), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM effects").fetchall() == [(len(found),)]
        rows = db.execute("SELECT b, m, venue_latency_ms, cycle_ms_p50 FROM runs WHERE cell = '1 2 1'").fetchall()
    assert rows[0][:3] == ("on", "auto", "3")
    assert set(FIGURES) >= {"cycle_ms_p50", "cycles_per_s"}


def test_a_run_that_failed_is_said_and_tried_again(tmp_path):
    spec, path = read_spec(written(tmp_path)), tmp_path / "out.duckdb"
    file = SweepFile(path, spec)
    failed = sweep(spec, file, Invented(failing={(0, 0, 0)}), nothing)
    assert sorted(failed) == [f"b=off m=bft venue_latency_ms=0, replicate {k}: the swarm stopped" for k in (0, 1)]
    again = Invented()
    assert sweep(spec, file, again, nothing) == []
    assert sorted(again.ran) == [((0, 0, 0), 0), ((0, 0, 0), 1)]
    file.close()


def test_a_run_on_numpy_kernels_is_not_compared_with_compiled_ones(tmp_path):
    spec = read_spec(written(tmp_path))
    file = SweepFile(tmp_path / "out.duckdb", spec)
    failed = sweep(spec, file, Invented(numpy={(0, 0, 0)}), nothing)
    assert len(failed) == 2
    assert all("3 of 20 cycles ran on numpy" in each for each in failed)
    assert (0, 0, 0) not in {each.cell for each in file.finished()}
    again = Invented()
    assert sweep(spec, file, again, nothing) == []
    assert sorted(again.ran) == [((0, 0, 0), 0), ((0, 0, 0), 1)]
    file.close()


def test_a_file_of_another_specification_is_not_mixed_in(tmp_path):
    path = tmp_path / "out.duckdb"
    SweepFile(path, read_spec(written(tmp_path))).close()
    with pytest.raises(SessionError, match="another specification"):
        SweepFile(path, read_spec(written(tmp_path, SPEC.replace("cycles = 20", "cycles = 30"))))


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 1, 12.7062), (0.975, 8, 2.3060), (0.975, 100, 1.9840), (0.95, 3, 2.3534), (0.995, 30, 2.7500)],
)
def test_quantiles_are_those_of_the_tables(probability, freedom, value):
    assert student_t_quantile(probability, freedom) == pytest.approx(value, abs=2e-4)


def test_intervals_of_effects_cover_the_truth():
    """2 × 2 × 2, two replicates, noise of 5 %: each interval holds the true effect about 95 times of 100."""
    cells = np.array([cell for _ in range(2) for cell in np.ndindex(2, 2, 2)])
    blocks = np.repeat([0, 1], 8)
    factors = [(name, ["off", "on"]) for name in "abc"]
    truth = {"a=on": 2.0, "b=on": 0.8, "c=on": 1.0, "a=on × b=on": 1.5, "a=on × c=on": 1.0, "b=on × c=on": 1.0}
    held = dict.fromkeys(truth, 0)
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(0.0, 0.05, 16)
        log_ms = noise + 0.3 * blocks - sum(
            np.log(truth[f"{name}=on"]) * (cells[:, k] - 0.5) for k, name in enumerate("abc")
        )  # fmt: skip
        log_ms = log_ms - np.log(1.5) * (cells[:, 0] - 0.5) * (cells[:, 1] - 0.5)
        for each in effects(cells, blocks, np.exp(log_ms), factors):
            assert each.low is not None
            assert each.high is not None
            held[each.name] += each.low <= truth[each.name] <= each.high
    assert all(180 <= count <= 199 for count in held.values()), held


def test_too_few_runs_are_said_and_no_freedom_gives_no_interval():
    cells = np.array(list(np.ndindex(2, 2)))
    factors = [("a", ["off", "on"]), ("b", ["off", "on"])]
    found = effects(cells, np.zeros(4, np.int64), np.array([4.0, 4.0, 2.0, 2.0]), factors)
    assert [each.low for each in found] == [None, None, None]
    assert found[0].ratio == pytest.approx(2.0)
    with pytest.raises(ValueError, match="3 runs do not determine"):
        effects(cells[:3], np.zeros(3, np.int64), np.ones(3), factors)
