"""The shipped domain with every kind of filter on its surfaces of courses and rooms."""

from __future__ import annotations

from pathlib import Path

_SHIPPED = Path(__file__).parents[2] / "config" / "live_courses.yaml"
_CHANGES = (
    (
        "  user:\n    attributes: {",
        "  user:\n    attributes: {age: int, languages: strings, ",
    ),
    (
        "      tags: strings ",
        "      recalled: bool\n      minimum_age: int\n      regions: strings\n"
        "      requires: strings\n      tags: strings ",
    ),
    ("[id, category, level, ", "[id, category, level, language, recalled, "),
    ("      live: bool\n", "      live: bool\n      starts_ms: int\n      listed: bool\n"),
    (
        "  title: {kind: attribute,",
        "  age: {kind: attribute, entities: [user]}\n"
        "  languages: {kind: attribute, entities: [user]}\n"
        "  language: {kind: attribute, entities: [course]}\n"
        "  recalled: {kind: attribute, entities: [course]}\n"
        "  minimum_age: {kind: attribute, entities: [course]}\n"
        "  regions: {kind: attribute, entities: [course]}\n"
        "  requires: {kind: attribute, entities: [course]}\n"
        "  starts_ms: {kind: attribute, entities: [room]}\n"
        "  listed: {kind: attribute, entities: [room]}\n"
        "  shown_1d: {kind: last_n, entities: [user], events: [impression], of: course, limit: 100,"
        " ttl: 1d}\n"
        "  title: {kind: attribute,",
    ),
    (
        "      - {kind: exclude, attribute: blocked}\n    caps: {host_id: 4}",
        "      - {kind: language, attribute: language, feature: languages}\n"
        "      - {kind: region, attribute: regions}\n"
        "      - {kind: age, attribute: minimum_age, context: age, feature: age}\n"
        "      - {kind: price_cap, attribute: price_minor, context: price_cap_minor,"
        " missing: remove}\n"
        "      - {kind: prerequisites, attribute: requires, feature: purchased_courses}\n"
        "      - {kind: seen, feature: shown_1d, times: 3}\n"
        "      - {kind: exclude, attributes: [blocked, recalled]}\n"
        "    caps: {host_id: 4}",
    ),
    (
        "      - {kind: require, attribute: live}\n      - {kind: require, attribute: heard}\n",
        "      - {kind: live_or_starting, live: live, heard: heard, starts: starts_ms,"
        " within: 30m}\n"
        "      - {kind: require, attribute: listed}\n",
    ),
)


def filtered_domain_text() -> str:
    """The domain's YAML."""
    text = _SHIPPED.read_text()
    for before, after in _CHANGES:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text
