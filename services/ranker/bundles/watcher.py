"""Follows the store's pointer: loads the bundles it names, says who is answered by which, unloads.

What goes wrong with one leaves the others in force, is logged and counted, and sets it aside on
this replica; only ``podium bundle`` moves the pointer.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator

from services.common.bundle.pointer import Placed, Pointer, Shared
from services.common.bundle.store import BundleStore
from services.common.errors import BundleError, PodiumError, Unreadable
from services.ranker.bundles.faults import BundleFaults, Verdict, model_sources
from services.ranker.bundles.loading import BundleLoader, Unforeseen
from services.ranker.bundles.quarantine import MOST_ATTEMPTS, Quarantine, placed_of
from services.ranker.bundles.routing import Routes, Share
from services.ranker.metrics import RankerMetrics
from services.ranker.state import Serving

_logger = logging.getLogger(__name__)

_RETRY_S = 5.0


class _Taking(enum.Enum):
    TAKEN = 1
    LATER = 2
    UNREADABLE = 3
    SET_ASIDE = 4


class BundleWatcher:
    """Looks at the store every ``poll_s``, and when ``wake`` is set. ``report`` is told whether all
    that the pointer names serves here."""

    def __init__(
        self,
        store: BundleStore,
        serving: Serving,
        loader: BundleLoader,
        faults: BundleFaults,
        quarantine: Quarantine,
        *,
        metrics: RankerMetrics,
        poll_s: float,
        wake: threading.Event,
        closing: threading.Event,
        report: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._serving = serving
        self._loader = loader
        self._faults = faults
        self._quarantine = quarantine
        self._metrics = metrics
        self._poll_s = poll_s
        self._wake = wake
        self._closing = closing
        self._report = report
        self._live: Placed | None = None
        self._complained: dict[str, str] = {}
        self._said_none_is_promoted = False
        self._retry_at_s: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="bundles", daemon=True)

    def start(self) -> None:
        """Starts looking."""
        self._thread.start()

    def close(self) -> None:
        """Stops looking, and the catalogue's watches."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._loader.close()
        self._quarantine.survived(self._serving.loaded())

    def poll(self) -> bool:
        """One look. True when other bundles serve after it."""
        try:
            pointer = self._store.pointer()
        except BundleError as error:
            self._complain("", error)
            return False
        self._complained.pop("", None)
        if pointer.live is None:
            self._say_none_is_promoted()
            return False
        self._quarantine.forget(pointer)
        self._judge(pointer)
        live = self._live_of(pointer)
        if live is None:
            self._tell(pointer)
            return False
        # The live one does not wait for the others.
        changed = self._serve(live, self._routes(pointer, live.version))
        for placed in _others(pointer):
            if placed.version in self._serving.loaded() or self._quarantine.holds(placed):
                continue
            if self._has_news(pointer):
                # Neither a roll-back nor the end waits until all are loaded.
                self._wake.set()
                break
            self._take(placed, pointer)
        changed |= self._serve(live, self._routes(pointer, live.version))
        self._unload_others()
        self._tell(pointer)
        return changed

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            try:
                self.poll()
            except Exception:
                _logger.exception("looking for new bundles failed")
            self._wake.wait(self._poll_s)

    def _live_of(self, pointer: Pointer) -> Placed | None:
        """The bundle that is live here: the pointer's, or what this replica goes back to. None
        where there is none yet."""
        for placed in self._candidates(pointer):
            if placed.version in self._serving.loaded():
                return placed
            if self._closing.is_set():
                break
            taking = self._take(placed, pointer)
            if taking is _Taking.TAKEN:
                return placed
            if taking is _Taking.LATER:
                break
        return self._live

    def _has_news(self, pointer: Pointer) -> bool:
        """Whether there is something to do before more bundles are taken."""
        if self._closing.is_set() or self._wake.is_set():
            return True
        try:
            return self._store.pointer() != pointer
        except BundleError:
            return False

    def _candidates(self, pointer: Pointer) -> Iterator[Placed]:
        """Bundles that may be live, the best first, each once."""
        here = [placed for placed in (self._live, self._quarantine.before) if placed is not None]
        seen: set[str] = set()
        for placed in (*pointer.promoted[-1:], *here, *reversed(pointer.promoted[:-1])):
            if placed.version not in seen and not self._quarantine.holds(placed):
                seen.add(placed.version)
                yield placed

    def _take(self, placed: Placed, pointer: Pointer) -> _Taking:
        version = placed.version
        if time.monotonic() < self._retry_at_s.get(version, 0.0):
            return _Taking.LATER
        tried = self._quarantine.taking(version)
        if tried >= MOST_ATTEMPTS and self._others_than(version, pointer):
            self._set_aside(version, pointer, f"{tried} starts with it ended before it was proved")
            return _Taking.SET_ASIDE
        try:
            spec = self._loader.take(version, lambda: self._has_news(pointer))
        except PodiumError as error:
            self._complain(version, error)
            if isinstance(error, BundleError) and not isinstance(error, Unreadable):
                # The same files will not get better: wait for another move. Where nothing serves
                # it may be the machine that fails at all of them: another start tries again.
                is_lasting = self._serving.version is not None
                hold = self._quarantine.add if is_lasting else self._quarantine.add_for_now
                hold(version, self._moves(version, pointer), error.message)
                return _Taking.SET_ASIDE
            self._quarantine.passed(version)
            self._retry_at_s[version] = time.monotonic() + _RETRY_S
            if isinstance(error, Unreadable):
                return _Taking.UNREADABLE
            return _Taking.LATER
        self._retry_at_s.pop(version, None)
        self._complained.pop(version, None)
        self._faults.begin(version, model_sources(spec))
        return _Taking.TAKEN

    def _judge(self, pointer: Pointer) -> None:
        """Sets aside what fails in service. The live one only if there is another to go back to:
        degraded answers are better than none."""
        failing = {
            version: f"it could not take a change of the catalogue: {error}"
            for version, error in self._serving.broken().items()
        }
        for version, verdict in self._faults.verdicts().items():
            if verdict is Verdict.FAILING:
                failing[version] = "too many of its answers are degraded"
            elif verdict is Verdict.SOUND:
                self._quarantine.survived([version])
        for version, reason in failing.items():
            is_live = version == self._serving.version
            if all(self._quarantine.holds(p) for p in self._places(version, pointer)):
                # It goes on until another is there: what it does then is judged anew.
                self._judge_anew(version)
            elif is_live and not self._others_than(version, pointer):
                self._say_none_to_go_back_to(version, reason)
            else:
                self._set_aside(version, pointer, reason)

    def _judge_anew(self, version: str) -> None:
        state = self._serving.loaded().get(version)
        if state is None:
            self._faults.end(version)
        else:
            self._faults.begin(version, model_sources(state.spec))

    def _others_than(self, version: str, pointer: Pointer) -> bool:
        return any(placed.version != version for placed in self._candidates(pointer))

    def _places(self, version: str, pointer: Pointer) -> list[Placed]:
        """All places that a version may be taken for."""
        here = [placed for placed in (self._live, self._quarantine.before) if placed is not None]
        return [placed for placed in (*placed_of(pointer), *here) if placed.version == version]

    def _moves(self, version: str, pointer: Pointer) -> set[int]:
        return {placed.move for placed in self._places(version, pointer)}

    def _set_aside(self, version: str, pointer: Pointer, reason: str) -> None:
        self._quarantine.add(version, self._moves(version, pointer), reason)
        self._judge_anew(version)
        self._metrics.refused("QUARANTINED")
        _logger.error(
            "bundle %s is set aside until `podium bundle` names it anew: %s", version, reason
        )

    def _routes(self, pointer: Pointer, live: str) -> Routes:
        """Who serves, of what is loaded and not set aside."""
        canary = self._share(pointer.canary)
        experiments = frozenset(
            placed.version for placed in pointer.experiments if self._serves(placed)
        )
        routes = Routes(
            live,
            canary=canary if canary is not None and canary.version != live else None,
            experiments=experiments,
        )
        shadow = self._share(pointer.shadow)
        if shadow is None or shadow.version in routes.answering:
            return routes
        return Routes(live, canary=routes.canary, shadow=shadow, experiments=experiments)

    def _share(self, placed: Shared | None) -> Share | None:
        if placed is None or not self._serves(placed):
            return None
        return Share(placed.version, placed.share)

    def _serves(self, placed: Placed) -> bool:
        return placed.version in self._serving.loaded() and not self._quarantine.holds(placed)

    def _serve(self, live: Placed, routes: Routes) -> bool:
        before = self._live
        if self._serving.version is not None and self._serving.in_force().routes == routes:
            self._live = live
            return False
        self._serving.serve(routes)
        self._live = live
        if before is not None and before.version != live.version:
            if not self._quarantine.holds(before):
                self._quarantine.follows(before)
            self._metrics.swapped()
        elif before is None:
            self._metrics.swapped()
        _logger.info("bundle %s is in force, beside it %s", live.version, _beside(routes))
        return True

    def _unload_others(self) -> None:
        """All but those that serve; what was live before stays until the live one has proved
        itself."""
        kept = set(self._serving.in_force().routes.versions())
        before, verdicts = self._quarantine.before, self._faults.verdicts()
        is_proved = verdicts.get(self._serving.version or "") is Verdict.SOUND
        if before is not None and not is_proved and not self._quarantine.holds(before):
            kept.add(before.version)
        for version in self._serving.loaded().keys() - kept:
            self._faults.end(version)
            self._loader.drop(version)

    def _tell(self, pointer: Pointer) -> None:
        routes = self._serving.in_force().routes if self._serving.version is not None else None
        named = [*pointer.promoted[-1:], *_others(pointer)]
        # An earlier promotion of a bundle may be set aside, and a later one of it serve.
        held = {p.version for p in placed_of(pointer) if self._quarantine.holds(p)}
        lifted = {p.version for p in named if not self._quarantine.holds(p)}
        self._metrics.bundles(routes, held - lifted)
        self._report(all(self._serves(placed) for placed in named))

    def _complain(self, version: str, error: PodiumError) -> None:
        """Counts every refusal; logs it once."""
        self._metrics.refused(error.reason)
        if self._complained.get(version) != error.message:
            self._complained[version] = error.message
            _logger.error(
                "bundle %s is refused, %s stays in force: %s",
                version or "(unknown)",
                self._serving.version or "none",
                error.message,
                exc_info=error if isinstance(error, Unforeseen) else None,
            )

    def _say_none_to_go_back_to(self, version: str, reason: str) -> None:
        """Logs it once for each bundle."""
        if self._complained.get(version) != reason:
            self._complained[version] = reason
            _logger.error("bundle %s fails, and there is none to go back to: %s", version, reason)

    def _say_none_is_promoted(self) -> None:
        """Logs it once: until then the service is not ready."""
        if not self._said_none_is_promoted and self._serving.version is None:
            self._said_none_is_promoted = True
            _logger.warning("no bundle is promoted in %s: waiting", self._store.directory)


def _others(pointer: Pointer) -> list[Placed]:
    """Those that are to serve beside the live one, in the order in which they are loaded."""
    shared = [entry for entry in (pointer.canary,) if entry is not None]
    shadow = [entry for entry in (pointer.shadow,) if entry is not None]
    return [*shared, *pointer.experiments, *shadow]


def _beside(routes: Routes) -> str:
    said = []
    if routes.canary is not None:
        said.append(f"canary {routes.canary.version} ({100 * routes.canary.share:.4g} %)")
    if routes.shadow is not None:
        said.append(f"shadow {routes.shadow.version} ({100 * routes.shadow.share:.4g} %)")
    said += [f"experiment {version}" for version in sorted(routes.experiments)]
    return ", ".join(said) or "none"
