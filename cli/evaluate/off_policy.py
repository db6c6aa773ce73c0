"""``podium evaluate off-policy``: what another policy would have earned, or why that is unknown."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LogKind(StrEnum):
    """Whose log is read."""

    OPEN_BANDIT = "open-bandit"


def off_policy(
    *,
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of the log; open-bandit: random/ and bts/ with campaigns."),
    ],
    log: Annotated[LogKind, typer.Option("--log", help="Kind of the log.")],
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Draws of the bootstrap.")
    ] = 1_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of those draws.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report as JSON.")] = None,
) -> None:
    """Estimate each policy's value from the other's log, beside the truth; refuse what can't be."""
    from cli.console import wide_console
    from offline.evaluation.off_policy.estimate import Resampling
    from offline.evaluation.off_policy.open_bandit import read_campaigns
    from offline.evaluation.off_policy.replay import compare_policies
    from offline.evaluation.off_policy.report import off_policy_report
    from offline.evaluation.off_policy.support import Limits

    console = wide_console()
    limits, resampling = Limits(), Resampling(resamples=resamples, seed=seed)
    comparisons = [
        comparison
        for campaign in read_campaigns(folder)
        for comparison in compare_policies(campaign, limits=limits, resampling=resampling)
    ]
    report = off_policy_report(log.value, comparisons, limits=limits, resampling=resampling)
    report.print(console)
    if out is not None:
        report.write(out)
        console.print(f"written to {out}")
