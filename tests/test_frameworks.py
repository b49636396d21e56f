"""The conformance suite: every framework with a file in conf/framework/ goes through all of it."""

import functools
import time
from pathlib import Path

import numpy as np
import pytest
from reference import Reference

from pk_event_fit import frameworks, training
from pk_event_fit.compartments import TYPICAL, TwoCompartment, rate_matrix
from pk_event_fit.data import Cohort
from pk_event_fit.errors import ConfigError, ScheduleError, SolverFailure
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import METHODS, Interval, Solver
from pk_event_fit.integrate import predict

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
RTOL, ATOL = 1e-9, 1e-11
GRID = (0.0, 0.1, 0.35, 0.5, 0.9, 1.0)
FIELD = TwoCompartment()


@functools.cache
def create(name, method="dopri5", gradient="direct", rtol=RTOL, max_steps=100_000, precision="float64"):
    solver = Solver(method=method, rtol=rtol, atol=rtol * ATOL / RTOL, max_steps=max_steps, gradient=gradient)
    return frameworks.load(name).create(solver, precision=precision)


@functools.cache
def regimen(subjects=4, idle=0):
    """Subjects of different kinetics, clocks and numbers of doses, the second padded, and idle ones behind them."""
    random = np.random.default_rng(7)
    parameters = np.array(TYPICAL) * np.exp(0.3 * random.standard_normal((subjects, 4)))
    duration = 12.0 * np.exp(0.2 * random.standard_normal((4, subjects)))
    duration[2:, 1] = 0.0
    bolus = np.zeros((4, subjects, 2))
    bolus[1:, :, 0] = 100.0 * np.exp(0.5 * random.standard_normal((3, subjects)))
    bolus[2:, 1] = 0.0
    bolus[3, 2, 1] = 30.0
    initial = np.abs(random.normal(20.0, 10.0, (subjects, 2)))
    initial[3] = 0.0
    start = np.concatenate([np.zeros((1, subjects)), np.cumsum(duration, 0)[:-1]])
    rate = np.zeros((4, subjects, 2))
    rate[1, 0, 0] = 5.0

    def padded(x, value=0.0):
        width = [(0, 0)] * x.ndim
        width[-1 if x.ndim == 2 else -2] = (0, idle)
        return np.pad(x, width, constant_values=value)

    covariates = np.concatenate([np.broadcast_to(parameters, (4, subjects, 4)), np.ones((4, idle, 4))], 1)
    table = Interval(np.arange(4), padded(start), padded(duration), padded(bolus), padded(rate), covariates)
    return np.pad(initial, ((0, idle), (0, 0))), table


def exact(initial, table, grid=GRID):
    """Amounts by the matrix exponential, the infusion as a fourth state that is constant: `[S, K, B, D]`."""
    from scipy.linalg import expm

    y, rows = initial, []
    for k in range(len(table.start)):
        y = y + table.bolus[k]
        system = np.zeros((len(y), 3, 3))
        system[:, :2, :2], system[:, :2, 2] = rate_matrix(table.covariates[k]), table.rate[k]
        z = np.concatenate([y, np.ones((len(y), 1))], 1)
        over = [expm(system * (table.duration[k] * s)[:, None, None]) for s in grid]
        rows.append(np.stack([np.einsum("bij,bj->bi", e, z)[:, :2] for e in over]))
        y = rows[-1][-1]
    return np.stack(rows)


def solve(framework, initial, table, grid=GRID, field=FIELD, params=None):
    arrays = framework.arrays
    placed = {name: arrays.asarray(value) for name, value in (params or {}).items()}
    step = arrays.compile(lambda p, y, rows: predict(framework, field, p, y, rows, grid))
    rows = arrays.table(table)
    states, report = step(placed, arrays.asarray(initial), rows)
    framework.check(report, rows)
    return arrays.to_numpy(states), report


def error(found, expected):
    """Largest error of each subject, relative to its own largest amount, which is what the tolerance is relative to."""
    return (np.abs(found - expected).max((0, 1)) / np.abs(expected).max((0, 1, 3))[:, None]).max(1)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def methods():
    return [(name, method) for name in NAMES for method in frameworks.load(name).methods]


