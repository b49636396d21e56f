"""Known kinetics along a schedule, in float64, one subject after another: what a dosing history means.

Linear kinetics are followed by the matrix exponential, others by SciPy's DOP853 (Hairer, Nørsett & Wanner, Solving
Ordinary Differential Equations I, 2nd ed. 1993, chapter II).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from ..compartments import Kinetics, advance
from ..dosing import Schedule, schedule
from ..errors import ConfigError, SolverFailure
from ..frameworks.base import Interval
from ..table import entry
from .times import ends_of, times_of

EPS = float(np.finfo(np.float64).eps)
RTOL, ATOL = 1e-10, 1e-12  # of kinetics that are not linear; the absolute one as a share of the largest dose
SETTLED, CYCLES = 1e-9, 10_000  # a steady state changes less than that share in a cycle; cycles tried at most


class Curve(NamedTuple):
    """Amounts along time, `[Q]`, by subject and then time; both sides of each jump.

    Attributes:
        plan: The schedule that was followed.
        subject: Whose.
        time: h.
        side: `pre` or `post` where the state jumps at that time, else empty.
        amounts: mg, `[Q, D]`.
        ends: End of each subject's time, h, `[B]`.
    """

    plan: Schedule
    subject: np.ndarray
    time: np.ndarray
    side: np.ndarray
    amounts: np.ndarray
    ends: np.ndarray


def curve(kinetics: Kinetics, parameters: np.ndarray, histories: Any, *, points: int = 400, **options: Any) -> Curve:
    """Follow histories at times spread evenly over each subject's time, at all that happens, and at observations.

    Args:
        kinetics: The model.
        parameters: `[P]`, or `[B, P]`.
        histories: Records, or events of each subject, as `dosing.schedule` takes them.
        points: How many times are spread evenly, both ends included; 2 or more.
        options: Of `dosing.schedule`, but `compartments`, `times` and `side`.

    Raises:
        ScheduleError: As `dosing.schedule` does.
        ConfigError, SolverFailure: As `follow` does.
    """
    options = {**options, "compartments": len(kinetics.compartments)}
    rough = schedule(histories, **options)
    times, counts = times_of(rough, points)
    plan = schedule(histories, **options, times=times, side="both")
    where, states = plan.reports, follow(kinetics, parameters, plan)
    # Times asked for come before the observations: by subject, time and side. Where nothing jumps, the sides are one.
    sides = where.side[: 2 * times.size].reshape(*times.shape, 2)
    wanted = np.arange(times.shape[1]) < counts[:, None]
    kept = np.flatnonzero(np.stack([wanted & (sides[..., 0] != ""), wanted], -1))
    return Curve(plan, where.subject[kept], where.time[kept], where.side[kept], states[kept], ends_of(plan))


def given(found: Curve) -> np.ndarray:
    """Each dose that arrives in time: subject, compartment (from 0), begin and end (h), amount (mg), `[M, 5]`.

    A bolus ends when it begins. Infusions that a steady state implies have no amount (NaN).
    """
    clock = found.plan.clock
    doses, story = clock.doses, clock.events
    dose = np.flatnonzero(clock.begins >= 0)
    subject, compartment = entry(clock, dose)
    begin, stops, infused = story.time[clock.begins[dose]], clock.stops[dose], doses.rate[dose] > 0
    end = np.where(infused, np.where(stops >= 0, story.time[stops], found.ends[subject]), begin)
    amount = np.where(doses.implied[dose] > 0, np.nan, doses.amount[dose])
    return np.stack([subject, compartment, begin, end, amount], -1)[~infused | (end > begin)]


def follow(kinetics: Kinetics, parameters: np.ndarray, plan: Schedule, initial: np.ndarray | None = None) -> np.ndarray:
    """Amounts at every report of a schedule: exact for linear kinetics, else by DOP853 at a tolerance of 1e-10.

    A steady state is the fixed point of its cycle: solved for where the kinetics are linear, else found by going
    through the cycle until it changes by less than 1e-9 of the largest amount.

    Args:
        kinetics: The model.
        parameters: `[P]`, or `[B, P]`; they hold throughout, whatever covariates the schedule has.
        plan: From `dosing.schedule`.
        initial: Amounts before anything happens, mg, `[D]` or `[B, D]`; None for the state at rest.

    Returns:
        mg, `[Q, D]`, in the order of `plan.reports`.

    Raises:
        ConfigError: A shape is wrong, the parameters are impossible, or what is dosed for ever has no steady state.
        SolverFailure: A solve did not end, or no steady state was reached in 10,000 cycles.
    """
    table, where = plan.intervals, plan.reports
    count, size = table.bolus.shape[1:]
    if size != (own := len(kinetics.compartments)):
        raise ConfigError(f"kinetics={kinetics.name}: has {own} compartments; the schedule has {size}")
    values = _spread("parameters", kinetics.checked(parameters), (count, len(kinetics.parameters)))
    begin = kinetics.resting(values) if initial is None else _spread("initial", initial, (count, size))
    states = np.zeros((len(where.time), size))
    if table.points is None:
        return states
    for number in range(count):
        subject = _Subject(kinetics, values[number], number, ATOL * (_largest(plan, number, begin[number]) or 1.0))
        chosen = where.subject == number
        places = where.interval[chosen], where.point[chosen]
        states[chosen] = _followed(subject, plan, begin[number])[places]
    return states


def along(
    kinetics: Kinetics, parameters: np.ndarray, plan: Schedule, fractions: np.ndarray, initial: np.ndarray | None = None
) -> np.ndarray:
    """Amounts along every interval, mg, `[B, S, K, D]`; see `follow`.

    Args:
        kinetics: The model.
        parameters: `[B, P]`.
        plan: From `dosing.schedule`.
        fractions: Of an interval, increasing, first 0, last 1, `[K]`.
        initial: Amounts before anything happens, mg, `[B, D]`; None for the state at rest.

    Raises:
        ConfigError, SolverFailure: As `follow` does.
    """
    table = plan.intervals
    points = np.broadcast_to(fractions[None, :, None], (len(table.start), len(fractions), table.start.shape[1]))
    plan, values = plan._replace(intervals=table._replace(points=points)), kinetics.checked(parameters)
    begin = kinetics.resting(values) if initial is None else initial
    return np.stack([
        _followed(_Subject(kinetics, values[b], b, ATOL * (_largest(plan, b, begin[b]) or 1.0)), plan, begin[b])
        for b in range(len(values))
    ])  # fmt: skip


class _Subject(NamedTuple):
    """One subject's kinetics: their parameters, `[P]`, its number, and the absolute tolerance of its solves, mg."""

    kinetics: Kinetics
    values: np.ndarray
    number: int
    floor: float

    def after(self, y: np.ndarray, hours: np.ndarray, rate: np.ndarray, **place: Any) -> np.ndarray:
        """Amounts `[K, D]` at `hours`, which increase and end above 0, of infusions at `rate`, mg/h, `[D]`.

        Raises:
            SolverFailure: The end was not reached; `place` says where that was.
        """
        if self.kinetics.linear:
            return advance(self.kinetics, self.values, y, hours, rate)

        def field(t: float, y: np.ndarray) -> np.ndarray:
            return self.kinetics(np, {}, None, y, self.values) + rate

        # SciPy would look for a first step for ever.
        if not np.isfinite(field(0.0, y)).all():
            raise SolverFailure("simulate", "the field is not finite", subject=self.number, **place)
        found = solve_ivp(field, (0.0, hours[-1]), y, "DOP853", t_eval=hours, rtol=RTOL, atol=self.floor)
        if not found.success:
            raise SolverFailure("simulate", found.message, subject=self.number, **place)
        return found.y.T


