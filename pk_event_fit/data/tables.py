"""Cohorts from tables of doses and observations, each subject with its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, nonmem, store
from ..dosing import Schedule, schedule
from ..errors import DataError, ScheduleError
from ..nonmem import Table
from ..records import place
from .cohort import Cohort, Source, begun
from .settings import ALL, Data

ENDS = np.array([0.0, 1.0])


def load_table(settings: Data) -> Cohort:
    """The cohort of a table.

    Raises:
        DataError: The table cannot be read, has no observation, or lacks a covariate that is asked for.
        ScheduleError: A row is impossible for these compartments.
    """
    name, table = _read(settings)
    return cohort_of(table, settings, name)


def cohort_of(table: Table, settings: Data, name: str, initial: np.ndarray | None = None) -> Cohort:
    """The cohort of a table that has been read; `name` is what messages call it.

    Args:
        table: Its rows.
        settings: Its compartments, and what is to be made of it.
        name: What messages call it.
        initial: Amounts before each subject's first row, in the unit of AMT, `[B, D]`; None for none.

    Raises:
        DataError, ScheduleError: As `load_table`.
    """
    size = len(settings.compartments or ())
    amount = np.zeros((len(table.ids), size)) if initial is None else initial
    table, initial = _prepared(table, amount, settings, name)
    try:
        planned = schedule_of(table, settings)
    except ScheduleError as error:
        hint = "; data.compartments names them" if ": compartment " in str(error) else ""
        raise ScheduleError(f"{name}: {error}{hint}") from error
    amounts, weights = _slots(table, planned, name, settings)
    intervals = planned.intervals
    arrays = {"amounts": np.nan_to_num(amounts), "weights": weights, "initial": initial}
    arrays |= {f"table.{key}": leaf for key, leaf in intervals._asdict().items() if leaf is not None}
    if planned.steady is not None:
        arrays |= {"steady.place": planned.steady.place}
        arrays |= {f"steady.{key}": leaf for key, leaf in planned.steady.cycle._asdict().items() if leaf is not None}
    starts, durations = intervals.start.T[:, :, None], intervals.duration.T[:, :, None]
    return Cohort(
        amounts=amounts,
        initial=initial,
        intervals=intervals,
        grid=ENDS,
        times=starts + durations * intervals.points.transpose(2, 0, 1),
        compartments=tuple(settings.compartments or ()),
        digest=store.digest(arrays),
        ignored=int(planned.ignored.sum()),
        steady=planned.steady,
        weights=weights,
        table=Source(table, planned),
        covariates=table.covariates,
        begun=begun(planned),
    )


def schedule_of(table: Table, settings: Data, times: np.ndarray | None = None, side: str = "post") -> Schedule:
    """A table's rows as intervals, with more report times where they are asked for, `[B, T]`, h; see `schedule`."""
    given: dict[str, Any] = {
        "bioavailability": settings.bioavailability,
        "lag": settings.lag,
        "modelled_rate": settings.modelled_rate,
        "modelled_duration": settings.modelled_duration,
    }
    own = {name: value for name, value in given.items() if value is not None}
    return schedule(table.records, compartments=len(settings.compartments or ()), times=times, side=side, **own)


def _read(settings: Data) -> tuple[str, Table]:
    if settings.dataset is not None:
        return f"data.dataset={settings.dataset}", datasets.load(settings.dataset)
    path = Path(settings.path or "").expanduser()
    # A covariate that a subject lacks is no fault, unless it is seen by the field or amounts are divided by it.
    asked = [*(settings.covariates or ()), *([settings.per] if settings.per else ())]
    return str(path), nonmem.read(path, covariates=None if ALL in asked else asked)


def _prepared(table: Table, initial: np.ndarray, settings: Data, name: str) -> tuple[Table, np.ndarray]:
    """Observations with the compartment that they are of, those that are but a bound not to be used, and amounts by
    whatever they are to be divided by.
    """
    rows = table.records
    rows = rows._replace(compartment=np.where(rows.compartment == 0, _usual(settings), rows.compartment))
    if settings.per is not None:
        share = _columns(table, [settings.per], name)[1][:, 0]
        if (wrong := ~(share > 0)).any():
            row = int(wrong.argmax())
            raise DataError(f"{name}: {place(rows, row)}: {settings.per} {share[row]}: must be above 0 to divide by")
        rows = rows._replace(amount=rows.amount / share, rate=np.where(rows.rate > 0, rows.rate / share, rows.rate))
        initial = initial / share[np.searchsorted(rows.subject, np.arange(len(table.ids)))][:, None]
    if rows.censored is not None:  # a bound is no value to fit
        rows = rows._replace(used=rows.used & (rows.censored == 0))
    if settings.error == "log" and (wrong := rows.used & ~(rows.observed > 0)).any():
        row = int(wrong.argmax())
        raise DataError(f"{name}: {place(rows, row)}: DV {rows.observed[row]}: data.error=log needs values above 0")
    if settings.covariates is None:  # what changes with time would cut intervals for nothing
        return table._replace(records=rows._replace(covariates=None), covariates=()), initial
    asked = list(table.covariates) if settings.covariates == [ALL] else settings.covariates
    names, values = _columns(table, asked, name)
    return table._replace(records=rows._replace(covariates=values), covariates=names), initial


def _columns(table: Table, asked: Sequence[str], name: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Covariates by name, as the header spells them, and their columns, `[N, C]`.

    Raises:
        DataError: One is not there, or there are none.
    """
    known, values = [covariate.upper() for covariate in table.covariates], table.records.covariates
    missing = [covariate for covariate in asked if covariate.upper() not in known]
    if missing or values is None or not asked:
        has = ", ".join(table.covariates) or "none"
        raise DataError(f"{name}: has no covariate {', '.join(missing) or 'at all'}; it has {has}")
    order = [known.index(covariate.upper()) for covariate in asked]
    return tuple(table.covariates[k] for k in order), values[:, order]


def _usual(settings: Data) -> int:
    """The compartment that observations are of where their rows do not say so, from 1."""
    return (settings.compartments or []).index(settings.measured or "") + 1


def _slots(table: Table, planned: Schedule, name: str, settings: Data) -> tuple[np.ndarray, np.ndarray]:
    """Observations where the table reports them, `[B, S, K, D]`, and how many each is the mean of.

    The mean is that of logarithms where these are fitted: the least squares of what it stands for are then its own.
    """
    rows, where = table.records, planned.reports
    used = rows.used[where.record]
    if not used.any():
        raise DataError(f"{name}: has no observation to fit; its columns are {', '.join(table.columns)}")
    record = where.record[used]
    if not (rows.compartment[record] == _usual(settings)).any():
        row = int(record[0])
        raise DataError(
            f"{name}: {place(rows, row)}: CMT {rows.compartment[row]:g}: no observation is of data.measured; in rows "
            "of observations CMT is what was observed, 0 or . where that is data.measured"
        )
    points = planned.intervals.points.shape[1]
    shape = (len(table.ids), len(planned.intervals.start), points, len(settings.compartments or ()))
    log = settings.error == "log"
    at = where.subject[used], where.interval[used], where.point[used], rows.compartment[record].astype(np.int64) - 1
    weights, total = np.zeros(shape), np.zeros(shape)
    np.add.at(weights, at, 1.0)
    np.add.at(total, at, np.log(rows.observed[record]) if log else rows.observed[record])
    means = np.divide(total, weights, out=np.full(shape, np.nan), where=weights > 0)
    return (np.exp(means) if log else means), weights
