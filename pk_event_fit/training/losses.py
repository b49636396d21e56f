"""What is minimised, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ..data import Cohort
from ..frameworks.base import Framework, Report
from ..integrate import predict


def mean_squared_error(
    framework: Framework, field: Callable, grid: np.ndarray, floor: float | None = None,
    penalties: Collection[str] = (), rates: np.ndarray | None = None,
) -> Callable:  # fmt: skip
    """`loss(params, initial, intervals, observed, steady, weights, factors) -> (mg^2, Report)`; observed in mg,
    `[S, K, B, D]`, and the factors of what is added, by name: phases of other factors share what is compiled.

    Args:
        framework: Who solves.
        field: The vector field; one with `observe(xp, params, states)` tells what is measured of its amounts.
        grid: Fractions of an interval at which was observed.
        floor: For errors of logarithms, the least that a prediction counts as, for it may be below zero; None for
            errors of the values themselves.
        penalties: Names of what is added, as in `Phase.regularisation`.
        rates: What counts as one of the field, mg/h, `[D]`; for the penalty `derivative`.
    """
    xp, observe = framework.arrays.xp, getattr(field, "observe", None)

    def misfit(params, states, observed, weights):
        predicted = states if observe is None else observe(xp, params, states)
        if floor is not None:
            predicted, observed = (xp.log(xp.where(x > floor, x, floor)) for x in (predicted, observed))
        squares = (predicted - observed) ** 2
        if weights is None:
            return squares.mean()
        count = weights.sum()  # none, in a batch of subjects who were only dosed: a loss of 0, and no number by 0
        return (weights * squares).sum() / (count + (count == 0))

    def loss(params, initial, intervals, observed, steady=None, weights=None, factors=None):
        states, report = predict(framework, field, params, initial, intervals, grid, steady)
        found = misfit(params, states, observed, weights)
        if "l2" in penalties:
            found = found + factors["l2"] * weight_square(params)
        if "derivative" in penalties:
            found = found + factors["derivative"] * _pace(xp, field, params, states, intervals, grid, rates)
        return found, report

    return loss


def weight_square(params):
    """Mean square of all weights of the network, biases left out."""
    weights = [value for name, value in params.items() if name.startswith("weight")]
    return sum((value**2).sum() for value in weights) / sum(int(np.prod(value.shape)) for value in weights)


def _pace(xp, field, params, states, intervals, grid, rates):
    """Mean square of the field, in units of `rates`, at the states `[S, K, B, D]`; padding does not count."""
    t, there = None, (intervals.duration > 0)[:, None, :, None]
    if not getattr(field, "autonomous", False):
        own = intervals.points
        if own is None:
            own = xp.constant(tuple(map(float, grid)), states)[:, None]
        t = intervals.start[:, None] + own * intervals.duration[:, None]
    covariates = intervals.covariates
    if covariates is not None:
        covariates = xp.broadcast_to(covariates[:, None], (*states.shape[:-1], covariates.shape[-1]))
    scaled = field(xp, params, t, states, covariates) / xp.constant(tuple(map(float, rates)), states)
    squares = xp.where(there, scaled**2, xp.zeros_like(scaled))
    share = xp.where(there, xp.ones_like(scaled), xp.zeros_like(scaled)).sum()
    return squares.sum() / share


def loss_of(framework: Framework, field: Callable, cohort: Cohort, error: str = "additive", subjects=None) -> Callable:
    """The loss that subjects of a cohort are fitted by; errors are `additive`, or those of the logarithm, `log`."""
    return mean_squared_error(framework, field, cohort.grid, floor_of(cohort, error, subjects))


def floor_of(cohort: Cohort, error: str, subjects: np.ndarray | None = None) -> float | None:
    """A tenth of the least that was measured of subjects: what is predicted below is as wrong as if it were that."""
    measured = cohort.amounts if subjects is None else cohort.amounts[subjects]
    return 0.1 * float(np.nanmin(measured)) if error == "log" else None


def rates_of(cohort: Cohort, volume: float = 1.0) -> np.ndarray:
    """Root mean square over time of the slopes between neighbouring observations, mg/h, `[D]`; 1 where there are none.

    Args:
        cohort: The data.
        volume: What amounts are divided by where concentrations were measured, L.
    """
    found = slopes(cohort.amounts * volume, cohort.times)
    return np.where(found > 0, found, 1.0)


def slopes(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Root mean square over time of the slopes of `[B, S, K, D]`, `[D]`; 0 where nothing has neighbours, or changes."""
    change = np.diff(values, axis=2)
    hours = np.broadcast_to(np.diff(times, axis=-1)[..., None], change.shape)
    pair = np.isfinite(change) & (hours > 0)
    squares = np.divide(change**2, hours, out=np.zeros(change.shape), where=pair).sum((0, 1, 2))
    total = np.where(pair, hours, 0.0).sum((0, 1, 2))
    return np.sqrt(np.divide(squares, total, out=np.zeros(total.shape), where=total > 0))


