"""Variants that users and devices keep: what a request says, what is stored, what is to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from services.common.assign.assign import (
    Context,
    Definitions,
    Experiment,
    Reason,
    Sticky,
    StickyDocument,
    Variant,
    evaluate,
    units_of,
)
from services.common.assign.checks import errors_of
from services.common.assign.model import ENTITY_UNITS
from services.ranker.definitions.assigning import assigned_to, documents_of, sticky_ids
from services.ranker.types import Circumstances, RankCommand, SeenByExperiments
from tests.support.assigning_worlds import NOW_MS, definitions, visitors

HALVES = (Variant("a", 0.5), Variant("b", 0.5))
ENTRY = "e__0"


def _definitions(*weights: float, fallback: str = "") -> Definitions:
    variants = tuple(Variant(k, w) for k, w in zip("ab", weights, strict=True))
    return Definitions(
        {"e": Experiment("e", "user", "e", variants, sticky=Sticky(fallback))}, "hash"
    )


def _document(unit: str, unit_id: str, **kept: str) -> dict[str, StickyDocument]:
    document = StickyDocument(unit, unit_id, kept)
    return {document.key: document}


def test_a_request_counts_before_what_is_stored() -> None:
    stored = {"ann": {ENTRY: "a", "other__0": "x"}, "device:d": {ENTRY: "b"}}
    seen = SeenByExperiments(documents=_document("user", "ann", **{ENTRY: "b"}))
    command = RankCommand("courses", "ann", "d", seen=seen)
    assert sticky_ids(command) == ["ann", "device:d"]
    found = documents_of(command, stored)
    assert found["user||ann"].assignments == {ENTRY: "b", "other__0": "x"}
    assert found["device||d"].assignments == {ENTRY: "b"}
    assert sticky_ids(RankCommand("courses", "", "d")) == ["device:d"]


@pytest.mark.parametrize(
    ("kept", "variant", "reason"),
    [
        ({}, "b", Reason.SPLIT),
        ({"ann": {ENTRY: "a"}}, "a", Reason.STICKY),
        ({"device:d": {ENTRY: "a"}}, "a", Reason.STICKY),
        ({"ann": {ENTRY: "b"}, "device:d": {ENTRY: "a"}}, "b", Reason.STICKY),
        ({"bob": {ENTRY: "a"}}, "b", Reason.SPLIT),
    ],
)
def test_what_is_kept_counts_whatever_the_weights_are(
    kept: dict[str, dict[str, str]], variant: str, reason: Reason
) -> None:
    world = _definitions(0.0, 1.0, fallback="device")
    (found,) = assigned_to(RankCommand("courses", "ann", "d"), world, 1, kept=kept).assignments
    assert (found.variant_key, found.reason) == (variant, reason)


@settings(max_examples=40)
@given(definitions(), visitors())
def test_rank_assigns_as_assign_does(world: Definitions, visitor: dict[str, Any]) -> None:
    user, device = visitor["user"], visitor["device"]
    units = {"host": visitor["host"]} if visitor["host"] else {}
    attributes: dict[str, object] = {"age": visitor["age"]} if visitor["age"] else {}
    documents = _document("device", device, **(visitor["sticky"] or {})) if device else {}
    command = RankCommand(
        "courses",
        user,
        device,
        circumstances=Circumstances(region=visitor["region"]),
        seen=SeenByExperiments(units, attributes, documents),
    )
    if visitor["region"]:
        attributes = attributes | {"region": visitor["region"]}
    context = Context(units | units_of(user, device), attributes, {}, documents, NOW_MS)
    expected = evaluate(world, context)
    found = assigned_to(command, world, NOW_MS)
    # A host is one of many that a request shows.
    assert found.assignments == [a for a in expected.assignments if a.unit_type not in ENTITY_UNITS]
    assert found.sticky_changes == expected.sticky_changes
    # What came with the request, stored instead, is the same.
    stored = {f"device:{device}": dict(visitor["sticky"])} if device and visitor["sticky"] else {}
    bare = replace(command, seen=SeenByExperiments(units, command.seen.attributes))
    assert assigned_to(bare, world, NOW_MS, kept=stored).assignments == found.assignments


def test_a_sticky_experiment_names_no_bundle() -> None:
    named = Experiment(
        "e", "user", "e", (Variant("a", 0.5), Variant("b", 0.5, bundle="v2")), sticky=Sticky()
    )
    ((where, why),) = errors_of(Definitions({"e": named}, "hash"))
    assert where == ("experiments", "e", "sticky")
    assert "bundles" in why
