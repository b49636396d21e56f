"""How well a prediction fits what was observed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Accuracy(NamedTuple):
    """Errors over all subjects, points and compartments.

    Attributes:
        mse: Mean squared error, mg^2.
        rmse: Its root, mg.
        rmse_floor: Error of the best single curve for all subjects, their mean at each point, mg.
        skill: 1 - mse / rmse_floor^2; None where the floor is 0, which is where all subjects are alike.
    """

    mse: float
    rmse: float
    rmse_floor: float
    skill: float | None


def accuracy(predicted: np.ndarray, observed: np.ndarray) -> Accuracy:
    """Errors of a prediction; both in mg, `[B, S, K, D]`.

    A field that sees amounts alone gives the same curve to all subjects that start alike and are dosed alike. The best
    such curve is the mean over subjects, so its error is a floor that the fit cannot break by fitting better.
    """
    observed = np.asarray(observed, np.float64)
    mse = float(((np.asarray(predicted, np.float64) - observed) ** 2).mean())
    # Centred on one subject first: the mean of equal numbers is else off by a rounding error, and no floor is 0.
    centred = observed - observed[:1]
    floor = float(((centred - centred.mean(0)) ** 2).mean())
    return Accuracy(mse, mse**0.5, floor**0.5, 1 - mse / floor if floor > 0 else None)
