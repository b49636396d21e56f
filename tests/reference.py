"""The oracle: SciPy's DOP853 on NumPy, one subject at a time. Slow, and no contestant."""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from pk_event_fit.arrays.numpy import NumpyArrays
from pk_event_fit.frameworks.base import Framework, Report, Solver


class Reference(Framework):
    """Every subject's interval by `solve_ivp(method="DOP853")` at rtol 1e-13."""

    name = "reference"
    methods = ("dopri5",)

    @classmethod
    def create(cls, solver=None, *, precision="float64", device="cpu"):
        return cls(NumpyArrays(precision), solver or Solver())

    def solve(self, rhs, y0, params, interval, grid):
        states = np.empty((len(grid), *y0.shape))
        for subject in range(len(y0)):
            own = type(interval)(interval.number, *(None if k is None else k[subject] for k in interval[1:]))
            solution = solve_ivp(
                lambda s, y, own=own: rhs(np.float64(s), y, params, own),
                (0.0, 1.0), y0[subject], method="DOP853", t_eval=grid, rtol=1e-13, atol=1e-13,
            )  # fmt: skip
            states[:, subject] = solution.y.T
        return states, Report(accepted=np.array([0]))


class Exact(Framework):
    """A linear field that knows no time, solved by the matrix exponential: the table and the loop without a solver."""

    name = "exact"
    methods = ("dopri5",)

    @classmethod
    def create(cls, solver=None, *, precision="float64", device="cpu"):
        return cls(NumpyArrays(precision), solver or Solver(rtol=1e-13, atol=1e-13))

    def solve(self, rhs, y0, params, interval, grid):
        size = y0.shape[1]
        system = np.zeros((len(y0), size + 1, size + 1))
        system[:, :size, size] = rhs(0.0, np.zeros_like(y0), params, interval)
        for k, unit in enumerate(np.eye(size)):
            system[:, :size, k] = rhs(0.0, np.broadcast_to(unit, y0.shape), params, interval) - system[:, :size, size]
        points = np.broadcast_to(grid[:, None] if np.ndim(grid) == 1 else grid, (len(grid), len(y0)))
        flow = expm(points[..., None, None] * system)
        states = np.einsum("kbij,bj->kbi", flow, np.concatenate([y0, np.ones((len(y0), 1))], 1))[..., :size]
        return states, Report(accepted=np.array([0]))


def linear(xp, params, t, y, covariates):
    """dy/dt = M y, where each subject's covariates are its matrix M row by row, `[..., D * D]`."""
    size = y.shape[-1]
    rows = [(covariates[..., k * size : (k + 1) * size] * y).sum(-1) for k in range(size)]
    return xp.stack(rows, -1)


linear.autonomous = True
