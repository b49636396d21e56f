"""Doses to intervals: every fault of a schedule is refused by name, every valid one is cut exactly."""

import itertools

import numpy as np
import pytest

from pk_event_fit.dosing import Dose, schedule
from pk_event_fit.errors import ScheduleError


def cut(*histories, start=0.0, end=48.0):
    return schedule(histories, start=start, end=end, compartments=2)


def spans(table, subject=0):
    """Start and duration of a subject's intervals, h."""
    return list(zip(table.start[:, subject].tolist(), table.duration[:, subject].tolist(), strict=True))


def test_doses_cut_the_time_axis():
    table = cut([Dose(12.0, 100.0), Dose(36.0, 50.0, 2)]).intervals
    assert spans(table) == [(0.0, 12.0), (12.0, 24.0), (36.0, 12.0)]


def test_each_dose_enters_its_own_compartment_at_its_own_cut():
    table = cut([Dose(12.0, 100.0), Dose(36.0, 50.0, 2)]).intervals
    assert table.bolus[:, 0].tolist() == [[0.0, 0.0], [100.0, 0.0], [0.0, 50.0]]


def test_the_order_of_the_records_does_not_matter():
    doses = [Dose(36.0, 50.0, 2), Dose(12.0, 100.0), Dose(24.0, 25.0)]
    for one in itertools.permutations(doses):
        for found, wanted in zip(cut(one).intervals[:4], cut(sorted(doses)).intervals[:4], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_doses_at_one_time_add_up_at_one_cut_in_any_order():
    doses = [Dose(12.0, 100.0), Dose(12.0, 30.0), Dose(12.0, 7.0, 2)]
    for one in itertools.permutations(doses):
        assert cut(one).intervals.bolus[:, 0].tolist() == [[0.0, 0.0], [130.0, 7.0]]


@pytest.mark.parametrize("doses", [[Dose(0.3, 5.0), Dose(0.1 * 3, 7.0)], [Dose(0.1 * 3, 7.0), Dose(0.3, 5.0)]])
def test_times_a_rounding_error_apart_are_one_time(doses):
    table = cut(doses, end=1.0).intervals
    assert 0.1 * 3 != 0.3
    assert table.bolus[:, 0, 0].tolist() == [0.0, 12.0]


@pytest.mark.parametrize(("ulps", "cuts"), [(4, 2), (5, 3)])
def test_times_within_four_ulp_are_one_and_beyond_are_two(ulps, cuts):
    later = 12.0 + ulps * np.spacing(12.0)
    assert len(cut([Dose(12.0, 1.0), Dose(later, 1.0)]).intervals.start) == cuts


def test_a_dose_at_the_start_acts_once():
    table = cut([Dose(0.0, 100.0)]).intervals
    assert (spans(table), table.bolus[:, 0, 0].tolist()) == ([(0.0, 48.0)], [100.0])


def test_a_dose_at_the_end_gets_an_interval_of_no_duration():
    table = cut([Dose(48.0, 100.0)]).intervals
    assert (spans(table), table.bolus[:, 0, 0].tolist()) == ([(0.0, 48.0), (48.0, 0.0)], [0.0, 100.0])


def test_a_dose_after_the_end_changes_nothing_and_is_counted():
    plan = cut([Dose(12.0, 100.0), Dose(48.1, 100.0), Dose(1e9, 1.0)])
    assert (spans(plan.intervals), plan.ignored.tolist()) == ([(0.0, 12.0), (12.0, 36.0)], [2])


def test_ignored_doses_are_counted_for_each_subject():
    assert cut([Dose(12.0, 1.0)], [Dose(49.0, 1.0)], []).ignored.tolist() == [0, 1, 0]


def test_a_dose_a_rounding_error_after_the_end_acts_at_the_end():
    table = cut([Dose(0.1 * 3, 100.0)], end=0.3).intervals
    assert (spans(table), table.bolus[:, 0, 0].tolist()) == ([(0.0, 0.3), (0.3, 0.0)], [0.0, 100.0])


def test_a_dose_that_acts_is_not_counted_as_ignored():
    assert cut([Dose(0.1 * 3, 100.0)], end=0.3).ignored.tolist() == [0]


def test_a_dose_a_rounding_error_before_the_end_acts_at_the_end():
    table = cut([Dose(0.3, 100.0)], end=0.1 * 3).intervals
    assert table.duration[-1, 0] == 0


def test_a_dose_a_rounding_error_before_the_start_acts_at_the_start():
    table = cut([Dose(0.3, 100.0)], start=0.1 * 3, end=1.0).intervals
    assert (len(table.start), table.start[0, 0], table.bolus[0, 0, 0]) == (1, 0.1 * 3, 100.0)


def test_a_dose_before_the_start_is_refused():
    with pytest.raises(ScheduleError, match=r"^subject 0, event 0: time -1\.0 h: before the start at 0\.0 h"):
        cut([Dose(-1.0, 100.0)])


@pytest.mark.parametrize(
    "dose",
    [
        Dose(np.nan, 100.0),
        Dose(np.inf, 100.0),
        Dose(-np.inf, 100.0),
        Dose(12.0, np.nan),
        Dose(12.0, np.inf),
        Dose(12.0, -1.0),
        Dose(12.0, 100.0, 0),
        Dose(12.0, 100.0, 3),
        Dose(12.0, 100.0, -1),
        Dose(12.0, 100.0, 1.5),
        Dose(12.0, 100.0, np.nan),
    ],
    ids=str,
)
def test_an_impossible_dose_is_refused_with_its_subject_and_row(dose):
    with pytest.raises(ScheduleError, match=r"^subject 1, event 2: "):
        cut([Dose(1.0, 1.0)], [Dose(1.0, 1.0), Dose(2.0, 1.0), dose])


@pytest.mark.parametrize(("dose", "value"), [(Dose(12.0, -7.5), r"AMT -7\.5"), (Dose(12.0, 1.0, 9), "compartment 9")])
def test_a_refusal_names_the_value(dose, value):
    with pytest.raises(ScheduleError, match=value):
        cut([dose])


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (1.0, 0.0), (np.nan, 1.0), (0.0, np.inf), (-np.inf, 0.0)])
def test_a_time_axis_without_length_is_refused(start, end):
    with pytest.raises(ScheduleError, match="time axis"):
        cut([], start=start, end=end)


