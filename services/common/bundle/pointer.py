"""Which bundles of a store serve: the document behind ``current``, and every move of it.

Pure: a move takes a pointer and returns the next one. ``BundleStore`` reads and writes them.
"""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.errors import BundleError, NotFound

FORMAT_VERSION = 1
MOST_PROMOTIONS = 50
"""Promotions that one can roll back through; older ones are forgotten."""


class NewerPointer(BundleError):
    """A pointer that a later version of the software wrote."""

    reason = "NEWER_POINTER"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Placed(_Strict):
    """A bundle in a place. ``move`` is the number of the move that put it there last: naming the
    same bundle for the same place anew is another move."""

    version: str
    move: int


class Shared(Placed):
    """A bundle that gets a share, above 0 and at most 1: a canary's is of the users, a shadow's of
    the requests."""

    share: float = Field(gt=0, le=1, allow_inf_nan=False)


class Pointer(_Strict):
    """Which bundles serve. ``promoted``: promotions in force, oldest first, the last one live.
    ``canary`` answers a share of the users, ``shadow`` ranks a share of the requests for comparison
    only, ``experiments`` answer whom a variant gives them. ``move`` counts the moves."""

    format_version: int = FORMAT_VERSION
    move: int = 0
    promoted: tuple[Placed, ...] = ()
    canary: Shared | None = None
    shadow: Shared | None = None
    experiments: tuple[Placed, ...] = ()

    @property
    def live(self) -> str | None:
        """The live version; None before the first promotion."""
        return self.promoted[-1].version if self.promoted else None

    def roles(self) -> dict[str, str]:
        """Role of every version that serves, or that can be rolled back to, the first that holds of
        live, canary, shadow, experiment, roll-back."""
        named = [(entry.version, "live") for entry in self.promoted[-1:]]
        named += [(entry.version, "canary") for entry in (self.canary,) if entry is not None]
        named += [(entry.version, "shadow") for entry in (self.shadow,) if entry is not None]
        named += [(entry.version, "experiment") for entry in self.experiments]
        named += [(entry.version, "roll-back") for entry in self.promoted[:-1]]
        return dict(reversed(named))

    def promoting(self, version: str) -> Pointer:
        """``version`` is live; it is canary, or shadow, no more. Promoting the live one again
        changes no order: rankers that refused it look at it anew."""
        promoted = self.promoted[:-1] if self.live == version else self.promoted
        placed = Placed(version=version, move=self.move + 1)
        return self._next(
            promoted=(*promoted, placed)[-MOST_PROMOTIONS:],
            canary=_unless(self.canary, version),
            shadow=_unless(self.shadow, version),
        )

    def rolling_back(self) -> Pointer:
        """The version promoted before is live again. Raises ``NotFound`` where there is none."""
        if len(self.promoted) < 2:
            raise NotFound("no earlier promotion to roll back to")
        version = self.promoted[-2].version
        placed = Placed(version=version, move=self.move + 1)
        return self._next(
            promoted=(*self.promoted[:-2], placed),
            canary=_unless(self.canary, version),
            shadow=_unless(self.shadow, version),
        )

    def with_canary(self, version: str | None, share: float = 1.0) -> Pointer:
        """``version`` is the canary for a share of the users, in (0, 1]; None ends it."""
        return self._next(canary=self._shared(version, share))

    def with_shadow(self, version: str | None, share: float = 1.0) -> Pointer:
        """``version`` is the shadow for a share of the requests, in (0, 1]; None ends it."""
        return self._next(shadow=self._shared(version, share))

    def with_experiment(self, version: str) -> Pointer:
        """``version`` serves whom a variant gives it."""
        others = tuple(entry for entry in self.experiments if entry.version != version)
        placed = Placed(version=version, move=self.move + 1)
        return self._next(experiments=(*others, placed))

    def without_experiment(self, version: str) -> Pointer:
        """``version`` serves no variant any more. Raises ``NotFound`` where it did not."""
        others = tuple(entry for entry in self.experiments if entry.version != version)
        if others == self.experiments:
            raise NotFound(f"no experiment has bundle {version!r}")
        return self._next(experiments=others)

    def to_text(self) -> str:
        """Canonical JSON."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"

    def _next(self, **changes: object) -> Pointer:
        return self.model_copy(update={"move": self.move + 1, **changes})

    def _shared(self, version: str | None, share: float) -> Shared | None:
        if version is None:
            return None
        if self.live is None:
            raise NotFound("no bundle is live yet: promote one first")
        return Shared(version=version, move=self.move + 1, share=share)


class Move(_Strict):
    """One line of the store's moves: who did what, when, and the pointer that came of it."""

    at: datetime
    by: str
    action: str
    version: str
    share: float | None = None
    pointer: Pointer


def pointer_of(text: str, where: object) -> Pointer:
    """The pointer that a document says. Raises ``BundleError`` naming ``where`` it stands,
    ``NewerPointer`` where it is of a later format, whatever else is in it."""
    format_version = _format_version(text)
    if format_version > FORMAT_VERSION:
        raise NewerPointer(
            f"{where}: format {format_version} is not supported, {FORMAT_VERSION} is"
        )
    try:
        pointer = Pointer.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{where}: not a pointer to bundles: {field}: {first['msg']}") from error
    if pointer.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: format {pointer.format_version} is not supported, {FORMAT_VERSION} is"
        )
    return pointer


def _format_version(text: str) -> int:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    found = document.get("format_version") if isinstance(document, dict) else None
    return found if isinstance(found, int) else 0


def _unless(entry: Shared | None, version: str) -> Shared | None:
    return None if entry is not None and entry.version == version else entry
