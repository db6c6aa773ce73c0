"""When a bundle's answers are its end."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.bundles.faults import (
    BundleFaults,
    FaultLimits,
    FaultWindow,
    Verdict,
    is_faulty,
)
from services.ranker.types import Degradation, Part, Reason


@settings(max_examples=100, deadline=None)
@given(
    outcomes=st.lists(st.booleans(), max_size=60),
    requests=st.integers(1, 20),
    share=st.floats(0.01, 1),
)
def test_a_window_says_what_counting_its_answers_says(
    outcomes: list[bool], requests: int, share: float
) -> None:
    window = FaultWindow(FaultLimits(requests, share))
    begun: list[bool] = []
    for faulty in outcomes:
        begun.append(faulty)
        expected = Verdict.OPEN
        if sum(begun) / requests > share:
            expected = Verdict.FAILING
        elif len(begun) == requests:
            expected = Verdict.SOUND
        # At the very limit a quotient and a product may be rounded apart.
        if abs(sum(begun) - share * requests) > 1e-9:
            assert window.count(faulty) is expected
        else:
            expected = window.count(faulty)
        if expected is not Verdict.OPEN:
            begun = []


@pytest.mark.parametrize(
    ("part", "reason", "name", "faulty"),
    [
        (Part.SCORING, Reason.FAILED, "", True),
        (Part.SCORING, Reason.NON_FINITE, "", True),
        (Part.SCORING, Reason.REPLACED, "", False),
        (Part.RETRIEVAL, Reason.FAILED, "", True),
        (Part.RETRIEVAL, Reason.NON_FINITE, "", True),
        (Part.RETRIEVAL, Reason.FAILED, "personal", True),
        (Part.RETRIEVAL, Reason.FAILED, "pins", False),
        (Part.RETRIEVAL, Reason.TIMEOUT, "personal", False),
        (Part.RETRIEVAL, Reason.OVERLOADED, "", False),
        (Part.CATALOGUE, Reason.NON_FINITE, "", False),
        (Part.USER_FEATURES, Reason.FAILED, "", False),
    ],
)
def test_what_is_the_bundles_own_fault(part: Part, reason: Reason, name: str, faulty: bool) -> None:
    others = [Degradation(Part.CATALOGUE, Reason.STALE)]
    assert is_faulty([*others, Degradation(part, reason, name)], {"personal"}) is faulty


@dataclass
class Answer:
    """What a judge looks at."""

    degraded: tuple[Degradation, ...] = ()


def test_a_verdict_is_told_once_and_stays() -> None:
    told: list[int] = []
    faults = BundleFaults(FaultLimits(requests=4, share=0.25), judged=lambda: told.append(1))
    faults.begin("v1")
    sound, bad = Answer(), Answer((Degradation(Part.SCORING, Reason.FAILED),))
    assert faults.answered("v1", [sound] * 3) == 0  # type: ignore[list-item]
    assert faults.verdicts() == {"v1": Verdict.OPEN}
    faults.answered("v1", [bad, sound, sound])  # type: ignore[list-item]
    assert faults.verdicts() == {"v1": Verdict.SOUND}
    assert faults.answered("v1", [bad, bad]) == 2  # type: ignore[list-item]
    assert faults.verdicts() == {"v1": Verdict.FAILING}
    faults.answered("v1", [sound] * 8)  # type: ignore[list-item]
    faults.broke("v1", 4)
    assert faults.verdicts() == {"v1": Verdict.FAILING}
    assert len(told) == 2
    faults.begin("v1")
    assert faults.verdicts() == {"v1": Verdict.OPEN}
    faults.end("v1")
    assert faults.answered("v1", [bad] * 8) == 8  # type: ignore[list-item]
    assert faults.verdicts() == {}
