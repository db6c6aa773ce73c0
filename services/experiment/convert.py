"""Between the experiment service's messages and its core; limits are enforced here."""

from __future__ import annotations

from collections.abc import Sequence

from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import Definitions, Experiment
from services.common.assign.canonical import EXPERIMENT, Item, ItemKey, items_of
from services.common.convert_limits import MAX_PAGE_BYTES, first_of, optional_id
from services.common.errors import InvalidArgument

MAX_RESUME_TOKEN_BYTES = 128

_Response = experiment_pb2.WatchExperimentsResponse


def resume_token(request: experiment_pb2.WatchExperimentsRequest) -> bytes:
    """Checks a watch. Raises ``InvalidArgument``."""
    if len(request.resume_token) > MAX_RESUME_TOKEN_BYTES:
        raise InvalidArgument.field("resume_token", f"has more than {MAX_RESUME_TOKEN_BYTES} bytes")
    return request.resume_token


def after_key(request: experiment_pb2.ListExperimentsRequest) -> str:
    """Key after which a list begins. Raises ``InvalidArgument``."""
    return optional_id("after_key", request.after_key)


def list_response(
    definitions: Definitions, after_key: str
) -> experiment_pb2.ListExperimentsResponse:
    """The answer to ListExperiments."""
    items = items_of(definitions)
    wanted = [e for e in definitions.experiments.values() if e.key > after_key]
    page = first_of((_experiment(e, items[EXPERIMENT, e.key]) for e in wanted), MAX_PAGE_BYTES)
    return experiment_pb2.ListExperimentsResponse(
        experiments=page,
        definitions_hash=definitions.hash,
        next_after_key=page[-1].key if len(page) < len(wanted) else "",
    )


def _experiment(experiment: Experiment, item: Item) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        key=experiment.key,
        description=experiment.description,
        unit_type=experiment.unit,
        coverage=experiment.coverage,
        running=experiment.running,
        revision=experiment.revision,
        canonical_json=item.text,
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


class WatchEncoder:
    """Implements ``StepEncoder`` with ``WatchExperimentsResponse``."""

    def reset(self) -> bytes:
        """Forget everything; a snapshot follows."""
        return _Response(reset=experiment_pb2.DefinitionsReset()).SerializeToString()

    def chunk(self, items: Sequence[Item]) -> bytes:
        """Part of a snapshot."""
        chunk = experiment_pb2.DefinitionsChunk(definitions=[_definition(i) for i in items])
        return _Response(snapshot_chunk=chunk).SerializeToString()

    def end(self, count: int, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
        """The snapshot is complete."""
        end = experiment_pb2.DefinitionsSnapshotEnd(definitions=count)
        return _encoded(_Response(snapshot_end=end), token, as_of_ms, definitions_hash)

    def delta(
        self,
        upserts: Sequence[Item],
        gone: Sequence[ItemKey],
        token: bytes,
        as_of_ms: int,
        definitions_hash: str,
    ) -> bytes:
        """Changes; the last three are empty where more of them follow."""
        delta = experiment_pb2.DefinitionsDelta(
            upserts=[_definition(item) for item in upserts],
            tombstones=[experiment_pb2.DefinitionRef(kind=kind, key=key) for kind, key in gone],
        )
        return _encoded(_Response(delta=delta), token, as_of_ms, definitions_hash)

    def heartbeat(self, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
        """Nothing changed."""
        beat = experiment_pb2.DefinitionsHeartbeat()
        return _encoded(_Response(heartbeat=beat), token, as_of_ms, definitions_hash)


def _definition(item: Item) -> experiment_pb2.Definition:
    return experiment_pb2.Definition(
        kind=item.kind,
        key=item.key,
        revision=item.revision,
        evaluator_version=item.evaluator_version,
        canonical_json=item.text,
    )


def _encoded(response: _Response, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
    response.resume_token = token
    response.definitions_hash = definitions_hash
    if as_of_ms:
        response.as_of.FromMilliseconds(as_of_ms)
    return response.SerializeToString()
