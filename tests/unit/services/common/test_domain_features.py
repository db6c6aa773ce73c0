"""Features, derived keys and pairs in the domain YAML: what is wrong names file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.domain import Domain, load_domain
from services.common.errors import ConfigError

LIVE_COURSES = Path(__file__).parents[4] / "config" / "live_courses.yaml"
ENTITIES = """\
  topic: {attributes: {score: float, size: "vector[4]"}, derived_from: {course: language}}
  user_course: {pair: [user, course]}
  user_topic: {pair: [user, topic]}
"""
FEATURES = """\
  t_score: {kind: attribute, entities: [topic], attribute: score, ttl: 2d}
  t_size: {kind: attribute, entities: [topic], attribute: size}
  t_watched: {kind: sum, entities: [topic, user_course], events: [watch], value: duration_ms,
    window: 1d}
  t_mean: {kind: mean, entities: [topic], events: [gift, purchase], value: amount_minor, window: 5m}
  t_min: {kind: min, entities: [topic], events: [gift], value: amount_minor, window: 5m,
    default: -1}
  t_last: {kind: last, entities: [user], events: [search], value: query, window: 30d}
  t_users: {kind: distinct, entities: [topic], events: [click], of: user, window: 7d, cap: 50}
  t_rate: {kind: rate, entities: [topic], events: [click], window: 1h, per: 1m}
  t_recent: {kind: last_n, entities: [user], events: [click], of: course, limit: 5, ttl: 1h}
  t_joint: {kind: expression, entities: [topic], formula: (t_watched + t_users) / t_score}
  t_pairs: {kind: pairs, entities: [user], events: [click], of: user_topic, limit: 5}
  t_listed: {kind: pairs, entities: [user], events: [click], of: user_course, limit: 5,
    emit: t_watched}
