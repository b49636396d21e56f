"""Who comes first in a quantity, and who cannot be told apart from whom."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..metrics.statistics import Ratio, paired_ratio
from .series import Series

LEVEL = 0.95  # of the interval that `paired_ratio` gives
# Of seven variants that are alike, intervals from three pairs name somebody worse in 88 of 100 cases.
ENOUGH = 5


class Standing(NamedTuple):
    """An order of variants.

    Attributes:
        means: Of each variant, the best first.
        best: The best of those measured most often: whom the others are compared with.
        ratios: Of others to it, where both were measured side by side often enough.
        level: The best, and those that are not told apart from it.
        unsettled: Those of whom nothing can be said, since they were measured too few times.
        per: As in the series.
        n: Pairs, the fewest of all ratios; 1 where there is none.
    """

    means: dict[str, float]
    best: str
    ratios: dict[str, Ratio]
    level: list[str]
    unsettled: list[str]
    per: str
    n: int

    @property
    def beaten(self) -> list[str]:
        """Those told apart from the best, in order."""
        return [name for name in self.means if name not in self.level and name not in self.unsettled]


def mean(series: Series) -> float:
    """Mean of a series."""
    return float(np.mean(list(series.values.values())))


def standing(candidates: Mapping[str, Series]) -> Standing | None:
    """Order variants by their means, less being better.

    A difference counts where the interval of the paired ratio leaves out 1 and there are five pairs or more. What is
    computed once is no ranking: it would come out the same again, and otherwise with other weights.

    Args:
        candidates: One series of the same quantity for each variant.

    Returns:
        None where nobody was measured.
    """
    if not candidates:
        return None
    means = {name: mean(series) for name, series in candidates.items()}
    order = sorted(means, key=lambda name: (means[name], name))
    most = max(len(series.values) for series in candidates.values())
    best = next(name for name in order if len(candidates[name].values) == most)
    per = candidates[best].per
    ratios, level, unsettled = {}, [best], []
    for name in order:
        ratio = compare(candidates[name], candidates[best]) if name != best else None
        if ratio is not None and ratio.low is not None and ratio.high is not None and ratio.n >= ENOUGH:
            ratios[name] = ratio
            level += [name] * (ratio.low <= 1 <= ratio.high)
        elif name != best:
            unsettled.append(name)
    n = min((ratio.n for ratio in ratios.values()), default=1)
    return Standing({name: means[name] for name in order}, best, ratios, level, unsettled, per, n)


def compare(a: Series, b: Series) -> Ratio | None:
    """Ratio of a to b over what both were measured in; None with fewer than two pairs, or where it has no meaning."""
    common = sorted(set(a.values) & set(b.values))
    above, below = [a.values[k] for k in common], [b.values[k] for k in common]
    if a.per == "once" or len(common) < 2 or min(above) <= 0 or min(below) <= 0:
        return None
    return _paired(tuple(above), tuple(below))


@lru_cache(maxsize=4096)
def _paired(above: tuple[float, ...], below: tuple[float, ...]) -> Ratio:
    return paired_ratio(above, below)  # ten thousand draws, and a report asks for the same ones often
