"""What is known of subjects who are observed on a grid: the same in all their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..dosing import Schedule
from ..errors import DataError
from ..intervals import Interval
from .settings import ALL, Data


def covariates_of(
    arrays: dict[str, np.ndarray], settings: Data, path: Path, subjects: int
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Names of those that are asked for, and their values, `[B, C]`, or None.

    Raises:
        DataError: One is not in the file, or is not a finite number for every subject.
    """
    if settings.covariates is None:
        return (), None
    found: dict[str, np.ndarray] = {}
    for key, label in (("parameters", "parameter_names"), ("covariates", "covariate_names")):
        values, names = arrays.get(key), arrays.get(label)
        if values is None or names is None:
            continue
        if names.ndim != 1 or values.shape != (subjects, len(names)) or values.dtype.kind not in "iuf":
            raise DataError(f"{path}: {key} has shape {list(values.shape)}; needs numbers [{subjects}, {len(names)}]")
        found |= dict(zip(map(str, names), values.astype(np.float64).T, strict=True))
    chosen = tuple(found) if settings.covariates == [ALL] else tuple(settings.covariates)
    if (missing := [name for name in chosen if name not in found]) or not chosen:
        has = ", ".join(found) or "none"
        raise DataError(f"{path}: has no covariate {', '.join(missing) or 'at all'}; it has {has}")
    columns = np.stack([found[name] for name in chosen], 1)
    if not (finite := np.isfinite(columns)).all():
        subject, column = (int(k) for k in np.argwhere(~finite)[0])
        raise DataError(f"{path}: {chosen[column]} of subject {subject} is {columns[subject, column]}")
    return chosen, columns


def with_covariates(plan: Schedule, values: np.ndarray | None) -> Schedule:
    """The schedule with covariates `[B, C]` in every interval."""
    if values is None:
        return plan

    def held(table: Interval) -> Interval:
        return table._replace(covariates=np.broadcast_to(values, (*table.duration.shape, values.shape[1])).copy())

    steady = plan.steady if plan.steady is None else plan.steady._replace(cycle=held(plan.steady.cycle))
    return plan._replace(intervals=held(plan.intervals), steady=steady)
