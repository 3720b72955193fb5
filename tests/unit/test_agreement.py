"""What becomes of proposals that the voters refuse: told to who waits, and made anew; and opinions across a change."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from core.agreement import LeadershipLostError, PendingCommits, RefusedError
from core.config import Settings
from core.cycle import Cycle
from core.decision import OPINION_DTYPE, PROPOSAL_DTYPE
from core.leader import Leader
from core.opinions import OpinionKind, Opinions
from core.payload import OPINION_LAYOUT
from core.records import VenueState
from core.toggles import Toggles
from net.messages import Application, Channel


def test_who_waits_for_a_refused_payload_hears_of_it_and_the_others_wait_on() -> None:
    async def work() -> None:
        pending = PendingCommits()
        one, other = (asyncio.ensure_future(pending.agree([each], lambda payloads: None)) for each in (b"1", b"2"))
        await asyncio.sleep(0)
        pending.refused(b"1", "made for other members")
        pending.refused(b"unknown", "")
        with pytest.raises(RefusedError, match="other members"):
            await one
        assert not other.done()
        pending.fail("gone")
        with pytest.raises(LeadershipLostError):
            await other

    asyncio.run(work())


def test_a_payload_that_is_refused_as_it_is_proposed_is_told() -> None:
    async def work() -> None:
        pending = PendingCommits()
        with pytest.raises(RefusedError):
            await pending.agree([b"1"], lambda payloads: pending.refused(payloads[0], "at once"))

    asyncio.run(work())


class RefusedOnce:
    """A cycle, and what its leader needs of the node: the first run is refused, the second ends the test."""

    def __init__(self) -> None:
        self.runs = 0
        self.events: list[str] = []

    def forget_last(self) -> None: ...

    async def run(self, step: int, toggles: object) -> None:
        self.runs += 1
        raise RefusedError("made for other members") if self.runs == 1 else LeadershipLostError("end of the test")

    def event(self, severity: object, text: str) -> None:
        self.events.append(text)


def test_a_leader_begins_the_cycle_anew_reconciled_and_says_why() -> None:
    async def work() -> None:
        swarm = RefusedOnce()
        state = cast(Any, type("State", (), {"cycles_done": 0, "toggles": None, "trading": None, "switch_order": None}))
        leader = Leader(
            Settings.model_construct(pace="max", cycles=0),
            state,
            cast(Any, swarm),
            cast(Any, None),
            cast(Any, swarm),
            lambda record: None,
        )
        reconciled: list[int] = []

        async def reconcile() -> None:
            reconciled.append(swarm.runs)

        leader.venue = VenueState.CONNECTED
        leader._reconcile = reconcile  # type: ignore[method-assign]
        with pytest.raises(LeadershipLostError, match="end of the test"):
            await leader.run()
        assert reconciled == [0, 1], "what was accepted before the refusal goes to the gateway"
        assert swarm.events == ["the cycle begins anew: made for other members"]

    asyncio.run(work())


def test_the_other_batches_of_a_cycle_come_to_their_end_before_it_begins_anew() -> None:
    async def work() -> None:
        nothing = cast(Any, None)
        settings = Settings.model_construct(batch_policy="fixed", batch_max=1, batch_wait_ms=0.0)
        cycle = Cycle(0, settings, nothing, nothing, nothing, nothing, nothing, nothing, lambda: False)
        ended: list[int] = []

        async def decide(step: int, rows: np.ndarray, toggles: object, *, reports: bool) -> list[Any]:
            if reports:
                raise RefusedError("made for other members")
            await asyncio.sleep(0.01)
            ended.append(int(rows["instrument"][0]))
            return []

        cycle._decide = decide  # type: ignore[assignment, method-assign]
        proposals = np.zeros(3, PROPOSAL_DTYPE)
        proposals["instrument"] = (0, 1, 2)
        with pytest.raises(RefusedError):
            await cycle._coordinate(0, proposals, Toggles(batching=True))
        assert ended == [1, 2]

    asyncio.run(work())


class Silent:
    def broadcast(self, peer_ids: object, message: Application, *, round_id: int = 0) -> None: ...


def asked(peers: tuple[int, ...], quorum: int) -> tuple[Opinions, asyncio.Task[Any]]:
    opinions = Opinions(0, peers, quorum, Silent(), lambda said: b"", cast(Any, None))
    return opinions, asyncio.ensure_future(opinions.ask(0, np.zeros(1, PROPOSAL_DTYPE)))


def answer(opinions: Opinions, peer: int) -> None:
    said = np.zeros(1, OPINION_DTYPE).tobytes()
    opinions.deliver(peer, Application(Channel.OPINION, OpinionKind.ANSWER, 1, 0, OPINION_LAYOUT, said, b""))


def test_the_opinions_of_fewer_voters_are_enough_once_the_others_are_gone() -> None:
    """The answers were here already, nobody gave another one, and the request waited for ever."""

    async def work() -> None:
        opinions, task = asked((1, 2, 3, 4), 4)
        await asyncio.sleep(0)
        for peer in (1, 2):
            answer(opinions, peer)
        assert not task.done()
        opinions.set_voters((1, 2, 3), 3)
        given = await asyncio.wait_for(task, 5.0)
        assert [each.peer for each in given] == [1, 2]

    asyncio.run(work())


def test_the_opinion_of_one_who_votes_no_longer_does_not_count() -> None:
    async def work() -> None:
        opinions, task = asked((1, 2, 3, 4), 4)
        await asyncio.sleep(0)
        for peer in (1, 4):
            answer(opinions, peer)
        opinions.set_voters((1, 2, 3), 3)
        await asyncio.sleep(0)
        assert not task.done()
        answer(opinions, 4)
        answer(opinions, 3)
        given = await asyncio.wait_for(task, 5.0)
        assert [each.peer for each in given] == [1, 3]

    asyncio.run(work())
