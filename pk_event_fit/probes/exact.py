"""The exact gradient of the loss, for the others to be compared with; always float64 in Diffrax."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import store
from ..data import Cohort
from ..frameworks.base import Interval
from ..integrate import predict
from ..training import batch_of, gradient_step, mean_squared_error
from .bench import Bench

RTOL, ATOL = 1e-12, 1e-12
ADJOINT_POINTS = 11


def probe(bench: Bench):
    """Two ways that share nothing but the field: direct through short steps, and the adjoint equation.

    A direct gradient is not held by the tolerance where the state is at rest, since its steps are as long as the state
    allows. Cutting every interval at its report points keeps them short, and its own error far below the tolerance.
    """
    yield
    direct = bench.framework(precision="float64", rtol=RTOL, atol=ATOL)
    adjoint = bench.framework(precision="float64", rtol=RTOL, atol=ATOL, gradient="adjoint", max_steps=100_000)
    cohort, apart = _condensed(bench.cohort.take(bench.fitted))
    shape = cohort.amounts.shape[1:3]

    def loss_at(points):
        def loss(params, initial, intervals, observed):
            states, report = predict(direct, bench.field, params, initial, intervals, (0.0, 1.0))
            parts = states.reshape(shape[0], shape[1] - 1, 2, *states.shape[2:])
            whole = direct.arrays.xp.concatenate([parts[:, :1, 0], parts[:, :, 1]], 1)
            return ((whole - observed)[:, points] ** 2).mean(), report

        return loss

    initial, _, observed, *_ = batch_of(direct.arrays, cohort, None)
    rows = direct.arrays.table(_cut(cohort.intervals, cohort.grid))
    params, found, totals = bench.place(direct), {}, {}
    for name, points in (("all", np.arange(shape[1])), ("few", few(shape[1]))):
        value, _, gradient, report = gradient_step(direct, loss_at(points), None)(params, initial, rows, observed)
        direct.check(report, rows)
        found[name] = {key: direct.arrays.to_numpy(g) for key, g in gradient.items()}
        totals[name] = float(value) + float(apart[:, points].mean())
    thin = thinned(cohort)
    batch = batch_of(adjoint.arrays, thin, None)
    plain = mean_squared_error(adjoint, bench.field, thin.grid)
    other_value, _, gradient, report = adjoint.guard(gradient_step(adjoint, plain, None), params, *batch)
    adjoint.check(report, batch[1])
    other = flat({key: adjoint.arrays.to_numpy(g) for key, g in gradient.items()})
    one, total = flat(found["few"]), totals["few"]
    about = {
        "norm": float(np.linalg.norm(flat(found["all"]))),
        "uncertainty": float(np.linalg.norm(one - other) / np.linalg.norm(one)),
        "loss": totals["all"],
        "loss_uncertainty": abs(float(other_value) + float(apart[:, few(shape[1])].mean()) - total) / total,
    }
    arrays = {f"{name}.{key}": g for name, gradient in found.items() for key, g in gradient.items()}
    losses = {f"loss.{name}": np.array(value) for name, value in totals.items()}
    store.write_npz(Path(bench.order["exact"]), {**arrays, **losses}, about)
    return about


def few(points: int) -> np.ndarray:
    """Which of so many report points adjoint modes are measured at: libraries that stop at each would take minutes."""
    return np.unique(np.linspace(0, points - 1, ADJOINT_POINTS).round().astype(int))


def thinned(cohort: Cohort) -> Cohort:
    """The cohort observed at those points only."""
    points = few(len(cohort.grid))
    return cohort._replace(
        amounts=cohort.amounts[:, :, points], grid=cohort.grid[points], times=cohort.times[:, points]
    )


def flat(gradient: dict[str, np.ndarray]) -> np.ndarray:
    """All parameters' gradients as one vector, in the order of their names, float64."""
    return np.concatenate([np.asarray(gradient[name], np.float64).ravel() for name in sorted(gradient)])


def _condensed(cohort: Cohort) -> tuple[Cohort, np.ndarray]:
    """Where subjects start and are dosed alike: one of them, observed as their mean, and what that takes off the loss.

    One prediction p then serves them all, and mean (p - o)^2 = (p - mean o)^2 + var o, mg^2, `[S, K, D]`.
    """
    leaves = [leaf for leaf in cohort.intervals[1:] if leaf is not None]
    alike = all((leaf == leaf[:, :1]).all() for leaf in leaves) and (cohort.initial == cohort.initial[:1]).all()
    if not alike:
        return cohort, np.zeros(cohort.amounts.shape[1:])
    mean = cohort.amounts.mean(0, keepdims=True)
    return cohort.take(np.array([0]))._replace(amounts=mean), ((cohort.amounts - mean) ** 2).mean(0)


def _cut(table: Interval, grid: np.ndarray) -> Interval:
    """Every interval cut at its report points; the dose stays in the first piece."""
    pieces = len(grid) - 1
    start = table.start[:, None] + table.duration[:, None] * grid[:-1, None]
    duration = table.duration[:, None] * np.diff(grid)[:, None]
    bolus = np.zeros((len(table.start), pieces, *table.bolus.shape[1:]))
    bolus[:, 0] = table.bolus
    merge = [leaf.reshape(-1, *leaf.shape[2:]) for leaf in (start, duration, bolus)]
    return Interval(np.arange(len(merge[0])), *merge)
