"""`tradetui bench all`: what it plans, how it goes on after a break, what it writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from core.bench.all import bench_all
from core.bench.all_library import library_row
from core.bench.all_plan import Comparison, tasks_of
from core.bench.all_run import rows_of
from core.bench.published import BEGIN, END, PublishError, read_document, to_markdown, to_readme, write_readme
from core.bench.resampled import STEPS, write_library, write_market
from core.bench.rows import Row
from core.config import Settings
from core.factorial import pair_design
from core.interleaved import InterleavedExperiment, Plan
from core.market.load import load_market
from core.patterns import mined_library
from core.session import SessionError
from core.toggles import BASELINE, FIELD_OF_KEY, OPTIMISED
from tests.tui.recorded import load

QUIET = Console(quiet=True)
CONTRACT = {
    "all.cycles_per_s.0ms",
    "all.cycles_per_s.3ms",
    "all.quic_ms_per_cycle.3ms",
    "all.order_ms_per_cycle.3ms",
    *(f"toggle.{key}" for key in FIELD_OF_KEY),
}


def finished(comparison: Comparison):
    """A result of the recorded sitting's cycles, played in turn to whichever setting is wanted."""
    cycles = {toggles: [r for r in load()[0].cycles if r.toggles == toggles] for toggles in (BASELINE, OPTIMISED)}
    experiment = InterleavedExperiment(
        pair_design(comparison.first, comparison.second), Plan(2, 1, replicates_min=6, replicates_max=6), 1
    )
    number = 0
    while not experiment.finished:
        number += 1
        mine = cycles[experiment.wanted]
        record = mine[number % len(mine)]
        experiment.observe(type(record)(**{**_fields(record), "cycle": number, "leader": 0}))
    assert experiment.result is not None
    return experiment.result


def _fields(record) -> dict:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_the_rows_that_others_rely_on_are_all_planned():
    for short in (True, False):
        names = set()
        for task in tasks_of(short):
            for comparison in task.comparisons:
                head, _, rest = comparison.row.partition(".")
                names |= {
                    f"{head}.{name}.{rest}" for name in ("cycles_per_s", "quic_ms_per_cycle", "order_ms_per_cycle")
                }
                names.add(comparison.row)
        assert names >= CONTRACT
        assert len({task.name for task in tasks_of(short)}) == len(tasks_of(short))


def test_every_planned_setting_is_a_valid_one():
    for task in tasks_of(False):
        Settings(**task.settings)
        assert task.seconds_max > 0
        for comparison in task.comparisons:
            assert comparison.first != comparison.second, comparison.row


def test_toggles_are_compared_alone():
    """From both ends a comparison changes the one field that its row names."""
    by_row = {c.row: c for task in tasks_of(True) for c in task.comparisons}
    for key, name in FIELD_OF_KEY.items():
        for row in (f"toggle.{key}", f"toggle.{key}.others_on"):
            first, second = by_row[row].first.as_dict(), by_row[row].second.as_dict()
            assert [field for field in first if first[field] != second[field]] == [name], row


def test_rows_say_how_many_times_better_the_second_is():
    task, comparison = next((task, c) for task in tasks_of(True) for c in task.comparisons if c.row == "all.3ms")
    rows = {row.name: row for row in rows_of(task, comparison, finished(comparison))}
    assert set(rows) == {
        f"all.{name}.3ms"
        for name in (
            "cycles_per_s", "quic_ms_per_cycle", "order_ms_per_cycle", "serialization_ms_per_cycle", "dtw_ms_per_cycle",
        )
    }  # fmt: skip
    rate = rows["all.cycles_per_s.3ms"]
    assert rate.theirs is not None
    assert rate.ratio is not None
    assert rate.ours / rate.theirs == pytest.approx(rate.ratio, rel=1e-9)
    assert "median" in rate.unit, "it is no throughput"
    assert rate.ratio > 5
    quic = rows["all.quic_ms_per_cycle.3ms"]
    assert quic.theirs is not None
    assert quic.ratio is not None
    assert quic.theirs / quic.ours == pytest.approx(quic.ratio, rel=1e-9)


def test_rows_say_the_venue_latency_that_their_swarm_had():
    result = None
    for task in tasks_of(True):
        comparison = task.comparisons[0]
        result = result or finished(comparison)
        slow = "venue_latency_ms" in task.settings
        assert all((row.against or "").endswith("; venue 3 ms") == slow for row in rows_of(task, comparison, result))
        assert slow or not task.name.startswith("toggles")


Work = Callable[[Callable[[str, float], None]], Awaitable[list[Row]]]


def works(done: list[str], failing: set[str], names: tuple[str, ...] = ("one", "two", "three")) -> dict[str, Work]:
    def of(name: str) -> Work:
        async def work(say) -> list[Row]:
            say("at it", 0.5)
            if name in failing:
                raise SessionError("the swarm stopped")
            done.append(name)
            return [Row(f"all.{name}.3ms", "ms", 1.0, "all off", 2.0, 2.0, 1.5, 2.5)]

        return work

    return {name: of(name) for name in names}


