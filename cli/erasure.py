"""The steps of ``podium events erase``: clear records, then search for what is left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cli.search import Searched, search
from offline.archive.read import read_archive, read_history
from offline.archive.rewrite import holds_actor, rewrite_archive
from offline.archive.target import Target
from services.common.convert_event import logged_arrival
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.event_log import WRITER_LOCK
from services.common.event_log.rewrite import records_of
from services.common.files import LOCAL_FILES
from services.common.pseudonym import Pseudonymiser
from services.common.spool import ACKNOWLEDGED_FILE
from services.feature.convert.erasure import (
    Erased,
    Erasures,
    RecordEraser,
    find_aliases,
    find_erased,
)
from services.feature.identity.erasing import erase_in_log
from services.feature.store.embedded import STORE_FILE, EmbeddedStore, compact_store
from services.feature.views.registry import registry_of

_ERASE_LOCK = "erase.lock"
_ALWAYS = 1 << 62


@contextmanager
def alone(log: Path) -> Iterator[None]:
    """Keeps others out that erase or rotate keys. Raises ``NotFound`` without a log,
    ``FailedPrecondition`` (ERASING) while there is another one."""
    if not log.is_dir():
        raise NotFound(f"there is no event log at {log}", reason="LOG_NOT_FOUND")
    try:
        handle = LOCAL_FILES.lock(log / _ERASE_LOCK)
    except BlockingIOError as error:
        raise FailedPrecondition(
            f"{log} is being erased from or its keys rotated by another process", reason="ERASING"
        ) from error
    try:
        yield
    finally:
        LOCAL_FILES.close(handle)


class ErasureJob:
    """Everything that is to be forgotten of one log and what was made of it."""

    def __init__(
        self, domain: Domain, log: Path, target: Target | None, names: Pseudonymiser
    ) -> None:
        self._domain = domain
        self._log = log
        self._target = target
        found = find_erased(read_history(log, target))
        self.count = len(found)
        erased = [variant for who in found for variant in _under_every_key(who, names)]
        aliases = find_aliases(read_history(log, target), erased)
        self._erasures = Erasures(erased, _by_every_name(aliases, names))
        # What is served counts, whichever domain file is named here: nothing brings it back.
        self._views = [document.as_domain() for document in registry_of(log).documents()]
        self._events = self._eraser(self._erasures, tombstones=False)
        self._everything = self._eraser(self._erasures, tombstones=True)
        self._ids = [_raw(name, names) for name in self._erasures.pseudonyms]

    def erase_records(self, *, tombstones: bool = False) -> int:
        """Erases in log and archive; returns the number of records that changed in the log.

        ``tombstones``: with the erasures themselves, after which nobody knows any more whom to look
        for.
        """
        eraser = self._everything if tombstones else self._events
        names = self._erasures.pseudonyms
        changed = erase_in_log(self._log, eraser.erase, logged_arrival, names)
        if self._target is not None:
            concerned = names | self._erasures.aliases.keys()
            concerns = holds_actor(self._target, concerned)
            rewrite_archive(self._target, eraser.erase, concerns=concerns)
        return changed

    def erase_spool(self, directory: Path) -> int:
        """Erases in a spool what it has shipped; what it has not comes into the log by itself.

        Shipped events are copies, whenever they were: all of the erased users' may go.
        """
        everyone = [who._replace(arrival=_ALWAYS) for who in self._erasures.erased]
        everyone += [Erased(_ALWAYS, "", device) for device in self._devices()]
        eraser = self._eraser(Erasures(everyone), tombstones=True)
        return erase_in_log(
            directory,
            eraser.erase,
            logged_arrival,
            self._erasures.pseudonyms,
            before=shipped(directory),
            in_place=True,
        )

    def remove_captures(self, directory: Path) -> int:
        """Removes the captured requests of the erased users, whenever they were; returns how many.

        They are copies, and none of them is needed.
        """
        wanted = {*self._erasures.pseudonyms, *self._devices(), *self._ids} - {""}
        found = search(directory, [name.encode() for name in wanted]).found
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _eraser(self, erasures: Erasures, *, tombstones: bool) -> RecordEraser:
        return RecordEraser(self._domain, erasures, tombstones=tombstones, views=self._views)

    def _devices(self) -> list[str]:
        """What became the erased users', under every key."""
        users = {who.user_id for who in self._erasures.erased}
        return [
            device
            for device, said in self._erasures.aliases.items()
            if any(user in users for _, user in said)
        ]

    def behind(self, store_dir: Path) -> list[Path]:
        """Stores that have not applied the last erasure yet: they need to read whom it names."""
        return [p for p in stores_in(store_dir) if _position(p) < self._erasures.end]

    def look(self, places: Iterable[Path], spools: Collection[Path]) -> list[Searched]:
        """What was searched, and where something is left of who is to be forgotten.

        The erasures do not count, nor do events that came after them: these are a new history,
        and what names in stores and elsewhere belong to it then nobody can tell.
        """
        needles = [name.encode() for name in (*self._erasures.pseudonyms, *self._ids) if name]
        in_log = search(self._log, needles)
        hits = {path: set(self._hits(path, needles)) for path in in_log.found}
        is_back = any("later" in found for found in hits.values())
        looked = [replace(in_log, found=tuple(p for p, found in hits.items() if "left" in found))]
        for place in places:
            found = search(place, needles)
            # A folder around the log holds what was judged above.
            kept = (p for p in found.found if not p.is_relative_to(self._log))
            looked.append(replace(found, found=tuple(kept)))
        for place in spools:
            found = search(place, needles)
            before = shipped(place)
            kept = (p for p in found.found if self._is_in_shipped(p, needles, before))
            looked.append(replace(found, found=tuple(kept)))
        if is_back:
            looked[1:] = [replace(place, found=()) for place in looked[1:]]
        if self._target is not None:
            looked.append(self._look_in_archive(self._target, needles))
        return looked

    def _hits(self, path: Path, needles: Collection[bytes]) -> Iterator[str]:
        """What each place of a file is that a needle was found in."""
        parts = records_of(path, logged_arrival)
        if parts is None:
            yield "left"
            return
        for arrival, part in parts:
            if any(needle in part for needle in needles):
                yield "left" if arrival is None else self._kind(arrival, part)

    def _kind(self, arrival: int, record: bytes) -> str:
        if self._events.erase(arrival, record) != record:
            return "left"
        return "tombstone" if self._everything.erase(arrival, record) != record else "later"

    def _is_in_shipped(self, path: Path, needles: Collection[bytes], shipped: int) -> bool:
        parts = records_of(path, logged_arrival)
        return parts is None or any(
            (sequence is None or sequence < shipped) and any(needle in part for needle in needles)
            for sequence, part in parts
        )

    def _look_in_archive(self, target: Target, needles: Collection[bytes]) -> Searched:
        records = size = 0
        left: list[Path] = []
        for arrival, record in read_archive(target):
            records += 1
            size += len(record)
            held = any(needle in record for needle in needles)
            if held and self._kind(arrival, record) == "left":
                left.append(Path(f"record {arrival}"))
        return Searched(target.url, records, size, tuple(left))


