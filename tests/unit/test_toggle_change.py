"""Toggles changed while trading: signed by an operator, with the order to switch, kept until its epoch ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgpack
import pytest
from nacl.signing import SigningKey

from core.applied import Applied
from core.change_toggles import change_toggles
from core.config import Settings
from core.leader import Leader, NotLeadingError, ToggleAnswer
from core.payload import PayloadKind, decode, encode_toggle_change
from core.session import GATEWAY_ID, OPERATOR_ID, SessionError
from core.swarm_snapshot import restore_snapshot, take_snapshot
from core.swarm_state import SwarmState
from core.telemetry_messages import Control, epoch_to_dict
from core.toggle_change import (
    CONSENSUS_OF,
    MODE_OF,
    ToggleChange,
    decode_toggles,
    encode_toggles,
    sign_toggles,
)
from core.toggles import BASELINE, OPTIMISED, Consensus, Toggles, pressed
from core.vote_check import ContentVerdict, judge_content
from net.epoch import Epoch, first_epoch, make_epoch
from net.membership import Membership
from net.messages import Certificate, Committed, Entry, EntryKind, Mode, Phase
from net.mode_switch import SwitchError, SwitchOrder, encode_switch, switched_epoch
from tests.unit.test_swarm_state import KEYS, change_to, make_state

RAFT = replace(BASELINE, consensus=Consensus.RAFT)
AUTO = replace(BASELINE, consensus=Consensus.AUTO)
BATCHING = replace(BASELINE, batching=True)
FIRST = first_epoch(Mode.BFT, 0, make_state().membership)
KEYS_OF_ALL = {identity: key.verify_key.encode() for identity, key in KEYS.items()}


def signed(
    toggles: Toggles = BATCHING,
    signed_ns: int = 5,
    epoch: Epoch = FIRST,
    signer: int = OPERATOR_ID,
    key: SigningKey = KEYS[OPERATOR_ID],
) -> ToggleChange:
    return sign_toggles(toggles, epoch, signed_ns, signer, lambda data: key.sign(data).signature)


class Log:
    """A log of one state, as one node applies it: entries, and the epochs that they begin."""

    def __init__(self, state: SwarmState | None = None, epoch: Epoch = FIRST) -> None:
        self.state = state or make_state()
        self.epoch = epoch

    def add(self, payload: bytes, kind: EntryKind = EntryKind.DATA) -> Applied:
        index, epoch = self.state.applied_index + 1, self.epoch
        denied = False
        if kind is EntryKind.SWITCH:
            try:
                self.epoch = switched_epoch(epoch, payload, index, bytes([index]) * 32, self.state.operator_keys)
            except SwitchError:
                denied = True
        elif kind is EntryKind.MEMBERSHIP:
            self.epoch = make_epoch(epoch.number + 1, epoch.mode, index, bytes([index]) * 32, 0, epoch.membership)
        certificate = Certificate(
            epoch.mode, epoch.number, epoch.context, Phase.FINALIZE, 1, index, bytes(32), bytes(32), (), ()
        )
        witness = certificate if epoch.mode is Mode.AUTO else None
        return self.state.apply(Committed(epoch.number, Entry(index, 1, kind, payload), certificate, witness), denied)

    def change(self, change: ToggleChange) -> Applied:
        return self.add(encode_toggle_change(change))

    def switch(self, order: SwitchOrder) -> Applied:
        return self.add(encode_switch(order, 0), EntryKind.SWITCH)


def test_a_change_survives_its_encoding_and_a_changed_value_does_not() -> None:
    for change in (signed(), signed(OPTIMISED)):
        assert decode_toggles(encode_toggles(change)) == change
        assert decode(encode_toggle_change(change)) == change
        assert change.is_signed(KEYS_OF_ALL)
        for forged in (
            replace(change, toggles=replace(change.toggles, zero_rtt=not change.toggles.zero_rtt)),
            replace(change, switch=signed(RAFT).switch),
            replace(change, signed_ns=6),
            replace(change, signer=GATEWAY_ID),
        ):
            assert not forged.is_signed(KEYS_OF_ALL)
    assert signed().switch is None
    assert signed(OPTIMISED).switch is not None


def test_an_order_to_switch_is_there_exactly_where_the_mode_differs() -> None:
    for running in Mode:
        epoch = make_epoch(4, running, 7, bytes(32), 0, FIRST.membership)
        for mode in Mode:
            order = signed(replace(BASELINE, consensus=CONSENSUS_OF[mode]), epoch=epoch).switch
            assert (order is None) == (mode is running)
            assert order is None or order.mode is mode
    three = first_epoch(Mode.RAFT, 0, Membership(FIRST.membership.members[:3]))
    with pytest.raises(SwitchError, match="needs at least 4 nodes"):
        signed(AUTO, epoch=three)


WHOLE = encode_toggles(signed(OPTIMISED))


def with_field(place: int, value: object) -> bytes:
    fields = list(msgpack.unpackb(WHOLE[:-64]))
    fields[place] = value
    return bytes(msgpack.packb(fields)) + WHOLE[-64:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 64,
        WHOLE[1:],
        WHOLE + b"x",
        with_field(0, {"batching": True}),
        with_field(0, {**OPTIMISED.as_dict(), "other": 1}),
        with_field(0, {**OPTIMISED.as_dict(), "batching": 1}),
        with_field(0, [1]),
        with_field(1, (2, OPERATOR_ID, bytes(64))),
        with_field(1, (3, OPERATOR_ID, bytes(63))),
        with_field(1, (9, OPERATOR_ID, bytes(64))),
        with_field(1, (3, True, bytes(64))),
        with_field(1, 3),
        with_field(2, 5.0),
        with_field(3, True),
    ],
)
def test_other_bytes_are_no_change(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"change of the toggles|order to switch"):
        decode_toggles(data)


def test_a_change_without_a_signature_of_an_older_build_changes_nothing_and_says_so() -> None:
    log = Log()
    old = bytes([PayloadKind.UNSIGNED_TOGGLES]) + b'{"batching": true}'
    assert log.add(old).problem == "a change of the toggles without a signature, as older builds wrote it"
    assert log.state.toggles == BASELINE
    assert judge_content(log.state, old, leads=False) is ContentVerdict.REFUSE


@pytest.mark.parametrize(("signer", "key"), [(GATEWAY_ID, GATEWAY_ID), (0, 0), (OPERATOR_ID, 0), (7, OPERATOR_ID)])
@pytest.mark.parametrize("toggles", [BATCHING, RAFT])
def test_only_an_operator_changes_toggles(toggles: Toggles, signer: int, key: int) -> None:
    log = Log()
    change = signed(toggles, signer=signer, key=KEYS[key])
    assert judge_content(log.state, encode_toggle_change(change), leads=False) is ContentVerdict.REFUSE
    assert log.change(change).problem == "a change of the toggles by somebody who may not"
    assert (log.state.toggles, log.state.switch_order) == (BASELINE, None)


def test_toggles_hold_from_their_entry_on_and_older_ones_come_too_late() -> None:
    log = Log()
    assert judge_content(log.state, encode_toggle_change(signed()), leads=False) is ContentVerdict.ACCEPT
    assert log.state.payload_is_critical(encode_toggle_change(signed()))
    log.change(signed())
    assert log.state.toggles == BATCHING
    for late in (signed(BASELINE, 4), signed(BASELINE, 5)):
        assert "a later change" in log.change(late).problem
    assert log.state.toggles == BATCHING


def test_the_mode_follows_the_switch_and_the_order_waits_for_it() -> None:
    log = Log()
    change = signed(replace(RAFT, batching=True))
    assert not log.change(change).problem
    assert log.state.toggles == BATCHING, "the mode that runs is the one that is shown"
    assert log.state.switch_order == change.switch
    assert change.switch is not None
    other = Log()
    restore_snapshot(other.state, take_snapshot(log.state))
    assert other.state.switch_order == change.switch
    for each in (log, other):
        each.switch(change.switch)
        assert each.state.toggles == change.toggles
        assert each.state.switch_order is None
    assert take_snapshot(other.state) == take_snapshot(log.state)


def test_a_switch_that_nobody_signed_leaves_toggles_and_order_as_they_are() -> None:
    log = Log()
    change = signed(RAFT)
    log.change(change)
    assert "nobody who may signed" in log.switch(SwitchOrder(Mode.RAFT, OPERATOR_ID, bytes(64))).problem
    assert (log.state.toggles, log.state.switch_order) == (BASELINE, change.switch)


def false_orders() -> dict[str, ToggleChange]:
    """Changes that the operator signed whole, and whose order to switch is good for nothing."""
    other = make_epoch(2, Mode.BFT, 9, bytes(32), 0, FIRST.membership)
    raft = make_epoch(1, Mode.RAFT, 0, bytes(32), 0, FIRST.membership)
    by_node = sign_toggles(RAFT, FIRST, 5, 2, lambda data: KEYS[2].sign(data).signature)

    def again(switch: SwitchOrder | None) -> ToggleChange:
        bare = replace(signed(RAFT), switch=switch, signature=b"")
        said = b"tradetui toggles" + encode_toggles(bare)
        return replace(bare, signature=KEYS[OPERATOR_ID].sign(said).signature)

    return {
        "of another epoch": signed(RAFT, epoch=other),
        "signed while that mode ran": signed(RAFT, epoch=raft),
        "signed by a node": again(by_node.switch),
        "of the gateway": again(
            sign_toggles(RAFT, FIRST, 5, GATEWAY_ID, lambda d: KEYS[GATEWAY_ID].sign(d).signature).switch
        ),
    }


@pytest.mark.parametrize("wrong", false_orders())
def test_a_change_whose_order_ends_not_the_running_epoch_is_refused_whole(wrong: str) -> None:
    log = Log()
    change = false_orders()[wrong]
    assert change.is_signed(log.state.operator_keys)
    applied = log.change(change)
    assert applied.problem.startswith("consensus stays bft: ")
    assert applied.stale
    assert (log.state.toggles, log.state.switch_order, log.state.toggles_signed_ns) == (BASELINE, None, 0)


def test_an_epoch_that_begins_meanwhile_ends_the_order_and_the_mode_stays() -> None:
    log = Log()
    change = signed(RAFT)
    log.change(change)
    log.add(change_to(log.state.membership), EntryKind.MEMBERSHIP)
    assert (log.state.toggles, log.state.switch_order) == (BASELINE, None)
    assert change.switch is not None
    assert log.switch(change.switch).problem, "the replica denies it, and so does the state"
    assert log.state.toggles == BASELINE
    again = signed(RAFT, 6, log.epoch)
    assert not log.change(again).problem
    assert again.switch is not None
    log.switch(again.switch)
    assert log.state.toggles == RAFT


def test_a_later_change_lays_the_order_before_it_aside() -> None:
    log = Log()
    log.change(signed(RAFT))
    log.change(signed(AUTO, 6))
    assert log.state.switch_order == signed(AUTO).switch
    log.change(signed(BASELINE, 7))
    assert log.state.switch_order is None


# The node that leads


class OneNode:
    """What a leader needs of its node (`core.leader.Swarm`): a log that decides what it is given, when it is let."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.switches = True
        self.events: list[str] = []
        self.before_commit: Callable[[], object] = lambda: None
        self.asked: list[SwitchOrder] = []
        settings = Settings.model_construct(pace="max")
        self.leader = Leader(
            settings, log.state, cast(Any, None), cast(Any, None), cast(Any, self), lambda record: None
        )

    async def commit(self, payload: bytes) -> Applied:
        self.before_commit()
        return self.log.add(payload)

    def switch_mode(self, order: SwitchOrder) -> None:
        self.asked.append(order)
        if self.switches:
            asyncio.get_running_loop().call_later(0.01, self.log.switch, order)

    def event(self, severity: object, text: str) -> None:
        self.events.append(text)

    async def change(self, change: ToggleChange) -> ToggleAnswer:
        asked = asyncio.ensure_future(self.leader.change_toggles(change))
        await asyncio.sleep(0)
        assert await self.leader._apply_changes()
        return await asked


