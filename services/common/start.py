"""What every service's bootstrap begins with."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from services.common.call import CallPolicy
from services.common.errors import ConfigError
from services.common.pseudonym import DEVELOPMENT_KEYS, SETTING, Pseudonymiser
from services.common.server import ServerOptions
from services.common.settings import CommonSettings, RankerSettings
from services.common.token_keys import DEVELOPMENT_TOKEN_KEYS, TokenKeys
from services.common.token_keys import SETTING as TOKEN_SETTING

_logger = logging.getLogger(__name__)


def make_pseudonymiser(settings: CommonSettings) -> Pseudonymiser:
    """The pseudonymiser under the configured keys.

    Warns of the development keys, and raises ``ConfigError`` for them in production.
    """
    text = settings.pseudonym_keys.get_secret_value()
    if text == DEVELOPMENT_KEYS:
        if settings.environment == "prod":
            raise ConfigError(
                "environment", 0, SETTING, "must be set in production: the default is public"
            )
        _logger.warning("%s is not set: pseudonyms use a key that everybody knows", SETTING)
    return Pseudonymiser.from_text(text)


def make_token_keys(settings: RankerSettings) -> TokenKeys:
    """The keys of tokens as configured.

    Warns of the development keys, and raises ``ConfigError`` for them in production.
    """
    text = settings.token_keys.get_secret_value()
    if text == DEVELOPMENT_TOKEN_KEYS:
        if settings.environment == "prod":
            raise ConfigError(
                "environment", 0, TOKEN_SETTING, "must be set in production: the default is public"
            )
        _logger.warning("%s is not set: anybody can sign tokens", TOKEN_SETTING)
    return TokenKeys.from_text(text)


def server_options(
    settings: CommonSettings, port: int, policies: Mapping[str, CallPolicy]
) -> ServerOptions:
    """Server options as the settings have them."""
    return ServerOptions(
        address=settings.bind_address,
        port=port,
        max_concurrent_calls=settings.max_concurrent_calls,
        max_request_bytes=settings.max_request_bytes,
        drain_seconds=settings.drain_seconds,
        lame_duck_seconds=settings.lame_duck_seconds,
        policies=policies,
    )
