"""`tradetui keys`: make a key, show its public half, read and change a roster."""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from core.config import ConfigError
from net.identity import ROLES, Identity, IdentityError, Roster, RosterEntry, parse_address


def add_keys_command(commands: Any) -> None:
    """Add `keys` with `new`, `show` and `roster`; it sets `run`."""
    keys = commands.add_parser("keys", help="make and show keys; read and change the roster of a swarm")
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (("new", "make an Ed25519 key, mode 0600"), ("show", "the public half of a key")):
        action = actions.add_parser(name, help=text)
        action.add_argument("file", type=Path, metavar="FILE")
        action.set_defaults(run=_new if name == "new" else _show)
    roster = actions.add_parser("roster", help="show every member; --add and --remove change the file")
    roster.add_argument("file", type=Path, metavar="FILE")
    roster.add_argument("--add", metavar="NAME", help="with --id, --role, --public-key; replaces a member of that id")
    roster.add_argument("--id", type=int)
    roster.add_argument("--role", choices=ROLES, default="node")
    roster.add_argument("--public-key", metavar="HEX", help="64 digits, as `tradetui keys show` prints them")
    roster.add_argument("--address", metavar="HOST:PORT", help="where it listens; none for one that only dials")
    roster.add_argument("--expires", metavar="TIME", help="such as 2030-01-01T00:00:00Z")
    roster.add_argument("--remove", type=int, metavar="ID")
    roster.set_defaults(run=_roster)


def _new(arguments: argparse.Namespace, console: Console) -> int:
    path: Path = arguments.file
    if path.exists():
        raise ConfigError(f"{path} exists; a key that is replaced is lost: remove it yourself or choose another file")
    print(_load(path).public_key.hex())
    console.print(f"{path}: the private key, mode 0600; give others the line above", style="dim", highlight=False)
    return 0


def _show(arguments: argparse.Namespace, console: Console) -> int:
    if not arguments.file.exists():
        raise ConfigError(f"{arguments.file} does not exist; make it with `tradetui keys new {arguments.file}`")
    print(_load(arguments.file).public_key.hex())
    return 0


def _load(path: Path) -> Identity:
    try:
        return Identity.load_or_create(path, 0)
    except (IdentityError, OSError) as error:
        raise ConfigError(str(error)) from error


def _roster(arguments: argparse.Namespace, console: Console) -> int:
    path: Path = arguments.file
    try:
        entries = list(Roster.load(path)) if path.exists() or arguments.add is None else []
        if arguments.remove is not None:
            if arguments.remove not in {entry.id for entry in entries}:
                raise ConfigError(f"{path}: there is no member {arguments.remove}")
            entries = [entry for entry in entries if entry.id != arguments.remove]
            if not entries:
                raise ConfigError(f"{path}: member {arguments.remove} is the last one; remove the file instead")
        if arguments.add is not None:
            fresh = _entry(arguments)
            entries = sorted([entry for entry in entries if entry.id != fresh.id] + [fresh], key=lambda entry: entry.id)
        roster = Roster(entries)
        if arguments.add is not None or arguments.remove is not None:
            roster.save(path)
    except (IdentityError, OSError) as error:
        raise ConfigError(str(error)) from error
    Console().print(_table(path, roster))
    return 0


def _entry(arguments: argparse.Namespace) -> RosterEntry:
    if arguments.id is None or arguments.public_key is None:
        raise ConfigError("--add NAME wants --id and --public-key as well")
    try:
        key = bytes.fromhex(arguments.public_key)
    except ValueError:
        raise ConfigError(f"--public-key {arguments.public_key!r} is not hexadecimal") from None
    address = parse_address(arguments.address) if arguments.address else None
    return RosterEntry(arguments.id, arguments.add, arguments.role, key, address, _expires_s(arguments.expires))


def _expires_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--expires {text!r} is no time; write 2030-01-01T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ConfigError(f"--expires {text!r} needs an offset, such as 2030-01-01T00:00:00Z")
    return moment.timestamp()


def _table(path: Path, roster: Roster) -> Table:
    table = Table("id", "name", "role", "address", "expires", "public key", title=str(path), show_edge=False)
    for entry in roster:
        host_port = "" if entry.address is None else "{}:{}".format(*entry.address)
        expires = "" if entry.expires_s is None else time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(entry.expires_s))
        gone = " (expired)" if entry.expired() else ""
        table.add_row(str(entry.id), entry.name, entry.role, host_port, expires + gone, entry.public_key.hex())
    return table
