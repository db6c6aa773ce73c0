"""The surface as shipped, and changed in one respect at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from services.common.domain_selection import (
    Diversity,
    ExplorationPolicy,
    NewItems,
    Selection,
)
from services.ranker.plan import SurfaceSpec

Change = Callable[[SurfaceSpec], SurfaceSpec]

SHOWN, NO_RANKER, GUARANTEE = "shipped", "no ranker (retrieval's order)", "smaller guarantee"
RELEVANCES = (0.95, 0.8, 0.7, 0.5)
TEMPERATURES = (0.1, 0.3, 1.0)
ALWAYS_DRAWN = "drawn at {:g}"
LAMBDA = "diversity {:g}"


def unchanged(surface: SurfaceSpec) -> SurfaceSpec:
    """The surface as it is."""
    return surface


def without_source(name: str) -> Change:
    """Leaves a source out."""
    return lambda surface: replace(
        surface, sources=tuple(source for source in surface.sources if source.name != name)
    )


def only_sources(*names: str) -> Change:
    """Leaves all other sources out."""
    return lambda surface: replace(
        surface, sources=tuple(source for source in surface.sources if source.name in names)
    )


def without_filter(reason: str) -> Change:
    """Leaves the filters out that remove for this reason."""
    return lambda surface: replace(
        surface, filters=tuple(rule for rule in surface.filters if rule.reason != reason)
    )


def weighing(weights: Mapping[str, float]) -> Change:
    """Replaces the weights of the objectives."""
    return lambda surface: replace(surface, weights=weights)


def selecting(
    *,
    diversity: Diversity | bool | None = True,
    exploration: ExplorationPolicy | bool | None = True,
    new_items: NewItems | bool | None = True,
) -> Change:
    """Replaces parts of the selection; True leaves one as it is."""
    given = {"diversity": diversity, "exploration": exploration, "new_items": new_items}
    changes = {name: value for name, value in given.items() if value is not True}
    return lambda surface: replace(
        surface, selection=Selection(**(dict(surface.selection) | changes))
    )


def guaranteeing(until: int, within: str) -> Change:
    """Guarantees new items ``until`` impressions ``within`` a time after they were published."""

    def change(surface: SurfaceSpec) -> SurfaceSpec:
        slot = surface.selection.new_items
        if slot is not None:
            slot = slot.model_copy(update={"until": until, "younger_than": within})
        return selecting(new_items=slot)(surface)

    return change


def arms_of(surface: SurfaceSpec, objectives: Sequence[str]) -> dict[str, Change]:
    """Every arm of the shipped bundle, by name; the one that is shown comes first."""
    arms: dict[str, Change] = {SHOWN: unchanged}
    # Nobody names candidates here.
    named = [source.name for source in surface.sources if source.name != "caller"]
    arms |= {f"no source {name}": without_source(name) for name in named}
    arms["only personal and trending"] = only_sources("personal", "trending")
    arms["only trending"] = only_sources("trending")
    reasons = dict.fromkeys(rule.reason for rule in surface.filters)
    arms |= {f"no filter {reason}": without_filter(reason) for reason in reasons}
    arms["no filters"] = lambda old: replace(old, filters=())
    for kept in ("click", "purchase"):
        arms[f"only the objective {kept}"] = weighing({n: float(n == kept) for n in objectives})
    arms["no caps"] = lambda old: replace(old, caps={})
    arms["no diversity"] = selecting(diversity=None)
    arms["no exploration"] = selecting(exploration=None)
    arms["no new-item slot"] = selecting(new_items=None)
    arms["values alone"] = lambda old: replace(old, selection=Selection(), caps={})
    for relevance in RELEVANCES:
        arms[LAMBDA.format(relevance)] = selecting(diversity=Diversity(relevance=relevance))
    process = Diversity(kind="dpp", relevance=0.9)
    arms["diversity by a determinantal process 0.9"] = selecting(diversity=process)
    for temperature in TEMPERATURES:
        drawn = ExplorationPolicy(share=1.0, temperature=temperature)
        arms[ALWAYS_DRAWN.format(temperature)] = selecting(exploration=drawn)
    return arms