def test_what_failed_or_was_broken_off_is_taken_up_and_nothing_twice(tmp_path):
    path = tmp_path / "all.json"
    done: list[str] = []
    rows, failed = asyncio.run(bench_all(True, path, "", QUIET, works(done, {"two"})))
    assert failed == ["two: the swarm stopped"]
    assert [row.name for row in rows] == ["all.one.3ms", "all.three.3ms"]
    assert json.loads(path.read_text())["settings"]["missing"] == ["two"]
    partial = tmp_path / "all.json.partial"
    # the machine went down while a line was written
    partial.write_text(partial.read_text() + '{"task": "tw')
    rows, failed = asyncio.run(bench_all(True, path, "", QUIET, works(done, set())))
    assert not failed
    assert done == ["one", "three", "two"]
    assert [row.name for row in rows] == ["all.one.3ms", "all.two.3ms", "all.three.3ms"], "in the order of the plan"
    document = json.loads(path.read_text())
    assert document["settings"]["missing"] == []
    assert set(document["settings"]["tasks"]) == {"one", "two", "three"}
    assert not partial.exists()


def test_one_task_can_be_run_alone_and_another_form_is_not_mixed_in(tmp_path):
    path, done = tmp_path / "all.json", []
    asyncio.run(bench_all(True, path, "thr", QUIET, works(done, set())))
    assert done == ["three"]
    with pytest.raises(SessionError, match="of another form, machine or packages"):
        asyncio.run(bench_all(False, path, "", QUIET, works(done, set())))
    with pytest.raises(SessionError, match="there are one, two, three"):
        asyncio.run(bench_all(True, path, "four", QUIET, works(done, set())))


def test_the_document_holds_the_settings_of_every_swarm(tmp_path):
    names = ("toggles from all off", "all 0 ms", "pattern libraries")
    asyncio.run(bench_all(True, tmp_path / "all.json", "", QUIET, works([], set(), names)))
    tasks = json.loads((tmp_path / "all.json").read_text())["settings"]["tasks"]
    assert [tasks[name]["settings"] for name in names] == [{"venue_latency_ms": 3.0}, {}, {}]


def document_of(tmp_path: Path) -> Path:
    path = tmp_path / "all.json"
    asyncio.run(bench_all(True, path, "", QUIET, works([], set())))
    return path


def test_readme_shows_what_the_file_says_and_keeps_the_rest(tmp_path):
    document = read_document(document_of(tmp_path))
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(readme, document)
    text = readme.read_text()
    assert text == f"# before\n{to_readme(document)}\nafter\n"
    assert "| `all.two.3ms` | ms | 1 | all off | 2 | 2.00 | 1.50–2.50 |" in text
    assert document["machine"]["processor"] in text
    assert document["settings"]["taken"][:10] in text
    write_readme(readme, document)
    assert readme.read_text() == text
    readme.write_text("no marks")
    with pytest.raises(PublishError, match="wants the two marks"):
        write_readme(readme, document)


def test_what_was_not_measured_is_said(tmp_path):
    path = tmp_path / "all.json"
    asyncio.run(bench_all(True, path, "", QUIET, works([], {"two"})))
    assert "Not measured: two." in to_markdown(read_document(path))


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{", "[]", '{"rows": []}', '{"rows": [{"name": 1}], "settings": {"tasks": {}}}'):
        path.write_text(text)
        with pytest.raises(PublishError, match="not written by"):
            read_document(path)
    with pytest.raises(PublishError, match="No such file"):
        read_document(tmp_path / "nothing.json")


def test_our_own_readme_shows_the_figures_that_are_kept():
    """README and the file of figures come from one run: `make bench`."""
    root = Path(__file__).parents[2]
    kept, readme = root / "docs" / "bench.json", (root / "README.md").read_text()
    shown = readme[readme.index(BEGIN) : readme.index(END) + len(END)]
    if kept.exists():
        assert shown == to_readme(read_document(kept))
    else:
        assert "|" not in shown, "figures without the file that they came from"


def test_a_resampled_market_loads_like_any_other(tmp_path):
    path = tmp_path / "market.parquet"
    write_market(path, 64, seed=1)
    data = load_market(path)
    assert len(data.spec.instruments) == 64
    assert data.layout.steps_total == STEPS
    returns = np.diff(np.log(data.closes(0, STEPS)), axis=1)
    real = load_market("us-stocks")
    spread = np.diff(np.log(real.closes(0, real.layout.steps_total)), axis=1).std()
    assert 0.6 * spread < returns.std() < 1.6 * spread, "it moves as much as what it was drawn from"
    again = tmp_path / "again.parquet"
    write_market(again, 64, seed=1)
    assert np.array_equal(load_market(again).closes(0, STEPS), data.closes(0, STEPS))


def test_a_library_row_compares_kernels_that_agree():
    row = library_row(2_000)
    assert row.name == "scale.library.2000.resampled"
    assert row.ratio is not None
    assert row.ours > 0.0


def test_a_resampled_library_is_taken_as_a_mined_one(tmp_path):
    path = tmp_path / "library.npz"
    write_library(path, 3_000, 64, seed=1)
    library = mined_library(path, 64)
    assert library.patterns.shape == (3_000, 64)
    assert np.allclose(library.patterns.mean(axis=1), 0.0, atol=1e-4)
    assert np.allclose(library.patterns.std(axis=1), 1.0, atol=1e-2)
    assert len(np.unique(library.patterns[:, 10])) > 2_900