def test_every_framework_of_the_package_has_its_yaml():
    assert NAMES == frameworks.available()


@pytest.mark.parametrize(("name", "method"), methods())
def test_closed_form_within_ten_tolerances(name, method):
    found, _ = solve(create(name, method), *regimen())
    assert error(found, exact(*regimen())).max() <= 10 * RTOL


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize(("name", "method"), methods())
def test_gradient_of_the_closed_form(name, method, gradient):
    """With regard to initial state, doses, infusion rates, durations, and kinetics."""
    gradient_of_the_closed_form(create(name, method, gradient))


def gradient_of_the_closed_form(framework):
    """Nobody starts from zero here: nothing is there to err, so steps are as long as the interval, and a gradient
    straight through the solver is that of these long steps.
    """
    initial, table = regimen()
    initial = np.maximum(initial, 1.0)
    arrays, rows = framework.arrays, framework.arrays.table(regimen()[1])
    leaves = {"initial": initial, "bolus": table.bolus, "rate": table.rate, "duration": table.duration,
              "covariates": table.covariates}  # fmt: skip
    weights = np.random.default_rng(1).standard_normal((4, len(GRID), 4, 2))

    def loss(p, weights):
        changed = rows._replace(**{key: p[key] for key in leaves if key != "initial"})
        states, report = predict(framework, FIELD, {}, p["initial"], changed, GRID)
        return (states * weights).sum(), report

    step = arrays.compile(arrays.value_and_grad(loss))
    (_, _), found = step({key: arrays.asarray(value) for key, value in leaves.items()}, arrays.asarray(weights))

    def closed(changed):
        changed = {**leaves, **changed}
        start = changed.pop("initial")
        return (exact(start, table._replace(**changed)) * weights).sum()

    for key, value in leaves.items():
        scale = np.abs(arrays.to_numpy(found[key])).max()
        for spot in np.random.default_rng(2).permutation(list(np.ndindex(value.shape)))[:6]:
            # Central differences of the closed form: step^2 against rounding / step, best near the cube root of eps.
            step_size = 6e-6 * max(1.0, abs(value[tuple(spot)]))
            high, low = value.copy(), value.copy()
            high[tuple(spot)] += step_size
            low[tuple(spot)] -= step_size
            expected = (closed({key: high}) - closed({key: low})) / (2 * step_size)
            assert abs(arrays.to_numpy(found[key])[tuple(spot)] - expected) <= 3e-7 * scale, (key, spot)


def test_steps_are_stopped_by_tolerance_not_by_report_points(name):
    """A dense grid costs no more steps, where the library interpolates."""
    _, coarse = solve(create(name), *regimen(), grid=(1.0,))
    _, dense = solve(create(name), *regimen(), grid=np.linspace(0, 1, 400))
    count = create(name).arrays.to_numpy
    assert count(dense.accepted).sum() == count(coarse.accepted).sum()


def test_report_points_do_not_change_each_other(name):
    dense, _ = solve(create(name), *regimen(), grid=np.linspace(0, 1, 41))
    few, _ = solve(create(name), *regimen(), grid=(0.25, 0.5, 1.0))
    np.testing.assert_allclose(few, dense[:, [10, 20, 40]], rtol=10 * RTOL, atol=10 * RTOL)


def test_first_report_point_is_just_after_the_dose(name):
    initial, table = regimen()
    found, _ = solve(create(name), initial, table)
    np.testing.assert_allclose(found[1:, 0], found[:-1, -1] + table.bolus[1:], rtol=1e-14, atol=0)


