"""Does what is shipped beat the baselines on simulated worlds, and how far is it from the truth?

    python -m benchmarks.worlds [--only SETTING]... [--seeds 301,302,...] [--workspace DIR]

(Two at a time: give two processes different settings and one workspace, then run once for all.)

One parameter at a time leaves the default (``SETTINGS``); each setting is run for five seeds that
nothing was tuned on. Every run goes the whole way: simulate, dataset, train, publish, evaluate on
the test week. A finished run is kept in the workspace and not repeated. Users of a world are
simulated without pseudonyms, so that they can be found again in the truth.

The table gives, by setting, the shipped purchase NDCG@10, its paired difference to each family of
baselines (settings chosen on validation) and the oracle, which ranks by the true appeal at the cut
and recent sales (their weight the best in hindsight), with two-sided 95 % intervals over worlds
and users (two-stage bootstrap). Accepted: every lower
bound above 0 where the world holds personal signal; a tie with the best baseline (an interval that
reaches 0 from below, or better) where it holds none. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.baselines import Popularity
from offline.evaluation.bootstrap import Interval, clustered_interval

if TYPE_CHECKING:
    from rich.console import Console

    from offline.evaluation.fold import Fold
    from services.common.domain import Domain

END_MS = 1_790_000_000_000
SEEDS = (301, 302, 303, 304, 305)
SHIPPED, METRIC = "shipped", "ndcg@10"
# Weights of recent sales beside the true appeal; the best in hindsight is the oracle.
ORACLES = {f"oracle {weight:g}": weight for weight in (0.0, 0.5, 1.0, 2.0)}
NO_SIGNAL = "no personal signal"
SETTINGS: dict[str, dict[str, float]] = {
    "default": {},
    "no position bias": {"position_bias": 0.0},
    "strong position bias": {"position_bias": 1.5},
    "no drift": {"drift": 0.0},
    "strong drift": {"drift": 3.0},
    "no herding": {"herding": 0.0},
    "strong herding": {"herding": 1.5},
    "no refunds": {"refund_rate": 0.0},
    "many refunds": {"refund_rate": 0.3},
    "weak personal signal": {"personal_signal": 0.5},
    "strong personal signal": {"personal_signal": 2.0},
    NO_SIGNAL: {"personal_signal": 0.0},
}
DOMAIN_FILE = Path(__file__).parent.parent / "config" / "live_courses.yaml"


@dataclass(frozen=True)
class Run:
    """Purchase NDCG@10 of every user of one world, [n] by system; which baseline is of a family."""

    values: dict[str, NDArray[np.float64]]
    families: dict[str, str]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One setting: shipped figure, differences by family, share of the oracle's figure."""

    setting: str
    worlds: int
    users: int
    shipped: Interval
    differences: dict[str, Interval]
    to_oracle: Interval
    share_of_oracle: float

    @property
    def accepted(self) -> bool:
        """Beats every baseline; without personal signal, is not worse than the best."""
        if self.setting == NO_SIGNAL:
            return all(gap.high >= 0 for gap in self.differences.values())
        return all(gap.low > 0 for gap in self.differences.values())


