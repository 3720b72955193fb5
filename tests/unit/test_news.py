"""Headlines: the sample, the user's own feed, the lexicon and what lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

import numpy as np
import pytest

from core.news import Headline, RssHeadlines, SampleHeadlines, SentimentAggregator, score
from core.news.feed import QUEUE_MAX, TEXT_CHARACTERS_MAX, clean, load_sample, parse_titles

ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>x</title><id>x</id>
<updated>2024-01-01T00:00:00Z</updated>{}</feed>"""


def atom(*titles: str) -> bytes:
    entries = "".join(f"<entry><title>{title}</title><id>{title}</id></entry>" for title in titles)
    return ATOM.format(entries).encode()


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until true; the suite's own timeout ends a wait that never is."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("waited 20 s in vain")


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Costs fall", 1),
        ("Costs rise", -1),
        ("Profit falls", -1),
        ("Company cuts forecast", -1),
        ("Company cuts costs", 1),
        ("Company raises forecast", 1),
        ("Results beat estimates", 1),
        ("Results miss estimates", -1),
        ("Not affected by recall", 1),
        ("Fails to beat estimates", -1),
        ("Annual meeting on Tuesday", 0),
        ("", 0),
    ],
)
def test_direction_rules(text: str, sign: int) -> None:
    assert np.sign(score(text)) == sign


def accuracy(part: str) -> float:
    rows = [row for row in load_sample() if row.part == part]
    return sum(np.sign(score(row.text)) == row.label for row in rows) / len(rows)


def test_the_lexicon_beats_a_guess_on_headlines_it_was_not_written_for() -> None:
    # Measured: 0.95 on the part it was written with, 0.70 on the 70 held out. The largest class alone gives 0.41.
    assert accuracy("rules") > 0.90
    assert accuracy("heldout") > 0.65
    labels = [row.label for row in load_sample() if row.part == "heldout"]
    assert max(labels.count(label) for label in (-1, 0, 1)) / len(labels) < 0.45


def test_scores_are_bounded_for_any_text() -> None:
    for text in ("beats " * 500, "plunges " * 500, "\x00\x1b[31m", "№ 涨停", "not " * 100 + "beats"):
        assert -1.0 <= score(text) <= 1.0


def test_every_sample_headline_has_its_turn_and_each_step_is_repeatable() -> None:
    symbols = ("AAPL", "AMD")
    feed, other = SampleHeadlines(symbols), SampleHeadlines(symbols)
    texts = [h.text for step in range(100) for h in feed.fetch(step)]
    assert sorted(texts) == sorted(row.text for row in load_sample())
    assert feed.fetch(7) == other.fetch(7)
    assert {tag for step in range(100) for h in feed.fetch(step) for tag in h.instruments} == set(symbols)
    assert "not historical" in feed.caption


def test_sentiment_decays_and_market_news_reaches_everybody() -> None:
    aggregator = SentimentAggregator(("A", "B"), half_life_steps=2.0, market_weight=0.5, prior_weight=1.0)
    first = aggregator.update(10, [Headline(10, ("A",), "", "")], [1.0])
    assert first.tolist() == [0.5, 0.0]
    later = aggregator.update(12, [], [])
    assert later[0] == pytest.approx(0.5 / 1.5)
    both = aggregator.update(12, [Headline(12, (), "", ""), Headline(12, ("unknown",), "", "")], [-1.0, 1.0])
    assert both == pytest.approx([0.0, -0.5 / 1.5])
    assert aggregator.update(13, [], [], lap=1).tolist() == [0.0, 0.0]