def test_a_leader_commits_switches_and_tells() -> None:
    async def work() -> None:
        node = OneNode(Log())
        assert await node.change(signed(RAFT)) == ToggleAnswer(f"now {RAFT.label()}")
        assert node.log.epoch.mode is Mode.RAFT
        index = node.log.state.applied_index
        assert await node.change(signed(RAFT)) == ToggleAnswer(f"now {RAFT.label()}"), "twice is once"
        assert node.log.state.applied_index == index
        late = await node.change(signed(BATCHING, 4, node.log.epoch))
        assert (
            late.text
            == "refused: a later change of the toggles came before, by the clocks of those who signed; press again"
        )
        assert not late.stale
        assert not await node.leader._apply_changes(), "nothing is left to do"

    asyncio.run(work())


def test_a_leader_that_takes_over_between_toggle_and_switch_carries_the_order_out() -> None:
    async def work() -> None:
        change = signed(RAFT)
        log = Log()
        log.change(change)
        behind = Log()
        restore_snapshot(behind.state, take_snapshot(log.state))
        node = OneNode(behind)
        assert await node.leader._apply_changes()
        assert node.asked == [change.switch]
        assert behind.state.toggles == RAFT
        # Who asked the node before, and got no answer, asks this one.
        assert await node.change(change) == ToggleAnswer(f"now {RAFT.label()}")

    asyncio.run(work())


