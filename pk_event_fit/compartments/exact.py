"""Exact solutions of linear kinetics, in NumPy and float64: between doses by a matrix exponential, and steady states.

Sources: Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, chapter 3 (repeated doses); Van Loan, IEEE Trans. Autom.
Control 23 (1978) 395 (a matrix exponential and its integral at once).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm

from ..errors import ScheduleError
from .models import TWO, Kinetics

EPS = float(np.finfo(np.float64).eps)


def rate_matrix(parameters: np.ndarray, kinetics: Kinetics = TWO) -> np.ndarray:
    """The matrix A of dy/dt = A y, 1/h, `[..., P]` to `[..., D, D]`."""
    return kinetics.rate_matrix(parameters)


def propagators(parameters: np.ndarray, times: np.ndarray, kinetics: Kinetics = TWO) -> np.ndarray:
    """Matrix exponentials that take amounts over `times` hours: `[B, P]` and `[K]` to `[B, K, D, D]`."""
    return expm(rate_matrix(parameters, kinetics)[:, None] * np.asarray(times, np.float64)[:, None, None])


def advance(kinetics: Kinetics, parameters: np.ndarray, y, duration, rate=None) -> np.ndarray:
    """Amounts after a while without a bolus; exact also where nothing is eliminated.

    Args:
        kinetics: A linear model.
        parameters: `[..., P]`.
        y: Amounts at its start, mg, `[..., D]`.
        duration: h, `[...]`.
        rate: Infusion rates that hold throughout, mg/h, `[..., D]`; None for none.

    Returns:
        mg, `[..., D]`. All leading axes broadcast.

    Raises:
        ConfigError: The model is not linear, or its parameters are impossible.
    """
    rate = np.zeros(len(kinetics.compartments)) if rate is None else rate
    return _advanced(kinetics.rate_matrix(parameters), y, duration, rate)


def steady_state(
    kinetics: Kinetics, parameters: np.ndarray, *, compartment: int = 1, amount=0.0, interval=0.0, rate=0.0, phase=None
) -> np.ndarray:
    """Amounts once a dose has been repeated for ever, `[..., D]` in mg, or an infusion has gone on for ever.

    All but `compartment` is of shape `[...]` and broadcasts. What the doses do not reach is empty.

    Args:
        kinetics: A linear model.
        parameters: `[..., P]`.
        compartment: Where the doses enter, from 1.
        amount: Of each dose, mg; 0 for an infusion without end.
        interval: From dose to dose, h; 0 for an infusion without end.
        rate: mg/h; 0 for a bolus. An infusion lasts `amount / rate`, which may be longer than the interval.
        phase: h since the last dose: from 0, just after it, to the interval, just before the next; None for the latter.
            It means nothing to an infusion without end.

    Raises:
        ConfigError: The model is not linear, or what is dosed is not all eliminated, so that there is no steady state.
        ScheduleError: The compartment does not exist, or amount, interval, rate and phase are impossible.
    """
    values, size = kinetics.checked(parameters), len(kinetics.compartments)
    if compartment not in range(1, size + 1):
        raise ScheduleError(f"steady state, compartment {compartment}: {kinetics.name} has 1 to {size}")
    amount, interval, rate, _ = np.broadcast_arrays(*_course(amount, interval, rate, phase), values[..., 0])
    matrix = _eliminating(kinetics, values, int(compartment) - 1)
    into = np.eye(size)[int(compartment) - 1]
    if not interval.any():
        return np.linalg.solve(matrix, -(rate[..., None] * into)[..., None])[..., 0]
    cycle = _cycle(matrix, into, amount, interval, rate)
    carry, _ = _flows(matrix, interval)
    before = np.linalg.solve(np.eye(size) - carry, cycle(np.zeros(size), interval)[..., None])[..., 0]
    return before if phase is None else cycle(before, np.asarray(phase, np.float64))


def _course(amount, interval, rate, phase) -> list[np.ndarray]:
    """Amount, interval and rate as float64.

    Raises:
        ScheduleError: They, or the phase, are impossible.
    """
    arrays = []
    for name, value, unit in (("amount", amount, "mg"), ("interval", interval, "h"), ("rate", rate, "mg/h")):
        array = np.asarray(value, np.float64)
        if (bad := ~((array >= 0) & (array < np.inf))).any():
            raise ScheduleError(f"steady state, {name} {array[bad][0]} {unit}: must be 0 or more, and finite")
        arrays.append(array)
    amount, interval, rate = arrays
    endless, told = interval == 0, f"steady state, amount {amount} mg, interval {interval} h, rate {rate} mg/h: "
    if endless.any() and not endless.all():
        raise ScheduleError(f"{told}infusions without end, of interval 0, need a call of their own")
    if endless.any() and ((amount > 0) | (rate == 0)).any():
        raise ScheduleError(f"{told}a dose needs an interval above 0; an infusion without end needs a rate, no amount")
    if not endless.any() and ((amount == 0) & (rate > 0)).any():
        raise ScheduleError(f"{told}an infusion needs an amount; or, to be without end, the interval 0")
    if phase is not None and not endless.any() and not ((np.asarray(phase) >= 0) & (phase <= interval)).all():
        raise ScheduleError(f"{told}phase {phase} h must be 0 to the interval")
    return arrays


def _cycle(matrix: np.ndarray, into: np.ndarray, amount: np.ndarray, interval: np.ndarray, rate: np.ndarray):
    """`cycle(y, hours)`: amounts so long after a dose that finds `y`, while infusions of earlier ones go on.

    Infusions of n intervals and a rest run n + 1 at once during the rest, and n from there to the next dose.
    """
    duration = np.divide(amount, rate, out=np.zeros(amount.shape), where=rate > 0)
    whole = np.floor(duration / interval)
    rest = np.clip(duration - whole * interval, 0, interval)
    bolus = np.where(rate > 0, 0.0, amount)[..., None] * into
    more, fewer = ((n * rate)[..., None] * into for n in (whole + 1, whole))

    def cycle(y, hours):
        first = np.minimum(hours, rest)
        return _advanced(matrix, _advanced(matrix, y + bolus, first, more), hours - first, fewer)

    return cycle


def _advanced(matrix: np.ndarray, y, hours, rate) -> np.ndarray:
    carry, gain = _flows(matrix, hours)
    return (carry @ np.asarray(y, np.float64)[..., None] + gain @ np.asarray(rate, np.float64)[..., None])[..., 0]


def _flows(matrix: np.ndarray, hours) -> tuple[np.ndarray, np.ndarray]:
    """exp(A t) and its integral from 0 to t, in h, both `[..., D, D]`: without an inverse, which A need not have."""
    hours, size = np.asarray(hours, np.float64)[..., None, None], matrix.shape[-1]
    # Not below 3: SciPy before 1.13 has a formula for 2 x 2 in which exp(-x) cosh(x) becomes 0 times infinity.
    wide = max(2 * size, 3)
    block = np.zeros((*np.broadcast_shapes(matrix.shape, hours.shape)[:-2], wide, wide))
    block[..., :size, :size] = matrix * hours
    block[..., :size, size : 2 * size] = np.eye(size)
    top = expm(block)[..., :size, :]
    return top[..., :size], top[..., size : 2 * size] * hours


def _eliminating(kinetics: Kinetics, values: np.ndarray, start: int) -> np.ndarray:
    """The rate matrix of what is reached from compartment `start`; all others are cut off, and decay by themselves.

    Raises:
        ConfigError: Some of it never leaves.
    """
    matrix = kinetics.rate_matrix(values)
    size = matrix.shape[-1]
    reached = np.broadcast_to(np.eye(size, dtype=bool)[start], matrix.shape[:-1])
    for _ in range(size - 1):
        reached = reached | ((matrix != 0) & reached[..., None, :]).any(-1)
    matrix = np.where(reached[..., None] & reached[..., None, :], matrix, -np.eye(size))
    # Eigenvalues come out wrong by a few rounding errors of the largest rate: those nearer to 0 may as well be 0.
    kept = np.linalg.eigvals(matrix).real.max(-1) >= -64 * EPS * abs(matrix).sum(-2).max(-1)
    kinetics.refuse(kept, values, "what is dosed is not all eliminated, so that there is no steady state")
    return matrix
