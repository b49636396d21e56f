"""What solvers do at a dose: restarted there, told of the discontinuity, or told nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import store
from ..compartments import TwoCompartment
from ..errors import ConfigError, PKEventError
from ..frameworks.base import Interval
from ..integrate import predict
from ..job import solver_counts
from ..metrics.stability import Event, stability
from .bench import Bench
from .precision import known
from .truth import field_flow, linear_flow, trajectory

WINDOW = 0.5  # h after a dose in which to look
INFUSION = 0.1  # h; a bolus has no width, and a solver that is not restarted needs one
TREATMENTS = ("restart", "jump_ts", "nothing")
STAGES = 6  # evaluations of the field a step, in Dopri5 and Tsit5 alike
BEFORE, AFTER, SPACING = 0.5, 1.5, 0.02  # h around the first dose that the close-up shows


class Problem(NamedTuple):
    """One field, solved for some subjects.

    Attributes:
        field: The field.
        params: Its weights, NumPy.
        initial: Amounts at the start, mg, `[B, D]`.
        table: Intervals with their covariates, leaves `[S, B, ...]`.
        flow: Its exact solution.
    """

    field: Callable
    params: dict[str, np.ndarray]
    initial: np.ndarray
    table: Interval
    flow: Callable


class Forced:
    """A field with narrow infusions in place of boluses; it needs the clock.

    Args:
        field: The field.
        doses: First and last time of each infusion in h, and its rates in mg/h as the framework's array, `[D]`.
    """

    autonomous = False

    def __init__(self, field: Callable, doses: list[tuple[float, float, Any]]):
        self.field, self.doses = field, doses

    def __call__(self, xp, params, t, y, covariates):
        derivative = self.field(xp, params, t, y, covariates)
        for start, end, rate in self.doses:
            on = (t >= start) & (t < end)
            derivative = derivative + xp.where(on[..., None], rate, xp.zeros_like(rate))
        return derivative


class Noted:
    """A field that tells the clock at each evaluation."""

    autonomous = False

    def __init__(self, field: Callable, arrays: Any, note: Callable):
        self.field, self.arrays, self.note = field, arrays, note

    def __call__(self, xp, params, t, y, covariates):
        self.arrays.tell(self.note, t)
        return self.field(xp, params, t, y, covariates)


def probe(bench: Bench):
    """Both fields, three treatments; and the curves of one subject around the first dose."""
    yield
    table, size = bench.cohort.intervals, bench.cohort.amounts.shape[-1]
    if not (table.duration == table.duration[:, :1]).all() or not (table.bolus == table.bolus[:, :1]).all():
        raise ConfigError("this probe needs a cohort whose subjects are dosed alike")
    if table.start[0, 0] != 0:
        raise ConfigError(f"data.start={table.start[0, 0]}: this probe needs a time axis that starts at 0 h")
    subject = 0
    problems: dict[str, Problem | str] = {}
    try:
        parameters = known(bench)
        rows = table._replace(covariates=np.stack([parameters] * len(table.start)))
        problems["true"] = Problem(TwoCompartment(), {}, bench.cohort.initial, rows, linear_flow(parameters))
    except ConfigError as error:
        problems["true"] = str(error)
    # A field of the amounts gives subjects who are dosed alike one curve: one of them is enough.
    single = Interval(table.number, *(None if leaf is None else leaf[:, :1] for leaf in table[1:]))
    flow = field_flow(bench.field, bench.params)
    problems["learned"] = Problem(bench.field, bench.params, bench.cohort.initial[:1], single, flow)
    found: dict[str, dict[str, Any]] = {}
    curves: dict[str, np.ndarray] = {}
    for name, problem in problems.items():
        found[name] = {}
        for treatment in TREATMENTS:
            if isinstance(problem, str):
                found[name][treatment] = {"status": "unsupported", "error": problem}
                continue
            try:
                result, times, states, exact = treat(bench, problem, treatment)
                found[name][treatment] = {"status": "completed", "error": None, **result}
            except PKEventError as error:
                kind = "unsupported" if isinstance(error, ConfigError) else "failed"
                found[name][treatment] = {"status": kind, "error": " ".join(str(error).split())}
                continue
            first = float(table.start[_dosed(table)[0], 0])
            near = (times >= first - BEFORE) & (times <= first + AFTER)
            suffix = "" if treatment == "restart" else ".infusion"
            curves[f"{name}.{treatment}"] = states[subject, near]
            curves[f"times{suffix}"] = times[near]
            curves[f"exact.{name}{suffix}"] = exact[subject, near]
    store.write_npz(
        bench.out.with_suffix(".npz"), curves, {"units": {"times": "h", "amounts": "mg"}, "compartments": size}
    )
    return {"window_h": WINDOW, "infusion_h": INFUSION, "subject": subject, "fields": found}


def treat(bench: Bench, problem: Problem, treatment: str):
    """Solve one problem one way: metrics, times in h `[N]`, amounts solved and exact, mg, `[B, N, D]`."""
    # Float64: a float32 clock at 12 h ticks in 1e-6 h, in which such an infusion brings 1e-3 mg, whoever solves.
    table, framework = problem.table, bench.framework(compile=False, precision="float64")
    if treatment == "restart":
        grid = _grid(table)
        hours = [grid * float(length) for length in table.duration[:, 0]]
        times = np.concatenate([float(start) + h for start, h in zip(table.start[:, 0], hours, strict=True)])
        exact = np.concatenate(trajectory(problem.flow, table, problem.initial, hours), 1)
        states, counts, spent = _solve(framework, problem.field, problem, table, grid)
        points = len(grid)
        events = [Event(k * points - 1, k * points, c) for k in _dosed(table) for c in _into(table, k)]
    else:
        infusions, rows = _infusions(table)
        times = _clock(table)
        hours = [
            times[(times > a) & (times <= b)] - a
            for a, b in zip(rows.start[:, 0], (rows.start + rows.duration)[:, 0], strict=True)
        ]
        hours[0] = np.append(0.0, hours[0])
        exact = np.concatenate(trajectory(problem.flow, rows, problem.initial, hours), 1)
        horizon = 2.0 ** np.ceil(np.log2(times[-1]))  # own times are then clock times to the last bit
        if treatment == "jump_ts":
            framework = framework.with_jumps([edge / horizon for start, end, _ in infusions for edge in (start, end)])
        whole = _whole(table, horizon)
        field = Forced(problem.field, [(a, b, framework.arrays.asarray(rate)) for a, b, rate in infusions])
        grid = np.append(times / horizon, 1.0) if times[-1] < horizon else times / horizon
        states, counts, spent = _solve(framework, field, problem, whole, grid)
        states = states[:, : len(times)]
        place = {float(time): k for k, time in enumerate(times)}
        events = [Event(place[a], place[b], int(c)) for a, b, rate in infusions for c in np.flatnonzero(rate)]
    names = bench.cohort.compartments
    score = stability(states, exact, times, events=events, compartments=names, window=WINDOW)
    doses = [float(table.start[k, 0]) for k in _dosed(table)]
    after = [sum(dose <= clock <= dose + WINDOW for clock in spent) / STAGES for dose in doses]
    # A solve through infusions goes on beyond the end of the data, to where own times are exact.
    counted = counts["accepted"] is not None and treatment == "restart"
    steps = counts["accepted"] + counts["rejected"] if counted else None
    rises = [abs(exact[:, e.after, e.compartment] - exact[:, e.before, e.compartment]).mean() for e in events]
    missed = bool(score.jump_mg < 0.5 * np.mean(rises))
    return (
        {**score._asdict(), "missed": missed, "steps_after_dose": float(np.mean(after)), "steps_total": steps},
        times,
        states,
        exact,
    )


def _solve(framework, field: Callable, problem: Problem, table: Interval, grid: np.ndarray):
    """Amounts, mg, `[B, S * K, D]`, the solver's counts, and the clock of each evaluation for the first subject."""
    arrays = framework.arrays
    params = {name: arrays.asarray(value) for name, value in problem.params.items()}

    def solve(field, initial, table):
        call = arrays.compile(lambda params, initial, rows: predict(framework, field, params, initial, rows, grid))
        rows = arrays.table(table)
        states, report = framework.guard(call, params, arrays.asarray(initial), rows)
        framework.check(report, rows)
        return arrays.to_numpy(states), report

    states, report = solve(field, problem.initial, table)
    clocks: list[float] = []
    single = Interval(table.number, *(None if leaf is None else leaf[:, :1] for leaf in table[1:]))
    noted = Noted(field, arrays, lambda t: clocks.append(float(np.asarray(t).reshape(-1)[0])))
    solve(noted, problem.initial[:1], single)
    rows, points, subjects, size = states.shape
    amounts = states.transpose(2, 0, 1, 3).reshape(subjects, rows * points, size).astype(np.float64)
    return amounts, solver_counts(framework, report), clocks


