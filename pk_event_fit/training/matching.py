r"""Gradient matching: the field is fitted to slopes of smoothed data, and no ODE is solved.

$$\sum_{i, d} \frac{(f_d(\hat y_i) - \hat y_{i, d}')^2}{\sigma_d^2 + \hat y_{i, d}'^2}$$

with $\sigma_d$ the root mean square slope: where amounts change slowly errors count in units of that, and where they
change fast, just after a dose, relative to the slope, which would else outweigh all the rest. Source: Varah, SIAM J.
Sci. Stat. Comput. 3 (1982) 28.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from ..arrays.base import Array, Arrays
from ..data import Cohort
from ..errors import ConfigError
from ..frameworks.base import Framework, Report
from .losses import weight_square

POINTS = 8192  # states that are matched at most
LEAST = 5  # observed points of an interval
STRENGTHS = np.logspace(-16, 2, 73)  # of smoothing


class Slopes(NamedTuple):
    """States and what the field should be there.

    Attributes:
        states: Amounts, mg, `[N, D]`.
        slopes: Their rates of change, without what is infused, mg/h, `[N, D]`.
        weights: Of the squared errors, `[N, D]`.
        covariates: `[N, C]`, or None.
        t: Clock times, h, `[N]`, or None for a field without clock.
    """

    states: Array
    slopes: Array
    weights: Array
    covariates: Array = None
    t: Array = None


def refuse(cohort: Cohort) -> None:
    """Raise where there is nothing to match.

    Raises:
        ConfigError: The cohort is a table, or an interval of it was observed at a few points alone, or none was at
            all. One without any is left out.
    """
    if cohort.table is not None or cohort.intervals.points is not None:
        raise ConfigError(
            "training.phases: optimiser=matching: needs all compartments observed on a grid, and the data are a table; "
            "leave this phase out"
        )
    if len(cohort.grid) < LEAST:
        raise ConfigError(
            f"training.phases: optimiser=matching: needs data.points={LEAST} or more in what the phase's length leaves"
        )
    counts = _seen(cohort).sum(-1)
    few = (counts > 0) & (counts < LEAST)
    if few.any():
        number = int(np.flatnonzero(few.any(0))[0])
        raise ConfigError(
            f"training.phases: optimiser=matching: needs {LEAST} points or more of an interval observed, in all "
            f"compartments, or none, and of interval {number} somebody has {counts[:, number][few[:, number]].min()}; "
            "choose another length, or leave this phase out"
        )
    if not counts.any():
        raise ConfigError("training.phases: optimiser=matching: nowhere were all compartments observed at once")


def _seen(cohort: Cohort) -> np.ndarray:
    """Where whole states were observed that count, `[B, S, K]`; the field is asked for nothing else."""
    there = (cohort.intervals.duration > 0).T[..., None]
    whole = np.isfinite(cohort.amounts) if cohort.weights is None else cohort.weights > 0
    return whole.all(-1) & there


def smoothed(values: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes of smoothing splines, each as smooth as generalised cross-validation finds best.

    The values are those of Reinsch's cubic spline; the slopes are taken through them without its natural ends, which
    would have no curvature just where there is most, after a dose. Source: Green & Silverman, Nonparametric Regression
    and Generalized Linear Models (1994), sections 2.3 and 3.2.

    Args:
        values: `[..., K]`.
        times: Increasing, `[K]`.

    Returns:
        Both `[..., K]`.
    """
    step, count = np.diff(times), len(times)
    second, mass = np.zeros((count, count - 2)), np.zeros((count - 2, count - 2))
    inner = np.arange(count - 2)
    second[inner, inner], second[inner + 2, inner] = 1 / step[:-1], 1 / step[1:]
    second[inner + 1, inner] = -1 / step[:-1] - 1 / step[1:]
    mass[inner, inner] = (step[:-1] + step[1:]) / 3
    mass[inner[1:], inner[:-1]] = mass[inner[:-1], inner[1:]] = step[1:-1] / 6
    roughness, basis = np.linalg.eigh(second @ np.linalg.solve(mass, second.T))
    loads = values @ basis
    # The two lowest are straight lines, which nothing smooths: their own rounding errors are no roughness.
    kept = 1 / (1 + STRENGTHS[:, None] * np.where(np.arange(count) < 2, 0.0, np.maximum(roughness, 0.0)))
    left = (loads**2) @ ((1 - kept) ** 2).T  # [..., strengths]
    # Where so little is smoothed that only rounding is left, the ratio would compare rounding errors.
    left = left + (np.finfo(np.float64).eps ** 2 * count) * (loads**2).sum(-1, keepdims=True)
    chosen = kept[(left / (count - kept.sum(1)) ** 2).argmin(-1)]
    fitted = (chosen * loads) @ basis.T
    return fitted, CubicSpline(times, fitted, axis=-1)(times, 1)


