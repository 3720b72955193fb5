"""Who runs mining's tasks: processes of this machine, or a Dask cluster. Either may lose workers and goes on."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Final, Protocol

from core.mining_tasks import Assign, Centre, Numbers, run_task

LOSSES_MAX: Final = 3
"""So often the pool may break before mining gives up: a task that kills every worker must end."""

IN_FLIGHT_MIN: Final = 16
TASKS_A_THREAD: Final = 3
"""With a Dask scheduler: one runs, the others wait at the worker."""

Task = Assign | Centre


class WorkersError(RuntimeError):
    """Workers cannot be had, or die again and again; the text says what to do."""


class Workers(Protocol):
    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Numbers]]:
        """Every task's number and result, as they come."""

    def close(self) -> None: ...


class LocalProcesses:
    """`count` processes of this machine, started afresh so that they share no locks; 1 works in this one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._losses = 0
        self._pool = self._start() if count > 1 else None

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._count, mp_context=multiprocessing.get_context("spawn"))

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Numbers]]:
        if self._pool is None:
            for number, task in enumerate(tasks):
                yield number, run_task(task)
            return
        left = dict(enumerate(tasks))
        while left:
            try:
                futures = {self._pool.submit(run_task, task): number for number, task in left.items()}
                for future in as_completed(futures):
                    result = future.result()
                    del left[futures[future]]
                    yield futures[future], result
            except BrokenProcessPool as error:
                # a worker was killed: what it had is done again
                self._losses += 1
                self._pool.shutdown(wait=False, cancel_futures=True)
                if self._losses > LOSSES_MAX:
                    raise WorkersError(
                        f"workers died {self._losses} times; is there memory enough? Try fewer --processes"
                    ) from error
                self._pool = self._start()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class DaskCluster:
    """The workers of a Dask scheduler at `address`, tcp://host:port; they need tradetui installed.

    `run` is what they do with a task. What a lost worker had is done again by another.
    """

    def __init__(self, address: str, patience_s: float = 10.0, run: Callable[[Any], Any] = run_task) -> None:
        self._run = run
        try:
            self._dask: Any = importlib.import_module("distributed")
        except ImportError as error:
            raise WorkersError("--scheduler needs Dask: pip install 'tradetui[mining]'") from error
        try:
            self._client: Any = self._dask.Client(address, timeout=patience_s, set_as_default=False)
        except OSError as error:
            raise WorkersError(f"no Dask scheduler answers at {address}: {error}") from error

    def results(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """A bounded number of tasks is with the scheduler at a time: each carries the medoids."""
        futures: dict[Any, int] = {}

        def submit(number: int, task: Any) -> Any:
            future = self._client.submit(self._run, task, pure=False)
            futures[future] = number
            return future

        waiting = iter(enumerate(tasks))
        together = max(IN_FLIGHT_MIN, TASKS_A_THREAD * sum(self._client.nthreads().values()))
        under_way = self._dask.as_completed(
            [submit(number, task) for number, task in islice(waiting, together)], loop=self._client.loop
        )
        for future in under_way:
            for number, task in islice(waiting, 1):
                under_way.add(submit(number, task))
            yield futures.pop(future), future.result()

    def close(self) -> None:
        self._client.close()