def test_padding_stands_still(name):
    found, _ = solve(create(name), *regimen())
    last = found[1, -1, 1]
    np.testing.assert_array_equal(found[2:, :, 1], np.broadcast_to(last, (2, len(GRID), 2)))


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_padding_leaves_gradients_finite_and_the_same(name, gradient):
    framework, (initial, table) = create(name, gradient=gradient), regimen()
    arrays = framework.arrays

    def loss(p, rows, y):
        states, report = predict(framework, FIELD, {}, y + p["shift"], rows, GRID)
        return (states[:2] ** 2).sum(), report

    def gradient_of(rows):
        step = arrays.compile(arrays.value_and_grad(loss))
        _, found = step({"shift": arrays.asarray(np.zeros((4, 2)))}, arrays.table(rows), arrays.asarray(initial))
        return arrays.to_numpy(found["shift"])

    short = Interval(*(None if leaf is None else leaf[:2] for leaf in table))
    np.testing.assert_allclose(gradient_of(table), gradient_of(short), rtol=100 * RTOL)


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_subjects_do_not_disturb_each_other(name, gradient):
    """Beside 4,092 idle subjects each keeps its own tolerance; a mean over the batch would let errors grow 32-fold."""
    framework = create(name, gradient=gradient, rtol=1e-6)
    alone = error(solve(framework, *regimen())[0], exact(*regimen()))
    crowded = error(solve(framework, *regimen(idle=4092))[0][:, :, :4], exact(*regimen()))
    assert crowded.max() <= 2 * alone.max()


def test_gradients_of_subjects_do_not_disturb_each_other(name):
    """The adjoint solve keeps each subject's tolerance as well."""

    def gradient_of(idle, rtol, gradient):
        framework = create(name, gradient=gradient, rtol=rtol)
        arrays, (initial, table) = framework.arrays, regimen(idle=idle)

        def loss(p, rows):
            states, report = predict(framework, FIELD, {}, p["initial"], rows, GRID)
            return (states[:, :, :4] ** 2).sum(), report

        step = arrays.compile(arrays.value_and_grad(loss))
        _, found = step({"initial": arrays.asarray(np.maximum(initial, 1.0))}, arrays.table(table))
        return arrays.to_numpy(found["initial"])[:4]

    truth = gradient_of(0, 1e-11, "direct")
    alone, crowded = (np.abs(gradient_of(idle, 1e-5, "adjoint") / truth - 1).max() for idle in (0, 4092))
    assert crowded <= 2 * alone


def test_adjoint_crosses_every_report_point(name):
    """Points between which one step is enough, and from 0.11 back to 0.04 rounding steps over the point.

    A library that tests its clock for equality there would leave out what lies before it, in silence.
    """
    grid, rows = (0.04, 0.11, 1.0), Interval(*(None if leaf is None else leaf[:2] for leaf in regimen()[1]))
    rows = rows._replace(duration=0.01 * rows.duration)
    found = {}
    for gradient in ("direct", "adjoint"):
        framework = create(name, gradient=gradient, rtol=1e-4)
        arrays = framework.arrays

        def loss(p, rows, framework=framework):
            states, report = predict(framework, FIELD, {}, p["initial"], rows, grid)
            return (states**2).sum(), report

        step = arrays.compile(arrays.value_and_grad(loss))
        _, gradient_of = step({"initial": arrays.asarray(np.maximum(regimen()[0], 1.0))}, arrays.table(rows))
        found[gradient] = arrays.to_numpy(gradient_of["initial"])
    np.testing.assert_allclose(found["adjoint"], found["direct"], rtol=1e-3)


def test_error_falls_with_tolerance_through_doses(name):
    """Over five decades error follows tolerance, to a power of 0.8 or more: no part of the solve ignores it."""
    tolerances = (1e-4, 1e-6, 1e-8, 1e-9)
    errors = [error(solve(create(name, rtol=rtol), *regimen())[0], exact(*regimen())).max() for rtol in tolerances]
    slope = np.polyfit(np.log10(tolerances), np.log10(errors), 1)[0]
    assert errors == sorted(errors, reverse=True)
    assert slope >= 0.8


def stiffening(xp, params, t, y, covariates):
    """y' = y^2: from 100 mg it is infinite after 0.01 h."""
    return y**2


def broken(xp, params, t, y, covariates):
    """Not a number wherever there is something."""
    return xp.where(y > 1, y * np.nan, 0 * y)


@pytest.mark.parametrize("field", [stiffening, broken])
@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_a_field_that_blows_up_raises(name, field, gradient):
    """After the second dose, in less than 30 s, with the interval, and the time as far as the library tells it."""
    framework = create(name, gradient=gradient, rtol=1e-6, max_steps=4096)
    start = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 2))
    table = Interval(np.arange(3), start, np.ones((3, 2)), np.zeros((3, 2, 2)))
    table.bolus[1, 1] = 100.0
    began = time.monotonic()
    with pytest.raises(SolverFailure) as caught:
        solve(framework, np.zeros((2, 2)), table, field=field)
    assert time.monotonic() - began < 30
    assert caught.value.framework == name
    assert (caught.value.interval, caught.value.subject) == (1, 1)
    assert 1.0 <= caught.value.t <= 1.02
    assert caught.value.steps > 0 or field is broken


