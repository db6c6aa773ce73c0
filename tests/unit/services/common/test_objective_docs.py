"""The objective that ``docs/ranking.md`` adds is one that a domain can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from services.common.domain import load_domain

ROOT = Path(__file__).parents[4]


def _added(text: str) -> dict[str, Any]:
    section = text.split("### Add an objective", 1)[1]
    return yaml.safe_load(section.split("```yaml\n", 1)[1].split("```", 1)[0])


def _merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in more.items():
        known = merged.get(name)
        both = isinstance(known, dict) and isinstance(value, dict)
        merged[name] = _merged(known, value) if both else value
    return merged


def test_the_objective_of_the_docs_is_taken(tmp_path: Path) -> None:
    added = _added((ROOT / "docs" / "ranking.md").read_text())
    shipped = yaml.safe_load((ROOT / "config" / "live_courses.yaml").read_text())
    path = tmp_path / "domain.yaml"
    path.write_text(yaml.safe_dump(_merged(shipped, added), sort_keys=False))
    domain = load_domain(path)
    assert domain.objectives["note"].events == ["note"]
    assert domain.surfaces["rooms"].objective_weights["note"] == 0.3
    assert set(shipped["objectives"]) < set(domain.objectives)
