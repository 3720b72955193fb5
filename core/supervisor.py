"""Starts the processes of a local swarm, starts again what dies, and leaves none behind.

The supervisor is a process of its own, so that closing the monitor does not stop trading. Each child holds the read end
of a pipe; when the supervisor is gone, however it died, the pipe closes and the child ends itself. A supervisor with an
owner (`tradetui run`) ends the same way with its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from core.config import Settings
from core.kernel_compiling import CompilerError, all_compiled, compile_in_subprocess
from core.live import KEY_VARIABLES, take_leave_away
from core.records import Severity
from core.session import ProcessState, Session, SessionError, SwarmState

STOP_GRACE_S = 5.0
"""A process that was asked to stop and is still there after this time is killed; the gateway may finish its orders."""
GATEWAY_BACK_S = 10.0
"""A gateway that is being started again when the swarm stops gets this long to come: it may hold orders in doubt."""
READY_TIMEOUT_S = 120.0
QUICK_DEATHS_MAX = 5
"""A process that dies this often within `QUICK_DEATH_S` of its start is given up, and the monitor says why."""
QUICK_DEATH_S = 5.0
LAST_WORDS_BYTES = 4_096
"""Of the end of a process's log, to find its last line in."""


ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A node's matrix products are small: threads of several nodes would only take the cores from one another."""


