"""Versions of apps as GrowthBook's conditions compare them."""

from __future__ import annotations

import re

from services.common.assign import javascript

_DIGITS = re.compile(r"[0-9]+")
_PARTS = re.compile(r"[-.]")
_BUILD = re.compile(r"\+.*$")


def padded_version(value: object) -> str:
    """A version as a text that orders like it: "1.10.0" after "1.9.0", "1.0.0-beta" before "1.0.0".

    GrowthBook's ``paddedVersionString``: build information and a leading "v" go, numbers are padded
    to five, three parts get a "~" behind them.
    """
    if javascript.is_number(value):
        value = javascript.text(value)
    written = value if isinstance(value, str) and value else "0"
    parts = _PARTS.split(_BUILD.sub("", written).removeprefix("v"))
    if len(parts) == 3:
        parts.append("~")
    return "-".join(part.rjust(5) if _DIGITS.fullmatch(part) else part for part in parts)
