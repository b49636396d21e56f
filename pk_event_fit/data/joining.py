"""Cohorts of one grid as one, so that copies under other doses are fitted along with those they are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from ..intervals import Interval
from .cohort import Cohort, begun_by_rates, sealed


def joined(cohorts: Sequence[Cohort]) -> Cohort:
    """All subjects of several cohorts, in their order; those with fewer intervals get idle ones, of no weight.

    What `origin` says of a cohort stays; where it says nothing, subjects are their own. So those of
    `joined([cohort, jitter(cohort, ...)])` stem from the cohort's.

    Args:
        cohorts: On one grid, with the same compartments and covariates, and without steady states.

    Raises:
        ConfigError: There is none, or they do not fit together.
    """
    if not cohorts:
        raise ConfigError("joined: needs one cohort or more")
    first = cohorts[0]
    for number, one in enumerate(cohorts):
        if one.table is not None or one.intervals.points is not None or one.steady is not None:
            raise ConfigError(f"joined: cohort {number} is no cohort on a grid without steady states")
        for name in ("grid", "compartments", "covariates"):
            if not np.array_equal(getattr(one, name), getattr(first, name)):
                raise ConfigError(f"joined: cohort {number} has another {name.rstrip('s')} than the first")
    size = max(len(one.intervals.start) for one in cohorts)
    amounts = np.concatenate([_padded(one.amounts, size, 1, np.nan) for one in cohorts])
    weights = np.concatenate([_padded(_weights(one), size, 1, 0.0) for one in cohorts])
    origin = [np.arange(len(one.amounts)) if one.origin is None else one.origin for one in cohorts]
    begun = [begun_by_rates(one) if one.begun is None else one.begun for one in cohorts]
    intervals = _table([one.intervals for one in cohorts], size)
    return sealed(first._replace(
        amounts=amounts, initial=np.concatenate([one.initial for one in cohorts]), intervals=intervals,
        times=intervals.start.T[..., None] + first.grid * intervals.duration.T[..., None],
        ignored=max(one.ignored for one in cohorts), weights=None if (weights == 1).all() else weights,
        origin=np.concatenate(origin), begun=np.concatenate([_padded(one, size, 0, 0) for one in begun], 1),
    ))  # fmt: skip


def _weights(cohort: Cohort) -> np.ndarray:
    return np.isfinite(cohort.amounts).astype(np.float64) if cohort.weights is None else cohort.weights


def _padded(leaf: np.ndarray, size: int, axis: int, fill: float) -> np.ndarray:
    """As many intervals as `size`; those that are added hold `fill`."""
    width = [(0, size - length if k == axis else 0) for k, length in enumerate(leaf.shape)]
    return np.pad(leaf, width, constant_values=fill)


def _table(tables: Sequence[Interval], size: int) -> Interval:
    """Intervals of all; those that are added stand at the end."""

    def leaves(name: str, usual: float) -> np.ndarray | None:
        found = [getattr(table, name) for table in tables]
        if all(leaf is None for leaf in found):
            return None
        like = [table.bolus if name == "rate" else table.start for table in tables]
        whole = [np.full(shape.shape, usual) if leaf is None else leaf for leaf, shape in zip(found, like, strict=True)]
        return np.concatenate([_padded(leaf, size, 0, usual) for leaf in whole], 1)

    def last(leaf: np.ndarray, value: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(value[None], size - len(leaf), 0)])

    start = [last(table.start, table.start[-1] + table.duration[-1]) for table in tables]
    known = [last(table.covariates, table.covariates[-1]) for table in tables if table.covariates is not None]
    return Interval(
        number=np.arange(size), start=np.concatenate(start, 1), duration=leaves("duration", 0.0),
        bolus=leaves("bolus", 0.0), rate=leaves("rate", 0.0), keep=leaves("keep", 1.0),
        covariates=np.concatenate(known, 1) if known else None,
    )  # fmt: skip
