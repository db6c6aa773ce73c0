"""How good is what is shipped on real enrolments, beside a SASRec of the same CPU minutes?

    python -m benchmarks.mooccubex [--data DIR] [--workspace DIR] [--seeds 0,1,2]
                                   [--budget-minutes 15] [--only ours|sasrec]

MOOCCubeX (XuetangX), ``config/mooccubex.yaml``: the last enrolment of every user is the test, the
one before it chose all settings and epochs. Both models train on one thread for the same CPU
minutes of their process, so other work on the machine takes nothing away, and end by learning from
the second-to-last enrolment, too. All courses are ranked but those already taken.

The log, the dataset, every trained model and the test's figures by user are kept in the workspace;
what is there is not made again, so an interrupted run goes on where it was, and the test of a seed
is looked at once. ``--only`` trains one of the two models and evaluates nothing: for two processes
on one workspace, once its dataset is there.

The table has a row a seed. Accepted: the paired difference in HR@10, shipped less SASRec, over the
same users has a lower 95 % bound (bootstrap) of at least +0.005 for each of three seeds. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.bootstrap import Interval
from offline.evaluation.compare import Comparison, Outcome, compare, judge
from offline.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from offline.evaluation.baselines import Scorer
    from offline.evaluation.fold import Fold
    from services.common.domain import Domain

SEEDS = (0, 1, 2)
SHIPPED, RETRIEVAL, SASREC = "shipped", "retrieval", "SASRec"
LEAST_GAIN = 0.005
METRICS = ("hr@10", "ndcg@10", "recall@500")
DOMAIN_FILE = Path(__file__).parent.parent / "config" / "mooccubex.yaml"
SOURCE_FILES = ("item_list.txt", "user_list.txt", "sequences.txt")
HOW_TO_GET = """\
There is no MOOCCubeX in {data}: nothing was run.
Its recommendation split (item_list.txt, user_list.txt, sequences.txt and, where there is one,
kg_final.txt) belongs to MOOCCubeX, https://github.com/THU-KEG/MOOCCubeX; lay the files into a
folder and name it with --data DIR. offline/importers/mooccubex.py says what each holds."""

SASREC_SETTINGS: dict[str, Any] = {"learning_rate": 3e-3, "dropout": 0.2}
"""Chosen on the second-to-last enrolment; what is not named is what the baseline defaults to."""

_PARTS = 1_000


@dataclass(frozen=True)
class Workspace:
    """Where everything is kept."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    def of_seed(self, seed: int) -> Path:
        """Models and figures of one seed."""
        return self.root / f"seed_{seed}"


@dataclass(frozen=True)
class SeedResult:
    """One seed: what training said of itself by model, and the test."""

    seed: int
    trained: dict[str, dict[str, float]]
    users: int
    comparison: Comparison

    @property
    def gains(self) -> dict[str, Interval]:
        """Paired differences to SASRec by metric."""
        gaps = self.comparison.differences
        return {gap.metric: gap.value for gap in gaps if gap.baseline == SASREC}

    @property
    def accepted(self) -> bool:
        """Whether the gain is sure to be what is asked for."""
        return self.gains["hr@10"].low >= LEAST_GAIN


def prepare(data: Path, workspace: Workspace, domain: Domain, progress: Progress) -> None:
    """Imports the log and builds the dataset, where they are not there yet."""
    from offline.dataset.build import build_dataset
    from offline.dataset.tables import META_FILE
    from offline.importers.mooccubex import import_mooccubex

    workspace.root.mkdir(parents=True, exist_ok=True)
    if not workspace.log.exists():
        # The ids of the public list are nobody's name.
        import_mooccubex(data, workspace.log, domain, str, progress=progress)
    if not (workspace.dataset / META_FILE).is_file():
        build_dataset(domain, workspace.log, workspace.dataset, progress=progress)


