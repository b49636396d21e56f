"""Work-precision: the error of the true field's solutions against the time they take, over tolerances."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compartments import TwoCompartment
from ..errors import ConfigError, PKEventError
from ..integrate import predict
from ..job import solver_counts
from ..simulate import simulate
from ..training import batch_of
from .bench import Bench, seconds

TOLERANCES = tuple(10.0**-k for k in range(3, 10))
ATOL_OF_RTOL = 1e-2  # the ratio of the package's defaults
ENOUGH_S = 0.5  # of one timed block


def known(bench: Bench) -> np.ndarray:
    """The subjects' own parameters, `[B, 4]`.

    Raises:
        ConfigError: The cohort comes from a file, which does not tell its field.
    """
    if bench.config.data.source != "simulated":
        raise ConfigError("data.source=file: the true field is known for simulated cohorts only")
    return bench.config.data.draw()


def probe(bench: Bench):
    """Every tolerance in float64, in rounds."""
    yield
    parameters = known(bench)
    exact = simulate(bench.config.data, bench.config.data).amounts
    table = bench.cohort.intervals
    rows = table._replace(covariates=np.stack([parameters] * len(table.start)))
    cohort = bench.cohort._replace(intervals=rows)
    points: list[dict[str, Any]] = []
    calls = []
    for rtol in TOLERANCES:
        point: dict[str, Any] = {"rtol": rtol, "atol": rtol * ATOL_OF_RTOL}
        points.append(point)
        try:
            framework = bench.framework(precision="float64", rtol=rtol, atol=point["atol"], max_steps=100_000)
            call = _solve(framework, cohort)
            states, report = call()
            framework.check(report, framework.arrays.table(cohort.intervals))
        except PKEventError as error:
            point |= {"status": "failed", "error": str(error)}
            continue
        off = framework.arrays.to_numpy(states).transpose(2, 0, 1, 3) - exact
        point |= {"status": "completed", "error": None, "error_mg": float(abs(off).max())}
        point |= {"rms_mg": float((off**2).mean() ** 0.5), "seconds": [], **_steps(framework, report)}
        number = int(np.clip(ENOUGH_S / seconds(framework, call), 1, bench.config.study.calls))
        calls.append((framework, call, number, point["seconds"]))
    for _ in range(bench.config.study.rounds):
        yield
        for framework, call, number, times in calls:
            times.append(sum(seconds(framework, call) for _ in range(number)) / number)
    return {"points": points}


def _solve(framework, cohort):
    initial, table, *_ = batch_of(framework.arrays, cohort, None)
    solve = framework.arrays.compile(
        lambda initial, table: predict(framework, TwoCompartment(), {}, initial, table, cohort.grid)
    )
    return lambda: framework.guard(solve, initial, table)


def _steps(framework, report) -> dict[str, Any]:
    counts = solver_counts(framework, report)
    return {name: counts[name] for name in ("accepted", "rejected", "counted_for")}
