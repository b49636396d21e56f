"""Dosing histories as pharmacometricians write them: one row an event, in NONMEM's terms; and the same in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import DataError, ScheduleError

OBSERVATION, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)  # EVID
MODELLED_RATE, MODELLED_DURATION = -1, -2  # RATE


class Records(NamedTuple):
    """Rows of all subjects, `[N]` each: those of a subject together, in file order, times not decreasing.

    Attributes:
        subject: Which subject the row belongs to, from 0, not decreasing.
        time: TIME, h.
        kind: EVID: 0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose.
        amount: AMT, mg; 0 where nothing is given.
        compartment: CMT, from 1: what is dosed or, in an observation, observed.
        rate: RATE, mg/h: 0 bolus, above 0 an infusion, -1 modelled rate, -2 modelled duration.
        additional: ADDL, further doses.
        interval: II, h between them; 0 where there is none.
        steady: SS: 0, 1 (the state is replaced by the steady state) or 2 (it is added).
        observed: DV, in the data's own unit; NaN where there is none.
        used: Whether DV counts: an observation with MDV 0 that has a value.
        covariates: `[N, C]`, or None. The value of the row that ends a span of time holds in it.
        censored: CENS: 0 not, 1 below the limit `observed`, -1 above it; or None.
        limit: LLOQ or LIMIT, in the data's own unit, NaN where there is none; or None.
        line: For messages: where each row stands in its file, from 1; what is written in Python, among its subject's
            events, as -1, -2 and so on; or None.
    """

    subject: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    amount: np.ndarray
    compartment: np.ndarray
    rate: np.ndarray
    additional: np.ndarray
    interval: np.ndarray
    steady: np.ndarray
    observed: np.ndarray
    used: np.ndarray
    covariates: np.ndarray | None = None
    censored: np.ndarray | None = None
    limit: np.ndarray | None = None
    line: np.ndarray | None = None


class Dose(NamedTuple):
    """A bolus, or a course of them.

    Attributes:
        time: Of the first, h.
        amount: Of each, mg.
        compartment: Which compartment it enters, from 1.
        every: h from dose to dose; 0 where there is one.
        count: How many there are.
        steady_state: Whether the course has gone on for ever when its first dose is given: what is in the body then
            is replaced by its steady state.
    """

    time: float
    amount: float
    compartment: int = 1
    every: float = 0.0
    count: int = 1  # type: ignore[assignment]
    steady_state: bool = False


class Infusion(NamedTuple):
    """An infusion at a constant rate, or a course of them; needs one of `duration` and `rate`.

    Attributes:
        time: When the first starts, h.
        amount: Of each, mg.
        duration: h; the rate is then `amount / duration`.
        rate: mg/h. Bioavailability changes how long it runs, not the rate.
        compartment: Which compartment it enters, from 1.
        every: h from start to start; 0 where there is one.
        count: How many there are.
        steady_state: As in `Dose`.
    """

    time: float
    amount: float
    duration: float | None = None
    rate: float | None = None
    compartment: int = 1
    every: float = 0.0
    count: int = 1  # type: ignore[assignment]
    steady_state: bool = False


class Reset(NamedTuple):
    """Every compartment is emptied, infusions stop, and doses still to come of what went before are cancelled.

    Attributes:
        time: h.
    """

    time: float


Event = Dose | Infusion | Reset


def records(histories: Sequence[Iterable[Event]]) -> Records:
    """What is written in Python, as rows: sorted by time, at one time in the order given.

    Args:
        histories: Events of each subject, in any order.

    Raises:
        ScheduleError: An infusion has neither a duration nor a rate, or both; a count or an interval is impossible; a
            history is no list of events.
    """
    rows = []
    for subject, history in enumerate(histories):
        events = list(history)
        if strange := [event for event in events if not isinstance(event, Event)]:  # a Dose is a tuple of numbers
            raise ScheduleError(f"subject {subject}: needs Dose, Infusion and Reset in a list; holds {strange[0]!r}")
        for number, event in enumerate(events):
            try:
                rows.append((subject, number, *_row(event)))
            except ScheduleError as error:
                raise ScheduleError(f"subject {subject}, event {number}: {error}") from None
    # A NaN would leave the order undefined: it is put first, and refused by whoever checks the rows.
    rows.sort(key=lambda row: (row[0], row[2] if row[2] == row[2] else -np.inf))
    columns = np.array(rows, np.float64).reshape(-1, 10).T
    subjects, numbers, time, kind, amount, compartment, rate, additional, interval, steady = columns
    nothing = np.full(len(time), np.nan)
    # Compartments stay as they are written: 1.5 is refused where they are checked, not rounded.
    return Records(
        subjects.astype(np.int64), time, kind.astype(np.int64), amount, compartment, rate,
        additional.astype(np.int64), interval, steady.astype(np.int64), nothing, np.zeros(len(time), bool),
        line=-1 - numbers.astype(np.int64),
    )  # fmt: skip


def place(rows: Records, row: int) -> str:
    """What messages call a row: its line in a file, or its number among the subject's events, from 0."""
    line = None if rows.line is None else int(rows.line[row])
    own = f"row {row}" if line is None else f"line {line}" if line > 0 else f"event {-1 - line}"
    return f"subject {rows.subject[row]}, {own}"


