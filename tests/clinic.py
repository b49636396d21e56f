"""The oracle of dosing histories: one subject with linear kinetics, one record after another. Slow and plain.

What is still to come waits in a priority queue. It shares no code with what it checks, and uses other mathematics: a
steady state is the sum of all earlier doses, each followed on its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import mpmath
import numpy as np
from scipy.linalg import expm

OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)  # EVID
MODELLED_RATE, MODELLED_DURATION = -1, -2  # RATE


class Row(NamedTuple):
    """A record.

    Attributes:
        time: TIME, h.
        kind: EVID.
        amount: AMT, mg.
        compartment: CMT, from 1.
        rate: RATE, mg/h: 0 bolus, above 0 an infusion, -1 modelled rate, -2 modelled duration.
        additional: ADDL.
        interval: II, h.
        steady: SS.
        used: Whether DV counts.
        covariate: Whatever the model's `matrix` takes.
    """

    time: float
    kind: int = OBSERVATION
    amount: float = 0.0
    compartment: int = 1
    rate: float = 0.0
    additional: int = 0
    interval: float = 0.0
    steady: int = 0
    used: bool = False
    covariate: Any = 1.0


class Model(NamedTuple):
    """dy/dt = M y + rate, amounts in mg, D compartments.

    Attributes:
        matrix: From a covariate to M, 1/h, `[D, D]`.
        bioavailability: F of each compartment, `[D]`.
        lag: ALAG of each compartment, h, `[D]`.
        modelled_rate: R of each compartment, mg/h, `[D]`, for RATE -1; or None.
        modelled_duration: D of each compartment, h, `[D]`, for RATE -2; or None.
    """

    matrix: Callable[[Any], np.ndarray]
    bioavailability: Sequence[float]
    lag: Sequence[float]
    modelled_rate: Sequence[float] | None = None
    modelled_duration: Sequence[float] | None = None


class Given(NamedTuple):
    """What one dose brings: a bolus in mg, or a rate in mg/h for some hours; what it is not is 0."""

    bolus: float
    rate: float
    hours: float


class _Running(NamedTuple):
    """An infusion that runs until `end`; of which row, and which of its doses; below 0, one implied by SS."""

    end: float
    origin: int
    repeat: int
    site: int
    rate: float


class _Waiting(NamedTuple):
    """A dose still to come, or the reset before one; `order` keeps those of one time in the order they were planned."""

    time: float
    order: int
    origin: int
    repeat: int
    row: Row
    resets: bool


def simulate(
    rows: Sequence[Row],
    model: Model,
    initial: Sequence[float] | None = None,
    *,
    start: float | None = None,
    digits: int | None = None,
) -> np.ndarray:
    """The state at each row, after the row was processed.

    Args:
        rows: One subject's, in file order.
        initial: Amounts at `start`, mg, `[D]`; None for an empty body.
        start: h; None for the first row's time.
        digits: Decimal digits to compute states in, by mpmath; None for float64. Times stay float64.

    Returns:
        Amounts in mg, `[len(rows), D]`, float64.

    Raises:
        ValueError: A time lies before the one before it, or a steady state is impossible.
    """
    size = len(model.bioavailability)
    if not rows:
        return np.zeros((0, size))
    state = np.zeros(size) if initial is None else np.array(initial, np.float64)
    states = []
    with nullcontext() if digits is None else mpmath.workdps(digits):
        body = _Body(model, state, rows[0].time if start is None else start, digits)
        for number, row in enumerate(rows):
            body.reach(row)
            body.take(number, row)
            states.append([float(amount) for amount in body.state])
    return np.array(states)


def same(one: float, other: float) -> bool:
    """Whether two times are one: within 4 ULP of the larger."""
    return bool(abs(one - other) <= 4 * np.spacing(max(abs(one), abs(other))))


def given(row: Row, model: Model, time: float) -> Given:
    """What one dose of a row brings where it acts at `time`, h."""
    site = row.compartment - 1
    amount = model.bioavailability[site] * row.amount
    if row.rate == 0:
        return Given(amount, 0.0, 0.0)
    if row.rate == MODELLED_DURATION:
        hours = model.modelled_duration[site]
        rate = amount / hours if hours > 0 else 0.0
    else:
        rate = model.modelled_rate[site] if row.rate == MODELLED_RATE else row.rate
        hours = amount / rate
    return Given(amount, 0.0, 0.0) if same(time, time + hours) else Given(0.0, rate, hours)


class _Body:
    """The state at `clock`, what runs into it and what waits."""

    def __init__(self, model: Model, state: np.ndarray, clock: float, digits: int | None):
        self.model, self.state, self.clock, self.digits = model, state, clock, digits
        self.running: list[_Running] = []
        self.waiting: list[_Waiting] = []
        self.planned = 0

    def reach(self, row: Row) -> None:
        """Go to a row's time, through all that is due by then. The row's own covariate holds on the way."""
        if row.time < self.clock and not same(row.time, self.clock):
            raise ValueError(f"time {row.time} comes after {self.clock}")
        matrix = self.model.matrix(row.covariate)
        while self.waiting:
            due = self.waiting[0].time
            first = self.clock if same(self.clock, row.time) else row.time
            if due > row.time and not same(due, first):
                break
            self.flow(min(due, row.time), matrix)
            self.act(heapq.heappop(self.waiting))
        self.flow(row.time, matrix)

    def flow(self, to: float, matrix: np.ndarray) -> None:
        """Go to a time, cut where an infusion ends. Of times that are one, the clock stays at the first."""
        while not same(to, self.clock):
            self.running = [
                entry for entry in self.running if entry.end > self.clock and not same(entry.end, self.clock)
            ]
            stop = min([to, *(entry.end for entry in self.running)])
            if same(stop, to):
                stop = to
            rate = np.zeros(len(self.state))
            for entry in self.running:
                rate[entry.site] += entry.rate
            self.state = _propagate(matrix, rate, stop - self.clock, self.state, self.digits)
            self.clock = stop

    def take(self, origin: int, row: Row) -> None:
        """Process a row at its time."""
        if row.kind in (RESET, RESET_AND_DOSE):
            self.reset()
        if row.kind not in (DOSE, RESET_AND_DOSE):
            return
        if row.steady and row.interval == 0:
            self.hold(row)
            return
        if row.steady:
            self.settle(origin, row)
        begin = row.time + self.model.lag[row.compartment - 1]
        for repeat in range(row.additional + 1):
            if repeat and row.kind == RESET_AND_DOSE:
                self.plan(row.time + repeat * row.interval, origin, repeat, row, resets=True)
            self.plan(begin + repeat * row.interval, origin, repeat, row)

    def plan(self, time: float, origin: int, repeat: int, row: Row, *, resets: bool = False) -> None:
        """Let a dose wait; one at its own row's time acts with the row."""
        entry = _Waiting(time, self.planned, origin, repeat, row, resets)
        self.planned += 1
        if same(time, row.time):
            self.act(entry)
        else:
            heapq.heappush(self.waiting, entry)

    def act(self, entry: _Waiting) -> None:
        """Give a dose that is due, or do the reset that comes before it."""
        if entry.resets:
            self.reset(entry.origin, entry.repeat)
            return
        site = entry.row.compartment - 1
        dose = given(entry.row, self.model, entry.time)
        self.state = self.state + dose.bolus * np.eye(len(self.state))[site]
        if dose.hours:
            self.running.append(_Running(entry.time + dose.hours, entry.origin, entry.repeat, site, dose.rate))

    def reset(self, origin: int | None = None, repeat: int = 0) -> None:
        """Empty every compartment, stop and cancel everything but a row's own doses from `repeat` on."""
        self.state = np.zeros(len(self.state))
        self.running = [entry for entry in self.running if entry.origin == origin and entry.repeat >= repeat]
        self.waiting = [entry for entry in self.waiting if entry.origin == origin and entry.repeat >= repeat]
        heapq.heapify(self.waiting)

    def hold(self, row: Row) -> None:
        """The equilibrium of an infusion that has run for ever, and ends now."""
        if row.amount != 0 or not (row.rate > 0 or row.rate == MODELLED_RATE):
            raise ValueError(f"time {row.time}: SS with II 0 needs AMT 0 and a rate")
        site = row.compartment - 1
        rate = self.model.modelled_rate[site] if row.rate == MODELLED_RATE else row.rate
        if row.steady == 1:
            self.reset()
        inflow = rate * np.eye(len(self.state))[site]
        self.state = self.state + _solve(-self.model.matrix(row.covariate), inflow, self.digits)

    def settle(self, origin: int, row: Row) -> None:
        """What all doses before this one, an interval apart since ever, have left; those still running go on.

        Dose k before it began `k * interval - lag` h ago. Those that no longer run left a geometric series: each has
        exp(M interval) times what is left of the dose after it.
        """
        site, every = row.compartment - 1, row.interval
        lag = self.model.lag[site]
        if lag > every and not same(lag, every):
            raise ValueError(f"time {row.time}: lag {lag} h is longer than II {every} h")
        if row.steady == 1:
            self.reset()
        matrix = self.model.matrix(row.covariate)
        dose = given(row, self.model, row.time + lag)
        k = 1
        while (age := max(k * every - lag, 0.0)) < dose.hours:
            self.state = self.state + _left(matrix, dose, site, age, self.digits)
            self.running.append(_Running(row.time + lag - k * every + dose.hours, origin, -k, site, dose.rate))
            k += 1
        rest = np.eye(len(matrix)) - _expm(matrix, every, self.digits)
        self.state = self.state + _solve(rest, _left(matrix, dose, site, age, self.digits), self.digits)


