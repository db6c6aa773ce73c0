"""The batched bundle scorer against serving's steps done one user at a time."""

import math
from pathlib import Path

import numpy as np
import pytest

from offline.evaluation.compare import judge
from offline.evaluation.first_pass import first_pass_recall
from offline.evaluation.fold import Fold
from offline.evaluation.ragged import Ragged
from offline.evaluation.ranking import UNRANKED, order_keys, ranks_of
from offline.evaluation.shipped import BundleScorer, ModelInputs
from offline.training.layout import layout_of
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import Domain, load_domain
from services.common.domain_sources import PersonalSource, TrendingSource
from services.common.errors import FailedPrecondition
from tests.support.tiny_bundle import make_tiny_bundle, tiny_item_inputs, tiny_vocabularies

DOMAIN_FILE = Path(__file__).parents[4] / "config" / "live_courses.yaml"
USERS, COURSES, NEW = 150, 60, 5


def narrow(domain: Domain, personal: int, trending: int) -> Domain:
    """The domain with small quotas on the surface of courses."""
    sources = [
        PersonalSource(kind="personal", quota=personal),
        TrendingSource(kind="trending", feature="clicks_7d", quota=trending),
    ]
    surface = domain.surfaces["courses"].model_copy(
        update={"sources": sources, "objective_weights": {"click": 0.7}}
    )
    return domain.model_copy(update={"surfaces": domain.surfaces | {"courses": surface}})


@pytest.fixture
def world(tmp_path: Path) -> tuple[Domain, LoadedBundle, Fold, ModelInputs]:
    rng = np.random.default_rng(4)
    domain = narrow(load_domain(DOMAIN_FILE), personal=8, trending=3)
    catalogue = {
        "course": {
            f"course{index:02}": {
                "host_id": f"host{index % 7}",
                "category": f"category{index % 3}",
                "level": index % 4,
                "price_minor": 100 * index,
            }
            for index in range(COURSES)
        }
    }
    # The last few courses came after the bundle was built.
    known = {"course": dict(list(catalogue["course"].items())[: COURSES - NEW])}
    slopes = [0.2, 0.15, 0.1, 0.2, 0.15, 0.1]
    version = make_tiny_bundle(
        tmp_path, domain, known, dim=8, seed=2, first_pass={"courses": slopes}
    )
    bundle = LoadedBundle.load(BundleStore(tmp_path).path(version))
    manifest = bundle.manifest
    tower = tiny_item_inputs(
        layout_of(domain),
        tiny_vocabularies(layout_of(domain), known),
        "course",
        catalogue["course"],
    )
    length = manifest.sequence.length
    inputs = ModelInputs(
        sequence_items=rng.integers(0, COURSES - NEW, (USERS, length)),
        sequence_actions=rng.integers(0, 3, (USERS, length)),
        user_features=rng.random((USERS, len(manifest.user_features)), dtype=np.float32),
        item_features=rng.random((COURSES, len(manifest.item_features)), dtype=np.float32) * 50,
        tower_fields=tower["fields"].astype(np.int64),
        tower_numeric=tower["numeric"].astype(np.float32),
        trending={"clicks_7d": rng.integers(0, 4, COURSES).astype(np.float32)},
    )
    available = np.ones(COURSES, dtype=np.bool_)
    available[7] = False
    fold = Fold(
        items=tuple(catalogue["course"]),
        users=tuple(f"user{index}" for index in range(2 * USERS)),
        history=Ragged.of([[]] * 2 * USERS),
        is_target=np.zeros(0, dtype=np.bool_),
        age_ms=np.zeros(0, dtype=np.int64),
        asked=np.arange(USERS, dtype=np.int64) * 2,
        truth=Ragged.of([[index % COURSES] for index in range(USERS)]),
        barred=Ragged.of([[(index + 1) % COURSES] for index in range(USERS)]),
        available=available,
    )
    return domain, bundle, fold, inputs


def one_by_one(
    domain: Domain, bundle: LoadedBundle, fold: Fold, inputs: ModelInputs, question: int
) -> list[int]:
    """Item rows in the order of serving: sources, filters, value."""
    manifest = bundle.manifest
    surface = np.array([manifest.surface_index("courses")])
    part = slice(question, question + 1)
    user = bundle.encode_users(
        inputs.sequence_items[part],
        inputs.sequence_actions[part],
        inputs.user_features[part],
        surface,
    )
    kind = np.full(COURSES, manifest.entity_index("course"), dtype=np.int64)
    vectors = bundle.encode_items(kind, inputs.tower_fields, inputs.tower_numeric)
    nearness = (user @ vectors.T)[0]
    nearest = sorted(range(COURSES), key=lambda row: -nearness[row])[:8]
    clicks = inputs.trending["clicks_7d"]
    trending = [r for r in sorted(range(COURSES), key=lambda r: (-clicks[r], r)) if r != 7][:3]
    barred = set(fold.barred.row(question).tolist())
    kept = [row for row in dict.fromkeys(nearest + trending) if row not in barred and row != 7]
    value = {}
    for row in kept:
        probabilities = bundle.score(
            user_vector=user,
            user_features=inputs.user_features[part],
            owner=np.zeros(1, dtype=np.int64),
            item_vector=vectors[row : row + 1],
            item_features=inputs.item_features[row : row + 1],
            position=np.zeros(1, dtype=np.int64),
            surface=surface,
        )[0]
        weights = {o.name: o.weight for o in manifest.objectives} | {"click": 0.7}
        value[row] = sum(
            weights[o.name] * float(p)
            for o, p in zip(manifest.objectives, probabilities, strict=True)
        )
    return sorted(kept, key=lambda row: -value[row])


