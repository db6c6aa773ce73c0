"""Random definitions and visitors, for what must decide alike wherever it is asked."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from services.common.assign.assign import (
    Common,
    Definitions,
    Experiment,
    Holdout,
    Layer,
    Prerequisite,
    Step,
    Sticky,
    Variant,
)
from services.common.assign.canonical import hashed

NOW_MS = 1_790_000_000_000
VISITOR_IDS = ("", "ann", "bob", "é-雪", "0", "u" * 128)
REGIONS = ("", "US", "DE")
_WEIGHTS = ((1.0,), (0.5, 0.5), (0.1, 0.3, 0.6))


@st.composite
def experiments(draw: st.DrawFn, number: int) -> Experiment:
    """One experiment; one of a number below its own may have to be met before."""
    unit = draw(st.sampled_from(("user", "device", "host", "time_slice")))
    visitor = unit in ("user", "device")
    weights = draw(st.sampled_from(_WEIGHTS))
    extra: dict[str, Any] = {}
    if unit == "time_slice":
        extra["slice_ms"] = draw(st.sampled_from((60_000, 1_800_000)))
    if visitor:
        extra["condition"] = draw(st.sampled_from((None, {"region": {"$in": ["US"]}}, {"age": 7})))
        extra["other_unit"] = draw(st.sampled_from(("", "", "host")))
        if draw(st.booleans()):
            fallback = draw(st.sampled_from(("", "device")))
            extra["sticky"] = Sticky(fallback, version=1, min_version=draw(st.integers(0, 1)))
        if number and draw(st.booleans()):
            wanted = {"value": {"$in": ["v0", "v1"]}}
            extra["prerequisites"] = (Prerequisite(f"e{draw(st.integers(0, number - 1))}", wanted),)
        if draw(st.booleans()) and unit == "user":
            extra |= {"layer": "home", "layer_ranges": ((0.0, 0.5),)}
    return Experiment(
        key=f"e{number}",
        unit=unit,
        salt=f"salt-{draw(st.integers(0, 3))}-{number}",
        variants=tuple(Variant(f"v{n}", weight) for n, weight in enumerate(weights)),
        coverage=draw(st.sampled_from((1.0, 0.5))),
        running=draw(st.sampled_from((True, True, False))),
        revision=draw(st.integers(1, 3)),
        hash=draw(st.sampled_from(("xxh3", "xxh3", "fnv1", "fnv2"))),
        killed=draw(st.sampled_from((False, False, True))),
        ramp=draw(st.sampled_from(((), (Step(NOW_MS - 1, 1.0),)))),
        **extra,
    )


@st.composite
def definitions(draw: st.DrawFn) -> Definitions:
    """One to five experiments, a layer and perhaps a holdout."""
    found = [draw(experiments(number)) for number in range(draw(st.integers(1, 5)))]
    holdout = draw(st.sampled_from((None, Holdout("holdout", 0.2))))
    return hashed(
        Definitions(
            {e.key: e for e in found},
            "",
            layers={"home": Layer("home", "user", "layer_home")},
            common=Common(holdout=holdout),
        )
    )


@st.composite
def visitors(draw: st.DrawFn) -> dict[str, Any]:
    """``user`` and ``device``, one of which is set; ``host``, ``region`` and ``age``, empty or 0
    where there is none; ``sticky``: None, or variants by EXPERIMENT__VERSION of the device."""
    user = draw(st.sampled_from(VISITOR_IDS))
    device = draw(st.sampled_from(VISITOR_IDS[0 if user else 1 :]))
    kept = st.dictionaries(
        st.sampled_from(("e0__0", "e0__1", "e1__1", "e2__1")), st.sampled_from(("v0", "v1"))
    )
    return {
        "user": user,
        "device": device,
        "host": draw(st.sampled_from(("", "host_1"))),
        "region": draw(st.sampled_from(REGIONS)),
        "age": draw(st.sampled_from((0, 7))),
        "sticky": draw(st.none() | kept),
    }
