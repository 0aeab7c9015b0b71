"""Tasks over the workers of an executor, in order, with a bounded queue and a Ctrl-C that works."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")
_LOOK_EVERY = 0.1  # seconds; the main thread must wake up to see Ctrl-C
_GRACE = 1.0  # seconds that running tasks get to see the stop flag
_AHEAD = 32  # tasks waiting at a foreign executor, whose number of workers is not known


# set when Ctrl-C ended a run early that returned what was finished: who drives several runs looks and stops as well
interrupted = threading.Event()


class Stopped(Exception):
    """A task ended early because another one failed or the user interrupted; never leaves this folder."""


def default_threads() -> int:
    """Number of processors."""
    return os.cpu_count() or 1


def in_order(
    tasks: Iterable[Callable[[], Result]], stop: np.ndarray, executor: Executor | None
) -> Generator[Result, None, None]:
    """Yield the results of `tasks` in their order, few of them ahead, on `executor` or on threads of our own.

    If one raises, or the caller is interrupted or gives up, stop[0] is set, the rest is waited for (a second at
    most) and the exception of the earliest task that failed by itself is raised.
    """
    threads = default_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fpsolve-paths") if executor is None else executor
    ahead = 4 * threads if executor is None else _AHEAD
    queue: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            queue.append(pool.submit(task))
            while len(queue) > ahead:
                yield _oldest(queue, stop)
        while queue:
            yield _oldest(queue, stop)
    finally:
        if queue:
            stop[0] = 1
            for future in queue:
                future.cancel()
            wait(queue, timeout=_GRACE)
        if executor is None:
            pool.shutdown(wait=not any(future.running() for future in queue), cancel_futures=True)


def _oldest(queue: deque[Future[Result]], stop: np.ndarray) -> Result:
    while not wait([queue[0]], timeout=_LOOK_EVERY).done:
        if any(future.done() and future.exception() for future in queue):
            break
    if queue[0].done() and queue[0].exception() is None:
        return queue.popleft().result()
    stop[0] = 1
    wait(queue, timeout=_GRACE)
    failures = [future.exception() for future in queue if future.done() and not future.cancelled()]
    own = [failure for failure in failures if failure is not None and not isinstance(failure, Stopped)]
    raise own[0] if own else Stopped
