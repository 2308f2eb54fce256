"""Graceful shutdown: turns Ctrl-C and SIGTERM into a flag that the loop checks between steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopRequest:
    """Flag that is True once a stop was requested."""

    def __init__(self):
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yields a flag that the first SIGINT or SIGTERM sets. After that, SIGINT raises KeyboardInterrupt.

    Python delivers signals only to the main thread. In other threads the flag stays False.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: object) -> None:
        request.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None if Python did not set it
