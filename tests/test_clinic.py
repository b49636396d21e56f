"""The oracle of dosing histories against what can be worked out by hand, rule by rule."""

from itertools import combinations, product
from math import exp

import numpy as np
import pytest
from clinic import Model, Row, simulate
from histories import as_records, clear, draw, smallest

K = 0.1  # 1/h
Q = exp(-12 * K)  # what 12 h leave
ULP = float(np.spacing(1.0))
PAIR = np.array([[-0.5, 0.1], [0.2, -0.3]])  # 1/h; its slowest rate is 0.227, so 60 intervals of 4 h are for ever


def body(*, lag=0.0, share=1.0, rate=None, hours=None):
    """One compartment that loses K times the covariate."""
    modelled = ([rate] if rate else None, [hours] if hours else None)
    return Model(lambda covariate: np.array([[-K * covariate]]), [share], [lag], *modelled)


def dose(time, amount=100.0, **rest):
    return Row(time, 1, amount, **rest)


def amounts(rows, model=None, **rest):
    return simulate(rows, model or body(), **rest)[:, 0].tolist()


def left(amount, hours):
    return amount * exp(-K * hours)


def rising(rate, hours):
    return rate / K * (1 - exp(-K * hours))


def near(expected):
    # A few dozen exponentials, each good to a few ULP.
    return pytest.approx(expected, rel=1e-12)


def test_a_bolus_decays():
    assert amounts([dose(0), Row(5), Row(20)]) == near([100, left(100, 5), left(100, 20)])


def test_rows_of_one_time_act_in_file_order():
    assert amounts([Row(0), dose(0), Row(0), dose(0, 10.0), Row(0)]) == [0, 100, 100, 110, 110]


def test_a_given_state_decays_from_the_start():
    assert amounts([Row(5)], initial=[100.0], start=0.0) == near([left(100, 5)])


def test_a_row_before_the_start_is_refused():
    with pytest.raises(ValueError, match="comes after"):
        simulate([dose(0)], body(), start=1.0)


def test_doses_enter_their_compartment_with_its_bioavailability_and_lag():
    absorption = 1.0
    model = Model(lambda _: np.array([[-absorption, 0.0], [absorption, -K]]), [0.5, 0.25], [0.0, 2.0])
    found = simulate([dose(0), dose(0, compartment=2), Row(1), Row(3)], model)[2:]
    # The Bateman function: what 50 mg in a depot make of the compartment behind it.
    bateman = [50 * absorption / (absorption - K) * (exp(-K * t) - exp(-absorption * t)) for t in (1, 3)]
    assert found.ravel().tolist() == near([50 * exp(-1), bateman[0], 50 * exp(-3), bateman[1] + left(25, 1)])


@pytest.mark.parametrize(
    ("rate", "model", "runs", "hours"),
    [
        (20.0, body(), 20, 5),
        (20.0, body(share=0.5), 20, 2.5),
        (-1, body(share=0.5, rate=25.0), 25, 2),
        (-2, body(share=0.5, hours=4.0), 12.5, 4),
    ],
    ids=["RATE", "RATE with F", "modelled rate with F", "modelled duration with F"],
)
def test_an_infusion_rises_for_the_available_amount_over_its_rate(rate, model, runs, hours):
    found = amounts([dose(0, rate=rate), Row(1), Row(hours), Row(8)], model)
    assert found == near([0, rising(runs, 1), rising(runs, hours), left(rising(runs, hours), 8 - hours)])


def test_a_lagged_dose_acts_before_the_row_that_it_lands_on():
    assert amounts([dose(0), Row(1), Row(2), Row(3)], body(lag=2.0)) == near([0, 0, 100, left(100, 1)])


def test_a_lag_shifts_start_and_end_of_an_infusion():
    found = amounts([dose(0, rate=20.0), Row(2), Row(7), Row(9)], body(lag=2.0))
    assert found == near([0, 0, rising(20, 5), left(rising(20, 5), 2)])


def test_further_doses_act_before_the_rows_of_their_time():
    found = amounts([dose(0, additional=1, interval=12.0), Row(12), dose(12, 10.0), Row(13)])
    assert found == near([100, 100 * Q + 100, 100 * Q + 110, left(100 * Q + 110, 1)])


def test_further_doses_are_lagged():
    found = amounts([dose(0, additional=1, interval=12.0), Row(12), Row(14)], body(lag=2.0))
    assert found == near([0, left(100, 10), 100 * Q + 100])


def test_times_of_further_doses_are_multiplied():
    # A thousand additions of 0.1 end at 99.9999999999986, before this row; 1000 * 0.1 comes after it.
    row = Row(100 - 5e-13)
    found = amounts([dose(0, 1.0, additional=1000, interval=0.1), row])[1]
    assert found == near(sum(left(1.0, row.time - 0.1 * j) for j in range(1000)))


def test_rounding_errors_do_not_part_two_times():
    found = amounts([dose(0, additional=3, interval=0.1), Row(0.3)])[1]
    assert 3 * 0.1 > 0.3
    assert found == near(sum(left(100, 0.1 * j) for j in range(4)))