class TruthOracle:
    """Ranks by the true appeal at the cut, which only the simulator knows, and by recent sales.

    score = appeal + ``sales_weight`` x log(1 + sales, halved in weight every week of age). Appeal
    is what a person wants on seeing a course; what is seen at all follows sales, in the logging
    policy and in what others do.
    """

    def __init__(self, truth: Path, fold: Fold, cut_ms: int, sales_weight: float) -> None:
        described = json.loads((truth / "cuts.json").read_text(encoding="utf-8"))
        nearest = min(described["cuts"], key=lambda cut: abs(cut["time_ms"] - cut_ms))
        appeal = np.load(truth / f"cut_{nearest['week']:03d}_appeal.npy", mmap_mode="r")
        users = {user: row for row, user in enumerate(described["users"])}
        courses = {course: column for column, course in enumerate(described["courses"])}
        self._appeal = appeal
        self._row = np.array([users.get(user, -1) for user in fold.users], dtype=np.int64)
        self._column = np.array([courses[item] for item in fold.items], dtype=np.int64)
        self._known = self._column < appeal.shape[1]
        sales = Popularity(targets_only=True, half_life_days=7.0).fit(fold)
        popular = sales.score(np.zeros(1, dtype=np.int64))[0]
        self._common = (sales_weight * np.log1p(popular)).astype(np.float32)

    def score(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores float32 [B, I]; what came after the cut is not ranked."""
        scores = np.full((len(users), len(self._column)), -np.inf, dtype=np.float32)
        rows = self._row[users]
        scores[:, self._known] = self._appeal[rows][:, self._column[self._known]]
        scores += self._common
        return scores


def run_world(
    setting: str,
    seed: int,
    directory: Path,
    advance: Callable[[str], None],
    *,
    keep: bool = False,
) -> Run:
    """Simulates, trains and evaluates one world in ``directory``, or reads what was found there.

    Log, truth, dataset and bundle are removed afterwards unless ``keep``.
    """
    kept = directory / "result.json"
    if not kept.is_file():
        from offline.simulator.parameters import WorldParameters
        from services.common.domain import load_domain

        parameters = WorldParameters(end_ms=END_MS, seed=seed, **_arguments(setting))
        directory.mkdir(parents=True, exist_ok=True)
        # What an interrupted run left would not fit what is made now.
        _remove_parts(directory)
        result = _evaluate(load_domain(DOMAIN_FILE), parameters, directory, advance)
        kept.write_text(json.dumps(result) + "\n", encoding="utf-8")
        if not keep:
            _remove_parts(directory)
    found = json.loads(kept.read_text(encoding="utf-8"))
    values = {name: np.array(list_) for name, list_ in found["values"].items()}
    return Run(values, found["families"], found["seconds"])


def _remove_parts(directory: Path) -> None:
    for part in ("log", "truth", "dataset", "bundles"):
        shutil.rmtree(directory / part, ignore_errors=True)


def _arguments(setting: str) -> dict[str, Any]:
    return dict(SETTINGS[setting])


def _evaluate(
    domain: Domain, parameters: Any, directory: Path, advance: Callable[[str], None]
) -> dict[str, Any]:
    """One world, from simulation to figures."""
    from datetime import UTC, datetime

    from offline.dataset.build import build_dataset
    from offline.dataset.tables import load_dataset
    from offline.evaluation.evaluate import Source, evaluate
    from offline.publish.publish import publish, revision
    from offline.simulator.simulate import simulate
    from offline.training.train import train
    from services.common.bundle.loaded import LoadedBundle
    from services.common.bundle.store import BundleStore

    log, truth, tables = directory / "log", directory / "truth", directory / "dataset"
    clock = _Clock(advance)
    log.mkdir()
    simulate(parameters, log, name_ids=str, config_hash=domain.config_hash, truth_directory=truth)
    clock.done("simulate")
    build_dataset(domain, log, tables)
    dataset = load_dataset(tables)
    clock.done("dataset")
    models = train(domain, dataset, seed=0, threads=1)
    store = BundleStore(directory / "bundles")
    published = publish(
        domain,
        models,
        dataset.meta,
        store,
        seed=0,
        created_at=datetime.now(UTC),
        git_revision=revision(Path(__file__).parent),
    )
    clock.done("train")
    source = Source.open(domain, log, tables)
    cut_ms = dataset.meta.test_start_ms or 0
    found = evaluate(
        source,
        LoadedBundle.load(store.path(published.manifest.version)),
        further={
            name: partial(TruthOracle, truth, cut_ms=cut_ms, sales_weight=weight)
            for name, weight in ORACLES.items()
        },
    )
    found.report.write(directory / "report.json")
    clock.done("evaluate")
    return {
        "values": {o.name: o.metrics[METRIC].tolist() for o in found.outcomes},
        "families": found.families,
        "seconds": clock.seconds,
    }


class _Clock:
    def __init__(self, advance: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._advance = advance
        self._since = time.perf_counter()

    def done(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._since, 1)
        self._since = now
        self._advance(stage)


def summarise(setting: str, runs: list[Run]) -> Row:
    """Pools the worlds of one setting; differences are paired by user within each world."""
    shipped = [run.values[SHIPPED] for run in runs]
    differences = {
        family: clustered_interval(
            [run.values[SHIPPED] - run.values[run.families[family]] for run in runs]
        )
        for family in runs[0].families
    }
    best = max(ORACLES, key=lambda name: float(np.mean([r.values[name].mean() for r in runs])))
    oracle = [run.values[best] for run in runs]
    return Row(
        setting,
        len(runs),
        sum(map(len, shipped)),
        clustered_interval(shipped),
        differences,
        clustered_interval([s - o for s, o in zip(shipped, oracle, strict=True)]),
        float(np.mean([s.mean() for s in shipped]) / np.mean([o.mean() for o in oracle])),
    )


def show(console: Console, rows: list[Row]) -> None:
    """Prints the table."""
    from rich.table import Table

    table = Table(
        title="purchase NDCG@10 of the shipped bundle, and its paired differences",
        caption="two-sided 95 % intervals over worlds and users; "
        "without personal signal a tie is what is right",
    )
    table.add_column("world", overflow="fold")
    table.add_column("worlds\nusers", justify="right")
    table.add_column("shipped", justify="right")
    for family in rows[0].differences:
        table.add_column(f"less {family}", justify="right")
    table.add_column("less oracle", justify="right")
    table.add_column("of oracle", justify="right")
    table.add_column("accepted", justify="center")
    for row in rows:
        table.add_row(
            row.setting,
            f"{row.worlds}\n{row.users:,}",
            _cell(row.shipped, ".4f"),
            *(_cell(gap, "+.4f") for gap in row.differences.values()),
            _cell(row.to_oracle, "+.4f"),
            f"{row.share_of_oracle:.0%}",
            "yes" if row.accepted else "[bold]no[/bold]",
        )
    console.print(table)


def _cell(value: Interval, form: str) -> str:
    return f"{value.mean:{form}}\n[dim]{value.low:{form}}…{value.high:{form}}[/dim]"


def _json(rows: list[Row]) -> str:
    def bounds(value: Interval) -> list[float]:
        return [round(number, 5) for number in (value.mean, value.low, value.high)]

    return json.dumps(
        {
            row.setting: {
                "worlds": row.worlds,
                "users": row.users,
                "shipped": bounds(row.shipped),
                "less": {family: bounds(gap) for family, gap in row.differences.items()},
                "less_oracle": bounds(row.to_oracle),
                "share_of_oracle": round(row.share_of_oracle, 4),
                "accepted": row.accepted,
            }
            for row in rows
        }
    )


def main() -> None:
    """Runs what is missing in the workspace, then prints the table of all settings asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(SETTINGS), help="settings to run")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="comma-separated")
    parser.add_argument("--workspace", type=Path, default=Path("data/worlds"))
    parser.add_argument("--keep", action="store_true", help="keep logs, datasets and bundles")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    console = Console(width=160)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rows = []
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        settings = arguments.only or list(SETTINGS)
        task = bar.add_task("worlds", total=len(settings) * len(seeds))
        for setting in settings:
            runs = []
            for seed in seeds:
                name = f"{setting.replace(' ', '_')}-{seed}"

                def advance(stage: str, name: str = name) -> None:
                    bar.update(task, description=f"{name}: {stage} done")

                place = arguments.workspace / name
                runs.append(run_world(setting, seed, place, advance, keep=arguments.keep))
                bar.advance(task)
            rows.append(summarise(setting, runs))
    show(console, rows)
    print(_json(rows))


if __name__ == "__main__":
    main()
