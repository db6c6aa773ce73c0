"""``python -m services.ranker``: the ranker, configured by the environment."""

from services.common.settings import RankerSettings, load_settings
from services.ranker.bootstrap import run

if __name__ == "__main__":
    run(load_settings(RankerSettings))
