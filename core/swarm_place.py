"""Where a monitor finds its swarm: a session directory on this machine, or a node's address with key and roster."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import platformdirs

from core.config import Settings
from core.faults import Fault
from core.records import EventRow, Severity
from core.session import (
    GATEWAY_ID,
    OBSERVER_ID,
    OBSERVERS,
    OPERATOR_ID,
    OPERATORS,
    Session,
    SessionError,
    is_alive,
)
from net.identity import MONITOR_ROLES, Identity, IdentityError, Roster, RosterEntry, parse_address

Address = tuple[str, int]

SUPERVISOR_START_S = 10.0
"""So long what the files say of a run before this one does not count: its successor has just been started."""


@dataclass(frozen=True, slots=True)
class PlaceNews:
    """What the place itself tells, beside the nodes."""

    phase: str = ""
    ready: bool = False
    faults: dict[int, Fault] = field(default_factory=dict)
    events: tuple[EventRow, ...] = ()


class SwarmPlace(Protocol):
    """What differs between this machine's sessions and others'."""

    name: str
    read_only: bool
    """Whether the identity here is an observer's."""
    settings: Settings | None
    """None: the nodes tell."""

    def open(self) -> tuple[Identity, Roster]:
        """Who this monitor is, and everybody else. Raises SessionError."""

    def first_peers(self) -> dict[int, Address | None]:
        """Whom to dial, at another address than the roster's where one is given."""

    def read_news(self) -> PlaceNews:
        """What is new."""

    def add_event(self, severity: Severity, text: str) -> None:
        """A line in the event log that every monitor of the place follows."""

    def note_fault(self, node: int, fault: Fault) -> None:
        """Have every monitor of the place name a fault."""

    def read_faults(self) -> dict[int, Fault]:
        """The faults that were noted here."""

    def signal(self, node: int, number: int) -> None:
        """Send a signal to a node's process. Raises SessionError where it does not run here."""

    def keep_experiment(self, values: dict[str, Any]) -> None:
        """Keep a finished experiment."""

    def close(self) -> None:
        """Give back what `open` took."""


