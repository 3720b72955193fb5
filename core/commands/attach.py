"""`tradetui attach HOST:PORT`: which swarm, as whom."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.config import ConfigError
from core.swarm_place import RemotePlace


def add_remote_flags(attach: argparse.ArgumentParser) -> None:
    """What says where a swarm of another machine is, and who asks."""
    attach.add_argument("address", nargs="?", metavar="HOST:PORT", help="a node of a swarm elsewhere")
    attach.add_argument("--roster", type=Path, metavar="FILE", help="the swarm's roster.toml; with HOST:PORT")
    attach.add_argument("--key", type=Path, metavar="FILE", help="this monitor's key; the roster says what it may do")
    attach.add_argument("--node", type=int, metavar="N", help="who listens there, where the roster lists it elsewhere")


def remote_place(arguments: argparse.Namespace) -> RemotePlace | None:
    """None where no address is given. Raises ConfigError for flags that do not go together, SessionError."""
    if arguments.address is None:
        for name in ("roster", "key", "node"):
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name} goes with HOST:PORT")
        return None
    if arguments.session is not None:
        raise ConfigError("--session is of this machine; give it or HOST:PORT")
    if arguments.roster is None or arguments.key is None:
        raise ConfigError("HOST:PORT wants --roster FILE and --key FILE: who the nodes are, and who asks")
    return RemotePlace(arguments.address, arguments.roster, arguments.key, arguments.node)
