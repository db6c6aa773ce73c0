"""``python -m services.feature``: the feature service with settings from the environment."""

from __future__ import annotations

import sys

from services.common.errors import PodiumError
from services.common.settings import FeatureSettings, load_settings
from services.feature.bootstrap import run

if __name__ == "__main__":
    try:
        run(load_settings(FeatureSettings))
    except (PodiumError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
