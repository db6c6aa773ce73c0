"""Who is answered by which bundle."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.bundles.routing import Routes, Share, in_canary, in_shadow, version_for

UNITS = [f"user-{n}" for n in range(4000)]
SHARES = st.floats(0.001, 1.0)


@settings(max_examples=60, deadline=None)
@given(unit=st.text(max_size=20), first=SHARES, second=SHARES)
def test_who_is_in_a_canary_stays_as_the_share_grows(
    unit: str, first: float, second: float
) -> None:
    small, large = sorted((first, second))
    if in_canary(Share("v2", small), unit):
        assert in_canary(Share("v2", large), unit)
    assert in_canary(Share("v2", 1.0), unit)


@settings(max_examples=20, deadline=None)
@given(share=SHARES, version=st.sampled_from(["v2", "v3", "20260101T000000Z-abcdef01"]))
def test_a_canary_gets_its_share_of_the_users(share: float, version: str) -> None:
    found = sum(in_canary(Share(version, share), unit) for unit in UNITS) / len(UNITS)
    # Five standard deviations of a binomial share.
    assert abs(found - share) <= 5 * (share * (1 - share) / len(UNITS)) ** 0.5 + 1e-9


def test_another_canary_has_other_users_and_a_shadow_other_requests() -> None:
    half = [{u for u in UNITS if in_canary(Share(version, 0.5), u)} for version in ("v2", "v3")]
    shadowed = {unit for unit in UNITS if in_shadow(Share("v2", 0.5), unit)}
    for other in (half[1], shadowed):
        both = len(half[0] & other) / len(UNITS)
        assert 0.2 < both < 0.3


VERSIONS = st.sampled_from(["live", "canary", "a", "b", "shadow", "gone"])


@settings(max_examples=200, deadline=None)
@given(
    unit=st.sampled_from(UNITS),
    wanted=st.one_of(st.just(""), VERSIONS),
    before=st.one_of(st.none(), VERSIONS),
    canary=st.one_of(st.none(), SHARES),
)
def test_what_answers_is_one_that_serves(
    unit: str, wanted: str, before: str | None, canary: float | None
) -> None:
    routes = Routes(
        "live",
        canary=None if canary is None else Share("canary", canary),
        shadow=Share("shadow", 0.5),
        experiments=frozenset({"a", "b"}),
    )
    version, is_wanted = version_for(routes, unit, wanted=wanted, before=before)
    assert version in routes.answering
    assert "shadow" not in routes.answering
    assert "shadow" in routes.versions()
    if before in routes.answering:
        assert version == before
    elif wanted in routes.answering:
        assert version == wanted
    elif wanted:
        assert (version, is_wanted) == ("live", False)
    else:
        assert is_wanted
        among = routes.canary is not None and in_canary(routes.canary, unit)
        assert version == ("canary" if among else "live")
    assert is_wanted is (wanted in ("", version))
