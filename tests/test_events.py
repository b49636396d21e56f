"""Random dosing histories in every framework, against an oracle that shares nothing with them."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
from clinic import OBSERVATION, OTHER, Row, simulate
from histories import SPAN, as_records, draw, event_times, histories
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import Exact, linear

from pk_event_fit import frameworks
from pk_event_fit.dosing import schedule
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.integrate import predict

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
BOUND = 1e-8  # of a history's largest amount
HISTORIES = int(os.environ.get("HISTORIES", "2000"))  # a multiple of 2,000; half with two, half with three compartments
BATCH = 1000


def plan(cases, **axis):
    """The schedule of several subjects, each with its own kinetics, bioavailability, lags and modelled infusions."""
    rows, models = zip(*cases, strict=True)
    own = {
        "bioavailability": [model.bioavailability for model in models],
        "lag": [model.lag for model in models],
        "modelled_rate": [model.modelled_rate for model in models],
        "modelled_duration": [model.modelled_duration for model in models],
    }
    return schedule(as_records(rows, models), compartments=len(models[0].lag), **own, **axis)


def told(framework, planned, initial=0.0):
    """Amounts at every report, `[Q, D]`."""
    arrays = framework.arrays
    solve = arrays.compile(lambda y, table, steady: predict(framework, linear, {}, y, table, steady=steady))
    table, steady = arrays.table(planned.intervals), arrays.table(planned.steady)
    initial = arrays.asarray(np.broadcast_to(initial, planned.intervals.bolus.shape[1:]))
    states, report = framework.guard(solve, initial, table, steady)
    framework.check(report, table)
    where = planned.reports
    return arrays.to_numpy(states)[where.interval, where.point, where.subject]


def errors(found, planned, cases):
    """Largest error of each history, relative to its own largest amount."""
    worst = []
    for subject, (rows, model) in enumerate(cases):
        seen = [row.kind in (0, 2) for row in rows]
        states = simulate(rows, model)
        own = found[planned.reports.subject == subject]
        worst.append(np.abs(own - states[seen]).max(initial=0.0) / max(np.abs(states).max(), 1e-6))
    return np.array(worst)


@functools.cache
def drawn(size):
    """Half of the histories. Of many, those of like length share a batch: each of it takes as long as its longest."""
    rng = np.random.default_rng(size)
    cases = [draw(rng, 30, size) for _ in range(HISTORIES // 2)]
    if len(cases) == BATCH:
        return cases
    lengths = (plan(cases).clock.heads >= 0).sum(0)
    return [cases[k] for k in np.argsort(lengths, kind="stable")]


def batch(number):
    return drawn(2 + number % 2)[number // 2 * BATCH :][:BATCH]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(size=3))
def test_the_table_says_what_the_records_mean(case):
    """No solver here: intervals by the matrix exponential, so that a small counterexample shows the rule it breaks."""
    planned = plan([case])
    assert errors(told(Exact.create(), planned), planned, [case]).max() <= 1e-11


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.floats(1.0, SPAN))
def test_a_solve_begins_in_the_middle_of_a_history_where_the_state_is_given(case, start):
    """What runs by then, waits or is still to be repeated goes on; what was before is in the state."""
    rows, model = case
    assume(all(abs(time - start) > 1e-9 for row in rows for time in event_times(row, model)))
    before, after = ([row for row in rows if (row.time > start) is late] for late in (False, True))
    seen = Row(start, OTHER, covariate=after[0].covariate if after else 1.0)
    states = simulate([*before, seen, *after], model)[len(before) :]
    kept = [*(row for row in before if row.kind not in (OBSERVATION, OTHER)), seen, *after]
    planned = plan([(kept, model)], start=start, state_given=True)
    found = told(Exact.create(), planned, states[0])
    expected = states[[row.kind in (OBSERVATION, OTHER) for row in [seen, *after]]]
    assert np.abs(found - expected).max() <= 1e-11 * max(np.abs(states).max(), 1e-6)


def test_behind_the_last_row_its_covariate_holds_where_all_rows_come_before_the_start():
    rows = [Row(0.0, 1, amount=50.0, covariate=1.0), Row(4.0, 1, amount=10.0, covariate=2.0)]
    records = as_records([rows])
    planned = schedule(records, compartments=1, start=6.0, times=[9.0], state_given=True)
    assert planned.intervals.covariates.tolist() == [[[2.0]]]
    assert planned.intervals.bolus.tolist() == [[[0.0]]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", range(HISTORIES // BATCH))
def test_random_histories_in_one_batch(name, number):
    """Ragged subjects side by side, each with its own report times."""
    cases = batch(number)
    planned = plan(cases)
    solver = Solver(rtol=1e-10, atol=1e-11, max_steps=100_000)
    framework = frameworks.load(name).create(solver, precision="float64")
    worst = errors(told(framework, planned), planned, cases).max()
    print(f"{name}, {len(cases)} histories, number {number}: largest relative error {worst:.2g}")
    assert worst <= BOUND
