"""Who may change a running swarm: operators, one in control at a time; observers look on.

Every node decides by itself what it obeys, from the roster and from what operators told it over their own proven links:
a monitor that was tampered with gains nothing. The latest claim wins, so that nodes which heard claims in different
orders agree; a claim ends with the claimant's link to the node or by its own word. While nobody is in control every
operator may act. The kill switch, changes of membership and of the limits are signed by the operator and need no
control; changes of the toggles are signed and need it, as two who press keys undo each other's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from core.records import InControl
from core.telemetry_messages import Control
from net.identity import Roster

LABEL_CHARACTERS_MAX: Final = 64
AHEAD_MAX_S: Final = 60.0
"""A claim dated further ahead is refused: it would keep everybody out until then."""
FREE_TO_READ: Final = frozenset({Control.EPOCH, Control.TRACE, Control.SESSION})
SIGNED: Final = frozenset({Control.TRADING, Control.CHANGE_MEMBERS, Control.LIMITS})


@dataclass(frozen=True, slots=True)
class Claim:
    """An operator takes control, or gives it up (`held` False). `label` says who that is, in its own words."""

    claimed_ns: int
    held: bool
    label: str

    def to_dict(self) -> dict[str, object]:
        return {"claimed_ns": self.claimed_ns, "held": self.held, "label": self.label}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Claim:
        """Raises ValueError, KeyError or TypeError for what is none."""
        claimed_ns, held, label = values["claimed_ns"], values["held"], values["label"]
        if not isinstance(claimed_ns, int) or not isinstance(held, bool) or not isinstance(label, str):
            raise TypeError("a claim holds a time, whether it is held, and a label")
        if len(label) > LABEL_CHARACTERS_MAX or not label.isprintable():
            raise ValueError(f"a label is printable and has {LABEL_CHARACTERS_MAX} characters at most")
        return cls(claimed_ns, held, label)


class ControlClaims:
    """The claims that one node has heard."""

    def __init__(self, roster: Roster, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._names = {entry.id: entry.name for entry in roster.of_role("operator")}
        self._clock_ns = clock_ns
        self._latest_ns = 0
        self.holder: InControl | None = None

    def claim(self, sender: int, claim: Claim) -> str:
        """Take or give up control; returns what happened, in a sentence. Raises ValueError where it is refused."""
        if sender not in self._names:
            raise ValueError("an observer looks on and changes nothing")
        if not claim.held:
            if self.holder is None or self.holder.operator != sender:
                return f"{self._names[sender]} was not in control"
            self.holder = None
            return f"{self._names[sender]} gave up control"
        if claim.claimed_ns > self._clock_ns() + int(AHEAD_MAX_S * 1e9):
            raise ValueError(f"the claim is dated more than {AHEAD_MAX_S:g} s ahead; set that machine's clock")
        if claim.claimed_ns < self._latest_ns:
            raise ValueError(f"a later claim came first: {self._held_by()}")
        self._latest_ns = claim.claimed_ns
        self.holder = InControl(sender, self._names[sender], claim.label, claim.claimed_ns)
        return self._held_by()

    def gone(self, sender: int) -> None:
        """The link to a monitor is over: it is in control no more, until it is back with its claim."""
        if self.holder is not None and self.holder.operator == sender:
            self.holder = None

    def refusal(self, sender: int, kind: int) -> str | None:
        """Why `sender` may not ask for `kind`, or None where it may."""
        if kind in FREE_TO_READ:
            return None
        if sender not in self._names:
            return "an observer looks on and changes nothing"
        if kind in SIGNED or kind == Control.CLAIM or self.holder is None or self.holder.operator == sender:
            return None
        return f"{self.holder.name} is in control; C takes over"

    def _held_by(self) -> str:
        return "nobody is in control" if self.holder is None else f"{self.holder} is in control"
