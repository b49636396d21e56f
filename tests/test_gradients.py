"""A tanh network through three doses: its gradients against complex steps."""

import functools
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate._ivp import dop853_coefficients as dop853

from pk_event_fit import frameworks
from pk_event_fit.clocks import differentiable
from pk_event_fit.dosing import Dose, schedule
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.integrate import predict

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
FIELD = Mlp(hidden=[8], activation="tanh", initial_scale=1.0)
TIMES, AMOUNTS, INITIAL = np.array([12.0, 24.0, 36.0]), np.array([1.0, 0.8, 1.2]), np.array([[0.5, 0.2]])
SEEN = np.array([3.1, 11.9, 14.2, 23.0, 27.7, 33.3, 38.5, 48.0])
WEIGHTS = np.random.default_rng(5).standard_normal((len(SEEN), 2))
STEPS = 40  # in each piece of at most 11 h; an error of order 8 is then below 1e-13


def values():
    params = {name: value / 4 for name, value in FIELD.initial_params(2, 3).items()}
    return params | {"initial": INITIAL, "time": TIMES, "amount": AMOUNTS}


def losses(batch):
    """The loss for each of many sets of values, complex, `[P, ...]` each."""
    state, total = batch["initial"][:, 0].copy(), np.zeros(len(batch["time"]), complex)
    clock = np.zeros_like(total)
    doses = [(float(TIMES[k]), 0, k) for k in range(3)]
    for _, seen, k in sorted([*doses, *((float(time), 1, k) for k, time in enumerate(SEEN))]):
        until = np.full_like(clock, SEEN[k]) if seen else batch["time"][:, k]
        state, clock = flow(batch, state, until - clock), until
        if seen:
            total += (state * WEIGHTS[k]).sum(1)
        else:
            state[:, 0] += batch["amount"][:, k]
    return total


def flow(batch, state, duration):
    """Equal steps of DOP853."""
    step = (duration / STEPS)[:, None]
    for _ in range(STEPS):
        stages = np.zeros((12, *state.shape), complex)
        for k in range(12):
            y = state + step * np.tensordot(dop853.A[k, :k].astype(complex), stages[:k], 1)
            hidden = np.tanh(np.einsum("pi,pij->pj", y, batch["weight_0"]) + batch["bias_0"])
            stages[k] = np.einsum("pi,pij->pj", hidden, batch["weight_1"]) + batch["bias_1"]
        state = state + step * np.tensordot(dop853.B.astype(complex), stages, 1)
    return state


@functools.cache
def expected():
    r"""Derivatives by every number: $\operatorname{Im} L(x + i h) / h$, in which nothing cancels.

    Squire & Trapp, SIAM Review 40 (1998).
    """
    own = values()
    spots = [(name, spot) for name, value in own.items() for spot in np.ndindex(value.shape)]
    width = 1e-100
    batch = {name: np.tile(value.astype(complex), (len(spots),) + (1,) * value.ndim) for name, value in own.items()}
    for number, (name, spot) in enumerate(spots):
        batch[name][(number, *spot)] += 1j * width
    gradients = {name: np.zeros(value.shape) for name, value in own.items()}
    for (name, spot), slope in zip(spots, losses(batch).imag / width, strict=True):
        gradients[name][spot] = slope
    return gradients


@functools.cache
def found(name, gradient):
    solver = Solver(rtol=1e-12, atol=1e-13, max_steps=100_000, gradient=gradient)
    framework = frameworks.load(name).create(solver, precision="float64")
    arrays = framework.arrays
    history = [Dose(float(time), float(amount)) for time, amount in zip(TIMES, AMOUNTS, strict=True)]
    planned = schedule([history], compartments=2, start=0.0, times=SEEN)
    where = planned.reports

    def loss(p, weights):
        table, steady = differentiable(arrays, planned, {key: p[key] for key in ("time", "amount")})
        states, report = predict(framework, FIELD, p, p["initial"], table, steady=steady)
        return (states[where.interval, where.point, where.subject] * weights).sum(), report

    step = arrays.compile(arrays.value_and_grad(loss))
    placed = {key: arrays.asarray(value) for key, value in values().items()}
    _, gradients = framework.guard(step, placed, arrays.asarray(WEIGHTS))
    return {key: arrays.to_numpy(value) for key, value in gradients.items()}


@pytest.mark.parametrize("quantity", sorted(values()))
@pytest.mark.parametrize(("gradient", "bound"), [("direct", 1e-8), ("adjoint", 1e-6)])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_a_tanh_network(name, gradient, bound, quantity):
    off = np.abs(found(name, gradient)[quantity] - expected()[quantity])
    assert off.max() <= bound * np.abs(expected()[quantity]).max()