def train_ours(
    workspace: Workspace, domain: Domain, seed: int, budget_s: float, progress: Progress
) -> None:
    """Trains and publishes a bundle, where the seed has none yet."""
    from datetime import UTC, datetime

    from offline.dataset.tables import load_dataset
    from offline.publish.publish import publish, revision
    from offline.training.train import train
    from services.common.bundle.store import BundleStore

    told = workspace.of_seed(seed) / "ours.json"
    if told.is_file():
        return
    dataset = load_dataset(workspace.dataset)
    started = time.process_time()
    models = train(
        domain, dataset, seed=seed, threads=1, budget_s=budget_s, progress=_shares(progress)
    )
    spent_s = time.process_time() - started
    store = BundleStore(workspace.of_seed(seed) / "bundles")
    published = publish(
        domain,
        models,
        dataset.meta,
        store,
        seed=seed,
        created_at=datetime.now(UTC),
        git_revision=revision(Path(__file__).parent),
    )
    store.promote(published.manifest.version)
    told.write_text(
        _json(
            {
                "cpu_minutes": spent_s / 60,
                "epochs": float(len(models.towers.validation)),
                "validation_hr@10": models.towers.metrics["hit_rate_at_10"],
                "validation_ndcg@10": models.towers.metrics["ndcg_at_10"],
            }
        ),
        encoding="utf-8",
    )


def train_sasrec(
    workspace: Workspace, domain: Domain, seed: int, budget_s: float, progress: Progress
) -> None:
    """Trains a SASRec on what precedes the last enrolment, where the seed has none yet."""
    from offline.dataset.tables import TEST, load_dataset
    from offline.evaluation.protocol import last_out_cut, target_objective
    from offline.evaluation.sasrec.baseline import Sasrec

    told = workspace.of_seed(seed) / "sasrec.json"
    if told.is_file():
        return
    dataset = load_dataset(workspace.dataset)
    fold = last_out_cut(domain, dataset, TEST, target_objective(domain)).fold
    started = time.process_time()
    advance = _shares(progress)
    settings = Sasrec(seed=seed, budget_s=budget_s, **SASREC_SETTINGS)
    trained = settings.trained(fold, advance=lambda share: advance("SASRec", share))
    spent_s = time.process_time() - started
    told.parent.mkdir(parents=True, exist_ok=True)
    trained.save(told.with_suffix(".pt"))
    told.write_text(
        _json(
            {
                "cpu_minutes": spent_s / 60,
                "epochs": float(len(trained.validation)),
                "validation_hr@10": trained.hit_rate,
                "validation_ndcg@10": max(trained.validation, default=0.0),
            }
        ),
        encoding="utf-8",
    )


