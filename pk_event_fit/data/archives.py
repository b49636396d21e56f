"""Cohorts from Croissant data sets, and any cohort as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import croissant, datasets, nonmem
from ..compartments import lookup
from ..croissant import Compartment, Dataset
from ..dosing import Schedule
from ..errors import ConfigError, DataError
from ..events import BOLUS, EMPTY, END, ON
from ..nonmem.text import key_of
from ..records import DOSE, OBSERVATION, RESET, Records
from .cohort import Cohort
from .grids import planned_grid
from .settings import Data
from .tables import cohort_of

# Settings that a data set may tell for each compartment, and what holds where it does not.
ARRIVING = {"lag": 0.0, "bioavailability": 1.0, "modelled_rate": np.nan, "modelled_duration": np.nan}


def load_archive(settings: Data) -> Cohort:
    """The cohort of a Croissant data set.

    Raises:
        DataError: It cannot be read, contradicts the settings, or has no observation.
        ScheduleError: A row is impossible.
    """
    dataset = _read(settings)
    return cohort_of(dataset.table, _settled(settings, dataset), str(settings.path), dataset.initial)


def settled(settings: Data) -> Data:
    """The settings with what the data set tells, where they leave it open.

    Raises:
        DataError: It cannot be read, or tells something else than they do.
    """
    return _settled(settings, _read(settings))


def _read(settings: Data) -> Dataset:
    return croissant.read(Path(settings.path or ""))


def _settled(settings: Data, dataset: Dataset) -> Data:
    told: dict[str, Any] = {"compartments": [compartment.name for compartment in dataset.compartments]}
    for name, usual in ARRIVING.items():
        values = [float(getattr(compartment, name)) for compartment in dataset.compartments]
        if not np.array_equal(values, [usual] * len(values), equal_nan=True):
            told[name] = values
    for name, column in (("observed_unit", "DV"), ("time_unit", "TIME")):
        if column in dataset.units:
            told[name] = dataset.units[column]
    for name, value in told.items():
        asked, usual = getattr(settings, name), getattr(Data, name)
        same = np.array_equal(asked, value, equal_nan=name in ARRIVING) if asked is not None else False
        if asked != usual and not same:
            raise DataError(f"{settings.path}: its {name} is {value}, and data.{name}={asked}")
    if settings.measured is None:
        told["measured"] = dataset.measured or _observed(dataset)
    return replace(settings, **told)


def _observed(dataset: Dataset) -> str:
    """The first compartment that something was observed of, or else the first."""
    rows = dataset.table.records
    seen = rows.compartment[rows.used & (rows.compartment > 0)]
    return dataset.compartments[int(seen.min(initial=len(dataset.compartments))) - 1 if len(seen) else 0].name


def describe(settings: Data, covariates: Sequence[str] | None = None) -> Dataset:
    """The cohort that the settings ask for, as it can be handed on; see `croissant.write`.

    A table is taken as its file has it, before anything is divided by `per`; a grid becomes rows of doses and
    observations, each on its side of a dose.

    Args:
        settings: Any that `load` takes.
        covariates: Columns of a table that are covariates; None for all that are numbers. The others are kept as text.

    Raises:
        ConfigError: There are covariates, and no table.
        DataError, ScheduleError: As `load`.
    """
    if covariates is not None and settings.source != "table":
        raise ConfigError(f"covariates={','.join(covariates)}: is for tables alone (data=nonmem)")
    if settings.source == "croissant":
        dataset = _read(settings)
        settings = _settled(settings, dataset)
        return dataset._replace(measured=settings.measured)
    if not settings.tabular:
        return _of_grid(*planned_grid(settings), settings)
    if settings.dataset is not None:
        name, table = settings.dataset, datasets.load(settings.dataset)
    else:
        path = Path(settings.path or "").expanduser()
        name, table = path.name, nonmem.read(path, covariates=covariates)
    own = {key: getattr(settings, key) or [usual] * len(settings.compartments or ()) for key, usual in ARRIVING.items()}
    compartments = tuple(
        Compartment(title, "", *map(float, values))
        for title, *values in zip(settings.compartments or (), *own.values(), strict=True)
    )
    units = {"TIME": settings.time_unit, "DV": settings.observed_unit}
    if settings.volume is None and settings.per is None:
        units["AMT"] = settings.observed_unit  # amounts were observed
    units = {key: unit for key, unit in units.items() if unit and key in map(str.upper, table.columns)}
    initial = np.zeros((len(table.ids), len(compartments)))
    return Dataset(table, compartments, initial, settings.measured, units, {"name": name})


def _of_grid(cohort: Cohort, plan: Schedule, settings: Data) -> Dataset:
    """All subjects have the same rows, but for what was observed, and for their covariates."""
    subjects = len(cohort.amounts)
    rows, place = _rows(cohort, plan)
    count = len(rows["time"])
    observed = np.full((subjects, count), np.nan)
    seen = place >= 0
    observed[:, seen] = cohort.amounts.reshape(subjects, -1)[:, place[seen]]
    tiled = {name: np.tile(column, subjects) for name, column in rows.items()}
    none = np.zeros(subjects * count, np.int64)
    records = Records(
        subject=np.repeat(np.arange(subjects), count), additional=none, observed=observed.ravel(),
        used=np.isfinite(observed.ravel()), **tiled,
    )  # fmt: skip
    if cohort.covariates:
        records = records._replace(covariates=np.repeat(cohort.intervals.covariates[0], count, 0))
    table = nonmem.of_records(records, covariates=cohort.covariates)
    known = lookup(settings.kinetics) if settings.source == "simulated" else None
    units = {} if known is None else dict(zip(known.parameters, known.units, strict=True))
    units |= {"TIME": settings.time_unit, "DV": settings.observed_unit, "AMT": settings.observed_unit}
    units = {key_of(key): unit for key, unit in units.items() if key in table.columns}
    compartments = tuple(Compartment(name) for name in cohort.compartments)
    return Dataset(table, compartments, cohort.initial, None, units, {"name": "cohort on a grid"})


def _rows(cohort: Cohort, plan: Schedule) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of one subject without what was observed, and where that stands in its amounts; -1 for a dose or a reset.

    A course is written dose by dose: its further doses would come before every row of their time, and hide from what
    was observed just before them.
    """
    clock = plan.clock
    story, doses, written = clock.events, clock.doses, clock.records
    ends = story.time[(story.kind == END) & (story.subject == 0)]
    starts = plan.intervals.start[:, 0]
    follows = np.append(starts[1:], ends)
    times = starts[:, None] + cohort.grid * (follows - starts)[:, None]
    times[:, -1] = follows
    _, points, size = cohort.amounts.shape[1:]
    rows: list[tuple[float, ...]] = []  # time, kind, amount, compartment, rate, interval, steady, place

    def give(dose: int, time: float) -> None:
        record = doses.record[dose]
        first = doses.repeat[dose] == 0 and written.steady[record] > 0
        course = (written.interval[record], written.steady[record]) if first else (0.0, 0)
        rows.append((time, DOSE, doses.amount[dose], written.compartment[record], doses.rate[dose], *course, -1))

    jumps = np.flatnonzero((story.subject == 0) & np.isin(story.kind, (BOLUS, ON, EMPTY)))
    for k in range(len(starts)):
        for event in jumps[clock.rows[jumps] == k]:
            if story.kind[event] == EMPTY:
                rows.append((story.time[event], RESET, 0.0, 1, 0.0, 0.0, 0, -1))
            elif doses.implied[story.dose[event]] == 0:
                give(int(story.dose[event]), story.time[event])
        for p in range(points):
            place = (k * points + p) * size
            rows += [(times[k, p], OBSERVATION, 0.0, d + 1, 0.0, 0.0, 0, place + d) for d in range(size)]
    late = (written.subject[doses.record] == 0) & (doses.start > ends) & (clock.begins < 0)
    for dose in np.flatnonzero(late)[np.argsort(doses.start[late], kind="stable")]:
        give(int(dose), doses.start[dose])
    time, kind, amount, compartment, rate, interval, steady, place = np.array(rows, np.float64).T
    whole = {"kind": kind, "compartment": compartment, "steady": steady}
    columns = {name: column.astype(np.int64) for name, column in whole.items()}
    return columns | {"time": time, "amount": amount, "rate": rate, "interval": interval}, place.astype(np.int64)
