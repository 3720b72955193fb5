"""Mining: the same library whoever mines it, however often it was interrupted; and what its figures mean."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from core.commands.mine import _verdict, mine_library
from core.config import Settings
from core.market.events import MarketData
from core.market.load import load_market
from core.market.spec import Instrument
from core.mining import (
    SHIFTS,
    MinedLibrary,
    MiningSettings,
    _judge,
    _rank_correlation,
    _samples,
    _shifted_totals,
    _shifts,
    mine,
    remove_work,
    save_library,
)
from core.mining_input import closes_of
from core.mining_labels import MEMBERS_MAX, Labels
from core.mining_tasks import Candidates
from core.mining_workers import LocalProcesses, Task, WorkersError
from core.patterns import HINDSIGHT, UNDATED, hindsight, library_of, mined_library
from core.trader import Trader
from kernels.dtw_batch import library_distances_batch, pack_patterns

SMALL = MiningSettings("us-stocks", window=16, patterns=40, stride=11, iterations=3)


def silent(stage: str, done: int, total: int) -> None:
    """No progress to show."""


def same(a: MinedLibrary, b: MinedLibrary) -> None:
    for (name, one), other in zip(asdict(a).items(), asdict(b).values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> MinedLibrary:
    return mine(SMALL, LocalProcesses(1), tmp_path_factory.mktemp("work"), silent)


class Counting:
    """One process that notes its tasks and may stop after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.tasks = 0
        self._stop_after = stop_after
        self._inner = LocalProcesses(1)

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for result in self._inner.results(tasks):
            if self.tasks == self._stop_after:
                raise KeyboardInterrupt
            self.tasks += 1
            yield result

    def close(self) -> None: ...


@pytest.mark.parametrize("stop_after", [0, 1, 3, 6])
def test_a_stopped_run_goes_on_and_gives_the_same(library: MinedLibrary, tmp_path: Path, stop_after: int) -> None:
    first, second, whole = Counting(stop_after), Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        mine(SMALL, first, tmp_path, silent)
    same(mine(SMALL, second, tmp_path, silent), library)
    remove_work(SMALL, tmp_path)
    mine(SMALL, whole, tmp_path, silent)
    assert first.tasks == stop_after
    assert first.tasks + second.tasks == whole.tasks
    again = Counting()
    same(mine(SMALL, again, tmp_path, silent), library)
    assert again.tasks == 0
    remove_work(SMALL, tmp_path)
    assert not tmp_path.exists()


def test_a_library_that_cannot_be_saved_does_not_cost_the_work_again(library: MinedLibrary, tmp_path: Path) -> None:
    console, out = Console(file=io.StringIO(), width=120), tmp_path / "patterns.npz"
    out.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r"cannot be written .*finished work is in .*patterns\.npz\.work"):
        mine_library(SMALL, 1, None, out, console)
    again = Counting()
    same(mine(SMALL, again, tmp_path / "patterns.npz.work", silent), library)
    assert again.tasks == 0
    out.rmdir()
    mine_library(SMALL, 1, None, out, console)
    assert mined_library(out, 16).patterns.shape == library.patterns.shape
    assert not (tmp_path / "patterns.npz.work").exists()


def test_two_processes_one_of_them_killed_give_the_same(library: MinedLibrary, tmp_path: Path) -> None:
    workers = LocalProcesses(2)
    killed: list[int] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        pool = workers._pool
        if stage == "centre-0" and done == 1 and not killed and pool is not None:
            killed.append(next(iter(pool._processes)))
            os.kill(killed[0], signal.SIGKILL)

    try:
        same(mine(SMALL, workers, tmp_path, kill_one), library)
    finally:
        workers.close()
    assert killed


