"""Areas under profiles, linear up and logarithmic down, and their terminal slopes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .profiles import Profile

TOLERANCE = 1e-4  # of the adjusted R2, within which more points are better
FEWEST = 3  # points of a terminal slope


class Slope(NamedTuple):
    """Terminal slopes.

    Attributes:
        rate: lambda_z, 1/h, `[...]`; NaN where there is none.
        points: How many points it is from, `[...]`; 0 where there is none.
        r2_adjusted: Adjusted R2 of these, `[...]`; NaN where there is none.
    """

    rate: np.ndarray
    points: np.ndarray
    r2_adjusted: np.ndarray


def area(profile: Profile, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    r"""Area between two times after the dose, `[...]`, as far as the last value that can be quantified.

    Between two points the curve is a line, $(C_1 + C_2) \Delta t / 2$, or an exponential where it falls to one above
    0, $(C_1 - C_2) \Delta t / \ln(C_1 / C_2)$ (Gabrielsson & Weiner, Pharmacokinetic and Pharmacodynamic Data Analysis,
    5th edition, 2016); likewise within a part of it, so that areas of neighbouring spans add up to that of the whole.
    """
    begin, finish = profile.times[..., :-1], profile.times[..., 1:]
    left, right = profile.values[..., :-1], profile.values[..., 1:]
    valid = np.arange(1, profile.times.shape[-1]) <= profile.last[..., None]
    gap = np.where(valid, finish - begin, 1.0)
    low, high = (np.clip(edge[..., None], begin, np.where(valid, finish, begin)) for edge in (start, stop))
    width = high - low
    falls = valid & (right < left) & (right > 0)
    rate = (np.log(np.where(falls, left, 1.0)) - np.log(np.where(falls, right, 1.0))) / gap
    line = (left + (right - left) * ((low + high) / 2 - begin) / gap) * width
    return np.where(falls, left * np.exp(-rate * (low - begin)) * _decay(rate, width), line).sum(-1)


def whole(profile: Profile, rate: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Area between two times after the dose, `[...]`; behind the last value that can be quantified, of an exponential.

    It is 0 where nothing can be quantified, and NaN where nothing was measured or the rate, 1/h, is needed and is NaN.
    """
    time, value = profile.at(profile.last)
    begin = np.maximum(start, time)
    beyond = value * np.exp(-rate * (begin - time)) * _decay(rate, np.maximum(stop, begin) - begin)
    found = area(profile, start, stop) + np.where((stop <= time) | (profile.last < 0), 0.0, beyond)
    return np.where((profile.size > 0) & ~np.isnan(stop), found, np.nan)


def _decay(rate: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Integral of exp(-rate t) from 0 to `width`, which may be infinite where the rate is above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # expm1: the difference of two exponentials loses all figures where they are nearly alike.
        return np.where(rate * width == 0, width, -np.expm1(-rate * width) / rate)


def terminal(profile: Profile, earliest: np.ndarray, included: np.ndarray) -> Slope:
    """lambda_z by the best adjusted R2, as Phoenix WinNonlin, NonCompart and PKNCA do it.

    Lines are fitted to the logarithms of the last three values, the last four, and so on. Of those that fall and whose
    adjusted R2, 1 - (1 - R2) (n - 1) / (n - 2), is within 0.0001 of the best, that of the most points is taken (Phoenix
    WinNonlin 8.3, "Lambda Z or Slope Estimation settings").

    Args:
        profile: Of which values above 0 count that were measured.
        earliest: Time after the dose, h, `[...]`, behind which points may be used.
        included: Whether a point at that time may be, `[...]`.
    """
    edge = earliest[..., None]
    behind = (profile.times > edge) | (included[..., None] & (profile.times == edge))
    usable = profile.measured & (profile.values > 0) & behind
    end, height = (array[..., None] for array in profile.at(profile.last))
    x = np.where(usable, profile.times - end, 0.0)[..., ::-1]
    y = np.where(usable, np.log(np.where(usable, profile.values, 1.0)) - np.log(height), 0.0)[..., ::-1]
    count = usable[..., ::-1].cumsum(-1)
    # Both are measured from the last point, so that sums less squares of sums keep their figures.
    some, sum_x, sum_y = np.maximum(count, 1), x.cumsum(-1), y.cumsum(-1)
    xx, xy, yy = ((a * b).cumsum(-1) - sum_a * sum_b / some for a, b, sum_a, sum_b in (
        (x, x, sum_x, sum_x), (x, y, sum_x, sum_y), (y, y, sum_y, sum_y)
    ))  # fmt: skip
    fits = usable[..., ::-1] & (count >= FEWEST) & (xx > 0) & (yy > 0)
    r2 = np.minimum(xy**2 / np.where(fits, xx * yy, 1.0), 1.0)
    adjusted = np.where(fits, 1 - (1 - r2) * (count - 1) / np.maximum(count - 2, 1), -np.inf)
    rate = -xy / np.where(fits, xx, 1.0)
    best = fits & (adjusted >= adjusted.max(-1, keepdims=True) - TOLERANCE) & (rate > 0)
    chosen = np.where(best, count, 0).argmax(-1)[..., None]
    there, points, slope, quality = (
        np.take_along_axis(array, chosen, -1)[..., 0] for array in (best, count, rate, adjusted)
    )
    return Slope(np.where(there, slope, np.nan), np.where(there, points, 0), np.where(there, quality, np.nan))
