"""What runs predict of a cohort, by any framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data import Cohort, batch_of
from ..frameworks.base import Framework
from ..integrate import predict
from ..outcome import LEAST, curve_grid
from .cases import Case
from .runs import Run

LOW, HIGH = 0.05, 0.95  # quantiles of members that a band shows


class Band(NamedTuple):
    """What one or several runs predict; of several the median, and a band of their quantiles.

    Attributes:
        middle: mg, or what was observed, `[B, S, K, D]`.
        low: The 5 % quantile of members; None of one.
        high: The 95 % quantile.
    """

    middle: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Flat(NamedTuple):
    """Observations, `[N]`, each with its prediction.

    Attributes:
        subject: Whose.
        compartment: Of which compartment, from 0.
        time: h.
        after: h after the last dose before; NaN before the first.
        observed: mg, or mg/L.
        predicted: Likewise.
    """

    subject: np.ndarray
    compartment: np.ndarray
    time: np.ndarray
    after: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray


class Curves(NamedTuple):
    """Predictions along time of some subjects.

    Attributes:
        subjects: Which, n of them.
        times: h, `[n, T]`, both sides of every jump.
        band: `[n, T, D]`.
    """

    subjects: np.ndarray
    times: np.ndarray
    band: Band


def predictions(
    framework: Framework, runs: Sequence[Run], cohort: Cohort, grid: np.ndarray | None = None,
    owner: np.ndarray | None = None,
) -> Band:  # fmt: skip
    """Where the cohort was observed; or at fractions of every interval, `[K]`.

    Args:
        framework: Who solves.
        runs: One; or several, which give a band.
        cohort: B subjects.
        grid: The fractions; None for where it was observed.
        owner: In place of a band, which of the runs predicts each subject, `[B]`.

    Raises:
        SolverFailure: A solve did not end.
    """
    solve = _solver(framework, cohort, grid)
    members = np.stack([solve(run) for run in runs])
    return banded(members) if owner is None else Band(members[owner, np.arange(len(owner))])


def banded(members: np.ndarray) -> Band:
    """Median, and band where there are several, of `[M, ...]`."""
    if len(members) == 1:
        return Band(members[0])
    return Band(np.median(members, 0), np.quantile(members, LOW, axis=0), np.quantile(members, HIGH, axis=0))


def _solver(framework: Framework, cohort: Cohort, grid: np.ndarray | None) -> Callable[[Run], np.ndarray]:
    """Solves the cohort for a run; runs of the same field share what is compiled."""
    arrays = framework.arrays
    chosen = cohort if grid is None else cohort._replace(intervals=cohort.intervals._replace(points=None), grid=grid)
    initial, table, _, steady, _ = batch_of(arrays, chosen, None)
    compiled: list[tuple[Any, Callable]] = []  # fields compare equal, and have no hash

    def solve(run: Run) -> np.ndarray:
        field = run.field
        made = next((known for other, known in compiled if other == field), None)
        if made is None:
            made = arrays.compile(
                lambda params, initial, table, steady: predict(
                    framework, field, params, initial, table, chosen.grid, steady
                )
            )
            compiled.append((field, made))
        params = {name: arrays.asarray(value) for name, value in run.params.items()}
        states, report = framework.guard(made, params, initial, table, steady)
        framework.check(report, table)
        observe = getattr(field, "observe", None)
        seen = states if observe is None else observe(arrays.xp, params, states)
        return arrays.to_numpy(seen).transpose(2, 0, 1, 3).astype(np.float64)

    return solve


def flat(case: Case, predicted: np.ndarray) -> Flat:
    """Each observation, where there is one, with its prediction, `[B, S, K, D]`."""
    seen = ~np.isnan(case.cohort.amounts)
    subject, interval, point, compartment = np.nonzero(seen)
    at = subject, interval, point
    return Flat(
        subject, compartment, case.times[at], case.after[at], case.cohort.amounts[seen], predicted[seen]
    )  # fmt: skip


def curves(
    framework: Framework, runs: Sequence[Run], case: Case, subjects: np.ndarray, found: Band,
    owner: np.ndarray | None = None,
) -> Curves:  # fmt: skip
    """Along every interval; on a grid that is fine enough, what was predicted there. `owner` as in `predictions`.

    Raises:
        SolverFailure: A solve did not end.
    """
    cohort = case.cohort
    if cohort.table is None and len(cohort.grid) >= LEAST:
        band = _changed(found, lambda leaf: leaf[subjects])
        times = case.times[subjects]
    else:
        chosen = cohort.take(subjects)
        grid = curve_grid(len(chosen.intervals.start))
        band = predictions(framework, runs, chosen, grid, None if owner is None else owner[subjects])
        start, duration = chosen.intervals.start.T[..., None], chosen.intervals.duration.T[..., None]
        times = start + grid * duration
    count = len(subjects)
    joined = _changed(band, lambda leaf: leaf.reshape(count, -1, leaf.shape[-1]))
    return Curves(subjects, times.reshape(count, -1), joined)


def _changed(band: Band, change: Callable[[np.ndarray], np.ndarray]) -> Band:
    middle, low, high = band
    return Band(change(middle), None if low is None else change(low), None if high is None else change(high))
