"""A real pseudo-terminal for tests: starts a program on it, sends keys, and keeps the screen that it paints."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

SYNC_QUERY, SYNC_ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"


class _Screen(pyte.Screen):
    """pyte without what it does not know: private device reports and keyboard protocols that Textual asks for."""

    def report_device_status(self, mode: int = 0, **kwargs: object) -> None:
        if not kwargs.get("private"):
            super().report_device_status(mode)

    def report_device_attributes(self, mode: int = 0, **kwargs: object) -> None:
        if not kwargs.get("private"):
            super().report_device_attributes(mode)


class Terminal:
    """`argv` on a terminal of `columns` x `rows`; `env` is added to this process's environment.

    Use as a context manager, or call `close`, which ends the process (and only that process) and reaps it.
    """

    def __init__(
        self, argv: Sequence[str], columns: int = 120, rows: int = 40, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = _Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.bytes_received = 0
        self.exit_code: int | None = None
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})}
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execvpe(argv[0], list(argv), environment)
            finally:  # exec failed: the child must not go on as a second test run
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pump(self, timeout: float, until: Callable[[str], bool] | None = None) -> float | None:
        """Read and draw until `until(text())` holds; the seconds waited, or None at `timeout` or the program's end."""
        start = time.perf_counter()
        if until is not None and until(self.text()):
            return 0.0
        while (left := start + timeout - time.perf_counter()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                break
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # Linux: EIO when the program has closed its side
                data = b""
            if not data:
                return None
            self.bytes_received += len(data)
            if SYNC_QUERY in data:
                self.send(SYNC_ANSWER)
            self._stream.feed(self._decoder.decode(data))
            if until is not None and until(self.text()):
                return time.perf_counter() - start
        return None

    def send(self, data: bytes) -> None:
        os.write(self._fd, data)

    def click(self, column: int, row: int) -> None:
        """Left button, SGR coding; column and row count from 0 as in `text()`."""
        self.send(f"\x1b[<0;{column + 1};{row + 1}M\x1b[<0;{column + 1};{row + 1}m".encode())

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def colours(self) -> set[str]:
        """Foreground colours on the screen now, as pyte names them."""
        buffer = self.screen.buffer
        return {buffer[y][x].fg for y in range(self.screen.lines) for x in range(self.screen.columns)}

    def wait(self, timeout: float) -> int | None:
        """Exit code of the program (negative: signal), or None when it still runs after `timeout` seconds."""
        end = time.perf_counter() + timeout
        while self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
            elif time.perf_counter() > end:
                return None
            else:
                self.pump(0.05)  # a program that writes to a full terminal would never end
                select.select([], [], [], 0.01)
        return self.exit_code

    def close(self, grace: float = 5.0) -> int | None:
        """SIGTERM, then SIGKILL after `grace` seconds; safe to call twice."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.exit_code is not None or self.wait(0.0) is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            self.wait(grace)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return self.exit_code

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