class Deadly:
    """A task that kills its worker."""

    def run(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_every_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.mining_workers.LOSSES_MAX", 1)
    workers = LocalProcesses(2)
    try:
        with pytest.raises(WorkersError, match="workers died"):
            list(workers.results([Deadly()]))  # type: ignore[list-item]
    finally:
        workers.close()


def test_library_is_what_it_says(library: MinedLibrary) -> None:
    inside, outside = _samples(SMALL)
    assert library.patterns.shape == (len(library.members), 16)
    assert library.members.sum() == len(inside)
    assert library.members_out.sum() == len(outside)
    assert (np.diff(library.members) <= 0).all()
    closes = closes_of("us-stocks")
    for k in (0, len(library.members) - 1):
        end = library.end_row[k]
        window = closes[library.instrument[k], end - 15 : end + 1]
        np.testing.assert_allclose(library.patterns[k], (window - window.mean()) / window.std(), rtol=1e-5, atol=1e-6)
    assert 0.0 < library.p_value <= 1.0


def test_clusters_are_tighter_than_the_grid_they_start_from(tmp_path: Path) -> None:
    inside, _ = _samples(SMALL)
    windows = inside.windows(np.arange(len(inside)))

    def spread(patterns: NDArray[np.float32]) -> float:
        distances = library_distances_batch(windows, pack_patterns(patterns), len(patterns), SMALL.band)
        return float(distances.min(axis=1).mean())

    count = SMALL.patterns
    grid = inside.windows(((np.arange(count) + 0.5) * len(inside) / count).astype(np.int64))
    mined = mine(SMALL, LocalProcesses(1), tmp_path, silent)
    assert spread(mined.patterns) < 0.97 * spread(grid)


def test_samples_share_no_row_and_stay_in_the_librarys_part() -> None:
    inside, outside = _samples(SMALL)
    rows = closes_of("us-stocks").shape[1]
    last = max(range(inside.first_end, inside.stop_end, inside.stride))
    assert last + SMALL.horizon < outside.first_end - SMALL.window + 1
    assert outside.stop_end + SMALL.horizon <= rows
    assert inside.first_end == SMALL.window - 1


def test_returns_that_patterns_foretell_are_found_and_others_are_not(tmp_path: Path) -> None:
    # eight shapes in a random order, each with its own next step; or a random walk
    for foretold in (True, False):
        random = np.random.default_rng(3)
        shapes = random.standard_normal((8, 15)).cumsum(axis=1)
        columns = []
        for _ in "AB":
            steps: list[float] = random.standard_normal(1_920).tolist()
            if foretold:
                order = random.integers(0, 8, 120)
                steps = [step for k in order for step in (*np.diff(shapes[k], prepend=0.0), 0.3 * (k - 3.5))]
            columns.append(100.0 * np.exp(0.001 * np.cumsum(steps)))
        path = tmp_path / f"{foretold}.csv"
        rows = enumerate(zip(*columns, strict=True), start=1)
        lines = [
            f"{10**9 * row},{name},{price:.6f}" for row, both in rows for name, price in zip("AB", both, strict=True)
        ]
        path.write_text("ts_ns,instrument,close\n" + "\n".join(lines) + "\n")
        settings = MiningSettings(str(path), window=15, patterns=80, stride=1, iterations=3)
        found = mine(settings, LocalProcesses(1), tmp_path / "work", silent)
        assert (found.p_value < 0.05) is foretold


def labels_in(folder: Path, values: NDArray[np.int64], chunk: int = 500) -> Labels:
    """The labels as files, as tasks leave them."""
    folder.mkdir()
    files = []
    for first in range(0, len(values), chunk):
        files.append(folder / f"{first}.npy")
        np.save(files[-1], values[first : first + chunk].astype(np.int32))
    return Labels(files, chunk)


def test_labels_in_files_give_the_members_that_they_give_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(4).choice(6, 3_210, p=[0.5, 0.3, 0.15, 0.05, 0.0, 0.0])
    labels = labels_in(tmp_path / "labels", values)
    for cluster, found in enumerate(labels.members(6)):
        members = np.flatnonzero(values == cluster)
        if len(members) > MEMBERS_MAX:
            members = members[np.linspace(0, len(members) - 1, MEMBERS_MAX).astype(np.int64)]
        np.testing.assert_array_equal(found, members)
    for first, stop in ((0, 1), (499, 501), (0, 3_210), (1_500, 2_000), (3_209, 3_210)):
        np.testing.assert_array_equal(labels.between(first, stop), values[first:stop])


def test_rank_correlation_and_forward_returns(tmp_path: Path) -> None:
    assert _rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([2.0, 3.0, 80.0])) == pytest.approx(1.0)
    assert _rank_correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.0
    inside, outside = _samples(SMALL)
    medoids = np.array([0, 1])
    labels = np.zeros(len(inside), np.int64)
    labels[5] = 1
    both = labels_in(tmp_path / "in", labels), labels_in(tmp_path / "out", np.zeros(len(outside), np.int64))
    judged = _judge(SMALL, (inside, outside), medoids, both, 1, silent)
    row = inside.first_end + 5 * SMALL.stride
    closes = closes_of("us-stocks")[0]
    assert judged.forward_return[1] == pytest.approx(closes[row + 1] / closes[row] - 1)
    assert np.isnan(judged.forward_return_out[1])


@pytest.mark.parametrize(("window", "horizon", "stride"), [(16, 1, 1), (16, 9, 1), (10, 3, 4), (16, 1, 11), (70, 1, 1)])
def test_no_shift_leaves_a_window_with_a_return_that_it_saw_or_that_overlaps_its_own(
    tmp_path: Path, window: int, horizon: int, stride: int
) -> None:
    settings = MiningSettings("us-stocks", window=window, horizon=horizon, stride=stride)
    _, outside = _samples(settings)
    steps = outside.per_instrument
    # each candidate in a cluster of its own: the totals are the returns, in the order that a shift gives them
    labels = labels_in(tmp_path / "labels", np.tile(np.arange(steps), outside.instruments))
    members, totals = _shifted_totals(settings, outside, labels, steps, silent)
    assert (members == outside.instruments).all()
    rows = [s for s in range(1, steps) if min(s, steps - s) * stride >= window + horizon]
    assert {tuple(shifted) for shifted in totals[1:]} == {tuple(np.roll(totals[0], s)) for s in rows}
    assert len(totals) == 1 + len(rows)


