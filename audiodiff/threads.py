"""Threads: pieces of work are computed on one thread of torch's each, several at once in a pool of workers.

A second thread inside one small operation gains little on an idle machine. On a busy one it costs most of the speed,
since each operation waits for the slower of the two. Pieces that do not wait for each other lose only what the other
program takes.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from audiodiff.errors import check_whole

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_chosen: int | None = None
_local = threading.local()


def set_num_workers(n: int | None) -> None:
    """Set how many pieces are computed at once on a CPU: pieces of a long sound, channels, examples, segments.

    Results do not depend on it, but for rounding in a WaveNet at the sample rate, which is computed in as many
    segments. torch's own number of threads is left as it is; training goes by that.

    Args:
        n: workers; None is as many as this process may use cores.

    Raises:
        ParameterError: if n is no whole number, at least 1.
    """
    global _chosen
    if n is not None:
        check_whole(n, name="n", least=1)
    _chosen = n


def num_workers() -> int:
    """Return how many pieces are computed at once."""
    return usable_cores() if _chosen is None else _chosen


def free_workers() -> int:
    """Return how many pieces `spread` would compute at once here: 1 within a worker."""
    return 1 if getattr(_local, "works", False) else num_workers()


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and by the limit of its control group."""
    affinity = getattr(os, "sched_getaffinity", None)
    n = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(n, _quota()))


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the cores that a container's limit amounts to, rounded up; a large number without a limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 1 << 16
    return math.ceil(int(limit) / int(period)) if limit.isdigit() else 1 << 16


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute a block on one thread of torch's; other threads of the program keep their number."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    _local.before = before
    _use_one(process=before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _local.before = None


def _use_one(*, process: int) -> None:
    """Set this thread's number to 1, and what later threads of the program begin with to `process`."""
    torch.get_num_threads()  # a new thread takes the program's number when it is first asked
    torch.set_num_threads(1)
    # The call above sets both; one from a thread that ends at once sets the second alone.
    other = threading.Thread(target=torch.set_num_threads, args=(process,))
    other.start()
    other.join()


def spread(
    function: Callable[[Piece], Result],
    pieces: Iterable[Piece],
    *,
    on_end: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> Iterator[Result]:
    """Compute pieces, several at once, and yield the results in order.

    As many pieces are taken ahead as there are workers. Within a worker, and where there is one piece or one worker,
    they are computed one by one.

    Args:
        function: of a piece; whether gradients are recorded is as in the caller.
        pieces: taken in the caller's thread.
        on_end: called if the results are not all wanted: by Ctrl-C, an error, or a caller that stops. It should make
            functions that still run end soon.
        workers: at most; None is `num_workers()`.
    """
    n = min(free_workers(), workers or free_workers())
    remaining = iter(pieces)
    first = [piece for _, piece in zip(range(2), remaining, strict=False)]
    if n == 1 or len(first) < 2:
        for piece in _chained(first, remaining):
            with one_thread():
                result = function(piece)
            yield result
        return
    grad, process = torch.is_grad_enabled(), getattr(_local, "before", None) or torch.get_num_threads()

    def begin() -> None:
        _local.works = True
        _use_one(process=process)

    def compute(piece: Piece) -> Result:
        with torch.set_grad_enabled(grad):
            return function(piece)

    pool = ThreadPoolExecutor(n, initializer=begin)
    coming: deque[Future[Result]] = deque()
    finished = False
    try:
        for piece in _chained(first, remaining):
            coming.append(pool.submit(compute, piece))
            if len(coming) == n:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
        finished = True
    finally:
        if not finished:
            on_end()
        pool.shutdown(wait=True, cancel_futures=True)


def _chained(first: Iterable[Piece], remaining: Iterator[Piece]) -> Iterator[Piece]:
    yield from first
    yield from remaining