def test_no_subjects_are_refused():
    with pytest.raises(ScheduleError, match="no subjects"):
        cut()


def test_no_doses_make_one_interval():
    table = cut([]).intervals
    assert (spans(table), table.bolus.tolist()) == ([(0.0, 48.0)], [[[0.0, 0.0]]])


def test_a_dose_of_nothing_is_valid_and_cuts():
    assert spans(cut([Dose(12.0, 0.0)]).intervals) == [(0.0, 12.0), (12.0, 36.0)]


def test_a_shorter_history_is_padded_with_intervals_of_no_duration_and_no_dose():
    table = cut([Dose(12.0, 1.0), Dose(24.0, 2.0), Dose(36.0, 3.0)], [Dose(6.0, 4.0)], []).intervals
    assert spans(table, 1) == [(0.0, 6.0), (6.0, 42.0), (48.0, 0.0), (48.0, 0.0)]
    assert table.bolus[2:, 1].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_subject_beside_others_is_cut_as_it_is_alone():
    histories = [[Dose(12.0, 1.0), Dose(24.0, 2.0)], [Dose(6.0, 4.0)], []]
    crowded = cut(*histories).intervals
    for subject, history in enumerate(histories):
        alone = cut(history).intervals
        rows = len(alone.start)
        assert spans(crowded, subject)[:rows] == spans(alone)
        np.testing.assert_array_equal(crowded.bolus[:rows, subject], alone.bolus[:, 0])


def test_ten_thousand_doses_are_valid():
    times = 48.0 * np.arange(10_000) / 10_000
    table = cut([Dose(time, 1.0) for time in times]).intervals
    assert table.start[:, 0].tolist() == times.tolist()
    assert table.bolus[..., 0].sum() == 10_000


def test_intervals_have_no_gap_and_reach_the_end():
    table = cut([Dose(time, 1.0) for time in np.random.default_rng(0).uniform(0, 48, 50)]).intervals
    ends = table.start + table.duration
    # A duration is a rounded difference: adding it back is off by one rounding error at most.
    np.testing.assert_allclose(ends[:, 0], [*table.start[1:, 0], 48.0], rtol=np.finfo(float).eps)


def test_cuts_around_a_million_hours_are_exact():
    times = [1e6 + k * 1e-3 for k in range(5)]
    table = cut([Dose(time, 1.0) for time in times], end=2e6).intervals
    assert table.start[1:, 0].tolist() == times
    assert table.duration[1:-1, 0].tolist() == np.diff(times).tolist()


def test_the_table_is_float64_and_numbers_its_intervals():
    table = cut([Dose(12, 100)], [Dose(24, 1), Dose(36, 1)]).intervals
    assert {leaf.dtype for leaf in (table.start, table.duration, table.bolus)} == {np.dtype(np.float64)}
    assert table.number.tolist() == [0, 1, 2]


@pytest.mark.parametrize("histories", [[Dose(0.0, 100.0)], [[Dose(0.0, 100.0), 5.0]], [[[0.0, 100.0]]]])
def test_what_is_no_list_of_events_is_refused(histories):
    with pytest.raises(ScheduleError, match=r"^subject 0: needs Dose, Infusion and Reset in a list"):
        schedule(histories, compartments=1)
