"""Spreads of repeated measurements, and how sure a ratio of two of them is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .checks import alike, numbers

BLOCK = 1_000_000  # numbers drawn at a time: the bootstrap of a long series must not take gigabytes


class Spread(NamedTuple):
    """Repeated measurements of one thing, in its unit.

    Attributes:
        mean: Their mean.
        sd: Sample standard deviation (divisor n - 1); None with fewer than two.
        median: Their median.
        p10: 10th percentile, linear between two measurements.
        p90: 90th percentile, likewise.
        n: How many.
    """

    mean: float
    sd: float | None
    median: float
    p10: float
    p90: float
    n: int


class Ratio(NamedTuple):
    """A ratio of two means.

    Attributes:
        ratio: mean(a) / mean(b).
        low: Lower end of its 95 % interval; None with fewer than two pairs, which say nothing of a spread.
        high: Upper end, likewise.
        n: Number of pairs.
    """

    ratio: float
    low: float | None
    high: float | None
    n: int


def spread(values: Any) -> Spread:
    """Mean, standard deviation and percentiles of `[n]` numbers.

    Raises:
        DataError: There are none, or one is not finite.
    """
    array = numbers("values", values, 1)
    p10, median, p90 = (float(k) for k in np.percentile(array, [10, 50, 90]))
    # Centred on one of them first: equal numbers have a deviation of 0, not of a rounding error.
    sd = float((array - array[0]).std(ddof=1)) if len(array) > 1 else None
    return Spread(float(array.mean()), sd, median, p10, p90, len(array))


def paired_ratio(a: Any, b: Any, *, draws: int = 10_000, seed: int = 0) -> Ratio:
    """Ratio of means with the 95 % percentile interval of a paired bootstrap.

    Each draw takes n pairs with replacement, so what slowed both members of a pair cancels. Source: Efron & Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 13. Such an interval is too narrow where pairs are few: for normal
    noise it covers the truth in about 84 % of cases with 5 pairs, 90 % with 10 and 93 % with 40.

    Args:
        a: Numerator, `[n]`.
        b: Denominator, `[n]`; the k-th of both were measured side by side.
        draws: How many times to resample.
        seed: Of the draws; the same input and seed give the same bits.

    Raises:
        DataError: There are no pairs, the lengths differ, a number is not finite, a `b` is not above 0, or there are no
            draws.
    """
    a, b = alike("a", a, "b", b, 1)
    if (b <= 0).any():
        raise DataError(f"b: {b.min():g}: must be above 0, to be divided by")
    if draws < 1:
        raise DataError(f"draws={draws}: must be 1 or more")
    ratio, n = float(a.mean() / b.mean()), len(a)
    if n < 2:
        return Ratio(ratio, None, None, n)
    random = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, BLOCK // n)
    ratios = []
    for first in range(0, draws, rows):
        pairs = random.integers(0, n, (min(rows, draws - first), n))
        ratios.append(a[pairs].sum(1) / b[pairs].sum(1))
    low, high = (float(k) for k in np.percentile(np.concatenate(ratios), [2.5, 97.5]))
    return Ratio(ratio, low, high, n)
