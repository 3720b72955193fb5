"""A log that is gone, told from one that never was."""

from __future__ import annotations

from pathlib import Path

from net.durable import IncarnationRecord, decode_record
from net.incarnation import claim_incarnation
from net.log import DurableLog


def incarnation_in(log: DurableLog) -> bytes:
    first = decode_record(log.read_all()[0])
    assert isinstance(first, IncarnationRecord)
    return first.incarnation


def test_a_lost_log_is_another_disk_and_a_restart_is_not(tmp_path: Path) -> None:
    marker = tmp_path / "keys" / "node-0.started"
    with DurableLog(tmp_path / "log") as log:
        assert not claim_incarnation(log, marker)
        assert incarnation_in(log) == b""
    with DurableLog(tmp_path / "log") as log:
        assert not claim_incarnation(log, marker), "it holds its first record"
    (tmp_path / "log").unlink()
    with DurableLog(tmp_path / "log") as log:
        assert claim_incarnation(log, marker)
        second = incarnation_in(log)
        assert len(second) == 16
    (tmp_path / "log").unlink()
    with DurableLog(tmp_path / "log") as log:
        assert claim_incarnation(log, marker)
        assert incarnation_in(log) not in (b"", second)
