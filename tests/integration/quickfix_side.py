"""QuickFIX, the C++ engine, as the other side of our FIX sessions: an initiator that trades, an acceptor that fills.

Neither is ever stopped: it ends with its process (`own_process` says why).
"""

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


ACCEPTOR = "EXCHANGE"


class Acceptor(quickfix.Application):
    """A small exchange: what crosses 100.00 fills at once, the rest waits for `fill`; 666 lots are too many."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__()
        self.orders: list[str] = []
        self.administrative: list[Fields] = []
        self._resting: dict[str, Fields] = {}
        self._known: dict[str, tuple[str, str]] = {}
        self._session: quickfix.SessionID | None = None
        self._numbers = itertools.count(1)
        settings = configuration(folder, "acceptor", port, ACCEPTOR, "GATEWAY")
        self._store = quickfix.FileStoreFactory(settings)
        self._acceptor = quickfix.SocketAcceptor(self, self._store, settings)

    def start(self) -> None:
        self._acceptor.start()

    def onCreate(self, session: quickfix.SessionID) -> None:  # noqa: N802
        self._session = session

    def onLogon(self, session: quickfix.SessionID) -> None:  # noqa: N802
        """Nothing to do."""

    def onLogout(self, session: quickfix.SessionID) -> None:  # noqa: N802
        """Nothing to do."""

    def toAdmin(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        self.administrative.append(fields_of(message))

    def fromAdmin(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        self.administrative.append(fields_of(message))

    def toApp(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        """Nothing to add."""

    def fromApp(self, message: quickfix.Message, session: quickfix.SessionID) -> None:  # noqa: N802
        asked = fields_of(message)
        if asked[35] == "D":
            self._new(asked)
        elif asked[35] == "F":
            order = self._resting.pop(asked[41])
            self._report(order, "4", "4", "0", more={11: asked[11], 41: asked[41]})
        elif asked[35] == "AF":
            self._mass_status(asked[584])
        elif asked[35] == "H":
            kind, filled = self._known.get(asked[11], ("8", "0"))
            self._report(asked | {38: "3"}, "I", kind, filled, more={790: asked[790]})

    def fill(self, name: str) -> None:
        """Fill a resting order whole."""
        order = self._resting.pop(name)
        self._fill(order)

    def _new(self, order: Fields) -> None:
        self.orders.append(order[11])
        if order[38] == "666":
            self._report(order, "8", "8", "0", more={103: "99", 58: "too many"})
            return
        self._report(order, "0", "0", "0")
        if float(order[44]) >= 100:
            self._fill(order)
        else:
            self._resting[order[11]] = order

    def _fill(self, order: Fields) -> None:
        trade = str(next(self._numbers))
        fill = {32: order[38], 31: "100.00", 527: trade}
        self._report(order, "F", "2", order[38], more=fill)

    def _mass_status(self, request: str) -> None:
        total = {584: request, 911: str(len(self._resting))}
        if not self._resting:
            self._report(Fields({11: "NONE", 55: "S0", 54: "1", 38: "0"}), "I", "8", "0", more=total | {912: "Y"})
        for at, order in enumerate(self._resting.values(), start=1):
            self._report(order, "I", "0", "0", more=total | {912: "Y" if at == len(self._resting) else "N"})

    def _report(self, order: Fields, kind: str, status: str, filled: str, more: dict[int, str] | None = None) -> None:
        self._known[order[11]] = (status, filled)
        leaves = "0" if status in "248C" else order[38]
        message = quickfix.Message()
        message.getHeader().setField(quickfix.BeginString("FIX.4.4"))
        message.getHeader().setField(quickfix.MsgType("8"))
        tags = {37: "1", 17: str(next(self._numbers)), 150: kind, 39: status, 151: leaves, 14: filled, 6: "100.00"}
        tags |= {11: order[11], 55: order[55], 54: order[54], 38: order[38]} | (more or {})
        for tag, value in tags.items():
            message.setField(quickfix.StringField(tag, value))
        message.setField(quickfix.TransactTime())
        quickfix.Session.sendToTarget(message, self._session)
