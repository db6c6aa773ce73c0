"""Definitions as their authors write them."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidArgument
from services.experiment.registry import authored


def test_a_key_given_twice_among_many_is_named() -> None:
    # Looked for in one pass: this many would take hours otherwise.
    members = ",".join(f'"k{n}":1' for n in (*range(100_000), 99_999))
    with pytest.raises(InvalidArgument, match="'k99999' is given twice"):
        authored.json_object("definition_json", f"{{{members}}}", 2 << 20)
