"""A malformed YAML file names file, line and, where there is one, field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from services.common.errors import ConfigError
from services.common.yaml_config import load_yaml


class _Anything(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: Any = None


DEEP_BY_ALIASES = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200))
LARGE_BY_ALIASES = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("name: x\na: \x07\n", 2, "", "U+0007 is not allowed"),
        ("name: 2026-13-45\n", 1, "name", "'2026-13-45' is not a valid timestamp"),
        ("name: x\na: {b: [1, 2026-02-30]}\n", 2, "a.b.1", "is not a valid timestamp"),
        ("a: !!timestamp x\n", 1, "a", "'x' is not a valid timestamp"),
        ("a: !!int x\n", 1, "a", "'x' is not a valid int"),
        ("a: !!int\nb: 1\n", 1, "a", "'' is not a valid int"),
        ("a: !!float z\n", 1, "a", "'z' is not a valid float"),
        ("a: !!bool x\n", 1, "a", "'x' is not a valid bool"),
        (f"a: 1\nb: {'9' * 5_000}\n", 2, "b", "is not a valid int"),
        (f"a: {'59:' * 200}59.0\n", 1, "a", "is not a valid float"),
        ("a: !!map x\n", 1, "a", "expected a mapping node"),
        ("name: x\n? [a]\n", 2, "", "a key must be a scalar"),
        ('b:\n  c: 0\n  ["a"]: 1\n', 3, "b", "a key must be a scalar"),
        ("{a: 1}: 2\n", 1, "", "a key must be a scalar"),
        ("b:\n  c: 0\nd:\n  e: 1\n  e: 2\n", 5, "d.e", "key 'e' is given twice"),
        ("a: &x [1]\nb: 1\nb: *x\n", 3, "b", "key 'b' is given twice"),
        ("a: &x\n  b: *x\n  c: !!int y\n", 3, "a.c", "'y' is not a valid int"),
        ("a: [1\nb: 2\n", 2, "", ""),
        (f"a: 1\nb:\n{'- ' * 1_000}x\n", 3, "", "is nested too deeply"),
        (DEEP_BY_ALIASES, 100, "", "is nested too deeply"),
        (LARGE_BY_ALIASES, 7, "", "more than 1,000,000 keys and values"),
    ],
)
def test_malformed_yaml_names_line_and_field(
    tmp_path: Path, text: str, line: int, field: str, message: str
) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load_yaml(path, _Anything)

    assert caught.value.file == str(path)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert message in caught.value.description


def test_what_is_well_formed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("name: {a: 2026-02-28, b: [1, 2.5, true], 3: x}\n", encoding="utf-8")
    name = load_yaml(path, _Anything).name
    assert name["b"] == [1, 2.5, True]
    assert name[3] == "x"