def gradient_step(
    framework: Framework, loss: Callable, clip_norm: float | None, moving: frozenset[str] | None = None
) -> Callable:
    """`(params, *batch) -> (loss, norm, gradient, Report)`, compiled where the library compiles.

    The gradient is zero for parameters that are not among those `moving`; None for all.
    """
    return framework.arrays.compile(_gradient(framework, loss, clip_norm, moving))


def descent_step(
    framework: Framework, loss: Callable, clip_norm: float | None, moving: frozenset[str] | None = None
) -> Callable:
    """`(params, moments, rate, *batch) -> (told, (params, moments), Report)`: a gradient, and Adam's step by it.

    `told` is the loss and the norm before the step, and 1 if a solve failed, else 0, `[3]`. All in one program, where
    the library compiles, and told in one array: to start another program, or to fetch another, takes as long as Adam.
    """
    gradient_at = _gradient(framework, loss, clip_norm, moving)

    def step(params, moments, rate, *batch):
        value, norm, gradient, report = gradient_at(params, *batch)
        told = _told(framework.arrays.xp, value, norm, report)
        return told, framework.arrays.adam_update(params, gradient, moments, rate), report

    return framework.arrays.compile(step)


def search_step(
    framework: Framework, loss: Callable, clip_norm: float | None, moving: frozenset[str] | None = None
) -> Callable:
    """`(params, *batch) -> (told, gradient, Report)`, for a line search; see `descent_step`."""
    gradient_at = _gradient(framework, loss, clip_norm, moving)

    def step(params, *batch):
        value, norm, gradient, report = gradient_at(params, *batch)
        return _told(framework.arrays.xp, value, norm, report), gradient, report

    return framework.arrays.compile(step)


def _told(xp: Any, value: Any, norm: Any, report: Report) -> Any:
    """See `descent_step`."""
    no = xp.zeros_like(value)
    failed = no if report.failed is None else xp.where(report.failed.any(), xp.ones_like(value), no)
    return xp.stack([value, norm, failed])


def _gradient(framework: Framework, loss: Callable, clip_norm: float | None, moving: frozenset[str] | None) -> Callable:
    """See `gradient_step`."""
    xp = framework.arrays.xp
    value_and_grad = framework.arrays.value_and_grad(loss)

    def step(params, *batch):
        (value, report), gradient = value_and_grad(params, *batch)
        if moving is not None:
            gradient = {name: g if name in moving else xp.zeros_like(g) for name, g in gradient.items()}
        norm = xp.sqrt(sum((g**2).sum() for g in gradient.values()))
        if clip_norm is not None:
            # The same in every framework: torch's own clipping divides by norm + 1e-6, optax's does not.
            scale = xp.where(norm > clip_norm, clip_norm / norm, xp.ones_like(norm))
            gradient = {name: g * scale for name, g in gradient.items()}
        return value, norm, gradient, report

    return step
