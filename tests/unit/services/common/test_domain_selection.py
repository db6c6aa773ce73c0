"""How a surface selects, as YAML: what is valid, and what is refused with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.domain import Domain, load_domain
from services.common.errors import ConfigError

LIVE_COURSES = Path(__file__).parents[4] / "config" / "live_courses.yaml"
ROOMS = "    objective_weights: {watch: 0.2, interact: 0.1}\n"
SELECTION = """\
    margin: {price: viewers, share: 0.3, currency: category}
    selection:
      diversity: {relevance: 0.8}
      exploration: {temperature: 0.5}
      new_items:
        position: 3
        impressions: clicks_1d
        until: 100
        published: viewers
        younger_than: 1d
      load_cap: {load: viewers, capacity: clicks_1d, at: 0.9, discount: 0.5}
      impression_floor: {group: host_id, impressions: clicks_7d, floor: 0.5, boost: 1, position: 5}
      pins:
        - {position: 0, source: trending}
        - {position: 1, id: room_1}
"""


def load(tmp_path: Path, selection: str) -> Domain:
    """The shipped domain with a selection of rooms."""
    text = LIVE_COURSES.read_text()
    assert text.count(ROOMS) == 1
    path = tmp_path / "domain.yaml"
    path.write_text(text.replace(ROOMS, ROOMS + selection))
    return load_domain(path)


def test_everything_can_be_said(tmp_path: Path) -> None:
    found = load(tmp_path, SELECTION).surfaces["rooms"].selection
    assert found.diversity is not None
    assert found.diversity.relevance == 0.8
    assert found.exploration is not None
    assert (found.exploration.share, found.exploration.candidates) == (0.02, 500)
    assert [pin.position for pin in found.pins] == [0, 1]


@pytest.mark.parametrize(
    ("right", "wrong", "field", "message"),
    [
        ("relevance: 0.8", "relevance: 0", "selection.diversity.relevance", "greater than 0"),
        ("temperature: 0.5", "temperature: 0", "selection.exploration.temperature", "greater"),
        (
            "impressions: clicks_1d",
            "impressions: clicks_9d",
            "selection.new_items.impressions",
            "'clicks_9d' is not a feature of room that holds int or float",
        ),
        (
            "younger_than: 1d",
            "younger_than: 25h",
            "selection.new_items.younger_than",
            "'clicks_1d' counts no longer than 1d",
        ),
        ("published: viewers", "published: title", "selection.new_items.published", "holds int"),
        ("load: viewers", "load: title", "selection.load_cap.load", "that holds int or float"),
        ("group: host_id", "group: viewers", "selection.impression_floor.group", "string"),
        ("boost: 1, position: 5", "boost: 0", "selection.impression_floor", "boost or position"),
        ("position: 5", "position: 3", "selection.impression_floor.position", "3 is taken"),
        ("{position: 1, id", "{position: 0, id", "selection.pins.1.position", "0 is taken"),
        ("source: trending", "source: editor", "selection.pins.0.source", "'editor' is not a"),
        ("1, id: room_1", "1, id: room_1, source: trending", "selection.pins.1", "exactly one"),
        ("price: viewers", "price: title", "margin.price", "that holds int or float"),
        ("currency: category", "currency: viewers", "margin.currency", "that holds string"),
        ("share: 0.3", "share: title", "margin.share", "that holds int or float"),
    ],
)
def test_a_mistake_names_line_and_field(
    tmp_path: Path, right: str, wrong: str, field: str, message: str
) -> None:
    assert SELECTION.count(right) == 1
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, SELECTION.replace(right, wrong))
    assert refused.value.field == f"surfaces.rooms.{field}"
    before = LIVE_COURSES.read_text().split(ROOMS)[0] + ROOMS
    line = before.count("\n") + SELECTION.split(right, maxsplit=1)[0].count("\n") + 1
    assert refused.value.line == line
    assert message in refused.value.description


@pytest.mark.parametrize(
    ("removed", "field", "message"),
    [
        ("        published: viewers\n", "selection.new_items", "go together"),
        ("{temperature: 0.5}", "selection.exploration", "valid"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, removed: str, field: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, SELECTION.replace(removed, "" if removed.endswith("\n") else "none"))
    assert refused.value.field == f"surfaces.rooms.{field}"
    assert message in refused.value.description


def test_objectives_of_money_need_a_margin_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "domain.yaml"
    text = LIVE_COURSES.read_text().replace("weight: 1.0\n", "weight: 1.0\n    money: true\n")
    path.write_text(text)
    with pytest.raises(ConfigError, match="the objective purchase is of money") as refused:
        load_domain(path)
    assert refused.value.field == "surfaces.courses.margin"
    path.write_text(text.replace("currency: USD\n", "currency: USD\ncurrency_rates: {USD: 2}\n"))
    with pytest.raises(ConfigError, match="its rate is 1") as refused:
        load_domain(path)
    assert refused.value.field == "currency_rates.USD"


@pytest.mark.parametrize(
    ("scored", "message"),
    [
        (500, "must be below candidates, which are 500"),
        (19, "must not be below default_k, which is 20"),
        (0, "greater than or equal to 1"),
    ],
)
def test_how_many_are_scored_lies_between_slate_and_candidates(
    tmp_path: Path, scored: int, message: str
) -> None:
    assert load(tmp_path, "    scored: 20\n").surfaces["rooms"].scored == 20
    assert load(tmp_path, "").surfaces["rooms"].scored is None
    with pytest.raises(ConfigError, match=rf"domain\.yaml:\d+: .*rooms\.scored: .*{message}"):
        load(tmp_path, f"    scored: {scored}\n")
