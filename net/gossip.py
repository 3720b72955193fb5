"""What the nodes tell one another beside the log: versioned, signed values, spread by anti-entropy.

Push-pull anti-entropy (Demers et al., "Epidemic Algorithms for Replicated Database Maintenance", PODC 1987, §1.3), with
digests of versions in place of the values (as van Renesse et al., "Efficient Reconciliation and Flow Control for
Anti-Entropy Protocols", 2008): once an interval a node sends what versions it holds to one peer drawn at random; the
peer answers with what is newer there and asks for what it lacks. A lost message costs one interval, nothing else, so
datagrams carry it well.

Sans-I/O: time, randomness and the clock that versions start from are handed in. Nothing here decides anything; a value
is what its origin says of itself, and no more.

Bounds: only members are origins, each with keys 0 to `keys_max` - 1 and `value_bytes_max` bytes a value; a message
holds at most one version per origin and key, and `delta_bytes_max` bytes of values; a peer is answered
`answers_per_interval_max` times an interval.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final

from net.identity import verify_signature
from net.messages import GossipDelta, GossipDigest, GossipEntry, GossipMessage, GossipVersion

VERSION_MAX: Final = (1 << 63) - 1
_SIGNED: Final = struct.Struct("<IIQ")
_LABEL: Final = b"tradetui.gossip.1"


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """Times in seconds, bounds in bytes or counts."""

    interval_s: float = 0.5
    """A node begins one exchange with one peer this often."""
    keys_max: int = 16
    """Keys of one origin: 0 to this, less one."""
    value_bytes_max: int = 1024
    delta_bytes_max: int = 16 * 1024
    """Values of one message; what does not fit goes with the next exchange."""
    answers_per_interval_max: int = 8
    """Exchanges of one peer that are answered in one interval; more are dropped."""


@dataclass(frozen=True, slots=True)
class GossipSend:
    """Give `message` to peer `to`; it may be lost."""

    to: int
    message: GossipMessage


def gossip_bytes(origin: int, key: int, version: int, value: bytes) -> bytes:
    """What an origin signs."""
    return _LABEL + _SIGNED.pack(origin, key, version) + sha256(value).digest()


class Gossip:
    """One node's store of everybody's newest values.

    Invariants: an entry held was signed by its origin, who is a member; its version never falls; what this node
    publishes is newer than anything it published before, restarts included.
    """

    def __init__(
        self,
        node: int,
        members: Mapping[int, bytes],
        sign: Callable[[bytes], bytes],
        random: Random,
        started_ns: int,
        settings: GossipSettings | None = None,
    ) -> None:
        """`members` maps id to 32-byte Ed25519 public key, this node's too. `started_ns`: wall clock, at which
        versions start, so that those of an earlier life are older. Raises ValueError when `members` lacks this node.
        """
        if node not in members:
            raise ValueError(f"gossip: node {node} is not among the members {sorted(members)}")
        self._node = node
        self._members = dict(members)
        self._sign = sign
        self._random = random
        self._settings = settings or GossipSettings()
        self._version = min(max(started_ns, 0), VERSION_MAX - 1)
        self._entries: dict[tuple[int, int], GossipEntry] = {}
        self._heard: dict[int, float] = {}
        self._answered: Counter[int] = Counter()
        self._due = float("-inf")
        self.refused: Counter[str] = Counter()
        """Hostile or broken input by reason; a message is refused whole."""

    # What this node says, and what it knows.

    def publish(self, key: int, value: bytes) -> None:
        """This node's newest value. The same value again costs nothing. Raises ValueError for one out of bounds."""
        if not 0 <= key < self._settings.keys_max or len(value) > self._settings.value_bytes_max:
            raise ValueError(f"gossip: key {key} with {len(value)} bytes is out of bounds {self._settings}")
        held = self._entries.get((self._node, key))
        if held is None or held.value != value:
            self._publish(key, value)

    def _publish(self, key: int, value: bytes) -> None:
        self._version = min(self._version + 1, VERSION_MAX)
        signature = self._sign(gossip_bytes(self._node, key, self._version, value))
        self._entries[self._node, key] = GossipEntry(self._node, key, self._version, value, signature)

    def value(self, origin: int, key: int) -> bytes | None:
        """The newest value heard of, None where there is none."""
        entry = self._entries.get((origin, key))
        return entry.value if entry is not None else None

    def entries(self) -> tuple[GossipEntry, ...]:
        """Everything held, by origin and key."""
        return tuple(self._entries[place] for place in sorted(self._entries))

    def heard_at(self, origin: int) -> float | None:
        """When something new of `origin` arrived, on the clock of `now`; None for never."""
        return self._heard.get(origin)

    def set_members(self, members: Mapping[int, bytes]) -> None:
        """Who takes part from now on; what others said is forgotten. Raises ValueError when this node is missing."""
        if self._node not in members:
            raise ValueError(f"gossip: node {self._node} is not among the members {sorted(members)}")
        changed = {origin for origin in self._members if members.get(origin) != self._members[origin]}
        self._members = dict(members)
        self._entries = {place: entry for place, entry in self._entries.items() if place[0] not in changed}
        for origin in changed:
            self._heard.pop(origin, None)

    # Time and messages in, messages out.

    def next_deadline(self) -> float:
        """When `tick` is wanted next, on the clock of `now`."""
        return self._due

    def tick(self, now: float) -> list[GossipSend]:
        """Begin an exchange with a random peer, when one is due."""
        if now < self._due:
            return []
        self._due = now + self._settings.interval_s
        self._answered.clear()
        peers = sorted(origin for origin in self._members if origin != self._node)
        if not peers:
            return []
        return [GossipSend(self._random.choice(peers), self.digest())]

    def digest(self) -> GossipDigest:
        """What this node holds, by version: the question that begins an exchange. Hearing it twice does no harm."""
        return GossipDigest(self._versions())

    def step(self, sender: int, message: GossipMessage, now: float) -> list[GossipSend]:
        """Take a message that the transport authenticated as coming from `sender`."""
        if sender == self._node or sender not in self._members:
            return self._refuse("from no member")
        self._answered[sender] += 1
        if self._answered[sender] > self._settings.answers_per_interval_max:
            return self._refuse("too many messages")
        if isinstance(message, GossipDigest):
            return self._on_digest(sender, message)
        return self._on_delta(sender, message, now)

    def _on_digest(self, sender: int, message: GossipDigest) -> list[GossipSend]:
        theirs = self._read_versions(message.versions)
        if theirs is None:
            return []
        newer = [place for place, entry in self._entries.items() if entry.version > theirs.get(place, 0)]
        wanted = tuple(
            GossipVersion(*place, self._version_of(place))
            for place, version in theirs.items()
            if version > self._version_of(place) and place[0] in self._members
        )
        return self._delta(sender, newer, wanted)

    def _on_delta(self, sender: int, message: GossipDelta, now: float) -> list[GossipSend]:
        wanted = self._read_versions(message.wanted)
        if wanted is None or not self._take(message.entries, now):
            return []
        newer = [place for place, version in wanted.items() if self._version_of(place) > version]
        return self._delta(sender, newer, ())

    def _delta(self, to: int, newer: list[tuple[int, int]], wanted: tuple[GossipVersion, ...]) -> list[GossipSend]:
        """As many of `newer` as fit, in random order: none is left behind for ever."""
        self._random.shuffle(newer)
        entries: list[GossipEntry] = []
        size = 0
        for place in newer:
            entry = self._entries[place]
            size += len(entry.value)
            if entries and size > self._settings.delta_bytes_max:
                break
            entries.append(entry)
        if not entries and not wanted:
            return []
        return [GossipSend(to, GossipDelta(tuple(entries), wanted))]

    def _versions(self) -> tuple[GossipVersion, ...]:
        return tuple(GossipVersion(*place, self._entries[place].version) for place in sorted(self._entries))

    def _version_of(self, place: tuple[int, int]) -> int:
        entry = self._entries.get(place)
        return entry.version if entry is not None else 0

    # Input that may be hostile.

    def _refuse(self, reason: str) -> list[GossipSend]:
        self.refused[reason] += 1
        return []

    def _entries_max(self) -> int:
        return len(self._members) * self._settings.keys_max

    def _in_bounds(self, origin: int, key: int, version: int) -> bool:
        return origin >= 0 and 0 <= key < self._settings.keys_max and 0 <= version <= VERSION_MAX

    def _read_versions(self, versions: tuple[GossipVersion, ...]) -> dict[tuple[int, int], int] | None:
        """Versions by place; None for a list that no honest member sends. A member may know a newer membership than
        this node: origins that are strange here are no fault, but their number is bounded like that of the others.
        """
        if len(versions) > 2 * self._entries_max():
            self._refuse("too many versions")
            return None
        read = {(each.origin, each.key): each.version for each in versions}
        if len(read) != len(versions) or not all(self._in_bounds(e.origin, e.key, e.version) for e in versions):
            self._refuse("malformed versions")
            return None
        return read

    def _take(self, entries: tuple[GossipEntry, ...], now: float) -> bool:
        """Keep what is newer; False, and nothing kept, when one of them is malformed or forged."""
        if len(entries) > self._entries_max() or len({(e.origin, e.key) for e in entries}) != len(entries):
            self._refuse("too many entries")
            return False
        fresh = []
        for entry in entries:
            if not self._in_bounds(entry.origin, entry.key, entry.version) or (
                len(entry.value) > self._settings.value_bytes_max
            ):
                self._refuse("malformed entry")
                return False
            public_key = self._members.get(entry.origin)
            if public_key is None or entry.version <= self._version_of((entry.origin, entry.key)):
                continue
            signed = gossip_bytes(entry.origin, entry.key, entry.version, entry.value)
            if not verify_signature(public_key, signed, entry.signature):
                self._refuse("forged entry")
                return False
            fresh.append(entry)
        for entry in fresh:
            self._keep(entry, now)
        return True

    def _keep(self, entry: GossipEntry, now: float) -> None:
        own = self._entries.get((self._node, entry.key))
        if entry.origin != self._node or own is None:
            self._entries[entry.origin, entry.key] = entry
            self._heard[entry.origin] = now
        if entry.origin != self._node:
            return
        # An earlier life of this node was ahead of its present clock: what it says now must be newer still.
        self._version = max(self._version, entry.version)
        if own is not None:
            self._publish(entry.key, own.value)
