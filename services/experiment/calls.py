"""Calls of the registry, on threads: the event loop never waits for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from services.experiment.registry.registry import Registry
from services.experiment.registry_source import RegistryDefinitions

Result = TypeVar("Result")


class ThreadedCalls:
    """Implements ``RegistryCalls``."""

    def __init__(self, registry: Registry, source: RegistryDefinitions, executor: Executor) -> None:
        self.registry = registry
        self._source = source
        self._executor = executor

    async def read(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def write(self, call: Callable[[], Result]) -> Result:
        """The same; what it changed is in force here when this returns."""
        result = await self.read(call)
        await self._source.look()
        return result

    async def write_soon(self, call: Callable[[], Result]) -> Result:
        """The same; what it changed is in force here soon after."""
        result = await self.read(call)
        self._source.look_soon()
        return result
