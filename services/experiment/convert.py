"""Between the experiment service's messages and its core; limits are enforced here."""

from __future__ import annotations

from dataclasses import dataclass

from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import Assignment, Definitions, Experiment, units_of
from services.common.convert_assignment import assignment_message
from services.common.convert_limits import (
    MAX_EXPERIMENT_KEYS,
    forced_variants,
    require_actor,
    require_count,
    require_id,
)


@dataclass(frozen=True)
class AssignCall:
    """A checked request: raw unit ids by type, experiments wanted, variants forced."""

    units: dict[str, str]
    keys: tuple[str, ...]
    forced: dict[str, str]


def assign_call(request: experiment_pb2.AssignRequest) -> AssignCall:
    """Checks a request. Raises ``InvalidArgument`` naming field and limit."""
    user_id, device_id = require_actor("actor", request.actor)
    require_count("experiment_keys", len(request.experiment_keys), 0, MAX_EXPERIMENT_KEYS)
    keys = tuple(
        require_id(f"experiment_keys[{index}]", key)
        for index, key in enumerate(request.experiment_keys)
    )
    forced = forced_variants("forced_variants", request.forced_variants)
    return AssignCall(units_of(user_id, device_id), keys, forced)


def assign_response(
    assignments: list[Assignment], definitions: Definitions
) -> experiment_pb2.AssignResponse:
    """The answer to Assign."""
    return experiment_pb2.AssignResponse(
        assignments=[assignment_message(a) for a in assignments], definitions_hash=definitions.hash
    )


def list_response(definitions: Definitions) -> experiment_pb2.ListExperimentsResponse:
    """The answer to ListExperiments."""
    return experiment_pb2.ListExperimentsResponse(
        experiments=[_experiment(e) for e in definitions.experiments.values()],
        definitions_hash=definitions.hash,
    )


def _experiment(experiment: Experiment) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        key=experiment.key,
        description=experiment.description,
        unit_type=experiment.unit,
        coverage=experiment.coverage,
        running=experiment.running,
        revision=experiment.revision,
        variants=[
            experiment_pb2.Variant(
                key=v.key,
                weight=v.weight,
                objective_weights=dict(v.objective_weights),
                interleave=v.interleave or (),
                bundle=v.bundle,
            )
            for v in experiment.variants
        ],
    )