class LocalPlace:
    """A session directory of this machine."""

    def __init__(self, session: Session, *, read_only: bool) -> None:
        self.session = session
        self.name = session.directory.name
        self.settings: Settings | None = session.settings()
        self.read_only = read_only
        self._lock: IO[str] | None = None
        self._events_offset = 0
        self._opened_s = time.monotonic()
        self._has_run = False

    def open(self) -> tuple[Identity, Roster]:
        """Raises SessionError when as many monitors are attached as the session has identities for."""
        name, identity_id = self._take_identity()
        return Identity.load_or_create(self.session.key_file(name), identity_id), self.session.roster()

    def _take_identity(self) -> tuple[str, int]:
        role, first, count = (
            ("observer", OBSERVER_ID, OBSERVERS) if self.read_only else ("operator", OPERATOR_ID, OPERATORS)
        )
        for k in range(count):
            lock = (self.session.directory / "keys" / f"{role}-{k}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self._lock = lock
            return f"{role}-{k}", first + k
        raise SessionError(f"{count} {role}s are attached to {self.session.directory}; leave one first")

    def first_peers(self) -> dict[int, Address | None]:
        return dict.fromkeys((*self.session.wanted_nodes(), GATEWAY_ID))

    def read_news(self) -> PlaceNews:
        phase, ready = "", False
        state = self.session.read_swarm()
        if state is not None:
            phase, ready = state.phase, state.ready
            runs = is_alive(state.supervisor_pid, str(self.session.directory))
            self._has_run = self._has_run or runs
            if not self._has_run and time.monotonic() < self._opened_s + SUPERVISOR_START_S:
                phase, ready = "starting", False  # what is written there is of the run before
            elif not runs and not phase.startswith(("failed", "stopped")):
                phase = "failed: the supervisor is gone"
        events, self._events_offset = self.session.read_events(self._events_offset)
        return PlaceNews(phase, ready, self.session.read_faults(), tuple(events))

    def add_event(self, severity: Severity, text: str) -> None:
        self.session.add_event(severity, "monitor", text)

    def note_fault(self, node: int, fault: Fault) -> None:
        self.session.set_fault(node, fault)

    def read_faults(self) -> dict[int, Fault]:
        return self.session.read_faults()

    def signal(self, node: int, number: int) -> None:
        state = self.session.running()
        processes = state.processes if state is not None else ()
        pid = next((process.pid for process in processes if process.name == f"node-{node}"), 0)
        if not pid or not is_alive(pid, str(self.session.directory)):
            raise SessionError(f"no process of node {node} runs on this machine")
        os.kill(pid, number)

    def keep_experiment(self, values: dict[str, Any]) -> None:
        _append(self.session.experiments_file, values)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()


class RemotePlace:
    """A swarm that one of its nodes' addresses leads to; known by its roster, and knowing this monitor's key."""

    def __init__(self, address: str, roster_file: Path, key_file: Path, node: int | None = None) -> None:
        """`node` says who listens at `address` where the roster does not. Raises SessionError."""
        self.settings: Settings | None = None
        try:
            self._address = parse_address(address)
            self._roster = Roster.load(roster_file)
            self._identity = self._identify(key_file, roster_file)
        except (IdentityError, OSError) as error:
            raise SessionError(str(error)) from error
        self._node = self._listener(roster_file, node)
        self.name = address
        entry = self._roster.get(self._identity.id)
        self.read_only = entry is not None and entry.role == "observer"

    def _identify(self, key_file: Path, roster_file: Path) -> Identity:
        if not key_file.exists():
            raise SessionError(f"{key_file} does not exist; make it with `tradetui keys new {key_file}`")
        anonymous = Identity.load_or_create(key_file, 0)
        entry = next((each for each in self._roster if each.public_key == anonymous.public_key), None)
        if entry is None or entry.role not in MONITOR_ROLES:
            found = "no member has" if entry is None else f"{entry.name} is a {entry.role} and has"
            raise SessionError(
                f"{roster_file}: {found} the key in {key_file}; a monitor's is added at the swarm with `tradetui keys "
                f"roster FILE --add NAME --id N --role observer|operator --public-key {anonymous.public_key.hex()}`"
            )
        return Identity(entry.id, anonymous.signing_key)

    def _listener(self, roster_file: Path, node: int | None) -> int:
        nodes = self._roster.of_role("node")
        if node is not None:
            if node not in {entry.id for entry in nodes}:
                raise SessionError(f"{roster_file}: there is no node {node}")
            return node
        host, port = self._address
        hosts = {host, *_addresses_of(host)}
        found = next((e.id for e in nodes if e.address in {(each, port) for each in hosts}), None)
        if found is None:
            listed = ", ".join(f"node {e.id} {_text(e)}" for e in nodes if e.address is not None)
            raise SessionError(
                f"{roster_file}: no node is listed at {host}:{port} ({listed}); --node N says who listens there"
            )
        return found

    def open(self) -> tuple[Identity, Roster]:
        return self._identity, self._roster

    def first_peers(self) -> dict[int, Address | None]:
        gateways = {entry.id: None for entry in self._roster.of_role("gateway") if entry.address is not None}
        return {self._node: self._address, **gateways}

    def read_news(self) -> PlaceNews:
        return PlaceNews()

    def add_event(self, severity: Severity, text: str) -> None:
        """Only the nodes keep events here."""

    def note_fault(self, node: int, fault: Fault) -> None:
        """Nodes tell of their own faults."""

    def read_faults(self) -> dict[int, Fault]:
        return {}

    def signal(self, node: int, number: int) -> None:
        raise SessionError("processes are killed and paused on their own machine only")

    def keep_experiment(self, values: dict[str, Any]) -> None:
        folder = platformdirs.user_state_path("tradetui") / "attached"
        folder.mkdir(parents=True, exist_ok=True)
        _append(folder / "experiments.jsonl", values | {"swarm": self.name})

    def close(self) -> None:
        """Nothing was taken."""


def _addresses_of(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)}
    except OSError as error:
        raise SessionError(f"{host}: {error.strerror}") from error


def _text(entry: RosterEntry) -> str:
    return "{}:{}".format(*entry.address) if entry.address is not None else ""


def _append(path: Path, values: dict[str, Any]) -> None:
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a full disk or a killed process cut the last line short
                file.write(b"\n")
        file.write(json.dumps(values).encode() + b"\n")
