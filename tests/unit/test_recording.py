"""A recording gives back what was written, as of any moment, and the figures of it byte for byte."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest

import core.recording
from core.profile_export import write_spans
from core.recorder import Recorder
from core.recording import ARRAYS, TABLES, Recording, RecordingError
from core.records import OrderRow, SwarmSnapshot
from core.replay import Replay, write_csv
from core.telemetry_messages import cycle_to_dict
from tests.tui.fixtures import FakeSession


def written(recorder: Recorder, snapshot: SwarmSnapshot, changed: list[OrderRow] | None = None) -> int:
    """Record this moment by itself."""
    recorder.take(snapshot, changed)
    return recorder.write()


def record(path: Path, ticks: int = 12, bytes_max: int = 10**9) -> list[SwarmSnapshot]:
    """Record an invented session, some cycles a tick; returns what a live monitor would have seen at each."""
    session = FakeSession(seed=5)
    recording = Recording(path)
    recorder = Recorder(recording, bytes_max)
    seen = []
    for tick in range(ticks):
        if tick == ticks // 2:
            session.now_ns += 1  # after the monitor looked last
            session.press("b")
        session.advance(9)
        snapshot = session.snapshot()
        written(recorder, snapshot)
        seen.append(snapshot)
    recording.close()
    return seen


def opened(path: Path, now_s: list[float] | None = None) -> Replay:
    times = now_s or [0.0]
    return Replay(Recording(path, read_only=True), 1.0, clock=lambda: times[0])


def test_each_moment_is_what_a_monitor_saw_then(tmp_path):
    path = tmp_path / "recording.duckdb"
    live = record(path)
    replay = opened(path)
    for snapshot in live:
        replay.seek(snapshot.taken_ns)
        shown = replay.snapshot()
        assert [cycle_to_dict(a) for a in shown.cycles] == [cycle_to_dict(b) for b in snapshot.cycles]
        assert shown.nodes == snapshot.nodes
        assert shown.positions == snapshot.positions
        assert shown.events == snapshot.events
        assert shown.orders == snapshot.orders
        assert shown.toggles == snapshot.toggles
        assert (shown.equity, shown.captions, shown.leader) == (snapshot.equity, snapshot.captions, snapshot.leader)


def test_a_seek_shows_what_was_shown_from_the_start_and_reads_no_cycle_twice(tmp_path, monkeypatch):
    """Forth and back by any distance, with more cycles than are shown."""
    path, keep = tmp_path / "recording.duckdb", 40
    live = record(path)
    recording = Recording(path, read_only=True)
    read: list[int] = []
    cycles_of = core.recording._cycles_of

    def counted(columns):
        read.append(len(columns["cycle"]))
        return cycles_of(columns)

    monkeypatch.setattr(core.recording, "_cycles_of", counted)
    for tick, new in ((3, 36), (3, 0), (5, 18), (11, 40), (10, 9), (9, 9), (2, 27), (0, 0), (11, 40)):
        at_ns = live[tick].taken_ns
        read.clear()
        shown = recording.snapshot(at_ns, keep, 100, 100).cycles
        assert read == [new] or (not new and not sum(read)), tick
        wanted = live[tick].cycles[-keep:]
        assert [cycle_to_dict(each) for each in shown] == [cycle_to_dict(each) for each in wanted]
        assert all(getattr(shown[0], name).flags.c_contiguous for name in ARRAYS)


def test_the_csv_is_the_same_byte_for_byte(tmp_path):
    path = tmp_path / "recording.duckdb"
    live = record(path)
    for snapshot in (live[3], live[-1]):
        write_spans(tmp_path / "live.csv", snapshot)
        write_csv(opened(path), snapshot.cycles[-1].cycle, tmp_path / "replayed.csv")
        assert (tmp_path / "replayed.csv").read_bytes() == (tmp_path / "live.csv").read_bytes()
    assert (tmp_path / "live.csv").read_text().startswith("span,cycles,count")


def test_a_cycle_from_before_the_first_state_is_shown_as_of_its_end(tmp_path):
    """A recorder that was killed before its first write takes in what the nodes still keep."""
    path = tmp_path / "recording.duckdb"
    live = record(path, ticks=1)[0]
    for cycle in (3, 7):
        replay = opened(path)
        replay.seek_to_cycle(cycle)
        assert [record.cycle for record in replay.snapshot().cycles] == list(range(1, cycle + 1))
        assert replay.snapshot().taken_ns == replay.now_ns < live.taken_ns


def test_replay_goes_at_its_speed_and_stops_at_the_end(tmp_path):
    path = tmp_path / "recording.duckdb"
    live = record(path)
    now_s = [100.0]
    replay = opened(path, now_s)
    began_ns = replay.now_ns
    assert began_ns < live[0].taken_ns
    assert [record.cycle for record in replay.snapshot().cycles] == [1]
    now_s[0] += (live[4].taken_ns - began_ns) / 1e9
    assert replay.snapshot().cycles[-1].cycle in (44, 45)
    now_s[0] += 1e6
    assert replay.snapshot().cycles[-1].cycle == 108
    replay.seek(0)
    assert replay.now_ns == began_ns


def test_a_recording_goes_on_after_the_recorder_was_started_again(tmp_path):
    path = tmp_path / "recording.duckdb"
    session = FakeSession(seed=5, cycles=30)
    for _ in range(2):
        recording = Recording(path)
        written(Recorder(recording, 10**9), session.snapshot())
        assert recording.newest_cycles(1) == {session.cycle}
        recording.close()
        session.advance(10)
    replay = opened(path)
    replay.seek(replay.last_ns)
    assert [record.cycle for record in replay.snapshot().cycles] == list(range(1, 41))


def test_cycles_that_came_late_are_recorded_and_those_that_had_to_go_are_not(tmp_path):
    session = FakeSession(seed=5, cycles=30)
    snapshot = session.snapshot()
    recording = Recording(tmp_path / "recording.duckdb")
    recorder = Recorder(recording, 10**9)
    written(recorder, replace(snapshot, cycles=snapshot.cycles[20:28]))
    written(recorder, snapshot)
    assert recording.newest_cycles(100) == set(range(1, 31))
    gone = recording.drop_older_half()
    assert gone > 10
    left = recording.newest_cycles(100)
    written(Recorder(recording, 10**9), snapshot)
    assert recording.newest_cycles(100) == left
    recording.close()


def test_a_recorder_that_hears_of_old_cycles_bit_by_bit_records_none_twice(tmp_path):
    """Who is started again is told of what nodes keep, some hundreds a push."""
    session = FakeSession(seed=5, cycles=30)
    snapshot = session.snapshot()
    recording = Recording(tmp_path / "recording.duckdb")
    written(Recorder(recording, 10**9), snapshot)
    again = Recorder(recording, 10**9)
    for heard in (0, 10, 20, 30):
        written(again, replace(snapshot, cycles=snapshot.cycles[:heard]))
    assert recording.cycle_count() == 30
    recording.close()


def test_no_event_is_recorded_twice_by_a_recorder_that_was_started_again(tmp_path):
    """Whoever attaches is told of the session's events from the first one on."""
    path = tmp_path / "recording.duckdb"
    session = FakeSession(seed=5, cycles=30)
    for sentence in ("node 1 is back", "node 3 is back"):
        recording = Recording(path)
        written(Recorder(recording, 10**9), session.snapshot())
        recording.close()
        session.now_ns += 1
        session.event("supervisor", sentence)
    recording = Recording(path)
    recorder = Recorder(recording, 10**9)
    written(recorder, session.snapshot())
    session.advance(1)
    written(recorder, session.snapshot())
    recording.close()
    replay = opened(path)
    replay.seek(replay.last_ns)
    assert replay.snapshot().events == tuple(session.events)


