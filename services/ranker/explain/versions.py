"""What a request was ranked by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.ranker.explain.trace import Trace


@dataclass(frozen=True)
class Origin:
    """What a ranker runs: hashes of the domain and of the experiments' definitions."""

    domain_hash: str
    experiments_hash: str


NO_ORIGIN = Origin("", "")


@dataclass(frozen=True)
class Versions:
    """What a request was ranked by. ``feature_view`` is the hash of the user's view,
    ``log_position`` that of the log their row was computed from, ``catalogue`` the number of the
    catalogue's last change."""

    bundle: str
    origin: Origin
    feature_view: str
    log_position: int
    catalogue: int


def versions_of(trace: Trace, origin: Origin) -> Versions:
    """What a traced request was ranked by."""
    result = trace.result
    # Definitions change while the ranker runs: the request knows which decided.
    decided = trace.work.definitions.hash
    if decided:
        origin = replace(origin, experiments_hash=decided)
    return Versions(
        bundle=result.bundle_version,
        origin=origin,
        feature_view=result.view_hash,
        log_position=result.log_position,
        catalogue=trace.moment.state.tables.number,
    )
