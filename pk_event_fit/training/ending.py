"""Which parameters a fit ends with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..data import Cohort, batch_of
from ..errors import SolverFailure
from ..frameworks.base import Framework, Report
from ..integrate import predict
from ..metrics.accuracy import mean_square
from .losses import floor_of
from .state import State


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
    error: str = "additive", validation: np.ndarray | None = None,
) -> Fitted:  # fmt: skip
    """The better of the best and the last parameters of a fit; the last have not been judged by the fit itself.

    They are judged by the subjects that were fitted, `subjects`, or by those of `validation` where the fit was, and
    predict the whole cohort.

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
    judges = slice(None) if subjects is None else subjects
    judges, floor = judges if validation is None else validation, floor_of(cohort, error, subjects)
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
