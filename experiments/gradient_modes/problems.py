"""The two gradients that are asked for, and the exact ones to judge them by."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from experiments.common import cohort, typical_network
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Interval
from pk_event_fit.integrate import predict

MODEL = Mlp(activation="silu")  # smooth, so that what is seen is the solvers' error and not that of kinks
END = 48.0
# One dose more or less: until 12 h nothing moves in the first, and in the second the state moves from the start.
SITUATIONS = {"at rest until 12 h": [12.0, 24.0, 36.0], "dosed at 0 h too": [0.0, 12.0, 24.0, 36.0]}
REST, MOVING = SITUATIONS


@dataclass(kw_only=True)
class Daily(Mlp):
    """The same network with a daily rhythm, so that the clock matters."""

    @property
    def autonomous(self) -> bool:
        return False

    def __call__(self, xp, params, t, y, covariates):
        rhythm = 1 + 0.2 * xp.cos(2 * np.pi / 24 * t)
        return rhythm[..., None] * super().__call__(xp, params, t, y, covariates)


DAILY = Daily(activation="silu")


def inputs(arrays, situation: str, subjects: int, points: int):
    """Weights, and initial state, intervals and observations, in a framework's arrays."""
    data = cohort(subjects, SITUATIONS[situation], END, points)
    weights = {name: arrays.asarray(value) for name, value in typical_network(MODEL).items()}
    return weights, (arrays.asarray(data.initial), arrays.table(data.intervals), arrays.asarray(data.observed))


def cut(arrays, rows: Interval, pieces: int) -> Interval:
    """Every interval cut into pieces of equal length, which holds the solver's steps to that."""
    xp, (count, subjects) = arrays.xp, rows.duration.shape
    fractions = arrays.asarray(np.arange(pieces) / pieces)[None, :, None]
    first = arrays.asarray(np.eye(1, pieces)[0])[None, :, None, None]
    return Interval(
        arrays.asarray(np.arange(count * pieces)),
        (rows.start[:, None] + fractions * rows.duration[:, None]).reshape(-1, subjects),
        (xp.zeros_like(fractions) + rows.duration[:, None] / pieces).reshape(-1, subjects),
        (first * rows.bolus[:, None]).reshape(-1, subjects, rows.bolus.shape[-1]),
    )


def states(framework, field, params, initial, rows, points: int, fine: bool):
    """Amounts at `points` even points of each interval, `[S, K, B, D]`; fine: in solves of 20 minutes or so each."""
    if not fine:
        return predict(framework, field, params, initial, rows, np.linspace(0.0, 1.0, points))
    pieces = max(1, round(36 / (points - 1)))
    rows = cut(framework.arrays, rows, pieces * (points - 1))
    found, report = predict(framework, field, params, initial, rows, (0.0, 1.0))
    found = found.reshape(-1, points - 1, pieces, 2, *found.shape[2:])
    return framework.arrays.xp.concatenate([found[:, :1, 0, 0], found[:, :, -1, 1]], 1), report


def hold(framework, rtol, atol) -> None:
    """Set tolerances, traced ones as well: one compilation then serves them all."""
    framework.solver = copy.copy(framework.solver)
    framework.solver.rtol, framework.solver.atol = rtol, atol


def weights_loss(framework, points: int, fine: bool = False):
    """Mean squared error as a function of the weights."""

    def loss(params, initial, rows, observed, rtol, atol):
        hold(framework, rtol, atol)
        found, report = states(framework, MODEL, params, initial, rows, points, fine)
        return ((found - observed) ** 2).mean(), report

    return loss


def doses_loss(framework, points: int, fine: bool = False):
    """The same of `{"time": h, "amount": mg}`, `[S - 1, B]` each: the doses that begin all intervals but the first."""
    xp = framework.arrays.xp

    def loss(doses, weights, initial, rows, observed, rtol, atol):
        hold(framework, rtol, atol)
        start = xp.concatenate([rows.start[:1], doses["time"]])
        end = xp.concatenate([doses["time"], xp.zeros_like(rows.start[:1]) + END])
        amount = xp.concatenate([rows.bolus[:1, :, 0], doses["amount"]])
        changed = rows._replace(start=start, duration=end - start, bolus=xp.stack([amount, 0 * amount], -1))
        found, report = states(framework, DAILY, weights, initial, changed, points, fine)
        return ((found - observed) ** 2).mean(), report

    return loss


def doses_of(rows: Interval) -> dict:
    """The doses that `doses_loss` is a function of."""
    return {"time": rows.start[1:], "amount": rows.bolus[1:, :, 0]}
