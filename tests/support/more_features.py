"""Domain files with features added to those of a shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

LIVE_COURSES = Path(__file__).parents[2] / "config" / "live_courses.yaml"


def domain_file_with(
    path: Path, features: dict[str, Any], *, models: dict[str, list[str]] | None = None
) -> Path:
    """Writes the live-courses domain with more features; ``models`` maps "user_features" or
    "item_features" to names that the models read, too."""
    domain = yaml.safe_load(LIVE_COURSES.read_text())
    domain["features"].update(features)
    for inputs, names in (models or {}).items():
        domain["model"][inputs] += names
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(domain, sort_keys=False))
    return path


def quick_domain_file(path: Path) -> Path:
    """Writes the live-courses domain with courses alone to rank, by few features, and one epoch of
    training."""
    domain = yaml.safe_load(LIVE_COURSES.read_text())
    domain["surfaces"] = {"courses": domain["surfaces"]["courses"]}
    model = domain["model"]
    model["user_features"] = ["user_clicks_7d", "user_spend_30d"]
    model["item_features"] = ["clicks_7d", "purchases_7d", "price_minor"]
    model["crosses"] = {"latest_category": model["crosses"]["latest_category"]}
    for part in ("retrieval", "ranker"):
        model[part]["epochs"] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(domain, sort_keys=False))
    return path
