"""Filters in the domain YAML: every kind is read, and what is wrong names file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.domain import load_domain
from services.common.domain_filter_references import filterable_fields
from services.common.errors import ConfigError
from tests.support.filtered_domain import filtered_domain_text


def refused(tmp_path: Path, right: str, wrong: str) -> ConfigError:
    """How the domain is refused with its only ``right`` gone ``wrong``."""
    text = filtered_domain_text()
    assert text.count(right) == 1
    path = tmp_path / "domain.yaml"
    path.write_text(text.replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        load_domain(path)
    assert caught.value.line == text[: text.index(right)].count("\n") + 1
    return caught.value


def test_a_surface_may_name_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    path.write_text(filtered_domain_text())
    domain = load_domain(path)
    kinds = {rule.kind for surface in domain.surfaces.values() for rule in surface.filters}
    assert kinds == {
        *("require", "exclude", "positive", "open_window", "live_or_starting", "language"),
        *("region", "age", "price_cap", "prerequisites", "not_in_list", "seen"),
        "heard_within",
    }
    assert filterable_fields(domain, "course") == {
        "id": "string",
        "category": "string",
        "level": "int",
        "price_minor": "int",
        "language": "string",
        "tags": "list",
        "click_rate_7d": "float",
        "recalled": "bool",
    }
    assert filterable_fields(domain, "user") == {}


AGE = "{kind: age, attribute: minimum_age, context: age, feature: age}"
CAP = "{kind: price_cap, attribute: price_minor, context: price_cap_minor, missing: remove}"
LIVE = "{kind: live_or_starting, live: live, heard: heard, starts: starts_ms, within: 30m}"
NEEDS = "{kind: prerequisites, attribute: requires, feature: purchased_courses}"
SEEN = "{kind: seen, feature: shown_1d, times: 3}"
FLAGS = "{kind: exclude, attributes: [blocked, recalled]}"


@pytest.mark.parametrize(
    ("right", "wrong", "field", "says"),
    [
        (AGE, "{kind: age, attribute: minimum_age}", "filters.6.age", "context or feature"),
        (AGE, AGE.replace("minimum_age", "title"), "filters.6.attribute", "int or float"),
        (AGE, AGE.replace("feature: age", "feature: languages"), "filters.6.feature", "of user"),
        (
            CAP,
            "{kind: price_cap, attribute: price_minor}",
            "filters.7.price_cap",
            "most, context or feat",
        ),
        (CAP, CAP.replace("remove", "drop"), "filters.7.missing", "'keep' or 'remove'"),
        (CAP, CAP.replace("}", ", most: -1}"), "filters.7.most", "greater than or equal to 0"),
        (CAP, CAP.replace("context: price", "feature: no"), "filters.7.feature", "'no_cap_minor'"),
        (NEEDS, NEEDS.replace("requires", "title"), "filters.8.attribute", "that holds list"),
        (NEEDS, NEEDS.replace("purchased_courses", "age"), "filters.8.feature", "that holds list"),
        (SEEN, SEEN.replace("shown_1d", "age"), "filters.9.feature", "not a last_n feature of us"),
        (SEEN, SEEN.replace("shown_1d", "purchased_courses"), "filters.9.feature", "with a ttl"),
        (SEEN, SEEN.replace("3", "500"), "filters.9.times", "lists 100 at most"),
        (SEEN, SEEN.replace("times", "attribute: level, times"), "filters.9.attribute", "string"),
        (FLAGS, FLAGS.replace("recalled", "level"), "filters.10.attributes.1", "that holds bool"),
        (FLAGS, "{kind: exclude}", "filters.10.exclude", "exactly one of attribute and attributes"),
        (
            FLAGS,
            "{kind: exclude, attribute: blocked, attributes: [recalled]}",
            "filters.10.exclude",
            "exactly one of attribute and attributes",
        ),
        (
            "attribute: regions}",
            "attribute: level}",
            "filters.5.attribute",
            "that holds string or list",
        ),
        (
            "attribute: language, feature: languages}",
            "attribute: language, feature: age}",
            "filters.4.feature",
            "that holds string or list",
        ),
    ],
)
def test_a_wrong_filter_names_the_place(
    tmp_path: Path, right: str, wrong: str, field: str, says: str
) -> None:
    error = refused(tmp_path, right, wrong)
    assert error.field == f"surfaces.courses.{field}"
    assert says in error.description


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        (LIVE.replace("30m", "soon"), "within", "not a duration"),
        (LIVE.replace("live: live", "live: viewers"), "live", "that holds bool"),
        (LIVE.replace("heard: heard", "heard: title"), "heard", "that holds bool"),
        (LIVE.replace("starts_ms", "title"), "starts", "that holds int"),
        ("{kind: heard_within, attribute: title, within: 1m}", "attribute", "that holds int"),
        ("{kind: heard_within, attribute: heard_at_ms, within: soon}", "within", "not a duration"),
    ],
)
def test_a_room_starts_at_a_time(tmp_path: Path, wrong: str, field: str, says: str) -> None:
    error = refused(tmp_path, LIVE, wrong)
    assert error.field == f"surfaces.rooms.filters.0.{field}"
    assert says in error.description


@pytest.mark.parametrize(
    ("wrong", "place", "says"),
    [
        ("[id, categry, level", 1, "'categry' is not one of"),
        ("[id, category, category", 2, "'category' is named twice"),
        ("[id, recent_actions, level", 1, "'recent_actions' is not one of"),
    ],
)
def test_what_is_filterable_is_there(tmp_path: Path, wrong: str, place: int, says: str) -> None:
    error = refused(tmp_path, "[id, category, level", wrong)
    assert error.field == f"entities.course.filterable.{place}"
    assert says in error.description
