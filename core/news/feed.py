"""Where headlines come from: the sample that ships with the product, or the user's own RSS or Atom feed."""

from __future__ import annotations

import csv
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol

import feedparser

SAMPLE_CAPTION: Final = "sample headlines (written for this project, not historical)"
TEXT_CHARACTERS_MAX: Final = 300
DOCUMENT_BYTES_MAX: Final = 4 << 20
QUEUE_MAX: Final = 256
SEEN_MAX: Final = 4096
EVENTS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Headline:
    """One headline. No instrument means that it speaks of the whole market."""

    step: int
    """Market step at which it became known."""
    instruments: tuple[str, ...]
    text: str
    source: str


class HeadlineFeed(Protocol):
    """What the cycle asks for headlines. Never blocks."""

    caption: str
    """Names the source beside every figure that news took part in."""

    def fetch(self, step: int) -> list[Headline]:
        """Headlines that became known at `step`."""

    def take_events(self) -> list[str]:
        """Texts for the event log since the last call: what went wrong and what to do."""

    def close(self) -> None:
        """Release threads."""


@dataclass(frozen=True, slots=True)
class LabelledHeadline:
    """A row of the sample: `label` is -1, 0 or +1; `part` is `rules` (seen while writing the lexicon) or `heldout`."""

    part: str
    label: int
    instrument: str
    text: str


