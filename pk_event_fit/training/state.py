"""Where a fit stands, and what it tells of each iteration."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..arrays.base import Arrays, Moments, Params
from ..frameworks.base import Framework, Report


class State(NamedTuple):
    """Where a fit stands: all that is needed to go on.

    Attributes:
        iteration: Optimiser steps taken, in all phases.
        params: The field's parameters.
        moments: Adam's.
        best_iteration: Steps taken when the loss of this phase was lowest; that of the subjects of validation, where
            there are any; always `iteration` in fits by batches without them.
        best_loss: The loss then, mg^2; infinite before the first iteration and in fits by batches.
        best_params: The parameters then.
        phase: Number of the phase, from 0.
        began: Steps taken when it began.
        first: The parameters then, where only they can be gone on with; see `resumed`. None elsewhere.
    """

    iteration: int
    params: Params
    moments: Moments
    best_iteration: int
    best_loss: float
    best_params: Params
    phase: int = 0
    began: int = 0
    first: Params | None = None

    def bettered(self, iteration: int, loss: float, params: Params) -> State:
        """With these as the best parameters, if they are."""
        if not loss < self.best_loss:
            return self
        return self._replace(best_iteration=iteration, best_loss=loss, best_params=params)


class Progress(NamedTuple):
    """One iteration.

    Attributes:
        iteration: Its number, from 1.
        loss: What is minimised, before its step (of `lbfgs`, after it): mean squared error, mg^2, and what regularises;
            of `matching`, the mean square of field minus slope, without unit.
        gradient_norm: Euclidean norm of the whole gradient, before clipping.
        seconds: Wall time of the gradient and the step, compilation included.
        report: What the solver said, leaves `[S, ...]` in the framework's arrays.
        state: Where the fit stands after it.
        validation: Mean squared error of the subjects of validation after it, mg^2; None where it was not judged.
    """

    iteration: int
    loss: float
    gradient_norm: float
    seconds: float
    report: Report
    state: State
    validation: float | None = None


def start(framework: Framework, params: dict[str, np.ndarray]) -> State:
    """A fit before its first iteration, from parameters in NumPy."""
    arrays = framework.arrays
    placed = {name: arrays.asarray(value) for name, value in params.items()}
    return State(0, placed, arrays.adam_init(placed), 0, math.inf, placed)


def resumed(arrays: Arrays, state: State) -> State:
    """Where a fit that stopped in this state goes on, bit for bit: there, or where its phase began.

    SciPy keeps to itself what L-BFGS has learned of the curvature, so that a phase by it cannot be entered midway.
    """
    if state.first is None:
        return state
    began, first = state.began, state.first
    return State(began, first, arrays.adam_init(first), began, math.inf, first, state.phase, began)


def entered(arrays: Arrays, state: State, phase: int, from_best: bool) -> State:
    """The state at the beginning of a phase: from the last parameters of the one before, or from its best."""
    params, now = state.best_params if from_best else state.params, state.iteration
    return State(now, params, arrays.adam_init(params), now, math.inf, params, phase, now)
