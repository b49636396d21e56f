"""The fused engine: its coefficients, its counting, its tapes, and its gradient against Diffrax's."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import diffrax as library
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import RK45

from pk_event_fit import frameworks, training
from pk_event_fit.cli import compose
from pk_event_fit.config import decided
from pk_event_fit.data import Data, load
from pk_event_fit.errors import ConfigError, SolverFailure
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Interval, Solver
from pk_event_fit.fused import dense, engine, linear, solve_ivp
from pk_event_fit.fused.forward import CONTROL, Engine
from pk_event_fit.fused.linear import Linearised
from pk_event_fit.fused.methods import METHODS
from pk_event_fit.integrate import predict

GRID = np.array([0.0, 0.05, 0.3, 0.31, 0.8, 1.0])
FIELD = Mlp(hidden=[8, 8], activation="tanh", initial_scale=1.0)


@pytest.mark.parametrize(("name", "other"), [("dopri5", library.Dopri5()), ("tsit5", library.Tsit5())])
def test_coefficients_are_those_of_the_literature(name, other):
    method, tableau = METHODS[name], other.tableau
    for k, row in enumerate(tableau.a_lower):
        np.testing.assert_allclose(method.a[k + 1, : k + 1], row, rtol=0, atol=2e-14)
    np.testing.assert_allclose(method.c[1:], tableau.c, rtol=0, atol=2e-15)
    np.testing.assert_allclose(np.abs(method.error), np.abs(tableau.b_error), rtol=0, atol=2e-14)
    assert abs(method.error.sum()) < 1e-14


def test_the_dense_output_of_dopri5_is_shampine_s():
    np.testing.assert_allclose(METHODS["dopri5"].dense, RK45.P, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_dense_outputs_end_where_the_step_ends(name):
    method = METHODS[name]
    np.testing.assert_allclose(method.dense.sum(1), method.a[-1].tolist(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(method.dense[:, 0], np.eye(7)[0], atol=1e-13)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 1024, 1100, 40_000])
def test_running_sums(length):
    x = np.random.default_rng(0).standard_normal((3, length))
    found = dense.cumulate(jnp.asarray(x, jnp.float64))
    np.testing.assert_allclose(found, np.cumsum(x, -1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("points", [1, 2, 7, 8, 200])
def test_report_points_before_a_time_are_counted(points):
    random = np.random.default_rng(points)
    grid = np.sort(random.random((2, points, 3)), 1)
    interval, own = random.integers(2, size=(50, 3)), random.random((50, 3))
    own[:points] = np.take_along_axis(grid[interval, :, np.arange(3)], np.arange(50)[:, None, None] % points, 2)[
        :points, :, 0
    ]
    expected = (grid[interval, :, np.arange(3)] < own[..., None]).sum(-1)
    np.testing.assert_array_equal(dense.before(jnp.asarray(grid), jnp.asarray(interval), jnp.asarray(own)), expected)
    shared = dense.before(grid[0, :, 0], None, jnp.asarray(own))
    np.testing.assert_array_equal(shared, np.searchsorted(grid[0, :, 0], own))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_crowded_report_points_before_a_time_are_counted(dtype):
    grid = np.r_[0, 0.25, 0.25, 0.5 + 1e-6 * np.arange(50), 0.75, 1].astype(dtype)
    own = np.r_[grid, np.nextafter(grid, dtype(0)), np.nextafter(grid, dtype(2)), 0.6].astype(dtype)
    own = own[(own == 0) | (own > 1e-30)]  # below the normal numbers XLA takes a number for 0
    np.testing.assert_array_equal(dense.before(grid, None, jnp.asarray(own)), np.searchsorted(grid, own))


@pytest.mark.parametrize(
    ("one", "other"), [((30, 5), (30, 2)), ((30, 2), (30, 5)), ((2, 30), (5, 30)), ((9, 2, 4), (9, 4, 3))]
)
def test_a_product_with_the_narrow_factor_first_is_that_product(one, other):
    random = np.random.default_rng(0)
    one, other = random.standard_normal(one), random.standard_normal(other)
    if one.ndim == 3:
        dimensions, expected = (((2,), (1,)), ((0,), (0,))), one @ other
    else:
        axis = int(one.shape[1] == 30)
        dimensions, expected = (((axis,), (axis,)), ((), ())), one @ other.T if axis else one.T @ other
    found = linear.product(
        jnp.asarray(one), jnp.asarray(other), dimension_numbers=dimensions, precision=None, preferred_element_type=None
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def framework_of(name="fused", rtol=1e-9, gradient="direct", **more):
    solver = Solver(rtol=rtol, atol=rtol / 10, max_steps=10_000, gradient=gradient)
    framework = frameworks.load(name).create(solver, precision="float64")
    for key, value in more.items():
        setattr(framework, key, value)
    return framework


@functools.cache
def problem(intervals=4, subjects=3, own_points=False):
    random = np.random.default_rng(intervals)
    duration = random.uniform(0.5, 3.0, (intervals, subjects))
    duration[1:, 0] *= random.random(intervals - 1) < 0.7  # some stand still
    start = np.concatenate([np.zeros((1, subjects)), np.cumsum(duration, 0)[:-1]])
    keep = (random.random((intervals, subjects)) < 0.8).astype(float)
    points = np.sort(random.random((intervals, 5, subjects)), 1)
    points[:, 0], points[:, -1], points[:, -2] = 0.0, 1.0, np.where(points[:, -2] > 0.8, 1.0, points[:, -2])
    table = Interval(
        number=np.arange(intervals),
        start=start,
        duration=duration,
        bolus=random.standard_normal((intervals, subjects, 2)),
        rate=random.standard_normal((intervals, subjects, 2)),
        keep=keep,
        points=points if own_points else None,
    )
    return random.standard_normal((subjects, 2)), table


def field(xp, params, t, y, covariates):
    return FIELD(xp, params, t, y, covariates) * (1 + 0.3 * xp.sin(t))[..., None]


def solved(framework, initial, table):
    """States, and gradients by everything, of a random weighting of the states."""
    arrays = framework.arrays
    placed = arrays.table(table)
    weights = {name: arrays.asarray(value) for name, value in FIELD.initial_params(2, 1).items()}
    given = {"initial": arrays.asarray(initial)} | {
        name: getattr(placed, name) for name in ("start", "duration", "bolus", "rate")
    }
    size = 5 if table.points is not None else len(GRID)
    shape = (len(table.duration), size, len(initial), 2)
    by = arrays.asarray(np.random.default_rng(2).standard_normal(shape))

    def loss(params):
        rows = placed._replace(**{name: params[name] for name in ("start", "duration", "bolus", "rate")})
        own = {name: params[name] for name in weights}
        states, report = predict(framework, field, own, params["initial"], rows, GRID)
        return (by * states).sum(), (states, report)

    (_, (states, report)), gradient = arrays.compile(arrays.value_and_grad(loss))(weights | given)
    framework.check(report, table)
    return np.array(states), {name: np.array(value) for name, value in gradient.items()}


def same(found, expected, bound):
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=0, atol=bound * np.abs(value).max(), err_msg=name)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=bound * np.abs(expected[0]).max())


@functools.cache
def by_diffrax(intervals=4, own_points=False):
    return solved(framework_of("diffrax", rtol=1e-11), *problem(intervals, own_points=own_points))


@pytest.mark.parametrize("own_points", [False, True])
def test_states_and_gradients_are_diffrax_s(own_points):
    same(solved(framework_of(rtol=1e-11), *problem(own_points=own_points)), by_diffrax(own_points=own_points), 1e-8)


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("marks", [2, 32])
def test_a_tape_that_is_full_is_followed_by_another(rows, marks, monkeypatch):
    monkeypatch.setattr(engine, "MARKS", marks)
    same(solved(framework_of(memory=rows), *problem()), solved(framework_of(), *problem()), 1e-12)


@pytest.mark.parametrize("own_points", [False, True])
def test_blocks_of_subjects_are_solved_alike(own_points, monkeypatch):
    expected = solved(framework_of(), *problem(own_points=own_points))
    monkeypatch.setattr(engine, "SUBJECTS", 2)  # of three, and one that stands still
    same(solved(framework_of(), *problem(own_points=own_points)), expected, 1e-12)


def test_groups_hand_over_and_both_gradients_are_one():
    expected = solved(framework_of(rtol=1e-11), *problem(19))
    same(expected, by_diffrax(19), 1e-8)
    same(solved(framework_of(rtol=1e-11, gradient="adjoint"), *problem(19)), expected, 1e-12)


def test_subjects_do_not_feel_each_other():
    initial, table = problem()
    alone = Interval(*(leaf if leaf is None or leaf.ndim == 1 else leaf[:, :1] for leaf in table))
    whole, single = solved(framework_of(), initial, table), solved(framework_of(), initial[:1], alone)
    # To the rounding of products of other sizes; a step that another subject decides would be off by the tolerance.
    np.testing.assert_allclose(whole[0][:, :, :1], single[0], rtol=0, atol=1e-11)


def test_float32_and_x64_do_not_mix():
    framework = frameworks.load("fused").create(dataclasses.replace(Solver(), rtol=1e-4), precision="float32")
    states, gradient = solved(framework, *problem())
    assert states.dtype == np.float32
    assert {value.dtype for value in gradient.values()} == {np.dtype(np.float32)}
    assert jax.config.jax_enable_x64


# Random networks and schedules


def test_a_thousand_draws_are_as_near_the_truth_as_diffrax_s():
    """50 networks, and 20 schedules for each, to a solve by Diffrax that is a hundred thousand times as tight.

    A tolerance is of a step: what the steps of a history add up to is more, in some draws 56 times in Diffrax.
    """
    rtol, networks, subjects, intervals = 1e-6, 50, 20, 5
    steps = {name: weighted_sum(framework_of(name, rtol=rtol)) for name in ("fused", "diffrax")}
    exact = weighted_sum(framework_of("diffrax", rtol=1e-11))
    values, gradients = ({name: [] for name in steps} for _ in range(2))
    for seed in range(networks):
        arguments = draw(seed, subjects, intervals)
        (_, (truth, _)), slope = exact(*arguments)
        scale = np.abs(truth).max((0, 1, 3))
        for name, step in steps.items():
            (_, (states, report)), gradient = step(*arguments)
            assert not report.failed.any()
            values[name].extend(np.abs(states - truth).max((0, 1, 3)) / scale)
            gradients[name] += [np.abs(gradient[key] - slope[key]).max() / np.abs(slope[key]).max() for key in slope]
    assert len(values["fused"]) == 1000
    assert np.quantile(values["fused"], 0.99) <= 10 * rtol
    for errors in (values, gradients):
        for share in (0.5, 0.9, 1.0):
            assert np.quantile(errors["fused"], share) <= np.quantile(errors["diffrax"], share), share


def draw(seed, subjects, intervals):
    random = np.random.default_rng([seed, 7])
    params = FIELD.initial_params(2, seed)
    duration = random.uniform(0.1, 4.0, (intervals, subjects)) * (random.random((intervals, subjects)) < 0.9)
    table = Interval(
        number=np.arange(intervals),
        start=np.concatenate([np.zeros((1, subjects)), np.cumsum(duration, 0)[:-1]]),
        duration=duration,
        bolus=random.standard_normal((intervals, subjects, 2)),
        rate=random.standard_normal((intervals, subjects, 2)) * (random.random((intervals, subjects, 1)) < 0.3),
        keep=(random.random((intervals, subjects)) < 0.9).astype(float),
    )
    by = random.standard_normal((intervals, len(GRID), subjects, 2))
    return params, random.standard_normal((subjects, 2)), table, by


def weighted_sum(framework, field=field):
    def loss(params, initial, table, by):
        states, report = predict(framework, field, params, initial, table, GRID)
        return (by * states).sum(), (states, report)

    return framework.arrays.compile(framework.arrays.value_and_grad(loss))


# Plain initial value problems


def van_der_pol(t, y, params):
    x, v = y[:, 0], y[:, 1]
    mu = 2.0 if params is None else params
    return jnp.stack([v, mu * (1 - x**2) * v - x], 1)


STARTS = np.random.default_rng(0).standard_normal((16, 2))
TIMES = np.linspace(0.0, 7.63, 40)


def test_a_batch_takes_the_steps_that_each_problem_takes_alone():
    solve = jax.jit(lambda y0: solve_ivp(van_der_pol, y0, TIMES, rtol=1e-5, atol=1e-5).report)
    report = solve(STARTS)
    assert len(set(report.accepted.tolist())) > 1
    for k, start in enumerate(STARTS):
        alone = solve(start[None])
        assert (alone.accepted[0], alone.rejected[0]) == (report.accepted[k], report.rejected[k])


# Of arrays only what makes them: with one of JAX's here, JAX would look for its devices when this file is read.
@pytest.mark.parametrize("kind", [list, np.asarray, jnp.asarray])
@pytest.mark.parametrize("times", [[0, 1, 4], [0.5, 1.0, 1.0, 4.0]], ids=str)
def test_times_that_are_known_are_those_of_a_program(kind, times):
    times = kind(times)
    known = solve_ivp(van_der_pol, STARTS, times, rtol=1e-8, atol=1e-8).states
    traced = jax.jit(lambda times: solve_ivp(van_der_pol, STARTS, times, rtol=1e-8, atol=1e-8).states)
    own = solve_ivp(van_der_pol, STARTS, np.tile(times, (len(STARTS), 1)), rtol=1e-8, atol=1e-8).states
    for states in (traced(jnp.asarray(times)), own):
        np.testing.assert_allclose(states, known, rtol=0, atol=1e-12)


def test_times_that_are_known_are_no_argument_of_the_program():
    def tables(times):
        program = str(jax.make_jaxpr(lambda y0: solve_ivp(van_der_pol, y0, times).states)(STARTS))
        return program.count(f"{len(TIMES)},{len(STARTS)}]")

    assert tables(TIMES) < tables(np.tile(TIMES, (len(STARTS), 1)))


@pytest.mark.parametrize("large", [False, True])
def test_a_field_of_one_column_is_taken_for_all(large):
    wide = jnp.array([[1.0, 1.0], [0.5, 0.5]])
    starts = np.array([[1.0, 2.0], [3.0, 1.0]])

    def loss(rate, columns):
        def field(t, y, rate):
            one = y @ wide[:, :1] if large else (y * wide[:, 0]).sum(-1, keepdims=True)
            return -rate * jnp.tile(one, (1, columns))

        states = solve_ivp(field, starts, TIMES, rate).states
        return (states**2).sum(), states

    (_, one), slope = jax.value_and_grad(loss, has_aux=True)(jnp.array(0.1), 1)
    (_, all_), expected = jax.value_and_grad(loss, has_aux=True)(jnp.array(0.1), 2)
    np.testing.assert_allclose(one, all_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(slope, expected, rtol=1e-10)


@pytest.mark.parametrize("large", [False, True])
def test_a_step_through_a_slope_that_is_no_number_is_not_kept(large):
    """Also where the method gives the slope no weight, as of its second stage."""

    def pierced(t, y, params):
        hole = jnp.where(jnp.abs(t - 0.2) < 1e-3, jnp.inf, 0.0)[:, None]
        return hole - (0.1 * jnp.tanh(y) @ jnp.eye(1) if large else 0.1 * jnp.tanh(y))

    report = solve_ivp(pierced, np.ones((2, 1)), [0.0, 1.0], rtol=0.1, atol=0.1).report
    assert report.rejected.min() >= 1


def test_each_problem_has_its_own_span_and_tolerance():
    spans = np.linspace(0.0, [[1.0], [5.0], [0.5]], 7, axis=-1)[:, 0] + np.array([[0.0], [1.0], [-2.0]])
    rtol = np.array([1e-3, 1e-9, 1e-6])

    def clocked(t, y, params):
        return -y * jnp.cos(t)[:, None]

    states, report = solve_ivp(clocked, np.ones((3, 1)), spans, rtol=rtol, atol=rtol / 100)
    expected = np.exp(np.sin(spans[:, :1]) - np.sin(spans))
    error = np.abs(states[..., 0] - expected).max(1) / expected.max(1)
    assert (error <= 10 * rtol).all()
    assert error[0] > 10 * error[1]
    assert report.evaluations.shape == (3,)


def test_forward_mode_is_the_transpose_of_reverse_mode():
    by = np.random.default_rng(1).standard_normal((16, len(TIMES), 2))

    def loss(y0, mu, **mode):
        return (by * solve_ivp(van_der_pol, y0, TIMES, mu, **mode).states).sum()

    backward = jax.grad(loss, (0, 1))(STARTS, 2.0)
    along = np.random.default_rng(2).standard_normal(STARTS.shape)
    _, change = jax.jvp(lambda y0, mu: loss(y0, mu, forward_mode=True), (STARTS, 2.0), (along, 0.3))
    np.testing.assert_allclose(change, (along * backward[0]).sum() + 0.3 * backward[1], rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ((STARTS, TIMES), {"method": "euler"}, "dopri5"),
        ((STARTS[0], TIMES), {}, "y0"),
        ((STARTS, TIMES[:1]), {}, "t_eval"),
        ((STARTS, np.tile(TIMES, (3, 1))), {}, "t_eval"),
        ((STARTS, TIMES[::-1]), {}, "t_eval"),
        ((STARTS, [0.0, 1.0, np.inf]), {}, "finite"),
        ((STARTS, TIMES, 2), {}, "params"),
        ((STARTS, TIMES), {"rtol": 1e-16}, "rtol"),
        ((STARTS, TIMES), {"atol": [1e-9, 1e-9]}, "atol"),
        ((STARTS, TIMES), {"atol": -1.0}, "atol"),
        ((STARTS, TIMES), {"control": (0.4, 0.0, 0.0)}, "control"),
        ((STARTS, TIMES), {"memory": 0}, "memory"),
    ],
)
def test_wrong_problems_are_refused(arguments, settings, words):
    with pytest.raises(ConfigError, match=words):
        solve_ivp(van_der_pol, *arguments, **settings)


# The field, linearised


@pytest.mark.parametrize("batches", [1, 5])
def test_a_field_pulled_back_in_two_parts_is_pulled_back(batches):
    random = np.random.default_rng(0)
    y, scale, given = (random.standard_normal((batches, *shape)) for shape in ((3, 2), (3,), (3, 2)))
    weights = {name: jnp.asarray(value) for name, value in FIELD.initial_params(2, 0).items()} | {"idle": jnp.ones(3)}
    arrays = framework_of().arrays

    def function(y, weights, own, fixed):
        return own["scale"][:, None] * FIELD(arrays.xp, weights, None, y, None) + 0 * fixed

    part = Linearised(function, jnp.asarray(y), weights, {"scale": scale, "idle": jnp.asarray(scale)}, jnp.asarray(y))
    expected = jax.vjp(
        lambda y, weights, own: jax.vmap(function, (0, None, 0, 0))(y, weights, own, y), y, weights,
        {"scale": scale, "idle": scale},
    )[1](given)  # fmt: skip
    found, left = zip(*(part.pull(k, jnp.asarray(given[k])) for k in range(batches)), strict=True)
    # 0 * fixed hands nothing back: y is what is fixed there, not the same y.
    np.testing.assert_allclose(np.stack(found), expected[0], rtol=0, atol=1e-13)
    shared, own = part.gather(list(left))
    for name, value in expected[1].items():
        np.testing.assert_allclose(shared[name], value, rtol=0, atol=1e-13, err_msg=name)
    for name, value in expected[2].items():
        np.testing.assert_allclose(own[name], value, rtol=0, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("kind", ["jit", "scan", "remat", "guard"])
def test_a_field_with_a_program_inside_has_its_gradient(kind):
    """Its transpose is one step that leads to all cotangents at once: what is left of a stage is a sum already."""
    weights = 2.0 * np.random.default_rng(0).standard_normal((3, 2, 2))

    def plain(y, weights):
        for weight in weights:
            y = jnp.tanh(y @ weight)
        return y

    def scanned(y, weights):
        return jax.lax.scan(lambda y, weight: (jnp.tanh(y @ weight), None), y, weights)[0]

    @jax.custom_vjp
    def guarded(y, weights):
        return plain(y, weights)

    def home(given, cotangent):  # which leaves truth values behind, not numbers
        fine = jnp.isfinite(cotangent)
        return tuple(jax.vjp(plain, *given)[1](jnp.where(fine, cotangent, 0))[k] for k in range(2))

    guarded.defvjp(lambda *given: (plain(*given), given), home)
    inside = {"jit": jax.jit(plain), "scan": scanned, "remat": jax.checkpoint(plain), "guard": guarded}[kind]

    def gradient(field):
        def loss(weights):
            return (solve_ivp(lambda t, y, weights: field(y, weights), STARTS, TIMES, weights).states ** 2).sum()

        return jax.grad(loss)(weights)

    np.testing.assert_allclose(gradient(inside), gradient(plain), rtol=1e-9, atol=1e-9)


def test_float32_tapes_that_are_full_repeat_what_was_solved():
    """What is taken again is another program of the compiler's: it must take the same steps."""
    found = []
    for memory in (8, 512):
        framework = frameworks.load("fused").create(Solver(), precision="float32", memory=memory)
        params = {name: framework.arrays.asarray(value) for name, value in Mlp().initial_params(2, 1).items()}
        initial, table = problem(8)
        by = np.ones((8, len(GRID), 3, 2), np.float32)
        loss = weighted_sum(framework, Mlp(initial_scale=1.0))
        _, gradient = loss(params, framework.arrays.asarray(initial), framework.arrays.table(table), by)
        found.append(gradient)
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=name)


