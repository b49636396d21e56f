"""Measures of fit: numbers worked out by hand, SciPy's likelihood, and what chance says of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pk_event_fit.errors import DataError
from pk_event_fit.metrics.accuracy import mean_square
from pk_event_fit.metrics.goodness import by_compartment, goodness

EPS = np.finfo(np.float64).eps
CLOSE = {"rel": 1e3 * EPS}  # a few hundred terms
OBSERVED = np.array([[1.0, 10.0], [3.0, 30.0]])  # mg, two points of two compartments
RESIDUAL = np.array([[1.0, 0.0], [-1.0, 4.0]])


def sample(shape=(20, 3, 2), seed=0):
    """Predictions and observations of them, mg, with errors of 0.5 mg."""
    random = np.random.default_rng(seed)
    predicted = random.lognormal(2, 1, shape)
    return predicted, predicted + random.normal(0, 0.5, shape)


@pytest.mark.parametrize(
    ("name", "worked_out"),
    [
        ("n", 4), ("weight", 4.0), ("parameters", 1), ("chi_square", 18 / 4),
        ("reduced_chi_square", 18 / 4 / 3), ("wmape_percent", 100 * 6 / 44), ("rmse", (18 / 4) ** 0.5),
        ("r2", 1 - 18 / (2 + 200)),
    ],
)  # fmt: skip
def test_a_case_worked_out_by_hand(name, worked_out):
    # Squares of 1, 0, 1 and 16; each compartment about its own mean, 2 and 20, has 1 + 1 and 100 + 100.
    assert getattr(goodness(OBSERVED + RESIDUAL, OBSERVED, parameters=1, sigma=2.0), name) == pytest.approx(
        worked_out, **CLOSE
    )


def test_a_weighted_case_worked_out_by_hand():
    # The second number is the mean of three: squares 1 and 3 * 4, mean of the observed (2 + 3 * 6) / 4 = 5.
    found = goodness([[3.0], [8.0]], [[2.0], [6.0]], parameters=0, sigma=1.0, weights=[[1.0], [3.0]])
    exact = {"chi_square": 13, "rmse": (13 / 4) ** 0.5, "wmape_percent": 100 * 7 / 20, "r2": 1 - 13 / 12, "weight": 4}
    assert {name: getattr(found, name) for name in exact} == pytest.approx(exact, **CLOSE)


@pytest.mark.parametrize("sigma", [0.7, [0.3, 2.0]])
def test_the_likelihood_is_that_of_scipy(sigma):
    predicted, observed = sample()
    weights = np.random.default_rng(1).integers(1, 4, observed.shape)
    exact = stats.norm(predicted, np.asarray(sigma) / np.sqrt(weights)).logpdf(observed).sum()
    found = goodness(predicted, observed, parameters=5, sigma=sigma, weights=weights)
    assert found.log_likelihood == pytest.approx(exact, **CLOSE)


def test_the_estimated_deviation_is_the_likeliest():
    predicted, observed = sample()
    weights = np.random.default_rng(1).integers(1, 4, observed.shape)
    found = goodness(predicted, observed, parameters=0, weights=weights)
    near = [
        goodness(predicted, observed, parameters=0, sigma=found.sigma * by, weights=weights) for by in (0.99, 1, 1.01)
    ]
    assert near[1].log_likelihood == pytest.approx(found.log_likelihood, **CLOSE)
    assert max(near[0].log_likelihood, near[2].log_likelihood) < found.log_likelihood


def test_an_estimated_deviation_is_a_parameter_more():
    predicted, observed = sample()
    known = goodness(predicted, observed, parameters=7, sigma=goodness(predicted, observed, parameters=7).sigma)
    found = goodness(predicted, observed, parameters=7)
    assert (found.parameters, found.aic) == (8, pytest.approx(known.aic + 2, **CLOSE))


def test_a_parameter_costs_two_in_aic_and_the_logarithm_of_n_in_bic():
    # A weight is no number more.
    one, other = (goodness(*sample(), parameters=k, weights=2.0) for k in (3, 4))
    assert (other.aic - one.aic, other.bic - one.bic) == pytest.approx((2, np.log(120)), rel=1e-9)


def test_criteria_are_those_of_least_squares_but_for_a_constant():
    # n ln(sum of squares / n) + 2 k: differences between models are the same, whatever the constants.
    predicted, observed = sample()
    worse = predicted + 0.3
    n, squares = observed.size, [((guess - observed) ** 2).sum() for guess in (predicted, worse)]
    one, other = (goodness(guess, observed, parameters=2) for guess in (predicted, worse))
    assert other.aic - one.aic == pytest.approx(n * np.log(squares[1] / squares[0]), rel=1e-9)


def test_a_chi_square_against_the_true_deviation_is_one_by_its_degrees_of_freedom():
    # Its own standard deviation is sqrt(2 / n); four of them.
    predicted, observed = sample((400, 10, 2))
    assert goodness(predicted, observed, parameters=0, sigma=0.5).reduced_chi_square == pytest.approx(
        1, abs=4 * np.sqrt(2 / observed.size)
    )


def test_against_an_estimated_deviation_there_is_no_chi_square():
    found = goodness(*sample(), parameters=0)
    assert (found.chi_square, found.reduced_chi_square) == (None, None)


def test_more_parameters_than_numbers_leave_no_reduced_chi_square():
    found = [goodness(*sample(), parameters=k, sigma=1.0).reduced_chi_square is None for k in (119, 120)]
    assert found == [False, True]


def test_a_value_near_zero_does_not_disturb_the_percentage():
    predicted, observed = np.array([[11.0], [1e-3]]), np.array([[10.0], [1e-12]])
    assert goodness(predicted, observed, parameters=0).wmape_percent == pytest.approx(10.01, rel=1e-9)


def test_a_negative_value_counts_by_its_size():
    assert goodness([[2.0], [-1.0]], [[1.0], [-1.0]], parameters=0).wmape_percent == 50


def test_compartments_that_lie_apart_explain_nothing():
    # The mean of each compartment is predicted, and no more.
    observed = np.random.default_rng(0).normal([1, 1000], 1, (50, 2))
    predicted = np.broadcast_to(observed.mean(0), observed.shape)
    assert goodness(predicted, observed, parameters=0).r2 == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("measure", ["rmse", "sigma", "wmape_percent", "r2", "aic"])
def test_what_was_not_observed_does_not_count(measure):
    predicted, observed = sample()
    hidden = observed.copy()
    hidden[::2] = np.nan
    wild = np.where(np.isnan(hidden), np.inf, predicted)
    some, few = goodness(wild, hidden, parameters=1), goodness(predicted[1::2], observed[1::2], parameters=1)
    assert getattr(some, measure) == pytest.approx(getattr(few, measure), **CLOSE)


def test_a_weight_of_zero_is_no_observation():
    predicted, observed = sample()
    weights = np.ones(observed.shape)
    weights[0] = 0
    assert goodness(predicted, observed, parameters=1, weights=weights).n == observed[1:].size


def test_the_error_is_the_one_that_training_minimises():
    predicted, observed = sample()
    weights = np.random.default_rng(1).integers(0, 4, observed.shape)
    found = goodness(predicted, observed, parameters=1, weights=weights)
    assert found.rmse**2 == pytest.approx(mean_square(predicted, observed, weights), **CLOSE)


@given(st.integers(-10, 10), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_measures_without_a_unit_do_not_follow_it(power, seed):
    predicted, observed = sample(seed=seed)
    unit = 2.0**power
    one = goodness(predicted, observed, parameters=1, sigma=0.5)
    other = goodness(predicted * unit, observed * unit, parameters=1, sigma=0.5 * unit)
    plain = ("chi_square", "reduced_chi_square", "wmape_percent", "r2")
    assert [getattr(other, name) for name in plain] == [getattr(one, name) for name in plain]
    # A density is by the unit: ln L of n numbers loses n ln(unit).
    assert other.log_likelihood == pytest.approx(one.log_likelihood - observed.size * np.log(unit), rel=1e-9, abs=1e-9)


def test_each_compartment_is_measured_by_itself():
    predicted, observed = sample()
    weights = np.random.default_rng(1).integers(1, 4, observed.shape)
    found = by_compartment(predicted, observed, ["central", "gut"], parameters=3, sigma=[0.5, 2], weights=weights)
    for k, (name, sigma) in enumerate([("central", 0.5), ("gut", 2.0)]):
        columns = (predicted[..., [k]], observed[..., [k]])
        assert found[name] == goodness(*columns, parameters=3, sigma=sigma, weights=weights[..., [k]])


def test_chi_squares_of_compartments_add_up():
    predicted, observed = sample()
    parts = by_compartment(predicted, observed, ["a", "b"], parameters=3, sigma=[0.5, 2])
    whole = goodness(predicted, observed, parameters=3, sigma=[0.5, 2])
    assert sum(part.chi_square for part in parts.values()) == pytest.approx(whole.chi_square, **CLOSE)


def test_a_compartment_that_nobody_observed_has_no_measures():
    predicted, observed = sample()
    observed[..., 1] = np.nan
    found = by_compartment(predicted, observed, ["a", "b"], parameters=3)
    assert (found["b"][:3], set(found["b"][3:])) == ((0, 0.0, 4), {None})


@pytest.mark.parametrize(
    ("predicted", "observed", "absent"),
    [
        ([[1.0], [2.0]], [[1.0], [2.0]], {"chi_square", "reduced_chi_square", "log_likelihood", "aic", "bic"}),
        ([[1.0], [2.0]], [[0.0], [0.0]], {"chi_square", "reduced_chi_square", "wmape_percent", "r2"}),
        ([[1.0]] * 7, [[0.1]] * 7, {"chi_square", "reduced_chi_square", "r2"}),  # seven of 0.1 have another mean
    ],
)
def test_what_has_no_meaning_is_none(predicted, observed, absent):
    found = goodness(predicted, observed, parameters=0)
    assert {name for name, value in found._asdict().items() if value is None} == absent


def test_measures_are_plain_numbers():
    found = goodness(*sample(), parameters=np.int64(3), sigma=0.5, weights=np.ones((20, 3, 2), np.int64))
    assert {type(value) for name, value in found._asdict().items() if name != "sigma"} == {int, float}


ONES = np.ones((2, 2))


@pytest.mark.parametrize(
    ("predicted", "observed", "options", "told"),
    [
        (ONES, ONES * np.nan, {}, "nothing was observed"),
        (ONES, 1.0, {}, "compartments last"),
        (ONES, [["a"]], {}, "observed: needs numbers"),
        (ONES * np.nan, ONES, {}, "predicted where something was observed.*must be finite"),
        (ONES, ONES * np.inf, {}, "observed where something was observed.*must be finite"),
        (np.ones((3, 2)), ONES, {}, "predicted: "),
        (ONES, ONES, {"sigma": 0.0}, "sigma: must be above 0"),
        (ONES, ONES, {"sigma": [1, 2, 3]}, "sigma: "),
        (ONES, ONES, {"weights": -ONES}, "weights: -1"),
        (ONES, ONES, {"weights": ONES * np.nan}, "weights where something was observed.*must be finite"),
        (ONES, ONES, {"parameters": -1}, "parameters=-1"),
        (ONES, ONES, {"parameters": 1.5}, "parameters=1.5"),
        (ONES, ONES, {"parameters": True}, "parameters=True"),
    ],
)
def test_what_cannot_be_measured_is_refused(predicted, observed, options, told):
    with pytest.raises(DataError, match=told):
        goodness(predicted, observed, **{"parameters": 0} | options)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_compartments_need_their_names(names):
    with pytest.raises(DataError, match="needs 2 different names"):
        by_compartment(ONES, ONES, names, parameters=0)
