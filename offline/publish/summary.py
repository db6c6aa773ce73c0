"""One page on what was trained and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from offline.publish.publish import Published
from offline.training.first_pass import figures
from offline.training.measures import Reliability
from offline.training.train import TrainedModels
from services.common.bundle.manifest import Manifest

OBJECTIVE_FIGURES = ("rows", "positives", "auc", "logloss", "calibration")


def summary(models: TrainedModels, published: Published, seconds: dict[str, float]) -> Group:
    """Tables for the terminal. ``seconds``: wall time of stages after training."""
    manifest = published.manifest
    parts: list[RenderableType] = [
        f"[bold]Bundle {manifest.version}[/bold]  domain {manifest.domain}  seed {manifest.seed}  "
        f"revision {manifest.git_revision[:12]}"
    ]
    sizes = Table("trained on", "rows", "stage", "seconds")
    stages = list((models.seconds | seconds).items())
    counts = list(models.rows.items())
    for line in range(max(len(stages), len(counts))):
        left = (counts[line][0], f"{counts[line][1]:,}") if line < len(counts) else ("", "")
        right = (stages[line][0], f"{stages[line][1]:.1f}") if line < len(stages) else ("", "")
        sizes.add_row(*left, *right)
    parts.append(sizes)
    parts.append(_losses(models))
    parts.append(_figures(manifest.metrics))
    objectives = Table("validation", *OBJECTIVE_FIGURES)
    for objective in manifest.objectives:
        found = {f: manifest.metrics.get(f"ranker.{objective.name}.{f}") for f in OBJECTIVE_FIGURES}
        if found["rows"] is not None:
            objectives.add_row(objective.name, *(_number(value) for value in found.values()))
    if objectives.row_count:
        parts.append(objectives)
    if models.ranker.reliability:
        parts.append(_reliability(models.ranker.reliability))
    if uncalibrated := uncalibrated_objectives(manifest):
        parts.append(
            f"[bold]Not calibrated: {', '.join(uncalibrated)}.[/bold] No validation row has a "
            "final label of them yet: their probabilities count as they are, beside calibrated "
            "ones."
        )
    first_pass = _first_pass(models.first_pass.metrics, manifest.surfaces)
    if first_pass.row_count:
        parts.append(first_pass)
    files = Table("file", "bytes", "index", "kind", "rows", "recall@500")
    indexes = {entry.file: (name, entry) for name, entry in manifest.indexes.items()}
    for name, entry in manifest.files.items():
        index = indexes.get(name)
        cells = ("", "", "", "")
        if index is not None:
            recall = published.parity.recall[index[0]]
            cells = (index[0], index[1].kind, f"{index[1].rows:,}", f"{recall:.3f}")
        files.add_row(name, f"{entry.bytes:,}", *cells)
    parts.append(files)
    parts.append(
        "torch against ONNX Runtime, largest difference: "
        f"user tower {published.parity.user_tower:.1e}, "
        f"item tower {published.parity.item_tower:.1e}, ranker {published.parity.ranker:.1e}"
    )
    return Group(*parts)


def uncalibrated_objectives(manifest: Manifest) -> list[str]:
    """Objectives whose probabilities are not calibrated, as no validation row had a final label."""
    return [
        objective.name
        for objective in manifest.objectives
        if manifest.metrics.get(f"ranker.{objective.name}.rows") == 0.0
    ]


def _reliability(tables: Mapping[str, Reliability]) -> Table:
    """Predicted and observed shares by bin, a column an objective."""
    table = Table("predicted : observed, %", *tables)
    for row in range(max(len(found.rows) for found in tables.values())):
        table.add_row(f"bin {row + 1}", *(_bin(found, row) for found in tables.values()))
    errors = (100 * found.expected_calibration_error for found in tables.values())
    table.add_row("calibration error", *(f"{error:.2f}" for error in errors))
    table.add_row("Brier score", *(f"{found.brier:.4f}" for found in tables.values()))
    table.caption = "calibrated on the other half of the users; bins of equal numbers of rows"
    return table


def _bin(found: Reliability, row: int) -> str:
    if row >= len(found.rows):
        return ""
    return f"{100 * found.predicted[row]:.1f} : {100 * found.observed[row]:.1f}"


def _losses(models: TrainedModels) -> Table:
    table = Table("epoch", "retrieval loss", "validation NDCG@10", "ranker loss")
    towers, ranker = models.towers, models.ranker
    for epoch in range(max(len(towers.losses), len(ranker.losses))):
        table.add_row(
            str(epoch + 1),
            _number(towers.losses[epoch]) if epoch < len(towers.losses) else "",
            _number(towers.validation[epoch]) if epoch < len(towers.validation) else "",
            _number(ranker.losses[epoch]) if epoch < len(ranker.losses) else "",
        )
    table.caption = f"the ranker kept is that after epoch {ranker.best_epoch}"
    return table


def _first_pass(metrics: Mapping[str, float], surfaces: Sequence[str]) -> Table:
    """Share of the ranker's best slate among the items that are kept, a row a surface and size."""
    table = Table("first pass of surface", "items", "kept", "recall", "by nearness alone")
    for surface in surfaces:
        for kept, (recall, nearness) in figures(metrics, surface).items():
            items = _number(metrics[f"{surface}.items"])
            table.add_row(surface, items, str(kept), _number(recall), _number(nearness))
    table.caption = "share of the ranker's best slate that is kept, users it was not fitted to"
    return table


def _figures(metrics: dict[str, float]) -> Table:
    table = Table("validation, whole catalogue", "HR@10", "NDCG@10", "MRR", "Recall@500")
    for label, prefix in (("retrieval", "retrieval."), ("retrieval and ranker", "ranker.ranked.")):
        names = ("hit_rate_at_10", "ndcg_at_10", "mrr", "recall_at_500")
        if prefix + names[0] in metrics:
            table.add_row(label, *(_number(metrics[prefix + name]) for name in names))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) != 1 else f"{value:.4f}"