def test_report_times_have_no_derivative_backward():
    with pytest.raises(ConfigError, match="report times"):
        jax.grad(lambda times: solve_ivp(van_der_pol, STARTS, times).states.sum())(jnp.asarray(TIMES))


def test_what_is_asked_for_is_told_by_each_pull_back():
    """One compiled solve, pulled back by what is shared and by what is not, in the other order."""
    solve = jax.jit(lambda mu, starts: solve_ivp(van_der_pol, starts, TIMES * (1 + 0 * mu), mu).states.sum())
    with pytest.raises(ConfigError, match="report times"):
        jax.grad(solve)(2.0, STARTS)
    framework, (initial, table) = framework_of(), problem()
    placed, params = framework.arrays.table(table), FIELD.initial_params(2, 1)
    run = jax.jit(lambda p, bolus: predict(framework, field, p, initial, placed._replace(bolus=bolus), GRID)[0].sum())
    _, by_dose = jax.vjp(lambda bolus: run(params, bolus), placed.bolus)
    _, by_weights = jax.vjp(lambda p: run(p, placed.bolus), params)
    ahead = by_dose(jnp.ones(()))[0]
    expected = jax.grad(lambda bolus: run(params, bolus))(placed.bolus)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(ahead, expected, rtol=1e-12)
    assert set(by_weights(jnp.ones(()))[0]) == set(params)


