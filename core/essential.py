"""Tasks a process cannot do without: when one fails, the process ends, says why, and is started again."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any, NoReturn


def essential(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run `work` as a task whose failure ends the process with code 1; its traceback goes to standard error."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_end_process_on_failure)
    return task


def _end_process_on_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        end_process(error)


def end_process(error: BaseException) -> NoReturn:
    """End this process with code 1, from a callback of the loop or a task; the supervisor shows the traceback's end."""
    traceback.print_exception(error)
    raise SystemExit(1)