def _smoothed(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes in own time of what was observed, through these points alone; 0 elsewhere: `[B, S, D, K]`."""
    amounts, seen = cohort.amounts.swapaxes(2, 3), _seen(cohort)
    values, slopes = np.zeros_like(amounts), np.zeros_like(amounts)
    for pattern in np.unique(seen[seen.any(-1)], axis=0):
        subjects, intervals = np.nonzero((seen == pattern).all(-1))
        place = subjects[:, None], intervals[:, None], slice(None), np.flatnonzero(pattern)
        found = smoothed(amounts[place].swapaxes(1, 2), cohort.grid[pattern])  # [N, K, D] to [N, D, K]
        values[place], slopes[place] = (leaf.swapaxes(1, 2) for leaf in found)
    return values, slopes


def slopes_of(arrays: Arrays, field: Callable, cohort: Cohort) -> Slopes:
    """What is to be matched of a cohort on a grid, each point as often as it was observed.

    Subjects who are alike count as one that counts more.

    Raises:
        ConfigError: See `refuse`.
    """
    refuse(cohort)
    part, counts = _different(cohort)
    table, grid = part.intervals, part.grid
    values, slopes = (leaf.swapaxes(0, 1) for leaf in _smoothed(part))  # [S, B, D, K]
    slopes = slopes / np.where(table.duration > 0, table.duration, 1.0)[..., None, None]
    if table.rate is not None:
        slopes = slopes - table.rate[..., None]
    usual = np.ones_like(part.amounts) if part.weights is None else part.weights
    seen = _seen(part)
    weights = (usual * seen[..., None] * counts[:, None, None, None]).transpose(1, 0, 3, 2)
    sigma = (weights * slopes**2).sum((0, 1, 3)) / weights.sum((0, 1, 3))
    sigma = np.where(sigma > 0, sigma, 1.0)[:, None]
    weights = weights / weights.sum() / (sigma + slopes**2)

    def rows(leaf):  # [S, B, D, K] to [N, D]
        return leaf.transpose(0, 1, 3, 2).reshape(-1, leaf.shape[2])

    covariates, t = None, None
    if table.covariates is not None:
        covariates = rows(np.broadcast_to(table.covariates[..., None], (*table.covariates.shape, len(grid))))
    if not getattr(field, "autonomous", False):
        t = (table.start[..., None] + table.duration[..., None] * grid).reshape(-1)
    found, kept = Slopes(rows(values), rows(slopes), rows(weights), covariates, t), seen.swapaxes(0, 1).reshape(-1)
    found = Slopes(*(None if leaf is None else leaf[kept] for leaf in found))
    count = len(found.states)
    if count <= POINTS:
        return arrays.table(found)
    # Every n-th would be the same few points of each interval.
    chosen = np.sort(np.random.Generator(np.random.PCG64(0)).permutation(count)[:POINTS])
    thinned = Slopes(*(None if leaf is None else leaf[chosen] for leaf in found))
    return arrays.table(thinned._replace(weights=thinned.weights * (count / POINTS)))


def _different(cohort: Cohort) -> tuple[Cohort, np.ndarray]:
    """One of each kind of subject, and how many there are of it."""
    count, table = len(cohort.amounts), cohort.intervals
    leaves = [leaf for leaf in (table.start, table.duration, table.rate, table.covariates) if leaf is not None]
    own = [np.moveaxis(leaf, 1, 0).reshape(count, -1) for leaf in leaves]
    own += [] if cohort.weights is None else [cohort.weights.reshape(count, -1)]
    rows = np.concatenate([np.nan_to_num(cohort.amounts).reshape(count, -1), *own], 1)
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    return cohort.take(first), counts.astype(np.float64)


def mismatch(framework: Framework, field: Callable, alpha: float = 0.0) -> Callable:
    """`loss(params, *slopes) -> (number, Report)`, with the factor of the penalty `l2`."""
    xp = framework.arrays.xp

    def loss(params, states, slopes, weights, covariates=None, t=None):
        found = (weights * (field(xp, params, t, states, covariates) - slopes) ** 2).sum()
        return (found + alpha * weight_square(params) if alpha else found), Report()

    return loss
