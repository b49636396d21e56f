"""Fits a field to a cohort. A generator that yields progress and touches no file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .arrays.base import Moments, Params
from .data import Cohort, batch_of, batches
from .errors import ConfigError, SolverFailure, TrainingFailure
from .frameworks.base import Framework, Report
from .integrate import predict
from .metrics.accuracy import mean_square


@dataclass(kw_only=True)
class Training:
    """How a field is fitted: Adam on the mean squared error.

    Attributes:
        iterations: Optimiser steps.
        learning_rate: Adam's.
        batch_size: Subjects in a step; None for all of them.
        clip_norm: Largest gradient norm let through; None for any.
        checkpoint_every: Iterations between checkpoints.

    Raises:
        ConfigError: A value is out of range.
    """

    iterations: int = 2000
    learning_rate: float = 1e-3
    batch_size: int | None = None
    clip_norm: float | None = None
    checkpoint_every: int = 100

    def __post_init__(self):
        for name in ("iterations", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 1_000_000_000:
                raise ConfigError(f"training.{name}={value}: must be 1 or more")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ConfigError(f"training.{name}={value}: must be above 0, and finite")


class State(NamedTuple):
    """Where a fit stands: all that is needed to go on.

    Attributes:
        iteration: Optimiser steps taken.
        params: The field's parameters.
        moments: Adam's.
        best_iteration: Steps taken when the loss was lowest; always `iteration` in fits by batches.
        best_loss: The loss then, mg^2; infinite before the first iteration and in fits by batches.
        best_params: The parameters then.
    """

    iteration: int
    params: Params
    moments: Moments
    best_iteration: int
    best_loss: float
    best_params: Params


class Progress(NamedTuple):
    """One iteration.

    Attributes:
        iteration: Its number, from 1.
        loss: Mean squared error before its step, mg^2.
        gradient_norm: Euclidean norm of the whole gradient, before clipping.
        seconds: Wall time of the gradient and the step, compilation included.
        report: What the solver said, leaves `[S, ...]` in the framework's arrays.
        state: Where the fit stands after it.
    """

    iteration: int
    loss: float
    gradient_norm: float
    seconds: float
    report: Report
    state: State


def mean_squared_error(framework: Framework, field: Callable, grid: np.ndarray, floor: float | None = None) -> Callable:
    """`loss(params, initial, intervals, observed, steady, weights) -> (mg^2, Report)`; observed in mg, `[S, K, B, D]`.

    Args:
        framework: Who solves.
        field: The vector field; one with `observe(xp, params, states)` tells what is measured of its amounts.
        grid: Fractions of an interval at which was observed.
        floor: For errors of logarithms, the least that a prediction counts as, for it may be below zero; None for
            errors of the values themselves.
    """
    xp, observe = framework.arrays.xp, getattr(field, "observe", None)

    def loss(params, initial, intervals, observed, steady=None, weights=None):
        states, report = predict(framework, field, params, initial, intervals, grid, steady)
        predicted = states if observe is None else observe(xp, params, states)
        if floor is not None:
            predicted, observed = (xp.log(xp.where(x > floor, x, floor)) for x in (predicted, observed))
        squares = (predicted - observed) ** 2
        if weights is None:
            return squares.mean(), report
        count = weights.sum()  # none, in a batch of subjects who were only dosed: a loss of 0, and no number by 0
        return (weights * squares).sum() / (count + (count == 0)), report

    return loss


def loss_of(framework: Framework, field: Callable, cohort: Cohort, error: str = "additive", subjects=None) -> Callable:
    """The loss that subjects of a cohort are fitted by; errors are `additive`, or those of the logarithm, `log`."""
    return mean_squared_error(framework, field, cohort.grid, floor_of(cohort, error, subjects))


def floor_of(cohort: Cohort, error: str, subjects: np.ndarray | None = None) -> float | None:
    """A tenth of the least that was measured of subjects: what is predicted below is as wrong as if it were that."""
    measured = cohort.amounts if subjects is None else cohort.amounts[subjects]
    return 0.1 * float(np.nanmin(measured)) if error == "log" else None


def gradient_step(framework: Framework, loss: Callable, clip_norm: float | None) -> Callable:
    """`(params, *batch) -> (loss, norm, gradient, Report)`, compiled where the library compiles."""
    xp = framework.arrays.xp
    value_and_grad = framework.arrays.value_and_grad(loss)

    def step(params, *batch):
        (value, report), gradient = value_and_grad(params, *batch)
        norm = xp.sqrt(sum((g**2).sum() for g in gradient.values()))
        if clip_norm is not None:
            # The same in every framework: torch's own clipping divides by norm + 1e-6, optax's does not.
            scale = xp.where(norm > clip_norm, clip_norm / norm, xp.ones_like(norm))
            gradient = {name: g * scale for name, g in gradient.items()}
        return value, norm, gradient, report

    return framework.arrays.compile(step)


def start(framework: Framework, params: dict[str, np.ndarray]) -> State:
    """A fit before its first iteration, from parameters in NumPy."""
    arrays = framework.arrays
    placed = {name: arrays.asarray(value) for name, value in params.items()}
    return State(0, placed, arrays.adam_init(placed), 0, math.inf, placed)


def fit(
    framework: Framework, field: Callable, cohort: Cohort, settings: Training, state: State, *, seed: int,
    subjects: np.ndarray | None = None, error: str = "additive",
) -> Iterator[Progress]:  # fmt: skip
    """Fit a field to a cohort, one iteration at a time.

    Args:
        framework: Who solves.
        field: The vector field.
        cohort: Doses and observations.
        settings: How to fit.
        state: Where to begin: `start(...)`, or an earlier `Progress.state`, which goes on bit for bit.
        seed: Of the order of the batches.
        subjects: Rows of the cohort to fit to; None for all.
        error: `additive`, or `log` for errors of the logarithm.

    Yields:
        `Progress` of each iteration up to `settings.iterations`.

    Raises:
        SolverFailure: A solve did not end. The last state that was yielded is still good.
        TrainingFailure: The loss or the gradient is not finite; no step was taken from it.
    """
    arrays = framework.arrays
    loss_function = loss_of(framework, field, cohort, error, subjects)
    step = gradient_step(framework, loss_function, settings.clip_norm)
    update = arrays.compile(arrays.adam_update)
    rows = np.arange(len(cohort.amounts)) if subjects is None else subjects
    order = batches(len(rows), settings.batch_size, seed)
    whole = batch_of(arrays, cohort, subjects) if settings.batch_size is None else None
    for iteration in range(state.iteration + 1, settings.iterations + 1):
        batch = whole or batch_of(arrays, cohort, rows[order(iteration)])
        began = time.perf_counter()
        try:
            value, norm, gradient, report = framework.guard(step, state.params, *batch)
            loss, gradient_norm = float(value), float(norm)
            framework.check(report, batch[1])
        except SolverFailure as failure:
            if failure.subject is None:  # of a solve backward, which cannot tell; where the one forward fails, it can
                forward = arrays.compile(loss_function)
                framework.check(framework.guard(forward, state.params, *batch)[1], batch[1])
            raise _of_cohort(failure, rows[order(iteration)]) from failure
        if not np.isfinite(loss) or not np.isfinite(gradient_norm):
            raise TrainingFailure(f"iteration {iteration}: loss {loss}, gradient norm {gradient_norm}; no step taken")
        params, moments = update(state.params, gradient, state.moments, settings.learning_rate)
        if settings.batch_size is not None:  # losses of different batches do not compare
            best = (iteration, math.inf, params)
        elif loss < state.best_loss:
            best = (iteration - 1, loss, state.params)  # the loss is that of the parameters before the step
        else:
            best = (state.best_iteration, state.best_loss, state.best_params)
        state = State(iteration, arrays.wait(params), moments, *best)
        yield Progress(iteration, loss, gradient_norm, time.perf_counter() - began, report, state)


class Fitted(NamedTuple):
    """What a fit ends with: the parameters of the lowest loss, since Adam's last are one draw of its wandering.

    Attributes:
        iteration: Optimiser steps that led to them.
        params: In NumPy.
        predicted: What they predict of the cohort, mg, `[B, S, K, D]`.
        report: What the solver said of that, in the framework's arrays.
    """

    iteration: int
    params: dict[str, np.ndarray]
    predicted: np.ndarray
    report: Report


def finish(
    framework: Framework, field: Callable, cohort: Cohort, state: State, subjects: np.ndarray | None = None,
    error: str = "additive",
) -> Fitted:  # fmt: skip
    """The better of the best and the last parameters of a fit; the last have not been judged by the fit itself.

    They are judged by the subjects that were fitted, `subjects`, and predict the whole cohort.

    Raises:
        SolverFailure: Neither can be solved.
    """
    failure = None
    arrays = framework.arrays
    solve = arrays.compile(
        lambda params, initial, table, steady: predict(framework, field, params, initial, table, cohort.grid, steady)
    )
    initial, table, _, steady, _ = batch_of(arrays, cohort, None)
    observe = getattr(field, "observe", None)
    judges, floor = slice(None) if subjects is None else subjects, floor_of(cohort, error, subjects)
    candidates = [(state.iteration, state.params)]
    if state.best_iteration != state.iteration:
        candidates.insert(0, (state.best_iteration, state.best_params))
    fits: list[tuple[float, Fitted]] = []
    for iteration, params in candidates:
        try:
            states, report = framework.guard(solve, params, initial, table, steady)
            framework.check(report, table)
        except SolverFailure as caught:
            failure = caught
            continue
        states = states if observe is None else observe(arrays.xp, params, states)
        predicted = arrays.to_numpy(states).transpose(2, 0, 1, 3)
        pair = predicted[judges], cohort.amounts[judges]
        if floor is not None:
            pair = np.log(np.maximum(pair[0], floor)), np.log(np.maximum(pair[1], floor))
        found = mean_square(*pair, None if cohort.weights is None else cohort.weights[judges])
        weights = {name: arrays.to_numpy(value) for name, value in params.items()}
        fits.append((found, Fitted(iteration, weights, predicted, report)))
    if not fits and failure is not None:
        raise failure
    return min(fits, key=lambda fit: fit[0])[1]


def _of_cohort(failure: SolverFailure, subjects: np.ndarray) -> SolverFailure:
    """The same failure, with its subject counted in the cohort instead of in the batch."""
    return SolverFailure(
        failure.framework,
        failure.reason,
        subject=None if failure.subject is None else int(subjects[failure.subject]),
        interval=failure.interval,
        t=failure.t,
        steps=failure.steps,
    )
