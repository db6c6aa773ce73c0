"""What an experiment will be judged by, as its author registers it before it starts: plain data.

It decides nobody's variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Method = Literal["fixed", "always_valid"]
Correction = Literal["none", "holm", "benjamini_hochberg"]
SegmentSource = Literal["exposure", "user"]


@dataclass(frozen=True)
class Guardrail:
    """A metric that must not get worse by more than ``margin``, a share of the control's mean."""

    margin: float = 0.0


@dataclass(frozen=True)
class Segment:
    """What units are told apart by: an attribute of the exposure, or one of the user that profile
    events had told by then."""

    source: SegmentSource
    attribute: str


@dataclass(frozen=True)
class Covariate:
    """What a metric's events came to in the ``window_ms`` before a unit's first exposure."""

    metric: str
    window_ms: int


@dataclass(frozen=True)
class Inside:
    """Units within hosts, rooms or slices of time: viewers, each from the first event of these
    types on that names the host or room, or happens in the slice."""

    entered_by: tuple[str, ...]


@dataclass(frozen=True)
class Switchback:
    """How slices of time are compared. Of a slice that follows one of another variant, or one of
    which nobody knows, the first ``burn_in_ms`` count for nothing. ``block_slices`` neighbouring
    slices are one cluster of what variances are made of."""

    burn_in_ms: int = 0
    block_slices: int = 1


@dataclass(frozen=True)
class Analysis:
    """Metrics are names of the domain's. ``control`` is a variant, the first where it is empty.
    ``alpha`` is two-sided. ``planned_units``: about how many there will be in all, for which
    always-valid sequences are tuned; None where nobody said."""

    primary: str
    guardrails: Mapping[str, Guardrail] = field(default_factory=dict)
    secondary: tuple[str, ...] = ()
    segments: Mapping[str, Segment] = field(default_factory=dict)
    covariates: Mapping[str, Covariate] = field(default_factory=dict)
    control: str = ""
    alpha: float = 0.05
    method: Method = "fixed"
    correction: Correction = "holm"
    inside: Inside | None = None
    switchback: Switchback = Switchback()
    planned_units: int | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics that are measured, the primary one first."""
        return tuple(dict.fromkeys((self.primary, *self.guardrails, *self.secondary)))
