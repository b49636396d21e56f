"""Cohorts on a grid from arrays, and to npz files that `data=file` reads to the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import store
from ..errors import ConfigError, DataError
from .cohort import Cohort
from .grids import SCHEMA_VERSION, assembled
from .settings import ALL, Data

ELSEWHERE = "hand tables and other doses on by python -m pk_event_fit.croissant, or pk_event_fit.nonmem"


def of_arrays(
    amounts: Any, *, dose_times: Sequence[float] = (), dose_amounts: Sequence[float] = (),
    dose_compartments: Sequence[int] | None = None, doses: Sequence[Mapping[str, Any]] | None = None,
    start: float = 0.0, end: float | None = None, times: Any = None, initial: Any = None,
    compartments: Sequence[str] | None = None, covariates: Mapping[str, Any] | None = None,
) -> Cohort:  # fmt: skip
    """A cohort whose subjects are all dosed alike and observed on one grid, as `data=file` makes it of a file.

    Args:
        amounts: What was observed, mg, `[subject, interval, point, compartment]`; NaN where nothing was. An interval
            ends and another begins wherever something happens, with the state just after it; points are even.
        dose_times: h.
        dose_amounts: mg, one for each time.
        dose_compartments: From 1, one for each time; None for the first.
        doses: In their place, a regimen of any kind, as `data.doses` has it.
        start: Beginning of the time axis, h.
        end: Its end, h; None where `times` tell it.
        times: h, `[interval, point]`; None for what start, doses and end make.
        initial: Amounts before the first dose, mg, `[subject, compartment]`; None for the first ones without it.
        compartments: Their names; None for central and peripheral, or numbers.
        covariates: Numbers of every subject by name, `[subject]`, which hold throughout.

    Raises:
        ConfigError: Neither `end` nor `times` is given, or doses are in two ways.
        DataError: The arrays do not fit each other, or the doses.
        ScheduleError: A dose is impossible.
    """
    if end is None and times is None:
        raise ConfigError("of_arrays: needs end, h, or times, [interval, point]")
    if doses is not None and len(dose_times):
        raise ConfigError("of_arrays: doses, dose_times: choose one of the two")
    arrays: dict[str, Any] = {"all_solutions": amounts, "times": times, "initial": initial}
    if covariates:
        columns = [np.asarray(values) for values in covariates.values()]
        if len({column.shape for column in columns}) > 1:
            shapes = ", ".join(str(list(column.shape)) for column in columns)
            raise DataError(f"of_arrays: covariates have shapes {shapes}; need one number for each subject")
        arrays |= {"covariates": np.stack(columns, -1)}
        arrays |= {"covariate_names": np.array(list(covariates))}
    settings = Data(
        source="file", path="of_arrays", dose_times=list(map(float, dose_times)), start=float(start), end=end,
        dose_amounts=list(map(float, dose_amounts)), doses=None if doses is None else list(doses),
        dose_compartments=list([1] * len(dose_times) if dose_compartments is None else map(int, dose_compartments)),
        covariates=[ALL] if covariates else None,
    )  # fmt: skip
    about = {} if compartments is None else {"compartments": list(compartments)}
    given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    return assembled(Path("of_arrays"), given, about, settings)[0]


def write_cohort(cohort: Cohort, path: str | Path) -> None:
    """Write a cohort on a grid as an npz file, which `data=file data.covariates=[all]` reads to the same bits.

    It holds `all_solutions` with NaN where nothing was observed, `times`, `end`, `initial`, the doses, covariates, and
    names of compartments. Which subjects are copies, and doses after the end, are not kept.

    Raises:
        ConfigError: The cohort is none that such a file can hold.
        OSError: It cannot be written.
    """
    table = cohort.intervals
    _refuse(cohort)
    interval, compartment = np.nonzero(table.bolus[:, 0])
    # Every interval but the first begins with a dose, be it of nothing.
    idle = np.setdiff1d(np.arange(1, len(table.start)), interval)
    interval, compartment = np.append(interval, idle), np.append(compartment, 0 * idle)
    order = np.argsort(interval, kind="stable")
    interval, compartment = interval[order], compartment[order]
    known = {} if table.covariates is None else {
        "covariates": table.covariates[0], "covariate_names": np.array(cohort.covariates),
    }  # fmt: skip
    store.write_npz(
        Path(path),
        {
            "all_solutions": cohort.amounts, "times": cohort.times, "end": np.array(_end(table)),
            "initial": cohort.initial, "dose_times": table.start[interval, 0],
            "dose_amounts": table.bolus[interval, 0, compartment], "dose_compartments": compartment + 1, **known,
        },
        {"schema_version": SCHEMA_VERSION, "compartments": list(cohort.compartments)},
    )  # fmt: skip


def _refuse(cohort: Cohort) -> None:
    """Raise for what a file cannot hold."""
    table = cohort.intervals
    seen, weights = np.isfinite(cohort.amounts), cohort.weights
    faults = {
        "comes from a table": cohort.table is not None or table.points is not None,
        "has infusions, resets or a steady state": not (table.rate is None is table.keep and cohort.steady is None),
        "has subjects with doses or clocks of their own": cohort.times.ndim != 2 or any(
            (leaf != leaf[:, :1]).any() for leaf in (table.start, table.duration, table.bolus)
        ),
        "has intervals of no duration": bool((table.duration <= 0).any()),
        "has points that are not even": not np.array_equal(cohort.grid, np.linspace(0.0, 1.0, len(cohort.grid))),
        "has covariates that change": table.covariates is not None and bool(
            (table.covariates != table.covariates[:1]).any()
        ),
        "has numbers that count more than once": weights is not None and not np.array_equal(weights, seen),
        "has a subject or compartment without an observation": not (
            seen.any((1, 2, 3)).all() and seen.any((0, 1, 2)).all()
        ),
    }  # fmt: skip
    for what, wrong in faults.items():
        if wrong:
            raise ConfigError(f"write_cohort: the cohort {what}, which an npz file does not hold; {ELSEWHERE}")


def _end(table: Any) -> float:
    """The end that makes the last duration to the bit."""
    start, duration = float(table.start[-1, 0]), float(table.duration[-1, 0])
    near = start + duration
    return next((end for end in (near, np.nextafter(near, -np.inf), np.nextafter(near, np.inf))
                 if end - start == duration), near)  # fmt: skip
