"""Known kinetics: the two-compartment model and its exact solution.

Source: Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, chapter 2, with micro-constants written out in CL, V1, Q, V2.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm

PARAMETERS = ("clearance", "central_volume", "intercompartmental_clearance", "peripheral_volume")
UNITS = ("L/h", "L", "L/h", "L")
TYPICAL = (1.0, 10.0, 0.5, 20.0)
COMPARTMENTS = ("central", "peripheral")


class TwoCompartment:
    """dA1/dt = -(CL + Q) / V1 A1 + Q / V2 A2, dA2/dt = Q / V1 A1 - Q / V2 A2, as a field with covariates CL, V1, Q, V2.

    Amounts in mg, `[..., 2]`; clearances in L/h and volumes in L, `[..., 4]` in the order of `PARAMETERS`.
    """

    autonomous = True

    def __call__(self, xp, params, t, y, covariates):
        clearance, v1, q, v2 = (covariates[..., k] for k in range(4))
        central, peripheral = y[..., 0], y[..., 1]
        flow = q / v1 * central - q / v2 * peripheral
        return xp.stack([-clearance / v1 * central - flow, flow], -1)


def rate_matrix(parameters: np.ndarray) -> np.ndarray:
    """The matrix of that linear ODE, 1/h, `[..., 4]` to `[..., 2, 2]`."""
    clearance, v1, q, v2 = np.moveaxis(np.asarray(parameters, np.float64), -1, 0)
    rows = [[-(clearance + q) / v1, q / v2], [q / v1, -q / v2]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def propagators(parameters: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Matrix exponentials that take amounts over `times` hours: `[B, 4]` and `[K]` to `[B, K, 2, 2]`."""
    return expm(rate_matrix(parameters)[:, None] * np.asarray(times, np.float64)[:, None, None])