def _left(matrix: np.ndarray, dose: Given, site: int, age: float, digits: int | None) -> np.ndarray:
    """What a single dose has left `age` hours after it began in an empty body, `[D]`."""
    unit = np.eye(len(matrix))[site]
    on = min(age, dose.hours)
    state = _propagate(matrix, dose.rate * unit, on, dose.bolus * unit, digits)
    return _propagate(matrix, 0 * unit, age - on, state, digits)


def _propagate(matrix: np.ndarray, rate: np.ndarray, hours: float, state: np.ndarray, digits: int | None) -> np.ndarray:
    """The state after some hours of dy/dt = M y + rate, by the exponential of [[M, rate], [0, 0]]."""
    if hours == 0:
        return state
    size = len(state)
    peak = float(abs(rate).max()) or 1.0  # a rate far above the other entries would cost the exponential its digits
    augmented = np.zeros((size + 1, size + 1))
    augmented[:size, :size] = matrix
    augmented[:size, size] = rate / peak
    return (_expm(augmented, hours, digits) @ np.append(state, peak))[:size]


def _expm(matrix: np.ndarray, hours: float, digits: int | None) -> np.ndarray:
    if digits is None:
        return expm(matrix * hours)
    return np.array(mpmath.expm(mpmath.matrix(matrix.tolist()) * mpmath.mpf(hours)).tolist(), object)


def _solve(matrix: np.ndarray, vector: np.ndarray, digits: int | None) -> np.ndarray:
    if digits is None:
        return np.linalg.solve(matrix, vector)
    found = mpmath.lu_solve(mpmath.matrix(matrix.tolist()), mpmath.matrix(vector.tolist()))
    return np.array(list(found), object)
