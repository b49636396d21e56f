"""Subjects under other doses than their own, and experiments that differ in where they start."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import lambertw

from pk_event_fit import store, training
from pk_event_fit.compartments import KINETICS
from pk_event_fit.data import Data, batch_of, describe, jitter, joined, load, superpose
from pk_event_fit.data.splits import dose_counts
from pk_event_fit.errors import ConfigError
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks import load as framework_of
from pk_event_fit.frameworks.base import Solver

LINEAR = KINETICS["pk_2c"]
SMALL = Data(subjects=4, points=5)
COURSE = Data(
    subjects=2, points=4, end=40.0,
    doses=[{"time": 1.0, "amount": 80.0, "every": 8.0, "count": 3}, {"time": 20.0, "amount": 50.0, "duration": 4.0}],
)  # fmt: skip
DEPLETION = Data(
    kinetics="michaelis_menten", subjects=5, cv=0.0, initial=[300.0, 100.0, 50.0], dose_times=[], dose_amounts=[],
    dose_compartments=[], end=100.0, points=20, observed_unit="mmol/L", time_unit="min",
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def once(points=13, subjects=4, **changed):
    """Subjects who are given 100 mg at 0 h and watched for 12 h, an hour apart."""
    single = {"dose_times": [0.0], "dose_amounts": [100.0], "dose_compartments": [1], "end": 12.0}
    return Data(subjects=subjects, points=points, **single, **changed)


@pytest.mark.parametrize("settings", [SMALL, COURSE], ids=["boluses", "a course and an infusion"])
def test_doses_that_do_not_vary_lead_to_the_same_amounts(settings):
    cohort = load(settings)
    found = jitter(cohort, settings, seed=1)
    # Two ways to the same exponentials, of amounts of 100 mg.
    np.testing.assert_allclose(found.amounts, cohort.amounts, rtol=0, atol=1e-10)


def test_amounts_vary_as_asked_around_what_was_planned():
    settings = replace(SMALL, subjects=400, points=2)
    found = jitter(load(settings), settings, amounts=0.3, seed=1).intervals.bolus[1:, :, 0]
    logs = np.log(found / 100.0)
    # 1,200 draws: the standard errors are 2.9 % and 2 % of the deviation; five of them.
    deviation = np.log1p(0.3**2) ** 0.5
    np.testing.assert_allclose([logs.mean(), logs.std()], [0.0, deviation], rtol=0.1, atol=0.15 * deviation)


def test_times_vary_as_asked():
    settings = replace(SMALL, subjects=400, points=2)
    late = jitter(load(settings), settings, times=0.5, seed=1).intervals.start[1:] - [[12.0], [24.0], [36.0]]
    np.testing.assert_allclose([late.mean(), late.std()], [0.0, 0.5], rtol=0.1, atol=0.08)


def test_each_dose_of_a_course_varies_by_itself():
    found = jitter(load(COURSE), COURSE, amounts=0.3, seed=1).intervals.bolus
    assert len(np.unique(found[found > 0])) == 6


def test_each_jump_is_the_varied_dose():
    found = jitter(load(SMALL), SMALL, amounts=0.3, times=1.0, seed=1)
    jumps = found.amounts[:, 1:, 0] - found.amounts[:, :-1, -1]
    np.testing.assert_allclose(jumps, found.intervals.bolus[1:].transpose(1, 0, 2), rtol=0, atol=1e-10)


def test_between_varied_doses_the_kinetics_are_the_subject_s_own():
    found, parameters = jitter(load(SMALL), SMALL, amounts=0.3, times=1.0, seed=1), SMALL.draw()
    clearance, volume, flow, peripheral = parameters.T
    matrix = np.stack([-(clearance + flow) / volume, flow / peripheral], -1)  # of the central compartment
    area = np.trapezoid
    fine = jitter(load(replace(SMALL, points=2001)), replace(SMALL, points=2001), amounts=0.3, times=1.0, seed=1)
    hours = fine.intervals.duration.T[..., None]
    change = area((matrix[:, None, None] * fine.amounts).sum(-1) * hours, fine.grid, axis=-1)
    # The trapezoidal rule of 2,000 steps on curves of 100 mg that fall by a tenth an hour for 14 h: 1e-5 mg.
    np.testing.assert_allclose(found.amounts[:, :, -1, 0] - found.amounts[:, :, 0, 0], change, rtol=0, atol=1e-4)


def test_intervals_that_a_subject_lacks_do_not_count():
    settings = replace(SMALL, dose_times=[0.01, 24.0, 36.0])
    found = jitter(load(settings), settings, times=0.5, seed=1)
    lacking = found.intervals.duration.T == 0
    assert lacking.any()
    assert not lacking.all()
    assert not found.weights[lacking].any()
    assert (found.weights[~lacking] == 1).all()
    np.testing.assert_array_equal(np.isnan(found.amounts).all((-2, -1)), lacking)


def test_some_of_the_subjects_are_varied_by_their_own_kinetics():
    cohort, some = load(SMALL), np.array([2, 0])
    found = jitter(cohort.take(some), SMALL, seed=1, subjects=some)
    np.testing.assert_allclose(found.amounts, cohort.amounts[some], rtol=0, atol=1e-10)


def test_the_same_seed_gives_the_same_doses_and_another_others():
    cohort = load(SMALL)
    one, same, other = (jitter(cohort, SMALL, amounts=0.1, seed=seed).digest for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("settings", "changed", "words"),
    [
        (replace(SMALL, source="file", path="a.npz"), {}, "known of simulated"),
        (replace(SMALL, subjects=3), {}, "has 4 subjects"),
        (replace(SMALL, kinetics="pk_1c"), {}, "in central, peripheral"),
        (SMALL, {"amounts": -1.0}, "amounts=-1"),
        (SMALL, {"times": np.inf}, "times=inf"),
        (
            replace(SMALL, doses=[{"time": 0, "amount": 9, "every": 6, "count": 8, "steady_state": True}]),
            {},
            "steady state",
        ),
    ],
)
def test_what_cannot_be_varied_is_refused(settings, changed, words):
    with pytest.raises(ConfigError, match=words):
        jitter(load(SMALL), settings, seed=1, **changed)


@pytest.mark.parametrize("kinetics", ["pk_2c", "pk_1c_depot", "pk_3c"])
def test_superposed_doses_are_those_that_are_solved(kinetics):
    found = superpose(load(once(kinetics=kinetics)), [100.0, 50.0, 200.0], 4, KINETICS[kinetics])
    course = {"dose_times": [0.0, 4.0, 8.0], "dose_amounts": [100.0, 50.0, 200.0], "dose_compartments": [1, 1, 1]}
    wanted = load(Data(subjects=4, points=5, kinetics=kinetics, end=12.0, **course))
    np.testing.assert_allclose(found.amounts, wanted.amounts, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(found.times, wanted.times, rtol=1e-14)
    for leaf in ("start", "duration", "bolus"):
        np.testing.assert_allclose(getattr(found.intervals, leaf), getattr(wanted.intervals, leaf), rtol=1e-14)


def test_a_dose_after_an_idle_while_is_superposed_from_when_it_was_given():
    settings = replace(once(points=13), dose_times=[6.0], end=18.0)
    found = superpose(load(settings), [100.0, 100.0], 6, LINEAR)
    assert found.times[:, [0, -1]].tolist() == [[6.0, 12.0], [12.0, 18.0]]


def test_what_is_missing_is_missing_after_every_dose():
    cohort = load(once())
    cohort.amounts[1, 0, 2, 0] = np.nan
    found = superpose(cohort, [100.0, 100.0, 100.0], 4, LINEAR)
    assert np.argwhere(np.isnan(found.amounts)).tolist() == [[1, k, 2, 0] for k in range(3)]
    assert found.weights.sum() == found.amounts.size - 3


@pytest.mark.parametrize(
    ("settings", "doses", "every", "kinetics"),
    [
        (once(), [100.0] * 4, 4, LINEAR),
        (once(), [100.0, -1.0], 4, LINEAR),
        (once(), [], 4, LINEAR),
        (once(), [100.0], 0, LINEAR),
        (once(), [100.0], 4, KINETICS["pk_1c_mm"]),
        (SMALL, [100.0], 1, LINEAR),
        (COURSE, [100.0], 1, LINEAR),
        (replace(once(), initial=[5.0]), [100.0], 4, LINEAR),
    ],
)
def test_what_cannot_be_superposed_is_refused(settings, doses, every, kinetics):
    with pytest.raises(ConfigError, match="superpose"):
        superpose(load(settings), doses, every, kinetics)


def test_nobody_is_superposed_without_a_word_on_the_kinetics():
    with pytest.raises(TypeError, match="kinetics"):
        superpose(load(once(kinetics="pk_1c_mm")), [100.0], 4)


def test_cohorts_are_joined_subject_by_subject():
    cohort, course = load(SMALL), load(replace(COURSE, points=5, covariates=["all"]))
    found = joined([cohort, course._replace(covariates=(), intervals=course.intervals._replace(covariates=None))])
    count = len(course.intervals.start)
    assert found.amounts.shape == (6, count, 5, 2)
    np.testing.assert_array_equal(found.amounts[:4, :4], cohort.amounts)
    np.testing.assert_array_equal(found.amounts[4:], course.amounts)
    assert np.isnan(found.amounts[:4, 4:]).all()
    np.testing.assert_array_equal(found.weights, np.isfinite(found.amounts))
    np.testing.assert_array_equal(found.intervals.rate[:, 4:], course.intervals.rate)
    assert not found.intervals.rate[:, :4].any()
    assert (found.intervals.start[4:, :4] == 48.0).all()
    assert not found.intervals.duration[4:, :4].any()
    assert found.origin.tolist() == [0, 1, 2, 3, 0, 1]
    assert dose_counts(found)[-1].tolist() == [3, 3, 3, 3, 4, 4]


def test_a_cohort_alone_is_itself():
    cohort = load(SMALL)
    found = joined([cohort])
    np.testing.assert_array_equal(found.amounts, cohort.amounts)
    assert found.weights is None
    assert len({one.digest for one in (found, joined([cohort, cohort]))}) == 2


@pytest.mark.parametrize("name", ["diffrax", "torchode"])
def test_varied_copies_are_fitted_beside_those_they_are_of(name):
    """By hand: the loss of all is the mean over their observations, and idle intervals change nothing."""
    cohort, framework, field = load(SMALL), framework_of(name).create(Solver(), precision="float64"), Mlp(hidden=(3,))
    copies = jitter(cohort, replace(SMALL, dose_times=[0.01, 24.0, 36.0]), amounts=0.3, times=0.5, seed=1)
    assert (copies.intervals.duration == 0).any()
    weights, losses = {k: framework.arrays.asarray(v) for k, v in field.initial_params(2, 0).items()}, {}
    for label, one in {"own": cohort, "copies": copies, "all": joined([cohort, copies])}.items():
        loss, counts = training.loss_of(framework, field, one), np.isfinite(one.amounts).sum()
        value, gradient = framework.arrays.value_and_grad(loss)(weights, *batch_of(framework.arrays, one, None))
        assert all(np.isfinite(framework.arrays.to_numpy(leaf)).all() for leaf in gradient.values())
        losses[label] = float(value[0]) * counts, counts
    assert losses["all"][1] == losses["own"][1] + losses["copies"][1]
    # Steps are each subject's own, so that what differs is the order of sums.
    assert losses["all"][0] == pytest.approx(losses["own"][0] + losses["copies"][0], rel=1e-10)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "one cohort or more"),
        ([SMALL, replace(SMALL, points=6)], "cohort 1 has another grid"),
        ([SMALL, replace(SMALL, kinetics="pk_1c")], "cohort 1 has another compartment"),
        ([SMALL, replace(SMALL, covariates=["all"])], "cohort 1 has another covariate"),
        ([Data(source="table", dataset="indometacin", compartments=["a"], measured="a")], "cohort 0 is no cohort on a"),
    ],
)
def test_cohorts_that_do_not_fit_together_are_not_joined(others, words):
    with pytest.raises(ConfigError, match=words):
        joined([load(one) for one in others])


def test_experiments_take_their_initial_amounts_in_turn():
    assert load(DEPLETION).initial.tolist() == [[300.0], [100.0], [50.0], [300.0], [100.0]]


def test_a_substrate_is_simulated_as_the_lambert_function_tells():
    cohort, (vmax, km) = load(DEPLETION), (7.0, 100.0)
    start, minutes = cohort.initial, cohort.times[0]
    wanted = km * lambertw(start / km * np.exp((start - vmax * minutes) / km)).real
    # DOP853 at 1e-10, many steps.
    np.testing.assert_allclose(cohort.amounts[:, 0, :, 0], wanted, rtol=1e-8)


def test_initial_amounts_are_of_every_compartment_where_they_are_lists():
    cohort = load(replace(SMALL, initial=[[5.0, 7.0], 3.0]))
    assert cohort.initial.tolist() == [[5.0, 7.0], [3.0, 0.0]] * 2


def test_initial_amounts_of_linear_kinetics_are_carried_by_the_same_exponentials():
    given = load(replace(SMALL, initial=[100.0], dose_times=[12.0], dose_amounts=[50.0], dose_compartments=[1]))
    dosed = replace(SMALL, dose_times=[0.0, 12.0], dose_amounts=[100.0, 50.0], dose_compartments=[1, 1])
    np.testing.assert_allclose(given.amounts, load(dosed).amounts, rtol=1e-14)


def test_the_file_of_a_substrate_names_its_units(folder):
    load(DEPLETION)
    (path,) = (folder / "data").iterdir()
    units = store.read_npz(path)[1]["units"]
    assert units == {"amount": "mmol/L", "time": "min", "vmax": "mmol/L/min", "km": "mmol/L"}


def test_what_is_handed_on_of_a_substrate_names_its_units():
    assert describe(DEPLETION).units == {"TIME": "min", "DV": "mmol/L"}