def _row(event: Event) -> tuple[float, ...]:
    """TIME, EVID, AMT, CMT, RATE, ADDL, II, SS."""
    if isinstance(event, Reset):
        return event.time, RESET, 0.0, 1, 0.0, 0, 0.0, 0
    if not (1 <= event.count < 2**31 and event.count == int(event.count)):
        raise ScheduleError(f"count {event.count}: must be 1 or more")
    if (event.count > 1 or event.steady_state) and not 0 < event.every < np.inf:
        raise ScheduleError(f"every {event.every} h: a course needs an interval above 0")
    rate = 0.0
    if isinstance(event, Infusion):
        if (event.duration is None) == (event.rate is None):
            raise ScheduleError(f"duration {event.duration} h, rate {event.rate} mg/h: give one of the two")
        if event.duration is not None and not 0 < event.duration < np.inf:
            raise ScheduleError(f"duration {event.duration} h: must be above 0, and finite")
        if event.rate is not None and not 0 < event.rate < np.inf:
            raise ScheduleError(f"rate {event.rate} mg/h: must be above 0, and finite")
        if event.amount < 0:  # its rate would be read as a code
            raise ScheduleError(f"amount {event.amount} mg: an infusion's must not be negative")
        rate = event.amount / event.duration if event.duration is not None else event.rate or 0.0
    return (
        event.time, DOSE, event.amount, event.compartment, rate, event.count - 1, event.every,
        int(event.steady_state),
    )  # fmt: skip


def check(
    records: Records, place: Callable[[int], str], error: type[Exception] = DataError, *, negative: bool = False
) -> None:
    """Refuse rows that mean nothing; of several, the first is told.

    Args:
        records: From a file or not: whole numbers may be floats, and are refused where they are not whole.
        place: What messages call a row, from its number.
        negative: Whether amounts may be negative.
        error: What is raised; its message has the place, the column and the value.
    """
    faults = [
        (int(wrong.argmax()), f"{column} {shortest(values[wrong][:1])[0]}: {what}")
        for column, values, wrong, what in _rules(records, negative)
        if wrong.any()
    ]
    if faults:
        row, message = min(faults, key=lambda fault: fault[0])
        raise error(f"{place(row)}: {message}")


def _rules(records: Records, negative: bool) -> Iterator[tuple[str, Any, Any, str]]:
    """Column, its values, where they are wrong, and why. Of the faults of a row, the first here is told."""
    subject, time, kind, amount, compartment, rate, additional, interval, steady, observed = (
        np.asarray(column, np.float64) for column in records[:10]
    )
    step, above = np.diff(subject, prepend=subject[:1]), np.concatenate([time[:1], time[:-1]])
    gives, idle = np.isin(kind, (DOSE, RESET_AND_DOSE)), np.isin(kind, (OBSERVATION, RESET))
    modelled = np.isin(rate, (MODELLED_RATE, MODELLED_DURATION))
    constant = (steady > 0) & (amount == 0) & (additional == 0) & (interval == 0) & (rate != MODELLED_DURATION)
    counts = (kind == OBSERVATION) & np.isfinite(observed)
    # Written as what is not right, where a comparison alone would let NaN pass.
    yield "ID", subject, ~((step >= 0) & (subject >= 0)), "the rows of a subject must be together, numbered from 0"
    yield "TIME", time, ~np.isfinite(time), "must be a finite number"
    yield "TIME", time, (time < above) & (step == 0), "must not be before that of the subject's row above"
    yield "EVID", kind, ~np.isin(kind, (0, 1, 2, 3, 4)), "must be 0, 1, 2, 3 or 4"
    yield "AMT", amount, ~np.isfinite(amount), "must be a finite number"
    if not negative:
        yield "AMT", amount, amount < 0, "must not be negative (negative=True allows it)"
    yield "RATE", rate, ~(np.isfinite(rate) & ((rate >= 0) | modelled)), "must be 0 or more, -1 or -2, and finite"
    yield "ADDL", additional, ~_whole(additional), "must be a whole number, 0 or more, below 2**31"
    yield "II", interval, ~(np.isfinite(interval) & (interval >= 0)), "must be 0 or more, and finite"
    yield "SS", steady, ~np.isin(steady, (0, 1, 2)), "must be 0, 1 or 2"
    cmt = _whole(compartment) & ((compartment > 0) | ~gives)
    yield "CMT", compartment, ~cmt, "must be a whole number, 1 or more (0 in a file: the usual one), below 2**31"
    if records.censored is not None:
        censored = np.asarray(records.censored, np.float64)
        yield "CENS", censored, ~np.isin(censored, (-1, 0, 1)), "must be -1, 0 or 1"
    for column, values in (("AMT", amount), ("RATE", rate), ("ADDL", additional)):
        yield column, values, idle & (values != 0), "must be 0 in an observation or a reset (EVID 0 or 3)"
    yield "SS", steady, (steady > 0) & ~gives, "must be 0 in a row that is no dose (EVID 1 or 4)"
    yield "II", interval, (additional > 0) & (interval <= 0), "must be above 0 where ADDL is"
    unless = "unless it is a constant infusion: SS above 0, AMT, ADDL and II 0, RATE not -2"
    yield "II", interval, (steady > 0) & (interval <= 0) & ~constant, f"must be above 0 where SS is, {unless}"
    yield "AMT", amount, modelled & (amount < 0), "must not be negative in an infusion"
    if records.covariates is not None:
        unknown = ~np.isfinite(np.asarray(records.covariates, np.float64)).all(1)
        yield "covariates", np.where(unknown, np.nan, 0.0), unknown, "must be finite numbers"
    yield "AMT", amount, (rate > 0) & (amount <= 0) & ~constant, f"must be above 0 where RATE is, {unless}"
    yield "DV", observed, np.asarray(records.used, bool) & ~counts, "is used, and is no observation's finite value"


def _whole(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values < 2**31) & (values == np.floor(values))


def shortest(values: np.ndarray) -> list[str]:
    """Shortest texts that read as the same bits."""
    return [text.removesuffix(".0") for text in map(repr, values.tolist())]
