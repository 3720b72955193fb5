"""The shell of a core: a turn is carried out whole, or the shell stops for good and its owner ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import uvloop

from core.essential import end_process
from net.bft import SafetyViolation
from net.consensus import Commit, Effect, Persist, Send, Sync
from net.log import LogError
from net.membership import Membership, MembershipError
from net.messages import Certificate, Committed, ConsensusMessage, Entry, EntryKind, FetchEntries, Mode, Phase
from net.mode_switch import SwitchError, SwitchOrder
from net.shell import ReplicaShell
from net.submissions import TooManySubmissions

GOOD, BAD = FetchEntries(1, 1, 1), FetchEntries(1, 2, 1)
PROOF = Certificate(Mode.RAFT, 1, bytes(32), Phase.FINALIZE, 1, 1, bytes(32), bytes(32), (), ())
DECIDED = Committed(1, Entry(1, 1, EntryKind.DATA, b"x"), PROOF)
ORDER = SwitchOrder(Mode.BFT, 200, bytes(64))


class FakeCore:
    """Persists, syncs, sends and commits on every message but `BAD`; everything else raises `error` where it is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.deadline: float | None = None

    def step(self, sender: int, message: ConsensusMessage, now: float) -> list[Effect]:
        self.asked += 1
        if message == BAD:
            raise SafetyViolation("two blocks are finalized")
        return [Persist(b"record"), Sync(), Send(1, message), Commit((DECIDED,))]

    def answer(self, *_arguments: object) -> list[Effect]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return []

    start = tick = propose = switch_mode = transfer_leadership = read_index = change_membership = answer

    def checkpoint_taken(self, index: int, state: bytes, now: float) -> list[Effect]:
        return []

    def next_deadline(self) -> float | None:
        return self.deadline


class Owner:
    """Disk, wire and observer in one; what each is given, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failures: list[Exception] = []
        self.broken = ""

    def _do(self, what: str) -> None:
        if what == self.broken:
            raise LogError(f"cannot {what}")
        self.done.append(what)

    def append(self, record: bytes) -> None:
        self._do("append")

    def sync(self) -> None:
        self._do("sync")

    def rewrite(self, records: Sequence[bytes]) -> None:
        self._do("rewrite")

    def broadcast(self, peer_ids: Sequence[int], message: ConsensusMessage, *, round_id: int = 0) -> None:
        self._do("broadcast")

    def flush(self) -> None: ...

    def committed(self, entry: Committed, denied: bool, recovered: bool) -> None:
        self._do("committed")

    def leader_changed(self, leader: int | None, term: int) -> None: ...

    def epoch_started(self, epoch: int, mode: Mode, base_index: int, membership: Membership) -> None: ...

    def checkpoint(self, index: int) -> bytes:
        return b""

    def restore(self, index: int, state: bytes) -> None: ...

    def evidence(self, culprit: int, reason: str, proof: bytes) -> None: ...

    def stranded(self, peer: int, index: int) -> None:
        raise AssertionError(index)

    def refused(self, payload: bytes) -> None:
        self._do(f"refused {payload!r}")

    def failed(self, error: Exception) -> None:
        self.failures.append(error)


def in_a_loop(body: Callable[[FakeCore, Owner, ReplicaShell], Any], core: FakeCore, owner: Owner) -> None:
    async def run() -> None:
        await body(core, owner, ReplicaShell(core, owner, owner, owner))

    uvloop.run(run())


def test_a_turn_with_a_message_that_breaks_the_core_is_not_carried_out_in_part() -> None:
    async def body(core: FakeCore, owner: Owner, shell: ReplicaShell) -> None:
        core.deadline = 0.0
        shell.deliver(1, GOOD)
        shell.deliver(2, BAD)
        shell.deliver(1, GOOD)
        await asyncio.sleep(0.01)
        assert owner.done == []
        assert [type(error) for error in owner.failures] == [SafetyViolation]
        assert core.asked == 2

    in_a_loop(body, FakeCore(), Owner())


@pytest.mark.parametrize(
    ("broken", "done"),
    [
        ("append", []),
        ("sync", ["append"]),
        ("broadcast", ["append", "sync"]),
        ("committed", ["append", "sync", "broadcast"]),
    ],
)
def test_nothing_follows_what_could_not_be_carried_out(broken: str, done: list[str]) -> None:
    """A vote that is not on disk never leaves, and a sync that succeeds later vouches for nothing."""

    async def body(core: FakeCore, owner: Owner, shell: ReplicaShell) -> None:
        owner.broken = broken
        shell.deliver(1, GOOD)
        await asyncio.sleep(0.01)
        assert owner.done == done
        assert [str(error) for error in owner.failures] == [f"cannot {broken}"]
        owner.broken = ""
        asked, core.deadline = core.asked, 0.0
        shell.deliver(1, GOOD)
        shell.propose([b"x"])
        shell.switch_mode(ORDER)
        assert await shell.read_index() is None
        await asyncio.sleep(0.01)
        assert core.asked == asked
        assert owner.done == done
        assert len(owner.failures) == 1

    in_a_loop(body, FakeCore(), Owner())


def test_a_timer_that_breaks_the_core_stops_the_shell_and_who_waits_for_a_read_hears_of_it() -> None:
    async def body(core: FakeCore, owner: Owner, shell: ReplicaShell) -> None:
        read = asyncio.ensure_future(shell.read_index())
        await asyncio.sleep(0)
        core.error, core.deadline = KeyError("slot"), 0.0
        shell.deliver(1, GOOD)
        await asyncio.sleep(0.01)
        assert [type(error) for error in owner.failures] == [KeyError]
        with pytest.raises(asyncio.CancelledError):
            await read

    in_a_loop(body, FakeCore(), Owner())


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (lambda shell: shell.propose([b"x"]), TooManySubmissions("full")),
        (lambda shell: shell.switch_mode(ORDER), SwitchError("not signed")),
        (lambda shell: shell.transfer_leadership(1), RuntimeError("does not lead")),
        (lambda shell: shell.change_membership(b""), MembershipError("not signed")),
    ],
)
def test_a_refusal_is_the_callers_and_anything_else_stops_the_shell(
    ask: Callable[[ReplicaShell], None], refusal: Exception
) -> None:
    async def body(core: FakeCore, owner: Owner, shell: ReplicaShell) -> None:
        core.error = refusal
        with pytest.raises(type(refusal)):
            ask(shell)
        assert owner.failures == []
        core.error = SafetyViolation("two blocks are finalized")
        ask(shell)
        assert owner.failures == [core.error]

    in_a_loop(body, FakeCore(), Owner())


@pytest.mark.parametrize("asks", ["deliver", "propose", "timer"])
def test_the_process_of_a_node_ends_and_says_why(asks: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Ending(Owner):
        def failed(self, error: Exception) -> None:
            end_process(error)

    async def body(core: FakeCore, owner: Owner, shell: ReplicaShell) -> None:
        core.error = SafetyViolation("two blocks are finalized")
        if asks == "propose":
            shell.propose([b"x"])
        core.deadline = 0.0 if asks == "timer" else None
        shell.deliver(1, BAD if asks == "deliver" else GOOD)
        await asyncio.sleep(10.0)

    with pytest.raises(SystemExit):
        in_a_loop(body, FakeCore(), Ending())
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == "net.bft.SafetyViolation: two blocks are finalized"
