"""The simulator: exact solutions, and the population that it draws."""

import numpy as np
import pytest
from scipy.integrate import simpson, solve_ivp
from scipy.linalg import expm

from pk_event_fit.compartments import TYPICAL, TwoCompartment, rate_matrix
from pk_event_fit.errors import ConfigError, ScheduleError
from pk_event_fit.simulate import Design, Population, simulate

EPS = np.finfo(np.float64).eps
DRAWS = 200_000
ONES = [[1.0] * 4] * 4
CORRELATION = [[1.0, 0.5, 0.0, -0.3], [0.5, 1.0, 0.2, 0.0], [0.0, 0.2, 1.0, 0.4], [-0.3, 0.0, 0.4, 1.0]]


def derivative(parameters):
    """Written out here again, so that a slip in the package's own has something to disagree with."""
    clearance, v1, q, v2 = parameters

    def f(t, a):
        return [-(clearance + q) / v1 * a[0] + q / v2 * a[1], q / v1 * a[0] - q / v2 * a[1]]

    return f


@pytest.fixture(scope="module")
def cohort():
    return simulate(Population(subjects=3, cv=0.5), Design(points=9))


def test_the_solution_agrees_with_an_adaptive_solver(cohort):
    for amounts, parameters in zip(cohort.amounts, cohort.parameters, strict=True):
        for states, times in zip(amounts, cohort.times, strict=True):
            solution = solve_ivp(
                derivative(parameters), times[[0, -1]], states[0], "DOP853", t_eval=times, rtol=1e-12, atol=1e-12
            )
            # Tens of steps, each within 1e-12 of amounts up to 300 mg.
            np.testing.assert_allclose(states, solution.y.T, rtol=1e-10, atol=1e-10)


def test_the_solution_is_the_sum_of_matrix_exponentials_since_each_dose(cohort):
    for amounts, parameters in zip(cohort.amounts, cohort.parameters, strict=True):
        clearance, v1, q, v2 = parameters
        matrix = np.array([[-(clearance + q) / v1, q / v2], [q / v1, -q / v2]])
        for k, times in enumerate(cohort.times):
            wanted = [sum(expm(matrix * (t - 12.0 * n))[:, 0] * 100 for n in range(1, k + 1)) for t in times]
            # Three products of matrices whose entries are right to a few rounding errors, times 300 mg.
            np.testing.assert_allclose(amounts[k], wanted if k else np.zeros((9, 2)), rtol=100 * EPS, atol=300 * EPS)


def test_the_field_and_the_rate_matrix_are_the_same_ode(cohort):
    states = cohort.amounts[:, 1, 0]
    field = TwoCompartment()(np, {}, None, states, cohort.parameters)
    linear = np.einsum("bij,bj->bi", rate_matrix(cohort.parameters), states)
    # Sums of three products, each off by a rounding error of rates up to 1/h times 300 mg.
    np.testing.assert_allclose(field, linear, rtol=0, atol=8 * EPS * 300)


def test_what_is_gone_was_cleared():
    cohort = simulate(Population(subjects=3), Design(points=2001))
    clearance, v1 = cohort.parameters[:, 0], cohort.parameters[:, 1]
    exposure = sum(simpson(cohort.amounts[:, k, :, 0], x=cohort.times[k], axis=-1) for k in range(4))
    eliminated = 300 - cohort.amounts[:, -1, -1].sum(-1)
    # Simpson's error is 36 h / 180 * (6e-3 h)^4 * |A1''''|, and that is below 0.2^4/h^4 * 300 mg: 1e-10 mg.
    np.testing.assert_allclose(clearance / v1 * exposure, eliminated, rtol=0, atol=1e-10)


def test_doses_superpose():
    def amounts(*doses):
        return simulate(Population(subjects=3), Design(points=9, dose_amounts=list(doses))).amounts

    together = amounts(100.0, 50.0, 25.0)
    apart = amounts(100.0, 0.0, 0.0) + amounts(0.0, 50.0, 0.0) + amounts(0.0, 0.0, 25.0)
    np.testing.assert_allclose(apart, together, rtol=0, atol=20 * EPS * 175)


def test_the_terminal_half_life_is_that_of_the_slowest_eigenvalue():
    # After 240 h the fast phase has died away: exp(-(0.159 - 0.016) / h * 240 h) = 1e-15.
    design = Design(dose_times=[0.0], dose_amounts=[100.0], dose_compartments=[1], end=480.0, points=3)
    states = simulate(Population(subjects=1, cv=0), design).amounts[0, 0]
    half_life = 240.0 * np.log(2) / np.log(states[1] / states[2])
    slowest = np.abs(np.linalg.eigvals(rate_matrix(np.array(TYPICAL)))).min()
    np.testing.assert_allclose(half_life, np.log(2) / slowest, rtol=1e-13)


def test_each_dose_jumps_the_central_compartment_by_itself(cohort):
    np.testing.assert_array_equal(cohort.amounts[:, 1:, 0], cohort.amounts[:, :-1, -1] + [100.0, 0.0])


def test_a_dose_into_the_peripheral_compartment_jumps_that_one():
    design = Design(dose_times=[12.0], dose_amounts=[80.0], dose_compartments=[2], points=3)
    amounts = simulate(Population(subjects=2), design).amounts
    np.testing.assert_array_equal(amounts[:, 1, 0], [[0.0, 80.0]] * 2)


def test_nothing_is_there_before_the_first_dose(cohort):
    assert not cohort.amounts[:, 0].any()


