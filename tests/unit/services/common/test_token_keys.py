"""Keys of tokens: read from text, refused when public in production."""

from __future__ import annotations

import base64
import re

import pytest

from services.common.errors import ConfigError
from services.common.settings import RankerSettings, load_settings
from services.common.start import make_token_keys
from services.common.token_keys import DEVELOPMENT_TOKEN_KEYS, KEY_BYTES, TokenKeys

SOME = base64.b64encode(b"s" * KEY_BYTES).decode()


def test_the_first_key_signs_and_all_check() -> None:
    keys = TokenKeys.from_text(f"2:{SOME}, {DEVELOPMENT_TOKEN_KEYS}")
    assert keys.current == 2
    assert keys.knows(1)
    assert not keys.knows(3)
    mac = keys.mac(b"data", 1)
    assert keys.holds(b"data", mac, 1)
    assert not keys.holds(b"data", mac, 2)
    assert not keys.holds(b"date", mac, 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "key 1 needs a version of its own, 1 to 65535"),
        (f"0:{SOME}", "key 1 needs a version"),
        (f"65536:{SOME}", "key 1 needs a version"),
        (f"1:{SOME},1:{SOME}", "key 2 needs a version"),
        ("1:!", "key 1 is not base64"),
        ("1:QUJD", "key 1 has 3 bytes, must have 64"),
    ],
)
def test_a_wrong_text_is_refused_without_repeating_it(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)) as refused:
        TokenKeys.from_text(text)
    assert SOME not in str(refused.value)


def test_production_refuses_the_development_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_token_keys(load_settings(RankerSettings)).current == 1
    monkeypatch.setenv("PODIUM_ENVIRONMENT", "prod")
    with pytest.raises(ConfigError, match="PODIUM_TOKEN_KEYS"):
        make_token_keys(load_settings(RankerSettings))
    monkeypatch.setenv("PODIUM_TOKEN_KEYS", f"7:{SOME}")
    settings = load_settings(RankerSettings)
    assert make_token_keys(settings).current == 7
    assert SOME not in repr(settings)
