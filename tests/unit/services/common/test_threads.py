"""Work that gives way: done elsewhere, with what it returns and raises."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from services.common.threads import NICENESS, giving_way


def test_the_result_and_the_error_are_those_of_the_work() -> None:
    assert giving_way(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        giving_way(lambda: 1 // 0)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own here")
def test_the_work_is_on_a_nicer_thread_and_its_caller_stays_as_it_is() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    assert giving_way(niceness) == max(before, NICENESS)
    assert niceness() == before


def test_work_is_done_where_nobody_may_become_nicer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "setpriority", forbidden)
    assert giving_way(lambda: 3) == 3
    assert ("not here" in caplog.text) == (sys.platform == "linux")
