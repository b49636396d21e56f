"""Events to a padded table of intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .cycles import cycles_of, parts_of, steady_table
from .doses import DoseParameters, Doses
from .events import BOLUS, COVARIATE, EMPTY, END, OFF, ON, ROW, START, STEADY, Events, Timeline
from .intervals import Interval, Steady
from .records import Records


class Reports(NamedTuple):
    """Where in the table the state at each reported time is found, `[Q]`.

    Attributes:
        subject: Whose.
        time: h.
        record: Of which row, or -1.
        interval: S.
        point: K, of the interval's report points.
        side: `pre` or `post`, where the state jumps at that very time; `between`, where it does before and after; else
            empty.
    """

    subject: np.ndarray
    time: np.ndarray
    record: np.ndarray
    interval: np.ndarray
    point: np.ndarray
    side: np.ndarray


class Clock(NamedTuple):
    """What the table is computed from, for whoever differentiates it; see `clocks`.

    Attributes:
        records: Rows.
        parameters: Bioavailability, lag, modelled rates and durations.
        doses: Each dose that is given.
        events: What happens, in order.
        begins: Event at which each dose starts, -1 where it never does, `[M]`.
        stops: Event at which it stops, likewise, `[M]`.
        rows: Interval of each event, `[E]`.
        heads: Event at which each interval starts, `[S, B]`; -1 for padding.
        counted: Doses whose bolus no reset wipes out at once, `[M]`.
        steady: Rows of the steady states that enter, `[Z]`.
        entered: The interval that each enters, `[Z]`.
    """

    records: Records
    parameters: DoseParameters
    doses: Doses
    events: Events
    begins: np.ndarray
    stops: np.ndarray
    rows: np.ndarray
    heads: np.ndarray
    counted: np.ndarray
    steady: np.ndarray
    entered: np.ndarray


class Schedule(NamedTuple):
    """What becomes of dosing histories.

    Attributes:
        intervals: The table, float64, leaves `[S, B, ...]`; padded with intervals of no duration and no dose.
        ignored: Doses after the end, which change nothing, by subject, `[B]`.
        steady: Steady states that enter the table, or None.
        reports: Where the state at each reported time is found.
        clock: What the table was computed from.
    """

    intervals: Interval
    ignored: np.ndarray
    steady: Steady | None
    reports: Reports
    clock: Clock


def tabulate(rows: Records, parameters: DoseParameters, line: Timeline, doses: Doses, compartments: int) -> Schedule:
    """The table of intervals that events make."""
    story, count = line.events, len(line.ignored)
    of_event, heads = _cut(story, count)
    size = len(heads)
    present = heads >= 0
    times = np.where(present, story.time[heads], 0.0)
    ends = np.zeros(count)
    ends[story.subject[story.kind == END]] = story.time[story.kind == END]
    starts = np.where(present, times, ends)
    follows = np.concatenate([starts[1:], ends[None]])
    shape = (size, count, compartments)
    wiped = np.full(shape[:2], -1)  # the last reset of each interval's start
    empties = np.flatnonzero(_empties(story, rows))
    np.maximum.at(wiped, (of_event[empties], story.subject[empties]), empties)
    first = of_event[line.begins], rows.subject[doses.record]
    counted = (line.begins >= 0) & (doses.rate == 0) & (line.begins > wiped[first])
    settled = np.flatnonzero((story.kind == STEADY) & (np.arange(len(of_event)) >= wiped[of_event, story.subject]))
    steady, entered = story.record[settled], of_event[settled]
    clock = Clock(rows, parameters, doses, story, line.begins, line.stops, of_event, heads, counted, steady, entered)
    bolus, arrive = np.zeros(shape), np.flatnonzero(counted)
    np.add.at(bolus, (of_event[line.begins[arrive]], *entry(clock, arrive)), doses.amount[arrive])
    parts = parts_of(rows, parameters, steady)
    points, reports = _points(clock, starts, follows - starts)
    table = Interval(
        number=np.arange(size),
        start=starts,
        duration=follows - starts,
        bolus=bolus,
        rate=_rates(clock, shape),
        covariates=_covariates(clock, count),
        keep=(wiped < 0).astype(np.float64) if len(empties) else None,
        points=points,
    )
    entering = steady_table(rows, cycles_of(parts), parts, steady, entered, shape)
    return Schedule(table, line.ignored, entering, reports, clock)


def _empties(story: Events, rows: Records) -> np.ndarray:
    return (story.kind == EMPTY) | ((story.kind == STEADY) & (np.append(rows.steady, 0)[story.record] == 1))


def _cut(story: Events, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Interval of each event, `[E]`, and the event at which each interval starts, `[S, B]`, -1 for padding."""
    jumps = np.isin(story.kind, (EMPTY, STEADY, BOLUS))
    cuts = np.flatnonzero(jumps | np.isin(story.kind, (START, ON, OFF, COVARIATE)))
    seen = np.cumsum(story.report >= 0)
    apart = np.ones(len(cuts), bool)
    apart[1:] = story.moment[cuts[1:]] != story.moment[cuts[:-1]]
    cuts, apart = cuts[apart | jumps[cuts]], apart[apart | jumps[cuts]]
    # What is observed between two jumps at one moment needs an interval, of no duration, to be found in.
    fresh = apart.copy()
    fresh[1:] |= seen[cuts[1:]] > seen[cuts[:-1]]
    begins = np.zeros(len(story.kind), bool)
    begins[cuts[fresh]] = True
    number = np.cumsum(begins) - 1
    first = number[story.kind == START]  # every subject's timeline begins with one
    of_event = number - first[story.subject]
    heads = np.full((int(of_event.max()) + 1, count), -1)
    at = np.flatnonzero(begins)
    heads[of_event[at], story.subject[at]] = at
    return of_event, heads


