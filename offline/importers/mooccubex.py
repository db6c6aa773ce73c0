"""Course enrolments of MOOCCubeX (XuetangX) as logged events.

Source files, as the public recommendation split of MOOCCubeX lays them out:

- ``item_list.txt``: ``org_id remap_id`` after a header line, one course a line;
- ``user_list.txt``: ``org_id remap_id gender`` after a header line, one user a line;
- ``sequences.txt``: ``user item item …`` in remapped ids, one user a line, in order of enrolment;
- ``kg_final.txt``: ``head relation tail`` triples; relations have numbers and no names.

Times are ordinal. The source knows each user's order of enrolments and no clock, so a user's n-th
kept enrolment (from 1) gets ``ORDINAL_EPOCH_MS + n * STEP_MS``, and every course exists from
``ORDINAL_EPOCH_MS`` on. The arrival time is the event time. Courses come first in the log, then
user after user. Equal input gives an equal log, byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from offline.importers.report import Count, ImportReport
from offline.progress import Progress, no_progress
from podium.event.v1 import event_pb2
from services.common.convert_limits import MAX_ID_BYTES
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.event_log import LogWriter

ORDINAL_EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z
STEP_MS = 1_000
PRODUCER = "import:mooccubex"
COURSE = "course"
ENROL = "enrol"
UPSERT = "entity_upsert"
SCHOOL = "school"

_BATCH = 4_096
_PROGRESS_LINES = 1_000
_MAX_DIGITS = 18
# A course belongs to one school, and most courses name theirs.
_SCHOOL_SINGLE_SHARE = 0.95
_SCHOOL_COVERAGE = 0.5


@dataclass(frozen=True)
class _Source:
    """The id lists and what is known of the courses."""

    courses: dict[int, str]
    users: dict[int, str]
    schools: dict[int, str]


def import_mooccubex(
    source: Path,
    log_dir: Path,
    domain: Domain,
    pseudonym: Callable[[str], str],
    *,
    progress: Progress = no_progress,
) -> ImportReport:
    """Writes the enrolments under ``source`` as a new event log in ``log_dir``.

    ``pseudonym`` maps a raw user id to what is stored. The log appears as a whole: it is written
    beside ``log_dir`` and renamed; what fails leaves nothing behind. Raises ``NotFound`` for a
    missing file, ``InvalidArgument`` for one that is no such file or a domain without the needed
    types, ``FailedPrecondition`` when ``log_dir`` is not empty or another import writes it.
    """
    _require_domain(domain)
    if log_dir.exists() and (not log_dir.is_dir() or any(log_dir.iterdir())):
        raise FailedPrecondition(
            f"{log_dir} is not an empty directory: an import starts a new log",
            reason="LOG_NOT_EMPTY",
        )
    report = ImportReport({})
    known = _read_source(source, domain, report)
    with _staging(log_dir) as staging:
        with LogWriter(staging) as writer:
            sink = _Sink(writer, domain)
            for course, school in _course_facts(known):
                sink.add_course(course, school)
            for user, courses in _enrolments(source / "sequences.txt", known, report, progress):
                sink.add_enrolments(pseudonym(user), courses)
            sink.flush()
            report.events = writer.next_arrival
        if log_dir.exists():
            log_dir.rmdir()
        staging.rename(log_dir)
    return report


@contextmanager
def _staging(log_dir: Path) -> Iterator[Path]:
    """A new directory beside ``log_dir``, removed when what is done in it fails.

    Raises ``FailedPrecondition`` where there is one already.
    """
    staging = log_dir.with_name(log_dir.name + ".partial")
    try:
        staging.mkdir(parents=True)
    except FileExistsError as error:
        raise FailedPrecondition(
            f"{staging} is left from an unfinished import: remove it first", reason="LOG_NOT_EMPTY"
        ) from error
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging)
        raise


class _Sink:
    """Builds the events and hands them to the log in batches."""

    def __init__(self, writer: LogWriter, domain: Domain) -> None:
        self._writer = writer
        self._attributes = domain.entities[COURSE].attributes
        self._config_hash = domain.config_hash
        self._payloads: list[bytes] = []
        self._arrival = writer.next_arrival

    def add_course(self, course: str, school: str) -> None:
        """One entity_upsert with the declared attributes that the source knows."""
        logged = self._logged(f"{PRODUCER}:{course}", UPSERT, ORDINAL_EPOCH_MS)
        logged.event.entities.add(type=COURSE, id=course)
        values = {"title": course, SCHOOL: school}
        attributes = logged.event.entity_upsert.attributes
        for name, value in values.items():
            if value and name in self._attributes:
                attributes[name].string_value = value
        self._add(logged)

    def add_enrolments(self, user: str, courses: list[str]) -> None:
        """Enrolments of a pseudonymised ``user``, one step apart."""
        logged = self._logged("", ENROL, ORDINAL_EPOCH_MS)
        logged.event.actor.user_id = user
        entity = logged.event.entities.add(type=COURSE)
        event_time, arrival_time = logged.event.event_time, logged.arrival_time
        for step, course in enumerate(courses, start=1):
            entity.id = course
            logged.event.event_id = f"{PRODUCER}:{self._arrival}"
            seconds = (ORDINAL_EPOCH_MS + step * STEP_MS) // 1_000
            event_time.seconds = seconds
            arrival_time.seconds = seconds
            self._add(logged)

    def flush(self) -> None:
        """Hands over what is left."""
        self._writer.append(self._payloads)
        self._payloads.clear()

    def _logged(self, event_id: str, kind: str, time_ms: int) -> event_pb2.LoggedEvent:
        logged = event_pb2.LoggedEvent(producer=PRODUCER, config_hash=self._config_hash)
        logged.event.event_id = event_id
        logged.event.type = kind
        logged.event.event_time.FromMilliseconds(time_ms)
        logged.arrival_time.FromMilliseconds(time_ms)
        return logged

    def _add(self, logged: event_pb2.LoggedEvent) -> None:
        logged.arrival = self._arrival
        # Map fields have no fixed order on the wire unless it is asked for.
        self._payloads.append(logged.SerializeToString(deterministic=True))
        self._arrival += 1
        if len(self._payloads) >= _BATCH:
            self.flush()


def _require_domain(domain: Domain) -> None:
    entity = domain.entities.get(COURSE)
    if entity is None or "title" not in entity.attributes:
        raise InvalidArgument(f"domain {domain.name} declares no entity {COURSE} with a title")
    for kind in (ENROL, UPSERT):
        if kind not in domain.events:
            raise InvalidArgument(f"domain {domain.name} declares no event {kind}")


def _read_source(source: Path, domain: Domain, report: ImportReport) -> _Source:
    for name in ("item_list.txt", "user_list.txt", "sequences.txt"):
        if not (source / name).is_file():
            raise NotFound(f"{source / name} does not exist", reason="SOURCE_NOT_FOUND")
    courses = _read_ids(source / "item_list.txt", report.counts.setdefault("courses", Count()))
    users = _read_ids(source / "user_list.txt", report.counts.setdefault("users", Count()))
    schools: dict[int, str] = {}
    facts = source / "kg_final.txt"
    if SCHOOL in domain.entities[COURSE].attributes and facts.is_file():
        schools = _read_schools(facts, courses, report.counts.setdefault("facts", Count()))
    return _Source(courses, users, schools)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file. Raises ``InvalidArgument`` naming the line that is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise InvalidArgument(
                    f"{path}:{number}: is not UTF-8 text: {error.reason}"
                ) from error


def _number(text: str) -> int | None:
    """The natural number that ``text`` writes in at most 18 digits, else none."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _read_ids(path: Path, count: Count) -> dict[int, str]:
    """Original id by remapped id."""
    lines = _lines(path)
    header = next(lines, "").split()
    if header[:2] != ["org_id", "remap_id"]:
        raise InvalidArgument(f"{path}:1: expected a header that starts with org_id remap_id")
    ids: dict[int, str] = {}
    originals: set[str] = set()
    for line in lines:
        original, text, *_ = (*line.split(), "", "")
        number = _number(text)
        if number is None:
            count.drop("malformed line")
        elif len(original.encode()) > MAX_ID_BYTES:
            count.drop(f"id over {MAX_ID_BYTES} bytes")
        elif number in ids or original in originals:
            count.drop("id given twice")
        else:
            ids[number] = original
            originals.add(original)
            count.keep()
    return ids


