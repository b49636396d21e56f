"""The oracle: SciPy's DOP853 on NumPy, one subject at a time. Slow, and no contestant."""

import numpy as np
from scipy.integrate import solve_ivp

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
