"""A slate, what followed from it and its explanation, as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from cli.explain.log import Followed, LoggedSlate, Shown, Story
    from services.ranker.explain.capture import Capture
    from services.ranker.explain.explanation import Explanation, FirstPassTold, Item

MOST_CUT = 20
"""Candidates that the first pass left out, of which are told."""


def show_story(console: Console, rank_id: str, story: Story) -> None:
    """Prints what the log says."""
    if story.slate is None:
        console.print(f"The log holds no slate {rank_id}.")
    else:
        _show_facts(console, rank_id, story.slate, story)
        _show_slate(console, story.slate, _by_position(story.followed))
    _show_followed(console, story.followed)


def _show_facts(console: Console, rank_id: str, slate: LoggedSlate, story: Story) -> None:
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    variants = [
        f"{v.experiment}={v.variant or '(none)'} ({v.reason.lower()}"
        + (")" if v.bucket is None else f", bucket {v.bucket:.4f})")
        for v in slate.variants
    ]
    rows = (
        ("rank_id", rank_id),
        ("served", f"{slate.served_at:%Y-%m-%d %H:%M:%S} UTC, arrival {slate.arrival:,}"),
        ("for", slate.actor),
        ("surface", f"{slate.surface} ({slate.entity_type}), traffic {slate.traffic.lower()}"),
        ("bundle", slate.bundle),
        ("policy", slate.policy),
        ("variants", "; ".join(variants)),
        ("degraded", ", ".join(slate.degraded)),
        ("features", f"view {slate.feature_view[:16]}, log position {slate.feature_position:,}"),
        ("follows", slate.parent_rank_id),
        ("followed by", ", ".join(story.later)),
        ("exposures", f"{story.exposures:,}"),
    )
    for name, text in rows:
        if text:
            facts.add_row(name, Text(text))
    console.print(facts)


def _show_slate(
    console: Console, slate: LoggedSlate, followed: Mapping[int, Sequence[Followed]]
) -> None:
    items = slate.items
    table = Table(title="The slate", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item", overflow="fold")
    columns: list[tuple[str, bool, Callable[[Shown], str]]] = [
        ("sells", any(i.selling not in ("", i.id) for i in items), lambda i: i.selling),
        ("source", True, lambda i: i.source),
        ("placed by", True, lambda i: i.placement.lower().replace("_", " ")),
        ("team", any(i.team for i in items), lambda i: i.team),
        ("propensity", any(i.log_propensity is not None for i in items), _propensity),
        ("price in minor units", any(i.price_minor is not None for i in items), _price),
        ("value", True, lambda i: f"{i.value:.4g}"),
    ]
    columns = [column for column in columns if column[1]]
    numbers = ("propensity", "price in minor units", "value")
    for name, _, _ in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for objective in slate.objectives:
        table.add_column(objective, justify="right")
    table.add_column("what followed", overflow="fold")
    for item in items:
        table.add_row(
            str(item.position),
            Text(item.id),
            *(Text(cell(item)) for _, _, cell in columns),
            *(f"{p:.4f}" for p in item.predictions),
            Text(_counts(followed.get(item.position, ()))),
        )
    console.print(table)


def _propensity(item: Shown) -> str:
    if item.log_propensity is None:
        return ""
    return f"{math.exp(item.log_propensity):.4f} of {item.feasible:,}"


def _price(item: Shown) -> str:
    return "" if item.price_minor is None else f"{item.price_minor:,}"


def _by_position(followed: Sequence[Followed]) -> dict[int, list[Followed]]:
    found: dict[int, list[Followed]] = {}
    for event in followed:
        if event.position is not None:
            found.setdefault(event.position, []).append(event)
    return found


def _counts(followed: Sequence[Followed]) -> str:
    counts = Counter(event.type for event in followed)
    return ", ".join(name if n == 1 else f"{name} × {n}" for name, n in counts.items())


def _show_followed(console: Console, followed: Sequence[Followed]) -> None:
    if not followed:
        console.print("Nothing that names it was logged after it.")
        return
    table = Table(title="What followed", title_justify="left")
    table.add_column("arrival", justify="right")
    for name in ("happened", "type", "at", "about"):
        table.add_column(name, overflow="fold")
    table.add_column("amount in minor units", justify="right")
    for event in followed:
        amount = ""
        if event.amount_minor is not None:
            sign = "-" if event.type == "refund" else ""
            amount = f"{sign}{event.amount_minor:,} {event.currency}"
        table.add_row(
            f"{event.arrival:,}",
            f"{event.happened_at:%Y-%m-%d %H:%M:%S}",
            Text(event.type),
            "" if event.position is None else f"#{event.position}",
            Text(" ".join(event.entities)),
            amount,
        )
    console.print(table)


def show_explanation(console: Console, told: Explanation, capture: Capture) -> None:
    """Prints why a captured slate was as it was."""
    user, origin = capture.rows.ids[0], told.versions.origin
    console.print(
        f"Captured: ranked with {capture.batch_size - 1} others for {user}, at"
        f" {told.level:.0%} of the candidates, by domain {origin.domain_hash[:12]} and experiments"
        f" {origin.experiments_hash[:12]}; seed {told.seed}.",
        markup=False,
        highlight=False,
    )
    _show_candidates(console, told)
    if told.first_pass is not None:
        _show_first_pass(console, told.first_pass)
    table = Table(title="Why each item is where it is", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("found by, at", overflow="fold")
    table.add_column("by value", justify="right")
    table.add_column("value", justify="right")
    for objective, weight in zip(told.objectives, told.weights.tolist(), strict=True):
        table.add_column(f"{objective} × {weight:g}", justify="right")
    table.add_column("pacing", justify="right")
    table.add_column("like", overflow="fold")
    table.add_column("placed by")
    for at, item in enumerate(told.items):
        table.add_row(
            str(at),
            Text(item.id),
            Text(", ".join(f"{found.source} {found.place}" for found in item.found_by)),
            str(item.value_place),
            f"{item.value:.4g}",
            *(f"{term:+.4g}" for term in item.terms.tolist()),
            f"{item.pacing:+.3g}" if item.pacing else "",
            Text(_like(item)),
            item.placement.name.lower().replace("_", " "),
        )
    console.print(table)
    if any(item.features for item in told.items):
        _show_features(console, told.items)


def _show_features(console: Console, items: Sequence[Item]) -> None:
    table = Table(title="What moved each value most", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("item", overflow="fold")
    most = max(len(item.features) for item in items)
    for number in range(most):
        table.add_column("" if number else "most first", overflow="fold")
    for at, item in enumerate(items):
        cells = [f"{m.side} {m.feature} {m.value:+.3g}" for m in item.features]
        table.add_row(str(at), Text(item.id), *map(Text, cells))
    console.print(table)
    console.print(
        "The value with a feature less the value with its default, one feature at a time;"
        " differences need not add up.",
        style="dim",
    )


def _show_first_pass(console: Console, told: FirstPassTold) -> None:
    by = "its value" if told.learned else "its place in its source: the bundle has no first pass"
    table = Table(title="Left out by the first pass, the best of them", title_justify="left")
    table.add_column("place", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("value", justify="right")
    for cut in told.cut[:MOST_CUT]:
        table.add_row(f"{cut.place:,}", Text(cut.id), f"{cut.value:.4g}")
    table.caption = f"{len(told.cut):,} of {told.candidates:,} candidates, each by {by}"
    console.print(table)


def _like(item: Item) -> str:
    if not item.like:
        return ""
    return f"{item.like} {item.likeness:.2f}: -{item.likeness_cost:.3g}"


def _show_candidates(console: Console, told: Explanation) -> None:
    table = Table(title="Where candidates came from, and went", title_justify="left")
    table.add_column("source or filter", overflow="fold")
    for name in ("found", "removed", "scored", "shown"):
        table.add_column(name, justify="right")
    for count in told.sources:
        shown = f"{count.shown:,}"
        table.add_row(Text(count.source), f"{count.found:,}", "", f"{count.candidates:,}", shown)
    for reason, removed in told.removed_by:
        table.add_row(Text(reason), "", f"{removed:,}", "", "")
    if told.first_pass is not None:
        table.add_row("first pass", "", f"{len(told.first_pass.cut):,}", "", "")
    table.add_row("all", "", "", f"{told.scored:,}", f"{len(told.items):,}")
    console.print(table)
