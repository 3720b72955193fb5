"""QuickFIX, the C++ engine, as the other side of our FIX sessions: an initiator that trades, an acceptor that fills."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

quickfix = pytest.importorskip("quickfix", reason="quickfix-py has wheels for Linux on x86-64 only")

from core.venue.fix_server import COMP_ID, logon_signature  # noqa: E402

TIMEOUT_S = 15.0
_NUMBERS = itertools.count(1)


def configuration(folder: Path, kind: str, port: int, sender: str, target: str) -> quickfix.SessionSettings:
    dictionary = Path(sys.prefix) / "share" / "quickfix" / "FIX44.xml"
    strict = f"UseDataDictionary=Y\nDataDictionary={dictionary}" if dictionary.exists() else "UseDataDictionary=N"
    where = (
        f"SocketConnectHost=127.0.0.1\nSocketConnectPort={port}"
        if kind == "initiator"
        else f"SocketAcceptPort={port}\nSocketReuseAddress=Y"
    )
    text = f"""[DEFAULT]
ConnectionType={kind}
ReconnectInterval=1
StartTime=00:00:00
EndTime=00:00:00
{strict}
ValidateUserDefinedFields=N
AllowUnknownMsgFields=Y
SocketNodelay=Y
FileStorePath={folder / "store"}
HeartBtInt=5
ResetOnLogon=N
[SESSION]
BeginString=FIX.4.4
SenderCompID={sender}
TargetCompID={target}
{where}
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}.cfg").write_text(text)
    return quickfix.SessionSettings(str(folder / f"{kind}.cfg"))


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT_S:g} s"
        time.sleep(0.01)


class Fields(dict[int, str]):
    """A message's fields by tag."""


def fields_of(message: quickfix.Message) -> Fields:
    found = Fields()
    for part in message.toString().strip("\x01").split("\x01"):
        tag, _, value = part.partition("=")
        found[int(tag)] = value
    return found


class Trader(quickfix.Application):
    """An initiator: logs on with a key, sends orders, remembers every message of the venue."""

    def __init__(self, folder: Path, port: int, api_key: str, secret: str) -> None:
        super().__init__()
        # QuickFIX knows sessions by name, process-wide.
        name = f"QF{next(_NUMBERS)}"
        self._api_key, self._secret, self._name = api_key, secret, name
        self.heard: list[Fields] = []
        self.administrative: list[Fields] = []
        self.logons = 0
        self._session: quickfix.SessionID | None = None
        self.is_on = threading.Event()
        settings = configuration(folder, "initiator", port, name, COMP_ID)
        self._store = quickfix.FileStoreFactory(settings)
        self._initiator = quickfix.SocketInitiator(self, self._store, settings)

    def start(self) -> None:
        self._initiator.start()
        assert self.is_on.wait(TIMEOUT_S), "QuickFIX did not log on"

    def stop(self) -> None:
        self._initiator.stop()

    def onCreate(self, session: quickfix.SessionID) -> None:  # noqa: N802 - QuickFIX calls it so
        self._session = session

    def onLogon(self, session: quickfix.SessionID) -> None:  # noqa: N802
        self.logons += 1
        self.is_on.set()

    def onLogout(self, session: quickfix.SessionID) -> None:  # noqa: N802
        self.is_on.clear()

    def toAdmin(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        found = fields_of(message)
        if found[35] == "A":
            signature = logon_signature(self._secret, self._name, COMP_ID, int(found[34]), found[52])
            message.setField(quickfix.StringField(553, self._api_key))
            message.setField(quickfix.StringField(95, str(len(signature))))
            message.setField(quickfix.StringField(96, signature))

    def fromAdmin(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        self.administrative.append(fields_of(message))

    def toApp(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        """Nothing to add."""

    def fromApp(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        self.heard.append(fields_of(message))

    def send(self, kind: str, **tags: str) -> None:
        """`tags` as t11="name"."""
        message = quickfix.Message()
        message.getHeader().setField(quickfix.BeginString("FIX.4.4"))
        message.getHeader().setField(quickfix.MsgType(kind))
        for tag, value in tags.items():
            message.setField(quickfix.StringField(int(tag[1:]), value))
        message.setField(quickfix.TransactTime())
        quickfix.Session.sendToTarget(message, self._session)

    def order(self, name: str, side: str, quantity: str, price: str | None, in_force: str = "1", **more: str) -> None:
        terms = {"t40": "1"} if price is None else {"t40": "2", "t44": price}
        self.send("D", t11=name, t55="S0", t54=side, t38=quantity, t59=in_force, **terms, **more)

    def reports(self, name: str, *, original: bool = False) -> list[str]:
        """ExecTypes told of an order (by ClOrdID, or OrigClOrdID), in order."""
        tag = 41 if original else 11
        return [m[150] for m in self.heard if m[35] == "8" and m.get(tag) == name]

    def until(self, name: str, *types: str, original: bool = False) -> None:
        wait_for(lambda: self.reports(name, original=original) == list(types), f"{name}: {types} of {self.heard}")
