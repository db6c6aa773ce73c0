"""What states depend on, as a hash: where it differs a store is filled anew. Pure."""

from __future__ import annotations

import hashlib
import json

from services.common.domain import Domain
from services.feature.states.codec import STATE_FORMAT


def schema_of(domain: Domain) -> str:
    """Hash of entities, event types, features and the states' form."""
    parts = domain.model_dump(mode="json", include={"entities", "events", "features"})
    return hashlib.sha256(json.dumps([STATE_FORMAT, parts]).encode()).hexdigest()
