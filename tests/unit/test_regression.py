"""Comparing two profiles: a slowdown of one span is found, two profiles of the same code pass."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from core.commands.compare import verdict, word
from core.profile_series import FORMAT, ROWS, load_series, own_times, save_series
from core.regression import compare
from core.session import SessionError
from core.spans import INDEX
from core.toggles import BASELINE, OPTIMISED
from tests.recorded_session import recorded_session
from tests.recorded_spans import drawn_own_ms, slowed
from tests.tui.recorded import load

CYCLES = 300
REPEATS = 20
SPAN = "market_data_ingestion"


def test_ten_per_cent_in_one_span_of_300_cycles_is_found():
    found = 0
    for seed in range(REPEATS):
        before, after = drawn_own_ms(CYCLES, seed), drawn_own_ms(CYCLES, 1_000 + seed)
        result = compare(before, slowed(after, SPAN, 0.10), seed, resamples=500)
        found += SPAN in [change.name for change in result.slowdowns]
        assert result.before_cycles == result.after_cycles == CYCLES
    assert found >= REPEATS - 1


def test_pairs_of_the_same_code_pass():
    """One false alarm of 20 in any of the 30 rows is what a family error of 5 % lets happen."""
    alarms = []
    for seed in range(REPEATS):
        result = compare(drawn_own_ms(CYCLES, 2_000 + seed), drawn_own_ms(CYCLES, 3_000 + seed), seed, resamples=500)
        alarms += [change.name for change in result.slowdowns]
    assert len(alarms) <= 1, alarms


def test_a_profile_does_not_differ_from_itself():
    own_ms = drawn_own_ms(CYCLES, 1)
    result = compare(own_ms, own_ms, 1)
    assert not any(change.significant for change in result.changes)
    assert {change.ratio for change in result.changes} <= {1.0, None}


def test_the_same_seed_gives_the_same_intervals():
    before, after = drawn_own_ms(60, 1), drawn_own_ms(60, 2)
    assert compare(before, after, 7) == compare(before, after, 7)


def test_what_is_sure_and_small_does_not_count():
    random = np.random.default_rng(1)
    before = np.exp(random.normal(0, 0.001, (100, len(ROWS))))
    after = before.copy()
    after[:, 5] *= 1.03
    after[:, 6] *= 1.08
    after[:, 7] *= 0.50
    result = compare(before, after, 1)
    assert [change.name for change in result.slowdowns] == [ROWS[6]]
    assert [change.name for change in result.changes if change.significant] == [ROWS[5], ROWS[6], ROWS[7]]
    assert [change.name for change in compare(before, after, 1, threshold=0.0).slowdowns] == [ROWS[5], ROWS[6]]


def test_a_span_that_does_not_run_has_no_ratio():
    own_ms = drawn_own_ms(60, 1)
    own_ms[:, 4] = 0.0
    change = compare(own_ms, own_ms, 1).changes[4]
    assert change.ratio is None
    assert not change.slowdown


def test_a_span_that_took_nothing_and_is_expensive_now_is_a_slowdown():
    before, after = drawn_own_ms(60, 1), drawn_own_ms(60, 2)
    cycle_ms = before[:, 0].mean()
    before[:, 4] = 0.0
    after[:, 4] = 0.2 * cycle_ms
    after[::2, 5] = before[::2, 5] = before[:, 6] = 0.0
    after[:, 6] = 0.001 * cycle_ms  # new, and not worth a word
    result = compare(before, after, 1)
    change = result.changes[4]
    assert change.slowdown
    assert change.ratio is None
    assert change.difference_ms == pytest.approx(0.2 * cycle_ms)
    assert change.difference_low_ms is not None
    assert change.difference_low_ms > 0.0
    assert word(change) == "SLOWER"
    assert f"{ROWS[4]} 0.000 → " in verdict(result)
    assert (result.changes[6].significant, result.changes[6].slowdown) == (True, False)
    gone = compare(after, before, 1).changes[4]
    assert (gone.slowdown, word(gone)) == (False, "faster")


@pytest.mark.filterwarnings("error")
def test_a_span_that_ran_in_just_over_half_of_the_cycles_has_a_finite_interval():
    before, after = drawn_own_ms(60, 1), drawn_own_ms(60, 2)
    before[:29, 4] = after[:29, 4] = 0.0
    result = compare(before, after, 1)
    json.dumps([asdict(change) for change in result.changes], allow_nan=False)
    assert result.changes[4].difference_ms is not None
    assert not result.changes[4].slowdown


def test_bad_tables_are_refused():
    good = drawn_own_ms(60, 1)
    with pytest.raises(ValueError, match="after: want"):
        compare(good, good[:29], 1)
    with pytest.raises(ValueError, match="before: want"):
        compare(good[:, :-1], good, 1)


def test_a_kept_profile_says_the_same_as_its_session(tmp_path):
    session = recorded_session(tmp_path / "session")
    sides = load_series(session.directory)
    assert list(sides) == [OPTIMISED, BASELINE]
    save_series(sides[OPTIMISED], tmp_path / "kept.json")
    kept = load_series(tmp_path / "kept.json")[OPTIMISED]
    assert np.allclose(kept.own_ms, sides[OPTIMISED].own_ms, atol=1e-6)
    assert replace(kept, own_ms=sides[OPTIMISED].own_ms) == sides[OPTIMISED]
    assert np.allclose(kept.own_ms[:, 1:].sum(axis=1), kept.own_ms[:, 0], atol=1e-3), "own times sum to wall time"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "something else"}, FORMAT),
        ({"own_ns": {}}, "its spans are not"),
        ({"own_ns": {row: [1] * 5 for row in ROWS}}, "20 cycles or more"),
        ({"own_ns": {row: [-1] * 50 for row in ROWS}}, "0 or more"),
        ({"toggles": {"turbo": True}}, "turbo"),
    ],
)
def test_a_damaged_profile_is_refused_with_its_name(tmp_path, change, said):
    session = recorded_session(tmp_path / "session")
    path = tmp_path / "kept.json"
    save_series(load_series(session.directory)[OPTIMISED], path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SessionError, match=said) as raised:
        load_series(path)
    assert "kept.json" in str(raised.value)


def run(*words: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "tui.commands", "compare", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, " ".join(done.stderr.split())


def test_the_exit_code_tells_a_slowdown(tmp_path):
    """As CI uses it: a kept baseline against a session; one span made three times as slow."""
    cycles = [record for record in load()[0].cycles if record.toggles == OPTIMISED]
    span = INDEX["risk_exposure_checks"]
    slow = []
    for record in cycles:
        own = record.exclusive_ms.copy()
        further = own[span] * 2 + record.wall_ms * 0.01
        own[span] += further
        slow.append(replace(record, exclusive_ms=own, wall_ms=record.wall_ms + further))
    before, after = recorded_session(tmp_path / "a", cycles), recorded_session(tmp_path / "b", slow)
    assert own_times(slow)[:, span] == pytest.approx(own_times(cycles)[:, span] * 3 + own_times(cycles)[:, 0] * 0.01)
    code, said = run(before.directory, "--keep", tmp_path / "kept.json")
    assert (code, "247 cycles of a" in said or "kept.json" in said) == (0, True)
    assert run(before.directory, before.directory)[0] == 0
    code, said = run(tmp_path / "kept.json", after.directory, "--json", tmp_path / "out.json")
    assert code == 1
    assert "slower by 5% or more: risk_exposure_checks" in said
    document = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in document["spans"] if row["slowdown"]] == ["risk_exposure_checks"]
    assert run(tmp_path / "kept.json", after.directory, "--print-only")[0] == 0


def test_the_command_says_what_it_cannot_compare(tmp_path):
    session = recorded_session(tmp_path / "session")
    assert run(session.directory) == (2, "tradetui: compare wants two sessions or profiles, or one and --keep FILE")
    code, said = run(session.directory, session.directory, "--toggles", "optimised,b=off")
    assert code == 2
    assert "no setting with enough cycles" in said
    code, said = run(tmp_path / "nothing.json", session.directory)
    assert code == 2
    assert "No such file" in said
