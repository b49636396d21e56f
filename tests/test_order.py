"""Order of convergence through doses: of every method in equal steps, with doses at times that no common grid holds."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from reference import Reference

from pk_event_fit import frameworks
from pk_event_fit.arrays.numpy import NumpyArrays
from pk_event_fit.dosing import Dose, Infusion, schedule
from pk_event_fit.errors import ConfigError, SolverFailure
from pk_event_fit.frameworks.base import IMPLICIT, ORDERS, Framework, Interval, Report, Solver
from pk_event_fit.integrate import predict

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
METHODS = [(name, method) for name in NAMES for method in frameworks.load(name).fixed]
EQUAL = [name for name in NAMES if frameworks.load(name).fixed]
SLACK = 0.1

# Two subjects, four intervals each, 2 to 4.3 h long. Nothing is faster than 1.4 / h, so that a step of the finer solve
# is a quarter of the shortest time constant or less: what the next power of a step's length does to the slope is
# small; those of order 8 are as long as a time constant, or their error would be lost in rounding. The error stays far
# above that of the reference and of rounding, which are 1e-12 mg or so at 100 mg.
END = 13.1
HISTORIES = [
    [Dose(0.0, 100.0), Infusion(3.7, 60.0, duration=2.0), Dose(9.1, 50.0)],
    [Dose(0.0, 80.0), Infusion(4.3, 90.0, duration=3.1), Dose(10.6, 40.0, 2)],
]
STEPS = {1: (128, 256), 2: (64, 128), 3: (64, 128), 4: (32, 64), 5: (32, 64), 8: (3, 6)}
# Kvaerno's method of order 4 is at 3.87 between 32 and 64 steps, and at 3.93 and 3.97 after; Adams-Bashforth's next
# power has 0.95 of the factor of the first. The other two have a part of the error that grows as
# fast as a compartment empties, and has to stay small against the state to be of the order that it is.
LONGER = {
    "kvaerno4": (64, 128),
    "explicit_adams": (128, 256),
    "leapfrog_midpoint": (1024, 2048),
    "reversible_heun": (1024, 2048),
}
OBSERVED = [[1.1, 3.0, 4.4, 8.8, 12.0], [0.7, 2.9, 5.5, 9.9, 13.0]]
BEST = {"diffrax": "dopri5", "torchdiffeq": "rk4", "torchdyn": "rk4", "torchode": "dopri5"}
PARAMS = {"capacity": 20.0}


def field(xp, params, t, y, covariates):
    """Two compartments; elimination saturates, and its capacity follows the time of the day: smooth, not linear."""
    central, peripheral = y[..., 0], y[..., 1]
    capacity = params["capacity"] * (1 + 0.3 * xp.sin(0.5 * t))
    flow = 0.5 * central - 0.4 * peripheral
    return xp.stack([-flow - capacity * central / (40.0 + central), flow], -1)


def create(name, method, steps, precision="float64", **settings):
    solver = Solver(method=method, steps=steps, **{"rtol": 1e-10, "atol": 1e-10, **settings})
    return frameworks.load(name).create(solver, precision=precision)


def run(framework, table, field=field):
    """States, `[S, K, B, D]`, and the report."""
    arrays, rows = framework.arrays, framework.arrays.table(table)
    params = {key: arrays.asarray(value) for key, value in PARAMS.items()}
    solve = arrays.compile(lambda p, y, rows: predict(framework, field, p, y, rows))
    states, report = framework.guard(solve, params, arrays.asarray(np.zeros(table.bolus.shape[1:])), rows)
    framework.check(report, rows)
    return arrays.to_numpy(states), report


@functools.cache
def plan(observed=False):
    return schedule(HISTORIES, compartments=2, start=0.0, end=END, times=OBSERVED if observed else None)


@functools.cache
def expected():
    """Amounts at the end, mg, `[B, D]`."""
    return run(Reference.create(), plan().intervals)[0][-1, -1]


def order(make, steps):
    """The slope of the error at the end of the last interval: its logarithm over that of a step's length."""
    coarse, fine = (np.abs(run(make(count), plan().intervals)[0][-1, -1] - expected()).max() for count in steps)
    return np.log(coarse / fine) / np.log(steps[1] / steps[0])


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_order_through_doses(name, method):
    steps = LONGER.get(method, STEPS[ORDERS[method]])
    # An implicit step's equations get two iterations, which leave far less than its error; a tight tolerance would
    # refuse that. Equal steps use no tolerance for anything else.
    assert order(lambda count: create(name, method, count, rtol=1e-6, atol=1e-6), steps) >= ORDERS[method] - SLACK