def test_an_epoch_that_overtakes_the_change_or_the_switch_is_told_as_stale() -> None:
    async def work() -> None:
        node = OneNode(Log())
        members = change_to(node.log.state.membership)
        node.before_commit = lambda: node.log.add(members, EntryKind.MEMBERSHIP)
        answer = await node.change(signed(RAFT))
        assert answer.stale
        assert "consensus stays bft" in answer.text
        assert "press again" in answer.text
        node.before_commit = lambda: None
        node.switches = False
        asyncio.get_running_loop().call_later(0.02, node.log.add, members, EntryKind.MEMBERSHIP)
        answer = await node.change(signed(RAFT, 6, node.log.epoch))
        assert answer == ToggleAnswer(
            "consensus stays bft: another epoch began before the switch; press again", stale=True
        )
        assert node.log.state.toggles == BASELINE

    asyncio.run(work())


def test_what_waits_when_the_lead_goes_is_for_the_next_leader() -> None:
    async def work() -> None:
        node = OneNode(Log())
        asked = asyncio.ensure_future(node.leader.change_toggles(signed()))
        await asyncio.sleep(0)
        node.leader.stand_down()
        with pytest.raises(NotLeadingError):
            await asked

        def lose() -> None:
            raise ConnectionError("the lead went")

        node.before_commit = lose
        with pytest.raises(ConnectionError):
            await node.change(signed())

    asyncio.run(work())