def stores_in(store_dir: Path) -> list[Path]:
    """Folders of the stores below a folder. Raises ``NotFound`` where there is none."""
    found = sorted(path.parent for path in store_dir.rglob(STORE_FILE))
    if not found:
        raise NotFound(f"there is no feature store in {store_dir}")
    return found


def compact_stores(log: Path, store_dir: Path) -> bool:
    """Writes stores anew without freed pages; False while the service runs, which has them open."""
    try:
        handle = LOCAL_FILES.lock(log / WRITER_LOCK)
    except BlockingIOError:
        return False
    try:
        for path in stores_in(store_dir):
            compact_store(path)
    finally:
        LOCAL_FILES.close(handle)
    return True


def _position(directory: Path) -> int:
    store = EmbeddedStore(directory, read_only=True)
    try:
        with store.read() as view:
            return view.position()
    finally:
        store.close()


def shipped(directory: Path) -> int:
    """Number of the first event of a spool that is not acknowledged."""
    try:
        return int((directory / ACKNOWLEDGED_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _under_every_key(who: Erased, names: Pseudonymiser) -> list[Erased]:
    users, devices = (
        names.under_every_key(_raw(name, names)) if name else []
        for name in (who.user_id, who.device_id)
    )
    found = [who._replace(user_id=name, device_id="") for name in users]
    found += [who._replace(user_id="", device_id=name) for name in devices]
    return list(dict.fromkeys([who, *found]))


def _by_every_name(
    aliases: Mapping[str, list[tuple[int, str]]], names: Pseudonymiser
) -> dict[str, list[tuple[int, str]]]:
    """The aliases by device under every key: while keys rotate an event and the alias after it may
    name the device differently."""
    found: dict[str, list[tuple[int, str]]] = {}
    for device, said in aliases.items():
        for name in {device, *names.under_every_key(_raw(device, names))}:
            found[name] = sorted([*found.get(name, []), *said])
    return found


def _raw(name: str, names: Pseudonymiser) -> str:
    try:
        return names.decrypt(name)
    except InvalidArgument:
        # A log of another origin: its ids are no pseudonyms.
        return name
