"""What does a larger catalogue cost?

    python -m benchmarks.scale [--quick] [--seconds S] [--workspace DIR]

The workload of ``benchmarks.rank`` with 10,000, 100,000 and 1,000,000 items. The smallest is
searched exactly, as publishing would have it; the others in lists, as many as the square root of
the items, of which 16 are searched (8 of the largest). For each size: ``ready_s`` from the ranker's
start until it serves (bundle verified and loaded, catalogue taken and encoded, all warm), its
resident memory after the load (``memory_mib``) and at its most (``peak_mib``), the index's recall,
and what ``benchmarks.rank`` says of the surfaces ``minimal`` and ``default``. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.processes import memory_bytes
from benchmarks.rank import measure_kernel
from benchmarks.rank_services import Variant, measure_surface, prepare, services, workspace_at
from benchmarks.rank_workload import IndexSetting
from services.common.bundle.index import FLAT_ROWS, PROBES
from services.common.bundle.store import BundleStore

FULL = (10_000, 100_000, 1_000_000)
QUICK = (5_000, 25_000)
SURFACES = ("minimal", "default")
FEW_PROBES_FROM_ROWS = 1_000_000
FEW_PROBES = 8
_MIB = 1 << 20


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    arguments = parser.parse_args()
    users, seconds = (100, 0.5) if arguments.quick else (2_000, 8.0)
    console = Console()
    with workspace_at(arguments.workspace) as workspace:
        sizes = [
            measure(workspace / str(items), items, users, arguments.seconds or seconds, console)
            for items in (QUICK if arguments.quick else FULL)
        ]
    _print(console, sizes)
    print(json.dumps({"benchmark": "scale", "sizes": sizes}))


def index_setting(items: int) -> IndexSetting:
    """How a catalogue of that size is indexed."""
    if items <= FLAT_ROWS:
        return IndexSetting("flat")
    return IndexSetting("ivf", FEW_PROBES if items >= FEW_PROBES_FROM_ROWS else PROBES)


def measure(
    workspace: Path, items: int, users: int, seconds: float, console: Console
) -> dict[str, Any]:
    """One size."""
    workspace.mkdir(parents=True, exist_ok=True)
    setting = index_setting(items)
    with console.status(f"{items:,} items: writing bundle and log"):
        workload, _ = prepare(workspace, items, users, setting)
    with console.status(f"{items:,} items: models called bare"):
        kernel = measure_kernel(workspace, workload, seconds / 4)
    console.print(f"{items:,} items, {_name(setting, items)}")
    with services(workspace, console, ready_timeout_s=900) as ranker:
        surfaces = {
            name: measure_surface(ranker, name, workload, seconds, console) for name in SURFACES
        }
        resident, most = memory_bytes(ranker.process)
    return {
        "items": items,
        "index": _name(setting, items),
        "recall_at_500": round(kernel["recall"], 4),
        "kernel_per_s": round(max(kernel["rates"].values()), 1),
        "ready_s": round(ranker.ready_s, 1),
        "memory_mib": round(resident / _MIB),
        "peak_mib": round(most / _MIB),
        "bundle_mib": round(_bundle_bytes(workspace) / _MIB),
    } | {name: _figures(variant) for name, variant in surfaces.items()}


def _figures(variant: Variant) -> dict[str, Any]:
    return {
        "rank_per_s": round(variant.best.per_s, 1),
        "p50_ms": round(variant.half.percentile_ms(0.5), 2),
        "p99_ms": round(variant.half.percentile_ms(0.99), 2),
        "errors": dict(variant.best.errors + variant.half.errors),
    }


def _name(setting: IndexSetting, items: int) -> str:
    lists = round(items**0.5)
    return "exact" if setting.kind == "flat" else f"IVF{lists},Flat nprobe {setting.probes}"


def _bundle_bytes(workspace: Path) -> int:
    store = BundleStore(workspace / "bundles")
    return sum(file.stat().st_size for file in store.path(str(store.current())).iterdir())


def _print(console: Console, sizes: list[dict[str, Any]]) -> None:
    table = Table("", *(f"{size['items']:,}" for size in sizes))
    for key in ("index", "recall_at_500", "kernel_per_s", "ready_s", "memory_mib", "peak_mib"):
        table.add_row(key, *(str(size[key]) for size in sizes))
    for surface in SURFACES:
        for key in ("rank_per_s", "p50_ms", "p99_ms"):
            table.add_row(f"{surface}: {key}", *(str(size[surface][key]) for size in sizes))
    console.print(table)


if __name__ == "__main__":
    main()
