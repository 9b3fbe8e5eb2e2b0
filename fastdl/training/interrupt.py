"""Ctrl-C that is not lost: Python drops a KeyboardInterrupt that arises while it collects garbage, in a destructor or
in a weak reference's callback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupt:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, number: int, frame: Any) -> None:
        """As signal handler, in place of Python's own."""
        self.seen = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise the KeyboardInterrupt that was dropped."""
        if self.seen:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Notices Ctrl-C, where Python's own handler is in place and this is the thread that it is called in."""
    interrupt = Interrupt()
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