def test_a_field_that_looks_at_the_number_of_subjects_is_refused():
    def crowded(t, y, params):
        return -params * y if len(y) < 20 else -params * (y @ jnp.eye(2))

    def loss(rate):
        return solve_ivp(crowded, STARTS, TIMES, rate).states.sum()

    with pytest.raises(ConfigError, match="any number of subjects"):
        jax.grad(loss)(1.0)


# Settings


def test_a_gradient_of_weights_alone_is_that_beside_all_else():
    framework, (initial, table) = framework_of(), problem()
    whole = solved(framework, initial, table)[1]
    by = np.random.default_rng(2).standard_normal((len(table.duration), len(GRID), len(initial), 2))
    params = {name: framework.arrays.asarray(value) for name, value in FIELD.initial_params(2, 1).items()}
    _, alone = weighted_sum(framework)(params, initial, framework.arrays.table(table), by)
    for name, value in alone.items():
        np.testing.assert_allclose(value, whole[name], rtol=0, atol=1e-12 * np.abs(value).max())


SHARED = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_fused
found = []
for shards in (1, 2):
    solver = test_fused.Solver(rtol=1e-9, atol=1e-10)
    framework = test_fused.frameworks.load("fused").create(solver, precision="float64", shards=shards)
    assert framework.shards == shards
    found.append(test_fused.solved(framework, *test_fused.problem(own_points=True)))
