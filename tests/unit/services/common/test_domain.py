"""The domain YAML: what ships is valid; what is wrong names file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.domain import duration_ms, load_domain
from services.common.errors import ConfigError

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
        ("[coment, gift", "[comment, gift", "objectives.interact.events.0", "'coment' is not"),
        ("feature: clicks_9h,", "feature: clicks_1h,", "surfaces.rooms.sources.1.feature", "9h"),
        ("surfacess:\n", "surfaces:\n", "surfacess", "Extra inputs"),
        ("dim: many", "dim: 32", "model.retrieval.dim", "valid integer"),
        ("repeat_of: purchas\n", "repeat_of: purchase\n", "objectives.repurchase.repeat_of", "pur"),
        ("match: curse}", "match: course}", "objectives.purchase.attribution.match", "'curse'"),
    ],
)
def test_a_typo_names_file_line_and_field(
    tmp_path: Path, wrong: str, right: str, field: str, message: str
) -> None:
    text = LIVE_COURSES.read_text()
    assert right in text
    line = text[: text.index(right)].count("\n") + 1
    path = tmp_path / "domain.yaml"
    path.write_text(text.replace(right, wrong, 1))

    with pytest.raises(ConfigError) as caught:
        load_domain(path)

    assert caught.value.file == str(path)
    assert caught.value.field == field
    assert caught.value.line == line
    assert message in caught.value.description


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