@pytest.mark.parametrize(("gap", "seen"), [(4, 100.0), (5, 0.0)])
def test_times_within_four_ulp_are_one(gap, seen):
    assert amounts([dose(0), Row(1.0)], body(lag=1 + gap * ULP))[1] == seen


def test_a_time_is_compared_with_the_first_of_those_that_are_one():
    assert amounts([dose(0), Row(1.0), Row(1 + 3 * ULP)], body(lag=1 + 6 * ULP))[1:] == [0, 0]


def test_a_dose_lagged_by_less_than_the_tie_acts_with_its_row():
    assert amounts([Row(1.0), dose(1.0), Row(1.0)], body(lag=ULP)) == [0, 100, 100]


@pytest.mark.parametrize(("length", "seen"), [(2, 100.0), (64, 0.0)])
def test_an_infusion_within_four_ulp_is_a_bolus(length, seen):
    assert amounts([dose(1.0, rate=100 / (length * ULP))]) == [seen]


@pytest.mark.parametrize(
    ("before", "lag"),
    [
        (dose(0), 0.0),
        (dose(0, rate=10.0), 0.0),
        (dose(0, additional=9, interval=2.0), 0.0),
        (dose(0), 6.0),
        (Row(0, 4, 100.0, additional=9, interval=2.0), 0.0),
    ],
    ids=["amounts", "infusion", "further doses", "lagged dose", "further resets and doses"],
)
def test_a_reset_leaves_nothing(before, lag):
    assert amounts([before, Row(5, 3), Row(5), Row(30)], body(lag=lag))[1:] == [0, 0, 0]


def test_reset_and_dose_resets_at_its_time_and_doses_after_the_lag():
    found = amounts([dose(0), Row(5), Row(6, 4, 50.0), Row(7), Row(8)], body(lag=2.0))
    assert found == near([0, left(100, 3), 0, 0, 50])


def test_every_repeat_of_reset_and_dose_resets():
    found = amounts([Row(0, 4, 100.0, additional=2, interval=12.0), Row(12), Row(25)])
    assert found == near([100, 100, left(100, 1)])


def test_repeated_resets_are_not_lagged():
    rows = [Row(0, 4, 100.0, additional=1, interval=12.0), Row(11), Row(12), Row(14), Row(15)]
    assert amounts(rows, body(lag=3.0)) == near([0, left(100, 8), 0, 0, 100])


def test_a_repeated_reset_stops_its_own_earlier_infusion():
    rows = [Row(0, 4, 200.0, rate=10.0, additional=1, interval=12.0), Row(12), Row(14)]
    assert amounts(rows) == near([0, 0, rising(10, 2)])


def test_a_repeated_reset_cancels_its_own_earlier_dose_and_no_later_one():
    rows = [Row(0, 4, 100.0, additional=1, interval=12.0), Row(16), Row(26), Row(27)]
    assert amounts(rows, body(lag=15.0)) == near([0, 0, 0, 100])


def test_a_repeated_reset_cancels_what_other_rows_left():
    others = [dose(1, additional=3, interval=5.0), dose(2, rate=5.0)]
    found = amounts([Row(0, 4, 100.0, additional=1, interval=12.0), *others, Row(12), Row(20)])
    assert found[3:] == near([100, left(100, 8)])


def test_a_steady_state_that_further_doses_keep():
    found = amounts([dose(0, interval=12.0, steady=1, additional=1), Row(12), Row(24)])
    assert found == near([100 / (1 - Q), 100 / (1 - Q), 100 * Q / (1 - Q)])


def test_steady_state_1_replaces_amounts_infusions_and_doses_to_come():
    before = [dose(0, additional=9, interval=4.0), dose(2, rate=5.0)]
    found = amounts([*before, dose(3, interval=12.0, steady=1), Row(15)])
    assert found[2:] == near([100 / (1 - Q), 100 * Q / (1 - Q)])


def test_steady_state_2_is_added_and_cancels_nothing():
    found = amounts([dose(0, additional=1, interval=8.0), dose(5, interval=12.0, steady=2), Row(8)])
    both = left(100, 5) + 100 / (1 - Q)
    assert found == near([100, both, left(both, 3) + 100])


@pytest.mark.parametrize("lag", [3, 12])
def test_a_lagged_steady_state_is_that_of_the_phase_before(lag):
    found = amounts([dose(0, interval=12.0, steady=1), Row(lag), Row(13)], body(lag=float(lag)))
    assert found == near([left(100, 12 - lag) / (1 - Q), 100 / (1 - Q), left(100, 13 - lag) / (1 - Q)])


def test_a_lag_beyond_the_interval_is_refused_at_steady_state():
    with pytest.raises(ValueError, match="longer than II"):
        simulate([dose(0, interval=12.0, steady=1)], body(lag=13.0))


def test_infusions_of_two_intervals_run_by_twos():
    found = amounts([dose(0, 240.0, rate=10.0, interval=12.0, steady=1), Row(12), Row(24), Row(30)])
    last = left(20 / K, 12) + rising(10, 12)
    assert found == near([20 / K, 20 / K, last, left(last, 6)])


