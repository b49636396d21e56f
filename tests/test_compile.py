"""Torch frameworks with `accelerator.compile`: a core of the conformance suite, and what is compiled how often."""

import functools
import warnings

import numpy as np
import pytest
import test_frameworks as suite
from torch._dynamo.utils import counters

from pk_event_fit import frameworks, training
from pk_event_fit.config import Accelerator
from pk_event_fit.errors import ConfigError, SolverFailure
from pk_event_fit.frameworks.base import Interval, Solver
from pk_event_fit.integrate import predict

COMPILED = ("diffrax", "fused")  # always
NAMES = [name for name in suite.NAMES if name not in COMPILED]
MARKED = pytest.mark.parametrize("name", NAMES)


@functools.cache
def create(name, method="dopri5", rtol=suite.RTOL, max_steps=100_000):
    solver = Solver(method=method, rtol=rtol, atol=rtol * suite.ATOL / suite.RTOL, max_steps=max_steps)
    return frameworks.load(name).create(solver, precision="float64", compile=True)


def test_plain_is_the_default():
    assert Accelerator().compile is False


@pytest.mark.parametrize("name", COMPILED)
def test_what_is_compiled_has_nothing_more_to_compile(name):
    with pytest.raises(ConfigError, match=f"{name} is always compiled"):
        frameworks.load(name).create(Solver(), compile=True)


@MARKED
def test_the_adjoint_is_refused(name):
    with pytest.raises(ConfigError, match="gradient=direct"):
        frameworks.load(name).create(Solver(gradient="adjoint"), compile=True)


@pytest.mark.parametrize(("name", "method"), [(n, m) for n, m in suite.methods() if n in NAMES])
def test_closed_form_within_ten_tolerances(name, method):
    found, report = suite.solve(create(name, method), *suite.regimen())
    assert suite.error(found, suite.exact(*suite.regimen())).max() <= 10 * suite.RTOL
    # The solver itself is the plain one's: it takes the same steps.
    _, plain = suite.solve(suite.create(name, method), *suite.regimen())
    np.testing.assert_array_equal(report.accepted, plain.accepted)
    np.testing.assert_array_equal(report.evaluations, plain.evaluations)


@MARKED
def test_gradient_of_the_closed_form(name):
    suite.gradient_of_the_closed_form(create(name))


@MARKED
def test_padding_stands_still(name):
    found, _ = suite.solve(create(name), *suite.regimen())
    np.testing.assert_array_equal(found[2:, :, 1], np.broadcast_to(found[1, -1, 1], found[2:, :, 1].shape))


@MARKED
def test_the_clock_and_infusion_reach_the_field(name):
    """y' = t: from 0, t^2 / 2, whatever the start of the interval."""

    def clock(xp, params, t, y, covariates):
        return t[..., None] + 0 * y

    start = np.array([[0.0, 1.0], [2.0, 4.0]])
    table = Interval(np.arange(2), start, np.array([[2.0, 3.0], [1.0, 1.0]]), np.zeros((2, 2, 2)), np.ones((2, 2, 2)))
    found, _ = suite.solve(create(name), np.zeros((2, 2)), table, field=clock)
    end = start[1] + 1
    exact = (end**2 - start[0] ** 2) / 2 + end - start[0]
    np.testing.assert_allclose(found[-1, -1], exact[:, None] * np.ones(2), rtol=10 * suite.RTOL)


@pytest.mark.parametrize("field", [suite.stiffening, suite.broken])
@MARKED
def test_a_field_that_blows_up_raises(name, field):
    framework = create(name, rtol=1e-6, max_steps=4096)
    start = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 2))
    table = Interval(np.arange(3), start, np.ones((3, 2)), np.zeros((3, 2, 2)), np.zeros((3, 2, 2)))
    table.bolus[1, 1] = 100.0
    with pytest.raises(SolverFailure) as caught:
        suite.solve(framework, np.zeros((2, 2)), table, field=field)
    assert (caught.value.interval, caught.value.subject) == (1, 1)
    assert 1.0 <= caught.value.t <= 1.02


@MARKED
def test_the_step_limit_holds(name):
    with pytest.raises(SolverFailure, match="max") as caught:
        suite.solve(create(name, max_steps=3), *suite.regimen())
    assert caught.value.steps == 3
    plain, reached = suite.create(name, max_steps=3), caught.value
    with pytest.raises(SolverFailure, match="max") as caught:
        suite.solve(plain, *suite.regimen())
    assert (reached.interval, reached.subject) == (caught.value.interval, caught.value.subject)


def gradient_step(framework):
    arrays, cohort = framework.arrays, suite.cohort()
    loss = training.mean_squared_error(framework, suite.MODEL, cohort.grid)
    batch = (arrays.asarray(cohort.initial), arrays.table(cohort.intervals), arrays.asarray(cohort.observed))
    return lambda params: training.gradient_step(framework, loss, None)(params, *batch)


@MARKED
def test_training_compiles_once_and_gives_the_same_numbers(name):
    """Intervals, iterations and calls of `predict` share one graph; the clone of the parameters stands for Adam's."""
    framework, plain = create(name, rtol=1e-8), suite.create(name, rtol=1e-8)
    params = {key: plain.arrays.asarray(value) for key, value in suite.NEURAL.items()}
    expected, found = gradient_step(plain)(params), gradient_step(framework)(params)
    np.testing.assert_allclose(float(found[0]), float(expected[0]), rtol=1e-8)
    for key, value in expected[2].items():
        np.testing.assert_allclose(found[2][key], value, rtol=1e-6, atol=1e-6 * float(value.abs().max()))
    graphs, loops = counters["stats"]["unique_graphs"], len(compiled(framework))
    assert loops == 1
    for _ in range(3):
        gradient_step(framework)({key: value.clone() for key, value in params.items()})
    assert (counters["stats"]["unique_graphs"], len(compiled(framework))) == (graphs, loops)


def compiled(framework):
    """What torchode has compiled, by shape; elsewhere the compiled functions, by field."""
    ((_, own),) = [entry for entry in framework._compiled.values() if entry[0] is suite.MODEL]
    return getattr(own, "loops", [own])


@pytest.mark.parametrize("name", ["torchdiffeq", "torchdyn"])
def test_one_graph_is_made_for_one_field(name):
    """Beginning from a state without gradient, as every fit does."""
    framework = frameworks.load(name).create(Solver(rtol=1e-4), precision="float64", compile=True)
    before = counters["stats"]["unique_graphs"]
    gradient_step(framework)({key: framework.arrays.asarray(value) for key, value in suite.NEURAL.items()})
    assert counters["stats"]["unique_graphs"] == before + 1


@pytest.mark.parametrize("name", ["torchdiffeq", "torchdyn"])
def test_a_field_that_cannot_be_compiled_is_told(name):
    def field(xp, params, t, y, covariates):
        return y if float(y.sum()) > np.random.default_rng().random() else -y

    with pytest.raises(ConfigError, match=r"accelerator\.compile: torch cannot compile"):
        suite.solve(create(name), *suite.regimen(), field=field)


def test_torchscript_is_compiled_without_its_deprecation_warnings():
    framework = create("torchode", rtol=1e-3)
    arrays, (initial, table) = framework.arrays, suite.regimen()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(framework, suite.FIELD, {}, arrays.asarray(initial), arrays.table(table), suite.GRID)
