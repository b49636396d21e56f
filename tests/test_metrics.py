"""Accuracy, times and memory: numbers that a reader can work out by hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pk_event_fit.errors import DataError
from pk_event_fit.metrics.accuracy import accuracy, breakdown
from pk_event_fit.metrics.performance import rss_mb, rss_peak_mb, step_times

EPS = np.finfo(np.float64).eps
TWO = np.array([1.0, 3.0]).reshape(2, 1, 1, 1)  # mg, of two subjects at one point: their mean is 2, their floor 1


def test_errors_of_a_case_worked_out_by_hand():
    # Errors of 2 and 0 mg: mean square 2, against a floor of 1.
    score = accuracy(TWO + np.array([2.0, 0.0]).reshape(TWO.shape), TWO)
    assert score == (2.0, 2.0**0.5, 1.0, -1.0)


def test_errors_are_taken_over_subjects_points_and_compartments_alike():
    observed = np.zeros((2, 3, 5, 2))
    observed[1, 2, 4, 1] = 6.0
    assert accuracy(np.zeros_like(observed), observed).mse == 36.0 / 60


def test_a_perfect_prediction_has_skill_one():
    assert accuracy(TWO, TWO) == (0.0, 0.0, 1.0, 1.0)


def test_the_mean_curve_has_skill_zero():
    observed = np.random.default_rng(0).lognormal(3.0, 1.0, (20, 4, 7, 2))
    score = accuracy(np.broadcast_to(observed.mean(0), observed.shape), observed)
    # Two sums of 1,120 squares, each off by less than one rounding error for each term.
    assert abs(score.skill) < observed.size * EPS


def test_no_single_curve_beats_the_floor():
    observed = np.random.default_rng(0).lognormal(3.0, 1.0, (20, 4, 7, 2))
    for curve in (observed[3], np.median(observed, 0), observed.mean(0) + 1e-3):
        assert accuracy(np.broadcast_to(curve, observed.shape), observed).rmse > accuracy(observed, observed).rmse_floor


def test_the_floor_does_not_depend_on_the_prediction():
    assert accuracy(TWO * 7, TWO).rmse_floor == accuracy(TWO, TWO).rmse_floor


def test_the_floor_is_zero_and_skill_is_none_where_all_subjects_are_alike():
    # A number whose mean over seven is off by a rounding error, which must not pass for a floor.
    observed = np.full((7, 4, 5, 2), 0.1)
    assert observed.mean(0)[0, 0, 0] != 0.1
    score = accuracy(observed + 1, observed)
    assert (score.rmse_floor, score.skill) == (0.0, None)


def test_one_subject_has_no_skill():
    assert accuracy(TWO[:1], TWO[:1]).skill is None


def test_errors_of_float32_predictions_are_summed_in_float64():
    # Sums of squares beyond 3.4e38 overflow in float32.
    predicted = np.full((2, 1, 1, 1), 3e19, np.float32)
    assert accuracy(predicted, np.zeros_like(predicted)).mse == float(np.float32(3e19)) ** 2


def test_a_prediction_that_is_no_number_has_an_error_that_is_none():
    assert np.isnan(accuracy(TWO * np.nan, TWO).rmse)


def test_accuracy_is_plain_floats():
    assert all(type(value) is float for value in accuracy(TWO, TWO))


def test_a_breakdown_worked_out_by_hand():
    # Four subjects, two intervals, three points, two compartments: an error of 6 mg at one of 48 places.
    observed = np.zeros((4, 2, 3, 2))
    predicted = observed.copy()
    predicted[1, 1, 2, 0] = -6.0
    parts, nothing = {"mse": 36 / 24, "rmse": (36 / 24) ** 0.5}, {"mse": 0.0, "rmse": 0.0}
    assert breakdown(predicted, observed, ("central", "peripheral")) == {
        "by_compartment": {"central": parts, "peripheral": nothing},
        "by_interval": [nothing, parts],
    }


def test_the_parts_average_to_the_whole():
    random = np.random.default_rng(0)
    predicted, observed = random.lognormal(3.0, 1.0, (2, 20, 4, 7, 2))
    whole, parts = accuracy(predicted, observed).mse, breakdown(predicted, observed, ("a", "b"))
    for part in (list(parts["by_compartment"].values()), parts["by_interval"]):
        # Sums of 1,120 positive terms, each sum off by less than one rounding error for each term.
        assert np.mean([errors["mse"] for errors in part]) == pytest.approx(whole, rel=observed.size * EPS)


def test_a_breakdown_is_plain_floats_of_float64():
    predicted = np.full((1, 1, 1, 1), 3e19, np.float32)
    errors = breakdown(predicted, np.zeros_like(predicted), ["a"])["by_interval"][0]
    assert (errors["mse"], type(errors["mse"]), type(errors["rmse"])) == (float(np.float32(3e19)) ** 2, float, float)


@pytest.mark.parametrize(
    ("predicted", "names", "told"),
    [
        (TWO[0], ["a"], "4 axes"),
        (TWO[:1], ["a"], "shapes"),
        (TWO[:0], ["a"], "empty"),
        (TWO * np.nan, ["a"], "must be finite"),
        (TWO, [], "1 different names"),
        (TWO, ["a", "a"], "1 different names"),
    ],
)
def test_a_breakdown_without_a_meaning_is_refused(predicted, names, told):
    with pytest.raises(DataError, match=told):
        breakdown(predicted, TWO, names)


def test_the_first_iteration_is_told_apart_from_the_others():
    times = step_times([5.0, 1.0, 2.0, 3.0])
    # Percentiles of 1, 2, 3 s lie at 1 + 2 * 0.1 and 1 + 2 * 0.9 s.
    assert times["step_ms"] == pytest.approx({"median": 2000.0, "p10": 1200.0, "p90": 2800.0}, rel=4 * EPS)
    assert (times["compile_s"], times["training_s"]) == (3.0, 11.0)


def test_compiling_never_takes_less_than_nothing():
    assert step_times([1.0, 2.0, 3.0])["compile_s"] == 0.0


@pytest.mark.parametrize(("seconds", "total"), [([], 0.0), ([2.0], 2.0)])
def test_what_cannot_be_told_from_fewer_than_two_iterations_is_none(seconds, total):
    assert step_times(seconds) == {"compile_s": None, "step_ms": None, "training_s": total}


def test_memory_is_told_wherever_the_system_tells_it():
    assert (rss_mb() is not None) == Path("/proc/self/status").exists()


def test_fifty_megabytes_more_are_seen():
    code = (
        "import numpy as np; from pk_event_fit.metrics.performance import rss_mb; before = rss_mb(); "
        "held = np.ones(50_000_000 // 8); print('none' if before is None else rss_mb() - before)"
    )
    # In a process of its own: others' threads give memory back meanwhile.
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == "none" or 45 < float(told) < 60


def test_memory_is_counted_in_megabytes():
    # An interpreter with NumPy takes tens of megabytes, and no machine of today has a terabyte for a test.
    assert 10 < (rss_mb() or rss_peak_mb()) < 1e6


def test_the_peak_is_not_below_what_is_held():
    held = np.ones(50_000_000 // 8)
    now = rss_mb() or held.nbytes / 1e6
    # The kernel adds up each CPU's share late, so two readings disagree by some pages: a tenth of what is held.
    assert rss_peak_mb() >= now - held.nbytes / 1e7


def test_the_peak_stays_when_memory_is_given_back():
    held = np.ones(50_000_000 // 8)
    peak, slack = rss_peak_mb(), held.nbytes / 1e7
    del held
    assert rss_peak_mb() >= peak - slack
