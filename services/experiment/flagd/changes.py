"""Which flags may have other values after a change of the definitions."""

from __future__ import annotations

from collections.abc import Iterator

from services.common.assign.assign import Definitions, Experiment, Flag


def changed_keys(before: Definitions, after: Definitions) -> set[str]:
    """Keys of flags and experiments that changed, came, went, or need one that did; all of them
    where something changed that goes for all."""
    known = _defined(before) | _defined(after)
    if any(getattr(before, name) != getattr(after, name) for name in _FOR_ALL):
        return set(known)
    was = _defined(before)
    now = _defined(after)
    changed = {key for key in known if was.get(key) != now.get(key)}
    needs = {key: set(_needed(definition)) for key, definition in now.items()}
    while more := {key for key, others in needs.items() if key not in changed and others & changed}:
        changed |= more
    return changed


_FOR_ALL = ("common", "layers", "saved_groups", "unsupported")


def _defined(definitions: Definitions) -> dict[str, Flag | Experiment]:
    return {**definitions.experiments, **definitions.flags}


def _needed(definition: Flag | Experiment) -> Iterator[str]:
    if isinstance(definition, Experiment):
        yield from (needed.id for needed in definition.prerequisites)
        return
    for rule in definition.rules:
        yield from (needed.id for needed in rule.prerequisites)
        if rule.experiment is not None:
            yield from _needed(rule.experiment)
