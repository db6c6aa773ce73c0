"""A caller's filter and the request's circumstances, through a real ranker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from podium.common.v1 import common_pb2
from podium.ranker.v1.filter_pb2 import Filter
from services.common.domain import load_domain
from services.common.errors import InvalidArgument
from services.common.status import error_from_rpc
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService
from tests.support.filtered_domain import filtered_domain_text
from tests.support.live_world import little_catalogue
from tests.support.tiny_bundle import make_tiny_bundle

COURSES: dict[str, dict[str, Any]] = {
    "course_0": {"language": "en-US"},
    "course_1": {"language": "de", "minimum_age": 18},
    "course_4": {"language": "de", "regions": ["DE", "AT"]},
    "course_5": {"language": "de", "requires": ["course_0", "course_7"]},
    "course_6": {"recalled": 1},
    "course_7": {},
    "course_10": {"tags": ["new", "short"]},
}


@pytest.fixture(scope="module")
def filtering_ranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranker]:
    """A ranker whose surface of courses has every filter; seven courses say more of themselves."""
    directory = tmp_path_factory.mktemp("filtering")
    path = directory / "domain.yaml"
    path.write_text(filtered_domain_text())
    domain = load_domain(path)
    catalogue = little_catalogue(courses=12)
    for id_, more in COURSES.items():
        catalogue["course"][id_] |= more
    users = {"grown": {"age": 30, "purchased_courses": ["course_7", "course_0"]}}
    service = FakeFeatureService(domain, catalogue, users)
    server = FakeFeatureServer(service)
    make_tiny_bundle(directory / "bundles", domain, {"course": catalogue["course"]}, seed=1)
    settings = make_settings(directory, directory / "bundles", server.target, domain_file=path)
    with running_ranker(settings, service) as running:
        yield running
    server.close()


def shown(ranker: Ranker, user: str = "nobody", **fields: Any) -> set[int]:
    """Numbers of the courses that a user is shown."""
    actor = common_pb2.Actor(user_id=user)
    response = ranker.rank("courses", k=50, actor=actor, dry_run=True, **fields)
    assert not response.degraded
    return {int(id_.split("_")[1]) for id_ in response.slate.ids}


def context(locale: str = "", region: str = "", **numbers: int) -> common_pb2.RequestContext:
    attributes = {k: common_pb2.AttributeValue(int_value=v) for k, v in numbers.items()}
    return common_pb2.RequestContext(locale=locale, region=region, attributes=attributes)


ALWAYS_GONE = {3, 6}
"""Sold out, and recalled."""

EVERYBODYS = set(range(12)) - ALWAYS_GONE - {1, 4, 5}


def test_of_a_request_that_says_nothing_only_what_is_for_all_is_shown(
    filtering_ranker: Ranker,
) -> None:
    assert shown(filtering_ranker) == EVERYBODYS


def test_the_circumstances_of_a_request_reach_the_filters(filtering_ranker: Ranker) -> None:
    ranker = filtering_ranker
    assert shown(ranker, context=context(age=18)) == EVERYBODYS | {1}
    assert shown(ranker, context=context(region="AT")) == EVERYBODYS | {4}
    assert shown(ranker, context=context(region="FR")) == EVERYBODYS
    assert shown(ranker, context=context(locale="en-GB", age=18)) == EVERYBODYS
    assert shown(ranker, context=context(locale="de")) == EVERYBODYS - {0}
    # Prices are 100 times the number and one more.
    assert shown(ranker, context=context(price_cap_minor=300)) == {0, 2}


def test_the_users_row_reaches_them_too(filtering_ranker: Ranker) -> None:
    # Of age, and done with what course_5 requires; both courses are bought and so not shown.
    expected = (EVERYBODYS | {1, 5}) - {0, 7}
    assert shown(filtering_ranker, user="grown") == expected
    assert shown(filtering_ranker, user="grown", context=context(age=17)) == expected - {1}


FILTER: dict[str, Any] = {
    "allOf": {
        "filters": [
            {
                "comparison": {
                    "field": "price_minor",
                    "operator": "OPERATOR_LESS_OR_EQUAL",
                    "intValue": "900",
                }
            },
            {
                "negation": {
                    "filter": {"membership": {"field": "language", "stringValues": ["en-US"]}}
                }
            },
        ]
    }
}


def test_a_callers_filter_lets_through_what_is_known_to_pass(filtering_ranker: Ranker) -> None:
    # Of the courses up to a price, those with a language that is another; none is not another.
    filter_ = ParseDict(FILTER, Filter())
    assert shown(filtering_ranker, filter=filter_) == set()
    everything = {"context": context(region="DE", age=20), "filter": filter_}
    assert shown(filtering_ranker, **everything) == {1, 4}
    tagged = ParseDict({"membership": {"field": "tags", "stringValues": ["new"]}}, Filter())
    assert shown(filtering_ranker, filter=tagged) == {10}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"field": "cost"}, "filter.comparison.field"),
        ({"stringValue": "900"}, "filter.comparison.string_value"),
        ({"operator": 0}, "filter.comparison.operator"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_path(
    filtering_ranker: Ranker, change: dict[str, Any], field: str
) -> None:
    comparison = FILTER["allOf"]["filters"][0]["comparison"] | change
    if "stringValue" in change:
        del comparison["intValue"]
    filter_ = ParseDict({"comparison": comparison}, Filter())
    with pytest.raises(grpc.RpcError) as caught:
        filtering_ranker.rank("courses", filter=filter_)
    error = error_from_rpc(caught.value)
    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == field


@pytest.mark.parametrize("name", ["age", "price_cap_minor"])
def test_what_a_filter_reads_as_a_number_is_one(filtering_ranker: Ranker, name: str) -> None:
    text = common_pb2.AttributeValue(string_value="18")
    with pytest.raises(grpc.RpcError) as caught:
        shown(filtering_ranker, context=common_pb2.RequestContext(attributes={name: text}))
    error = error_from_rpc(caught.value)
    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == f"context.attributes.{name}"
    other = common_pb2.RequestContext(attributes={"theme": text})
    assert shown(filtering_ranker, context=other) == EVERYBODYS
