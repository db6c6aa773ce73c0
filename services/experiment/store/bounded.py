"""Connections to PostgreSQL that wait for an answer so long and no longer."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg

Result = TypeVar("Result")


class BoundedConnection(psycopg.Connection[Any]):
    """Is closed, and raises ``psycopg.OperationalError``, where the server says nothing for
    ``longest_wait_s``: its own limits are no help where it has stopped, or its machine is gone."""

    longest_wait_s = float("inf")

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **kwargs: Any) -> Result:
        """The result of a dialogue with the server."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        """The same dialogue. It is asked to go on several times a second, answer or none."""
        end_s = monotonic() + self.longest_wait_s
        ready = None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as done:
                result: Result = done.value
                return result
            ready = yield wanted
            if not ready and monotonic() > end_s:
                self.pgconn.finish()
                raise psycopg.OperationalError("the server does not answer")
