"""What the calls around Rank check of their own."""

from __future__ import annotations

import pytest

from podium.common.v1.common_pb2 import Actor
from podium.experiment.v1.experiment_pb2 import EvaluationContext
from podium.ranker.v1 import ranker_pb2
from services.common.errors import InvalidArgument
from services.ranker.convert.calls import batch_commands
from services.ranker.convert.rank import rank_command
from services.ranker.types import RankCommand, SeenByExperiments


def commands(*actors: Actor) -> list[RankCommand]:
    request = ranker_pb2.RankBatchRequest(actors=actors, surface="feed")
    return batch_commands(request, lambda same: rank_command(same, ["feed"]))


def test_a_user_on_two_devices_is_in_a_batch_once() -> None:
    # Both would be answered under the one rank_id that follows from a key.
    with pytest.raises(InvalidArgument, match=r"actors\[1\]: is there twice"):
        commands(Actor(user_id="ann", device_id="phone"), Actor(user_id="ann", device_id="tablet"))
    visitors = commands(Actor(device_id="ann"), Actor(user_id="ann"), Actor(device_id="tablet"))
    assert [(one.user_id, one.device_id) for one in visitors] == [
        ("", "ann"),
        ("ann", ""),
        ("", "tablet"),
    ]


def test_experiments_see_the_context_of_each_actor_of_a_batch() -> None:
    contexts = [EvaluationContext(units={"host": "h"}), EvaluationContext()]
    contexts[1].attributes.update({"plan": "pro"})
    request = ranker_pb2.RankBatchRequest(
        actors=[Actor(user_id="ann"), Actor(user_id="bob")],
        surface="feed",
        evaluation_contexts=contexts,
    )

    def seen() -> list[SeenByExperiments]:
        return [c.seen for c in batch_commands(request, lambda same: rank_command(same, ["feed"]))]

    assert seen() == [
        SeenByExperiments({"host": "h"}, {}, {}),
        SeenByExperiments({}, {"plan": "pro"}, {}),
    ]
    contexts[1].units["planet"] = "x"
    request.evaluation_contexts[1].CopyFrom(contexts[1])
    with pytest.raises(InvalidArgument, match=r"evaluation_contexts\[1\]\.units: 'planet'"):
        seen()
    del request.evaluation_contexts[1]
    with pytest.raises(InvalidArgument, match="evaluation_contexts: has 1, must have none or 2"):
        seen()
