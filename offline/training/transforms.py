"""Numeric inputs: logarithm, standardisation and bounds, inside the graph: serving passes raw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.common.domain import Domain

# Beyond this many standard deviations a value says no more; an outlier must not blow a score up.
BOUND = 6.0


class FeatureTransform(nn.Module):
    """Raw float32 ``[..., n]`` to standardised float32 ``[..., n]``.

    Columns with ``logarithmic`` set pass sign(x) * log(1 + |x|) first. Then mean 0 and variance 1
    over the training rows, cut at ``BOUND``. A column that never varied becomes 0 throughout, so
    that a value never seen in training cannot move a prediction.
    """

    logarithmic: Tensor
    mean: Tensor
    inverse_deviation: Tensor

    def __init__(self, logarithmic: Sequence[bool]) -> None:
        super().__init__()
        columns = len(logarithmic)
        self.register_buffer("logarithmic", torch.tensor([float(v) for v in logarithmic]))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("inverse_deviation", torch.zeros(columns))

    def fit(self, rows: NDArray[np.float32]) -> None:
        """Takes mean and deviation from training rows ``[n, columns]``."""
        if rows.size == 0:
            return
        values = self._logged(torch.from_numpy(rows)).double()
        deviation = values.std(dim=0, correction=0)
        self.mean.copy_(values.mean(dim=0))
        varies = deviation > 1e-6
        self.inverse_deviation.copy_(torch.where(varies, 1.0 / deviation.clamp(min=1e-6), 0.0))

    def forward(self, rows: Tensor) -> Tensor:
        standardised = (self._logged(rows) - self.mean) * self.inverse_deviation
        return standardised.clamp(-BOUND, BOUND)

    def of(self, columns: Sequence[int]) -> FeatureTransform:
        """The transform of these columns alone."""
        chosen = list(columns)
        part = FeatureTransform(self.logarithmic[chosen].tolist())
        part.mean.copy_(self.mean[chosen])
        part.inverse_deviation.copy_(self.inverse_deviation[chosen])
        return part

    def neutral(self) -> Tensor:
        """The raw row ``[n]`` that becomes all zeros: the mean, with the logarithm undone."""
        raw = torch.sign(self.mean) * torch.expm1(self.mean.abs())
        return self.logarithmic * raw + (1.0 - self.logarithmic) * self.mean

    def _logged(self, rows: Tensor) -> Tensor:
        logged = torch.sign(rows) * torch.log1p(rows.abs())
        return self.logarithmic * logged + (1.0 - self.logarithmic) * rows


def logarithmic_columns(domain: Domain, features: Sequence[str]) -> list[bool]:
    """Which features pass through the logarithm: as declared; attributes always, ratios never."""
    flags = []
    for name in features:
        feature = domain.features[name]
        declared = getattr(feature, "transform", None)
        flags.append(feature.kind == "attribute" if declared is None else declared == "log1p")
    return flags


def still_columns(domain: Domain) -> tuple[int, ...]:
    """Columns of the item features that stand still between changes of the catalogue: attributes.

    The others are counted from events, and move all the time.
    """
    names = enumerate(domain.model.item_features)
    return tuple(column for column, n in names if domain.features[n].kind == "attribute")
