"""What may go wrong with a dosing history, and every rule of what its events mean: where each of them is tested.

Tests named without a file are here; `dosing` is test_dosing.py, and so on. Random histories of all kinds, in every
framework, are in `events`; the oracle that they are compared with has each rule in `clinic`.

What may go wrong:

* two doses at one time are summed, in any order: two_doses_at_one_time; one cut: `dosing` doses_at_one_time
* a dose at the first time acts once, without a solve of no length: a_dose_at_the_first_time
* an observation on a dose time: side `post`, else as asked: a_report_on_a_dose_time; stored: the_side_is_stored;
  no interpolation across: nothing_is_interpolated
* a dose at the end: a_dose_exactly_at_the_end; after the last observation: a_dose_after_the_last; before the start:
  a_row_before_the_start, `dosing` a_dose_before_the_start; with the state given: `events` in_the_middle_of_a_history
* an interval of no length: a_dose_exactly_at_the_end; a gap of a few ULP: a_gap_of_a_few_ulp; times closer than 4 ULP:
  `dosing` times_within_four_ulp
* report times unsorted or twice: report_times_come_back
* NaN, infinity, compartment: `dosing` an_impossible_dose; II, SS, infusions: an_impossible_row, an_impossible_event,
  `nonmem` a_row_that_means_nothing; other arguments: an_impossible_argument; negative amounts: negative_amounts
* no doses: without_doses; no observations: without_observations; 10,000 doses: ten_thousand_doses,
  memory_is_proportional
* ragged schedules: padding_changes; a batch is a loop: `laws` a_batch_is
* times around 1e6 h in float32: gaps_of_a_thousandth, a_gap_that_a_float32_clock, a_gap_that_a_float64_clock

Rules:

1. File order, both sides: an_observation_row; scheduled doses first: further_doses_come_before
2. Infusions: an_infusion_runs
3. Multiplied times: times_of_further_doses
4. Steady state with lag: a_lagged_steady_state; overlaps: a_steady_infusion
5. Resets: a_reset_leaves_nothing, a_reset_and_dose; each repeat: every_repeat
6. As in the list above
7. Times in float64: times_of_a_file
8. Derivative by a dose time: derivative_by_a_dose_time; none at an observation: `clocks` an_observation_on_a_dose_time
9. Steady state of a field that is not linear: a_steady_state_without_a_closed_form; none: a_steady_state_that
10. Errors with file, row, column and value: `nonmem` a_row_that_means_nothing; beyond the model: a_compartment

Mistakes seen elsewhere: without EVID all rows were observations: a_file_without_evid, `nonmem` without_evid; one of two
doses was lost: two_doses_at_one_time; the last event at the end was dropped: a_dose_exactly_at_the_end; repeats of EVID
4 did not reset: every_repeat; 0.1 * 3 missed a tie: three_times_a_tenth; the end of an infusion on an observation:
an_infusion_runs; a lag landing on a record: a_lag_that_lands; gradients by dose times zero or NaN:
derivative_by_a_dose_time, `clocks` derivative_by_every_quantity.
"""

import functools
import itertools
import tracemalloc
from math import exp, sqrt
from pathlib import Path

import numpy as np
import pytest
from clinic import Row
from histories import as_records
from reference import Exact

from pk_event_fit import frameworks, nonmem
from pk_event_fit.clocks import differentiable
from pk_event_fit.dosing import Dose, Infusion, Reset, schedule
from pk_event_fit.errors import ScheduleError, SolverFailure
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.integrate import place, predict

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
GRADIENTS = ("direct", "adjoint")
K = 0.1  # 1/h
Q = exp(-12 * K)  # what 12 h leave


def decay(xp, params, t, y, covariates):
    return -K * y


def rapid(xp, params, t, y, covariates):
    """A thousandth of an hour leaves exp(-0.1)."""
    return -100.0 * y


def still(xp, params, t, y, covariates):
    """Nothing is lost."""
    return 0.0 * y


def square(xp, params, t, y, covariates):
    """y' = -y^2 has the solution 1 / (1 / y0 + t)."""
    return -(y**2)


for clockless in (decay, rapid, still, square):
    clockless.autonomous = True


