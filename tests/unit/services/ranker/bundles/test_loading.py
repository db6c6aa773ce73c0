"""What ends the taking of a bundle early."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.common.bundle.store import BundleStore
from services.common.errors import Unavailable
from services.ranker.bundles.loading import BundleLoader, Unforeseen
from services.ranker.catalogue.replica import Replica
from services.ranker.feature_rows import View
from services.ranker.state import Serving


class Absent(Replica):
    """A catalogue that never comes."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self.views = dict(views)

    def start(self) -> None:
        pass

    def wait_installed(self, timeout_s: float) -> bool:
        del timeout_s
        return False

    def close(self) -> None:
        pass


class Loading:
    """A loader of a bundle whose catalogue never comes."""

    def __init__(
        self, directory: Path, serving: Serving | None = None, error: Exception | None = None
    ) -> None:
        (directory / "v1").mkdir()
        self.closing, self.specified, self.specified_on = threading.Event(), 0, ""
        self._error = error
        self.loader = BundleLoader(
            BundleStore(directory),
            serving or Serving(exact_rows=1),
            load=self._load,
            specify=self._specify,
            probe=lambda *_: None,
            make_replica=Absent,
            warm=lambda _: None,
            closing=self.closing,
            look_s=0.0,
        )

    def _load(self, path: Path) -> Any:
        del path
        if self._error is not None:
            raise self._error
        return object()

    def _specify(self, bundle: object) -> Any:
        del bundle
        self.specified += 1
        self.specified_on = threading.current_thread().name
        return SimpleNamespace(views={"user": None}, catalogue_views=dict)


def test_news_end_the_wait_for_a_catalogue(tmp_path: Path) -> None:
    news = iter([False, False, True])
    with pytest.raises(Unavailable) as raised:
        Loading(tmp_path).loader.take("v1", lambda: next(news))
    assert raised.value.reason == "NO_CATALOGUE"
    assert not list(news)


def test_the_end_of_the_process_ends_the_taking(tmp_path: Path) -> None:
    loading = Loading(tmp_path)
    loading.closing.set()
    with pytest.raises(Unavailable) as raised:
        loading.loader.take("v1")
    assert raised.value.reason == "CLOSING"
    assert loading.specified == 0


class InForce(Serving):
    """Something serves."""

    def __init__(self) -> None:
        super().__init__(exact_rows=1)

    @property
    def version(self) -> str | None:
        return "v0"


def test_a_lack_of_memory_is_no_fault_of_the_bundle_where_another_serves(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(Unavailable) as raised:
        Loading(tmp_path / "a", InForce(), MemoryError()).loader.take("v1")
    assert raised.value.reason == "OUT_OF_MEMORY"
    # With none in force the next one gets its turn.
    (tmp_path / "b").mkdir()
    with pytest.raises(Unforeseen):
        Loading(tmp_path / "b", error=MemoryError()).loader.take("v1")


@pytest.mark.parametrize("serves", [False, True])
def test_a_bundle_gives_way_to_calls_once_there_are_any(tmp_path: Path, *, serves: bool) -> None:
    loading = Loading(tmp_path, InForce() if serves else None)
    with pytest.raises(Unavailable):
        loading.loader.take("v1", lambda: True)
    here = threading.current_thread().name
    assert loading.specified_on == ("giving-way" if serves else here)