class Bogacki(Framework):
    """Bogacki and Shampine's method of order 3, whose last stage is the first of the next step.

    Args:
        across: Whether it is that of the next interval as well: wrong, where the state or a rate jumps between them.
    """

    name = "bogacki"
    methods = ()
    fixed = ("bosh3",)

    def __init__(self, steps, across):
        super().__init__(NumpyArrays(), Solver(method="bosh3", steps=steps))
        self.across, self.last = across, None

    @classmethod
    def create(cls, solver, *, precision="float64", device="cpu", compile=False):
        return cls(solver.steps, across=False)

    def solve(self, rhs, y0, params, interval, grid):
        def slope(s, y):  # mg/h, which does not depend on the length of the interval
            return rhs(s, y, params, interval) / interval.duration[:, None]

        ticks = self.solver.ticks
        y, stage = y0, self.last if self.across else None
        for s, after in itertools.pairwise(ticks):
            h = (after - s) * interval.duration[:, None]
            first = slope(s, y) if stage is None else stage
            second = slope(s + (after - s) / 2, y + h / 2 * first)
            third = slope(s + (after - s) * 3 / 4, y + h * 3 / 4 * second)
            y = y + h * (2 * first + 3 * second + 4 * third) / 9
            stage = slope(after, y)
        self.last = stage
        return np.stack([y0, y]), Report(accepted=np.array([len(ticks) - 1]))


def test_a_fresh_first_stage_at_each_dose_keeps_the_order():
    assert order(lambda count: Bogacki(count, across=False), STEPS[3]) >= 3 - SLACK


def test_a_first_stage_reused_across_a_dose_is_caught():
    """The same check, which it fails: one stage of one step is off by what the dose changed, however short the step."""
    found = order(lambda count: Bogacki(count, across=True), STEPS[3])
    assert found < 3 - SLACK
    assert found == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("name", EQUAL)
@pytest.mark.parametrize("steps", [1, 10, 49])
def test_an_interval_takes_as_many_steps_as_asked_for(name, steps):
    """Also where the steps' lengths do not add up to 1 in floating point."""
    framework = create(name, "euler", steps)
    _, report = run(framework, plan().intervals)
    accepted, rejected = (framework.arrays.to_numpy(leaf) for leaf in (report.accepted, report.rejected))
    assert (accepted == steps).all()
    assert (rejected == 0).all()
    if report.evaluations is not None and name.startswith("torch") and name != "torchode":
        more = 1 if name == "torchdiffeq" else 0  # its cubic asks for the slope at the end
        assert (framework.arrays.to_numpy(report.evaluations) == steps + more).all()


class Observed(Reference):
    """The reference at each subject's own report points."""

    def solve(self, rhs, y0, params, interval, grid):
        points, index = np.unique(grid, return_inverse=True)
        states, report = super().solve(rhs, y0, params, interval, points)
        return states[index.reshape(grid.shape), np.arange(len(y0))], report


@pytest.mark.parametrize("name", EQUAL)
def test_each_subject_is_reported_at_its_own_times(name):
    """A cubic between steps of h = 0.07 h errs by h^4 y'''' / 384, or 1e-5 mg; a line by thousands of times that."""
    planned = plan(observed=True)
    where = planned.reports
    found, truth = (
        run(framework, planned.intervals)[0][where.interval, where.point, where.subject]
        for framework in (create(name, BEST[name], 64), Observed.create())
    )
    assert np.abs(found - truth).max() <= 1e-4