def report(workspace: Workspace, domain: Domain, seed: int, progress: Progress) -> SeedResult:
    """The test of a seed: made once, then read from the workspace."""
    kept = workspace.of_seed(seed) / "test.npz"
    if not kept.is_file():
        _evaluate(workspace, domain, seed, kept, progress)
    with np.load(kept) as found:
        outcomes = [
            Outcome(name, {m: found[f"{name} {m}"] for m in found["metrics"].tolist()}, 0.0)
            for name in (SHIPPED, RETRIEVAL, SASREC)
        ]
    trained = {
        name: json.loads((workspace.of_seed(seed) / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("ours", "sasrec")
    }
    users = len(outcomes[0].metrics["hr@10"])
    return SeedResult(seed, trained, users, compare(outcomes))


def _evaluate(
    workspace: Workspace, domain: Domain, seed: int, kept: Path, progress: Progress
) -> None:
    from offline.dataset.tables import TEST
    from offline.evaluation.evaluate import Source
    from offline.evaluation.protocol import main_surface, target_objective
    from offline.evaluation.sasrec.baseline import TrainedSasrec
    from offline.evaluation.shipped import BundleScorer
    from services.common.bundle.loaded import LoadedBundle
    from services.common.bundle.store import BundleStore

    source = Source.open(domain, workspace.log, workspace.dataset, progress=progress)
    surface = main_surface(domain)
    reader = source.cut(TEST, target_objective(domain), surface)
    fold: Fold = reader.cut.fold
    store = BundleStore(workspace.of_seed(seed) / "bundles")
    bundle = LoadedBundle.load(store.path(store.current() or ""))
    shipped = BundleScorer(bundle, domain, surface, fold, reader.inputs(bundle))
    sasrec = TrainedSasrec.load(workspace.of_seed(seed) / "sasrec.pt").scorer(fold)
    systems: dict[str, Scorer] = {SHIPPED: shipped, RETRIEVAL: shipped.retrieval(), SASREC: sasrec}
    done = 0

    def ranked(users: int) -> None:
        nonlocal done
        done += users
        progress("rank", done, len(systems) * len(fold.asked))

    outcomes = [judge(name, scorer, fold, advance=ranked) for name, scorer in systems.items()]
    arrays: dict[str, NDArray[Any]] = {
        f"{o.name} {metric}": o.metrics[metric] for o in outcomes for metric in o.metrics
    }
    partial = kept.with_suffix(".partial.npz")
    arrays["metrics"] = np.array(list(outcomes[0].metrics))
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.rename(kept)


def _shares(progress: Progress) -> Callable[[str, float], None]:
    return lambda stage, share: progress(stage, round(share * _PARTS), _PARTS)


def show(console: Console, results: list[SeedResult]) -> None:
    """Prints the table."""
    from rich.table import Table

    table = Table(
        title=f"MOOCCubeX, the last enrolment of {results[0].users:,} users",
        caption="mean and 95 % bootstrap interval over users; "
        f"accepted: HR@10 gained is {LEAST_GAIN:+.3f} or more at the lower bound",
    )
    for title in ("seed", "system", "CPU min", "epochs", "HR@10", "NDCG@10", "Recall@500"):
        table.add_column(title, justify="left" if title == "system" else "right")
    for result in results:
        for system, name in ((SHIPPED, "ours"), (SASREC, "sasrec")):
            figures = result.comparison.figures
            of = dict(figures[system])
            if system == SHIPPED:
                of["recall@500"] = figures[RETRIEVAL]["recall@500"]
            trained = result.trained[name]
            table.add_row(
                str(result.seed) if system == SHIPPED else "",
                system,
                f"{trained['cpu_minutes']:.1f}",
                f"{trained['epochs']:.0f}",
                *(_cell(of[metric], ".4f") for metric in METRICS),
            )
        gains = result.gains
        table.add_row(
            "",
            "gained, accepted" if result.accepted else "gained, [bold]not accepted[/bold]",
            "",
            "",
            _cell(gains["hr@10"], "+.4f"),
            _cell(gains["ndcg@10"], "+.4f"),
            "",
            end_section=True,
        )
    console.print(table)


def _cell(value: Interval, form: str) -> str:
    return f"{value.mean:{form}}\n[dim]{value.low:{form}}…{value.high:{form}}[/dim]"


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found) + "\n"


def summary(results: list[SeedResult]) -> str:
    """One line of JSON."""

    def bounds(value: Interval) -> list[float]:
        return [round(number, 5) for number in (value.mean, value.low, value.high)]

    return json.dumps(
        {
            f"seed_{result.seed}": {
                "users": result.users,
                "trained": result.trained,
                "figures": {
                    system: {metric: bounds(figures[metric]) for metric in METRICS}
                    for system, figures in result.comparison.figures.items()
                },
                "gained": {metric: bounds(gap) for metric, gap in result.gains.items()},
                "accepted": result.accepted,
            }
            for result in results
        }
    )


def main() -> None:
    """Makes what is missing in the workspace, then prints the table of all seeds asked for."""
    from rich.console import Console

    from cli.progress import stage_progress
    from services.common.domain import load_domain

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/mooccubex"))
    parser.add_argument("--workspace", type=Path, default=Path("data/mooccubex_benchmark"))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="comma-separated")
    parser.add_argument("--budget-minutes", type=float, default=15.0, help="CPU minutes a model")
    parser.add_argument("--only", choices=("ours", "sasrec"), help="train this, evaluate nothing")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.workspace)
    missing = [name for name in SOURCE_FILES if not (arguments.data / name).is_file()]
    if missing and not workspace.log.exists():
        print(HOW_TO_GET.format(data=arguments.data))
        return
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    console = Console(width=120)
    domain = load_domain(DOMAIN_FILE)
    with stage_progress(console) as progress:
        prepare(arguments.data, workspace, domain, progress)
    results = []
    for seed in seeds:
        for name, train in (("ours", train_ours), ("sasrec", train_sasrec)):
            if arguments.only in (None, name):
                with stage_progress(console) as progress:
                    train(workspace, domain, seed, arguments.budget_minutes * 60, progress)
        if arguments.only is None:
            with stage_progress(console) as progress:
                results.append(report(workspace, domain, seed, progress))
    if results:
        show(console, results)
        print(summary(results))


if __name__ == "__main__":
    main()