def test_orders_that_a_snapshot_has_no_room_for_are_recorded(tmp_path):
    path = tmp_path / "recording.duckdb"
    session = FakeSession(seed=5, cycles=30)
    snapshot = session.snapshot()
    changed = [replace(snapshot.orders[0], client_order_id=f"o-{number}") for number in range(900)]
    recording = Recording(path)
    recorder = Recorder(recording, 10**9)
    written(recorder, snapshot, changed)
    written(recorder, snapshot, changed[-200:])  # whoever connects anew is told of the last ones again
    recording.close()
    with duckdb.connect(str(path), read_only=True) as db:
        assert db.execute("SELECT count(*), count(DISTINCT client_order_id) FROM orders").fetchone() == (900, 900)


def test_moments_written_together_are_as_those_written_one_by_one(tmp_path):
    session = FakeSession(seed=5, cycles=30)
    recordings = [Recording(tmp_path / name) for name in ("one by one", "together")]
    recorders = [Recorder(recording, 10**9) for recording in recordings]
    for _ in range(6):
        session.advance(9)
        session.event("supervisor", f"cycle {session.cycle}")
        written(recorders[0], session.snapshot())
        recorders[1].take(session.snapshot())
    assert recordings[1].cycle_count() == 0
    assert recorders[1].waiting == 6
    recorders[1].write()
    assert recorders[1].waiting == 0
    tables = []
    for recording in recordings:
        recording.close()
        with duckdb.connect(str(recording.path), read_only=True) as db:
            tables.append({name: db.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES})
    assert tables[0] == tables[1]
    assert all(tables[0].values())


