"""Derivatives with regard to what a dosing history is made of, against differences of whole, newly cut histories."""

import functools
from pathlib import Path

import numpy as np
import pytest
from clinic import Model, Row
from histories import Kinetics, as_records
from reference import Exact, linear

from pk_event_fit import frameworks
from pk_event_fit.clocks import BY_ROW, QUANTITIES, differentiable
from pk_event_fit.dosing import Dose, Infusion, schedule
from pk_event_fit.errors import ScheduleError
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.integrate import predict

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
KINETICS = ((2.0, 10.0, 1.0, 20.0, 1.2), (3.0, 15.0, 0.5, 30.0, 0.7), (1.5, 8.0, 2.0, 12.0, 0.9))
MODELS = [
    Model(Kinetics(*values), [0.8, 0.9, 1.0], [0.4, 0.3, 0.2], [25.0, 30.0, 10.0], [2.5, 1.5, 1.0])
    for values in KINETICS
]
SEEN = [Row(time) for time in (1.1, 5.3, 9.7, 13.1, 17.9, 21.3, 29.9)]
GIVEN = [
    [
        Row(0.5, 1, amount=100.0),
        Row(2.0, 1, amount=50.0, compartment=2, rate=20.0),
        Row(6.0, 1, amount=80.0, additional=2, interval=7.0),
        Row(11.0, 1, amount=40.0, compartment=2, rate=10.0, additional=1, interval=8.5),
    ],
    [
        Row(0.7, 1, amount=60.0, compartment=2, rate=8.0, interval=6.0, steady=1),
        Row(8.2, 1, amount=70.0, rate=-1),
        Row(12.4, 1, amount=90.0, rate=-2, additional=1, interval=6.3),
        Row(20.5, 1, amount=30.0, interval=9.0, steady=2),
        Row(24.5, 1, amount=40.0, rate=-2, interval=7.3, steady=2),
    ],
    [
        Row(0.2, 1, compartment=2, rate=12.0, steady=1),
        Row(3.0, 1, amount=100.0, rate=16.5, interval=5.0, steady=2),
        Row(10.0, 4, amount=70.0, additional=1, interval=9.1),
        Row(15.0, 1, amount=55.0, compartment=2, rate=-2),
        Row(22.0, 3),
        Row(23.0, 1, amount=45.0, compartment=3),
    ],
]
ROWS = [sorted(rows + SEEN, key=lambda row: row.time) for rows in GIVEN]


def plan(records, values):
    own = {name: values[name] for name in QUANTITIES if name not in BY_ROW}
    return schedule(records._replace(**{name: values[name] for name in BY_ROW}), compartments=3, start=0.0, **own)


@functools.cache
def problem():
    """Records, and every quantity in NumPy."""
    records = as_records(ROWS, MODELS)
    by_subject = {
        "bioavailability": [model.bioavailability for model in MODELS],
        "lag": [model.lag for model in MODELS],
        "modelled_rate": [model.modelled_rate for model in MODELS],
        "modelled_duration": [model.modelled_duration for model in MODELS],
    }
    values = {name: getattr(records, name) for name in BY_ROW} | {k: np.array(v) for k, v in by_subject.items()}
    return records, values


def weighted(framework, initial, table, steady, planned):
    states, report = predict(framework, linear, {}, initial, table, steady=steady)
    where = planned.reports
    seen = states[where.interval, where.point, where.subject]
    weights = np.random.default_rng(3).standard_normal(seen.shape)
    return (seen * framework.arrays.asarray(weights)).sum(), report


@functools.cache
def exact(name):
    """Derivative by each number of a quantity, by differences of the exact solution, extrapolated: to 1e-10."""
    records, values = problem()
    framework, initial = Exact.create(), np.ones((3, 3))

    def loss(spot, step):
        changed = {key: value.copy() for key, value in values.items()}
        changed[name][spot] += step
        planned = plan(records, changed)
        return weighted(framework, initial, planned.intervals, planned.steady, planned)[0]

    slopes = np.zeros(values[name].shape)
    for spot in np.ndindex(slopes.shape):
        if name in BY_ROW and not moves(records, spot[0], name):
            continue
        width = 1e-3 * max(1.0, abs(values[name][spot])) ** (name != "time")
        coarse, fine = ((loss(spot, h) - loss(spot, -h)) / (2 * h) for h in (width, width / 2))
        slopes[spot] = (4 * fine - coarse) / 3
    return slopes


def moves(records, row, name):
    """Whether a number of a row is one to differentiate by: observations stay, and codes are no rates."""
    dosed = records.kind[row] in (1, 3, 4)
    return dosed and (name == "time" or (getattr(records, name)[row] > 0 and records.kind[row] != 3))


