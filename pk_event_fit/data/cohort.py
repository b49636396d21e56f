"""What a fit sees of a cohort: subjects, and batches of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import store
from ..arrays.base import Array, Arrays
from ..dosing import Schedule
from ..errors import ConfigError
from ..intervals import Interval, Steady
from ..nonmem import Table
from ..table import entry


class Source(NamedTuple):
    """Where the observations of a table are found.

    Attributes:
        table: As it was read, its observations with the compartments that they are of.
        schedule: Its rows as intervals.
    """

    table: Table
    schedule: Schedule


class Cohort(NamedTuple):
    """Subjects with their doses and what was observed of them.

    Attributes:
        amounts: What was observed, mg, or mg/L where concentrations were, `[B, S, K, D]`, float64; NaN where nothing
            was.
        initial: Amounts before the first record, mg, `[B, D]`.
        intervals: Doses and clocks, leaves `[S, B, ...]`, float64.
        grid: Fractions of an interval at which it was observed, `[K]`; without meaning where `intervals` has `points`.
        times: The same as clock times, h, `[S, K]`; of a table, each subject's own, `[B, S, K]`.
        compartments: Their names, D of them.
        digest: SHA-256 of what is fitted: amounts, initial state, doses, durations.
        ignored: Doses of each subject that come after the end and change nothing.
        steady: Steady states that enter the intervals, or None.
        weights: How many observations each number of `amounts` is the mean of (of logarithms, where these are fitted),
            `[B, S, K, D]`; None for one each.
        table: The table it was read from, with its schedule, or None.
        covariates: Names of those in `intervals`, C of them, in their order.
        origin: Which subject each is a copy of, `[B]`; None where there are no copies.
        begun: How many doses begin in each interval, `[S, B, D]`; None where boluses and rising rates tell.
    """

    amounts: np.ndarray
    initial: np.ndarray
    intervals: Interval
    grid: np.ndarray
    times: np.ndarray
    compartments: tuple[str, ...]
    digest: str
    ignored: int = 0
    steady: Steady | None = None
    weights: np.ndarray | None = None
    table: Source | None = None
    covariates: tuple[str, ...] = ()
    origin: np.ndarray | None = None
    begun: np.ndarray | None = None

    @property
    def observed(self) -> np.ndarray:
        """`amounts` in the order of a prediction, `[S, K, B, D]`."""
        return np.ascontiguousarray(self.amounts.transpose(1, 2, 0, 3))

    def plot(self, predictor: Any = None, path: Any = None, **told: Any) -> Any:
        """A figure of what was observed, as points, and of what is predicted, as lines; see `report.cohorts.plot`."""
        from ..report.cohorts import plot  # here alone: whoever fits needs no matplotlib

        return plot(self, predictor, path, **told)

    def take(self, subjects: np.ndarray) -> Cohort:
        """Some of the subjects, in the order given."""
        table = self.intervals
        leaves = table._replace(points=None, drift=None)[1:]
        chosen = Interval(table.number, *(_of(leaf, subjects, 1) for leaf in leaves))
        steady = self.steady
        if steady is not None:
            cycle = Interval(steady.cycle.number, *(_of(leaf, subjects, 2) for leaf in steady.cycle[1:]))
            idle, still = (_of(leaf, subjects, 1) for leaf in (steady.idle, steady.still))
            steady = Steady(_of(steady.place, subjects, 2), idle, still, cycle)
        return self._replace(
            amounts=self.amounts[subjects],
            initial=self.initial[subjects],
            intervals=chosen._replace(points=_of(table.points, subjects, 2)),
            times=self.times if self.times.ndim == 2 else self.times[subjects],
            steady=steady,
            weights=_of(self.weights, subjects, 0),
            origin=_of(self.origin, subjects, 0),
            begun=_of(self.begun, subjects, 1),
        )


def begun(plan: Schedule) -> np.ndarray:
    """How many doses begin in each interval of a schedule, `[S, B, D]`: rates alone do not tell one from the next.

    A constant infusion that led to a steady state is one dose, though none of it is left.
    """
    clock = plan.clock
    found = np.zeros(plan.intervals.bolus.shape, np.int64)
    dose = np.flatnonzero((clock.begins >= 0) & (clock.doses.implied == 0) & (clock.doses.amount != 0))
    np.add.at(found, (clock.rows[clock.begins[dose]], *entry(clock, dose)), 1)
    endless = clock.records.interval[clock.steady] == 0
    row = clock.steady[endless]
    own = clock.records.subject[row], clock.records.compartment[row].astype(np.int64) - 1
    np.add.at(found, (clock.entered[endless], *own), 1)
    return found


def begun_by_rates(cohort: Cohort) -> np.ndarray:
    """Where a bolus is given or an infusion rate rises, `[S, B, D]`; back-to-back infusions are one."""
    table = cohort.intervals
    begins = table.bolus != 0
    if table.rate is None:
        return begins
    before = np.concatenate([np.zeros_like(table.rate[:1]), table.rate[:-1]])
    return begins | (table.rate > before)


def sealed(cohort: Cohort) -> Cohort:
    """A cohort that was made from another, with the digest of what is fitted of it."""
    arrays = {"amounts": np.nan_to_num(cohort.amounts), "seen": np.isfinite(cohort.amounts)}
    arrays |= {"initial": cohort.initial, "grid": cohort.grid, "weights": cohort.weights}
    arrays |= {f"table.{name}": leaf for name, leaf in cohort.intervals._asdict().items()}
    if cohort.steady is not None:
        arrays |= {"steady.place": cohort.steady.place}
        arrays |= {f"steady.{name}": leaf for name, leaf in cohort.steady.cycle._asdict().items()}
    return cohort._replace(digest=store.digest({name: leaf for name, leaf in arrays.items() if leaf is not None}))


def _of(leaf, subjects: np.ndarray, axis: int):
    return None if leaf is None else np.take(leaf, subjects, axis)


def batches(subjects: int, size: int | None, seed: int) -> Callable[[int], np.ndarray]:
    """Which subjects the iteration of a number (from 1) takes: a new order each epoch, what is left over is left out.

    Raises:
        ConfigError: A batch is larger than the cohort.
    """
    if size is None:
        return lambda iteration: np.arange(subjects)
    if size > subjects:
        raise ConfigError(f"training.batch_size={size}: the cohort has {subjects} subjects")
    count = subjects // size

    def select(iteration: int) -> np.ndarray:
        epoch, batch = divmod(iteration - 1, count)
        order = np.random.Generator(np.random.PCG64([seed, 2, epoch])).permutation(subjects)
        return order[batch * size : (batch + 1) * size]

    return select


class Batch(NamedTuple):
    """Subjects as a loss takes them, in an array library.

    Attributes:
        initial: Amounts before the first record, mg, `[B, D]`.
        intervals: Doses and clocks.
        observed: `[S, K, B, D]`; 0 where nothing was observed.
        steady: Steady states that enter the intervals, or None.
        weights: How often each number of `observed` counts, likewise; None for once.
    """

    initial: Array
    intervals: Any
    observed: Array
    steady: Any = None
    weights: Array = None


def batch_of(arrays: Arrays, cohort: Cohort, subjects: np.ndarray | None) -> Batch:
    """Some of the subjects, or all."""
    chosen = cohort if subjects is None else cohort.take(subjects)
    weights = None if chosen.weights is None else chosen.weights.transpose(1, 2, 0, 3)
    observed = chosen.observed if weights is None else np.nan_to_num(chosen.observed)
    return arrays.table(Batch(chosen.initial, chosen.intervals, observed, chosen.steady, weights))
