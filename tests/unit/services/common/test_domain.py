"""The domain YAML: what ships is valid; what is wrong names file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from podium.event.v1.event_pb2 import Event
from services.common.crosses import AffinityCross, RatioCross
from services.common.domain import load_domain
from services.common.domain_cross_references import cross_errors
from services.common.domain_feature_references import carried_errors
from services.common.domain_references import BUILT_IN_EVENTS
from services.common.durations import duration_ms
from services.common.errors import ConfigError
from services.feature.definitions import ROOM_EVENTS

CONFIG = Path(__file__).parents[4] / "config"
LIVE_COURSES = CONFIG / "live_courses.yaml"


@pytest.mark.parametrize("path", sorted(CONFIG.glob("[lm]*.yaml")), ids=lambda path: path.stem)
def test_shipped_domains_are_valid(path: Path) -> None:
    domain = load_domain(path)
    assert domain.name == path.stem
    assert domain.config_hash == load_domain(path).config_hash


def test_the_four_surfaces_ship() -> None:
    assert set(load_domain(LIVE_COURSES).surfaces) == {"courses", "rooms", "hosts", "videos"}


@pytest.mark.parametrize(
    ("wrong", "right", "field", "message"),
    [
        ("windw: 1h}", "window: 1h}", "features.clicks_1h.windw", "Extra inputs"),
        ("window: 1w}", "window: 1h}", "features.clicks_1h.window", "'1w' is not a duration"),
        ("{kind: requir,", "{kind: require,", "surfaces.rooms.filters.0", "'requir'"),
        (
            "[coment, gift, like, share, f",
            "[comment, gift, like, share, f",
            "objectives.interact.events.0",
            "coment",
        ),
        ("feature: clicks_9h,", "feature: clicks_1h,", "surfaces.rooms.sources.1.feature", "9h"),
        ("surfacess:\n", "surfaces:\n", "surfacess", "Extra inputs"),
        ("dim: many", "dim: 32", "model.retrieval.dim", "valid integer"),
        ("repeat_of: purchas\n", "repeat_of: purchase\n", "objectives.repurchase.repeat_of", "pur"),
        ("match: curse}", "match: course}", "objectives.purchase.attribution.match", "'curse'"),
        ("Asia/Shangai", "Asia/Shanghai", "report_time_zone", "not an IANA time zone"),
        ("window: 99999d}", "window: 7d}", "features.user_clicks_7d.window", "longer than 3650d"),
        ("weight: .nan", "weight: 1.0", "objectives.purchase.weight", "finite"),
        ("dim: 32, heads: 3", "dim: 32", "model.retrieval.heads", "must divide dim"),
        (
            "trend: click_rate_7d",
            "trend: purchases_7d",
            "model.retrieval.trend",
            "not a count feature of course",
        ),
        (
            "trend: user_clicks_7d",
            "trend: purchases_7d",
            "model.retrieval.trend",
            "not a count feature of course",
        ),
        ("hidden: [0, 32]", "hidden: [64, 32]", "model.ranker.hidden.0", "greater than"),
        ("caps: {host_id: 0}", "caps: {host_id: 4}", "surfaces.courses.caps.host_id", "greater"),
        # The name exists, and holds what the place can't read.
        ("caps: {level: 4}", "caps: {host_id: 4}", "surfaces.courses.caps.level", "string"),
        (
            "{kind: require, attribute: category}",
            "{kind: require, attribute: live}",
            "surfaces.rooms.filters.0.attribute",
            "that holds bool",
        ),
        (
            "{kind: exclude, attribute: title}\n      - {kind: heard",
            "{kind: exclude, attribute: blocked}\n      - {kind: heard",
            "surfaces.rooms.filters.5.attribute",
            "that holds bool",
        ),
        (
            "heard: {kind: attribute, entities: [room]}",
            "heard: {kind: attribute, entities: [room], ttl: 90m}",
            "features.heard.ttl",
            "after which time a room counts as silent",
        ),
        (
            "heard: int ",
            "heard: bool ",
            "entities.room.attributes.heard",
            "must be bool: events of its state set it",
        ),
        (
            "{kind: positive, attribute: title}",
            "{kind: positive, attribute: seats_left}",
            "surfaces.courses.filters.0.attribute",
            "that holds int or float",
        ),
        (
            "feature: user_clicks_7d}",
            "feature: purchased_courses}",
            "surfaces.courses.filters.2.feature",
            "not a last_n feature of user",
        ),
        (
            "attribute: level}",
            "attribute: host_id}",
            "surfaces.courses.filters.3.attribute",
            "that holds string",
        ),
        ("feature: title,", "feature: clicks_7d,", "surfaces.courses.sources.1.feature", "numeric"),
        (
            "purchase_rate_30d, category,",
            "purchase_rate_30d, level,",
            "model.item_features.7",
            "numeric",
        ),
        ("category: level}", "category: category}", "entities.course.tower.fields.category", "str"),
        (
            "selling_attribute: live",
            "selling_attribute: id",
            "surfaces.courses.selling_attribute",
            "'live'",
        ),
        (
            "without: purchased_course,",
            "without: purchased_courses,",
            "surfaces.courses.sources.2.without",
            "does not list a user's courses",
        ),
        (
            "{kind: similar_to_last, feature: blocked_hosts,",
            "{kind: similar_to_last, feature: recent_courses,",
            "surfaces.courses.sources.3.feature",
            "lists host, not course",
        ),
        (
            "{kind: item_knn, feature: recent_actions, quota",
            "{kind: item_knn, feature: recent_courses, quota",
            "surfaces.courses.sources.4.feature",
            "not a last_n feature of user that emits id",
        ),
        (
            "ended_by: [unfolow]",
            "ended_by: [unfollow]",
            "surfaces.courses.sources.5.ended_by.0",
            "not among the events listed",
        ),
        (
            "actions: recent_actions, ended_by",
            "actions: follow_actions, ended_by",
            "surfaces.courses.sources.5.actions",
            "beside 'followed_hosts'",
        ),
        (
            "category: level, level: level, order_by",
            "category: category, level: level, order_by",
            "surfaces.courses.sources.6.category",
            "that holds string",
        ),
        (
            "level: price, order_by",
            "level: level, order_by",
            "surfaces.courses.sources.6.level",
            "that holds int",
        ),
        (
            "{kind: new_items, newest_by: title, quota: 20}",
            "{kind: new_items, quota: 20}",
            "surfaces.courses.sources.8.newest_by",
            "an int feature",
        ),
        (
            "{kind: new_items, newest_by: enrolment_opens_ms, fewest: clicks_7d, quota: 20}",
            "{kind: new_items, quota: 20}",
            "surfaces.courses.sources.8.new_items",
            "at most one of newest_by and fewest",
        ),
        (
            "{kind: new_items, quota: 20}",
            "{kind: new_items, fewest: clicks_7d, quota: 20}",
            "surfaces.videos.sources.6",
            "what selection.new_items guarantees",
        ),
        (
            "{kind: caller, quota: 501}",
            "{kind: caller, quota: 200}",
            "surfaces.courses.sources.9.quota",
            "less than or equal to 500",
        ),
        (
            "{kind: caller, name: personal}",
            "{kind: caller, quota: 200}",
            "surfaces.courses.sources.9.name",
            "another source of the surface is called 'personal'",
        ),
        (
            "{kind: item_knn, feature: recent_courses, quota",
            "{kind: item_knn, feature: recent_courses, attribute: selling_course_id, quota",
            "surfaces.rooms.sources.3.attribute",
            "must say what names a course",
        ),
        # The sequence is read side by side with its actions.
        ("length: 60}", "length: 50}", "model.sequence.length", "lists fewer"),
    ],
)
def test_a_typo_names_file_line_and_field(
    tmp_path: Path, wrong: str, right: str, field: str, message: str
) -> None:
    text = LIVE_COURSES.read_text()
    error = _refused(tmp_path, right, wrong)

    assert error.file == str(tmp_path / "domain.yaml")
    assert error.field == field
    assert error.line == text[: text.index(right)].count("\n") + 1
    assert message in error.description


def _refused(tmp_path: Path, right: str, wrong: str) -> ConfigError:
    """How the shipped domain is refused with its first ``right`` gone ``wrong``."""
    text = LIVE_COURSES.read_text()
    assert right in text
    path = tmp_path / "domain.yaml"
    path.write_text(text.replace(right, wrong, 1))
    with pytest.raises(ConfigError) as caught:
        load_domain(path)
    return caught.value


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("purchases_7d, purchases_30d, click", "purchases_30d, click", "not among model.item_fea"),
        (
            "events: [purchase], window: 7d}",
            "events: [purchase], window: 23h}",
            "window of 23h; 1d is the least",
        ),
        ("{kind: time, validation: 3d, test: 7d}", "{kind: leave_last}", "needs a split by time"),
        (
            "{kind: count, entities: [course, host, room, video], events: [purchase]",
            "{kind: count, entities: [course, host, room, video], events: [purchase, refund]",
            "counts events that 'recent_courses' does not list",
        ),
    ],
)
def test_a_trend_is_of_the_sequence_and_read_by_the_ranker(
    tmp_path: Path, right: str, wrong: str, message: str
) -> None:
    error = _refused(tmp_path, right, wrong)
    assert error.field == "model.retrieval.trend"
    assert message in error.description


def test_moving_item_features_need_impressions(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    path.write_text(LIVE_COURSES.read_text().replace("impressions: true", "impressions: false"))
    with pytest.raises(ConfigError, match=r"model\.item_features\.0: .* a log with impressions"):
        load_domain(path)


def test_of_the_cross_features_only_affinity_needs_a_log_without_impressions() -> None:
    without = load_domain(CONFIG / "mooccubex.yaml")
    affinity = AffinityCross(kind="affinity")
    both = {"affinity": affinity, "ratio": RatioCross(kind="ratio", user="", item="")}
    for domain, wrong, message in (
        (without, "ratio", "ratio needs a log with impressions"),
        (load_domain(LIVE_COURSES), "affinity", "affinity needs a log without impressions"),
    ):
        model = domain.model.model_copy(update={"crosses": both})
        found = list(cross_errors(domain.model_copy(update={"model": model})))
        assert [error for error in found if "a log" in error[1]] == [
            (("model", "crosses", wrong), message)
        ]


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ({"by": "viewers"}, ("by",), "'viewers' is not a feature of room that holds string"),
        ({"entity": "curse"}, ("entity",), "'curse' is not one of"),
        ({"features": ["level", "prices"]}, ("features", 1), "'prices' is not a feature of course"),
        ({"features": ["clicks_1h"]}, ("features", 0), "room has a feature 'clicks_1h' of its own"),
    ],
)
def test_what_is_carried_is_held_by_the_other_alone(
    changed: dict[str, object], field: tuple[str | int, ...], message: str
) -> None:
    domain = load_domain(LIVE_COURSES)
    room = domain.entities["room"]
    assert room.carries is not None
    assert not list(carried_errors(domain))
    carries = room.carries.model_copy(update=changed)
    room = room.model_copy(update={"carries": carries})
    domain = domain.model_copy(update={"entities": {**domain.entities, "room": room}})
    [(location, found)] = carried_errors(domain)
    assert location == ("entities", "room", "carries", *field)
    assert found.startswith(message)


@pytest.mark.parametrize(
    "event",
    [
        *("impression", "slate_served", "entity_upsert", "refund", "exposure", "entity_withdrawal"),
        *ROOM_EVENTS,
    ],
)
def test_events_that_the_log_is_read_for_must_be_declared(tmp_path: Path, event: str) -> None:
    path = tmp_path / "domain.yaml"
    lines = LIVE_COURSES.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(f"  {event}: {{")))
    with pytest.raises(ConfigError, match=f"events.{event}: must be declared"):
        load_domain(path)


@pytest.mark.parametrize("event", BUILT_IN_EVENTS)
def test_a_misspelt_built_in_event_names_the_one_it_resembles(tmp_path: Path, event: str) -> None:
    path = tmp_path / "domain.yaml"
    path.write_text(LIVE_COURSES.read_text().replace(f"\n  {event}: {{", f"\n  {event}x: {{"))
    with pytest.raises(ConfigError, match=rf"events\.{event}x: .* '{event}'"):
        load_domain(path)


def test_the_built_in_events_are_those_of_the_contract() -> None:
    payloads = {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
    # Aliases and erasures come by calls of their own, kept variants from rankers: no domain
    # declares them.
    payloads -= {"room_state", "alias", "erasure", "sticky_assigned"}
    assert set(BUILT_IN_EVENTS) == payloads | {*ROOM_EVENTS, "impression"}


def test_the_stages_of_a_room_may_all_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    lines = LIVE_COURSES.read_text().splitlines(keepends=True)
    stages = tuple(f"  {event}: {{" for event in ROOM_EVENTS)
    path.write_text("".join(line for line in lines if not line.startswith(stages)))
    assert load_domain(path).events.keys().isdisjoint(ROOM_EVENTS)


@pytest.mark.parametrize(
    ("right", "wrong", "field"),
    [
        (
            "course: selling_course_id",
            "coursex: selling_course_id",
            "entities.room.tower.fields.coursex",
        ),
        ("host: id, category", "hosts: id, category", "entities.host.tower.fields.hosts"),
    ],
)
def test_a_vocabulary_misspelt_in_one_entity_is_refused(
    tmp_path: Path, right: str, wrong: str, field: str
) -> None:
    error = _refused(tmp_path, right, wrong)
    assert error.field == field
    assert "of another entity: misspelt?" in error.description


def test_an_entity_may_name_two_vocabularies_alike(tmp_path: Path) -> None:
    text = LIVE_COURSES.read_text().replace(
        "course: selling_course_id,", "course: selling_course_id, course_2: id,"
    )
    path = tmp_path / "domain.yaml"
    path.write_text(text)

    tower = load_domain(path).entities["room"].tower

    assert tower is not None
    assert tower.fields["course_2"] == "id"


def test_items_and_actions_of_the_sequence_come_from_the_same_events(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    text = LIVE_COURSES.read_text()
    wrong = text.replace(
        "cart, purchase]\n    of: course\n    emit", "cart]\n    of: course\n    emit"
    )
    assert wrong != text
    path.write_text(wrong)
    with pytest.raises(ConfigError, match=r"model\.sequence\.actions: .* differ in events"):
        load_domain(path)


def test_broken_yaml_and_missing_file_are_config_errors(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    path.write_text("name: x\n  bad: [")
    with pytest.raises(ConfigError, match=r"domain\.yaml:2"):
        load_domain(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_domain(tmp_path / "absent.yaml")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    path.write_text(LIVE_COURSES.read_text() + "\nname: again\n")
    with pytest.raises(ConfigError, match="'name' is given twice"):
        load_domain(path)


def test_windows_over_other_users_need_a_wall_clock(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    text = (CONFIG / "mooccubex.yaml").read_text()
    feature = "features:\n  n: {kind: count, entities: [course], events: [enrol], window: 1d}\n"
    path.write_text(text.replace("features:\n", feature, 1))
    with pytest.raises(ConfigError, match="times are ordinal per user"):
        load_domain(path)


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000)]
)
def test_duration_ms(text: str, expected: int) -> None:
    assert duration_ms(text) == expected
