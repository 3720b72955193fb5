"""The durable log: what is synced comes back, a torn tail is cut, damage is refused by file and offset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from core.bench.log import bench_log
from net.log import ROOM_BYTES, DurableLog, LogDamaged, LogError, LogLocked
from net.log_records import SECTOR_BYTES

HEADER_BYTES = 16

RECORDS = [b"first", b"", b"x" * 5000, bytes(range(256))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with DurableLog(tmp_path / "node" / "log") as log:
        for record in RECORDS:
            log.append(record)
    return tmp_path / "node" / "log"


def test_records_come_back_in_order(path: Path) -> None:
    with DurableLog(path) as log:
        assert log.read_all() == RECORDS
        log.append(b"later")
        log.sync()
        assert log.read_all() == [*RECORDS, b"later"]
        assert log.torn_bytes == 0


def test_every_torn_tail_is_cut_and_the_log_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    last = HEADER_BYTES + len(RECORDS[-1])
    for missing in (1, 100, last - HEADER_BYTES, last - 5, last - 2):
        path.write_bytes(whole[:-missing])
        with DurableLog(path) as log:
            assert log.read_all() == RECORDS[:-1]
            assert log.torn_bytes == last - missing
            log.append(b"after")
        with DurableLog(path) as log:
            assert log.read_all() == [*RECORDS[:-1], b"after"]


def test_room_that_was_never_written_is_no_torn_tail(path: Path) -> None:
    whole = path.read_bytes()
    log = DurableLog(path)
    log.append(b"written")
    log.sync()
    assert path.stat().st_size > len(whole) + ROOM_BYTES // 2
    # As a killed process leaves it.
    left = path.read_bytes()
    log.close()
    assert path.stat().st_size == len(whole) + HEADER_BYTES + len(b"written")
    path.write_bytes(left)
    with DurableLog(path) as log:
        assert log.read_all() == [*RECORDS, b"written"]
        assert log.torn_bytes == 0


def batches_on_disk(path: Path, *batches: list[bytes]) -> bytes:
    """A log of these batches, each synced before the next."""
    with DurableLog(path) as log:
        for records in batches:
            for record in records:
                log.append(record)
            log.sync()
    return path.read_bytes()


def test_sectors_of_the_last_batch_that_never_reached_the_disk_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    promised = batches_on_disk(path, [b"promised" * 20, b"too" * 30])
    path.unlink()
    last = [bytes([number]) * 300 for number in range(1, 9)]
    whole = batches_on_disk(path, [b"promised" * 20, b"too" * 30], last)
    for first in range(len(promised), len(whole), SECTOR_BYTES):
        sector = first // SECTOR_BYTES * SECTOR_BYTES
        torn = bytearray(whole) + bytes(4096)
        for at in range(max(sector, len(promised)), min(sector + SECTOR_BYTES, len(whole))):
            torn[at] = 0
        path.write_bytes(bytes(torn))
        with DurableLog(path) as log:
            kept = log.read_all()
            assert kept[:2] == [b"promised" * 20, b"too" * 30]
            assert kept[2:] == last[: len(kept) - 2]
            assert len(kept) < 10
            assert log.torn_bytes
            log.append(b"after")
        with DurableLog(path) as log:
            assert log.read_all() == [*kept, b"after"]


def test_a_hole_in_what_was_synced_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = bytearray(batches_on_disk(path, [b"a" * 2000], [b"b" * 100], [b"c" * 100]))
    whole[SECTOR_BYTES : 2 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    path.write_bytes(bytes(whole))
    with pytest.raises(LogDamaged, match="after a sync"):
        DurableLog(path)
    assert path.read_bytes() == bytes(whole)


def test_every_flipped_bit_of_the_last_record_is_refused(path: Path) -> None:
    """It may be a vote: to forget it is to vote twice."""
    whole = path.read_bytes()
    first = len(whole) - HEADER_BYTES - len(RECORDS[-1])
    for at in range(first, len(whole)):
        damaged = bytearray(whole) + bytes(64)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(bytes(damaged))
        with pytest.raises(LogDamaged):
            DurableLog(path)


def test_a_flipped_bit_in_the_middle_is_refused_with_its_offset(path: Path) -> None:
    whole = path.read_bytes()
    starts = [8, 8 + HEADER_BYTES + 5, 8 + HEADER_BYTES + 5 + HEADER_BYTES]
    for start, inside in zip(starts, (17, 3, 40), strict=True):
        damaged = bytearray(whole)
        damaged[start + inside] ^= 0x10
        path.write_bytes(bytes(damaged))
        with pytest.raises(LogDamaged) as caught:
            DurableLog(path)
        assert caught.value.offset == start
        assert str(path) in str(caught.value)
        assert str(start) in str(caught.value)
        # The refused file is left as it was, and nobody holds it.
        assert path.read_bytes() == bytes(damaged)
    path.write_bytes(whole)
    with DurableLog(path) as log:
        assert log.read_all() == RECORDS


def test_a_strange_file_is_refused(tmp_path: Path) -> None:
    strange = tmp_path / "log"
    strange.write_bytes(b"not a log at all")
    with pytest.raises(LogDamaged, match="not a log"):
        DurableLog(strange)
    assert strange.read_bytes() == b"not a log at all"


def test_a_file_cut_inside_the_magic_starts_afresh(tmp_path: Path) -> None:
    cut = tmp_path / "log"
    cut.write_bytes(b"TTL")
    with DurableLog(cut) as log:
        log.append(b"one")
    with DurableLog(cut) as log:
        assert log.read_all() == [b"one"]


def test_two_owners_are_refused(path: Path) -> None:
    with DurableLog(path), pytest.raises(LogLocked, match="another process"):
        DurableLog(path)
    DurableLog(path).close()


def test_sync_calls_fdatasync_unless_durability_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fdatasync", synced.append)
    with DurableLog(path) as log:
        log.append(b"a")
        log.append(b"b")
        log.sync()
        assert len(synced) == 1
        log.sync()
        assert len(synced) == 1, "nothing new, nothing to sync"
    synced.clear()
    with DurableLog(path, durability="none") as log:
        log.append(b"c")
        log.sync()
        assert synced == []
        assert log.read_all()[-1] == b"c"


def fail(*_arguments: object) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(("broken", "says"), [("fdatasync", "cannot sync"), ("pwrite", "cannot write")])
def test_after_a_failed_write_or_sync_everything_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, says: str
) -> None:
    """The kernel may have dropped what was to be written, and calls the next sync a success."""
    log = DurableLog(path)
    log.append(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{broken}", fail)
        with pytest.raises(LogError, match=says):
            log.sync()
    attempts = (log.sync, log.flush, log.read_all, lambda: log.append(b"b"), lambda: log.rewrite([b"c"]))
    for attempt in attempts:
        with pytest.raises(LogError, match=f"refused after a failure: .*{says}"):
            attempt()
    log.close()
    with DurableLog(path) as again:
        assert again.read_all()[: len(RECORDS)] == RECORDS


def test_a_rewrite_whose_name_is_not_on_disk_is_a_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DurableLog(path) as log:
        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(LogError, match="cannot sync its folder"):
            log.rewrite([b"checkpoint"])
        with pytest.raises(LogError, match="refused"):
            log.append(b"later")


def test_a_rewrite_that_gets_no_file_leaves_the_log_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DurableLog(path) as log:
        with monkeypatch.context() as patch:
            patch.setattr("os.open", fail)
            with pytest.raises(OSError, match="Input/output error"):
                log.rewrite([b"checkpoint"])
        log.append(b"later")
        log.sync()
        assert log.read_all() == [*RECORDS, b"later"]


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="durability"):
        DurableLog(tmp_path / "log", durability="maybe")  # type: ignore[arg-type]
    with DurableLog(tmp_path / "log") as log, pytest.raises(ValueError, match="above the limit"):
        log.append(bytes(64 * 1024 * 1024 + 1))


def test_a_rewritten_log_holds_the_new_records_alone_and_stays_locked(path: Path) -> None:
    with DurableLog(path) as log:
        log.append(b"never synced")
        log.rewrite([b"checkpoint", b"after"])
        log.append(b"later")
        log.sync()
        assert log.read_all() == [b"checkpoint", b"after", b"later"]
        with pytest.raises(LogLocked):
            DurableLog(path)
    with DurableLog(path) as log:
        assert log.read_all() == [b"checkpoint", b"after", b"later"]


def test_a_rewrite_that_fails_leaves_the_log_as_it_was(path: Path) -> None:
    def records() -> Iterator[bytes]:
        yield b"checkpoint"
        raise OSError("no space")

    with DurableLog(path) as log:
        with pytest.raises(OSError, match="no space"):
            log.rewrite(records())
        assert [file.name for file in path.parent.iterdir()] == [path.name], "its copy is in nobody's way"
        log.append(b"later")
        log.sync()
        assert log.read_all() == [*RECORDS, b"later"]


def test_the_bench_measures_stores_side_by_side(tmp_path: Path) -> None:
    bench_log(6, tmp_path / "log.json", Console(quiet=True), slice_s=0.02)
    rows = json.loads((tmp_path / "log.json").read_text())["rows"]
    against_sqlite = [row["name"] for row in rows if row["against"].startswith("SQLite")]
    assert against_sqlite == ["log.append_synced", "log.append_synced.4_processes"]
    assert all(0 < row["ratio_lo"] <= row["ratio"] <= row["ratio_hi"] for row in rows)
