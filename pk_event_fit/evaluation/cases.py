"""The subjects of an evaluation: their cohort, their doses, and who of them was fitted."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import NamedTuple

import numpy as np

from .. import data
from ..data import Cohort, Data
from ..data.grids import planned_grid
from ..dosing import Schedule
from ..errors import ConfigError
from ..simulate import Design
from ..simulate.times import ends_of
from ..table import entry
from .runs import Run


class Given(NamedTuple):
    """Doses that arrive, `[M]`, by subject and then time.

    Attributes:
        subject: To whom.
        compartment: Where, from 0.
        begin: h.
        end: h; of a bolus its begin.
        amount: mg; NaN for what an infusion implied by a steady state still gives.
        steady: Whether it is one of a steady state.
        tau: Interval of that, h; NaN where it is none.
    """

    subject: np.ndarray
    compartment: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    amount: np.ndarray
    steady: np.ndarray
    tau: np.ndarray

    def of(self, subject: int) -> Given:
        """Those of one subject."""
        return Given(*(leaf[self.subject == subject] for leaf in self))


class Case(NamedTuple):
    """A cohort to evaluate on.

    Attributes:
        settings: Of its data.
        cohort: Doses and observations.
        given: Its doses as they arrive.
        labels: What its subjects are called, B of them.
        parts: Subjects by what the run did with them: `train`, `validation`, `test`, or `other` where the run did not
            have them.
        own: Whether these are the data of the run itself.
        times: Of `cohort.amounts`, h, `[B, S, K]`.
        after: The same after the last dose before, NaN where there is none.
        seen: `cohort.amounts` without what the run was to foretell, `[B, S, K, D]`; None where that is nothing.
    """

    settings: Data
    cohort: Cohort
    given: Given
    labels: tuple[str, ...]
    parts: dict[str, np.ndarray]
    own: bool
    times: np.ndarray
    after: np.ndarray
    seen: np.ndarray | None = None


def load(run: Run, settings: Data) -> Case:
    """The case that settings ask for, as `suited`.

    Raises:
        ConfigError: The data have another number of compartments than the run.
        DataError, ScheduleError: As `data.load`.
    """
    if settings.tabular:
        cohort = data.load(settings)
        source = cohort.table
        if source is None:
            raise ConfigError(f"data.source={settings.source}: is no table")
        plan, labels = source.schedule, source.table.ids
    else:
        cohort, plan = planned_grid(settings)
        labels = tuple(str(k) for k in range(len(cohort.amounts)))
    if len(cohort.compartments) != run.width:
        raise ConfigError(f"data: have {len(cohort.compartments)} compartments, and the run {run.width}")
    doses = given(plan)
    times, after = clock_times(cohort, doses)
    own = same(run.config.data, settings)
    if settings.source != "simulated":  # a file may have been replaced
        own = own and run.digest in (None, cohort.digest)
    seen = data.forecast(cohort, settings.forecast).amounts if own and settings.forecast is not None else None
    return Case(settings, cohort, doses, labels, _parts(run, settings, cohort, own), own, times, after, seen)


def same(one: Data, other: Data) -> bool:
    """Whether settings are the same, NaN and all."""
    first, second = (json.dumps(asdict(settings), sort_keys=True) for settings in (one, other))
    return first == second


def _parts(run: Run, settings: Data, cohort: Cohort, own: bool) -> dict[str, np.ndarray]:
    """Under other doses subjects are still those that were fitted, or held out."""
    if not own and not _same_subjects(run.config.data, settings):
        return {"other": np.arange(len(cohort.amounts))}
    left, test = data.split(cohort, settings)
    train, validation = data.judges(left, settings, cohort)
    parts = {"train": train, "validation": validation, "test": test}
    return {name: who for name, who in parts.items() if len(who)}


def _same_subjects(own: Data, settings: Data) -> bool:
    """Whether simulated subjects are the same ones, dosed or observed otherwise."""
    if not own.source == settings.source == "simulated":
        return False
    names = [one.name for one in fields(Design)] + ["noise_sd", "path", "forecast", "augment"]
    return same(replace(own, **{name: getattr(settings, name) for name in names}), settings)


def given(plan: Schedule) -> Given:
    """The doses of a schedule that arrive in time; see `simulate.exact.given`."""
    clock = plan.clock
    story, doses, rows = clock.events, clock.doses, clock.records
    dose = np.flatnonzero(clock.begins >= 0)
    subject, compartment = entry(clock, dose)
    begin, stops, infused = story.time[clock.begins[dose]], clock.stops[dose], doses.rate[dose] > 0
    end = np.where(infused, np.where(stops >= 0, story.time[stops], ends_of(plan)[subject]), begin)
    amount = np.where(doses.implied[dose] > 0, np.nan, doses.amount[dose])
    steady = rows.steady[doses.record[dose]] == 1
    tau = np.where(steady, rows.interval[doses.record[dose]], np.nan)
    found = Given(subject, compartment, begin, end, amount, steady, tau)
    order = np.lexsort((begin, subject))
    keep = order[(~infused | (end > begin))[order]]
    return Given(*(leaf[keep] for leaf in found))


def clock_times(cohort: Cohort, doses: Given) -> tuple[np.ndarray, np.ndarray]:
    """Times of what was observed, and the same after the last dose before, h, `[B, S, K]`.

    The end of an interval is the start of the next to the bit, and still before the dose there.
    """
    table = cohort.intervals
    start, duration = table.start.T[..., None], table.duration.T[..., None]
    fractions = cohort.grid if table.points is None else table.points.transpose(2, 0, 1)
    follows = np.concatenate([start[:, 1:], start[:, -1:] + duration[:, -1:]], 1)
    times = np.where(fractions == 1, follows, start + fractions * duration)
    after = np.full(times.shape, np.nan)
    for subject in np.unique(doses.subject):
        begins = np.unique(doses.of(int(subject)).begin)
        last = np.searchsorted(begins, start[subject, :, 0], side="right") - 1
        found = times[subject] - begins[np.maximum(last, 0)][:, None]
        after[subject] = np.where(last[:, None] >= 0, found, np.nan)
    return times, after