def _read_schools(path: Path, courses: dict[int, str], count: Count) -> dict[int, str]:
    """School of each course that has one.

    Relations are numbered, not named. A course's school is told by its shape: the first relation
    from courses to things that are no courses which covers most courses and gives nearly every
    one of them a single tail. All other relations are dropped, as their names would be guesses.
    """
    tails: dict[int, dict[int, list[int]]] = {}
    for line in _lines(path):
        match [_number(field) for field in line.split()]:
            case [int(head), int(relation), int(tail)]:
                tails.setdefault(relation, {}).setdefault(head, []).append(tail)
            case _:
                count.drop("malformed line")
    school: dict[int, str] = {}
    for _, by_head in sorted(tails.items()):
        single = sum(len(found) == 1 for found in by_head.values())
        is_school = (
            not school
            and by_head.keys() <= courses.keys()
            and not any(tail in courses for found in by_head.values() for tail in found)
            and len(by_head) >= _SCHOOL_COVERAGE * len(courses)
            and single >= _SCHOOL_SINGLE_SHARE * len(by_head)
        )
        if is_school:
            school = {head: f"school_{found[0]}" for head, found in by_head.items()}
            count.read += len(by_head)
            count.kept += len(by_head)
            extra = sum(len(found) - 1 for found in by_head.values())
            if extra:
                count.drop("second school of a course", extra)
        else:
            count.drop("relation whose meaning is not given", sum(map(len, by_head.values())))
    return school


