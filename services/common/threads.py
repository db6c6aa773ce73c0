"""How the threads of a process share its processor and the interpreter."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

TURN_S: Final = 0.0005
"""A tenth of Python's default: an event loop takes the interpreter anew after every wait, several
times a call, and a computing thread beside it would keep each of these waiting for that long."""

NICENESS: Final = 10
"""Of work that gives way: beside a busy thread it gets about a tenth of a core (sched(7))."""

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)


def take_short_turns() -> None:
    """For a process whose event loop answers calls while other threads compute."""
    sys.setswitchinterval(TURN_S)


def giving_way(work: Callable[[], Result]) -> Result:
    """Does ``work`` on a thread that leaves the processor to all others (on Linux, where threads
    have a niceness each, which their threads inherit), and waits. Raises what it raises."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            _become_nicer()
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="giving-way", daemon=True).start()
    return done.result()


def _become_nicer() -> None:
    if sys.platform != "linux":
        return
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    except OSError as error:
        # A sandbox may forbid it; the work matters more than its manners.
        _logger.warning("work beside calls can't give way to them: %s", error)