def test_of_many_shifts_some_are_drawn_and_few_are_no_verdict(library: MinedLibrary) -> None:
    drawn = _shifts(MiningSettings("us-stocks", window=64), 100_000)
    assert len(set(drawn)) == SHIFTS
    assert min(drawn) >= 65
    assert max(drawn) <= 100_000 - 65
    few, enough = replace(library, shifts=18, p_value=1 / 19), replace(library, shifts=19, p_value=1 / 20)
    assert "too few rows out of sample to tell" in _verdict(few)
    assert _verdict(enough) == "better than chance"
    assert _verdict(replace(enough, p_value=0.3)) == "no better than chance"


def test_candidates_are_numbered_by_instrument_then_time() -> None:
    some = Candidates("us-stocks", window=4, first_end=3, stop_end=10, stride=3, instruments=2)
    instrument, end = some.place(np.arange(len(some)))
    assert instrument.tolist() == [0, 0, 0, 1, 1, 1]
    assert end.tolist() == [3, 6, 9, 3, 6, 9]


def test_file_holds_every_array(library: MinedLibrary, tmp_path: Path) -> None:
    path = tmp_path / "patterns.npz"
    save_library(path, SMALL, library)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["patterns"], library.patterns)
        assert '"window": 16' in str(stored["settings"])
    assert [file.name for file in tmp_path.iterdir()] == ["patterns.npz"]
    traded = library_of(Settings(patterns=str(path), window_steps=16), load_market("us-stocks"))
    np.testing.assert_array_equal(traded.patterns, library.patterns)
    np.testing.assert_array_equal(traded.forward_return, library.forward_return)
    with pytest.raises(ValueError, match="has patterns of 16 steps"):
        mined_library(path, 64)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(ValueError, match="write one with tradetui mine"):
        mined_library(path, 16)
    with pytest.raises(ValueError, match="No such file"):
        mined_library(tmp_path / "nowhere.npz", 16)


def at_another_time(data: MarketData, moved_ns: int) -> MarketData:
    return replace(data, ts_ns=data.ts_ns + moved_ns)


def test_patterns_of_the_future_that_is_traded_are_refused(library: MinedLibrary, tmp_path: Path) -> None:
    path, data = tmp_path / "patterns.npz", load_market("us-stocks")
    save_library(path, SMALL, library)
    mined = mined_library(path, 16)
    rows = data.layout.library_rows
    assert mined.span_ns == (data.ts_ns[0], data.ts_ns[rows - 1])
    assert mined.symbols == data.spec.symbols
    assert hindsight(mined, data) == ""
    # the first step that is traded is the last day of the library, or the day after
    trades_from = data.ts_ns[data.layout.first_trading_row]
    same_day = at_another_time(data, mined.span_ns[1] - trades_from)
    assert hindsight(mined, at_another_time(same_day, 1)) == ""
    with pytest.raises(ValueError, match="the returns of its own future"):
        hindsight(mined, same_day)
    strangers = replace(same_day.spec, instruments=tuple(Instrument(k, f"X{k}") for k in range(20)))
    assert hindsight(mined, replace(same_day, spec=strangers)) == HINDSIGHT
    assert hindsight(mined, at_another_time(data, mined.span_ns[0] - data.ts_ns[-1] - 1)) == HINDSIGHT
    settings = Settings(patterns=str(path), window_steps=16)
    with pytest.raises(ValueError, match="its own future"):
        Trader(settings, same_day, None, tmp_path, lambda severity, text: None)  # type: ignore[arg-type]


def test_a_library_without_dates_is_traded_under_a_caption(library: MinedLibrary, tmp_path: Path) -> None:
    path, old = tmp_path / "patterns.npz", tmp_path / "old.npz"
    save_library(path, SMALL, library)
    with np.load(path) as stored:
        np.savez(old, **{name: stored[name] for name in stored.files if name not in ("symbols", "span_ns")})
    for file, captioned in ((path, False), (old, True)):
        settings = Settings(patterns=str(file), window_steps=16)
        trader = Trader(settings, load_market("us-stocks"), None, tmp_path, lambda severity, text: None)  # type: ignore[arg-type]
        trader.close()
        assert (UNDATED in trader.captions) is captioned


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (MiningSettings("us-stocks", window=1), "window must be 2 or more"),
        (MiningSettings("us-stocks", patterns=0), "1 or more"),
        (MiningSettings("us-stocks", window=2_000), "too few for windows of 2000"),
    ],
)
def test_bad_settings_are_refused(settings: MiningSettings, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        mine(settings, LocalProcesses(1), tmp_path, silent)
