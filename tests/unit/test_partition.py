"""A recording as memory-mapped partitions: the numbers of the whole, within little memory, and the same refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.market.errors import MarketDataError
from core.market.load import DATA_DIRECTORY, load_market
from core.mining_input import closes_of, partitions_of
from tests.large_panel import INSTRUMENTS, LIMITED, STEPS, write_panel


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; numba's is chosen already."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tradetui" / "partitions"


def panel(path: Path, rows: list[tuple[object, str, object]], time: str = "ts_ns") -> str:
    lines = [f"{t},{name},{close}" for t, name, close in rows]
    path.write_text(f"{time},instrument,close\n" + "\n".join(lines) + "\n")
    return str(path)


def walk(decimals: int, names: str = "AB", steps: int = 200) -> list[tuple[object, str, object]]:
    prices = 100.0 * np.exp(np.random.default_rng(decimals).standard_normal((len(names), steps)).cumsum(axis=1) * 0.01)
    return [
        (10**9 * (step + 1), name, f"{prices[k, step]:.{decimals}f}")
        for step in range(steps)
        for k, name in enumerate(names)
    ]


def whole(source: str) -> np.ndarray:
    data = load_market(source)
    return data.closes(0, data.layout.library_rows)


@pytest.mark.parametrize("decimals", [0, 2, 5, 12])
def test_a_panel_has_the_numbers_of_the_whole_recording(tmp_path: Path, decimals: int) -> None:
    source = panel(tmp_path / "panel.csv", walk(decimals))
    found = closes_of(source)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, whole(source))


def test_shipped_recordings_and_their_files_are_one(tmp_path: Path) -> None:
    for market, file in (("us-stocks", "us_stocks_daily.parquet"), ("futures-ticks", "futures_ticks.parquet")):
        path = tmp_path / file
        path.write_bytes((DATA_DIRECTORY / file).read_bytes())
        np.testing.assert_array_equal(closes_of(market), whole(market))
        if market == "us-stocks":
            # by the streaming way, though in ticks found out from the data
            np.testing.assert_array_equal(closes_of(str(path)), whole(str(path)))


def test_rows_may_come_in_any_order(tmp_path: Path) -> None:
    rows = walk(2)
    source = panel(tmp_path / "sorted.csv", rows)
    mixed = [rows[k] for k in np.random.default_rng(1).permutation(len(rows))]
    np.testing.assert_array_equal(closes_of(panel(tmp_path / "mixed.csv", mixed)), closes_of(source))
    data, found = load_market(source), partitions_of(source)
    assert found.symbols == data.spec.symbols
    assert found.span_ns == (data.ts_ns[0], data.ts_ns[data.layout.library_rows - 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "has no row"),
        (lambda rows: [*rows, rows[7]], "has two rows at|has no row"),
        (lambda rows: [*rows[:9], (rows[9][0], "A", "-1"), *rows[10:]], "not a finite number above 0"),
        (
            lambda rows: [*rows[:9], (rows[9][0], "A", "much"), *rows[10:]],
            "missing or are of another kind|CSV Error on Line: 11",
        ),
        (lambda rows: [*rows[:9], (rows[9][0], "A", "1,234.5"), *rows[10:]], "more values than the header"),
        (lambda rows: rows[:100], "50 steps are too few"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path, change, message: str) -> None:
    source = panel(tmp_path / "panel.csv", change(walk(2)))
    with pytest.raises(MarketDataError, match=message):
        closes_of(source)
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_another_recording_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "panel.csv"
    source = panel(path, walk(2))
    digest = partitions_of(source).digest
    np.testing.assert_array_equal(closes_of(source, digest), closes_of(source))
    panel(path, walk(3))
    with pytest.raises(ValueError, match="is another recording on"):
        closes_of(source, digest)
    np.testing.assert_array_equal(closes_of(source), whole(source))


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED + code], capture_output=True, text=True, timeout=200, check=False
    )


@pytest.mark.prove
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds memory on Linux alone")
def test_a_panel_larger_than_memory_is_mined_within_it(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    write_panel(path)
    # the whole does not fit
    loaded = run(f"from core.market.load import load_market; load_market({str(path)!r})")
    assert loaded.returncode != 0, loaded.stdout
    assert "emory" in loaded.stderr or "bad_alloc" in loaded.stderr or loaded.returncode < 0, loaded.stderr
    mined = run(
        f"""
from core.mining_workers import LocalProcesses
settings = mining.MiningSettings({str(path)!r}, window=16, patterns=20, stride=100, iterations=1)
library = mining.mine(settings, LocalProcesses(1), Path({str(tmp_path / "work")!r}), lambda *_: None)
print(int(library.members.sum()), flush=True)
"""
    )
    assert mined.returncode == 0, mined.stderr
    rows = int(STEPS * 0.4 * 0.7)
    assert int(mined.stdout) == INSTRUMENTS * -(-(rows - 1 - 15) // 100)
    np.testing.assert_array_equal(closes_of(str(path)), whole(str(path)))
