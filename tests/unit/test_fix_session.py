"""The FIX session without a socket: numbers, gaps, duplicates, heartbeats, refusals; and what its store keeps."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from core.fix.message import Fields, FixError, FixMessage, FixParser, encode, timestamp, unix_of
from core.fix.session import (
    RESEND_SLICE,
    Deliver,
    Disconnect,
    Effect,
    FixSession,
    LoggedOn,
    Send,
    SessionIdentity,
)
from core.fix.store import MessageStore

NOW = 1_700_000_000.0


class Side:
    """One end: its session, and what it was delivered."""

    def __init__(self, name: str, peer: str, initiates: bool, path: Path | None = None, heartbeat_s: int = 30) -> None:
        self.store = MessageStore(path)
        self.session = FixSession(SessionIdentity(name, peer, initiates, heartbeat_s), self.store)
        self.parser = FixParser()
        self.delivered: list[str] = []
        self.ended = ""

    def take(self, effects: list[Effect]) -> list[bytes]:
        out = []
        for effect in effects:
            if isinstance(effect, Send):
                out.append(effect.data)
            elif isinstance(effect, Deliver):
                self.delivered.append(effect.message.text(58))
                self.session.done(effect.message)
            elif isinstance(effect, Disconnect):
                self.ended = effect.reason
        return out

    def hear(self, data: list[bytes], now: float = NOW) -> list[bytes]:
        out = [
            reply
            for each in data
            for message in self.parser.feed(each)
            for reply in self.take(self.session.receive(message, now))
        ]
        self.session.settled()
        while self.session.is_resending:
            out += self.take(self.session.resend_more(now))
        return out


def pump(a: Side, b: Side, out: list[bytes], now: float = NOW) -> None:
    """Carry messages to and fro until both are silent."""
    while out:
        out = b.hear(out, now)
        a, b = b, a


def logged_on(tmp_path: Path | None = None) -> tuple[Side, Side]:
    client = Side("C", "V", initiates=True, path=tmp_path / "c" if tmp_path else None)
    venue = Side("V", "C", initiates=False, path=tmp_path / "v" if tmp_path else None)
    link(client, venue)
    return client, venue


def link(client: Side, venue: Side) -> None:
    client.ended = venue.ended = ""
    assert venue.take(venue.session.connected(NOW)) == []
    pump(client, venue, client.take(client.session.connected(NOW)))
    assert client.session.is_logged_on
    assert venue.session.is_logged_on


def say(side: Side, text: str) -> list[bytes]:
    return side.take(side.session.send("B", [(148, "news"), (58, text)], NOW))


def parsed(data: list[bytes]) -> list[FixMessage]:
    parser = FixParser()
    return [message for each in data for message in parser.feed(each)]


def kinds(data: list[bytes]) -> list[str]:
    return [message.kind for message in parsed(data)]


def raw(kind: str, sequence: int, fields: Fields = (), sender: str = "C", sent: float = NOW, **more: str) -> bytes:
    return encode(kind, sequence, sender, "V", fields, timestamp(sent), **more)


def test_logon_and_messages_both_ways() -> None:
    client, venue = logged_on()
    pump(client, venue, say(client, "one") + say(client, "two"))
    pump(venue, client, say(venue, "three"))
    assert venue.delivered == ["one", "two"]
    assert client.delivered == ["three"]


def test_what_was_lost_is_asked_for_and_comes_once() -> None:
    client, venue = logged_on()
    say(client, "lost 1")
    say(client, "lost 2")
    pump(client, venue, say(client, "three"))
    assert venue.delivered == ["lost 1", "lost 2", "three"]
    pump(client, venue, say(client, "four"))
    assert venue.delivered[-1] == "four"


def test_what_was_said_without_a_link_arrives_at_the_next_logon(tmp_path: Path) -> None:
    client, venue = logged_on(tmp_path)
    venue.session.lost()
    client.session.lost()
    assert say(venue, "while away") == []
    venue.store.close()
    again = Side("V", "C", initiates=False, path=tmp_path / "v")
    link(client, again)
    assert client.delivered == ["while away"]
    assert say(again, "now")


def test_a_session_that_does_not_resend_fills_over_what_was_lost() -> None:
    client, venue = logged_on()
    client.session._identity = SessionIdentity("C", "V", True, resends=False)
    say(client, "lost")
    pump(client, venue, say(client, "two"))
    pump(client, venue, say(client, "three"))
    assert venue.delivered == ["three"], "the gap is filled over, both that were in it are gone"
    client.session.lost()
    assert say(client, "without a link") == []
    assert client.store.next_out == venue.store.next_in


def test_a_possible_duplicate_is_dropped_and_a_low_number_ends_the_link() -> None:
    client, venue = logged_on()
    first = say(client, "one")
    pump(client, venue, first)
    again = encode("B", 2, "C", "V", [(58, "one")], timestamp(NOW), originally_sent=timestamp(NOW))
    assert venue.hear([again]) == []
    assert venue.delivered == ["one"]
    assert kinds(venue.hear(first)) == ["5"]
    assert "MsgSeqNum too low, expecting 3 but received 2" in venue.ended


def test_administrative_messages_are_not_repeated_but_filled_over() -> None:
    client, _ = logged_on()
    client.take(client.session.tick(NOW + 30))
    say(client, "kept")
    answer = parsed(client.hear([encode("2", 2, "V", "C", [(7, 1), (16, 0)], timestamp(NOW))]))
    assert [(m.kind, m.sequence, m.get(36), m.get(43)) for m in answer] == [("4", 1, "3", "Y"), ("B", 3, None, "Y")]
    assert answer[1].get(122)


def test_both_sides_that_missed_something_recover() -> None:
    client, venue = logged_on()
    say(client, "lost by the venue")
    say(venue, "lost by the client")
    pump(client, venue, say(client, "a"))
    pump(venue, client, say(venue, "b"))
    assert venue.delivered == ["lost by the venue", "a"]
    assert client.delivered == ["lost by the client", "b"]


def test_sequence_reset_and_its_refusal() -> None:
    _, venue = logged_on()
    assert venue.hear([raw("4", 99, [(36, 10)])]) == []
    assert venue.store.next_in == 10
    (reject,) = parsed(venue.hear([raw("4", 10, [(36, 4)])]))
    assert (reject.kind, reject.get(373)) == ("3", "5")


def test_heartbeats_test_requests_and_the_end_of_a_silent_link() -> None:
    client, venue = logged_on()
    assert kinds(client.take(client.session.tick(NOW + 29))) == []
    assert kinds(client.take(client.session.tick(NOW + 30))) == ["0"]
    asked = client.take(client.session.tick(NOW + 37))
    assert kinds(asked) == ["1"]
    (answer,) = parsed(venue.hear([asked[-1]][:0] or [raw("1", 2, [(112, "x")])]))
    assert (answer.kind, answer.get(112)) == ("0", "x")
    client.take(client.session.tick(NOW + 73))
    assert client.ended.startswith("silent for 73")


def test_logout_is_answered_and_not_waited_for_without_end() -> None:
    client, venue = logged_on()
    pump(client, venue, client.take(client.session.logout("done", NOW)))
    assert (client.ended, venue.ended) == ("the other side logged out", "the other side logged out: done")
    client, _ = logged_on()
    client.take(client.session.logout("", NOW))
    client.take(client.session.tick(NOW + 3))
    assert client.ended == "no answer to our Logout"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (raw("B", 2, [(58, "x")], sender="STRANGER"), "CompID problem"),
        (raw("B", 2, [(58, "x")], sent=NOW - 300), "SendingTime accuracy problem"),
        (raw("B", 2, [(58, "x")], originally_sent=timestamp(NOW + 60)), "OrigSendingTime is after SendingTime"),
        (raw("B", 2, [(58, "x")]).replace(b"FIX.4.4", b"FIX.4.2"), "BeginString"),
    ],
)
def test_a_wrong_header_is_refused_and_ends_the_link(message: bytes, reason: str) -> None:
    _, venue = logged_on()
    (found,) = [FixMessage(tuple((int(t), v) for t, v in _pairs(message)))]
    out = venue.take(venue.session.receive(found, NOW))
    assert kinds(out) == ["3", "5"]
    assert reason in venue.ended
    assert venue.delivered == []


def _pairs(message: bytes) -> list[tuple[bytes, bytes]]:
    return [tuple(field.split(b"=", 1)) for field in message.rstrip(b"\x01").split(b"\x01")]  # type: ignore[misc]


def test_nothing_before_logon_and_no_number_is_no_session() -> None:
    venue = Side("V", "C", initiates=False)
    venue.session.connected(NOW)
    venue.hear([raw("B", 1, [(58, "x")])])
    assert venue.ended == "B before Logon"
    _, venue = logged_on()
    bare = FixMessage(tuple((t, v) for t, v in parsed([raw("B", 2)])[0].pairs if t != 34))
    assert kinds(venue.take(venue.session.receive(bare, NOW))) == ["5"]


def test_reset_on_logon_begins_at_one() -> None:
    client, venue = logged_on()
    pump(client, venue, say(client, "one"))
    client.session.lost()
    venue.session.lost()
    fresh = Side("C", "V", initiates=True)
    fresh.session = FixSession(SessionIdentity("C", "V", True, reset_on_logon=True), fresh.store)
    link(fresh, venue)
    assert venue.store.next_in == 2


def test_a_damaged_message_is_ignored_and_its_number_asked_for() -> None:
    client, venue = logged_on()
    good = say(client, "one")[0]
    venue.hear([good.replace(b"one", b"two")])
    assert venue.delivered == []
    pump(client, venue, say(client, "three"))
    assert venue.delivered == ["one", "three"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["client", "venue", "cut", "lose"]), max_size=40), st.randoms(use_true_random=False))
def test_each_message_arrives_once_and_in_order_whatever_the_link_does(script: list[str], source) -> None:  # type: ignore[no-untyped-def]
    client, venue = logged_on()
    said: dict[str, list[str]] = {"client": [], "venue": []}
    for at, act in enumerate(script):
        if act == "cut":
            client.session.lost()
            venue.session.lost()
            client.parser, venue.parser = FixParser(), FixParser()
            link(client, venue)
            continue
        name = source.choice(["client", "venue"]) if act == "lose" else act
        ours, theirs = (client, venue) if name == "client" else (venue, client)
        said[name].append(f"{name} {at}")
        out = say(ours, said[name][-1])
        if act != "lose":
            pump(ours, theirs, out)
    pump(client, venue, say(client, "last"))
    pump(venue, client, say(venue, "last"))
    assert venue.delivered == [*said["client"], "last"]
    assert client.delivered == [*said["venue"], "last"]


def test_a_store_keeps_so_many_messages_and_what_is_older_is_filled_over(tmp_path: Path) -> None:
    client, venue = logged_on()
    venue.store._kept_max = 10
    venue.session.lost()
    client.session.lost()
    for i in range(50):
        say(venue, f"news {i}")
    assert len(venue.store.messages(1, 1_000, 1_000)) == 10
    link(client, venue)
    assert client.delivered == [f"news {i}" for i in range(40, 50)]
    pump(venue, client, say(venue, "after"))
    assert client.delivered[-1] == "after"


def test_a_long_gap_is_sent_in_slices_and_what_is_new_comes_after_it() -> None:
    client, venue = logged_on()
    said = [f"news {i}" for i in range(3 * RESEND_SLICE)]
    for text in said:
        say(venue, text)
    asked = client.hear(say(venue, "last"))
    (request,) = parsed(asked)
    first = venue.take(venue.session.receive(request, NOW))
    assert len(first) == RESEND_SLICE
    assert say(venue, "new") == [], "it must not overtake what is sent again"
    assert venue.take(venue.session.tick(NOW + 31)) == []
    assert client.hear(first) == []
    slices = 0
    while venue.session.is_resending:
        part = venue.take(venue.session.resend_more(NOW))
        assert len(part) <= RESEND_SLICE + 1
        assert client.hear(part) == []
        slices += 1
    assert slices == 4
    assert client.delivered == [*said, "last", "new"]
    pump(venue, client, say(venue, "at once"))
    assert client.delivered[-1] == "at once"


def test_a_link_lost_amid_a_resend_begins_it_anew() -> None:
    client, venue = logged_on()
    said = [f"news {i}" for i in range(2 * RESEND_SLICE)]
    for text in said:
        say(venue, text)
    (request,) = parsed(client.hear(say(venue, "last")))
    client.hear(venue.take(venue.session.receive(request, NOW)))
    client.session.lost()
    venue.session.lost()
    assert not venue.session.is_resending
    link(client, venue)
    assert client.delivered == [*said, "last"]


def test_what_was_dealt_with_comes_again_after_a_crash_before_it_was_durable(tmp_path: Path) -> None:
    client, venue = logged_on(tmp_path)
    for message in parsed(say(venue, "one")):
        client.take(client.session.receive(message, NOW))
    assert client.store.next_in == 3
    client.store.close()
    venue.session.lost()
    again = Side("C", "V", initiates=True, path=tmp_path / "c")
    assert again.store.next_in == 2
    link(again, venue)
    assert again.delivered == ["one"]


def test_timestamps_and_fields_are_read_or_refused() -> None:
    assert timestamp(NOW + 0.25) == "20231114-22:13:20.250"
    assert unix_of("20231114-22:13:20.250") == NOW + 0.25
    assert unix_of("20231114-22:13:20") == NOW
    with pytest.raises(FixError, match="no UTC timestamp"):
        unix_of("yesterday")
    (message,) = parsed([raw("B", 2, [(58, "x"), (7, "many")])])
    assert (message.text(58), message.integer(99, 5), message.get(99)) == ("x", 5, None)
    for read in (lambda: message.text(99), lambda: message.integer(7), lambda: message.integer(99)):
        with pytest.raises(FixError, match="tag"):
            read()


def test_bytes_without_an_end_are_refused() -> None:
    start = b"8=FIX.4.4\x019=99\x01"
    with pytest.raises(FixError, match="no end"):
        list(FixParser().feed(start + b"58=" + b"x" * 2_000_000))
    with pytest.raises(FixError, match="no FIX message"):
        list(FixParser().feed(start + b"x=1\x01"))


def test_a_session_effect_says_when_it_is_on() -> None:
    client, venue = Side("C", "V", True), Side("V", "C", False)
    venue.session.connected(NOW)
    out = client.take(client.session.connected(NOW))
    effects = [e for m in parsed(out) for e in venue.session.receive(m, NOW)]
    assert [type(e) for e in effects] == [Send, LoggedOn]
