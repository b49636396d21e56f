"""What solved curves do at the doses, on curves made to do a known thing."""

import numpy as np
import pytest

from pk_event_fit.errors import DataError
from pk_event_fit.metrics.stability import Event, consistency, stability
from pk_event_fit.simulate import Design, Population, simulate

EPS = np.finfo(np.float64).eps
NAMES = ("central", "peripheral")
# Three intervals of 4 h, 33 points each, so one every 1/8 h; doses at 4 and 8 h, both sides on the grid.
POINTS = 33
TIMES = np.concatenate([np.linspace(start, start + 4, POINTS) for start in (0, 4, 8)])
EVENTS = [Event(POINTS - 1, POINTS, 0), Event(2 * POINTS - 1, 2 * POINTS, 0)]
# 1 h wide: 9 points, at 0, 1/8 ... 1 h after the dose.
WINDOW = 1.0
NEAR = [slice(event.after, event.after + 9) for event in EVENTS]


def steps(jump=100.0, subjects=3):
    """Exact curves that are flat but for a jump of the central compartment at each dose."""
    curves = np.zeros((subjects, len(TIMES), 2))
    curves[:, POINTS : 2 * POINTS, 0], curves[:, 2 * POINTS :, 0] = jump, 2 * jump
    return curves


def measure(predicted, exact=None, **changes):
    exact = steps() if exact is None else exact
    given = {"events": EVENTS, "window": WINDOW, "compartments": NAMES} | changes
    return stability(predicted, exact, given.pop("times", TIMES), **given)


def test_the_exact_curve_does_nothing_wrong():
    design = Design(points=100)
    truth = simulate(Population(subjects=5), design)
    curves = truth.amounts.reshape(5, -1, 2)
    events = [Event(k * 100 - 1, k * 100, 0) for k in (1, 2, 3)]
    score = stability(curves, curves, truth.times.reshape(-1), events=events, compartments=NAMES)
    # Doses of 100 mg; the difference of amounts below 200 mg is off by a rounding error of them.
    assert score.jump_mg == pytest.approx(100, abs=200 * EPS)
    assert score[1:7] == (0.0,) * 6
    assert score[-2:] == (0.0, 0.0)
    assert score.time_to_peak_h == score.time_to_peak_exact_h
    # A bolus peaks where it enters at once, and later where it flows to.
    assert score.time_to_peak_exact_h["central"] == 0.0
    assert 3 < score.time_to_peak_exact_h["peripheral"] < 12


def test_a_jump_and_its_error_are_taken_across_the_dose():
    predicted = steps()
    predicted[0, POINTS:, 0] -= 4  # the first dose of the first subject jumps 96 mg; all else keeps its jump
    predicted += 7  # a level that no jump feels
    score = measure(predicted)
    assert score.jump_mg == pytest.approx(100 - 4 / 6, rel=4 * EPS)
    assert score.jump_error_mg == pytest.approx(4 / 6, rel=4 * EPS)
    assert score.jump_error_max_mg == 4.0


def test_errors_of_jumps_do_not_cancel():
    predicted = steps()
    predicted[0, POINTS:, 0] += 6
    predicted[1, POINTS:, 0] -= 6
    assert measure(predicted)[:3] == (100.0, 2.0, 6.0)


def test_a_missed_dose_is_an_error_of_all_of_it_and_no_overshoot():
    assert measure(np.zeros_like(steps()))[:5] == (0.0, 100.0, 100.0, 0.0, 0.0)


def test_an_overshoot_of_five_percent():
    predicted = steps()
    predicted[1, POINTS + 3, 0] += 5.0  # mg, of 100
    score = measure(predicted)
    assert score.overshoot_percent_max == 5.0
    assert score.overshoot_percent_mean == pytest.approx(5 / 6, rel=4 * EPS)


def test_an_overshoot_is_relative_to_the_jump_of_its_own_subject():
    exact = steps()
    exact[1] *= 2
    predicted = exact.copy()
    predicted[1, POINTS + 3, 0] += 5.0
    assert measure(predicted, exact).overshoot_percent_max == 2.5


def test_what_falls_short_does_not_offset_an_overshoot():
    predicted = steps()
    predicted[0, NEAR[0], 0] -= 50
    assert measure(predicted).overshoot_percent_mean == 0.0


@pytest.mark.parametrize(("point", "percent"), [(8, 5.0), (9, 0.0)])
def test_the_window_ends_with_the_point_at_its_end(point, percent):
    predicted = steps()
    predicted[:, POINTS + point, 0] += 5.0
    assert measure(predicted, events=EVENTS[:1]).overshoot_percent_max == percent


