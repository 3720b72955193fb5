"""The venue's event file: whole requests come back, a torn tail is cut, damage is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.venue.events import AccountOpened, OrderAccepted, OrderEnded, StepAdvanced, Traded, VenueEvent
from core.venue.journal import JournalError, VenueJournal, read_events

EVENTS: list[VenueEvent] = [
    AccountOpened(1, 10, 1, 10**15),
    StepAdvanced(2, 11, 0, (100, 200)),
    OrderAccepted(3, 12, 1, "tt-a", 1, 0, 1, 101, 5, "IOC", 0),
    Traded(4, 12, 1, 1, 101, 3, 7, False),
    OrderEnded(5, 12, 1, "EXPIRED", ""),
]


def recovered(journal: VenueJournal) -> list[VenueEvent]:
    return [event for events in journal.recover() for event in events]


def write(path: Path) -> bytes:
    """Three requests: account, step, and one order with its trade and end."""
    journal = VenueJournal(path)
    assert recovered(journal) == []
    journal.append(EVENTS[:1])
    journal.append(EVENTS[1:2])
    journal.append(EVENTS[2:])
    journal.append([])
    journal.close()
    return path.read_bytes()


def test_events_come_back_equal(tmp_path: Path) -> None:
    write(tmp_path / "j")
    assert list(read_events(tmp_path / "j")) == EVENTS
    journal = VenueJournal(tmp_path / "j", sync=True)
    assert recovered(journal) == EVENTS
    journal.append([AccountOpened(6, 13, 2, 5)])
    journal.close()
    assert len(list(read_events(tmp_path / "j"))) == 6


def test_cut_at_every_byte_gives_whole_requests_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = write(path)
    seen = set()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        journal = VenueJournal(path)
        found = recovered(journal)
        assert found == EVENTS[: len(found)]
        assert len(found) in (0, 1, 2), "half of the last request must not come back"
        seen.add(len(found))
        journal.append(EVENTS[len(found) : len(found) + 1])
        journal.close()
        assert list(read_events(path)) == EVENTS[: len(found) + 1]
    assert seen == {0, 1, 2}


def test_a_tail_of_zeros_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = write(path)
    path.write_bytes(data + bytes(100))
    journal = VenueJournal(path)
    assert recovered(journal) == EVENTS
    assert journal.cut_bytes == 100
    journal.close()
    assert path.read_bytes() == data


def test_a_damaged_last_frame_is_cut_and_damage_before_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = bytearray(write(path))
    data[-1] ^= 1
    path.write_bytes(data)
    journal = VenueJournal(path)
    assert recovered(journal) == EVENTS[:2]
    journal.close()
    data = bytearray(write(tmp_path / "k"))
    data[20] ^= 1
    path.write_bytes(data)
    journal = VenueJournal(path)
    with pytest.raises(JournalError, match="damaged at byte 8"):
        recovered(journal)
    journal.close()
    assert path.read_bytes() == bytes(data), "a damaged journal must be left as it is"


def test_a_foreign_file_and_a_second_process_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"something else entirely")
    journal = VenueJournal(path)
    with pytest.raises(JournalError, match="no venue journal"):
        recovered(journal)
    with pytest.raises(JournalError, match="another venue process"):
        VenueJournal(path)
    journal.close()


def test_it_begins_at_a_noted_place_while_every_byte_before_that_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = write(path)
    journal = VenueJournal(path)
    noted = [journal.position, *(journal.position for _ in journal.recover())]
    journal.append([AccountOpened(6, 13, 2, 5)])
    noted.append(journal.position)
    journal.close()
    whole = path.read_bytes()
    assert [position.end for position in noted][-2:] == [len(data), len(whole)]
    for position, left in zip(noted, (6, 5, 4, 1, 0), strict=True):
        journal = VenueJournal(path)
        assert journal.start_at(position)
        assert len(recovered(journal)) == left
        assert journal.position == noted[-1]
        journal.close()
    for damaged in (whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], whole[: len(data) - 1], b""):
        path.write_bytes(damaged)
        journal = VenueJournal(path)
        assert not journal.start_at(noted[3])
        assert journal.position == noted[0], "it begins at the first event"
        journal.close()