def timed(xp, params, t, y, covariates):
    """y' = -K t y has the solution y0 exp(-K (t^2 - t0^2) / 2)."""
    return -K * t[..., None] * y


@functools.cache
def create(name, gradient="direct"):
    solver = Solver(rtol=1e-11, atol=1e-12, max_steps=100_000, gradient=gradient)
    return frameworks.load(name).create(solver, precision="float64")


class Recording(Exact):
    """Exact, with the lengths of all solves, h."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.lengths = []

    def solve(self, rhs, y0, params, interval, grid):
        self.lengths += interval.duration.tolist()
        return super().solve(rhs, y0, params, interval, grid)


def plan(*histories, compartments=2, **settings):
    return schedule(histories, compartments=compartments, **settings)


def seen(planned, framework=None, field=decay):
    """Amounts at every report, mg, `[Q, D]`, in bodies that are empty at the start."""
    framework = framework or Exact.create()
    arrays, where = framework.arrays, planned.reports
    table, steady = arrays.table(planned.intervals), arrays.table(planned.steady)
    initial = arrays.asarray(np.zeros(planned.intervals.bolus.shape[1:]))
    states, report = predict(framework, field, {}, initial, table, steady=steady)
    framework.check(report, table)
    return arrays.to_numpy(states)[where.interval, where.point, where.subject]


def amounts(*rows, **settings):
    """In the first compartment at each observation of one subject's rows, mg."""
    return seen(schedule(as_records([rows]), compartments=2, **settings))[:, 0].tolist()


def left(amount, hours):
    return amount * exp(-K * hours)


def rising(rate, hours):
    return rate / K * (1 - exp(-K * hours))


def near(expected, rel=1e-12):
    # A few dozen exponentials, each good to a few ULP.
    return pytest.approx(expected, rel=rel)


def slopes(framework, planned, names, initial, field=decay, subject=0):
    """The sum of all amounts that are reported of a subject, and its derivative by quantities of the rows."""
    arrays, where = framework.arrays, planned.reports
    own = where.subject == subject
    spots = where.interval[own], where.point[own], where.subject[own]

    def total(quantities, start):
        table, steady = differentiable(arrays, planned, quantities)
        states, report = predict(framework, field, {}, start, table, steady=steady)
        return states[spots].sum(), report

    values = {name: arrays.asarray(getattr(planned.clock.records, name)) for name in names}
    start = arrays.asarray(np.full(planned.intervals.bolus.shape[1:], initial))
    (value, _), found = framework.guard(arrays.compile(arrays.value_and_grad(total)), values, start)
    return float(value), {name: arrays.to_numpy(slope) for name, slope in found.items()}


def test_two_doses_at_one_time_are_both_given_in_any_order():
    doses = [Dose(12.0, 0.1), Dose(12.0, 0.2), Infusion(12.0, 30.0, rate=10.0), Dose(12.0, 7.0, 2)]
    expected = [[0.3, 7.0], [left(0.3, 6) + left(rising(10, 3), 3), left(7.0, 6)]]
    for one in itertools.permutations(doses):
        np.testing.assert_allclose(seen(plan(one, start=0.0, times=[12.0, 18.0])), expected, rtol=1e-12)


def test_a_dose_at_the_first_time_acts_without_a_solve_of_no_length():
    framework = Recording.create()
    found = seen(plan([Dose(0.0, 100.0)], start=0.0, times=[0.0, 5.0]), framework)
    assert (found[:, 0].tolist(), framework.lengths) == (near([100, left(100, 5)]), [5.0])


@pytest.mark.parametrize(
    ("settings", "added"), [({}, [10]), ({"side": "post"}, [10]), ({"side": "pre"}, [0]), ({"side": "both"}, [0, 10])]
)
def test_a_report_on_a_dose_time_is_after_the_dose_unless_asked(settings, added):
    planned = plan([Dose(0.0, 100.0), Dose(12.0, 10.0)], end=24.0, times=[12.0], **settings)
    assert seen(planned)[:, 0].tolist() == near([left(100, 12) + amount for amount in added])