def _followed(subject: _Subject, plan: Schedule, y: np.ndarray) -> np.ndarray:
    """Amounts of one subject at the report points of every interval, `[S, K, D]`."""
    table, number = plan.intervals, subject.number
    entering, idle = _entering(subject, plan), np.zeros(len(y))
    found = np.empty((*table.points.shape[:2], len(y)))
    for k in range(len(table.start)):
        kept = y if table.keep is None else table.keep[k, number] * y
        y = kept + table.bolus[k, number] + entering[k]
        found[k] = y
        if (duration := table.duration[k, number]) > 0:
            rate = idle if table.rate is None else table.rate[k, number]
            # Intervals with fewer reports than others have their end several times.
            hours, which = np.unique(table.points[k, :, number] * duration, return_inverse=True)
            found[k] = subject.after(y, hours, rate, interval=k, t=float(table.start[k, number]))[which]
            found[k, 0] = y
        y = found[k, -1]
    return found


def _entering(subject: _Subject, plan: Schedule) -> np.ndarray:
    """Steady states that enter each interval, mg, `[S, D]`."""
    steady, number = plan.steady, subject.number
    entering = np.zeros_like(plan.intervals.bolus[:, number])
    if steady is None:
        return entering
    cycle = steady.cycle
    for slot in np.flatnonzero(steady.idle[:, number] == 0):
        bolus = cycle.bolus[:, slot, number]
        rate = np.zeros_like(bolus) if cycle.rate is None else cycle.rate[:, slot, number]
        state = _settled(subject, cycle.duration[:, slot, number], bolus, rate)
        entering += steady.place[slot, :, number, None] * state
    return entering