# The operator's monitor


class Monitor:
    """Presses keys at `node`, as an operator's monitor does over the wire."""

    def __init__(self, node: OneNode) -> None:
        self.node = node
        self.clock = 10
        self.after_epoch: Callable[[], object] = lambda: None

    async def ask(self, kind: Control, values: dict[str, Any]) -> Any:
        log = self.node.log
        if kind is Control.EPOCH:
            reply = epoch_to_dict(log.epoch) | {"toggles": log.state.toggles.as_dict()}
            self.after_epoch()
            return reply
        answer = await self.node.change(decode_toggles(values["change"]))
        return {"text": answer.text, "stale": answer.stale}

    def sign(self, toggles: Toggles, epoch: Epoch) -> ToggleChange:
        self.clock += 1
        return signed(toggles, self.clock, epoch)

    async def press(self, key: str) -> str:
        return await change_toggles(self.ask, self.sign, lambda toggles: pressed(toggles, key))


def test_keys_in_quick_succession_end_in_the_last_one() -> None:
    async def work() -> None:
        monitor = Monitor(OneNode(Log()))
        for wanted in (Consensus.RAFT, Consensus.AUTO, Consensus.BFT):
            assert (await monitor.press("m")).endswith(f"now {replace(BASELINE, consensus=wanted).label()}")
        assert [CONSENSUS_OF[order.mode] for order in monitor.node.asked] == ["raft", "auto", "bft"]
        assert monitor.node.log.epoch.number == 4

    asyncio.run(work())


def test_what_an_epoch_overtakes_is_signed_again_for_the_next() -> None:
    async def work() -> None:
        monitor = Monitor(OneNode(Log()))
        log = monitor.node.log
        members = change_to(log.state.membership)

        def overtake() -> None:
            monitor.after_epoch = lambda: None
            log.add(members, EntryKind.MEMBERSHIP)

        monitor.after_epoch = overtake
        assert await monitor.press("m") == f"now {RAFT.label()}"
        assert log.epoch.mode is Mode.RAFT

    asyncio.run(work())


