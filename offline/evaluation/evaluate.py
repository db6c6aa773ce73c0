"""One evaluation from end to end: log and dataset and bundle in, report out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from offline.dataset.columns import Columns, compact
from offline.dataset.schema import ColumnSchema
from offline.dataset.tables import TEST, VALIDATION, Dataset, load_dataset
from offline.evaluation.baselines import Scorer, families
from offline.evaluation.compare import CUTOFFS, Outcome, choose, compare, judge
from offline.evaluation.features import CutReader
from offline.evaluation.figures import figure
from offline.evaluation.first_pass import KEPT, first_pass_recall
from offline.evaluation.fold import Fold
from offline.evaluation.protocol import (
    Cut,
    last_out_cut,
    main_surface,
    target_objective,
    time_cut,
    with_bars,
)
from offline.evaluation.report import (
    EvaluationReport,
    difference_reports,
    first_pass_reports,
    system_reports,
)
from offline.evaluation.served.questions import Questions, of_cut, of_requests
from offline.evaluation.served.reliability import held_out_reliability
from offline.evaluation.served.report import ServedReport, reliability_reports, source_reports
from offline.evaluation.served.run import RECALL_AT, ask, slate_length
from offline.evaluation.served.tally import clustered
from offline.evaluation.shipped import BundleScorer
from offline.progress import Progress, no_progress
from services.common.bundle.loaded import LoadedBundle
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, InvalidArgument
from services.feature.definitions import compile_views

SERVED = "served"
# Settings of baselines are chosen on at most this many users of the validation split.
CHOICE_SAMPLE = 10_000


@dataclass(frozen=True)
class Source:
    """Where an evaluation's data comes from."""

    domain: Domain
    dataset: Dataset
    columns: Columns

    @classmethod
    def open(
        cls, domain: Domain, log_dir: Path, dataset_dir: Path, *, progress: Progress = no_progress
    ) -> Source:
        """Opens a dataset and the compacted log beside it.

        Raises ``FailedPrecondition`` when the dataset was made for other features.
        """
        dataset = load_dataset(dataset_dir)
        views = {name: view.hash for name, view in compile_views(domain).items()}
        made = {name: view.hash for name, view in dataset.meta.feature_views.items()}
        if dataset.meta.domain != domain.name or made != views:
            raise FailedPrecondition(
                f"{dataset_dir} was made for other features than domain {domain.name} declares"
            )
        columns = compact(
            log_dir, dataset_dir / "columns", ColumnSchema.of(domain), progress=progress
        )
        return cls(domain, dataset, columns)

    def cut(
        self, split: str, objective: str, surface: str, *, sample: int | None = None
    ) -> CutReader:
        """A reader of the cut of ``split`` ("validation" or "test") with the surface's bars set."""
        plain = self._plain_cut(split, objective, sample)
        reader = CutReader(self.domain, surface, plain, self.columns)
        barred = with_bars(reader.cut, reader.barred())
        if len(barred.fold.asked) == 0:
            raise FailedPrecondition(f"the {split} split holds no user to ask")
        return CutReader(self.domain, surface, barred, self.columns)

    def _plain_cut(self, split: str, objective: str, sample: int | None) -> Cut:
        _check_split(split)
        meta = self.dataset.meta
        if self.domain.split.kind == "leave_last":
            return last_out_cut(self.domain, self.dataset, split, objective, sample=sample)
        if meta.validation_start_ms is None or meta.test_start_ms is None:
            raise FailedPrecondition("the dataset does not say when its splits start")
        if split == TEST:
            return time_cut(self.domain, self.columns, objective, meta.test_start_ms, meta.end_ms)
        return time_cut(
            self.domain,
            self.columns,
            objective,
            meta.validation_start_ms,
            meta.test_start_ms - 1,
        )


@dataclass(frozen=True)
class Evaluation:
    """A report, and the figures of each user behind it. ``families``: baseline name by family."""

    report: EvaluationReport
    outcomes: list[Outcome]
    families: dict[str, str]