class Infusions(NamedTuple):
    """Infusions that run, `[I]`.

    Attributes:
        dose: Which of the doses.
        begin: Interval, subject and compartment from which on it runs.
        ended: Whether it stops before the end.
        end: Interval, subject and compartment from which on it runs no more, of those.
    """

    dose: np.ndarray
    begin: tuple[np.ndarray, ...]
    ended: np.ndarray
    end: tuple[np.ndarray, ...]


def entry(clock: Clock, dose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subject and compartment, from 0, that doses enter."""
    record = clock.doses.record[dose]
    return clock.records.subject[record], clock.records.compartment[record].astype(np.int64) - 1


def infusions(clock: Clock) -> Infusions:
    """Where infusions begin and end."""
    dose = np.flatnonzero((clock.doses.rate > 0) & (clock.begins >= 0))
    ended = clock.stops[dose] >= 0
    begin = (clock.rows[clock.begins[dose]], *entry(clock, dose))
    return Infusions(dose, begin, ended, (clock.rows[clock.stops[dose[ended]]], *entry(clock, dose[ended])))


def running(course: Infusions, shape: tuple[int, ...]) -> np.ndarray:
    """How many infusions run in each interval, `[S, B, D]`."""
    change = np.zeros(shape, np.int64)
    np.add.at(change, course.begin, 1)
    np.subtract.at(change, course.end, 1)
    return np.cumsum(change, 0)


def _rates(clock: Clock, shape: tuple[int, ...]) -> np.ndarray | None:
    """Infusion rates in each interval, mg/h, `[S, B, D]`; None where nobody is infused."""
    course = infusions(clock)
    if not len(course.dose):
        return None
    rate, change = clock.doses.rate[course.dose], np.zeros(shape)
    np.add.at(change, course.begin, rate)
    np.subtract.at(change, course.end, rate[course.ended])
    # Where none runs, the rate is 0 and no rounding error.
    return np.where(running(course, shape) > 0, np.cumsum(change, 0), 0.0)


def _covariates(clock: Clock, count: int) -> np.ndarray | None:
    """Covariates of each interval, `[S, B, C]`: those of the row that ends it."""
    rows, story = clock.records, clock.events
    if rows.covariates is None:
        return None
    filed = (story.kind == ROW) & (story.record >= 0)
    moment, record = story.moment[filed], story.record[filed]
    head = story.moment[clock.heads]
    first = np.searchsorted(rows.subject, np.arange(count))
    last = np.searchsorted(rows.subject, np.arange(count), side="right") - 1
    in_time = np.full(count, -1)  # the last row before the end; the one below it says what holds until there
    early = np.flatnonzero(rows.time < story.time[clock.heads[0]][rows.subject])
    np.maximum.at(in_time, rows.subject[early], early)
    np.maximum.at(in_time, rows.subject[record], record)
    last = np.minimum(np.maximum(in_time + 1, first), last)
    following = np.append(record, -1)[np.searchsorted(moment, head, side="right")]
    own = (following >= 0) & (rows.subject[following] == np.arange(count)) & (clock.heads >= 0)
    return rows.covariates[np.where(own, following, last)]


def _points(clock: Clock, starts, durations) -> tuple[np.ndarray | None, Reports]:
    """Own times of each interval's reports, `[S, K, B]`, and where each report is found."""
    story = clock.events
    at = np.flatnonzero(story.report >= 0)
    subject, interval = story.subject[at], clock.rows[at]
    heads = np.concatenate([clock.heads, np.full((1, clock.heads.shape[1]), -1)])
    after = heads[interval + 1, subject]
    at_start = story.moment[at] == story.moment[heads[interval, subject]]
    at_end = ~at_start & (after >= 0) & (story.moment[at] == story.moment[after])
    duration = durations[interval, subject]
    within = ~at_start & ~at_end & (duration > 0)
    own = np.where(at_start, 0.0, 1.0)
    own[within] = (story.time[at][within] - starts[interval, subject][within]) / duration[within]
    inside = within & (own < 1.0)
    # Reports of one moment share a point.
    key = np.flatnonzero(inside)
    fresh = np.ones(len(key), bool)
    fresh[1:] = (np.diff(story.moment[at[key]]) != 0) | (np.diff(interval[key]) != 0) | (np.diff(subject[key]) != 0)
    number = np.cumsum(fresh)
    head = np.ones(len(key), bool)
    head[1:] = (np.diff(interval[key]) != 0) | (np.diff(subject[key]) != 0)
    first = number[np.maximum.accumulate(np.where(head, np.arange(len(key)), 0))] if len(key) else number
    slot = number - first + 1
    size = int(slot.max(initial=0)) + 2
    point = np.where(own == 0, 0, size - 1)
    point[key] = slot
    points = np.ones((*starts.shape[:1], size, starts.shape[1]))
    points[:, 0] = 0.0
    points[interval[key], slot, subject[key]] = own[key]
    order = np.argsort(story.report[at], kind="stable")
    reports = Reports(subject, story.time[at], story.record[at], interval, point, _sides(story, at))
    return (points if len(at) else None), Reports(*(leaf[order] for leaf in reports))


def _sides(story: Events, at: np.ndarray) -> np.ndarray:
    """`pre`, `post`, `between` or nothing, for each event in `at`."""
    jumps = np.cumsum(np.isin(story.kind, (EMPTY, STEADY, BOLUS)))
    number = np.cumsum(np.append(True, np.diff(story.moment) != 0)) - 1
    edges = np.flatnonzero(np.append(True, np.diff(story.moment) != 0))
    before_moment = np.append(0, jumps)[edges][number[at]]
    to_the_end = jumps[np.append(edges[1:], len(story.kind)) - 1][number[at]]
    before, after = jumps[at] > before_moment, to_the_end > jumps[at]
    return np.select([before & after, before, after], ["between", "post", "pre"], "")