def test_batched_ranks_are_those_of_one_user_at_a_time(
    world: tuple[Domain, LoadedBundle, Fold, ModelInputs],
) -> None:
    domain, bundle, fold, inputs = world
    scorer = BundleScorer(bundle, domain, "courses", fold, inputs)
    keys = order_keys(scorer.score(fold.asked), fold.barred, fold.available)
    everything = Ragged.of([range(COURSES)] * USERS)
    ranks = Ragged(ranks_of(keys, everything), everything.offsets)
    for question in range(0, USERS, 7):
        order = one_by_one(domain, bundle, fold, inputs, question)
        found = ranks.row(question)
        assert [int(row) for row in np.argsort(found, kind="stable")[: len(order)]] == order
        assert (found == UNRANKED).sum() == COURSES - len(order)


def first_values(
    domain: Domain, bundle: LoadedBundle, inputs: ModelInputs, question: int
) -> dict[int, float]:
    """First-pass values of all items, by the definition."""
    manifest = bundle.manifest
    surface = np.array([manifest.surface_index("courses")])
    part = slice(question, question + 1)
    (user,) = bundle.encode_users(
        inputs.sequence_items[part],
        inputs.sequence_actions[part],
        inputs.user_features[part],
        surface,
    )
    kind = np.full(COURSES, manifest.entity_index("course"), dtype=np.int64)
    vectors = bundle.encode_items(kind, inputs.tower_fields, inputs.tower_numeric)
    assert manifest.first_pass is not None
    slopes = manifest.first_pass.slopes["courses"]
    weights = {o.name: o.weight for o in manifest.objectives} | {"click": 0.7}
    found = {}
    for row in range(COURSES):
        logits = bundle.item_logits(inputs.item_features[row : row + 1], surface)[0]
        near = float(user @ vectors[row])
        found[row] = sum(
            weights[o.name] / (1 + math.exp(-(slope * near + float(logit))))
            for o, slope, logit in zip(manifest.objectives, slopes, logits, strict=True)
        )
    return found


def test_a_surface_that_scores_fewer_ranks_the_best_by_the_first_pass(
    world: tuple[Domain, LoadedBundle, Fold, ModelInputs],
) -> None:
    domain, bundle, fold, inputs = world
    surface = domain.surfaces["courses"].model_copy(update={"scored": 4})
    cut = domain.model_copy(update={"surfaces": domain.surfaces | {"courses": surface}})
    scores = BundleScorer(bundle, cut, "courses", fold, inputs).score(fold.asked[:20])
    for question in range(20):
        order = one_by_one(domain, bundle, fold, inputs, question)
        values = first_values(domain, bundle, inputs, question)
        kept = set(sorted(order, key=lambda row: -values[row])[:4])
        expected = [row for row in order if row in kept]
        assert np.isfinite(scores[question]).sum() == 4
        assert np.argsort(-scores[question], kind="stable")[:4].tolist() == expected


def test_recall_of_the_first_pass_is_of_the_rankers_best(
    world: tuple[Domain, LoadedBundle, Fold, ModelInputs],
) -> None:
    domain, bundle, fold, inputs = world
    scorer = BundleScorer(bundle, domain, "courses", fold, inputs)
    found = first_pass_recall(scorer, fold, 5, [10, 20, 500])
    # No user has 500 items.
    assert [kept.kept for kept in found] == [10, 20]
    assert found[0].items == COURSES - 2 + np.mean([n % COURSES == 6 for n in range(USERS)])
    expected = []
    for question in range(USERS):
        items = [r for r in range(COURSES) if r not in (7, (question + 1) % COURSES)]
        both = scorer.both(int(fold.asked[question]), np.array(items))
        assert both is not None
        values = first_values(domain, bundle, inputs, question)
        assert both[1].tolist() == pytest.approx([values[row] for row in items], abs=1e-5)
        best = sorted(items, key=lambda row: -both[0][items.index(row)])[:5]
        kept = set(sorted(items, key=lambda row: -values[row])[:10])
        expected.append(len(kept & set(best)) / 5)
    assert found[0].recall == pytest.approx(np.mean(expected), abs=0.01)


def test_retrieval_alone_ranks_by_inner_product(
    world: tuple[Domain, LoadedBundle, Fold, ModelInputs],
) -> None:
    domain, bundle, fold, inputs = world
    scorer = BundleScorer(bundle, domain, "courses", fold, inputs)
    kind = np.full(COURSES, bundle.manifest.entity_index("course"), dtype=np.int64)
    vectors = bundle.encode_items(kind, inputs.tower_fields, inputs.tower_numeric)
    expected = scorer.user_vectors(fold.asked) @ vectors.T
    assert scorer.retrieval().score(fold.asked) == pytest.approx(expected, abs=1e-4)
    outcome = judge("retrieval", scorer.retrieval(), fold)
    assert outcome.metrics["recall@500"].mean() > outcome.metrics["hr@5"].mean()


def test_a_weight_for_an_objective_that_the_bundle_lacks_is_refused(
    world: tuple[Domain, LoadedBundle, Fold, ModelInputs],
) -> None:
    domain, bundle, fold, inputs = world
    surface = domain.surfaces["courses"].model_copy(update={"objective_weights": {"wave": 1.0}})
    odd = domain.model_copy(update={"surfaces": {"courses": surface}})
    with pytest.raises(FailedPrecondition, match="wave"):
        BundleScorer(bundle, odd, "courses", fold, inputs)