def load_sample() -> tuple[LabelledHeadline, ...]:
    """The labelled sample of the package."""
    text = resources.files("core.news").joinpath("sample_headlines.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(LabelledHeadline(r["part"], int(r["label"]), r["instrument"], r["text"]) for r in rows)


class SampleHeadlines:
    """The sample, dealt out over the steps by a fixed stride: the same headlines at the same step on every node.

    A headline of an instrument that is not traded here is dealt to one that is, so that any market hears news.
    """

    caption = SAMPLE_CAPTION
    _STRIDE: Final = 37  # shares no factor with the size of the sample, so that every headline has its turn

    def __init__(self, instruments: Sequence[str], per_step: int = 2) -> None:
        """Raises ValueError unless there is an instrument and `per_step` is 0 to 20."""
        if not instruments or not 0 <= per_step <= 20:
            raise ValueError(
                f"sample headlines: {len(instruments)} instruments, {per_step} per step; want >= 1 and 0..20"
            )
        self._per_step = per_step
        traded = set(instruments)
        self._sample: list[tuple[tuple[str, ...], str]] = []
        for at, row in enumerate(load_sample()):
            tag = row.instrument if row.instrument in traded else instruments[at % len(instruments)]
            self._sample.append(((tag,) if row.instrument else (), row.text))

    def fetch(self, step: int) -> list[Headline]:
        first = step * self._per_step
        picks = ((first + offset) * self._STRIDE % len(self._sample) for offset in range(self._per_step))
        return [Headline(step, *self._sample[pick], "sample") for pick in picks]

    def take_events(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing to release."""


class RssHeadlines:
    """The user's own RSS or Atom document, from an http(s) address or a file, polled by one background thread.

    `fetch` only empties a bounded queue, and drops what has waited for longer than `age_max_s`: a node that takes the
    lead must not hear the headlines of its time as a follower as if they were new. A document that cannot be read
    leaves an event text and is tried again at the next interval. Instruments are found in the text by symbol, or by the
    names in `aliases`.
    """

    def __init__(
        self,
        address: str,
        instruments: Sequence[str],
        aliases: Mapping[str, Sequence[str]] | None = None,
        interval_s: float = 60.0,
        timeout_s: float = 10.0,
        age_max_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for an address of another scheme, or an interval, timeout or age that is not positive."""
        scheme = urllib.parse.urlsplit(address).scheme
        if len(scheme) > 1 and scheme not in ("http", "https"):  # one letter is a Windows drive
            raise ValueError(f"news address {address!r}: want http://, https:// or the path of a file")
        if min(interval_s, timeout_s, age_max_s) <= 0:
            raise ValueError(
                f"news: interval {interval_s} s, timeout {timeout_s} s and age {age_max_s} s must be positive"
            )
        self.caption = f"headlines from {address}"
        self._address = address
        self._is_file = len(scheme) <= 1
        self._timeout_s = timeout_s
        self._interval_s = interval_s
        self._patterns = _patterns(instruments, aliases or {})
        self._lock = threading.Lock()
        self._age_max_s = age_max_s
        self._clock = clock
        self._queue: deque[tuple[float, tuple[str, ...], str]] = deque(maxlen=QUEUE_MAX)
        """When it came, the instruments, the text."""
        self._events: deque[str] = deque(maxlen=EVENTS_MAX)
        self._seen: dict[str, None] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll_forever, name="headlines", daemon=True)
        self._thread.start()

    def fetch(self, step: int) -> list[Headline]:
        with self._lock:
            waiting = list(self._queue)
            self._queue.clear()
        oldest = self._clock() - self._age_max_s
        return [Headline(step, tags, text, self._address) for came, tags, text in waiting if came >= oldest]

    def take_events(self) -> list[str]:
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def close(self) -> None:
        """Ask the thread to end; it is a daemon and may finish a download that is under way."""
        self._closed.set()

    def _poll_forever(self) -> None:
        while not self._closed.is_set():
            try:
                titles = parse_titles(self._read())
            except Exception as error:
                # what a stranger's server and document make of the libraries is theirs: the thread must outlive it
                reason = str(error) or type(error).__name__
                with self._lock:
                    self._events.append(
                        f"news: {self._address} cannot be read: {reason}; next try in {self._interval_s:g} s"
                    )
            else:
                self._take(titles)
            self._closed.wait(self._interval_s)

    def _read(self) -> bytes:
        if self._is_file:
            with Path(self._address).open("rb") as file:
                data = file.read(DOCUMENT_BYTES_MAX + 1)
        else:
            data = _download(self._address, self._timeout_s)
        if len(data) > DOCUMENT_BYTES_MAX:
            raise ValueError(f"larger than {DOCUMENT_BYTES_MAX >> 20} MiB")
        return data

    def _take(self, titles: Sequence[str]) -> None:
        fresh = [title for title in titles if title not in self._seen]
        for title in fresh:
            self._seen[title] = None
        while len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        with self._lock:
            for title in fresh:
                tags = tuple(symbol for symbol, pattern in self._patterns if pattern.search(title))
                self._queue.append((self._clock(), tags, title))


def parse_titles(document: bytes) -> list[str]:
    """Titles of the entries of an RSS or Atom document, oldest first, made safe to show.

    Raises ValueError when the document is no feed.
    """
    parsed: Any = feedparser.parse(document)
    titles = [clean(entry.get("title", "")) for entry in parsed.entries]
    if not parsed.entries and (parsed.bozo or not parsed.version):
        raise ValueError(f"no RSS or Atom feed ({parsed.get('bozo_exception', 'no entries')})")
    return [title for title in reversed(titles) if title]


def clean(text: str) -> str:
    """Printable characters only (a title could carry terminal escapes), single spaces, bounded length."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * TEXT_CHARACTERS_MAX])
    return " ".join(printable.split())[:TEXT_CHARACTERS_MAX]


def _download(address: str, timeout_s: float) -> bytes:
    """At most `DOCUMENT_BYTES_MAX` + 1 bytes. `timeout_s` bounds the whole download, not each read of it."""
    deadline = time.monotonic() + timeout_s
    request = urllib.request.Request(address, headers={"User-Agent": "tradetui"})
    parts: list[bytes] = []
    size = 0
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        while size <= DOCUMENT_BYTES_MAX and (part := answer.read1(1 << 16)):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not finished within {timeout_s:g} s")
    return b"".join(parts)


def _patterns(instruments: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> list[tuple[str, re.Pattern[str]]]:
    patterns = []
    for symbol in instruments:
        # The symbol itself must be in capitals ("GE", never "general"); names may be in any case.
        names = "|".join(re.escape(name) for name in aliases.get(symbol, ()))
        either = rf"\b{re.escape(symbol)}\b" + (rf"|(?i:\b(?:{names})\b)" if names else "")
        patterns.append((symbol, re.compile(either)))
    return patterns
