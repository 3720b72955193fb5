"""Questions of a monitor: answered, or not in time, or not because the link went; and which are asked again."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from core.session import SessionError
from core.swarm_questions import LinkLost, Questions, is_to_be_repeated, obeyed
from core.telemetry_messages import Control, application
from net.messages import Application, Channel
from net.quic import Endpoint


class Sent:
    """In place of an endpoint: takes what is sent, while `up`."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Application]] = []
        self.up = True

    def send(self, peer: int, message: Application) -> bool:
        self.messages.append((peer, message))
        return self.up


def asked() -> tuple[Questions, Sent]:
    questions, sent = Questions(), Sent()
    questions.endpoint = cast(Endpoint, sent)
    return questions, sent


def test_a_lost_link_answers_what_was_asked_over_it_and_nothing_else() -> None:
    async def lose() -> tuple[Any, Any]:
        questions, sent = asked()
        one = asyncio.create_task(questions.ask(1, Control.TRADING, {}))
        other = asyncio.create_task(questions.ask(2, Control.TRADING, {}))
        await asyncio.sleep(0)
        questions.link_lost(1)
        (number,) = [message.request_id for peer, message in sent.messages if peer == 2]
        questions.answered(application(Channel.CONTROL, Control.REPLY, {"text": "done"}, request_id=number))
        return await one, await other

    lost, answer = asyncio.run(lose())
    assert lost == "the link to node 1 was lost before it answered"
    assert answer == {"text": "done"}
    assert is_to_be_repeated(Control.TRADING, lost), "the same signed word twice is one word"
    assert is_to_be_repeated(Control.SET_TOGGLES, lost)
    assert not is_to_be_repeated(Control.PROFILE, lost), "it would be taken twice"
    with pytest.raises(SessionError, match="was lost"):
        obeyed(lost)


def test_who_cannot_be_reached_or_is_silent_says_so() -> None:
    async def ask() -> tuple[Any, Any]:
        questions, sent = asked()
        silent = await questions.ask(1, Control.EPOCH, {}, timeout_s=0.01)
        sent.up = False
        return silent, await questions.ask(1, Control.EPOCH, {})

    silent, unreachable = asyncio.run(ask())
    assert silent == "node 1 gave no answer within 0.01 s"
    assert unreachable == "node 1 cannot be reached"
    assert not is_to_be_repeated(Control.TRADING, silent)
    assert is_to_be_repeated(Control.SET_TOGGLES, {"text": "node 1 does not lead", "again": True})
    assert not isinstance(silent, LinkLost)
