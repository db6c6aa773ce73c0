"""From logs to reports: a simulated world split by time, and real-shaped enrolments left out."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from offline.dataset.build import build_dataset
from offline.evaluation.evaluate import Evaluation, Source, evaluate
from offline.evaluation.fold import Fold
from offline.evaluation.report import EvaluationReport
from offline.importers.mooccubex import import_mooccubex
from offline.simulator.parameters import WorldParameters
from offline.simulator.simulate import simulate
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import Domain, load_domain
from services.common.errors import FailedPrecondition, InvalidArgument
from tests.support.tiny_bundle import make_tiny_bundle

CONFIG = Path(__file__).parents[3] / "config"
END_MS = 1_790_000_000_000


class Clairvoyant:
    """Knows the truth of a fold."""

    def __init__(self, fold: Fold) -> None:
        self._known = np.zeros((len(fold.users), len(fold.items)), dtype=np.float32)
        self._known[fold.asked[fold.truth.owners], fold.truth.values] = 1.0

    def score(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._known[users]


def loaded_bundle(directory: Path, domain: Domain, source: Source, *, known: int) -> LoadedBundle:
    """A random bundle over the first ``known`` courses of the catalogue."""
    rows = source.dataset.catalogue["course"].slice(0, known).to_pylist()
    declared = domain.entities["course"].attributes
    courses = {
        row["id"]: {name: row[name] for name in declared if row[name] is not None} for row in rows
    }
    version = make_tiny_bundle(directory, domain, {"course": courses})
    return LoadedBundle.load(BundleStore(directory).path(version))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, LoadedBundle]:
    directory = tmp_path_factory.mktemp("simulated")
    domain = load_domain(CONFIG / "live_courses.yaml")
    world = WorldParameters(end_ms=END_MS, weeks=3, users=50, hosts=8, courses=40, seed=5)
    simulate(world, directory / "log", name_ids=str, config_hash=domain.config_hash)
    build_dataset(domain, directory / "log", directory / "dataset", leak_sample=0)
    source = Source.open(domain, directory / "log", directory / "dataset")
    return source, loaded_bundle(directory / "bundles", domain, source, known=30)


@pytest.fixture(scope="module")
def evaluated(simulated: tuple[Source, LoadedBundle]) -> Evaluation:
    source, bundle = simulated
    return evaluate(source, bundle, further={"clairvoyant": Clairvoyant}, resamples=50)


def figures(evaluation: Evaluation, system: str) -> dict[str, float]:
    report = next(s for s in evaluation.report.systems if s.name == system)
    return {name: figure.mean for name, figure in report.figures.items()}


def test_a_simulated_world_is_evaluated_by_time(evaluated: Evaluation) -> None:
    found = evaluated
    assert set(found.families) == {
        "popularity",
        "markov chain",
        "item-kNN",
        "matrix factorisation",
    }
    names = [system.name for system in found.report.systems]
    assert names == [
        "served",
        "shipped",
        "retrieval alone",
        *found.families.values(),
        "clairvoyant",
    ]
    assert figures(found, "clairvoyant")["ndcg@10"] == pytest.approx(1.0)
    # Random weights know nothing: whoever knows the truth is far ahead, and certainly so.
    gap = next(
        d.difference
        for d in found.report.differences
        if d.baseline == "clairvoyant" and d.metric == "ndcg@10"
    )
    assert gap.high < 0
    again = EvaluationReport.model_validate_json(found.report.model_dump_json())
    assert again == found.report
    console = Console(width=200, record=True, file=io.StringIO())
    found.report.print(console)
    text = console.export_text()
    assert f"{found.report.systems[0].figures['ndcg@10'].mean:.4f}" in text
    assert "paired by user" in text


def test_what_cannot_be_asked_is_refused(simulated: tuple[Source, LoadedBundle]) -> None:
    source, bundle = simulated
    for wrong, field in (
        ({"split": "train"}, "split"),
        ({"surface": "kitchen"}, "surface"),
        ({"surface": "rooms"}, "surface"),
        ({"objective": "refund"}, "objective"),
    ):
        with pytest.raises(InvalidArgument, match=field):
            evaluate(source, bundle, **wrong)


def test_a_dataset_of_other_features_is_refused(
    simulated: tuple[Source, LoadedBundle], tmp_path: Path
) -> None:
    source, _ = simulated
    other = load_domain(CONFIG / "mooccubex.yaml")
    with pytest.raises(FailedPrecondition, match="other features"):
        Source.open(other, tmp_path, source.dataset.directory)


def test_enrolments_are_evaluated_leaving_the_last_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    users, courses = 120, 25
    sequences = [rng.permutation(courses)[: rng.integers(3, 8)].tolist() for _ in range(users)]
    data = tmp_path / "source"
    data.mkdir()
    lines = [" ".join(map(str, [user, *taken])) for user, taken in enumerate(sequences)]
    (data / "sequences.txt").write_text("\n".join(lines) + "\n")
    (data / "item_list.txt").write_text(
        "org_id remap_id\n" + "".join(f"C_{c} {c}\n" for c in range(courses))
    )
    (data / "user_list.txt").write_text(
        "org_id remap_id gender\n" + "".join(f"U_{u} {u} 1\n" for u in range(users))
    )
    (data / "kg_final.txt").write_text("")
    domain = load_domain(CONFIG / "mooccubex.yaml")
    import_mooccubex(data, tmp_path / "log", domain, lambda user: user)
    build_dataset(domain, tmp_path / "log", tmp_path / "dataset", leak_sample=0)
    source = Source.open(domain, tmp_path / "log", tmp_path / "dataset")
    bundle = loaded_bundle(tmp_path / "bundles", domain, source, known=courses)

    fold = source.cut("test", "enrol", "courses").cut.fold
    assert len(fold.asked) == users
    for question, user in enumerate(fold.asked):
        taken = [f"C_{course}" for course in sequences[int(fold.users[int(user)].split("_")[1])]]
        assert [fold.items[row] for row in fold.truth.row(question)] == taken[-1:]
        assert {fold.items[row] for row in fold.barred.row(question)} == set(taken[:-1])
    found = evaluate(source, bundle, further={"clairvoyant": Clairvoyant}, resamples=50)
    assert found.report.questions == users
    again = evaluate(source, bundle, further={"clairvoyant": Clairvoyant}, resamples=50)
    assert again.report == found.report, "equal seeds, equal reports"
    assert figures(found, "clairvoyant")["hr@5"] == 1.0
    # Every course is a candidate and what was taken is barred: the shipped order is complete.
    assert figures(found, "shipped")["recall@50"] == 1.0
    # At most 24 are left for 20 places.
    assert figures(found, "served")["recall@500"] == 1.0
    assert figures(found, "served")["hr@20"] > 0.7
