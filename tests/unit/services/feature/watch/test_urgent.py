"""Which changes are urgent, and since when it is known."""

from __future__ import annotations

from services.feature.watch.changes import Update
from services.feature.watch.urgent import UrgentChanges


def updates(*identities: str) -> list[Update]:
    return [Update("room", identity, None) for identity in identities]


def test_urgent_changes_are_known_by_version_as_long_as_they_are_kept() -> None:
    urgent = UrgentChanges(kept=2)
    assert (urgent.version, urgent.moved_version, urgent.since(0)) == (0, 0, [])
    urgent.installed(3, updates("a", "moved", "moved"), 2)
    assert (urgent.version, urgent.moved_version, urgent.since(0)) == (1, 3, [("room", "a")])
    urgent.installed(5, updates("b", "a"), 0)
    assert (urgent.version, urgent.moved_version) == (5, 3)
    assert urgent.since(0) == [("room", "a"), ("room", "b")]
    assert urgent.since(4) == [("room", "a")]
    urgent.installed(7, updates("c", "d"), 0)
    assert urgent.since(4) is None
    assert urgent.since(5) == [("room", "c"), ("room", "d")]
    urgent.installed(8, updates("moved"), 1)
    assert (urgent.version, urgent.moved_version, urgent.since(7)) == (7, 8, [])
