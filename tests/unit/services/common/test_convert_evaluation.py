"""Whom to assign, from messages: what is too much is refused by name."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2

from services.common.assign import javascript
from services.common.convert_evaluation import MAX_INNER_VALUES, attributes_of
from services.common.errors import InvalidArgument


@pytest.mark.parametrize("in_a_list", [True, False])
def test_values_within_lists_and_objects_are_counted_together(in_a_list: bool) -> None:
    def sent(count: int) -> struct_pb2.Struct:
        attributes = struct_pb2.Struct()
        half: list[float] = [0.0] * (count // 2)
        attributes["first"] = half
        rest = count - count // 2
        attributes["other"] = [1.0] * rest if in_a_list else {str(n): 1.0 for n in range(rest)}
        return attributes

    found = attributes_of("context.attributes", sent(MAX_INNER_VALUES))
    assert javascript.at_path(found, ("first", "length")) == MAX_INNER_VALUES // 2
    with pytest.raises(InvalidArgument, match="more than 1000 values") as refused:
        attributes_of("context.attributes", sent(MAX_INNER_VALUES + 1))
    (violation,) = refused.value.violations
    assert violation.field == "context.attributes"
