"""A schedule as a differentiable function of what its doses are: amounts, times, lags, bioavailability, rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .arrays.base import Array, Arrays
from .cycles import Cycles, Parts, cycles_of, parts_of, segments, slots_of
from .doses import Doses
from .errors import ScheduleError
from .events import BOLUS, COVARIATE, EMPTY, OFF, ON, ROW, STEADY
from .intervals import Interval, Steady
from .records import MODELLED_DURATION, MODELLED_RATE, OBSERVATION, OTHER, Records
from .table import Clock, Schedule, entry, infusions, running

BY_ROW = ("time", "amount", "rate", "interval")
BY_COMPARTMENT = ("bioavailability", "lag", "modelled_rate", "modelled_duration")
QUANTITIES = (*BY_ROW, *BY_COMPARTMENT)


def differentiable(
    arrays: Arrays, schedule: Schedule, quantities: Mapping[str, Array]
) -> tuple[Interval, Steady | None]:
    """The schedule's table and steady states, with the derivatives that the quantities give them.

    The values are the schedule's own, whatever the quantities' are: these must be those that it was made of. A dose
    time moves the cut where the state jumps, and so the clocks of both intervals that meet there: the derivative
    through the jump (the saltation term) needs nothing more. Times of observations stay.

    Args:
        arrays: The array library.
        schedule: From `dosing.schedule`.
        quantities: Some of `time`, `amount`, `rate` and `interval` (II), by row of the records, `[N]`; of
            `bioavailability`, `lag`, `modelled_rate` and `modelled_duration`, `[B, D]`.

    Raises:
        ScheduleError: A name is unknown or a shape wrong; or something that moves with a quantity meets, at one time,
            something that does not move with it: there is no derivative then.
    """
    clock = schedule.clock
    _check(clock, quantities)
    _apart(clock, set(quantities))
    full = _full(arrays, clock, quantities)
    doses = _doses(arrays, clock.records, clock.doses, full)
    table, shape = arrays.table(schedule.intervals), schedule.intervals.bolus.shape
    shift = _shift(arrays, clock, full, doses)
    change = arrays.xp.concatenate([shift[1:], 0 * shift[:1]]) - shift
    counted = np.flatnonzero(clock.counted)
    place = (clock.rows[clock.begins[counted]], *entry(clock, counted))
    bolus = table.bolus + _summed(arrays, _moved(arrays, doses.amount)[counted], place, shape)
    table = table._replace(start=table.start + shift, duration=table.duration + change, bolus=bolus)
    if table.rate is not None:
        table = table._replace(rate=table.rate + _rates(arrays, clock, _moved(arrays, doses.rate), shape))
    if table.points is not None:
        table = table._replace(drift=_drift(arrays, schedule.intervals, shift, change))
    return table, _steady(arrays, schedule, full)


class _Doses(NamedTuple):
    """Doses in the array library, `[M]`: mg, mg/h, h."""

    amount: Array
    rate: Array
    length: Array
    again: Array  # when the row repeats
    start: Array
    stop: Array


def _check(clock: Clock, quantities: Mapping[str, Array]) -> None:
    shapes = dict.fromkeys(BY_ROW, clock.records.time.shape)
    shapes |= dict.fromkeys(BY_COMPARTMENT, clock.parameters.lag.shape)
    for name, value in quantities.items():
        if name not in shapes:
            raise ScheduleError(f"{name}: nothing to differentiate by; choose among {', '.join(QUANTITIES)}")
        if tuple(value.shape) != shapes[name]:
            raise ScheduleError(f"{name}: has shape {list(value.shape)}; needs {list(shapes[name])}")


def _full(arrays: Arrays, clock: Clock, quantities: Mapping[str, Array]) -> dict[str, Array]:
    """Every quantity in the array library, those that are not differentiated as constants."""
    own = {name: getattr(clock.records, name) for name in BY_ROW} | clock.parameters._asdict()
    # What nothing uses may be no number (a modelled rate that there is none of), and would spoil what it meets.
    return {
        name: arrays.xp.nan_to_num(quantities[name], nan=0.0) if name in quantities
        else arrays.asarray(np.nan_to_num(own[name]))
        for name in own
    }  # fmt: skip


def _moved(arrays: Arrays, x: Array) -> Array:
    """Zeros that carry the derivative of `x`."""
    return x - arrays.stop_gradient(x)


def _doses(arrays: Arrays, records: Records, doses: Doses, full: dict[str, Array]) -> _Doses:
    """What `events.given` computes, in the array library."""
    record, number = doses.record, arrays.asarray
    where = records.subject[record], records.compartment[record].astype(np.int64) - 1
    kind, infused = records.rate[record], doses.rate > 0
    by_row = {name: full[name][record] for name in BY_ROW}
    by_compartment = {name: full[name][where] for name in BY_COMPARTMENT}
    amount = by_compartment["bioavailability"] * by_row["amount"]
    fixed = number(infused & (kind > 0))
    rated = number(infused & (kind == MODELLED_RATE))
    lasting = number(infused & (kind == MODELLED_DURATION))
    given = by_row["rate"] * fixed + by_compartment["modelled_rate"] * rated
    duration = by_compartment["modelled_duration"] * lasting
    # Where there is nothing to divide by, by one: what is left out would else come back as NaN in the derivative.
    length = amount / (given + (1 - fixed - rated)) * (fixed + rated) + duration
    rate = given + amount / (duration + (1 - lasting)) * lasting
    again = by_row["time"] + number(doses.repeat) * by_row["interval"]
    start = again + by_compartment["lag"] - number(doses.implied) * by_row["interval"]
    return _Doses(amount, rate, length, again, start, start + length)


FIXED, BY_ROW_TIME, BY_REPEAT, BY_START, BY_STOP = range(5)  # what the time of an event follows from


def _source(clock: Clock) -> np.ndarray:
    """What the time of each event follows from, `[E]`."""
    story = clock.events
    dosed = ~np.isin(clock.records.kind[story.record], (OBSERVATION, OTHER))
    implied = clock.doses.implied[story.dose] > 0 if len(clock.doses.record) else np.zeros(len(story.dose), bool)
    enters = (story.kind == BOLUS) | (story.kind == ON)
    of_row = ((story.kind == COVARIATE) & dosed) | (story.kind == STEADY) | (story.kind == EMPTY) | (enters & implied)
    return np.select(
        [(story.kind == EMPTY) & (story.repeat > 0), of_row, enters, story.kind == OFF],
        [BY_REPEAT, BY_ROW_TIME, BY_START, BY_STOP],
        FIXED,
    )


def _shift(arrays: Arrays, clock: Clock, full: dict[str, Array], doses: _Doses) -> Array:
    """Zeros that carry how the start of each interval moves, `[S, B]`."""
    rows, size = len(clock.records.time), len(clock.doses.record)
    sources = [arrays.asarray(np.zeros(1)), full["time"], doses.again, doses.start, doses.stop]
    story, source = clock.events, _source(clock)
    offset = np.array([0, 1, 1 + rows, 1 + rows + size, 1 + rows + 2 * size])[source]
    index = offset + np.select([source == FIXED, source == BY_ROW_TIME], [0, story.record], story.dose)
    heads = np.where(clock.heads >= 0, index[clock.heads], 0)
    return arrays.xp.concatenate([_moved(arrays, leaf) for leaf in sources])[heads]


def _lasting(kind: np.ndarray, names: set[str]) -> np.ndarray:
    """Whether the length of an infusion with this RATE moves with a quantity."""
    return np.select(
        [kind == MODELLED_DURATION, kind == MODELLED_RATE],
        ["modelled_duration" in names, bool(names & {"amount", "bioavailability", "modelled_rate"})],
        bool(names & {"amount", "bioavailability", "rate"}),
    ).astype(bool)


def _apart(clock: Clock, names: set[str]) -> None:
    """Raise where what moves with a quantity meets what does not: the state there has two derivatives, or none."""
    story, source, doses, records = clock.events, _source(clock), clock.doses, clock.records
    dose = np.where(story.dose >= 0, story.dose, 0)
    lengths = _lasting(records.rate[story.record], names)
    times = doses.repeat[dose] - doses.implied[dose] if len(doses.record) else np.zeros(len(dose), np.int64)
    compartment = records.compartment[story.record].astype(np.int64)
    place = records.subject[story.record] * clock.parameters.lag.shape[1] + compartment
    moves = np.stack([
        np.where((source > FIXED) & ("time" in names), story.record, -1),
        np.where((source > BY_ROW_TIME) & (times != 0) & ("interval" in names), story.record, -1),
        np.where((source > BY_ROW_TIME) & ("interval" in names), times, 0),
        np.where((source > BY_REPEAT) & ("lag" in names), place, -1),
        np.where((source == BY_STOP) & lengths, story.record, -1),
    ])  # fmt: skip
    counts = np.flatnonzero((story.kind != ROW) | (story.report >= 0))
    moment, moves = story.moment[counts], moves[:, counts]
    first = np.flatnonzero(np.append(True, np.diff(moment) != 0))
    lead = first[np.cumsum(np.append(True, np.diff(moment) != 0)) - 1]
    if (mixed := (moves != moves[:, lead]).any(0)).any():
        event = counts[np.flatnonzero(mixed)[0]]
        raise ScheduleError(
            f"subject {story.subject[event]}, {story.time[event]:g} h: something that moves with "
            f"{', '.join(sorted(names))} meets an observation, a bound or another event that does not; the state there "
            "has no derivative. Move one of them, or leave the quantity out"
        )
    _overlapping(clock, names)
    _nothing(clock, names)


def _overlapping(clock: Clock, names: set[str]) -> None:
    """Raise where a steady state's infusions last whole intervals: one ends as another begins, whatever it moves."""
    records, steady = clock.records, clock.steady
    parts = parts_of(records, clock.parameters, steady)
    cycles = cycles_of(parts)
    meets = (parts.rate > 0) & (cycles.constant == 0) & (cycles.rests == 0)
    meets &= _lasting(records.rate[steady], names) | ("interval" in names)
    if meets.any():
        row = steady[np.flatnonzero(meets)[0]]
        raise ScheduleError(
            f"subject {records.subject[row]}, {records.time[row]:g} h: at this steady state one infusion ends as "
            f"another begins; there is no derivative by {', '.join(sorted(names))}. Leave the quantity out"
        )


