"""The report as a table loses nothing, however narrow the output."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from offline.evaluation.report import (
    SHOWN,
    DifferenceReport,
    EvaluationReport,
    Figure,
    SystemReport,
)

FIGURE = Figure(mean=0.25, low=0.1234, high=0.5678)


@pytest.mark.parametrize("width", [80, 132])
def test_intervals_are_not_cut_off(width: int) -> None:
    systems = [
        SystemReport(name=name, coverage=0.5, figures=dict.fromkeys(SHOWN, FIGURE))
        for name in ("shipped", "popularity (all events, half-life 7 d)")
    ]
    report = EvaluationReport(
        domain="answers",
        bundle="v1",
        surface="home",
        objective="upvote",
        split="test",
        questions=3,
        items=9,
        resamples=10,
        confidence=0.95,
        systems=systems,
        differences=[
            DifferenceReport(
                system="shipped", baseline=systems[1].name, metric=metric, difference=FIGURE
            )
            for metric in ("hr@10", "ndcg@10", "mrr")
        ],
    )
    output = io.StringIO()
    report.print(Console(file=output, width=width))
    text = output.getvalue()
    assert "…" not in text.replace(" … ", "")
    assert text.count("5678") == 2 * len(SHOWN) + 3
