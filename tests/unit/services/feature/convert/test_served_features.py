"""Limits of the served features that a slate holds."""

from __future__ import annotations

import pytest

from podium.event.v1.event_pb2 import ServedFeatures, SlateServed
from services.common.convert_limits import MAX_SERVED_FEATURES_BYTES
from services.common.errors import InvalidArgument
from services.feature.convert.slates import check_slate


def test_a_row_that_fits_together_is_taken() -> None:
    served = ServedFeatures(
        float_features=["a"],
        float_values=[1.5],
        list_features=["b", "c"],
        list_sizes=[0, 2],
        list_values=["x", "y"],
    )
    check_slate("slate", SlateServed(surface="courses", user_features=served))


@pytest.mark.parametrize(
    ("served", "field"),
    [
        (ServedFeatures(int_features=["a"]), "int_features"),
        (ServedFeatures(float_values=[1.0]), "float_features"),
        (ServedFeatures(list_features=["a"], list_sizes=[1]), "list_sizes"),
        (ServedFeatures(list_features=["a", "b"], list_sizes=[-1, 1]), "list_sizes"),
        (ServedFeatures(string_features=["a" * 65], string_values=["x"]), "string_features"),
        (
            ServedFeatures(string_features=["a"], string_values=["x" * MAX_SERVED_FEATURES_BYTES]),
            "user_features",
        ),
    ],
)
def test_what_does_not_is_named(served: ServedFeatures, field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        check_slate("slate", SlateServed(surface="courses", user_features=served))