@pytest.mark.parametrize("steady", [1, 2])
@pytest.mark.parametrize("lag", [0.0, 1.5, 4.0])
@pytest.mark.parametrize("hours", [0.0, 2.5, 4.0, 6.0, 11.0])
def test_a_steady_state_is_what_a_long_course_tends_to(hours, lag, steady):
    model = Model(lambda _: PAIR, [0.8, 1.0], [lag, 0.0])
    rate = 80 / hours if hours else 0.0
    later = [Row(time) for time in (0, 1, 1.5, 3, 5.5, 9, 20)]
    course = simulate([dose(-240, rate=rate, additional=60, interval=4.0), *later], model)
    at_once = simulate([dose(0, rate=rate, interval=4.0, steady=steady), *later], model)
    np.testing.assert_allclose(at_once[1:], course[1:], rtol=1e-11)  # the course adds up a few hundred roundings


def test_a_constant_infusion_ends_at_its_row_and_replaces_or_is_added():
    before = dose(0, additional=1, interval=8.0)
    found = [amounts([before, Row(4, 1, rate=10.0, steady=steady), Row(8)])[1:] for steady in (1, 2)]
    both = left(100, 4) + 10 / K
    assert found == [near([10 / K, left(10 / K, 4)]), near([both, left(both, 4) + 100])]


@pytest.mark.parametrize("steady", [1, 2])
def test_reset_and_dose_at_steady_state_repeats_without_it(steady):
    rows = [dose(-1), Row(0, 4, 100.0, interval=12.0, steady=steady, additional=1), Row(11), Row(12)]
    assert amounts(rows)[1:] == near([100 / (1 - Q), left(100, 11) / (1 - Q), 100])


def test_the_row_that_ends_an_interval_says_its_covariate():
    found = amounts([dose(0), Row(5, covariate=2.0), Row(6, covariate=3.0)])
    assert found == near([100, left(100, 10), left(100, 13)])


def test_scheduled_doses_do_not_change_the_covariate():
    found = amounts([dose(0, additional=1, interval=4.0), Row(10, covariate=2.0)])
    assert found[1] == near(left(100, 20) + left(100, 12))


def test_a_steady_state_has_its_own_rows_covariate():
    found = amounts([Row(0), dose(10, interval=12.0, steady=1, covariate=2.0), Row(12)])
    assert found[1] == near(100 / (1 - Q**2))


def test_another_event_changes_the_covariate_and_no_amount():
    found = amounts([dose(0), Row(5, 2, 50.0, covariate=3.0), Row(6)])
    assert found == near([100, left(100, 15), left(100, 16)])


def test_drawn_histories_come_out_the_same_in_30_digits():
    for seed in range(4):
        rows, model = draw(np.random.default_rng(seed), max_doses=10)
        exact = simulate(rows, model, digits=30)
        # M times hours has a norm near 100 at most, and a steady state is divided by 0.003 at least.
        np.testing.assert_allclose(simulate(rows, model), exact, rtol=1e-10, atol=1e-12 * abs(exact).max())


def test_drawn_histories_are_accepted_and_finite():
    for seed in range(100):
        rows, model = draw(np.random.default_rng(seed), max_doses=8)
        assert np.isfinite(simulate(rows, model)).all()


def test_draws_hold_every_pair_of_what_a_dose_may_be():
    drawn = [row for seed in range(200) for row in draw(np.random.default_rng(seed))[0]]
    doses = [row for row in drawn if row.amount]
    found = {(row.kind, row.steady, row.additional > 0, row.rate if row.rate <= 0 else 1) for row in doses}
    for (k, some), (m, others) in combinations(enumerate([(1, 4), (0, 1, 2), (False, True), (-2, -1, 0, 1)]), 2):
        assert {(kind[k], kind[m]) for kind in found} == set(product(some, others))
    assert {row.steady for row in drawn if row.rate > 0 and row.amount == 0} == {1, 2}
    assert {row.kind for row in drawn} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("gap", "sure"), [(0, True), (3, True), (4, False), (8, False), (9, True)])
def test_what_may_be_one_time_or_two_is_not_drawn(gap, sure):
    assert clear([2.0, 1 + gap * ULP, 1.0, 0.0]) is sure


def test_a_failing_history_is_cut_to_what_fails():
    rows = [Row(time) for time in range(6)]
    assert smallest(rows, lambda fewer: rows[1] in fewer and rows[4] in fewer) == [rows[1], rows[4]]


def test_records_hold_the_rows_of_all_subjects_and_each_rows_matrix():
    found = as_records([[dose(0), Row(1, used=True)], [Row(0, 3, covariate=2.0)]], [body(), body()])
    assert found.subject.tolist() == [0, 0, 1]
    assert found.kind.tolist() == [1, 0, 3]
    assert found.covariates.tolist() == [[-K], [-K], [-2 * K]]
    np.testing.assert_array_equal(found.observed, [np.nan, 1.0, np.nan])
