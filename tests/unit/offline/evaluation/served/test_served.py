"""A world of five courses and four requests, of which every figure is counted by hand."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from offline.dataset.build import build_dataset
from offline.evaluation.evaluate import Source, evaluate_served
from offline.evaluation.report import RankingReport
from offline.evaluation.served.report import ServedReport
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, InvalidArgument
from tests.support.event_streams import write_log
from tests.support.feature_streams import logged, stamp, upsert_event
from tests.support.tiny_bundle import make_tiny_bundle

START_MS = 1_700_000_000_000
COURSES = ("c1", "c2", "c3", "c4", "c5")
USER_LIST = {"kind": "last_n", "entities": ["user"], "of": "course", "limit": 20}


def domain() -> Domain:
    """Two sources and one filter."""
    return Domain.model_validate(
        {
            "name": "counted",
            "entities": {
                "user": {},
                "course": {
                    "attributes": {"title": "string"},
                    "tower": {"fields": {"course": "id"}},
                },
            },
            "events": {
                name: {}
                for name in (
                    "impression",
                    "click",
                    "purchase",
                    "entity_upsert",
                    "entity_withdrawal",
                    "slate_served",
                )
            },
            "features": {
                "clicked": {"events": ["click"], **USER_LIST},
                "actions": {"events": ["click"], "emit": "event_type", **USER_LIST},
                "bought": {"events": ["purchase"], **USER_LIST},
                "clicks_1h": {
                    "kind": "count",
                    "entities": ["course"],
                    "events": ["click"],
                    "window": "1h",
                },
                "title": {"kind": "attribute", "entities": ["course"]},
            },
            "objectives": {
                "purchase": {"events": ["purchase"], "weight": 1, "attribution": {"window": "10m"}}
            },
            "surfaces": {
                "home": {
                    "entity": "course",
                    "default_k": 10,
                    "sources": [
                        {"kind": "trending", "feature": "clicks_1h", "quota": 2},
                        {"kind": "pinned", "ids": ["c4"], "quota": 1},
                    ],
                    "filters": [{"kind": "not_in_list", "feature": "bought"}],
                }
            },
            "model": {
                "sequence": {
                    "items": "clicked",
                    "actions": "actions",
                    "entity": "course",
                    "length": 5,
                },
                "item_features": ["clicks_1h"],
            },
            "split": {"kind": "time", "validation": "10m", "test": "80m"},
        }
    )


class Story:
    """Events in order, by minutes from the start."""

    def __init__(self) -> None:
        self.log: list[event_pb2.LoggedEvent] = []
        self._numbers: Iterator[int] = count()

    def course(self, minute: int, course: str) -> None:
        self._add(upsert_event(self._id(), self._ms(minute), f"course:{course}", title=course))

    def did(self, minute: int, kind: str, user: str, course: str, rank_id: str = "") -> None:
        event = event_pb2.Event(event_id=self._id(), type=kind, rank_id=rank_id)
        event.actor.user_id = user
        event.surface = "home"
        event.entities.add(type="course", id=course)
        if kind == "impression":
            event.position = 0
        if kind == "purchase":
            event.purchase.amount.currency_code = "USD"
        self._add(event, minute)

    def slate(self, minute: int, rank_id: str, user: str, shown: str) -> None:
        event = event_pb2.Event(event_id=self._id(), type="slate_served", rank_id=rank_id)
        event.actor.user_id = user
        event.slate_served.surface = "home"
        event.slate_served.entity_type = "course"
        event.slate_served.item_ids.append(shown)
        self._add(event, minute)
        self.did(minute, "impression", user, shown, rank_id)

    def _add(self, event: event_pb2.Event, minute: int | None = None) -> None:
        if minute is not None:
            stamp(event, "event_time", self._ms(minute))
        event.traffic_class = common_pb2.TRAFFIC_CLASS_LIVE
        arrival = len(self.log)
        self.log.append(logged(arrival, event, event.event_time.ToMilliseconds()))

    def _id(self) -> str:
        return f"event-{next(self._numbers)}"

    def _ms(self, minute: int) -> int:
        return START_MS + 60_000 * minute


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, LoadedBundle]:
    directory = tmp_path_factory.mktemp("served")
    story = Story()
    for course in ("c1", "c2", "c3", "c4"):
        story.course(0, course)
    for course in ("c1", "c1", "c2"):
        story.did(100, "click", "carl", course)
    # c1 and c2 trend.
    story.slate(110, "a", "ann", "c2")
    story.did(112, "purchase", "ann", "c2")
    # c3 does not.
    story.slate(120, "b", "bob", "c3")
    story.did(121, "purchase", "bob", "c3")
    # There is a fifth now, and it trends most.
    story.course(125, "c5")
    for _ in range(5):
        story.did(126, "click", "carl", "c5")
    story.slate(130, "c", "ann", "c5")
    story.did(131, "purchase", "ann", "c5")
    # It is filtered: ann has it.
    story.slate(145, "d", "ann", "c5")
    story.did(146, "purchase", "ann", "c5")
    # Nothing comes of this one.
    story.slate(150, "e", "bob", "c1")
    story.did(180, "click", "carl", "c1")
    of = domain()
    write_log(directory / "log", story.log)
    build_dataset(of, directory / "log", directory / "dataset", leak_sample=0)
    source = Source.open(of, directory / "log", directory / "dataset")
    version = make_tiny_bundle(directory, of, {"course": {id_: {} for id_ in COURSES}})
    return source, LoadedBundle.load(BundleStore(directory).path(version))


@pytest.fixture(scope="module")
def report(world: tuple[Source, LoadedBundle]) -> ServedReport:
    return evaluate_served(*world, resamples=50)


def test_every_stage_is_what_it_is_by_hand(report: ServedReport) -> None:
    means = {name: figure.mean for name, figure in report.figures.items()}
    # Trending has the right one for a, c and d; the filter takes that of d away.
    assert (report.requests, report.users) == (4, 2)
    assert means["merged"] == means["merged@500"] == 3 / 4
    assert means["scored"] == means["slate"] == means["hr@10"] == 2 / 4
    # Of c1 to c4, and of c1 to c5, the nearest 500 are all; c5 came before c was asked.
    assert means["nearest@500"] == 1.0
    sources = {source.name: source for source in report.sources}
    assert sources["trending"].found is not None
    assert sources["trending"].only is not None
    assert sources["trending"].found.mean == sources["trending"].only.mean == 3 / 4
    assert sources["pinned"].found is not None
    assert sources["pinned"].found.mean == 0.0
    # Slates: a has c1, c2, c4; b c1, c2, c4; c c5, c1, c4; d c1, c4.
    assert sources["pinned"].shown == pytest.approx(4 / 11)
    assert sources["trending"].shown == pytest.approx(7 / 11)
    assert (sources["trending"].hits, sources["pinned"].hits) == (1.0, 0.0)
    assert report.showable == 5
    assert report.coverage == 4 / 5


def test_reliability_is_of_impressions_whose_label_is_final(report: ServedReport) -> None:
    (purchase,) = report.reliability
    assert (purchase.impressions, purchase.mature, purchase.positives) == (5, 5, 4)
    observed = sum(purchase.observed) / len(purchase.observed)
    assert observed == pytest.approx(4 / 5)
    predicted = sum(purchase.predicted) / len(purchase.predicted)
    gap = abs(predicted - observed)
    assert purchase.calibration_error is not None
    assert purchase.calibration_error >= gap - 1e-6


def test_fewer_requests_are_drawn_by_seed(world: tuple[Source, LoadedBundle]) -> None:
    source, bundle = world
    some = evaluate_served(source, bundle, requests=2, resamples=5, seed=3)
    assert some.requests == 2
    assert some == evaluate_served(source, bundle, requests=2, resamples=5, seed=3)


def test_what_cannot_be_asked_is_refused(world: tuple[Source, LoadedBundle]) -> None:
    source, bundle = world
    for wrong in ({"surface": "cellar"}, {"objective": "joy"}, {"split": "train"}):
        (field,) = wrong
        with pytest.raises(InvalidArgument, match=field):
            evaluate_served(source, bundle, **wrong)
    with pytest.raises(FailedPrecondition, match="no request"):
        evaluate_served(source, bundle, split="validation")


def test_a_report_reads_as_it_was_written(report: ServedReport, tmp_path: Path) -> None:
    whole = RankingReport(served=report, compared=None)
    whole.write(tmp_path / "deep" / "report.json")
    text = (tmp_path / "deep" / "report.json").read_text(encoding="utf-8")
    assert RankingReport.model_validate_json(text) == whole
    console = Console(width=120, record=True)
    whole.print(console)
    shown = console.export_text()
    for said in ("trending", "recall@500", "HR@10", "Brier", "4 requests of 2 users"):
        assert said in shown