def _course_facts(known: _Source) -> Iterator[tuple[str, str]]:
    for number, course in sorted(known.courses.items()):
        yield course, known.schools.get(number, "")


def _enrolments(
    path: Path, known: _Source, report: ImportReport, progress: Progress
) -> Iterator[tuple[str, list[str]]]:
    """(user, courses in order) of every usable line."""
    lines = report.counts.setdefault("user lines", Count())
    enrolments = report.counts.setdefault("enrolments", Count())

    def drop(reason: str, courses: int) -> None:
        lines.drop(reason)
        if courses:
            enrolments.drop(reason, courses)

    size = path.stat().st_size
    done = 0
    seen_users: set[int] = set()
    for number, line in enumerate(_lines(path)):
        done += len(line)
        if number % _PROGRESS_LINES == 0:
            progress("enrolments", done, size)
        first, *fields = line.split() or [""]
        user = _number(first)
        if user is None:
            drop("malformed line", len(fields))
        elif user not in known.users:
            drop("unknown user", len(fields))
        elif user in seen_users:
            drop("user given twice", len(fields))
        else:
            seen_users.add(user)
            courses = _kept_courses(fields, known.courses, enrolments)
            if courses:
                lines.keep()
                yield known.users[user], courses
            else:
                lines.drop("no usable enrolment")
    progress("enrolments", size, size)


def _kept_courses(fields: list[str], known: dict[int, str], count: Count) -> list[str]:
    courses: dict[str, None] = {}
    for field in fields:
        number = _number(field)
        course = known.get(number) if number is not None else None
        if course is None:
            count.drop("malformed course" if number is None else "unknown course")
        elif course in courses:
            count.drop("repeated enrolment")
        else:
            courses[course] = None
            count.keep()
    return list(courses)
