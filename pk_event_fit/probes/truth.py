"""What is exact: the true field by matrix exponentials, any field by DOP853 at the limit of float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.integrate import solve_ivp

from .. import compartments
from ..arrays.numpy import NumpyArrays
from ..errors import SolverFailure
from ..frameworks.base import Interval

RTOL, ATOL = 1e-12, 1e-13

Flow = Callable[[np.ndarray, np.ndarray | None, np.ndarray], np.ndarray]


def linear_flow(parameters: np.ndarray) -> Flow:
    """`flow(y, rate, hours)`: amounts `[B, D]` in mg and infusion rates in mg/h to `[B, n, D]` after so many hours."""
    inverse = np.linalg.inv(compartments.rate_matrix(parameters))

    def flow(y, rate, hours):
        carry = compartments.propagators(parameters, hours)
        steady = np.zeros_like(y) if rate is None else -np.einsum("bij,bj->bi", inverse, rate)
        return np.einsum("bkij,bj->bki", carry, y - steady) + steady[:, None]

    return flow


def field_flow(field: Callable, params: dict[str, np.ndarray]) -> Flow:
    """The same of an autonomous field without covariates, with weights in NumPy."""
    arrays = NumpyArrays()
    weights = {name: arrays.asarray(value) for name, value in params.items()}

    def one(y, rate, hours):
        def rhs(t, state):
            derivative = field(arrays.xp, weights, None, state, None)
            return derivative if rate is None else derivative + rate

        solved = solve_ivp(rhs, (0.0, float(hours[-1])), y, method="DOP853", t_eval=hours, rtol=RTOL, atol=ATOL)
        if not solved.success:
            raise SolverFailure("DOP853", solved.message)
        return solved.y.T

    return lambda y, rate, hours: np.stack([one(y[b], None if rate is None else rate[b], hours) for b in range(len(y))])


def trajectory(flow: Flow, table: Interval, initial: np.ndarray, hours: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Amounts along every interval of a history that all subjects share.

    Args:
        flow: Solves from the start of an interval.
        table: Intervals, leaves `[S, B, ...]`.
        initial: Amounts before the first, mg, `[B, D]`.
        hours: For each interval the times since its start to report at, increasing, h.

    Returns:
        For each interval mg, `[B, n, D]`.
    """
    state, out = np.asarray(initial, np.float64), []
    for k, wanted in enumerate(hours):
        length = float(table.duration[k, 0])
        points = np.append(wanted, length) if not len(wanted) or wanted[-1] != length else wanted
        rate = None if table.rate is None else table.rate[k]
        solved = flow(state + table.bolus[k], rate, points)
        out.append(solved[:, : len(wanted)])
        state = solved[:, -1]
    return out