test_fused.same(*found, 1e-11)
try:
    test_fused.frameworks.load("fused").create(solver, shards=3)
except test_fused.ConfigError as error:
    print(error)
"""


def test_subjects_shared_out_are_solved_alike():
    """Three subjects among two devices: the fourth stands still. In a process of its own: JAX counts devices once."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SHARED, str(Path(__file__).parent)], env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "framework.shards=3: JAX sees 2 devices" in done.stdout


@pytest.mark.parametrize("setting", ["memory=8", "shards=1", "control=[0,1,0]"])
def test_settings_of_the_engine_are_refused_elsewhere(setting):
    config = compose(["framework=diffrax", f"framework.{setting}"])
    with pytest.raises(ConfigError, match=f"framework.{setting.partition('=')[0]}.*diffrax has no such setting"):
        config.framework.own(frameworks.load("diffrax").settings)


def test_settings_reach_the_engine():
    config = compose(["framework=fused", "framework.memory=9", "framework.control=[0,1,0]"])
    kind = frameworks.load("fused")
    framework = kind.create(config.solver, **config.framework.own(kind.settings))
    assert (framework.memory, framework.control) == (9, (0.0, 1.0, 0.0))


def test_settings_without_a_framework_are_those_of_the_one_taken(tmp_path):
    config = decided(compose(["framework.memory=9"]), "group")
    with pytest.raises(ConfigError, match="diffrax has no such setting"):
        config.framework.own(frameworks.load(config.framework.name).settings)