def test_the_recording_is_bounded_by_forgetting_the_oldest(tmp_path):
    path = tmp_path / "recording.duckdb"
    live = record(path, ticks=10, bytes_max=1)
    replay = opened(path)
    replay.seek(replay.last_ns)
    cycles = [record.cycle for record in replay.snapshot().cycles]
    assert cycles[-1] == live[-1].cycles[-1].cycle
    assert cycles == list(range(cycles[0], cycles[-1] + 1))
    assert len(cycles) < 30


def test_at_the_limit_half_goes_and_then_nothing_until_it_is_full_again(tmp_path):
    path = tmp_path / "recording.duckdb"
    session, recording, bytes_max = FakeSession(seed=5), Recording(path), 2_000_000
    recorder = Recorder(recording, bytes_max)
    dropped, held = [], []
    for _ in range(34):
        session.advance(100)
        before = recording.cycle_count() + 100
        dropped.append(written(recorder, session.snapshot()))
        held.append(recording.cycle_count())
        assert dropped[-1] == 0 or abs(dropped[-1] - before / 2) < 10
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= bytes_max
    full = [tick for tick, count in enumerate(dropped) if count]
    assert len(full) >= 2
    assert all(later - earlier > 3 for earlier, later in pairwise(full)), "it fills before it halves again"
    recording.close()
    again = Recording(path)
    assert again.cycle_count() == held[-1]
    assert again.newest_cycles(1) == {session.cycle}


def test_a_halted_swarm_does_not_fill_the_disk(tmp_path):
    """It makes no cycles, but its state is written every second all the same."""
    session, recording, bytes_max = FakeSession(seed=5, cycles=20), Recording(tmp_path / "recording.duckdb"), 1_500_000
    recorder = Recorder(recording, bytes_max)
    for second in range(500):
        written(recorder, replace(session.snapshot(), taken_ns=session.now_ns + second * 10**9))
        assert recording.bytes_on_disk() <= bytes_max


def test_a_recorder_that_was_killed_while_it_halved_loses_nothing_and_leaves_nothing(tmp_path):
    path = tmp_path / "recording.duckdb"
    record(path)
    for left in ("recording.duckdb.half", "recording.duckdb.half.wal"):
        (tmp_path / left).write_text("cut off")
    recording = Recording(path)
    assert recording.cycle_count() == 108
    assert 50 <= recording.drop_older_half() <= 58
    recording.close()
    assert [file.name for file in tmp_path.iterdir()] == ["recording.duckdb"]


def test_parquet_is_plain_to_read(tmp_path):
    path = tmp_path / "recording.duckdb"
    live = record(path)
    recording = Recording(path, read_only=True)
    files = recording.export_parquet(tmp_path / "it's out")
    assert [file.name for file in files] == ["cycles.parquet", "states.parquet", "events.parquet", "orders.parquet"]
    name = str(files[0]).replace("'", "''")
    walls = duckdb.sql(f"SELECT wall_ms, quic_consensus_exclusive_ms FROM '{name}' ORDER BY cycle").fetchnumpy()
    assert np.array_equal(walls["wall_ms"], [record.wall_ms for record in live[-1].cycles])


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="does not exist"):
        Recording(tmp_path / "none", read_only=True)
    (tmp_path / "text").write_text("hello " * 100)
    with pytest.raises(RecordingError, match="recording"):
        Recording(tmp_path / "text", read_only=True)
    empty = Recording(tmp_path / "empty")
    with pytest.raises(RecordingError, match="holds no cycle"):
        empty.span_ns()
    recording = Recording(tmp_path / "some")
    written(Recorder(recording, 10**9), FakeSession(seed=1, cycles=3).snapshot())
    with pytest.raises(RecordingError, match="cycle 99"):
        recording.end_of_cycle_ns(99)


def test_a_quiet_swarm_writes_no_cycle_twice(tmp_path):
    session = FakeSession(seed=2, cycles=20)
    recording = Recording(tmp_path / "recording.duckdb")
    recorder = Recorder(recording, 10**9)
    for second in range(3):
        written(recorder, replace(session.snapshot(), taken_ns=session.now_ns + second * 10**9))
    snapshot = recording.snapshot(session.now_ns + 3 * 10**9, 100, 100, 100)
    assert len(snapshot.cycles) == 20
    assert len(snapshot.events) == len(session.events)
