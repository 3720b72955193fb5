"""The rows that benchmarks write: medians, ratios, intervals, turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.bench.rows import Row, interleaved, median_interval, row_of_pairs, write_rows


def test_interval_of_the_median_has_the_published_ranks() -> None:
    # Conover's tables: the ranks of the shortest symmetric interval that covers 95 %
    for n, ranks in ((6, (1, 6)), (9, (2, 8)), (10, (2, 9)), (15, (4, 12)), (20, (6, 15)), (50, (18, 33))):
        assert median_interval([float(i) for i in range(n, 0, -1)]) == ranks
    with pytest.raises(ValueError, match="5 values"):
        median_interval([1.0] * 5)


def test_ratio_says_how_many_times_better_ours_is() -> None:
    ours, theirs = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0], [3.0, 8.0, 4.0, 6.0, 5.0, 10.0]
    row = row_of_pairs("x", "us", ours, "them", theirs)
    assert row == Row("x", "us", 1.5, "them", 5.5, 4.0, 3.0, 5.0)
    row = row_of_pairs("x", "1/s", theirs, "them", ours, higher_is_better=True)
    assert (row.ours, row.ratio) == (5.5, 4.0)
    for bad in ([1.0] * 5, [0.0] * 6):
        with pytest.raises(ValueError, match="x: "):
            row_of_pairs("x", "us", bad, "them", theirs)


def test_sides_take_turns_to_go_first() -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    sides = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    seconds = interleaved(sides, 3, clock=lambda: float(next(ticks)))
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_document_has_the_contract_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write_rows(path, {"rounds": 7}, [Row("x", "us", 1.0)])
    document = json.loads(path.read_text())
    assert set(document) == {"machine", "settings", "rows"}
    assert document["settings"]["rounds"] == 7
    assert set(document["rows"][0]) == {"name", "unit", "ours", "against", "theirs", "ratio", "ratio_lo", "ratio_hi"}
    assert document["rows"][0]["against"] is None
