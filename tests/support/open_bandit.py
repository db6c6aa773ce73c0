"""Logs in the layout of the Open Bandit Dataset, drawn from policies that are known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

CLICK_RATES = np.array([0.02, 0.05, 0.10, 0.20])
THOMPSON = np.array([[0.1, 0.2, 0.3, 0.4], [0.2, 0.2, 0.2, 0.4]])


def write_open_bandit(
    folder: Path,
    *,
    campaign: str = "men",
    impressions: int = 4_000,
    thompson: np.ndarray = THOMPSON,
) -> None:
    """Both policies' logs of one campaign: four items, two positions, ``CLICK_RATES`` by item."""
    rng = np.random.default_rng(12)
    policies = {"random": np.full(thompson.shape, 1.0 / thompson.shape[1]), "bts": thompson}
    for policy, distribution in policies.items():
        place = folder / policy / campaign
        place.mkdir(parents=True)
        write_table(
            place / "item_context.csv",
            ["", "item_id", "item_feature_0"],
            [[item, item, 0.5] for item in range(distribution.shape[1])],
        )
        rows: list[list[object]] = []
        for number in range(impressions):
            position = int(rng.integers(len(distribution)))
            item = int(rng.choice(distribution.shape[1], p=distribution[position]))
            clicked = int(rng.random() < CLICK_RATES[item])
            row = [number, item, position + 1, clicked, distribution[position, item]]
            rows.append([*row, "feature"])
        header = ["", "item_id", "position", "click", "propensity_score", "user_feature_0"]
        write_table(place / f"{campaign}.csv", header, rows)


def write_table(path: Path, header: list[str], rows: list[list[object]]) -> None:
    """Writes one CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
