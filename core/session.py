"""A session is a directory: settings, keys, roster, each process's durable files, and who runs now."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from core.config import Settings, read_settings, write_settings
from core.faults import Fault
from core.profile_export import machine
from core.records import EventRow, Severity
from net.identity import Identity, Roster, RosterEntry

GATEWAY_ID = 100
OPERATOR_ID = 200
NODES_MAX = 10
"""Nodes that a session has keys and addresses for; those past its first members are admitted later, or never."""
OPERATORS = 8
"""Monitors in control, or ready to be, that can be attached at once; each takes one operator identity."""
OBSERVER_ID = 300
OBSERVERS = 8
"""Monitors that only look on, and the recorder; each takes one observer identity."""
LOOPBACK = "127.0.0.1"
EVENTS_BYTES_MAX = 4_000_000
EVENTS_END = "events end here: {name} has reached {mb:g} MB; supervisor, monitors and recorder keep no more of them"
KEPT_SESSIONS = 10


class SessionError(RuntimeError):
    """The session cannot be found, read or started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One supervised process. `state` is starting, running, restarting or stopped."""

    name: str
    pid: int
    state: str
    restarts: int


@dataclass(frozen=True, slots=True)
class SwarmState:
    """What the supervisor says of the whole swarm; written whole at every change."""

    supervisor_pid: int
    started_ns: int
    phase: str
    """In words: `starting nodes`, `running`, `stopping`, `failed: …`; while kernels are compiled beside it,
    `starting nodes; compiling kernels 3 of 8: dtw_topk 1.93 s`.
    """
    ready: bool
    processes: tuple[ProcessState, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Session:
    """Paths of one session directory."""

    directory: Path
    """Resolved: processes that serve it are known by this spelling on their command lines."""

    @property
    def settings_file(self) -> Path:
        return self.directory / "session.toml"

    @property
    def roster_file(self) -> Path:
        return self.directory / "roster.toml"

    @property
    def swarm_file(self) -> Path:
        return self.directory / "swarm.json"

    @property
    def events_file(self) -> Path:
        return self.directory / "events.jsonl"

    @property
    def venue_keys_file(self) -> Path:
        return self.directory / "keys" / "venue.json"

    @property
    def http_token_file(self) -> Path:
        """Who shows what is in it may read every node's pages."""
        return self.directory / "keys" / "http.token"

    @property
    def venue_port_file(self) -> Path:
        return self.directory / "venue" / "port"

    @property
    def venue_fix_port_file(self) -> Path:
        return self.directory / "venue" / "fix-port"

    @property
    def venue_rest_port_file(self) -> Path:
        return self.directory / "venue" / "rest-port"

    @property
    def live_file(self) -> Path:
        """Holds the address of the venue beyond this machine that a person let this session trade with."""
        return self.directory / "gateway" / "live"

    def key_file(self, name: str) -> Path:
        return self.directory / "keys" / f"{name}.key"

    def started_file(self, name: str) -> Path:
        """There once this process has run: it outlives a lost disk, beside the key."""
        return self.directory / "keys" / f"{name}.started"

    def folder(self, name: str) -> Path:
        """The folder of one process (`node-0`, `gateway`, `venue`, `log`), made when missing."""
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def settings(self) -> Settings:
        return read_settings(self.settings_file)

    def roster(self) -> Roster:
        return Roster.load(self.roster_file)

    @property
    def experiments_file(self) -> Path:
        """Finished experiments, a line of JSON each (`core.experiment_log`)."""
        return self.directory / "experiments.jsonl"

    @property
    def machine_file(self) -> Path:
        return self.directory / "machine.json"

    def machine(self) -> dict[str, Any]:
        """What the session was made on (`core.profile_export.machine`); empty for one that does not say."""
        try:
            return dict(json.loads(self.machine_file.read_text()))
        except FileNotFoundError:
            return {}

    @property
    def nodes_file(self) -> Path:
        return self.directory / "nodes.json"

    def wanted_nodes(self) -> tuple[int, ...]:
        """The nodes that the supervisor keeps running: the first members, until somebody is admitted or removed."""
        try:
            return tuple(sorted(set(json.loads(self.nodes_file.read_text()))))
        except FileNotFoundError:
            return tuple(range(self.settings().nodes))

    def want_nodes(self, nodes: tuple[int, ...]) -> None:
        """Have the supervisor run these, each once. It looks when it is sent SIGUSR1."""
        temporary = self.nodes_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(sorted(set(nodes))))
        os.replace(temporary, self.nodes_file)

    @property
    def faults_file(self) -> Path:
        return self.directory / "faults.json"

    def read_faults(self) -> dict[int, Fault]:
        """The faults that operators switched on, by node."""
        try:
            return {int(node): Fault(fault) for node, fault in json.loads(self.faults_file.read_text()).items()}
        except FileNotFoundError:
            return {}

    def set_fault(self, node: int, fault: Fault) -> None:
        """Note that a node does wrong on purpose, or no more: every monitor on this machine says so."""
        faults = self.read_faults() | {node: fault}
        kept = {node: each for node, each in faults.items() if each is not Fault.NONE}
        temporary = self.faults_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(kept))
        os.replace(temporary, self.faults_file)

    def forget_pauses(self) -> None:
        """For a supervisor before it starts anything: what starts is not paused, and takes up its other faults."""
        for node, fault in self.read_faults().items():
            if fault is Fault.PAUSED:
                self.set_fault(node, Fault.NONE)

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """Hold the session for one supervisor: two would run every process twice. Raises SessionError where it is held.

        The lock is the process's own: it is free again however that ends.
        """
        with (self.directory / "supervisor.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SessionError(
                    f"{self.directory} has a supervisor already; `tradetui attach --session {self.directory}` shows "
                    "its swarm, `tradetui stop` ends it"
                ) from None
            yield

    def write_swarm(self, state: SwarmState) -> None:
        temporary = self.swarm_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(state)))
        os.replace(temporary, self.swarm_file)

    def read_swarm(self) -> SwarmState | None:
        """The supervisor's last word, or None where none was written."""
        try:
            values = json.loads(self.swarm_file.read_text())
        except FileNotFoundError:
            return None
        values["processes"] = tuple(ProcessState(**process) for process in values["processes"])
        return SwarmState(**values)

    def running(self) -> SwarmState | None:
        """The swarm's state if its supervisor is alive."""
        state = self.read_swarm()
        return state if state is not None and is_alive(state.supervisor_pid, str(self.directory)) else None

    def must_run(self) -> None:
        """Raises SessionError unless the supervisor is alive."""
        if self.running() is None:
            state = self.read_swarm()
            last = f" ({state.phase})" if state is not None and state.phase.startswith("failed") else ""
            raise SessionError(
                f"{self.directory.name} does not run{last}; `tradetui attach --session {self.directory}` starts it"
            )

    def add_event(self, severity: Severity, source: str, text: str) -> None:
        """Append to the event file that every local monitor follows.

        It stops growing at 4 MB: whoever reaches them says so in its last line.
        """
        with self.events_file.open("ab") as file:
            if file.tell() >= EVENTS_BYTES_MAX:
                return
            line = _line(severity, source, text)
            file.write(line)
            file.flush()
            # Where this line itself ends: of several writers at once only one crosses the limit.
            if file.tell() - len(line) < EVENTS_BYTES_MAX <= file.tell():
                text = EVENTS_END.format(name=self.events_file.name, mb=EVENTS_BYTES_MAX / 1e6)
                file.write(_line(Severity.WARNING, "session", text))

    def read_events(self, offset: int = 0) -> tuple[list[EventRow], int]:
        """Events from byte `offset` on, and the offset to continue from."""
        try:
            with self.events_file.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        found = [_event(line) for line in whole.splitlines()]
        return [event for event in found if event is not None], offset + len(whole)


