"""Asking a run to stop: Ctrl-C and SIGTERM become a wish that the loop grants between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopRequest:
    """True once a stop was asked for."""

    def __init__(self):
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within it, the first SIGINT or SIGTERM sets the request, and a second SIGINT interrupts at once.

    Outside the main thread, where Python lets nobody listen for signals, the request stays False.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: object) -> None:
        request.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set by Python
