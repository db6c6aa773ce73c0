"""Settings: complete descriptions, the environment's values, and errors that name the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import ConfigError
from services.common.pseudonym import DEVELOPMENT_KEYS
from services.common.settings import (
    CommonSettings,
    ExperimentSettings,
    FeatureSettings,
    RankerSettings,
    describe_settings,
    load_settings,
)
from services.common.start import make_pseudonymiser, server_options

KINDS: list[type[CommonSettings]] = [FeatureSettings, RankerSettings, ExperimentSettings]


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_default_and_a_sentence(kind: type[CommonSettings]) -> None:
    load_settings(kind)
    for setting in describe_settings(kind):
        assert setting.variable.startswith("PODIUM_")
        assert setting.default
        assert setting.sentence.endswith(".")
        assert DEVELOPMENT_KEYS not in setting.default


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_FEATURE_PORT", "6001")
    monkeypatch.setenv("PODIUM_LOG_DIR", "/somewhere/log")
    monkeypatch.setenv("PODIUM_UNHEARD_OF", "x")
    settings = load_settings(FeatureSettings)
    assert settings.feature_port == 6001
    assert settings.log_dir == Path("/somewhere/log")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PODIUM_FEATURE_PORT", "70000"),
        ("PODIUM_ENVIRONMENT", "staging"),
        ("PODIUM_DRAIN_SECONDS", "-1"),
        ("PODIUM_MAX_REQUEST_BYTES", "lots"),
    ],
)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"environment: {variable}: "):
        load_settings(FeatureSettings)


def test_production_refuses_the_development_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_pseudonymiser(load_settings(FeatureSettings)).encrypt("u").startswith("p1.")
    monkeypatch.setenv("PODIUM_ENVIRONMENT", "prod")
    with pytest.raises(ConfigError, match="PODIUM_PSEUDONYM_KEYS"):
        make_pseudonymiser(load_settings(FeatureSettings))
    monkeypatch.setenv("PODIUM_PSEUDONYM_KEYS", "7:" + "QUFB" * 21 + "QQ==")
    settings = load_settings(FeatureSettings)
    assert make_pseudonymiser(settings).encrypt("u").startswith("p7.")
    assert "QUFB" not in repr(settings)


def test_server_options_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_BIND_ADDRESS", "0.0.0.0")  # noqa: S104 - never bound here
    monkeypatch.setenv("PODIUM_DRAIN_SECONDS", "3")
    monkeypatch.setenv("PODIUM_LAME_DUCK_SECONDS", "2")
    monkeypatch.setenv("PODIUM_MAX_CONCURRENT_CALLS", "5")
    monkeypatch.setenv("PODIUM_MAX_REQUEST_BYTES", "2048")
    options = server_options(load_settings(CommonSettings), 123, {})
    assert (options.address, options.port) == ("0.0.0.0", 123)  # noqa: S104 - never bound here
    assert (options.drain_seconds, options.lame_duck_seconds) == (3, 2)
    assert (options.max_concurrent_calls, options.max_request_bytes) == (5, 2048)