@pytest.mark.parametrize("name", EQUAL)
def test_gradient_through_equal_steps_is_that_of_the_steps(name):
    """Against a central difference of the same steps, which errs by 1e-8 or so: 1e-3 squared, and rounding by 1e-3."""
    framework = create(name, BEST[name], 4)
    arrays, rows = framework.arrays, framework.arrays.table(plan().intervals)
    weights = arrays.asarray(np.array([[1.0, -2.0], [0.5, 3.0]]))

    def loss(params, y, rows):
        states, report = predict(framework, field, params, y, rows)
        return (weights * states[-1, -1]).sum(), report

    initial = arrays.asarray(np.ones((2, 2)))
    step = arrays.compile(arrays.value_and_grad(loss))
    (_, _), found = step({"capacity": arrays.asarray(PARAMS["capacity"])}, initial, rows)
    high, low = (
        float(loss({"capacity": arrays.asarray(PARAMS["capacity"] + change)}, initial, rows)[0])
        for change in (1e-3, -1e-3)
    )
    assert float(found["capacity"]) == pytest.approx((high - low) / 2e-3, rel=1e-6)


def blowing_up(xp, params, t, y, covariates):
    """y' = y^2."""
    return y**2


@pytest.mark.parametrize("name", EQUAL)
def test_a_state_that_is_not_finite_is_a_failure(name):
    """From 100 mg, 64 steps of an hour square the state to infinity; no error estimate refuses one of them."""
    start = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 2))
    table = Interval(np.arange(3), start, np.ones((3, 2)), np.zeros((3, 2, 2)))
    table.bolus[1, 1] = 100.0
    with pytest.raises(SolverFailure, match="not finite") as caught:
        run(create(name, "euler", 64), table, field=blowing_up)
    assert (caught.value.framework, caught.value.interval, caught.value.subject) == (name, 1, 1)
    assert 1.0 <= caught.value.t <= 2.0


@pytest.mark.parametrize("name", EQUAL)
def test_equal_steps_do_not_ask_for_the_tolerance(name):
    """Not even for one that no precision holds."""
    loose, tight = (run(create(name, "euler", 8, rtol=rtol), plan().intervals)[0] for rtol in (0.1, 1e-30))
    np.testing.assert_array_equal(loose, tight)


@pytest.mark.parametrize("method", [method for method in frameworks.load("diffrax").fixed if method in IMPLICIT])
def test_the_equations_of_an_implicit_method_need_a_tolerance_that_the_precision_holds(method):
    with pytest.raises(ConfigError, match=r"solver.rtol.*float64"):
        create("diffrax", method, 8, precision="float32", rtol=1e-10)


@pytest.mark.parametrize("steps", [0, -1, 4097])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(ConfigError, match=f"solver.steps={steps}: must be 1 to solver.max_steps=4096"):
        Solver(steps=steps)


@pytest.mark.parametrize("name", EQUAL)
def test_more_steps_than_the_precision_tells_apart_are_refused(name):
    with pytest.raises(ConfigError, match=r"solver.steps.*float64"):
        create(name, "euler", 100_000, precision="float32", max_steps=100_000)


@pytest.mark.parametrize("method", [method for method in ORDERS if method not in ("dopri5", "tsit5", "kvaerno5")])
def test_a_method_of_equal_steps_alone_asks_for_their_number(method):
    with pytest.raises(ConfigError, match=rf"solver.method='{method}': set solver.steps; .* dopri5"):
        Solver(method=method)


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in EQUAL for method in ORDERS if (name, method) not in METHODS]
)
def test_a_method_that_the_library_lacks_in_equal_steps_is_refused(name, method):
    with pytest.raises(ConfigError, match=rf"solver.method={method}: {name} does not have it in equal steps; .*euler"):
        create(name, method, 8)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EQUAL])
def test_a_framework_without_equal_steps_says_so(name):
    with pytest.raises(ConfigError, match=f"{name} does not have it in equal steps; it takes no equal steps"):
        create(name, "dopri5", 8)


def test_the_adjoint_equation_is_refused():
    with pytest.raises(ConfigError, match=r"solver.gradient='adjoint': with solver.steps, choose direct"):
        Solver(steps=8, gradient="adjoint")


@pytest.mark.parametrize("name", ["diffrax", "torchdiffeq"])
def test_equal_steps_cannot_be_told_of_a_jump(name):
    with pytest.raises(ConfigError, match=r"solver\.steps=8: equal steps cannot stop at a discontinuity"):
        create(name, "euler", 8).with_jumps([0.3])


def test_torchode_does_not_compile_equal_steps():
    with pytest.raises(ConfigError, match=r"leave out solver\.steps"):
        frameworks.load("torchode").create(Solver(steps=8), compile=True)