def _nothing(clock: Clock, names: set[str]) -> None:
    """Raise where nothing is given, and a little would not be given as the table has it: over days, or for ever."""
    records, dosed = clock.records, clock.doses.record
    steady = (records.steady[dosed] > 0) & (records.interval[dosed] > 0)
    wrong = (clock.doses.amount == 0) & (steady | (records.rate[dosed] == MODELLED_DURATION))
    if names & {"amount", "bioavailability"} and wrong.any():
        row = dosed[np.flatnonzero(wrong)[0]]
        raise ScheduleError(
            f"subject {records.subject[row]}, {records.time[row]:g} h: this steady state or modelled duration gives "
            f"nothing; there is no derivative by {', '.join(sorted(names))}. Give a little, or leave the quantity out"
        )


def _summed(arrays: Arrays, values: Array, place: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> Array:
    """`values` added up where they belong in an array of zeros."""
    flat = np.ravel_multi_index(place, shape)
    return arrays.segment_sum(values, flat, int(np.prod(shape))).reshape(shape)


def _rates(arrays: Arrays, clock: Clock, moved: Array, shape: tuple[int, ...]) -> Array:
    """Zeros that carry how infusion rates change, `[S, B, D]`."""
    course = infusions(clock)
    change = _summed(arrays, moved[course.dose], course.begin, shape)
    change = change - _summed(arrays, moved[course.dose[course.ended]], course.end, shape)
    return arrays.xp.cumsum(change, 0) * arrays.asarray(running(course, shape) > 0)


def _drift(arrays: Arrays, nominal: Interval, shift: Array, change: Array) -> Array:
    """Zeros that carry how each report's own time changes while its clock time stays, `[S, K, B]`."""
    points, duration = nominal.points, nominal.duration[:, None]
    inside = (points > 0) & (points < 1) & (duration > 0)
    share = arrays.asarray(-1.0 * inside / np.where(duration > 0, duration, 1.0))
    return share * (shift[:, None] + arrays.asarray(points) * change[:, None])


def _steady(arrays: Arrays, schedule: Schedule, full: dict[str, Array]) -> Steady | None:
    """Steady states, whose cycles follow the quantities."""
    if schedule.steady is None:
        return None
    clock = schedule.clock
    record, table = clock.steady, arrays.table(schedule.steady)
    nominal = parts_of(clock.records, clock.parameters, record)
    cycles = cycles_of(nominal)
    never = np.zeros(len(record), np.int64)
    own = Doses(record, never, never, never, never, never, nominal.rate)
    doses = _doses(arrays, clock.records, own, full)
    subject, compartment = clock.records.subject[record], clock.records.compartment[record].astype(np.int64) - 1
    parts = Parts(
        lag=full["lag"][subject, compartment] * arrays.asarray(1 - cycles.constant),
        length=doses.length,
        interval=full["interval"][record],
        amount=doses.amount * arrays.asarray(nominal.rate == 0),
        rate=doses.rate,
    )
    durations, rates = segments(Cycles(*(arrays.asarray(leaf) for leaf in cycles)), parts)
    slot, cycle = slots_of(clock.records, record), table.cycle
    start, duration, bolus, rate = cycle.start, cycle.duration, cycle.bolus, cycle.rate
    elapsed = full["time"][record]
    for k in range(3):
        spot = (np.full(len(record), k), slot, subject)
        start = start + _summed(arrays, _moved(arrays, elapsed), spot, tuple(start.shape))
        elapsed = elapsed + durations[k]
        duration = duration + _summed(arrays, _moved(arrays, durations[k]), spot, tuple(duration.shape))
        if rate is not None:
            rate = rate + _summed(arrays, _moved(arrays, rates[k]), (*spot, compartment), tuple(rate.shape))
    place = (np.ones(len(record), np.int64), slot, subject, compartment)
    bolus = bolus + _summed(arrays, _moved(arrays, parts.amount), place, tuple(bolus.shape))
    return table._replace(cycle=cycle._replace(start=start, duration=duration, bolus=bolus, rate=rate))
