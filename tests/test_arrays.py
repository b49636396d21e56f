"""Cohorts from arrays, and back to the same bits through a file."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pk_event_fit.compartments import KINETICS
from pk_event_fit.data import Data, forecast, jitter, load, of_arrays, superpose, write_cohort
from pk_event_fit.errors import ConfigError, DataError

HOURS = st.floats(1e-3, 1e3)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path="a.npz", **changed):
    return load(Data(source="file", path=path, **changed))


def same(found, wanted):
    """To the bit, but for where they come from."""
    for name in ("amounts", "initial", "grid", "times", "weights", "begun"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
    for name, leaf in wanted.intervals._asdict().items():
        np.testing.assert_array_equal(getattr(found.intervals, name), leaf, name)
    assert (found.compartments, found.covariates) == (wanted.compartments, wanted.covariates)


@st.composite
def made(draw):
    """Arguments of `of_arrays`: any doses, amounts that jump by them, and some that are missing."""
    lengths, start = draw(st.lists(HOURS, min_size=1, max_size=4)), draw(st.floats(-1e3, 1e3))
    at_start = draw(st.booleans())
    dose_times = (start + np.cumsum([0.0, *lengths]))[not at_start : -1].tolist()
    doses = draw(st.lists(st.floats(0.0, 1e3), min_size=len(dose_times), max_size=len(dose_times)))
    size, points, subjects = draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(1, 3))
    where = draw(st.lists(st.integers(1, size), min_size=len(doses), max_size=len(doses)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    # Amounts stand still between doses, so that every jump is the dose.
    state = random.lognormal(0.0, 1.0, (subjects, size))
    amounts = np.empty((subjects, len(lengths), points, size))
    for k in range(len(lengths)):
        if (number := k - (not at_start)) >= 0:
            state = state + doses[number] * (np.arange(1, size + 1) == where[number])
        amounts[:, k] = state[:, None]
    lost = random.random(amounts.shape) < draw(st.sampled_from([0.0, 0.4]))
    lost[:, 0, 0] = False
    weights = {"weight": random.lognormal(4.0, 0.2, subjects)} if draw(st.booleans()) else None
    return {"amounts": np.where(lost, np.nan, amounts), "start": start, "end": float(start + np.sum(lengths)),
            "dose_times": dose_times, "dose_amounts": doses, "dose_compartments": where, "covariates": weights,
            "compartments": ["a", "b", "c"][:size]}  # fmt: skip


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made())
def test_any_cohort_is_read_as_it_was_written(arguments):
    cohort = of_arrays(**arguments)
    np.testing.assert_array_equal(cohort.amounts, arguments["amounts"])
    write_cohort(cohort, "a.npz")
    found = read(covariates=["all"] if arguments["covariates"] else None)
    same(found, cohort)
    assert found.digest == cohort.digest


def test_arrays_of_a_simulated_cohort_are_that_cohort():
    wanted = load(Data(subjects=3, points=5))
    doses = {"dose_times": [12, 24, 36], "dose_amounts": [100] * 3}
    for more in ({"end": 48.0}, {"times": wanted.times}):
        found = of_arrays(wanted.amounts, **doses, **more)
        same(found, wanted)
        assert found.digest == wanted.digest


def test_infusions_are_taken_as_a_regimen():
    doses = [{"time": 0.0, "amount": 50.0, "duration": 4.0}]
    wanted = load(Data(subjects=2, points=3, doses=doses, end=12.0))
    same(of_arrays(wanted.amounts, doses=doses, end=12.0), wanted)


@pytest.mark.parametrize("settings", [{"noise_sd": 0.5}, {"cv": 0.3, "covariates": ["all"]}, {"initial": [5.0]}])
def test_a_simulated_cohort_is_read_as_it_was_written(settings):
    cohort = load(Data(subjects=3, points=5, **settings))
    write_cohort(cohort, "a.npz")
    same(read(covariates=settings.get("covariates")), cohort)


def test_what_is_hidden_stays_hidden():
    cohort = forecast(load(Data(subjects=3, points=5)), 2)
    write_cohort(cohort, "a.npz")
    same(read(), cohort)


def test_superposed_doses_are_written():
    single = {"dose_times": [0.0], "dose_amounts": [100.0], "dose_compartments": [1], "end": 12.0}
    cohort = superpose(load(Data(subjects=2, points=13, **single)), [100.0, 50.0, 200.0], 4, KINETICS["pk_2c"])
    write_cohort(cohort, "a.npz")
    np.testing.assert_array_equal(read().amounts, cohort.amounts)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: load(Data(source="table", dataset="indometacin", compartments=["a"], measured="a")), "from a table"),
        (lambda: load(Data(subjects=2, points=3, doses=[{"time": 0, "amount": 9, "duration": 4}])), "infusions"),
        (lambda: jitter(load(Data(subjects=2, points=3)), Data(subjects=2, points=3), times=1.0, seed=1), "clocks"),
        (lambda: (c := load(Data(subjects=2, points=3)))._replace(weights=2 * np.ones(c.amounts.shape)), "more than"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_and_nothing_is_written(make, words, folder):
    cohort = make()
    with pytest.raises(ConfigError, match=rf"{words}.*croissant"):
        write_cohort(cohort, "a.npz")
    assert not (folder / "a.npz").exists()


STILL = np.ones((2, 1, 3, 1))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({}, ConfigError, "needs end"),
        ({"end": 9.0, "doses": [], "dose_times": [1.0], "dose_amounts": [1.0]}, ConfigError, "one of the two"),
        ({"end": 9.0, "dose_times": [1.0]}, ConfigError, "one entry for each dose"),
        ({"end": 9.0, "dose_times": [1.0], "dose_amounts": [1.0]}, DataError, "has 1 intervals"),
        ({"end": 9.0, "compartments": ["a", "b"]}, DataError, "needs 1 names"),
        ({"end": 9.0, "covariates": {"WT": [1.0]}}, DataError, "covariates has shape"),
        ({"end": 9.0, "covariates": {"WT": [1.0, 2.0], "AGE": [1.0]}}, DataError, "covariates"),
        ({"end": 9.0, "times": [[0.0, 1.0, 9.0]]}, DataError, "evenly"),
        ({"end": 9.0, "initial": [[1.0]]}, DataError, "initial has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        of_arrays(STILL, **arguments)


@pytest.mark.parametrize("end", [np.array([9.0]), np.array(np.nan), np.array("9")])
def test_an_end_that_is_none_is_refused(end):
    np.savez("a.npz", all_solutions=STILL, end=end)
    with pytest.raises(DataError, match="end has shape"):
        read(dose_times=[], dose_amounts=[], dose_compartments=[])