def test_a_point_at_the_end_is_inside_past_a_rounding_error():
    times = np.array([0.7, 0.7, 0.7 + 0.1, np.nextafter(0.7 + 0.2, 1), 1.0])
    exact = np.array([0.0, 10, 10, 10, 10]).reshape(1, 5, 1)
    predicted = exact + np.array([0.0, 0, 0, 1, 0]).reshape(1, 5, 1)
    score = stability(predicted, exact, times, events=[Event(0, 1, 0)], compartments=["a"], window=0.2)
    assert score.overshoot_percent_max == 10.0


def test_the_window_does_not_reach_past_the_next_dose():
    predicted = steps()
    predicted[:, 2 * POINTS :, 0] += 5.0
    score = measure(predicted, window=100.0)
    assert score.overshoot_percent_mean == 2.5  # the second dose alone


@pytest.mark.parametrize("dosed", [0, 1])
def test_only_the_dosed_compartment_overshoots(dosed):
    exact = steps() if dosed == 0 else steps()[..., ::-1]
    events = [event._replace(compartment=dosed) for event in EVENTS]
    for raised in (0, 1):
        predicted = exact.copy()
        predicted[:, POINTS + 3, raised] += 5.0
        assert measure(predicted, exact, events=events).overshoot_percent_max == (5.0 if raised == dosed else 0.0)


def waves(amplitude, cycles=2):
    """An oscillation in every window that no straight line fits: a cosine is even about the middle of whole cycles."""
    curves = steps()
    for near in NEAR:
        phase = (TIMES[near] - TIMES[near.start]) / WINDOW
        curves[:, near] += amplitude * np.cos(2 * np.pi * cycles * phase)[:, None]
    return curves


def test_the_amplitude_of_an_oscillation_is_found():
    # Crests and troughs of two cycles lie on the nine points. Amounts of 200 mg hold 3 mg to a rounding error of them.
    assert measure(waves(3.0)).oscillation_mg == pytest.approx(3.0, abs=8 * 200 * EPS)


def test_an_oscillation_is_a_mean_over_subjects_doses_and_compartments():
    predicted = steps()
    predicted[2, NEAR[1], 1] = waves(3.0)[2, NEAR[1], 1]
    assert measure(predicted).oscillation_mg == pytest.approx(3.0 / 12, abs=8 * 3 * EPS)


def test_a_level_and_a_slope_are_no_oscillation_and_no_noise():
    predicted = steps() + 5 - 2 * TIMES[:, None]
    score = measure(predicted)
    assert score.oscillation_mg <= 8 * 200 * EPS
    assert score.noise_mg2 <= (8 * 200 * EPS) ** 2


def test_a_level_and_a_slope_hide_no_oscillation():
    assert measure(waves(3.0) + 5 - 2 * TIMES[:, None]).oscillation_mg == pytest.approx(3.0, abs=16 * 200 * EPS)


def test_noise_that_alternates_has_a_known_variance():
    # Differences of +-1/2 mg, over and over, have second differences of +-2 mg. Nine points hold seven: the squares
    # are 4, and their mean is 2/7 off 0.
    predicted = steps()
    for near in NEAR:
        predicted[:, near] += 0.5 * (-1.0) ** np.arange(9)[:, None]
    assert measure(predicted).noise_mg2 == pytest.approx(4 - (2 / 7) ** 2, rel=8 * EPS)


def test_white_noise_is_six_times_its_variance():
    # Weights 1, -2, 1 make 6, less what the mean of seven takes: its variance is that of the end weights, 4 / 49.
    exact, random = steps(subjects=4000), np.random.default_rng(0)
    noise = measure(exact + random.normal(0, 0.1, exact.shape), exact).noise_mg2
    # Means of 16,000 windows; one has a deviation of about its own size.
    assert noise == pytest.approx(0.01 * (6 - 4 / 49), rel=3 * 16_000**-0.5)


def test_an_even_bend_is_no_noise():
    bend = np.zeros(len(TIMES))
    for near in NEAR:
        bend[near] = 3 * (TIMES[near] - TIMES[near.start]) ** 2
    score = measure(steps() + bend[:, None])
    assert score.noise_mg2 <= (8 * 200 * EPS) ** 2
    assert score.oscillation_mg > 0.1


def test_the_bend_of_the_curve_itself_is_no_noise():
    exact = steps() + 40 * np.exp(-5 * (TIMES % 4))[:, None] * [-1, 1]
    assert measure(exact + 1, exact, events=EVENTS[:1]).noise_mg2 <= (8 * 200 * EPS) ** 2


