"""Interruption: Ctrl-C, SIGTERM and a closed terminal stop training after the step in progress."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Names of the signals that ask to stop; not every system has all."""


class Interrupt:
    """Hold the name of the signal that asked to stop, None before that."""

    def __init__(self) -> None:
        self.signal: str | None = None


@contextmanager
def catch_interrupt() -> Iterator[Interrupt]:
    """Record the first SIGINT, SIGTERM or SIGHUP; a second one has its usual effect.

    What is ignored, as SIGHUP under nohup, stays ignored.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.signal = signal.Signals(number).name
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