def test_the_side_is_stored_with_each_report():
    planned = plan([Dose(0.0, 100.0), Dose(12.0, 10.0)], end=24.0, times=[12.0, 5.0, 0.0], side="both")
    assert planned.reports.side.tolist() == ["pre", "post", "", "", "pre", "post"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_interpolated_across_a_dose(name):
    """A millionth of an hour before the dose nothing of it is there, and after it all."""
    planned = plan([Dose(0.0, 100.0), Dose(12.0, 10.0)], end=24.0, times=[12 - 1e-6, 12 + 1e-6])
    expected = [left(100, 12 - 1e-6), left(100, 12 + 1e-6) + left(10, 1e-6)]
    # A thousand tolerances: an interpolation across would be off by milligrams.
    assert seen(planned, create(name))[:, 0].tolist() == near(expected, rel=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_a_dose_exactly_at_the_end_is_not_dropped(name):
    planned = plan([Dose(0.0, 100.0), Dose(24.0, 50.0)], start=0.0, times=[24.0], side="both")
    assert seen(planned, create(name))[:, 0].tolist() == near([left(100, 24), left(100, 24) + 50], rel=1e-8)


def test_a_dose_after_the_last_observation_changes_nothing_and_is_counted():
    rows = [Row(0.0, 1, 100.0), Row(6.0), Row(12.0)]
    alone, followed = (schedule(as_records([some]), compartments=2) for some in (rows, [*rows, Row(12.5, 1, 50.0)]))
    np.testing.assert_array_equal(seen(followed), seen(alone))
    assert followed.ignored.tolist() == [1]


def test_a_row_before_the_start_is_refused():
    with pytest.raises(ScheduleError, match=r"^subject 0, row 0: time 0\.0 h: before the start at 5\.0 h"):
        amounts(Row(0.0, 1, 100.0), Row(12.0), start=5.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_of_a_few_ulp_is_integrated(name):
    after = 12.0 + 8 * np.spacing(12.0)
    found = seen(plan([Dose(12.0, 100.0), Dose(after, 100.0)], start=0.0, times=[12.0, after, 24.0]), create(name))
    assert found[:, 0].tolist() == near([100, 200, left(200, 12)], rel=1e-8)


def test_report_times_come_back_in_the_callers_order():
    doses = ([Dose(0.0, 100.0), Dose(12.0, 50.0)], [Dose(0.5, 10.0)])
    times = [[30.0, 5.0, 30.0, 0.0, 12.0], [1.0, 1.0, 36.0, 24.0, 0.0]]
    expected = [
        sum(left(dose.amount, time - dose.time) for dose in own if dose.time <= time)
        for own, asked in zip(doses, times, strict=True)
        for time in asked
    ]
    assert seen(plan(*doses, start=0.0, times=times))[:, 0].tolist() == near(expected)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (Row(5.0, 1, 100.0, additional=2), "II 0: must be above 0 where ADDL is"),
        (Row(5.0, 1, 100.0, additional=2, interval=-12.0), "II -12: must be 0 or more"),
        (Row(5.0, 1, 100.0, steady=1), "II 0: must be above 0 where SS is"),
        (Row(5.0, 4, 100.0, steady=2, interval=np.nan), "II nan: must be 0 or more, and finite"),
        (Row(5.0, 1, -3.0), "AMT -3: must not be negative"),
        (Row(5.0, 1, 100.0, compartment=9), "compartment 9: choose 1 to 2"),
    ],
    ids=str,
)
def test_an_impossible_row_is_refused(row, told):
    with pytest.raises(ScheduleError, match=f"^subject 0, row 1: {told}"):
        amounts(Row(0.0), row)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Dose(1.0, 5.0, count=3), r"every 0\.0 h: a course needs an interval above 0"),
        (Dose(1.0, 5.0, every=np.nan, count=2), "every nan h"),
        (Dose(1.0, 5.0, steady_state=True), r"every 0\.0 h"),
        (Dose(1.0, 5.0, every=-12.0), "II -12: must be 0 or more"),
        (Dose(1.0, 5.0, every=12.0, count=0), "count 0: must be 1 or more"),
        (Infusion(1.0, 5.0), "duration None h, rate None mg/h: give one of the two"),
        (Infusion(1.0, 5.0, duration=0.0), r"duration 0\.0 h: must be above 0"),
        (Infusion(1.0, 5.0, rate=np.inf), "rate inf mg/h: must be above 0, and finite"),
        (Infusion(1.0, 0.0, rate=5.0), "AMT 0: must be above 0 where RATE is"),
        (Reset(np.nan), "TIME nan: must be a finite number"),
    ],
    ids=str,
)
def test_an_impossible_event_is_refused(event, told):
    with pytest.raises(ScheduleError, match=f"^subject 1, event 1: {told}"):
        plan([Dose(1.0, 1.0)], [Dose(1.0, 1.0), event], start=0.0, end=48.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"times": [np.nan]}, "times has shape .*; needs finite hours"),
        ({"times": [-1.0]}, r"times: time -1\.0 h: before the start at 0\.0 h"),
        ({"times": [50.0]}, r"times: time 50\.0 h: after the end at 48\.0 h"),
        ({"side": "left"}, "side='left': choose one of pre, post, both"),
        ({"lag": -1.0}, r"lag -1\.0 of subject 0, compartment 1: must be 0 or more"),
        ({"lag": [1.0, 1.0, 1.0]}, r"lag: has shape \[3\]; needs one, \[2\] or \[1, 2\]"),
        ({"lag": 13.0}, "a lag of 13 h is longer than the interval of its steady-state dose, 12 h"),
        ({"bioavailability": [1.0, np.nan]}, "bioavailability nan of subject 0, compartment 2"),
        ({"modelled_duration": 0.0}, r"RATE -2 in compartment 2 needs modelled_duration above 0; it is 0\.0"),
    ],
    ids=str,
)
def test_an_impossible_argument_is_refused(settings, told):
    rows = [Row(1.0, 1, 5.0, interval=12.0, steady=1), Row(2.0, 1, 5.0, compartment=2, rate=-2)]
    arguments = {"compartments": 2, "start": 0.0, "end": 48.0, "modelled_duration": 1.0, **settings}
    with pytest.raises(ScheduleError, match=told):
        schedule(as_records([rows]), **arguments)


