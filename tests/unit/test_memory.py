"""The ReasoningBank: exact search, lessons, verdicts, bounds, and life after a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from core.memory import BankConfig, Learned, ReasoningBank, Trajectories, VerdictConfig, record_of_side, verdict
from core.memory.rows import CHECKPOINT_EVERY_COMMITS, MemoryFileError
from core.portfolio import ClosedTrade

INSTRUMENTS, DIMENSIONS = 4, 8


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def trade(number: int, step: int, profit: int, instrument: int = 0, side: int = 1) -> ClosedTrade:
    return ClosedTrade(
        instrument,
        side,
        1,
        step,
        step + 1,
        10_000,
        10_000 + side * profit,
        0,
        profit,
        f"o{number}",
        f"c{number}",
        number,
    )


def filled_bank(path: Path, trades: int, config: BankConfig | None = None, seed: int = 0) -> ReasoningBank:
    """A bank that learned `trades` trades, four a step, with profits that differ from trade to trade."""
    rng = np.random.default_rng(seed)
    bank = ReasoningBank(path, INSTRUMENTS, DIMENSIONS, config=config)
    for step in range(-(-trades // INSTRUMENTS)):
        bank.observe(step, unit(rng, INSTRUMENTS), rng.uniform(-1, 1, (INSTRUMENTS, 6)))
        numbers = range(step * INSTRUMENTS, min((step + 1) * INSTRUMENTS, trades))
        bank.learn([trade(n, step, 100 + n, instrument=n % INSTRUMENTS) for n in numbers])
    return bank


@pytest.mark.parametrize("trades", [1, 5, 33, 700])
def test_search_equals_brute_force(tmp_path: Path, trades: int) -> None:
    bank = filled_bank(tmp_path / "m.sqlite", trades)
    stored = bank._situations[:trades]
    queries = unit(np.random.default_rng(9), 20)
    k = 6
    indices, similarity = bank.vector_search(queries, k)
    cosine = queries @ stored.T
    expected = -np.sort(-cosine, axis=1)[:, :k]
    found = min(k, trades)
    np.testing.assert_allclose(similarity[:, :found], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosine, indices[:, :found], axis=1), expected, rtol=1e-5, atol=1e-6)
    assert (indices[:, found:] == -1).all()
    assert all(len(set(row[:found])) == found for row in indices.tolist())
    bank.close()


def test_an_empty_bank_finds_nothing_and_changes_no_weight(tmp_path: Path) -> None:
    bank = ReasoningBank(tmp_path / "m.sqlite", INSTRUMENTS, DIMENSIONS)
    trajectories = bank.trajectory_lookup(*bank.vector_search(unit(np.random.default_rng(0), 3)))
    assert (verdict(trajectories) == 1.0).all()
    with pytest.raises(ValueError, match="k = 0"):
        bank.vector_search(unit(np.random.default_rng(0), 3), 0)
    bank.close()


def test_it_remembers_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.sqlite"
    bank = filled_bank(path, 50)
    queries = unit(np.random.default_rng(5), 7)
    before = bank.trajectory_lookup(*bank.vector_search(queries))
    bank.close()
    again = ReasoningBank(path, INSTRUMENTS, DIMENSIONS)
    assert len(again) == 50
    after = again.trajectory_lookup(*again.vector_search(queries))
    for name in ("similarity", "votes", "side", "outcome"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    again.close()


def test_a_kill_after_learn_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    bank = filled_bank(path, 12)
    copies = tmp_path / "killed"
    copies.mkdir()
    for file in tmp_path.glob("m.sqlite*"):  # what the disk holds while the process has not closed anything
        (copies / file.name).write_bytes(file.read_bytes())
    survivor = ReasoningBank(copies / "m.sqlite", INSTRUMENTS, DIMENSIONS)
    assert len(survivor) == 12
    survivor.close()
    bank.close()


def test_wins_losses_and_what_teaches_nothing(tmp_path: Path) -> None:
    bank = ReasoningBank(tmp_path / "m.sqlite", INSTRUMENTS, DIMENSIONS)
    bank.observe(3, unit(np.random.default_rng(0), INSTRUMENTS), np.zeros((INSTRUMENTS, 6)))
    closed = [trade(1, 3, 200), trade(2, 3, -200), trade(3, 3, 1), trade(4, 99, 200), trade(1, 3, 200)]
    assert bank.learn(closed) == Learned(wins=1, losses=1, skipped=3)
    assert bank.learn(closed) == Learned(wins=0, losses=0, skipped=5)
    assert bank.learn([]) == Learned(0, 0, 0)
    bank.close()
    with sqlite3.connect(tmp_path / "m.sqlite") as connection:
        assert connection.execute("SELECT profit FROM lesson ORDER BY slot").fetchall() == [(200,), (-200,)]


def test_capacity_holds_in_memory_and_in_the_file_and_the_dull_go_first(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    config = BankConfig(capacity=128)
    bank = filled_bank(path, 1000, config)
    assert len(bank) == 128
    assert bank._file.count() == 128
    serials = np.sort(bank._serial[:128])
    assert serials[-1] == 999
    assert len(np.unique(serials)) == 128
    assert len(bank._keys) == 128
    situations, votes = bank._situations.copy(), bank._votes.copy()
    bank.close()
    again = ReasoningBank(path, INSTRUMENTS, DIMENSIONS, config=config)
    np.testing.assert_array_equal(again._situations, situations)
    np.testing.assert_array_equal(again._votes, votes)
    again.close()


def test_of_the_old_the_useful_stay(tmp_path: Path) -> None:
    bank = ReasoningBank(tmp_path / "m.sqlite", INSTRUMENTS, DIMENSIONS, config=BankConfig(capacity=128))
    rng = np.random.default_rng(0)
    bank.observe(0, unit(rng, INSTRUMENTS), np.zeros((INSTRUMENTS, 6)))
    for number in range(128):
        bank.learn([trade(number, 0, 1000 if number == 5 else 10)])
    for number in range(128, 128 + 60):
        bank.learn([trade(number, 0, 20)])
    assert 5 in bank._serial
    assert 6 not in bank._serial
    bank.close()


def test_one_call_with_more_than_fits_keeps_the_last(tmp_path: Path) -> None:
    bank = filled_bank(tmp_path / "m.sqlite", 128, BankConfig(capacity=128))
    bank.observe(500, unit(np.random.default_rng(1), INSTRUMENTS), np.zeros((INSTRUMENTS, 6)))
    learned = bank.learn([trade(n, 500, 77) for n in range(1000, 1400)])
    assert (learned.wins, learned.skipped) == (32, 368)
    assert len(bank) == 128
    bank.close()


def test_a_smaller_capacity_keeps_the_youngest(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    filled_bank(path, 300).close()
    small = ReasoningBank(path, INSTRUMENTS, DIMENSIONS, config=BankConfig(capacity=128))
    assert len(small) == 128
    assert small._serial[:128].min() == 172
    assert small._file.count() == 128
    small.close()


def test_checkpoints_keep_the_log_short(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    bank = filled_bank(path, INSTRUMENTS * CHECKPOINT_EVERY_COMMITS * 2)
    assert bank.problem == ""
    bank.close()
    wal = Path(f"{path}-wal")
    assert not wal.exists() or wal.stat().st_size == 0
    bank.close()  # twice is fine


def test_a_foreign_or_mismatched_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and long enough to look like a file of some kind" * 20)
    with pytest.raises(MemoryFileError, match="move the file away"):
        ReasoningBank(tmp_path / "text", INSTRUMENTS, DIMENSIONS)
    filled_bank(tmp_path / "m.sqlite", 4).close()
    with pytest.raises(MemoryFileError, match="shape"):
        ReasoningBank(tmp_path / "m.sqlite", INSTRUMENTS, DIMENSIONS + 1)
    with pytest.raises(ValueError, match="capacity"):
        BankConfig(capacity=1)


def test_a_file_that_somebody_holds_is_an_error_at_once_and_nothing_is_learned(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    bank = filled_bank(path, 4)
    bank.observe(9, unit(np.random.default_rng(1), INSTRUMENTS), np.zeros((INSTRUMENTS, 6)))
    assert bank._file._connection.execute("PRAGMA busy_timeout").fetchone() == (0,), "it would wait for the lock"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    digest = bank.digest
    with pytest.raises(MemoryFileError, match=r"m\.sqlite cannot be written: database is locked"):
        bank.learn([trade(100, 9, 200)])
    assert (len(bank), bank.digest) == (4, digest)
    other.execute("ROLLBACK")
    assert bank.learn([trade(100, 9, 200)]).wins == 1
    other.close()
    bank.close()


def test_a_full_disk_is_an_error_and_nothing_is_learned(tmp_path: Path) -> None:
    bank = filled_bank(tmp_path / "m.sqlite", 4)
    bank.observe(9, unit(np.random.default_rng(1), INSTRUMENTS), np.zeros((INSTRUMENTS, 6)))
    trades = [trade(number, 9, 200) for number in range(100, 400)]
    pages = bank._file._connection.execute("PRAGMA page_count").fetchone()[0]
    bank._file._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(MemoryFileError, match="full"):
        bank.learn(trades)
    assert len(bank) == bank._file.count() == 4
    bank._file._connection.execute("PRAGMA max_page_count=1000000")
    assert bank.learn(trades).wins == 300
    bank.close()


def one_memory(vote: float, side: int, outcome: float) -> Trajectories:
    votes = np.zeros((1, 1, 6), np.float32)
    votes[0, 0, 2] = vote
    return Trajectories(
        np.ones((1, 1), np.float32), votes, np.array([[side]], np.int8), np.array([[outcome]], np.float32)
    )


@pytest.mark.parametrize(
    ("vote", "side", "outcome", "trust"),
    [(1, 1, 0.8, 1), (1, 1, -0.8, -1), (-1, 1, -0.8, 1), (-1, -1, 0.8, 1), (1, -1, 0.8, -1), (0, 1, 0.8, 0)],
)
def test_the_verdict_trusts_who_was_right(vote: int, side: int, outcome: float, trust: int) -> None:
    weights = verdict(one_memory(vote, side, outcome))
    assert np.sign(weights[0, 2] - 1.0) == trust
    assert (np.delete(weights, 2, axis=1) == 1.0).all()


def test_the_verdict_is_bounded() -> None:
    config = VerdictConfig(strength=100.0)
    assert verdict(one_memory(1, 1, 1.0), config)[0, 2] == config.weight_max
    assert verdict(one_memory(1, 1, -1.0), config)[0, 2] == config.weight_min


def test_the_record_of_a_side_ignores_the_other() -> None:
    trajectories = Trajectories(
        np.array([[1.0, 0.5, 0.9]], np.float32),
        np.zeros((1, 3, 6), np.float32),
        np.array([[1, 1, -1]], np.int8),
        np.array([[-1.0, 0.5, 0.9]], np.float32),
    )
    mean, evidence = record_of_side(trajectories, np.array([1], np.int8))
    assert mean[0] == pytest.approx(-0.75 / 1.5)
    assert evidence[0] == pytest.approx(1.5)
    assert record_of_side(trajectories, np.array([0], np.int8))[0][0] == 0.0
