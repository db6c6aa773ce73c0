"""``python -m services.experiment``: the experiment service with settings from the environment."""

from __future__ import annotations

import sys

from services.common.errors import PodiumError
from services.common.settings import ExperimentSettings, load_settings
from services.experiment.bootstrap import run

if __name__ == "__main__":
    try:
        run(load_settings(ExperimentSettings))
    except (PodiumError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
