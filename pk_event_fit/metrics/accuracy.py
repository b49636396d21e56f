"""How well a prediction fits what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .checks import alike, real


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
    """Errors of a prediction; both in mg, `[B, S, K, D]`. Where `observed` is NaN nothing was, and nothing counts.

    A field that sees amounts alone gives the same curve to all subjects that start alike and are dosed alike. The best
    such curve is the mean over subjects, so its error is a floor that the fit cannot break by fitting better.
    """
    observed = np.asarray(observed, np.float64)
    seen = ~np.isnan(observed)
    mse = mean_square(predicted, observed, None if seen.all() else seen)
    # Centred on one subject first: the mean of equal numbers is else off by a rounding error, and no floor is 0.
    first = np.take_along_axis(observed, seen.argmax(0)[None], 0)
    centred = np.where(seen, observed - first, 0.0)
    mean = centred.sum(0) / np.maximum(seen.sum(0), 1)
    floor = float(np.where(seen, (centred - mean) ** 2, 0.0).sum() / seen.sum())
    return Accuracy(mse, mse**0.5, floor**0.5, 1 - mse / floor if floor > 0 else None)


def mean_square(predicted: np.ndarray, observed: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean squared error; each number counts as often as `weights` says, None for once."""
    squares = (np.asarray(predicted, np.float64) - np.asarray(observed, np.float64)) ** 2
    if weights is None:
        return float(squares.mean())
    return float((weights * np.where(weights > 0, squares, 0.0)).sum() / weights.sum())


def of_observations(predicted: np.ndarray, observed: np.ndarray, floor: float | None = None) -> dict[str, Any]:
    """`mse` and `rmse` of observations, `[N]`; and `rmse_log`, of their logarithms, where there is a floor for these.

    `rmse_floor` and `skill` are None: subjects with doses and times of their own have no best single curve.
    """
    found = {**_errors(mean_square(predicted, observed)), "rmse_floor": None, "skill": None}
    if floor is None:
        return found
    return found | {"rmse_log": mean_square(np.log(np.maximum(predicted, floor)), np.log(observed)) ** 0.5}


def breakdown(predicted: np.ndarray, observed: np.ndarray, compartments: Sequence[str]) -> dict[str, Any]:
    """Where the error lies; both in mg, `[B, S, K, D]`.

    Where nothing is missing all parts of a kind hold equally many points: the mean of their `mse` is that of the whole.

    Args:
        predicted: Amounts, mg.
        observed: Amounts, mg; NaN where nothing was observed.
        compartments: Names of the D compartments, in order.

    Returns:
        `by_compartment`, `{name: {"mse", "rmse"}}` over subjects, intervals and points; and `by_interval`,
        `[{"mse", "rmse"}, ...]` over subjects, points and compartments; mg^2 and mg, None where nothing was observed.

    Raises:
        DataError: The shapes differ, an array is empty, a prediction is not finite or an observation infinite, or the
            names are not D different ones.
    """
    missing = np.isnan(real("observed", observed))
    predicted, observed = alike("predicted", predicted, "observed", np.where(missing, 0.0, observed), 4)
    if len(set(compartments)) != len(compartments) or len(compartments) != observed.shape[-1]:
        raise DataError(f"compartments {list(compartments)}: needs {observed.shape[-1]} different names")
    squares = np.where(missing, 0.0, (predicted - observed) ** 2)

    def means(axes: tuple[int, ...]) -> list[dict[str, float | None]]:
        counts = (~missing).sum(axes)
        found = squares.sum(axes) / np.maximum(counts, 1)
        return [_errors(mse) if n else {"mse": None, "rmse": None} for mse, n in zip(found, counts, strict=True)]

    return {
        "by_compartment": dict(zip(compartments, means((0, 1, 2)), strict=True)),
        "by_interval": means((0, 2, 3)),
    }


def _errors(mse: float) -> dict[str, float | None]:
    return {"mse": float(mse), "rmse": float(mse) ** 0.5}