"""


def text() -> str:
    shipped = LIVE_COURSES.read_text()
    whole = shipped.replace("\nentities:\n", f"\nentities:\n{ENTITIES}", 1)
    return whole.replace("\nfeatures:\n", f"\nfeatures:\n{FEATURES}", 1)


def load(path: Path, right: str = "", wrong: str = "") -> Domain:
    assert right in text()
    path.write_text(text().replace(right, wrong, 1))
    return load_domain(path)


def test_every_kind_is_accepted(tmp_path: Path) -> None:
    domain = load(tmp_path / "domain.yaml")

    kinds = {feature.kind for name, feature in domain.features.items() if name[:2] == "t_"}
    assert len(kinds) == 10
    assert domain.entities["user_topic"].pair == ("user", "topic")


@pytest.mark.parametrize(
    ("right", "wrong", "field", "message"),
    [
        # Kinds and their options.
        ("t_rate: {kind: rate", "t_rate: {kind: pace", "features.t_rate", "'pace'"),
        ("window: 1h, per: 1m", "window: 1h, per: 1x", "features.t_rate.per", "'1x' is not a"),
        ("window: 1h, per: 1m", "window: 59s, per: 1m", "features.t_rate.window", "shorter"),
        ("cap: 50}", "cap: 0}", "features.t_users.cap", "greater"),
        ("cap: 50}", "cap: 99999}", "features.t_users.cap", "less than or equal to 10000"),
        ("limit: 5, ttl: 1h}", "limit: 501, ttl: 1h}", "features.t_recent.limit", "500"),
        ("score, ttl: 2d}", "score, ttl: never}", "features.t_score.ttl", "'never' is not a dur"),
        (
            "events: [click], of: user,",
            "events: [], of: user,",
            "features.t_users.events",
            "1 item",
        ),
        ('"vector[4]"', '"vector[0]"', "entities.topic.attributes.size", "vector[N]"),
        ('"vector[4]"', '"vector[2000]"', "entities.topic.attributes.size", "more than 1024"),
        ('"vector[4]"', "list", "entities.topic.attributes.size", "'list' is none of"),
        # Attributes.
        ("attribute: score,", "attribute: scor,", "features.t_score.attribute", "not an attribute"),
        (
            "[topic], attribute: size",
            "[tropic], attribute: size",
            "features.t_size.entities.0",
            "'",
        ),
        # Values of events.
        (
            "events: [watch], value: duration_ms",
            "events: [watch], value: duration",
            "features.t_watched.value",
            "not an attribute of watch that holds int or float",
        ),
        (
            "[gift, purchase], value: amount_minor",
            "[gift, click], value: amount_minor",
            "features.t_mean.value",
            "not an attribute of click",
        ),
        ("[gift], value: amount_minor", "[search], value: query", "features.t_min.value", "search"),
        ("default: -1}", "default: 0.5}", "features.t_min.default", "is an int"),
        (
            "events: [search], value: query",
            "events: [serch], value: query",
            "features.t_last.events.0",
            "'serch'",
        ),
        # What is named.
        ("of: user, window: 7d", "of: users, window: 7d", "features.t_users.of", "'users' is not"),
        ("of: user, window: 7d", "of: user_topic, window: 7d", "features.t_users.of", "is not one"),
        (
            "of: course, limit: 5, ttl",
            "of: topic, limit: 5, ttl",
            "features.t_recent.of",
            "not named",
        ),
        (
            "of: course, limit: 5, ttl",
            "of: user, limit: 5, ttl",
            "features.t_recent.of",
            "not named",
        ),
        # Expressions.
        ("/ t_score}", "/ t_scor}", "features.t_joint.formula", "'t_scor' is not a numeric"),
        ("/ t_score}", "/ t_size}", "features.t_joint.formula", "'t_size' is not a numeric"),
        ("/ t_score}", "/ t_last}", "features.t_joint.formula", "not a numeric feature of topic"),
        ("/ t_score}", "/ t_joint}", "features.t_joint.formula", "or an expression itself"),
        (
            "(t_watched + t_users) / t_score",
            "1 + 2",
            "features.t_joint.formula",
            "reads no feature",
        ),
        (
            "(t_watched + t_users) / t_score",
            "t_score ** 2",
            "features.t_joint.formula",
            "is not allowed",
        ),
        (
            "(t_watched + t_users) / t_score",
            "(t_score",
            "features.t_joint.formula",
            "no arithmetic",
        ),
        # Pairs.
        (
            "of: user_topic, limit",
            "of: topic, limit",
            "features.t_pairs.of",
            "'topic' is not one of",
        ),
        (
            "emit: t_watched}",
            "emit: t_users}",
            "features.t_listed.emit",
            "neither id nor a numeric",
        ),
        (
            "t_pairs: {kind: pairs, entities: [user]",
            "t_pairs: {kind: pairs, entities: [course]",
            "features.t_pairs.entities.0",
            "only a user",
        ),
        ("pair: [user, topic]", "pair: [topic, user]", "entities.user_topic.pair", "in this order"),
        ("pair: [user, topic]", "pair: [user, user]", "entities.user_topic.pair", "in this order"),
        ("pair: [user, topic]", "pair: [user, tropic]", "entities.user_topic.pair.1", "'tropic'"),
        (
            "pair: [user, topic]",
            "pair: [user, user_course]",
            "entities.user_topic.pair.1",
            "pair its",
        ),
        ("pair: [user, topic]", "pair: [user]", "entities.user_topic.pair.1", "required"),
        (
            "{pair: [user, topic]}",
            "{pair: [user, topic], attributes: {a: int}}",
            "entities.user_topic.pair",
            "features only",
        ),
        # Derived keys.
        ("{course: language}", "{curse: language}", "entities.topic.derived_from.curse", "'curse'"),
        ("{course: language}", "{course: level}", "entities.topic.derived_from.course", "string"),
        ("{course: language}", "{course: tongue}", "entities.topic.derived_from.course", "tongue"),
        ("{course: language}", "{user: language}", "entities.topic.derived_from.user", "'user'"),
        ("{course: language}", "{topic: score}", "entities.topic.derived_from.topic", "'topic'"),
    ],
)
def test_a_mistake_names_file_line_and_field(
    tmp_path: Path, right: str, wrong: str, field: str, message: str
) -> None:
    path = tmp_path / "domain.yaml"
    with pytest.raises(ConfigError) as raised:
        load(path, right, wrong)

    error = raised.value
    assert error.file == str(path)
    assert error.field == field
    assert error.line == text()[: text().index(right)].count("\n") + 1
    assert message in error.description
