"""Asks the pipeline that serves, as it stands in code and configuration, what it would answer."""

from __future__ import annotations

import numpy as np

from offline.dataset.columns import Columns
from offline.dataset.log_tables import open_tables
from offline.evaluation.served.questions import Questions
from offline.evaluation.served.rows import KnownRows, part
from offline.evaluation.served.tally import SHOWN, Tally
from offline.progress import Progress, no_progress
from services.common.bundle.loaded import LoadedBundle
from services.common.domain import Domain
from services.common.errors import FailedPrecondition
from services.common.settings import RankerSettings
from services.feature.definitions import compile_views
from services.ranker.in_process import InProcess

RECALL_AT = 500
AT_ONCE = 16
"""Requests of a micro-batch."""

EXACT_ROWS: int = RankerSettings.model_fields["exact_search_rows"].default
"""As a ranker that is not told otherwise."""


def slate_length(domain: Domain, surface: str) -> int:
    """Items asked for: those that the surface shows, and ten at least."""
    return max(SHOWN, domain.surfaces[surface].default_k)


def ask(
    bundle: LoadedBundle,
    domain: Domain,
    columns: Columns,
    surface: str,
    questions: Questions,
    *,
    progress: Progress = no_progress,
    stage: str = "serve",
) -> Tally:
    """Answers all questions in turn, each over the catalogue and the user's row of its moment.

    Raises ``FailedPrecondition`` where the bundle was trained on other features than the domain's.
    """
    ranker = InProcess(bundle, domain, surface, exact_rows=EXACT_ROWS, recall_at=RECALL_AT)
    _require_views(ranker, domain)
    tally = Tally(ranker.sources, RECALL_AT)
    length = slate_length(domain, surface)
    asked = np.bincount(questions.moment, minlength=len(questions.moments)).tolist()
    progress(stage, 0, len(questions))
    with open_tables(columns) as tables:
        known = KnownRows(domain, columns, tables)
        users = known.users(questions.users, questions.time_ms, questions.arrival)
        catalogues = known.catalogues(list(ranker.catalogue_views), questions.moments)
        first = 0
        for (now_ms, _), catalogue, count in zip(questions.moments, catalogues, asked, strict=True):
            ranker.take(catalogue, now_ms)
            tally.showable.update(ranker.eligible())
            last = first + count
            for start in range(first, last, AT_ONCE):
                end = min(start + AT_ONCE, last)
                rows = part(users, start, end)
                answers = ranker.rank(rows, questions.rank_ids[start:end], length)
                for truth, answer in zip(questions.truth[start:end], answers, strict=True):
                    tally.add(truth, answer)
                progress(stage, end, len(questions))
            first = last
    return tally


def _require_views(ranker: InProcess, domain: Domain) -> None:
    views = compile_views(domain)
    for entity, view in {"user": ranker.user_view, **ranker.catalogue_views}.items():
        if entity not in views or views[entity].hash != view.hash:
            raise FailedPrecondition(
                f"the bundle was trained on another view of {entity} than domain {domain.name}"
                " declares",
                reason="OTHER_FEATURES",
            )
