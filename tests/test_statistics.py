"""Spreads, ratios and drifts: numbers that a reader can work out by hand, and what chance says of an interval."""

import numpy as np
import pytest

from pk_event_fit.errors import DataError
from pk_event_fit.metrics import statistics
from pk_event_fit.metrics.reproducibility import bitwise, drift
from pk_event_fit.metrics.statistics import paired_ratio, spread

EPS = np.finfo(np.float64).eps
A = np.random.default_rng(1).lognormal(1.0, 0.3, 12)
B = np.random.default_rng(2).lognormal(0.0, 0.3, 12)


def test_a_spread_worked_out_by_hand():
    # Squares of the deviations from 3 are 4, 1, 0, 1, 4: 10 over 4. Percentiles lie at 1 + 4 * 0.1 and 1 + 4 * 0.9.
    assert spread([5, 1, 4, 2, 3]) == pytest.approx((3.0, 2.5**0.5, 3.0, 1.4, 4.6, 5), rel=4 * EPS)


def test_one_measurement_has_no_deviation():
    assert spread([7.0]) == (7.0, None, 7.0, 7.0, 7.0, 1)


def test_equal_measurements_have_a_deviation_of_exactly_zero():
    values = np.full(7, 0.1)
    assert values.std() != 0  # their mean is off by a rounding error
    assert spread(values).sd == 0.0


def test_a_spread_is_taken_in_float64():
    assert spread(np.full(2, 3e38, np.float32)).mean == float(np.float32(3e38))


def test_a_spread_is_plain_numbers():
    assert [type(value) for value in spread(np.arange(3))] == [float, float, float, float, float, int]


def test_a_ratio_is_that_of_the_means_and_not_the_mean_of_ratios():
    assert paired_ratio([1.0, 9.0], [1.0, 3.0])[::3] == (2.5, 2)


def test_pairs_that_agree_on_the_ratio_leave_no_doubt():
    # Powers of 2 and sums of few bits: no rounding anywhere.
    assert paired_ratio([2.0, 8.0, 6.0], [1.0, 4.0, 3.0]) == (2.0, 2.0, 2.0, 3)


def test_an_interval_worked_out_by_hand():
    # Two pairs with ratios 1 and 3: a draw takes the first twice in a quarter of cases, and the second in another.
    assert paired_ratio([1.0, 3.0], [1.0, 1.0]) == (2.0, 1.0, 3.0, 2)


def test_what_slows_both_of_a_pair_cancels():
    noise = np.linspace(1.0, 2.0, 20)
    kept, torn = paired_ratio(3 * noise, noise), paired_ratio(3 * noise, noise[::-1])
    assert kept.high - kept.low <= 100 * EPS
    assert torn.high - torn.low > 0.1


def test_units_change_nothing():
    scaled, plain = paired_ratio(A * 1024, B * 1024), paired_ratio(A, B)
    assert scaled == plain  # a power of 2 rounds nothing


def test_a_factor_moves_ratio_and_interval_alike():
    assert paired_ratio(A * 4, B)[:3] == tuple(4 * k for k in paired_ratio(A, B)[:3])


def test_the_other_way_round_is_the_reciprocal():
    # With 10,001 draws both percentiles are draws themselves, and nothing is interpolated.
    ratio, low, high, _ = paired_ratio(A, B, draws=10_001)
    assert paired_ratio(B, A, draws=10_001)[:3] == pytest.approx((1 / ratio, 1 / high, 1 / low), rel=8 * EPS)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random, repeats, hits = np.random.default_rng(0), 1000, 0
    for repeat in range(repeats):
        shared = random.normal(0, 1, 40)
        a, b = (level + shared + random.normal(0, 1, 40) for level in (20, 10))
        _, low, high, _ = paired_ratio(a, b, draws=400, seed=repeat)
        hits += low <= 2 <= high
    # 93 % with 40 pairs, as the docstring says; three standard deviations of a count of 1,000 are 2.4 %.
    assert 0.93 - 0.024 <= hits / repeats <= 0.93 + 0.024


def test_a_quarter_of_the_noise_halves_the_interval():
    few, many = (paired_ratio(np.tile([9.0, 11.0], k), np.full(2 * k, 10.0)) for k in (50, 200))
    # 250 of 10,000 draws lie beyond a limit, which is so known to some 5 %.
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(2, rel=0.1)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    assert paired_ratio(A, B, seed=3) == paired_ratio(A, B, seed=3)
    assert paired_ratio(A, B, seed=3) != paired_ratio(A, B, seed=4)


def test_a_long_series_is_drawn_in_blocks_to_the_same_end(monkeypatch):
    whole = paired_ratio(A, B)
    monkeypatch.setattr(statistics, "BLOCK", 7 * len(A))
    assert paired_ratio(A, B).ratio == whole.ratio
    # Other draws of the same law: limits differ by what 10,000 draws leave open.
    assert paired_ratio(A, B)[1:3] == pytest.approx(whole[1:3], rel=0.03)


def test_one_pair_has_a_ratio_without_an_interval():
    assert paired_ratio([3.0], [2.0]) == (1.5, None, None, 1)


def test_ties_are_no_trouble():
    assert paired_ratio(np.zeros(5), np.full(5, 0.1)) == (0.0, 0.0, 0.0, 5)


@pytest.mark.parametrize("values", [[], [[1.0]], 1.0, [1.0, np.nan], [np.inf], ["x"], [None], [1j]])
def test_what_is_no_list_of_numbers_is_refused(values):
    with pytest.raises(DataError):
        spread(values)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ([], [], "empty"),
        ([1.0, 2.0], [1.0], "shapes"),
        ([1.0, np.nan], [1.0, 1.0], r"a: nan at \(1,\)"),
        ([1.0, 1.0], [1.0, 0.0], "above 0"),
        ([1.0, 1.0], [1.0, -1.0], "above 0"),
    ],
)
def test_a_ratio_without_a_meaning_is_refused(a, b, told):
    with pytest.raises(DataError, match=told):
        paired_ratio(a, b)


def test_no_draws_are_refused():
    with pytest.raises(DataError, match="draws=0"):
        paired_ratio(A, B, draws=0)


def test_a_copy_is_the_same_to_the_bit_however_it_lies_in_memory():
    grid = np.arange(6.0).reshape(2, 3)
    assert bitwise(grid, np.asfortranarray(grid))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(2), np.array([1.0, np.nextafter(1.0, 2)])),
        (np.zeros(1), -np.zeros(1)),
        (np.ones(2), np.ones(2, np.float32)),
        (np.ones(2), np.ones((2, 1))),
    ],
)
def test_a_last_bit_a_sign_of_zero_a_type_and_a_shape_are_a_difference(a, b):
    assert not bitwise(a, b)


def test_what_is_no_number_may_repeat_too():
    assert bitwise(np.array([np.nan]), np.array([np.nan]))


def test_drift_is_the_largest_difference_of_either_sign():
    assert drift([1.0, 5.0, 2.0], [1.5, 2.0, 2.0]) == {"max_difference_mg": 3.0, "bitwise": False}
    assert drift(A, A.copy()) == {"max_difference_mg": 0.0, "bitwise": True}


def test_drift_of_single_precision_is_taken_in_double():
    single, double = np.array([0.1], np.float32), np.array([0.1])
    assert drift(single, double) == {"max_difference_mg": float(np.float32(0.1)) - 0.1, "bitwise": False}


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [[1.0]]), ([1.0], [np.nan])])
def test_a_drift_without_a_meaning_is_refused(a, b):
    with pytest.raises(DataError):
        drift(a, b)