def test_the_step_limit_holds(name):
    framework = create(name, max_steps=3)
    with pytest.raises(SolverFailure, match="max"):
        solve(framework, *regimen())


def test_a_failed_interval_is_not_followed_by_another(name):
    """Interval 1 fails; the field is never asked about interval 2, whose covariate is 2, or sees no time pass."""
    framework = create(name, rtol=1e-6, max_steps=50)
    duration, covariates = np.ones((3, 1)), np.arange(3.0).reshape(3, 1, 1)
    table = Interval(np.arange(3), np.cumsum(duration, 0) - 1, duration, np.zeros((3, 1, 2)), None, covariates)
    table.bolus[1] = 100.0
    arrays, rows = framework.arrays, framework.arrays.table(table)
    asked = []

    def field(xp, params, t, y, covariates):
        asked.append(covariates)
        return stiffening(xp, params, t, y, covariates)

    failure = None
    try:
        states, report = predict(framework, field, {}, arrays.asarray(np.zeros((1, 2))), rows, GRID)
    except SolverFailure as error:
        failure = error
    if failure is not None:
        assert failure.interval == 1
        assert max(float(one.max()) for one in asked) == 1.0
    else:  # a library that cannot raise marks what failed, and stands still from there
        assert arrays.to_numpy(report.failed)[:, 0].tolist() == [False, True, True]
        assert np.isnan(arrays.to_numpy(states)[2]).all()
        assert arrays.to_numpy(report.accepted)[2, 0] <= arrays.to_numpy(report.accepted)[0, 0]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fused"])  # it solves nothing backward
def test_a_failure_of_the_adjoint_solve_raises(name):
    """Forward nothing happens, backward the adjoint oscillates 10,000 times: too much for 60 steps."""
    framework = create(name, gradient="adjoint", rtol=1e-6, max_steps=60)
    arrays = framework.arrays
    table = Interval(np.arange(1), np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 1, 2)))

    def field(xp, params, t, y, covariates):
        turn = xp.stack([-y[..., 1], y[..., 0]], -1)
        return 1e4 * params["rate"] * turn

    def loss(p, rows, y):
        states, report = predict(framework, field, p, y, rows, (1.0,))
        return states.sum(), report

    step = arrays.compile(arrays.value_and_grad(loss))
    with pytest.raises(SolverFailure):
        framework.guard(
            step, {"rate": arrays.asarray(np.ones(()))}, arrays.table(table), arrays.asarray(np.zeros((1, 2)))
        )


def test_float32_gradients_are_those_of_float64(name):
    """The default precision and tolerance, on the neural field: to a hundred tolerances, which kinks may cost."""
    found = {}
    for precision in ("float32", "float64"):
        framework = create(name, rtol=1e-5, precision=precision)
        arrays = framework.arrays
        step = training.gradient_step(framework, training.mean_squared_error(framework, MODEL, np.array(GRID)), None)
        params = {key: arrays.asarray(value) for key, value in NEURAL.items()}
        batch = (arrays.asarray(cohort().initial), arrays.table(cohort().intervals), arrays.asarray(cohort().observed))
        _, _, gradient, _ = step(params, *batch)
        found[precision] = np.concatenate([arrays.to_numpy(gradient[key]).ravel() for key in NEURAL]).astype(float)
    assert np.linalg.norm(found["float32"] - found["float64"]) <= 1e-3 * np.linalg.norm(found["float64"])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_tolerance_below_the_precision_is_refused(name, precision):
    floor = 20 * float(np.finfo(precision).eps)
    with pytest.raises(ConfigError, match="float64" if precision == "float32" else "no precision"):
        frameworks.load(name).create(Solver(rtol=0.9 * floor), precision=precision)