def evaluate(
    source: Source,
    bundle: LoadedBundle,
    *,
    further: Mapping[str, Callable[[Fold], Scorer]] = MappingProxyType({}),
    split: str = TEST,
    surface: str | None = None,
    objective: str | None = None,
    sample: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Evaluation:
    """Asks the split's questions of the pipeline that serves, of the bundle's models without what
    selection does ("shipped"), of its retrieval alone and of the baselines, and compares them.

    ``surface`` and ``objective`` default to the surface of the sequence's entity and to the
    objective that weighs most. ``sample`` asks that many random users where the split leaves the
    last out. Baselines take the settings that did best on the validation split. ``further``
    makes more systems of the fold, by name.
    """
    domain = source.domain
    surface = surface or main_surface(domain)
    objective = objective or target_objective(domain)
    _check(domain, surface, objective)
    groups = families(
        several_kinds=_several_kinds(domain, objective), clock=domain.log.times == "wall_clock"
    )
    reader = source.cut(split, objective, surface, sample=sample)
    fold = reader.cut.fold
    choice = source.cut(VALIDATION, objective, surface, sample=CHOICE_SAMPLE).cut.fold
    tried = sum(len(group) for group in groups.values() if len(group) > 1)
    advance = _counter(progress, "baselines", tried * len(choice.asked))
    chosen = choose(groups, choice, advance=advance)
    questions = of_cut(reader.cut, source.dataset.meta.end_ms)
    served = _served(source, bundle, surface, questions, progress)
    shipped = BundleScorer(bundle, domain, surface, fold, reader.inputs(bundle))
    systems: dict[str, Scorer] = {"shipped": shipped, "retrieval alone": shipped.retrieval()}
    systems |= {baseline.name: baseline.fit(fold) for baseline in chosen.values()}
    systems |= {name: make(fold) for name, make in further.items()}
    advance = _counter(progress, "rank", len(systems) * len(fold.asked))
    outcomes = [served]
    outcomes += [judge(name, scorer, fold, advance=advance) for name, scorer in systems.items()]
    comparison = compare(outcomes, resamples=resamples, seed=seed)
    k, scored = domain.surfaces[surface].default_k, domain.surfaces[surface].scored
    sizes = sorted({slates * k for slates in KEPT} | ({scored} if scored else set()))
    report = EvaluationReport(
        domain=domain.name,
        bundle=bundle.version,
        surface=surface,
        objective=objective,
        split=split,
        questions=len(fold.asked),
        items=int(fold.available.sum()),
        resamples=resamples,
        confidence=0.95,
        systems=system_reports(outcomes, comparison),
        differences=difference_reports(comparison),
        first_pass=first_pass_reports(first_pass_recall(shipped, fold, k, sizes)),
    )
    return Evaluation(report, outcomes, {family: found.name for family, found in chosen.items()})


def evaluate_served(
    source: Source,
    bundle: LoadedBundle,
    *,
    split: str = TEST,
    surface: str | None = None,
    objective: str | None = None,
    requests: int = 500,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> ServedReport:
    """Asks the pipeline that serves what it would have answered to logged requests of the split.

    ``surface`` and ``objective`` default as for ``evaluate``; any surface will do. Of more requests
    after which the objective was met, ``requests`` are drawn. Raises ``FailedPrecondition`` where
    the log has no impressions, or none of them counts.
    """
    domain = source.domain
    surface = surface or main_surface(domain)
    objective = objective or target_objective(domain)
    _check_names(domain, surface, objective, [*domain.objectives])
    _check_split(split)
    if not domain.log.impressions:
        raise FailedPrecondition("without impressions in the log no request tells what it showed")
    entity = domain.surfaces[surface].entity
    questions = of_requests(
        source.dataset, surface, entity, objective, split, most=requests, seed=seed
    )
    tally = ask(
        bundle, domain, source.columns, surface, questions, progress=progress, stage="requests"
    )
    length = slate_length(domain, surface)
    intervals = clustered(questions.users, tally.metrics(length), resamples=resamples, seed=seed)
    own = domain.surfaces[surface]
    predicted = held_out_reliability(bundle, source.dataset, surface, entity, split, seed=seed)
    return ServedReport(
        domain=domain.name,
        bundle=bundle.version,
        surface=surface,
        objective=objective,
        split=split,
        requests=len(questions),
        users=len(set(questions.users)),
        unsettled=questions.unsettled,
        showable=len(tally.showable),
        length=length,
        candidates=own.candidates,
        recall_at=RECALL_AT,
        coverage=tally.coverage,
        figures={
            name: figure(found)
            for name, found in intervals.items()
            if not name.startswith(("found ", "only "))
        },
        sources=source_reports(tally, [source.quota for source in own.sources], intervals),
        reliability=reliability_reports(predicted),
    )


def ranks_histories(domain: Domain, surface: str | None) -> bool:
    """Whether a surface, the main one by default, ranks what the models' sequence holds."""
    found = domain.surfaces.get(surface or main_surface(domain))
    return found is not None and found.entity == domain.model.sequence.entity


def _served(
    source: Source, bundle: LoadedBundle, surface: str, questions: Questions, progress: Progress
) -> Outcome:
    """How the pipeline does, which ranks no further than its slate."""
    tally = ask(bundle, source.domain, source.columns, surface, questions, progress=progress)
    metrics = tally.metrics(max(CUTOFFS))
    kept = {name: metrics[name] for name in metrics if name.startswith(("hr@", "ndcg@", "mrr"))}
    kept[f"recall@{RECALL_AT}"] = metrics[f"merged@{RECALL_AT}"]
    return Outcome(SERVED, kept, tally.coverage)


def _check(domain: Domain, surface: str, objective: str) -> None:
    counted = [name for name, found in domain.objectives.items() if found.events]
    _check_names(domain, surface, objective, counted)
    entity = domain.model.sequence.entity
    if domain.surfaces[surface].entity != entity:
        raise InvalidArgument.field("surface", f"must rank {entity}, as the model's sequence does")


def _check_names(domain: Domain, surface: str, objective: str, objectives: list[str]) -> None:
    if surface not in domain.surfaces:
        raise InvalidArgument.field("surface", f"must be one of {', '.join(domain.surfaces)}")
    if objective not in objectives:
        raise InvalidArgument.field("objective", f"must be one of {', '.join(objectives)}")


def _check_split(split: str) -> None:
    if split not in (VALIDATION, TEST):
        raise InvalidArgument.field("split", f"must be {VALIDATION} or {TEST}")


def _several_kinds(domain: Domain, objective: str) -> bool:
    feature = domain.features[domain.model.sequence.items]
    return not set(getattr(feature, "events", ())) <= set(domain.objectives[objective].events)


def _counter(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(users: int) -> None:
        nonlocal done
        done += users
        progress(stage, done, total)

    return advance