def test_negative_amounts_are_taken_when_asked_for():
    assert amounts(Row(0.0, 1, 100.0), Row(5.0, 1, -30.0), Row(5.0), negative=True) == near([left(100, 5) - 30])


def test_without_doses_an_empty_body_stays_empty():
    assert seen(plan([], times=[5.0, 0.0, 2.0])).tolist() == [[0.0, 0.0]] * 3


def test_without_observations_time_ends_with_the_last_row_and_nothing_is_reported():
    planned = plan([Dose(0.0, 100.0), Dose(12.0, 50.0)])
    assert (planned.intervals.duration[:, 0].tolist(), seen(planned).shape) == ([12.0, 0.0], (0, 2))


def test_ten_thousand_doses_take_one_solve_each():
    framework = Recording.create()
    found = seen(plan([Dose(0.0, 1.0, every=0.5, count=10_000)], start=0.0, times=[4999.5]), framework)
    # A geometric series, which forgets each rounding error within a few hundred doses.
    assert (len(framework.lengths), float(found[0, 0])) == (10_000, near(1 / (1 - exp(-K / 2))))


def test_memory_is_proportional_to_the_number_of_doses():
    def peak(count):
        tracemalloc.start()
        plan([Dose(0.0, 1.0, every=0.5, count=count)], start=0.0, end=0.5 * count)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(40_000) <= 4.4 * peak(10_000)  # a tenth for what Python does besides


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_neither_amounts_nor_derivatives(name, gradient):
    short = [Row(0.0), Row(2.0, 1, 80.0), Row(5.3), Row(9.0)]
    long = [Row(0.0), Row(1.0, 1, 100.0, additional=4, interval=7.0), Row(3.0, 1, 50.0, rate=20.0), Row(4.4)]
    long += [Row(20.2), Row(40.0)]
    alone, padded = (schedule(as_records(subjects), compartments=2) for subjects in ([short], [long, short]))
    value, expected = slopes(create(name, gradient), alone, ["time", "amount"], 1.0)
    beside, found = slopes(create(name, gradient), padded, ["time", "amount"], 1.0, subject=1)
    assert beside == near(value, rel=1e-8)
    for quantity, slope in expected.items():
        # The neighbour's six rows have no part in it. The adjoint's quadratures are good to 1e-6, as in test_clocks.
        wanted = np.concatenate([np.zeros(6), slope])
        np.testing.assert_allclose(found[quantity], wanted, rtol=0, atol=1e-6 * np.abs(slope).max())