@pytest.mark.parametrize("setting", ["memory=0", "shards=0", "control=[0,1]", "control=[0,2,0]", "control=[1,0,0]"])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match=f"framework.{setting.partition('=')[0]}="):
        compose(["framework=fused", f"framework.{setting}"])


def test_the_adjoint_needs_memory_for_one_group_of_doses():
    needed = {}
    for gradient in ("direct", "adjoint"):
        framework = framework_of(gradient=gradient, rtol=1e-6)
        arrays, (initial, table) = framework.arrays, problem(64)
        params = {name: arrays.asarray(value) for name, value in FIELD.initial_params(2, 1).items()}
        by = np.ones((64, len(GRID), 3, 2))
        step = weighted_sum(framework)
        arguments = params, arrays.asarray(initial), arrays.table(table), by
        needed[gradient], _ = arrays.backward_memory(None, step, *arguments)
    assert needed["adjoint"] < 0.5 * needed["direct"]


def test_control_arrives():
    few, usual = (
        frameworks.load("fused").create(Solver(), precision="float64", control=control)
        for control in ((0.0, 1.0, 0.0), (0.2, 0.4, 0.0))
    )
    counts = [solve_alone(framework) for framework in (few, usual)]
    assert counts[0] != counts[1]


def solve_alone(framework):
    initial, table = problem(19)
    arrays = framework.arrays
    params = {name: arrays.asarray(value) for name, value in FIELD.initial_params(2, 1).items()}
    _, report = jax.jit(lambda: predict(framework, field, params, arrays.asarray(initial), arrays.table(table), GRID))()
    return report.accepted.sum() + report.rejected.sum()


