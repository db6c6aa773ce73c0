"""p-values of several comparisons, adjusted (tea-tasting's)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tea_tasting.experiment import ExperimentResult
from tea_tasting.multiplicity import MultipleComparisonsResults, adjust_fdr, adjust_fwer

from services.common.errors import InvalidArgument


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: the family-wise error is at most alpha.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure": no assumption about how
    the comparisons depend on one another.
    """
    results = _results(p_values)
    return _adjusted(
        adjust_fwer(results, arbitrary_dependence=True, method="bonferroni") if p_values else None
    )


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: the expected share of false findings is at most alpha.

    Benjamini & Hochberg 1995, "Controlling the False Discovery Rate"; for comparisons that are
    independent or positively dependent.
    """
    results = _results(p_values)
    return _adjusted(adjust_fdr(results) if p_values else None)


def _results(p_values: Sequence[float]) -> ExperimentResult:
    for index, p_value in enumerate(p_values):
        if math.isnan(p_value) or not 0.0 <= p_value <= 1.0:
            raise InvalidArgument.field(
                f"p_values[{index}]", f"must lie between 0 and 1, is {p_value}"
            )
    return ExperimentResult({str(i): {"pvalue": float(p)} for i, p in enumerate(p_values)})


def _adjusted(found: MultipleComparisonsResults | None) -> tuple[float, ...]:
    if found is None:
        return ()
    (results,) = found.values()
    return tuple(float(results[str(index)]["pvalue_adj"]) for index in range(len(results)))