@pytest.mark.parametrize("power", [1, 2])
def test_uneven_spacing_makes_no_noise_of_a_slope_or_a_bend(power):
    times = np.array([0, 0, 0.1, 0.15, 0.4, 0.5, 0.9])
    exact = np.array([0.0, 1, 1, 1, 1, 1, 1]).reshape(1, 7, 1)
    predicted = exact + 3 * times.reshape(1, 7, 1) ** power
    score = stability(predicted, exact, times, events=[Event(0, 1, 0)], compartments=["a"], window=1.0)
    # Amounts of 4 mg, and the mean spacing is up to 4 times the least one, squared.
    assert score.noise_mg2 <= (16 * 8 * 4 * EPS) ** 2


def test_times_that_differ_by_a_rounding_error_are_one():
    times = np.array([0, 0, 0.1, 0.2, np.nextafter(0.2, 1), 0.3, 0.4])
    exact = np.array([0.0, 1, 1, 1, 1, 1, 1]).reshape(1, 7, 1)
    predicted = exact + np.array([0, 0, 0, 0, 1e-9, 0, 0]).reshape(1, 7, 1)
    score = stability(predicted, exact, times, events=[Event(0, 1, 0)], compartments=["a"])
    assert score.noise_mg2 == 0.0


@pytest.mark.parametrize(("window", "swing", "noise"), [(0.125, None, None), (0.25, 0.0, None), (0.375, 0.0, 0.0)])
def test_a_window_with_too_few_points_says_nothing(window, swing, noise):
    score = measure(steps(), window=window)
    assert (score.oscillation_mg, score.noise_mg2) == (swing, noise)


def test_a_dose_at_the_end_leaves_the_others_their_oscillation():
    # As an interval without duration, whose points are all at one time.
    predicted = np.concatenate([waves(3.0), np.broadcast_to([300.0, 0.0], (3, POINTS, 2))], 1)
    exact = np.concatenate([steps(), np.broadcast_to([300.0, 0.0], (3, POINTS, 2))], 1)
    times = np.concatenate([TIMES, np.full(POINTS, 12.0)])
    events = [*EVENTS, Event(3 * POINTS - 1, 3 * POINTS, 0)]
    score = measure(predicted, exact, times=times, events=events)
    assert score.oscillation_mg == pytest.approx(3.0, abs=8 * 200 * EPS)
    # The waves begin on a crest, 3 mg above each of the first two doses; the third is as it should be.
    assert (score.jump_mg, score.overshoot_percent_mean) == (102.0, 2.0)


def test_the_time_to_the_peak_is_counted_from_the_dose_to_the_largest_amount_before_the_next():
    predicted = steps()
    predicted[:, POINTS + 8, 0] += 1  # 1 h after the first dose; after the second dose the first of equals: 0 h
    predicted[:2, POINTS + 16, 1] += 1  # 2 h after the first dose of two subjects of three
    predicted[:, 2 * POINTS + 32, 1] += 1  # at the end, 4 h after the second
    score = measure(predicted)
    assert score.time_to_peak_h == {"central": 0.5, "peripheral": pytest.approx((2 * 2 + 3 * 4) / 6, rel=4 * EPS)}
    assert score.time_to_peak_exact_h == {"central": 0.0, "peripheral": 0.0}


def test_the_peak_before_a_dose_is_not_the_peak_after_it():
    curves = steps()
    curves[:, POINTS - 1, 1], curves[:, POINTS + 8, 1] = 1000.0, 1.0
    assert measure(curves, curves, events=EVENTS[:1]).time_to_peak_h["peripheral"] == 1.0


def test_an_infusion_jumps_from_its_beginning_to_its_end():
    # 100 mg between 1 and 1.5 h, with a point within; the window counts from the end and the peak from the beginning.
    times = np.array([0, 1, 1.25, 1.5, 1.75, 2.0, 2.25, 3])
    exact = np.array([0, 0, 50, 100, 90, 80, 70, 60.0]).reshape(1, 8, 1)
    predicted = np.array([0, 0, 80, 98, 94, 83, 80, 60.0]).reshape(1, 8, 1)
    score = stability(predicted, exact, times, events=[Event(1, 3, 0)], compartments=["a"], window=0.5)
    assert score[:5] == (98.0, 2.0, 2.0, 4.0, 4.0)
    assert (score.time_to_peak_h, score.time_to_peak_exact_h) == ({"a": 0.5}, {"a": 0.5})
    # Residuals -2, 4, 3 mg on three even points: their line has a slope of 5/2 and leaves -7/6, 14/6, -7/6.
    assert score.oscillation_mg == pytest.approx(21 / 12, rel=100 * EPS)


def test_the_error_of_the_whole_is_taken_over_everything():
    predicted = steps()
    predicted[1, 2, 1] -= 6.0  # long before the first dose
    score = measure(predicted)
    assert score.error_max_mg == 6.0
    assert score.error_rms_mg == pytest.approx(6 / predicted.size**0.5, rel=4 * EPS)


