"""How well a prediction fits, by the measures with which models are compared.

Residuals r are predicted less observed. A number that is the mean of w observations counts w times: its error has the
variance sigma^2 / w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .checks import broadcast, numbers, real


class Goodness(NamedTuple):
    r"""Measures over n numbers; None where one has no meaning. Values are in mg, or whatever was compared.

    The log-likelihood is that of independent Gaussian errors, with all constants, as R's `logLik` of a linear model:

    $$\ln L = -\tfrac12 \sum_i \left( \ln \frac{2 \pi \sigma_i^2}{w_i} + \frac{w_i r_i^2}{\sigma_i^2} \right).$$

    Where `sigma` is not given it is the one that makes this largest, $\hat\sigma^2 = \sum w_i r_i^2 / n$, the same for
    all, and counts as a parameter (Burnham & Anderson 2002, Model Selection and Multimodel Inference, 2nd edition).

    Attributes:
        n: How many numbers were compared: the terms of each sum.
        weight: Of how many observations they are the means, sum of w.
        parameters: How many were fitted, an estimated `sigma` included; the k of AIC and BIC.
        sigma: Estimated standard deviation of one observation, mg; None where it was given.
        chi_square: sum of w r^2 / sigma^2; None without a given `sigma`, as an estimated one makes it n.
        reduced_chi_square: It by n - `parameters`; None unless n is larger (Bevington & Robinson, Data Reduction and
            Error Analysis for the Physical Sciences, 3rd edition, 2003).
        wmape_percent: 100 sum of w |r| / sum of w |observed|: the mean absolute error by the mean, which numbers near 0
            do not disturb (Kolassa & Schütz 2007, Foresight 6:40); None where all observed are 0.
        rmse: Root of sum of w r^2 / sum of w, mg.
        r2: 1 - sum of w r^2 / sum of w (observed - mean)^2, with the weighted mean of each compartment, so that
            compartments that lie apart explain nothing; None where all observed of each are alike.
        log_likelihood: ln L; None where an estimated `sigma` is 0.
        aic: 2 k - 2 ln L (Akaike 1974, IEEE Trans Automat Contr 19:716), likewise.
        bic: k ln n - 2 ln L (Schwarz 1978, Ann Statist 6:461), likewise.
    """

    n: int
    weight: float
    parameters: int
    sigma: float | None
    chi_square: float | None
    reduced_chi_square: float | None
    wmape_percent: float | None
    rmse: float | None
    r2: float | None
    log_likelihood: float | None
    aic: float | None
    bic: float | None


def goodness(predicted: Any, observed: Any, *, parameters: int, sigma: Any = None, weights: Any = None) -> Goodness:
    """Measures over all compartments.

    For errors that are proportional, hand over the logarithms of both; the likelihood is then that of logarithms too,
    and its AIC is not to be compared with one of the values.

    Args:
        predicted: mg, or what was observed, `[..., D]`, compartments last; finite wherever something was observed.
        observed: Likewise; NaN where nothing was.
        parameters: How many numbers of the model were fitted to these data; 0 where it was fitted to others.
        sigma: Known standard deviation of one observation, in their unit, to be broadcast; None for unknown.
        weights: Of how many observations each number is the mean, likewise, as `Cohort.weights`; 0 where it is of none.
            None for one each.

    Raises:
        DataError: Shapes do not fit, nothing was observed, a number that is needed is not finite, `sigma` is not above
            0, a weight is below 0, or `parameters` is no number of parameters.
    """
    residual, data, weight, spread, columns = _masked(predicted, observed, sigma, weights)
    if not len(data):
        raise DataError("observed: nothing was observed")
    return _measures(residual, data, weight, spread, columns, _count(parameters))


def by_compartment(
    predicted: Any, observed: Any, compartments: Sequence[str], *, parameters: int, sigma: Any = None,
    weights: Any = None,
) -> dict[str, Goodness]:  # fmt: skip
    """Measures of each compartment, `{name: Goodness}`, each with a `sigma` of its own where it is not given.

    All parameters count for each compartment, as each depends on all of them: AIC and BIC compare models of one
    compartment, and do not add up to those of the whole. Where nothing was observed `n` is 0 and all measures are None.

    Args:
        predicted: As `goodness`, and so are the others.
        compartments: Names of the D compartments, in order.

    Raises:
        DataError: As `goodness`, or the names are not D different ones.
    """
    residual, data, weight, spread, columns = _masked(predicted, observed, sigma, weights)
    width = np.shape(observed)[-1]
    if len(set(compartments)) != len(compartments) or len(compartments) != width:
        raise DataError(f"compartments {list(compartments)}: needs {width} different names")
    found = {}
    for k, name in enumerate(compartments):
        its = columns == k
        own = None if spread is None else spread[its]
        found[name] = _measures(residual[its], data[its], weight[its], own, columns[its], _count(parameters))
    return found


def _masked(predicted: Any, observed: Any, sigma: Any, weights: Any) -> tuple:
    """Residuals, observations, weights and standard deviations of what was observed, `[n]`, and their compartments."""
    data = real("observed", observed)
    if not data.ndim or not data.size:
        raise DataError(f"observed: has the shape {data.shape}: needs numbers, compartments last")
    count = np.ones(data.shape) if weights is None else broadcast("weights", weights, data.shape)
    seen = ~np.isnan(data) & ~(count == 0)
    model = broadcast("predicted", predicted, data.shape)
    known = None if sigma is None else broadcast("sigma", sigma, data.shape)[seen]
    columns = np.broadcast_to(np.arange(data.shape[-1]), data.shape)[seen]
    if seen.any():
        for name, values in (("predicted", model), ("observed", data), ("weights", count)):
            numbers(f"{name} where something was observed", values[seen])
        if not (count[seen] > 0).all():
            raise DataError(f"weights: {count[seen].min():g}: must be 0 or more")
        if known is not None and not (np.isfinite(known) & (known > 0)).all():
            raise DataError("sigma: must be above 0, and finite")
    return model[seen] - data[seen], data[seen], count[seen], known, columns


def _count(parameters: Any) -> int:
    if isinstance(parameters, bool) or not isinstance(parameters, int | np.integer) or parameters < 0:
        raise DataError(f"parameters={parameters}: must be a whole number, 0 or more")
    return int(parameters)


def _measures(
    residual: np.ndarray, data: np.ndarray, weight: np.ndarray, spread: np.ndarray | None, columns: np.ndarray,
    parameters: int,
) -> Goodness:  # fmt: skip
    """Of numbers `[n]` with the compartments that they are of; `spread` is their known `sigma`, or None."""
    n, total = len(data), float(weight.sum())
    k = parameters + (spread is None)
    if not n:
        return Goodness(0, 0.0, k, *[None] * (len(Goodness._fields) - 3))
    squares, size = float((weight * residual**2).sum()), float((weight * abs(data)).sum())
    variance = np.full(n, squares / n) if spread is None else spread**2
    chi = float((weight * residual**2 / variance).sum()) if variance.all() else None
    known = None if spread is None else chi
    about = _variation(data, weight, columns)
    likelihood = None if chi is None else -0.5 * (float(np.log(2 * np.pi * variance / weight).sum()) + chi)
    return Goodness(
        n=n,
        weight=total,
        parameters=k,
        sigma=float(variance[0]) ** 0.5 if spread is None else None,
        chi_square=known,
        reduced_chi_square=known / (n - k) if known is not None and n > k else None,
        wmape_percent=100 * float((weight * abs(residual)).sum()) / size if size else None,
        rmse=(squares / total) ** 0.5,
        r2=1 - squares / about if about else None,
        log_likelihood=likelihood,
        aic=None if likelihood is None else 2 * k - 2 * likelihood,
        bic=None if likelihood is None else float(k * np.log(n)) - 2 * likelihood,
    )


def _variation(data: np.ndarray, weight: np.ndarray, columns: np.ndarray) -> float:
    """Weighted sum of squares about the mean of each compartment."""
    total = 0.0
    for k in np.unique(columns):
        its = columns == k
        # Centred on one of them first: equal numbers vary by 0, not by a rounding error.
        centred = data[its] - data[its][0]
        centred = centred - (weight[its] * centred).sum() / weight[its].sum()
        total += float((weight[its] * centred**2).sum())
    return total
