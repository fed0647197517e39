"""Interruption: Ctrl-C and SIGTERM stop training after the step in progress."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Hold the name of the signal that asked to stop, None before that."""

    def __init__(self) -> None:
        self.signal: str | None = None


@contextmanager
def catch_interrupt() -> Iterator[Interrupt]:
    """Record the first SIGINT or SIGTERM; a second one has its usual effect."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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