def test_the_order_of_events_and_plain_tuples_change_nothing():
    predicted = waves(3.0)
    assert measure(predicted, events=[tuple(event) for event in EVENTS[::-1]]) == measure(predicted)


def test_two_compartments_dosed_at_once_are_two_events():
    exact = steps()
    exact[..., 1] = exact[..., 0] / 2
    events = [*EVENTS, *(event._replace(compartment=1) for event in EVENTS)]
    predicted = exact.copy()
    predicted[:, POINTS + 3, 1] += 5.0  # 10 % of 50 mg, in one of four events
    assert measure(predicted, exact, events=events)[:5] == (75.0, 0.0, 0.0, 2.5, 10.0)


def test_single_precision_is_measured_in_double():
    predicted = steps().astype(np.float32) * np.float32(1e30)
    assert np.isfinite(measure(predicted).error_rms_mg)


def test_stability_is_plain_floats():
    score = measure(waves(3.0))
    values = [*score[:7], *score[-2:], *score.time_to_peak_h.values(), *score.time_to_peak_exact_h.values()]
    assert {type(value) for value in values} == {float}


BAD = steps()
BAD[0, 5, 1] = np.nan
FALLING = TIMES.copy()
FALLING[3] = 0.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"predicted": BAD}, r"predicted: nan at \(0, 5, 1\)"),
        ({"exact": BAD}, r"exact: nan at \(0, 5, 1\)"),
        ({"predicted": steps()[:2]}, "shapes"),
        ({"predicted": steps()[:0], "exact": steps()[:0]}, "empty"),
        ({"predicted": steps()[0], "exact": steps()[0]}, "3 axes"),
        ({"times": TIMES[1:]}, "98 for curves of 99 points"),
        ({"times": FALLING}, "must not decrease"),
        ({"times": TIMES * np.nan}, "times: nan"),
        ({"window": 0.0}, "window=0"),
        ({"window": np.nan}, "window=nan"),
        ({"compartments": ("central",)}, "2 different names"),
        ({"compartments": ("central", "central")}, "2 different names"),
        ({"events": []}, "none"),
        ({"events": [(5, 5, 0)]}, "before < after"),
        ({"events": [(-1, 0, 0)]}, "0 <= before"),
        ({"events": [(98, 99, 0)]}, "after < 99"),
        ({"events": [(32, 33, 2)]}, "compartment 0 to 1"),
        ({"events": [*EVENTS, EVENTS[0]]}, "the same or overlap"),
        ({"events": [(30, 40, 0), (35, 66, 0)]}, "the same or overlap"),
        ({"events": [(3, 4, 0)]}, "subject 0: the exact amount changes by 0 mg"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, told):
    given = {"predicted": steps()} | changes
    with pytest.raises(DataError, match=told):
        measure(**given)


def test_consistency_worked_out_by_hand():
    # Of 0 and 2 mg the sample deviation is sqrt(2) mg; over a jump of 10 mg.
    assert consistency(np.array([[0.0, 0.0], [2.0, 2.0]]), 10.0) == pytest.approx(1 - 2**0.5 / 10, rel=4 * EPS)


def test_consistency_is_the_root_of_the_mean_variance():
    # Variances 2 and 0: their mean is 1.
    assert consistency(np.array([[0.0, 5.0], [2.0, 5.0]]), 10.0) == 0.9


def test_seeds_that_agree_are_consistent_to_the_bit():
    alike = np.full((3, 4, 2), 0.1)
    assert 1 - alike.std(0, ddof=1).max() / 1e-3 != 1  # a rounding error, which must not count
    assert consistency(alike, 1e-3) == 1.0


def test_consistency_is_never_below_zero():
    assert consistency(np.array([[0.0], [50.0]]), 1.0) == 0.0


def test_consistency_feels_no_level_and_no_unit():
    seeds = np.random.default_rng(0).normal(0, 1, (3, 4, 5))
    assert consistency(seeds, 10.0) == pytest.approx(consistency(seeds * 1024 + 8, 10240.0), rel=100 * EPS)


def test_one_seed_has_no_consistency():
    assert consistency(np.ones((1, 4)), 10.0) is None


@pytest.mark.parametrize(
    ("predictions", "jump"), [([], 10.0), ([[np.nan], [1.0]], 10.0), ([[0.0], [1.0]], 0.0), ([[0.0], [1.0]], np.nan)]
)
def test_a_consistency_without_a_meaning_is_refused(predictions, jump):
    with pytest.raises(DataError):
        consistency(predictions, jump)