def _line(severity: Severity, source: str, text: str) -> bytes:
    values = {"time_ns": time.time_ns(), "severity": severity, "source": source, "text": text}
    return json.dumps(values).encode() + b"\n"


def _event(line: bytes) -> EventRow | None:
    """None for a line that a full disk or a killed process cut short, with whatever was written behind it."""
    try:
        r = json.loads(line)
        return EventRow(r["time_ns"], Severity(r["severity"]), r["source"], r["text"])
    except (ValueError, KeyError, TypeError):
        return None


def is_alive(pid: int, marker: str) -> bool:
    """Whether process `pid` runs and has `marker` on its command line (a recycled pid does not)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return marker.encode() in command


def sessions_root() -> Path:
    """Where sessions live: `TRADETUI_HOME`, else the user's state directory; resolved, as a `Session` is."""
    home = os.environ.get("TRADETUI_HOME")
    return ((Path(home) if home else platformdirs.user_state_path("tradetui")) / "sessions").resolve()


_SESSION_PORTS = range(20_000, 32_768)
"""Below those that Linux hands out by itself (`ip_local_port_range`)."""


def free_udp_ports(count: int) -> list[int]:
    """So many UDP ports of the loopback that were free just now. Raises SessionError where there are not so many.

    Not of those that the system hands out by itself: a monitor would get one while its process is away for a moment.
    """
    sockets: list[socket.socket] = []
    ports: list[int] = []
    try:
        for port in random.sample(_SESSION_PORTS, len(_SESSION_PORTS)):
            if len(ports) == count:
                return ports
            sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                sockets[-1].bind((LOOPBACK, port))
                ports.append(port)
        raise SessionError(f"{count} free UDP ports are wanted, of {_SESSION_PORTS} {len(ports)} are free")
    finally:
        for sock in sockets:
            sock.close()