def test_no_doses_leave_nothing():
    design = Design(dose_times=[], dose_amounts=[], dose_compartments=[])
    assert not simulate(Population(subjects=2), design).amounts.any()


def test_times_are_spread_evenly_over_each_interval_with_both_ends(cohort):
    wanted = [np.linspace(start, start + 12, 9) for start in (0, 12, 24, 36)]
    np.testing.assert_allclose(cohort.times, wanted, rtol=4 * EPS)


def test_the_typical_value_is_the_median():
    population = Population(subjects=DRAWS, cv=0.3)
    median = np.median(population.draw(), 0)
    # The standard error of a median is 1.25 / sqrt(n) standard deviations; five of them.
    np.testing.assert_allclose(median, TYPICAL, rtol=5 * 1.25 * 0.3 / DRAWS**0.5)


def test_the_coefficient_of_variation_is_the_one_asked_for():
    draws = Population(subjects=DRAWS, cv=0.3).draw()
    # The standard error is about 1.3 / sqrt(2 n); five of them are 1 %, and taking the CV for that of the log is 2.3 %.
    np.testing.assert_allclose(draws.std(0) / draws.mean(0), 0.3, rtol=5 * 1.3 / (2 * DRAWS) ** 0.5)


@pytest.mark.parametrize("correlation", [None, CORRELATION], ids=["none", "given"])
def test_the_logarithms_are_correlated_as_asked(correlation):
    draws = Population(subjects=DRAWS, correlation=correlation).draw()
    wanted = np.eye(4) if correlation is None else correlation
    # The standard error of a correlation is below 1 / sqrt(n); five of them.
    np.testing.assert_allclose(np.corrcoef(np.log(draws).T), wanted, rtol=0, atol=5 / DRAWS**0.5)


def test_correlation_leaves_the_coefficient_of_variation():
    draws = Population(subjects=DRAWS, cv=0.3, correlation=CORRELATION).draw()
    np.testing.assert_allclose(draws.std(0) / draws.mean(0), 0.3, rtol=5 * 1.3 / (2 * DRAWS) ** 0.5)


def test_full_correlation_is_accepted_and_varies_all_parameters_alike():
    draws = Population(subjects=50, correlation=ONES).draw()
    ratios = np.log(draws / TYPICAL)
    assert ratios.std(0).min() > 0.05
    # Its three other eigenvalues are 0 but for rounding, so their square roots are up to sqrt(4 * eps * 4).
    np.testing.assert_allclose(ratios, ratios[:, :1].repeat(4, 1), rtol=0, atol=5 * 0.1 * (16 * EPS) ** 0.5)


@pytest.mark.parametrize(
    ("correlation", "word"),
    [
        ([[1, 0.9, -0.9, 0], [0.9, 1, 0.9, 0], [-0.9, 0.9, 1, 0], [0, 0, 0, 1]], "positive semi-definite"),
        ([[1, 0.5, 0, 0], [0.4, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "symmetric"),
        ((2 * np.eye(4)).tolist(), "ones on the diagonal"),
        ([[1, 1.5, 0, 0], [1.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "none above 1"),
        (np.eye(3).tolist(), "4 rows"),
        ([], "4 rows"),
        ([1, 1, 1, 1], "4 rows"),
        ([[np.nan] * 4] * 4, "finite"),
        ([["high"] * 4] * 4, "numbers"),
        ([[1, 0], [0, 1, 0]], "one length"),
        ("high", "numbers"),
    ],
    ids=["not psd", "asymmetric", "diagonal", "above 1", "3 x 3", "empty", "flat", "nan", "words", "ragged", "word"],
)
def test_what_is_no_correlation_matrix_is_refused(correlation, word):
    with pytest.raises(ConfigError, match=rf"data\.correlation.*{word}"):
        Population(correlation=correlation)


def test_without_variation_every_subject_is_the_typical_patient():
    np.testing.assert_array_equal(Population(subjects=5, cv=0.0, correlation=CORRELATION).draw(), [TYPICAL] * 5)


def test_the_same_seed_gives_the_same_bits():
    one, other = (simulate(Population(subjects=3, seed=7), Design(points=5)) for _ in range(2))
    assert one.amounts.tobytes() == other.amounts.tobytes()


def test_another_seed_gives_other_subjects():
    assert (Population(subjects=3, seed=7).draw() != Population(subjects=3, seed=8).draw()).all()


def test_more_subjects_keep_the_first_ones():
    np.testing.assert_array_equal(Population(subjects=9).draw()[:3], Population(subjects=3).draw())


@pytest.mark.parametrize(
    "setting",
    [{"subjects": 0}, {"cv": -0.1}, {"cv": np.nan}, {"cv": np.inf}, {"seed": -1}],
    ids=str,
)
def test_a_population_out_of_range_is_refused_with_its_setting_and_value(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=f"data.{name}={value}"):
        Population(**setting)


@pytest.mark.parametrize("points", [-1, 0, 1, 10**7])
def test_a_number_of_points_out_of_range_is_refused(points):
    with pytest.raises(ConfigError, match=f"data.points={points}"):
        Design(points=points)


def test_a_dose_without_an_amount_is_refused():
    with pytest.raises(ConfigError, match="one entry for each dose"):
        Design(dose_times=[12.0, 24.0])


def test_an_impossible_dose_is_refused():
    with pytest.raises(ScheduleError, match="event 1"):
        simulate(Population(), Design(dose_amounts=[100.0, -100.0, 100.0]))