@pytest.mark.parametrize("memory", [128, 2])
def test_an_interval_that_a_tape_has_no_step_of_leaves_nothing(memory):
    """After a reset the field has another domain, which the states before it are not in."""
    ones = np.ones((2, 2))
    table = Interval(
        number=None, start=0 * ones, duration=ones, bolus=np.stack([5.0 * ones, 0.1 * ones])[..., :1], rate=None,
        covariates=np.stack([9.0 * ones, ones])[..., :1], keep=np.stack([ones[0], 0 * ones[0]]),
    )  # fmt: skip

    def rhs(own, y, a, row):
        return -a * row.duration[:, None] * jnp.sqrt(row.covariates - y)

    def total(a):
        given = Engine(rhs, METHODS["dopri5"], CONTROL, 4096, memory, np.linspace(0, 1, 4))
        return engine.solve(given, a, jnp.zeros((2, 1)), table, (1e-6, 1e-8), group=2, keep=True)[0].sum()

    nearby = (total(0.3 + 1e-4) - total(0.3 - 1e-4)) / 2e-4
    np.testing.assert_allclose(jax.jit(jax.grad(total))(0.3), nearby, rtol=1e-5)


@pytest.mark.parametrize("name", ["fused", "diffrax"])
def test_a_fit_takes_no_step_from_a_solve_that_failed_in_a_compiled_program(name):
    """Which cannot raise: it tells, and it is the solve that is said to have failed, and not the loss."""
    made = frameworks.load(name).create(Solver(max_steps=1))
    state = training.start(made, Mlp().initial_params(2, 0))
    with pytest.raises(SolverFailure, match="max_steps=1 reached"):
        next(iter(training.fit(made, Mlp(), load(Data(subjects=2)), training.Training(), state, seed=0)))
