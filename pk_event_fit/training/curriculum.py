"""The first part of every subject's history, for phases that are to learn that first."""

from __future__ import annotations

import numpy as np

from ..data import Cohort
from ..data.splits import dose_counts
from ..errors import ConfigError
from ..intervals import Interval

ROUNDING = 1e-9  # of a time, relative to the end: an observation that is due at the limit has been made by then


def shortened(cohort: Cohort, length: int | float) -> Cohort:
    """The cohort with its first intervals alone, and without what was observed later.

    An interval that the limit falls into is solved to its end, and its later observations have weight 0, as all have
    of intervals that only others still need; where it is the only one, of subjects who share their clock and grid, it
    is cut at the last observation before.

    Args:
        cohort: Doses and observations.
        length: A fraction of each subject's own time, or a whole number of doses, as in `Phase`.

    Raises:
        ConfigError: Nothing was observed by then, or nothing happened: nobody was dosed, or had amounts to begin with.
    """
    table = cohort.intervals
    if length == 1.0 and not isinstance(length, int):
        return cohort
    ends = (table.start + table.duration).max(0)
    there, limit = table.duration > 0, np.full(ends.shape, np.inf)
    if isinstance(length, int):
        begun = (dose_counts(cohort) <= length) & there
    else:
        limit = table.start[0] + length * (ends - table.start[0]) + ROUNDING * np.abs(ends)
        begun = (table.start + 2 * ROUNDING * np.abs(ends) < limit) & there
    needed = begun.any(1)
    count = int(np.flatnonzero(needed)[-1]) + 1 if needed.any() else 1
    first, begun, there = _first(cohort, count), begun[:count], there[:count]
    times = np.broadcast_to(first.times, (len(ends), *first.times.shape[-2:]))
    seen = (times <= limit[:, None, None]) & (begun | ~there).T[..., None]
    shared = first.times.ndim == 2 and not np.ptp(table.start[0]) and not np.ptp(table.duration[0])
    if count == 1 and shared and table.points is None and not seen.all():
        first = _cut(first, int(seen[0, 0].sum()), length)
    elif not seen.all():
        usual = np.ones_like(first.amounts) if first.weights is None else first.weights
        first = first._replace(weights=np.where(seen[..., None], usual, 0.0))
    if first.weights is not None and not first.weights.any():
        raise ConfigError(f"training.phases: length={length}: nothing was observed by then")
    if not _happens(first, begun):
        raise ConfigError(
            f"training.phases: length={length}: nothing happens by then, for nobody was dosed, or had amounts to begin "
            "with; choose a greater length"
        )
    return first


def _happens(cohort: Cohort, begun: np.ndarray) -> bool:
    """Whether anything but zeros can be seen of intervals that have begun, `[S, B]`."""
    table, steady = cohort.intervals, cohort.steady
    given = (table.bolus != 0).any(-1)
    if table.rate is not None:
        given = given | (table.rate != 0).any(-1)
    if steady is not None:
        given = given | (steady.place > 0).any(0)
    return bool((given & begun).any() or cohort.initial.any())


def _first(cohort: Cohort, count: int) -> Cohort:
    table, steady = cohort.intervals, cohort.steady
    if steady is not None:
        steady = steady._replace(place=steady.place[:, :count])
    return cohort._replace(
        amounts=cohort.amounts[:, :count],
        intervals=Interval(*(None if leaf is None else leaf[:count] for leaf in table)),
        times=cohort.times[..., :count, :],
        steady=steady,
        weights=None if cohort.weights is None else cohort.weights[:, :count],
        begun=None if cohort.begun is None else cohort.begun[:count],
    )


def _cut(cohort: Cohort, points: int, length: int | float) -> Cohort:
    """One interval, to the last of so many of its points."""
    share = cohort.grid[points - 1] if points else 0.0
    if share <= 0:
        raise ConfigError(f"training.phases: length={length}: nothing was observed by then")
    table = cohort.intervals
    return cohort._replace(
        amounts=cohort.amounts[:, :, :points],
        intervals=table._replace(duration=table.duration * share),
        grid=cohort.grid[:points] / share,
        times=cohort.times[:, :points],
        weights=None if cohort.weights is None else cohort.weights[:, :, :points],
    )
