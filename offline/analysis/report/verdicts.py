"""Verdicts, checks and parts of effects in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from offline.analysis.model import Verdict


@dataclass(frozen=True)
class Shown:
    """``tone``: good, bad, doubt or none."""

    text: str
    tone: str


VERDICTS: Mapping[Verdict, Shown] = MappingProxyType(
    {
        "better": Shown("better", "good"),
        "worse": Shown("worse", "bad"),
        "no_difference_shown": Shown("no difference shown", "none"),
        "held": Shown("within its margin", "good"),
        "no_harm_shown": Shown("no harm shown", "none"),
        "not_shown_to_hold": Shown("not shown to hold", "doubt"),
        "broken": Shown("harmed", "bad"),
        "too_early": Shown("too early to say", "doubt"),
        "not_measured": Shown("not measured", "none"),
    }
)

CHECKS: Mapping[str, str] = MappingProxyType(
    {
        "sample_ratio": "Sizes of the arms",
        "exposures": "Exposures",
        "self_check": "A/A",
        "randomisation": "Arms drawn anew",
        "novelty": "Trend",
        "interaction": "Other experiments",
    }
)

PARTS: Mapping[str, str] = MappingProxyType(
    {
        "direct": "Both sides together, beyond what either does alone",
        "viewer_spillover": "Treated viewers with hosts of the control",
        "host_spillover": "Treated hosts with viewers of the control",
    }
)