def _dosed(table: Interval) -> list[int]:
    """Intervals that start with a dose and have a point before it."""
    return [k for k in range(1, len(table.start)) if table.bolus[k, 0].any() and table.duration[k, 0] > 0]


def _into(table: Interval, k: int) -> list[int]:
    return [int(c) for c in np.flatnonzero(table.bolus[k, 0])]


def _grid(table: Interval) -> np.ndarray:
    """Fractions of an interval: even, and dense where the close-up and the window are."""
    length = float(table.duration[_dosed(table)[0], 0]) if _dosed(table) else float(table.duration[0, 0])
    dense = [np.arange(0.0, AFTER, SPACING), length - np.arange(0.0, BEFORE, SPACING)]
    points = np.concatenate([np.linspace(0.0, 1.0, 49), *(part / length for part in dense)])
    points = np.unique(points[(points >= 0) & (points <= 1)].round(9))
    return points


def _clock(table: Interval) -> np.ndarray:
    """The same points as clock times of the whole, once each, with the end of every infusion."""
    grid, starts, lengths = _grid(table), table.start[:, 0], table.duration[:, 0]
    times = [start + grid * length for start, length in zip(starts, lengths, strict=True)]
    times += [[_single(starts[k]), _single(starts[k] + INFUSION)] for k in _dosed(table)]
    return np.unique([_single(time) for part in times for time in part])