class Child:
    """One supervised process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: asyncio.subprocess.Process | None = None
        self.state = "starting"
        self.restarts = 0
        self.quick_deaths = 0
        self.started = 0.0
        self.log_from = 0
        """Bytes of its log that earlier processes of this name wrote."""
        self.ready = asyncio.Event()
        self.is_stopping = False
        self.failure = ""
        """Why it was given up; empty while it is kept alive."""

    def row(self) -> ProcessState:
        return ProcessState(self.name, self.process.pid if self.process else 0, self.state, self.restarts)


class Supervisor:
    """Runs one session until it is asked to stop."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        nodes = (f"node-{i}" for i in session.wanted_nodes())
        recorder = ("recorder",) if settings.recording_mb_max else ()
        venue = () if settings.venue_address else ("venue",)
        self._children = [Child(name) for name in (*venue, "gateway", *nodes, *recorder)]
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._leaving: list[tuple[str, asyncio.Task[None]]] = []
        """The ends of processes that are no longer wanted, by name."""
        self._stopping = asyncio.Event()
        self._phase = "starting"
        self._failure = ""
        """Why this swarm ends, where nobody asked it to: said until the very end."""
        self._compiling = ""
        """What the compiler says, while it runs."""
        self._started_ns = time.time_ns()
        self._ready = False

    def stop(self) -> None:
        self._stopping.set()

    def look_again(self) -> None:
        """Start nodes that are wanted and do not run, one given up before too, and stop those not wanted any more."""
        if not self._ready or self._stopping.is_set():
            return
        wanted = {f"node-{i}" for i in self._session.wanted_nodes()}
        for child in [child for child in self._children if child.name.startswith("node") and child.name not in wanted]:
            self._children.remove(child)
            end = asyncio.create_task(self._end(child, self._watchers.pop(child.name, None), STOP_GRACE_S))
            self._leaving = [(name, task) for name, task in self._leaving if not task.done()] + [(child.name, end)]
            self._session.add_event(Severity.INFO, "supervisor", f"{child.name} is no longer wanted: stopped")
        for name in sorted(wanted - {child.name for child in self._children}):
            self._children.append(Child(name))
            self._watch(self._children[-1:])
        for child in [child for child in self._children if child.name in wanted and child.failure]:
            child.failure, child.quick_deaths = "", 0
            self._watch([child])
        failures = [child.failure for child in self._children if child.failure and child.name != "recorder"]
        self._say(f"failed: {failures[0]}" if failures else "running")

    def _watch(self, children: list[Child]) -> None:
        for child in children:
            self._watchers[child.name] = asyncio.create_task(self._keep_alive(child))

    async def run(self) -> None:
        """Start everything, compile kernels beside it, supervise, and stop everything at the end."""
        self._session.forget_pauses()
        compiler = asyncio.create_task(self._compile_kernels())
        try:
            for group in (["venue"], ["gateway"], [c.name for c in self._children if c.name.startswith("node")]):
                if self._stopping.is_set():
                    break
                self._say(f"starting {group[0] if len(group) == 1 else 'nodes'}")
                members = [child for child in self._children if child.name in group]
                self._watch(members)
                await self._until_stopped(self._all_ready(members))
            if not self._stopping.is_set():
                self._ready = True
                self._say("running")
                self._watch([child for child in self._children if child.name == "recorder"])
            await self._stopping.wait()
        except Exception as error:
            self._session.add_event(Severity.ERROR, "supervisor", f"{type(error).__name__}: {error}")
            self._failure = f"failed: {error}"
            raise
        finally:
            self._stopping.set()
            compiler.cancel()
            await asyncio.gather(compiler, return_exceptions=True)
            self._compiling = ""
            await self._stop_children()

    async def _until_stopped(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            await task

    async def _all_ready(self, children: list[Child]) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await asyncio.gather(*(child.ready.wait() for child in children))
        except TimeoutError:
            late = ", ".join(child.name for child in children if not child.ready.is_set())
            raise RuntimeError(f"{late} was not ready within {READY_TIMEOUT_S:g} s; see the log folder") from None

    async def _compile_kernels(self) -> None:
        """Compile what the cache lacks, in a process of its own; nodes trade on numpy until they find it there."""
        if all_compiled():
            return
        self._compiler_says("")
        try:
            await compile_in_subprocess(self._compiler_says)
        except CompilerError as error:
            text = f"the kernels do not compile, trading goes on in numpy: {error}"
            self._session.add_event(Severity.ERROR, "supervisor", text)
        self._compiling = ""
        self._say(self._phase)

    def _compiler_says(self, line: str) -> None:
        self._compiling = f"compiling kernels {line}".rstrip()
        self._say(self._phase)

    async def _keep_alive(self, child: Child) -> None:
        before = [task for name, task in self._leaving if name == child.name]
        if before:  # the process of the same name holds its files until it has ended
            await asyncio.wait(before)
        while True:
            await self._start(child)
            assert child.process is not None
            code = await child.process.wait()
            if child.is_stopping:
                return
            child.state = "restarting"
            child.ready.clear()
            lived_s = time.monotonic() - child.started
            child.quick_deaths = child.quick_deaths + 1 if lived_s < QUICK_DEATH_S else 0
            cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self._session.add_event(Severity.ERROR, child.name, f"{cause}{self._last_words(child)}")
            if child.quick_deaths >= QUICK_DEATHS_MAX:
                child.state = "stopped"
                child.failure = f"{child.name} keeps dying ({cause}); see {self._log_file(child)}"
                if child.name == "recorder":  # trading does without it
                    self._session.add_event(Severity.ERROR, "supervisor", child.failure)
                else:
                    self._say(f"failed: {child.failure}")
                return
            child.restarts += 1
            self._say(self._phase)
            await asyncio.sleep(self._settings.restart_delay_ms / 1e3)

    async def _start(self, child: Child) -> None:
        with self._log_file(child).open("ab") as log:
            child.log_from = log.tell()
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "core.process",
                child.name,
                str(self._session.directory),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_environment(child.name),
            )
        child.started = time.monotonic()
        child.state = "starting"
        self._say(self._phase)
        self._reader = asyncio.create_task(self._read(child, child.process))

    async def _read(self, child: Child, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.strip() == b"ready" and child.process is process:
                child.state = "running"
                child.ready.set()
                self._say(self._phase)
                if child.restarts:
                    self._session.add_event(Severity.INFO, child.name, "started again")

    def _log_file(self, child: Child) -> Path:
        return self._session.folder("log") / f"{child.name}.log"

    def _last_words(self, child: Child) -> str:
        """The last line that this process wrote, if any: what an earlier one died of is not its cause."""
        with self._log_file(child).open("rb") as log:
            log.seek(max(child.log_from, log.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    async def _stop_children(self) -> None:
        """Nodes first; then the gateway, which waits for the orders on the wire; then the recorder, which has heard
        what became of them; the venue last, to answer them.

        All are kept alive until their turn comes.
        """
        self._say(self._failure or "stopping")
        by_name = {child.name: child for child in self._children}
        nodes = [child for child in self._children if child.name.startswith("node")]
        await asyncio.gather(self._stop_stage(nodes), *(task for _, task in self._leaving))
        gateway = by_name["gateway"]
        if self._ready and gateway.state in ("restarting", "starting"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATEWAY_BACK_S):
                    await gateway.ready.wait()
        await self._stop_stage([gateway], self._settings.gateway_drain_s)
        for name in ("recorder", "venue"):
            await self._stop_stage([by_name[name]] if name in by_name else [])
        take_leave_away(self._session)
        self._session.add_event(Severity.INFO, "supervisor", "stopped")
        self._say(self._failure or "stopped")

    async def _stop_stage(self, children: list[Child], more_s: float = 0.0) -> None:
        """Ask some children to stop, and kill those that are still there after the grace and `more_s`."""
        grace_s = STOP_GRACE_S + more_s
        await asyncio.gather(*(self._end(child, self._watchers.get(child.name), grace_s) for child in children))
        self._say(self._phase)

    async def _end(self, child: Child, watcher: asyncio.Task[None] | None, grace_s: float) -> None:
        child.is_stopping = True
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        process = child.process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGCONT)  # a paused one does not hear that it is to stop
            process.terminate()
            try:
                async with asyncio.timeout(grace_s):
                    await process.wait()
            except TimeoutError:
                self._session.add_event(Severity.WARNING, "supervisor", f"{child.name} did not stop in time: killed")
                process.kill()
                await process.wait()
        child.state = "stopped"

    def _say(self, phase: str) -> None:
        self._phase = phase
        rows = tuple(child.row() for child in self._children)
        words = f"{phase}; {self._compiling}" if self._compiling else phase
        self._session.write_swarm(SwarmState(os.getpid(), self._started_ns, words, self._ready, rows))


def _environment(name: str) -> dict[str, str]:
    """Of one process: a venue's keys are the gateway's alone."""
    kept = {k: v for k, v in os.environ.items() if name == "gateway" or k not in KEY_VARIABLES}
    return kept | ONE_THREAD


async def _main(session: Session, owned: bool) -> None:
    supervisor = Supervisor(session, session.settings())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGUSR1, supervisor.look_again)
    if owned:
        stop_when_closed(loop, supervisor.stop)
    await supervisor.run()


def stop_when_closed(loop: asyncio.AbstractEventLoop, stop: object) -> None:
    """Call `stop` once standard input is closed: its other end was held by the process that started us."""

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop()  # type: ignore[operator]

    loop.add_reader(sys.stdin.fileno(), readable)


def main(directory: Path, *, owned: bool) -> None:
    """Run the session at `directory` until it is asked to stop. Ends the process with a sentence where another
    supervisor runs it already."""
    session = Session(directory)
    try:
        with session.supervised():
            asyncio.run(_main(session, owned))
    except SessionError as error:
        sys.exit(f"supervisor: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), owned="--owned" in sys.argv[2:])