def create_session(settings: Settings, directory: Path | None = None) -> Session:
    """Make a session directory: settings, one key per process, and the roster of public keys and addresses.

    Raises SessionError where the directory already holds a session.
    """
    if directory is None:
        _drop_old_sessions()
        directory = sessions_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    session = Session(directory.resolve())
    if session.settings_file.exists():
        raise SessionError(f"{directory} already holds a session; choose another --session or attach to it")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = [(i, f"node-{i}", "node") for i in range(NODES_MAX)]
    names.append((GATEWAY_ID, "gateway", "gateway"))
    names += [(OPERATOR_ID + k, f"operator-{k}", "operator") for k in range(OPERATORS)]
    names += [(OBSERVER_ID + k, f"observer-{k}", "observer") for k in range(OBSERVERS)]
    ports = [*free_udp_ports(NODES_MAX + 1), *[None] * (OPERATORS + OBSERVERS)]
    entries = []
    for (identity_id, name, role), port in zip(names, ports, strict=True):
        identity = Identity.load_or_create(session.key_file(name), identity_id)
        address = None if port is None else (LOOPBACK, port)
        entries.append(RosterEntry(identity_id, name, role, identity.public_key, address))
    Roster(entries).save(session.roster_file)
    session.machine_file.write_text(json.dumps(machine(), indent=1) + "\n")
    write_settings(settings, session.settings_file)
    return session


def _drop_old_sessions() -> None:
    """Keep the newest sessions; a running one is never touched."""
    import shutil

    root = sessions_root()
    found = sorted((p for p in root.glob("*") if (p / "session.toml").exists()), key=lambda p: p.stat().st_mtime)
    for path in found[: -KEPT_SESSIONS or None]:
        if Session(path).running() is None:
            shutil.rmtree(path)


def running_sessions() -> list[Session]:
    """Sessions under `sessions_root` whose supervisor is alive, newest first."""
    found = [Session(p.parent) for p in sessions_root().glob("*/swarm.json")]
    alive = [session for session in found if session.running() is not None]
    return sorted(alive, key=lambda session: session.directory.name, reverse=True)


def find_session(directory: Path | None) -> Session:
    """The session at `directory`, or the newest running one. Raises SessionError that says what to do."""
    if directory is not None:
        session = Session(directory.resolve())
        if not session.settings_file.exists():
            raise SessionError(f"{directory} holds no session (no session.toml)")
        return session
    running = running_sessions()
    if not running:
        raise SessionError("no swarm is running here; start one with `tradetui`")
    return running[0]
