"""What the ranker reads of a bundle under a domain that has moved on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import load_domain
from services.ranker.bundle_spec import bundle_spec
from tests.support.filtered_domain import filtered_domain_text
from tests.support.tiny_bundle import make_tiny_bundle

SHIPPED = Path(__file__).parents[4] / "config" / "live_courses.yaml"


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = caplog.records
    return [record.getMessage() for record in records if record.name == bundle_spec.__module__]


def test_filters_over_attributes_that_a_bundle_lacks_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = load_domain(SHIPPED)
    slopes = {"videos": [0.3] * len(shipped.objectives)}
    version = make_tiny_bundle(tmp_path, shipped, {}, first_pass=slopes)
    bundle = LoadedBundle.load(BundleStore(tmp_path).path(version), threads=1, device="cpu")
    bundle_spec(bundle, shipped)
    assert not _told(caplog)
    path = tmp_path / "domain.yaml"
    path.write_text(filtered_domain_text())

    spec = bundle_spec(bundle, load_domain(path))

    named = [message.split("without ")[1].split(":")[0] for message in _told(caplog)]
    courses = ("language", "regions", "minimum_age", "requires", "recalled")
    assert named == [
        *(f"{name} of course" for name in courses),
        "starts_ms of room",
        "listed of room",
    ]
    assert [rule.reason for rule in spec.surfaces["courses"].filters[-2:]] == [
        "exclude:blocked",
        "exclude:recalled",
    ]


def test_models_read_what_they_were_trained_to_carry(tmp_path: Path) -> None:
    shipped = load_domain(SHIPPED)
    version = make_tiny_bundle(tmp_path, shipped, {})
    bundle = LoadedBundle.load(BundleStore(tmp_path).path(version), threads=1, device="cpu")
    read = {"price_minor", "level", "purchases_30d", "purchase_rate_30d"}
    assert set(bundle.manifest.carried_features["room"]) == read
    carried = bundle_spec(bundle, shipped)
    assert carried.unread == {"room": {"seats_left"}}
    # One from before: filters and prices have the values, the models do not.
    old = bundle.manifest.model_copy(update={"carried_features": {}})
    before = bundle_spec(replace(bundle, manifest=old), shipped)
    assert before.carries == carried.carries
    assert before.unread == {"room": {"seats_left", *read}}


def test_a_bundle_without_the_first_pass_of_a_surface_serves_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = load_domain(SHIPPED)
    version = make_tiny_bundle(tmp_path, shipped, {})
    bundle = LoadedBundle.load(BundleStore(tmp_path).path(version), threads=1, device="cpu")
    spec = bundle_spec(bundle, shipped)
    assert not spec.slopes
    assert spec.surfaces["videos"].scored == 250
    (record,) = caplog.records
    assert "has no first pass of surface videos" in record.getMessage()