def _settled(subject: _Subject, duration: np.ndarray, bolus: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """What a cycle repeated for ever leads to, mg, `[D]`; its segments have durations `[M]` and doses `[M, D]`."""

    def around(y: np.ndarray) -> np.ndarray:
        for hours, dose, infused in zip(duration, bolus, rate, strict=True):
            y = y + dose
            if hours > 0:
                y = subject.after(y, np.array([hours]), infused)[-1]
        return y

    kinetics, values = subject.kinetics, subject.values
    total = bolus.sum(0) + duration @ rate  # mg in a cycle, [D]
    if kinetics.linear:
        return _fixed_point(kinetics, values, around, duration.sum(), total)
    if "vmax" in kinetics.parameters:
        most, mean = values[kinetics.parameters.index("vmax")], total.sum() / duration.sum()
        kinetics.refuse(np.asarray(mean >= most), values, f"there is no steady state where {mean:g} mg/h are given")
    y = kinetics.resting(values)
    for _ in range(CYCLES):
        before, y = y, around(y)
        if np.abs(y - before).max() <= SETTLED * max(np.abs(y).max(), subject.floor / ATOL):
            return y
    raise SolverFailure("simulate", f"no steady state was reached in {CYCLES} cycles", subject=subject.number)


def _fixed_point(
    kinetics: Kinetics, values: np.ndarray, around: Callable, hours: float, total: np.ndarray
) -> np.ndarray:
    """y = exp(A h) y + c, where c is what one cycle of h hours makes of an empty body; what no dose reaches is empty.

    Raises:
        ConfigError: Some of what is given never leaves.
    """
    matrix = kinetics.rate_matrix(values)
    state, reached = np.zeros(len(matrix)), total > 0
    for _ in range(len(matrix)):
        reached = reached | ((matrix != 0) & reached).any(1)
    if not reached.any():
        return state
    own = np.ix_(reached, reached)
    # Eigenvalues come out wrong by a few rounding errors of the largest rate: those nearer to 0 may as well be 0.
    kept = np.linalg.eigvals(matrix[own]).real.max() >= -64 * EPS * np.abs(matrix[own]).sum(0).max()
    kinetics.refuse(np.asarray(kept), values, "what is dosed is not all eliminated, so that there is no steady state")
    # `advance` takes states as rows: those of the unit vectors are the columns of the exponential.
    carried = advance(kinetics, values, np.eye(len(matrix)), hours).T[own]
    state[reached] = np.linalg.solve(np.eye(len(carried)) - carried, around(state)[reached])
    return state


def _largest(plan: Schedule, number: int, y: np.ndarray) -> float:
    """The largest amount that a subject has at first or is given at once or in one stretch, mg."""

    def most(table: Interval) -> float:
        bolus = np.abs(table.bolus[..., number, :]).max(initial=0.0)
        if table.rate is None:
            return bolus
        return max(bolus, np.abs(table.rate[..., number, :] * table.duration[..., number, None]).max(initial=0.0))

    tables = [plan.intervals] if plan.steady is None else [plan.intervals, plan.steady.cycle]
    return float(max(np.abs(y).max(), *map(most, tables)))


def _spread(name: str, value: Any, shape: tuple[int, int]) -> np.ndarray:
    array = np.asarray(value, np.float64)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ConfigError(f"{name}: has shape {list(array.shape)}; needs [{shape[1]}] or {list(shape)}") from None
