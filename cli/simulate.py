"""``podium simulate``: a live-course world, written as an event log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_DOMAIN, epoch_ms, pseudonymiser

_HELP = """Writes the event log of a simulated live-course world.

Equal flags give equal events: nothing but --end now reads the clock. The log goes to an empty
--log directory, with user and device ids as pseudonyms. What only the simulator knows (interests,
probabilities) goes to --truth and nowhere else.
"""


def end_of_log(text: str, now: datetime) -> int:
    """Epoch milliseconds of ``now`` or an ISO 8601 time (without a zone: UTC).

    Raises ``InvalidArgument`` for anything else.
    """
    return int(now.timestamp() * 1_000) if text == "now" else epoch_ms("end", text)


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""

    @app.command("simulate", help=_HELP)
    def simulate_command(
        *,
        log: Annotated[Path, typer.Option(help="Directory of the new log; must hold none yet.")],
        end: Annotated[str, typer.Option(help="End of the log: ISO 8601, or now.")] = "now",
        truth: Annotated[
            Path | None, typer.Option(help="Directory for the truth; none is written without.")
        ] = None,
        weeks: Annotated[int, typer.Option(help="Length of the log, 1 to 520 weeks.")] = 6,
        users: Annotated[int, typer.Option(help="Accounts, 10 to 1,000,000; guests extra.")] = 1300,
        hosts: Annotated[int, typer.Option(help="Hosts at the start, 2 to 10,000.")] = 60,
        courses: Annotated[int, typer.Option(help="Courses at the start, 10 to 100,000.")] = 400,
        seed: Annotated[int, typer.Option(help="Seed of all chance, from 0.")] = 1,
        position_bias: Annotated[
            float, typer.Option(help="Examination is (1 + position) ** -this, 0 to 3.")
        ] = 0.7,
        drift: Annotated[
            float, typer.Option(help="Changes of interest: 0.25 x this per person-week, 0 to 5.")
        ] = 1.0,
        herding: Annotated[float, typer.Option(help="Pull of what others buy now, 0 to 3.")] = 0.6,
        refund_rate: Annotated[
            float, typer.Option(help="Mean share of purchases refunded, 0 to 0.9.")
        ] = 0.06,
        personal_signal: Annotated[
            float,
            typer.Option(help="Weight of personal taste, 0 to 3; at 0 only popularity counts."),
        ] = 1.0,
        activity: Annotated[
            float, typer.Option(help="Mean visits per person and week, 0.1 to 20.")
        ] = 2.0,
        partial_refunds: Annotated[
            float, typer.Option(help="Share of refunds that are partial, 0 to 1.")
        ] = 0.3,
        anonymous_share: Annotated[
            float,
            typer.Option(help="Share of account holders' visits without signing in, 0 to 0.9."),
        ] = 0.06,
        arrival_rate: Annotated[
            float, typer.Option(help="New courses a week as a share of --courses, 0 to 1.")
        ] = 0.08,
        rooms_live: Annotated[
            float, typer.Option(help="Mean rooms on air, 1 to 1,000; at the end at least 12.")
        ] = 6.0,
        late_purchases: Annotated[
            float, typer.Option(help="Inclination to buy days later, 0 to 1.")
        ] = 0.25,
        heartbeat_minutes: Annotated[
            int, typer.Option(help="Minutes between heartbeats of a room, 1 to 120.")
        ] = 30,
        domain: Annotated[
            Path, typer.Option(help="Domain file, for the currency and the hash in the log.")
        ] = DEFAULT_DOMAIN,
    ) -> None:
        from rich.console import Console
        from rich.table import Table

        from cli.progress import stage_progress
        from offline.simulator.parameters import WorldParameters
        from offline.simulator.simulate import simulate
        from services.common.domain import load_domain

        declared = load_domain(domain)
        parameters = WorldParameters(
            end_ms=end_of_log(end, datetime.now(UTC)),
            weeks=weeks,
            users=users,
            hosts=hosts,
            courses=courses,
            seed=seed,
            position_bias=position_bias,
            drift=drift,
            herding=herding,
            refund_rate=refund_rate,
            personal_signal=personal_signal,
            activity=activity,
            partial_refunds=partial_refunds,
            anonymous_share=anonymous_share,
            arrival_rate=arrival_rate,
            rooms_live=rooms_live,
            late_purchases=late_purchases,
            heartbeat_minutes=heartbeat_minutes,
            currency=declared.currency,
        )
        names = pseudonymiser()
        console = Console()
        with stage_progress(console) as progress:
            summary = simulate(
                parameters,
                log,
                name_ids=names.encrypt,
                config_hash=declared.config_hash,
                truth_directory=truth,
                progress=progress,
            )
        table = Table(title=f"{summary.events:,} events in {log}", title_justify="left")
        table.add_column("event")
        table.add_column("count", justify="right")
        for name, count in sorted(summary.by_type.items(), key=lambda pair: -pair[1]):
            table.add_row(name, f"{count:,}")
        console.print(table)
        console.print(f"{summary.live_rooms} rooms are on air at the end.")
