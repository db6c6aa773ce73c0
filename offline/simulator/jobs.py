"""What offline jobs of the app write back once a week: segments of accounts, tags of courses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from offline.simulator import naming
from offline.simulator.catalogue import Catalogue
from offline.simulator.people import People
from offline.simulator.records import ProfileData, Record

BIG_SPENDER_MINOR = 15_000
POPULAR_SHARE = 0.1


def weekly_profiles(
    people: People, catalogue: Catalogue, known_courses: int, week: int, now_ms: int
) -> Iterator[Record]:
    """A profile of every account there is and of every course on sale, from the week just over.

    ``known_courses``: rows of the catalogue that were there a week ago.
    """
    version = f"week-{week}"
    for person in np.flatnonzero(people.joins_ms[: people.accounts] <= now_ms).tolist():
        spent = int(people.spent_minor[person])
        segment = "visitor" if not spent else "buyer"
        if spent >= BIG_SPENDER_MINOR:
            segment = "big_spender"
        yield Record("profile", person, True, payload=ProfileData(version, {"segment": segment}))
    hotness = catalogue.hotness[: catalogue.courses]
    popular = hotness >= np.quantile(hotness, 1 - POPULAR_SHARE)
    for course in np.flatnonzero(~catalogue.withdrawn[: catalogue.courses]).tolist():
        tags = ("popular",) if popular[course] else ()
        if course >= known_courses:
            tags = (*tags, "new")
        entities = (("course", naming.course_id(course)),)
        yield Record("profile", entities=entities, payload=ProfileData(version, {"tags": tags}))