def far_away():
    """Five doses a thousandth of an hour apart, a million hours after zero, and what is left of them."""
    doses, time = [Dose(1e6 + k * 1e-3, 100.0) for k in range(5)], 1e6 + 4.5e-3
    expected = sum(100 * exp(-100 * (time - dose.time)) for dose in doses)
    return plan(doses, compartments=1, times=[time]), expected


def single(name):
    return frameworks.load(name).create(Solver(rtol=1e-5, atol=1e-7), precision="float32")


# Gaps are lost in `place` or nowhere: it alone sees both the float64 clocks and the precision of the solve.
@pytest.mark.parametrize("name", NAMES)
def test_gaps_of_a_thousandth_of_an_hour_after_a_million_are_exact_in_float32(name):
    framework, (planned, expected) = single(name), far_away()
    arrays, where = framework.arrays, planned.reports
    intervals, steady = place(framework, rapid, planned)
    states, report = predict(framework, rapid, {}, arrays.asarray(np.zeros((1, 1))), intervals, steady=steady)
    framework.check(report, intervals)
    found = arrays.to_numpy(states)[where.interval, where.point, where.subject]
    assert float(found[0, 0]) == near(expected, rel=1e-4)  # ten tolerances


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_that_a_float32_clock_loses_is_refused_where_the_field_asks_for_the_time(name):
    with pytest.raises(ScheduleError, match=r"subject 0, interval 0: 0\.001 h from 1000000 h vanish in float32"):
        place(single(name), timed, far_away()[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_that_a_float64_clock_keeps_is_placed_as_it_is(name):
    planned, framework = far_away()[0], create(name)
    intervals, _ = place(framework, timed, planned)
    np.testing.assert_array_equal(framework.arrays.to_numpy(intervals.duration), planned.intervals.duration)


def test_an_observation_row_is_before_the_dose_row_that_follows_and_after_the_one_above():
    rows = [Row(0.0, 1, 100.0), Row(12.0), Row(12.0, 1, 10.0), Row(12.0), Row(12.0, 1, 5.0), Row(12.0)]
    planned, before = schedule(as_records([rows]), compartments=2), left(100, 12)
    assert seen(planned)[:, 0].tolist() == near([before, before + 10, before + 15])
    assert planned.reports.side.tolist() == ["pre", "between", "post"]


def test_further_doses_come_before_the_rows_of_their_time():
    found = amounts(Row(0.0, 1, 100.0, additional=1, interval=12.0), Row(12.0), Row(12.0, 1, 10.0), Row(13.0))
    assert found == near([100 * Q + 100, left(100 * Q + 110, 1)])


@pytest.mark.parametrize(
    ("rate", "settings", "runs", "hours"),
    [
        (20.0, {}, 20, 5.0),
        (20.0, {"bioavailability": 0.5}, 20, 2.5),
        (-1, {"bioavailability": 0.5, "modelled_rate": 25.0}, 25, 2.0),
        (-2, {"bioavailability": 0.5, "modelled_duration": 4.0}, 12.5, 4.0),
    ],
)
def test_an_infusion_runs_for_the_available_amount_over_its_rate(rate, settings, runs, hours):
    """One observation is made at its very end."""
    found = amounts(Row(0.0, 1, 100.0, rate=rate), Row(1.0), Row(hours), Row(8.0), **settings)
    assert found == near([rising(runs, 1), rising(runs, hours), left(rising(runs, hours), 8 - hours)])


def test_times_of_further_doses_are_multiplied_and_not_added_up():
    planned, added = plan([Dose(0.0, 1.0, every=0.1, count=1000)], end=100.0), list(itertools.accumulate([0.1] * 999))
    assert added[-1] != 999 * 0.1
    assert planned.intervals.start[:, 0].tolist() == [0.1 * k for k in range(1000)]


def test_three_times_a_tenth_is_three_tenths():
    found = amounts(Row(0.0, 1, 100.0, additional=3, interval=0.1), Row(0.3))
    assert 0.1 * 3 > 0.3
    assert found == near([sum(left(100, 0.1 * k) for k in range(4))])


def test_a_lagged_steady_state_is_that_of_the_phase_before():
    found = amounts(Row(0.0, 1, 100.0, interval=12.0, steady=1), Row(0.0), Row(3.0), Row(13.0), lag=3.0)
    # A fixed point found by iteration: the solves are exact, its end is where rtol 1e-13 lets it be.
    assert found == near([left(100, 9) / (1 - Q), 100 / (1 - Q), left(100, 10) / (1 - Q)], rel=1e-10)


def test_a_steady_infusion_of_two_intervals_runs_by_twos():
    rows = [Row(0.0, 1, 240.0, rate=10.0, interval=12.0, steady=1), Row(0.0), Row(12.0), Row(24.0), Row(30.0)]
    last = left(20 / K, 12) + rising(10, 12)
    assert amounts(*rows) == near([20 / K, 20 / K, last, left(last, 6)], rel=1e-10)


def test_a_reset_leaves_nothing_and_cancels_what_was_to_come():
    doses = [Row(0.0, 1, 100.0, additional=9, interval=2.0), Row(0.0, 1, 90.0, rate=9.0), Row(0.0, 1, 50.0, 2)]
    rows = [*doses, Row(4.0), Row(5.0, 3), Row(5.0), Row(30.0)]
    found = seen(schedule(as_records([rows]), compartments=2, lag=[0.0, 6.0]))
    assert found[0, 0] > 100
    assert found[1:].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_reset_and_dose_leaves_its_own_dose():
    found = amounts(Row(0.0, 1, 100.0, additional=9, interval=2.0), Row(5.0, 4, 50.0), Row(5.0), Row(7.0))
    assert found == near([50, left(50, 2)])


def test_every_repeat_of_a_reset_and_dose_resets():
    found = amounts(Row(0.0, 4, 100.0, additional=2, interval=12.0), Row(12.0), Row(25.0))
    assert found == near([100, left(100, 1)])


def test_times_of_a_file_come_to_the_table_as_they_are():
    text = "ID,TIME,AMT,DV\n1,1000000,100,.\n1,1000000.001,100,.\n1,1000000.002,.,1\n"
    table = schedule(nonmem.parse(text, "a.csv").records, compartments=1).intervals
    times = [1000000.0, 1000000.001, 1000000.002]
    assert (table.start.dtype, table.start[:, 0].tolist()) == (np.float64, times[:2])
    assert table.duration[:, 0].tolist() == np.diff(times).tolist()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        # From 0.5 mg at 0 h to 0.25 mg and, with the dose, 1.25 mg at 2 h: f(y-) - f(y+), carried on to 5 h.
        (square, (1.25**2 - 0.25**2) * (1 / (1 / 1.25 + 3) / 1.25) ** 2),
        # What the dose adds, exp(-K (t^2 - t0^2) / 2), by its time t0.
        (timed, 2 * K * exp(-K * (5**2 - 2**2) / 2)),
    ],
    ids=["not linear", "in a field that asks for the time"],
)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", NAMES)
def test_derivative_by_a_dose_time(name, gradient, field, expected):
    planned = plan([Dose(2.0, 1.0)], compartments=1, start=0.0, times=[5.0])
    _, found = slopes(create(name, gradient), planned, ["time"], 0.5, field)
    assert found["time"].tolist() == near([expected], rel=1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_steady_state_without_a_closed_form_and_its_derivative(name, gradient):
    """1 mg every 2 h into y' = -y^2, which has one after all: before a dose y solves 2 y^2 + 2 y - 1 = 0."""
    amount, every = 1.0, 2.0
    root = sqrt(amount**2 + 4 * amount / every)
    peak, slope = (amount + root) / 2, (1 + (amount + 2 / every) / root) / 2
    planned = plan([Dose(0.0, amount, every=every, steady_state=True)], compartments=1, start=0.0, times=[1.0])
    value, found = slopes(create(name, gradient), planned, ["amount"], 0.5, square)
    assert value == near(1 / (1 / peak + 1), rel=1e-8)
    assert found["amount"].tolist() == near([slope * (value / peak) ** 2], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_steady_state_that_no_course_reaches_is_a_failure(name):
    planned = plan([Dose(0.0, 1.0, every=2.0, steady_state=True)], compartments=1, start=0.0, times=[1.0])
    with pytest.raises(SolverFailure, match="steady state"):
        seen(planned, create(name), still)


@pytest.mark.parametrize("name", NAMES)
def test_subjects_at_rest_reach_their_steady_states_side_by_side_in_float32(name):
    """Rates from 0.1 to 10 / h: rounding alone changes a state in 24 h by more than the tolerance, and that of some is
    no reason to throw out those who have arrived."""
    rates = np.geomspace(0.1, 10.0, 300)

    def each(xp, params, t, y, covariates):
        flow = 0.7 * y[..., 0] - 0.4 * y[..., 1]
        return xp.stack([-covariates[..., 0] * y[..., 0] - flow, flow], -1)

    each.autonomous = True
    rows = [[Row(0.0, 1, rate=50.0, steady=1), Row(0.0)] for _ in rates]
    records = as_records(rows)._replace(covariates=np.repeat(rates, 2)[:, None])
    framework = frameworks.load(name).create(Solver(rtol=1e-5, atol=1e-7), precision="float32")
    found = seen(schedule(records, compartments=2, end=1.0), framework, each)
    assert found[:, 0].tolist() == near((50 / rates).tolist(), rel=1e-5)
    assert found[:, 1].tolist() == near((50 / rates * 0.7 / 0.4).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    "row", [Row(0.0, 1, 0.0, interval=12.0, steady=1), Row(0.0, 1, 0.0, rate=-2)], ids=["steady state", "modelled"]
)
def test_a_little_more_than_nothing_of_what_lasts_has_no_derivative(row):
    planned = schedule(as_records([[row, Row(5.0)]]), compartments=1, modelled_duration=2.0)
    with pytest.raises(ScheduleError, match="gives nothing"):
        slopes(create("diffrax"), planned, ["amount"], 0.0)


def test_a_compartment_that_the_model_lacks_is_refused_with_the_line_of_the_file():
    read = nonmem.parse("ID,TIME,AMT,CMT,DV\n7,0,100,1,.\n7,1,100,3,.\n", "a.csv")
    with pytest.raises(ScheduleError, match=r"^subject 0, line 3: compartment 3: choose 1 to 2"):
        schedule(read.records, compartments=2)


def test_a_file_without_evid_doses_where_there_is_an_amount():
    text = "ID,TIME,AMT,DV\n1,0,100,.\n1,5,0,7\n1,12,50,.\n1,12,.,9\n"
    found = seen(schedule(nonmem.parse(text, "a.csv").records, compartments=1))
    assert found[:, 0].tolist() == near([left(100, 5), left(100, 12) + 50])


def test_a_lag_that_lands_on_a_record_acts_before_it():
    assert amounts(Row(0.0, 1, 100.0), Row(1.0), Row(2.0), Row(3.0), lag=2.0) == near([0, 100, left(100, 1)])


def test_the_row_below_the_end_says_what_holds_until_there():
    rows = [Row(0.0, 1, 100.0), Row(10.0), Row(20.0, 1, 1.0, covariate=2.0), Row(30.0, 1, 1.0, covariate=3.0)]
    table = schedule(as_records([rows]), compartments=1, end=15.0).intervals
    assert table.covariates[:, 0, 0].tolist()[-1] == 2.0


@pytest.mark.parametrize("rate", [-1.0, -2.0])
def test_a_negative_amount_is_no_infusion(rate):
    rows = as_records([[Row(0.0, 1, -10.0, rate=rate), Row(2.0)]])
    with pytest.raises(ScheduleError, match="must not be negative in an infusion"):
        schedule(rows, compartments=1, modelled_rate=5.0, modelled_duration=5.0, negative=True)


def test_more_doses_than_memory_holds_are_refused():
    with pytest.raises(ScheduleError, match="more than 10,000,000 doses"):
        schedule(as_records([[Row(0.0, 1, 1.0, additional=2**30, interval=1.0), Row(2.0)]]), compartments=1)


def test_rows_of_more_subjects_than_there_are_to_be_are_refused():
    with pytest.raises(ScheduleError, match="subjects=1: there are histories of 2"):
        schedule(as_records([[Row(0.0), Row(1.0)], [Row(0.0), Row(1.0)]]), compartments=1, subjects=1)