@functools.cache
def found(name, gradient):
    """Derivatives by all quantities at once, as a framework gives them."""
    records, values = problem()
    planned = plan(records, values)
    solver = Solver(rtol=1e-11, atol=1e-12, max_steps=100_000, gradient=gradient)
    framework = frameworks.load(name).create(solver, precision="float64")
    arrays = framework.arrays

    def loss(quantities, initial):
        table, steady = differentiable(arrays, planned, quantities)
        return weighted(framework, initial, table, steady, planned)

    step = arrays.compile(arrays.value_and_grad(loss))
    quantities = {key: arrays.asarray(value) for key, value in values.items()}
    (_, report), gradients = framework.guard(step, quantities, arrays.asarray(np.ones((3, 3))))
    framework.check(report, planned.intervals)
    return {key: arrays.to_numpy(value) for key, value in gradients.items()}


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(("gradient", "bound"), [("direct", 1e-8), ("adjoint", 1e-6)])
@pytest.mark.parametrize("name", NAMES)
def test_derivative_by_every_quantity(name, gradient, bound, quantity):
    expected = exact(quantity)
    off = np.abs(found(name, gradient)[quantity] - expected)  # 0 where nothing depends on it
    assert np.abs(expected).max() > 0
    assert off.max() <= bound * np.abs(expected).max()


def test_an_observation_on_a_dose_time_has_no_derivative_by_it():
    records = as_records([[Row(0.0), Row(12.0, 1, amount=100.0), Row(12.0)]], MODELS[:1])
    planned = schedule(records, compartments=3)
    arrays = Exact.create().arrays
    with pytest.raises(ScheduleError, match="subject 0, 12 h"):
        differentiable(arrays, planned, {"time": records.time})


def test_an_observation_on_a_dose_time_does_not_disturb_the_derivative_by_the_amount():
    records = as_records([[Row(0.0), Row(12.0, 1, amount=100.0), Row(12.0)]], MODELS[:1])
    planned = schedule(records, compartments=3)
    differentiable(Exact.create().arrays, planned, {"amount": records.amount})


def test_an_infusion_that_ends_on_an_observation_has_no_derivative_by_its_rate():
    records = as_records([[Row(0.0), Row(2.0, 1, amount=40.0, rate=10.0), Row(6.0)]], MODELS[:1])
    planned = schedule(records, compartments=3)
    with pytest.raises(ScheduleError, match="subject 0, 6 h"):
        differentiable(Exact.create().arrays, planned, {"rate": records.rate})


@pytest.mark.parametrize(
    ("row", "settings", "name"),
    [
        (Row(10.0, 1, 100.0), {"lag": 2.0}, "lag"),
        (Row(1.0, 1, 100.0, additional=1, interval=11.0), {}, "interval"),
        (Row(8.0, 1, 100.0, rate=25.0), {}, "amount"),
        (Row(8.0, 1, 100.0, rate=25.0), {}, "bioavailability"),
        (Row(8.0, 1, 100.0, rate=-1), {"modelled_rate": 25.0}, "modelled_rate"),
        (Row(8.0, 1, 100.0, rate=-2), {"modelled_duration": 4.0}, "modelled_duration"),
    ],
)
def test_what_lands_on_an_observation_has_no_derivative_by_what_moves_it(row, settings, name):
    planned = schedule(as_records([[Row(0.0), row, Row(12.0)]]), compartments=1, **settings)
    value = getattr(planned.clock.records if name in BY_ROW else planned.clock.parameters, name)
    with pytest.raises(ScheduleError, match="subject 0, 12 h"):
        differentiable(Exact.create().arrays, planned, {name: value})


@pytest.mark.parametrize("name", ["amount", "rate", "interval"])
def test_steady_infusions_that_meet_have_no_derivative_by_what_parts_them(name):
    rows = as_records([[Row(0.0, 1, 240.0, rate=10.0, interval=12.0, steady=1), Row(6.0)]])
    planned = schedule(rows, compartments=1)
    with pytest.raises(ScheduleError, match="one infusion ends as another begins"):
        differentiable(Exact.create().arrays, planned, {name: getattr(rows, name)})


def test_a_quantity_that_a_compartment_does_not_have_leaves_it_alone():
    rates = np.array([[25.0, np.nan]])
    planned = schedule([[Dose(1.0, 100.0, compartment=2)]], compartments=2, start=0.0, end=9.0, modelled_rate=rates)
    table, _ = differentiable(Exact.create().arrays, planned, {"modelled_rate": rates})
    assert all(np.isfinite(leaf).all() for leaf in table if leaf is not None)


def test_two_doses_at_one_time_have_no_derivative_by_the_time_of_one():
    planned = schedule([[Dose(12.0, 100.0), Dose(12.0, 50.0)]], compartments=1, start=0.0, end=24.0)
    with pytest.raises(ScheduleError, match="12 h"):
        differentiable(Exact.create().arrays, planned, {"time": np.array([12.0, 12.0])})


def test_two_doses_at_one_time_move_together_with_their_lag():
    planned = schedule([[Dose(12.0, 100.0), Infusion(12.0, 50.0, 2.0)]], compartments=1, start=0.0, end=24.0, lag=0.5)
    differentiable(Exact.create().arrays, planned, {"lag": np.array([[0.5]])})


def test_an_unknown_quantity_is_refused():
    planned = schedule([[Dose(12.0, 100.0)]], compartments=1, start=0.0, end=24.0)
    with pytest.raises(ScheduleError, match="dose: nothing to differentiate by"):
        differentiable(Exact.create().arrays, planned, {"dose": np.zeros(1)})


def test_a_quantity_of_the_wrong_shape_is_refused():
    planned = schedule([[Dose(12.0, 100.0)]], compartments=1, start=0.0, end=24.0)
    with pytest.raises(ScheduleError, match=r"lag: has shape \[1\]; needs \[1, 1\]"):
        differentiable(Exact.create().arrays, planned, {"lag": np.zeros(1)})
