"""The gateway process takes what the wire brings: malformed messages are shown, and the next one is served."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.config import load_settings
from core.gateway.process import GatewayProcess
from core.session import OPERATOR_ID, create_session
from core.telemetry_messages import Control, OrderKind, application
from net.messages import Application, Channel

NODE = 0


def test_malformed_messages_are_shown_and_raise_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        session = create_session(load_settings(), tmp_path / "session")
        body = GatewayProcess(session)
        messages = [
            (NODE, Application(Channel.ORDER, OrderKind.EXECUTE, 0, 0, 0, b"", b"\xc1")),
            (NODE, application(Channel.ORDER, OrderKind.REPORTS_SINCE, {})),
            (NODE, application(Channel.ORDER, OrderKind.REPORTS_SINCE, {"sequence": 2**64 - 1})),
            (NODE, application(Channel.ORDER, OrderKind.TRADING, {"proof": None})),
            (NODE, application(Channel.ORDER, OrderKind.TRADING, {"proof": b"junk"})),
            (NODE, application(Channel.ORDER, OrderKind.MEMBERS, {"epoch": "x", "membership": b""})),
            (NODE, application(Channel.ORDER, OrderKind.PREPARE, [1])),
            (NODE, application(Channel.ORDER, OrderKind.EXECUTE, None)),
        ]
        for number, (sender, message) in enumerate(messages, 1):
            body._on_message(sender, message)
            assert len(body._feed._events) == number, message
        body._on_message(OPERATOR_ID, application(Channel.CONTROL, Control.TRADING, {"change": 5}))
        await body._gateway.stop()

    asyncio.run(work())