def test_rss_file_is_read_in_the_background_and_tagged(tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_bytes(atom("GE wins order", "Apple beats", "general talk \x7f"))
    feed = RssHeadlines(str(path), ("GE", "AAPL"), aliases={"AAPL": ("apple",)}, interval_s=0.05)
    found: list[Headline] = []
    try:
        wait_for(lambda: bool(found.extend(feed.fetch(5)) or len(found) >= 3))
        path.write_bytes(atom("GE wins order", "News at last"))
        wait_for(lambda: bool(found.extend(feed.fetch(6)) or len(found) >= 4))
    finally:
        feed.close()
    assert [(h.text, h.instruments) for h in found[::-1][1:]] == [
        ("GE wins order", ("GE",)),
        ("Apple beats", ("AAPL",)),
        ("general talk", ()),
    ]
    assert (found[-1].text, found[-1].step) == ("News at last", 6)


def test_a_feed_that_cannot_be_read_is_an_event_and_no_more(tmp_path: Path) -> None:
    feed = RssHeadlines(str(tmp_path / "missing.xml"), ("GE",), interval_s=0.05)
    events: list[str] = []
    try:
        wait_for(lambda: bool(events.extend(feed.take_events()) or events))
        assert "missing.xml" in events[0]
        assert "next try" in events[0]
        (tmp_path / "missing.xml").write_bytes(atom("It is there now"))
        wait_for(lambda: [h.text for h in feed.fetch(1)] == ["It is there now"])
    finally:
        feed.close()


def test_rss_over_http_with_an_error_then_an_answer() -> None:
    answers = [(500, b""), (200, atom("Over the wire"))]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[0] if len(answers) == 1 else answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    feed = RssHeadlines(f"http://127.0.0.1:{server.server_port}/", (), interval_s=0.05, timeout_s=5)
    try:
        wait_for(lambda: [h.text for h in feed.fetch(1)] == ["Over the wire"])
        assert "500" in feed.take_events()[0]
    finally:
        feed.close()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_answer_that_is_no_http_is_an_event_and_the_next_one_is_read(answer: bytes) -> None:
    body = atom("After all")
    answers = [answer, b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)]

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answers[0] if len(answers) == 1 else answers.pop(0))

    with TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        feed = RssHeadlines(f"http://127.0.0.1:{server.server_address[1]}/", (), interval_s=0.05, timeout_s=5)
        try:
            wait_for(lambda: [h.text for h in feed.fetch(1)] == ["After all"])
            assert "cannot be read" in feed.take_events()[0]
        finally:
            feed.close()
            server.shutdown()


def test_headlines_that_waited_too_long_are_not_news(tmp_path: Path) -> None:
    path, now = tmp_path / "feed.xml", [1_000.0]
    path.write_bytes(atom("Heard as a follower"))
    feed = RssHeadlines(str(path), (), interval_s=0.05, age_max_s=300.0, clock=lambda: now[0])
    found: list[Headline] = []
    try:
        wait_for(lambda: bool(feed._queue))
        now[0] += 301.0
        path.write_bytes(atom("Heard as the leader", "Heard as a follower"))
        wait_for(lambda: bool(found.extend(feed.fetch(9)) or found))
        assert [h.text for h in found] == ["Heard as the leader"]
    finally:
        feed.close()


def test_the_queue_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "many.xml"
    path.write_bytes(atom(*(f"headline {i}" for i in range(QUEUE_MAX + 10))))
    feed = RssHeadlines(str(path), (), interval_s=60)
    found: list[Headline] = []
    try:
        wait_for(lambda: bool(found.extend(feed.fetch(1)) or found))
    finally:
        feed.close()
    assert len(found) == QUEUE_MAX
    assert found[-1].text == "headline 0"  # the first entry of a feed is its newest


def test_bad_settings_and_documents_are_refused() -> None:
    for address in ("ftp://host/x", "javascript:alert(1)"):
        with pytest.raises(ValueError, match="http"):
            RssHeadlines(address, ())
    with pytest.raises(ValueError, match="positive"):
        RssHeadlines("x.xml", (), interval_s=0)
    with pytest.raises(ValueError, match="no RSS"):
        parse_titles(b"<html><body>hello</body></html>")
    with pytest.raises(ValueError, match="half_life"):
        SentimentAggregator(("A",), half_life_steps=0)
    assert parse_titles(atom()) == []


def test_titles_are_safe_to_print() -> None:
    assert clean("a\x1b[31mb\n\n c\u202e") == "a [31mb c"
    assert len(clean("x" * 10_000)) == TEXT_CHARACTERS_MAX