def test_two_monitors_that_press_at_once_end_in_the_later_key() -> None:
    async def work() -> None:
        node = OneNode(Log())
        one, other = Monitor(node), Monitor(node)
        other.clock = 1000
        epoch = node.log.epoch
        early = one.sign(RAFT, epoch)
        late = other.sign(AUTO, epoch)
        asked = [asyncio.ensure_future(node.leader.change_toggles(each)) for each in (early, late)]
        await asyncio.sleep(0)
        await node.leader._apply_changes()
        first, second = [await each for each in asked]
        assert first.text == f"now {RAFT.label()}"
        assert second.stale, "its order was for the epoch before the first one's switch"
        assert await change_toggles(other.ask, other.sign, lambda _: AUTO) == f"now {AUTO.label()}"

    asyncio.run(work())


def test_a_node_that_lies_about_toggles_or_epoch_gets_no_order_to_switch_that_counts() -> None:
    async def work() -> None:
        log = Log()
        given: list[ToggleChange] = []

        async def ask(kind: Control, values: dict[str, Any]) -> Any:
            if kind is Control.EPOCH:
                return lie
            given.append(decode_toggles(values["change"]))
            return {"text": "taken", "stale": False}

        for mode, toggles in ((Mode.BFT, RAFT), (Mode.RAFT, BASELINE), (Mode.AUTO, BASELINE)):
            lie = epoch_to_dict(log.epoch) | {"toggles": toggles.as_dict(), "mode": int(mode)}
            for key in ("b", "m"):
                await change_toggles(ask, lambda wanted, epoch: signed(wanted, 7, epoch), lambda t: pressed(t, key))  # noqa: B023
        assert len(given) == 6
        for change in given:
            if change.switch is not None:
                denied = log.switch(change.switch).problem
                # The one that was pressed for, in the epoch that runs: BFT to Raft.
                assert denied or change.switch == signed(RAFT).switch

    asyncio.run(work())


def test_a_node_that_lies_first_and_calls_the_answer_stale_cannot_choose_the_mode() -> None:
    async def work() -> None:
        auto = make_epoch(7, Mode.AUTO, 40, bytes(32), 0, FIRST.membership)
        told = [Mode.BFT, Mode.RAFT, Mode.AUTO]
        given: list[ToggleChange] = []

        async def ask(kind: Control, values: dict[str, Any]) -> Any:
            if kind is Control.EPOCH:
                return epoch_to_dict(auto) | {"toggles": RAFT.as_dict(), "mode": int(told[len(given)])}
            given.append(decode_toggles(values["change"]))
            return {"text": "taken", "stale": len(given) < len(told)}

        def sign(toggles: Toggles, epoch: Epoch) -> ToggleChange:
            return signed(toggles, 7, epoch)

        await change_toggles(ask, sign, lambda toggles: pressed(toggles, "m"))
        orders = set()
        for change in given:
            log = Log(epoch=auto)
            log.state.toggles = AUTO
            log.change(change)
            orders.add(log.state.switch_order and log.state.switch_order.mode)
        assert orders == {None, Mode.BFT}, "behind auto comes bft, whatever it was told before"

    asyncio.run(work())


@pytest.mark.parametrize("answer", ["no node leads at present", {"text": "refused: you look on", "refused": True}])
def test_where_there_is_no_answer_or_a_refusal_it_is_told(answer: object) -> None:
    async def ask(kind: Control, values: dict[str, Any]) -> Any:
        return answer

    async def work() -> None:
        if isinstance(answer, str):
            assert await change_toggles(ask, lambda t, e: signed(t, 1, e), lambda t: t) == answer
        else:
            with pytest.raises(SessionError, match="you look on"):
                await change_toggles(ask, lambda t, e: signed(t, 1, e), lambda t: t)

    asyncio.run(work())


def test_every_consensus_is_a_mode() -> None:
    assert set(MODE_OF) == set(Consensus)
    assert {MODE_OF[CONSENSUS_OF[mode]] for mode in Mode} == set(Mode)
