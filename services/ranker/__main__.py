"""``python -m services.ranker``: the ranker with settings from the environment."""

from __future__ import annotations

import sys

from services.common.errors import PodiumError
from services.common.settings import RankerSettings, load_settings
from services.ranker.bootstrap import run

if __name__ == "__main__":
    try:
        run(load_settings(RankerSettings))
    except (PodiumError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
