"""The commands about orders, for the command line: kill, reduce, resume."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from core.session import find_session

_TRADING: Final = {
    "kill": "the kill switch: no order leaves any more, open ones are cancelled",
    "reduce": "only orders that bring a position closer to zero",
    "resume": "trade again after kill or reduce",
}


def add_order_commands(commands: Any) -> None:
    """Add the sub-commands to an argparse sub-parser collection."""
    for name, text in _TRADING.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--reason", default="", help="why; shown in every monitor and kept in the log")
        command.add_argument("--session", type=Path, metavar="DIR", help="default: the one that runs")


def order_command(name: str) -> Callable[[argparse.Namespace, Console], int] | None:
    """What runs a command of `add_order_commands`, or None for another's."""
    return _change_trading if name in _TRADING else None


def _change_trading(arguments: argparse.Namespace, console: Console) -> int:
    from core.commands.trading import STATE_OF, change_trading

    session = find_session(arguments.session)
    work = change_trading(session, STATE_OF[arguments.command], arguments.reason, console)
    return 0 if asyncio.run(work) else 1