def _single(time: float) -> float:
    """A time that float32 holds exactly, so that field, solver and exact solution jump on the same bits."""
    return float(np.float32(time))


def _infusions(table: Interval) -> tuple[list[tuple[float, float, np.ndarray]], Interval]:
    """Start, end and rates (mg/h) of what replaces each bolus; and the intervals between all of these times."""
    doses = [
        (_single(table.start[k, 0]), _single(table.start[k, 0] + INFUSION), table.bolus[k, 0]) for k in _dosed(table)
    ]
    infusions = [(start, end, amount / (end - start)) for start, end, amount in doses]
    last = float(_single((table.start + table.duration)[-1, 0]))
    cuts = np.unique([float(table.start[0, 0]), last, *(edge for start, end, _ in infusions for edge in (start, end))])
    subjects, size = table.bolus.shape[1:]
    rate = np.zeros((len(cuts) - 1, subjects, size))
    for start, end, amount in infusions:
        rate[(cuts[:-1] >= start) & (cuts[:-1] < end)] += amount
    spread = np.ones((1, subjects))
    covariates = (
        None
        if table.covariates is None
        else np.broadcast_to(table.covariates[0], (len(rate), *table.covariates.shape[1:]))
    )
    bolus = np.zeros_like(rate)
    bolus[0] = table.bolus[0]  # at the very start: no solver has to be told of it
    return infusions, Interval(
        np.arange(len(rate)), cuts[:-1, None] * spread, np.diff(cuts)[:, None] * spread, bolus, rate, covariates
    )


def _whole(table: Interval, horizon: float) -> Interval:
    """One interval over everything."""
    subjects = table.start.shape[1]
    number, ones = np.arange(1), np.ones((1, subjects))
    covariates = None if table.covariates is None else table.covariates[:1]
    start = float(table.start[0, 0])
    return Interval(number, start * ones, horizon * ones, table.bolus[:1], None, covariates)
