"""The key under which features of a visitor are kept."""

from __future__ import annotations

DEVICE_PREFIX = "device:"


def actor_key(user_id: str, device_id: str) -> str:
    """``user_id`` of a signed-in user, else ``"device:" + device_id``; empty when both are.

    Both are pseudonyms in what is stored and raw ids in requests: the key is of the same sort.
    """
    if user_id:
        return user_id
    return DEVICE_PREFIX + device_id if device_id else ""


def split_actor_key(key: str) -> tuple[str, str]:
    """(user_id, device_id) of a key; the one it does not name is empty."""
    if key.startswith(DEVICE_PREFIX):
        return "", key.removeprefix(DEVICE_PREFIX)
    return key, ""