@pytest.mark.parametrize(
    ("name", "method"), [(n, m) for n in NAMES for m in METHODS if m not in frameworks.load(n).methods]
)
def test_a_method_the_library_lacks_is_refused(name, method):
    with pytest.raises(ConfigError, match="dopri5"):
        frameworks.load(name).create(Solver(method=method))


def test_statistics_are_what_the_library_counts(name):
    """Steps are whole numbers that an embedded method of seven stages explains; nothing is made up."""
    _, report = solve(create(name), *regimen())
    count = create(name).arrays.to_numpy
    accepted, rejected = count(report.accepted), count(report.rejected)
    assert accepted.shape == rejected.shape
    assert accepted.shape in ((4, 4), (4, 1))
    assert (accepted > 0).all()
    assert (rejected >= 0).all()
    if report.evaluations is not None:
        tried = (accepted + rejected).max(1)
        # Six new stages a step; one or two more evaluations choose the first step, and one is the first stage.
        assert (
            (count(report.evaluations).max(1) - 6 * tried >= 1) & (count(report.evaluations).max(1) - 6 * tried <= 3)
        ).all()


@pytest.mark.parametrize("grid", [(), (0.5,), (0.5, 0.5, 1.0), (1.0, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_a_grid_that_is_not_fractions_is_refused(grid):
    with pytest.raises(ScheduleError, match="grid"):
        predict(Reference.create(), FIELD, {}, *regimen(), grid)


def test_clocks_far_from_zero_cut_exactly(name):
    """Times around 1e6 h with gaps of 1e-3 h, solved in float32: clocks are float64 until an interval's own time."""
    framework = create(name, rtol=1e-5, precision="float32")
    duration = np.full((4, 2), 1e-3)
    start = 1e6 + np.cumsum(duration, 0) - 1e-3
    covariates = np.broadcast_to(np.array(TYPICAL) * [1000.0, 1.0, 1000.0, 1.0], (4, 2, 4))
    table = Interval(np.arange(4), start, duration, np.full((4, 2, 2), 10.0), np.zeros((4, 2, 2)), covariates)
    found, _ = solve(framework, np.zeros((2, 2)), table)
    assert error(found, exact(np.zeros((2, 2)), table)).max() <= 10 * 1e-5


MODEL = Mlp(hidden=[16, 16], activation="tanh")
NEURAL = MODEL.initial_params(2, 3)


def test_a_neural_field_agrees_with_the_reference(name):
    initial, table = regimen()
    table = table._replace(covariates=None)
    expected, _ = solve(Reference.create(), initial, table, field=MODEL, params=NEURAL)
    found, _ = solve(create(name), initial, table, field=MODEL, params=NEURAL)
    assert error(found, expected).max() <= 10 * RTOL


@functools.cache
def cohort():
    """What `regimen` does, observed exactly, without infusion and with nobody starting from zero (see above)."""
    initial, table = np.maximum(regimen()[0], 1.0), regimen()[1]
    table = table._replace(rate=np.zeros_like(table.rate))
    observed = exact(initial, table).transpose(2, 0, 1, 3)
    plain = table._replace(covariates=None, rate=None)
    return Cohort(observed, initial, plain, np.array(GRID), np.zeros((4, len(GRID))), ("central", "peripheral"), "")


@functools.cache
def five_steps(name, activation, gradient="direct"):
    """Parameters after five optimiser steps from one start, with a gradient that needs clipping."""
    framework, model = create(name, gradient=gradient), Mlp(hidden=[16, 16], activation=activation)
    state = training.start(framework, model.initial_params(2, 3))
    settings = training.Training(iterations=5, learning_rate=1e-3, clip_norm=50.0)
    *_, last = training.fit(framework, model, cohort(), settings, state, seed=0)
    return {key: framework.arrays.to_numpy(value) for key, value in last.state.params.items()}


@pytest.mark.parametrize(
    ("activation", "gradient", "share"), [("tanh", "direct", 1e-4), ("tanh", "adjoint", 1e-4), ("relu", "direct", 0.1)]
)
def test_five_optimiser_steps_agree(name, activation, gradient, share):
    """Gradient, clipping and Adam are the same everywhere: parameters agree to a small share of one step of 1e-3.

    Adam divides by the gradient's size, so errors relative to a small gradient count in full. A field with kinks has a
    gradient that jumps where a stage falls on the other side of one, whatever the tolerance: hence the larger share.
    """
    expected = five_steps("diffrax" if name != "diffrax" else "torchode", activation)
    for key, value in five_steps(name, activation, gradient).items():
        np.testing.assert_allclose(value, expected[key], atol=share * 1e-3, rtol=0)


def test_the_loss_is_traced_once():
    calls = []

    class Counting(Mlp):
        def __call__(self, *arguments):
            calls.append(0)
            return super().__call__(*arguments)

    framework, model = create("diffrax"), Counting(hidden=[4])
    state = training.start(framework, model.initial_params(2, 0))
    progress = training.fit(framework, model, cohort(), training.Training(iterations=4), state, seed=0)
    next(progress)
    traced = len(calls)
    list(progress)
    assert len(calls) == traced > 0


SPAN, WIDTH, DOSED = 64.0, 2.0**-8, (12.0, 24.0, 36.0)  # h; powers of two, so that own times are exact
JUMPS = [time / SPAN for dose in DOSED for time in (dose, dose + WIDTH)]


def infused(xp, params, t, y, covariates):
    """Doses of `params["dose"]` mg as narrow infusions, seen by the solver as a forcing and not as events."""
    on = sum(((t >= dose) & (t < dose + WIDTH)) * 1.0 for dose in DOSED)
    rate = params["dose"] / WIDTH * on
    return FIELD(xp, {}, t, y, covariates) + xp.stack([rate, 0 * rate], -1)


@functools.cache
def forced():
    """One interval over all doses, one subject at rest and one not; with the same as a table of events, solved."""
    initial, cuts = np.array([[0.0, 0.0], [5.0, 3.0]]), np.array([0.0, *(SPAN * np.array(JUMPS)), SPAN])
    rows = len(cuts) - 1
    start, duration = cuts[:-1, None] + np.zeros(2), np.diff(cuts)[:, None] + np.zeros(2)
    rate = np.zeros((rows, 2, 2))
    rate[1::2, :, 0] = 100.0 / WIDTH
    kinetics = np.broadcast_to(TYPICAL, (rows, 2, 4))
    events = Interval(np.arange(rows), start, duration, np.zeros((rows, 2, 2)), rate, kinetics)
    whole = Interval(
        np.arange(1), np.zeros((1, 2)), np.full((1, 2), SPAN), np.zeros((1, 2, 2)), None, kinetics[:1].copy()
    )
    return initial, whole, np.concatenate([initial[None], exact(initial, events, (0.0, 1.0))[:, -1]])


@pytest.mark.parametrize("name", ["diffrax", "torchdiffeq"])
@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_a_solver_told_of_the_jumps_sees_what_it_else_steps_over(name, gradient):
    initial, table, expected = forced()
    grid, errors = (0.0, *JUMPS, 1.0), {}
    untold = create(name, gradient=gradient, rtol=1e-6)
    for told in (False, True):
        framework = untold.with_jumps(JUMPS) if told else untold
        arrays = framework.arrays

        def loss(p, y, rows, framework=framework):
            states, _ = predict(framework, infused, p, y, rows, grid)
            return states[0, -1].sum(), states

        step = arrays.compile(arrays.value_and_grad(loss))
        rows = arrays.table(table)
        (_, states), found = step({"dose": arrays.asarray(100.0)}, arrays.asarray(initial), rows)
        errors[told] = np.abs(arrays.to_numpy(states)[0] - expected).max((0, 2))
    assert errors[True].max() <= 1e-4  # ten tolerances of 100 mg, where doses ten times as high were reached
    assert errors[False].min() >= 50.0  # mg: steps grow past the doses of a subject at rest, and of its neighbour
    # The kinetics are linear: what the doses leave at the end is proportional to them.
    rest, _ = solve(untold, initial, table, grid=(1.0,))
    left = (expected[-1] - rest[0, -1]).sum() / 100.0
    # torchdiffeq's adjoint begins at each report point, here a jump, with a derivative from the wrong side of it.
    np.testing.assert_allclose(float(found["dose"]), left, rtol=1e-3)


@pytest.mark.parametrize("name", ["torchdyn", "torchode"])
def test_a_solver_that_cannot_be_told_of_jumps_says_so(name):
    with pytest.raises(ConfigError, match=f"{name}: its solver has no way"):
        create(name).with_jumps(JUMPS)


@pytest.mark.parametrize("time", [0.0, 1.0, -0.1, float("nan")])
def test_a_jump_outside_the_interval_is_refused(time):
    with pytest.raises(ConfigError, match="inside the interval"):
        create("diffrax").with_jumps([time])


def test_telling_of_jumps_leaves_the_framework_as_it_was():
    told = create("diffrax").with_jumps([0.5, 0.25, 0.5])
    assert (told.jumps, create("diffrax").jumps) == ((0.25, 0.5), ())


def neural_step(name, gradient):
    """Arrays, loss with a counted field, its arguments and what counts."""
    framework = create(name, gradient=gradient, rtol=1e-6)
    arrays = framework.arrays
    field, count = arrays.counting(MODEL)

    def loss(p, y, rows):
        states, report = predict(framework, field, p, y, rows, GRID)
        return (states**2).mean(), report

    params = {key: arrays.asarray(value) for key, value in NEURAL.items()}
    rows = arrays.table(cohort().intervals)
    return arrays, loss, (params, arrays.asarray(cohort().initial), rows), count


def test_evaluations_of_the_engine_are_counted_for_the_whole_batch():
    """Subjects meet the doses at different trials: each counts its own, and they share what is evaluated."""
    arrays, loss, arguments, count = neural_step("fused", "direct")
    _, report = arrays.wait(arrays.compile(loss)(*arguments))
    forward, own = count(), arrays.to_numpy(report.evaluations).sum(0)
    assert own.max() <= forward <= own.sum()
    arrays.wait(arrays.compile(arrays.value_and_grad(loss))(*arguments))
    # Backward the field is linearised, of which no value is needed, and so no count.
    assert count() == forward


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fused"])
def test_evaluations_are_counted_for_the_whole_batch(name):
    """A count of calls is what the library counts itself; Diffrax, which does not, evaluates six times a step."""
    arrays, loss, arguments, count = neural_step(name, "direct")
    _, report = arrays.wait(arrays.compile(loss)(*arguments))
    forward = count()
    assert count() == 0
    if report.evaluations is not None:
        assert forward == arrays.to_numpy(report.evaluations).max(1).sum()
    else:
        tried = arrays.to_numpy(report.accepted + report.rejected).max(1)
        assert 6 * tried.sum() < forward <= 6 * tried.sum() + 3 * len(tried)
    arrays.wait(arrays.compile(arrays.value_and_grad(loss))(*arguments))
    # Diffrax keeps states and not stages: every step is computed once more on the way back.
    assert count() == (2 if name == "diffrax" else 1) * forward


@pytest.mark.parametrize("name", [name for name in NAMES if name != "fused"])  # whose own is in test_fused.py
def test_an_adjoint_needs_less_memory_than_the_steps(name):
    needed = {}
    for gradient in ("direct", "adjoint"):
        arrays, loss, arguments, _ = neural_step(name, gradient)
        needed[gradient], kind = arrays.backward_memory(loss, arrays.compile(arrays.value_and_grad(loss)), *arguments)
        assert kind == ("XLA temporary buffers" if name == "diffrax" else "bytes saved by torch")
    assert 0 < needed["adjoint"] < 0.5 * needed["direct"]


def test_saved_bytes_are_those_of_distinct_tensors_that_are_no_inputs():
    """sin(w x)^2 keeps w x and its sine, 8,000 bytes each; w and x are given, and the sine is kept twice."""
    arrays = create("torchode").arrays
    x = arrays.asarray(np.linspace(0, 1, 1000))

    def loss(p, x):
        sine = (p["w"] * x).sin()
        return (sine * sine).sum(), None

    assert arrays.backward_memory(loss, arrays.value_and_grad(loss), {"w": arrays.asarray(2.0)}, x) == (
        0.016,
        "bytes saved by torch",
    )


def test_a_failure_names_the_implicit_method():
    assert "framework=diffrax solver=kvaerno5" in str(SolverFailure("diffrax", "it stopped"))
