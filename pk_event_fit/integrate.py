"""The only event loop: jump, solve, hand over."""

from __future__ import annotations

import numpy as np

from .errors import ScheduleError


def predict(framework, field, params, initial, intervals, grid=(0.0, 1.0)):
    r"""Amounts along every interval; the first of each is just after its dose, the last just before the next.

    Each interval is solved in its own time, $s = (t - t_k) / \Delta_k$,

    $$\frac{dy}{ds} = \Delta_k \left( f_\theta(t_k + s \Delta_k, y) + r_k \right), \quad y(0) = y_k^- + b_k,$$

    so subjects with different clocks share one solve and padding ($\Delta_k = 0$) stands still.

    Args:
        framework: A `Framework`.
        field: `field(xp, params, t, y, covariates) -> dy/dt`, mg/h; one with `autonomous = True` gets None for t.
        params: What the field is made of, by name.
        initial: Amounts before the first record, mg, `[B, D]`.
        intervals: Doses and clocks, an `Interval` with leaves `[S, B, ...]`, in the framework's arrays.
        grid: Fractions of an interval to report at, increasing, in [0, 1], ending at 1, `[K]`.

    Returns:
        Amounts in mg, `[S, K, B, D]`, and the solver's `Report` with leaves `[S, ...]`.

    Raises:
        ScheduleError: The grid is not as said above.
        SolverFailure: A solve did not end. Compiled frameworks tell by `Report.failed`; see `Framework.check`.
    """
    grid, skip = _grid(grid)
    xp = framework.arrays.xp
    autonomous = getattr(field, "autonomous", False)

    def rhs(s, y, params, interval):
        # In eager libraries each operation here costs as much as a layer of the network: idle ones are left out.
        t = None if autonomous else interval.start + s * interval.duration
        derivative = field(xp, params, t, y, interval.covariates)
        if interval.rate is not None:
            derivative = derivative + interval.rate
        return interval.duration[..., None] * derivative

    prepared = framework.prepare(rhs, field)

    def advance(y, interval):
        states, report = framework.solve(prepared, y + interval.bolus, params, interval, grid)
        return states[-1], (states[skip:], report)

    _, (states, report) = framework.arrays.scan(advance, initial, intervals)
    return states, report


def _grid(grid) -> tuple[np.ndarray, int]:
    """The grid with 0 in front, and how many points that is too many."""
    points = np.asarray(grid, np.float64)
    if points.ndim != 1 or not len(points) or points[0] < 0 or points[-1] != 1 or not (np.diff(points) > 0).all():
        raise ScheduleError(f"grid={grid}: needs fractions of an interval that increase, from 0 or above to exactly 1")
    return (points, 0) if points[0] == 0 else (np.concatenate([[0.0], points]), 1)
