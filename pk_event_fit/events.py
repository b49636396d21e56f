"""Records and doses to events: what happens to a subject, in the order in which it happens."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .doses import TIE, Doses
from .records import OBSERVATION, OTHER, RESET, RESET_AND_DOSE, Records

# What an event does; at one moment and of one row, in this order.
START, ROW, EMPTY, STEADY, BOLUS, ON, OFF, COVARIATE, END = range(9)
# At one moment: the start, reports that ask for it, what was scheduled before, rows in file order, reports after all.
FIRST, BEFORE, SCHEDULED, FILED, AFTER, LAST = range(6)


class Events(NamedTuple):
    """What happens, `[E]`, in order: by subject, then by moment, then as the rules of one moment say.

    Attributes:
        subject: To whom.
        moment: When, by number: times within 4 units in the last place are one moment.
        time: When, h; one for all of a moment.
        kind: What, `START` to `END`.
        record: Of which row; -1 for none.
        dose: Of which dose; -1 for none.
        report: Which report is asked for here; -1 for none.
        repeat: Of which of the row's doses, from 0.
    """

    subject: np.ndarray
    moment: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    record: np.ndarray
    dose: np.ndarray
    report: np.ndarray
    repeat: np.ndarray


class _Raw(NamedTuple):
    """Events before they are in order."""

    subject: np.ndarray
    time: np.ndarray
    rank: np.ndarray
    kind: np.ndarray
    record: np.ndarray
    dose: np.ndarray
    report: np.ndarray
    repeat: np.ndarray


def _raw(subject, time, rank, kind, record=-1, dose=-1, report=-1, repeat=0) -> _Raw:
    subject = np.asarray(subject, np.int64)
    rest = (np.broadcast_to(np.asarray(x, np.int64), subject.shape) for x in (rank, kind, record, dose, report, repeat))
    return _Raw(subject, np.broadcast_to(np.asarray(time, np.float64), subject.shape), *rest)


class Timeline(NamedTuple):
    """What happens to all subjects, and which doses it is made of.

    Attributes:
        events: In their order.
        begins: Event at which each dose starts to arrive, `[M]`, the start where it runs by then, or -1 for never.
        stops: Event at which it stops: its own end, or the reset that ends it; -1 where it has none.
        ignored: Doses of each subject that come after its end and change nothing, `[B]`.
    """

    events: Events
    begins: np.ndarray
    stops: np.ndarray
    ignored: np.ndarray


def timeline(records: Records, doses: Doses, start: np.ndarray, end: np.ndarray, asked: _Raw) -> Timeline:
    """All events in their order, without what a reset cancels and without what comes before the start or after the end.

    Args:
        records: Rows.
        doses: What they give.
        start: Beginning of each subject's time, h, `[B]`.
        end: Its end, h, `[B]`.
        asked: Reports that are not rows, by `reports`.
    """
    raw = _collected(records, doses, start, end, asked)
    moment, clock = _moments(raw)
    rows = np.full(len(records.time) + 1, -1)  # the last stands for no row
    filed = (raw.kind == ROW) & (raw.record >= 0)
    rows[raw.record[filed]] = moment[filed]
    # What is scheduled for later, but by less than the clock can tell, happens with its row.
    early = (raw.rank == SCHEDULED) & (moment == rows[raw.record])
    order = _ordered(moment, np.where(early, FILED, raw.rank), raw.record, raw.repeat, raw.kind)
    raw, moment = _Raw(*(leaf[order] for leaf in raw)), moment[order]
    enters = (raw.kind == BOLUS) | (raw.kind == ON)
    starts, ends = (np.flatnonzero(raw.kind == kind) for kind in (START, END))  # one of each subject, in their order
    past, late = moment < moment[starts][raw.subject], moment > moment[ends][raw.subject]
    written = enters & (np.append(doses.implied, 0)[raw.dose] == 0)  # and not implied by a steady state
    ignored = np.bincount(raw.subject[late & written], minlength=len(start))
    begins, stops = (_positions(raw.dose, chosen, len(doses.record)) for chosen in (enters, raw.kind == OFF))
    cancelled, stops = _cancelled(records, doses, raw, begins, stops)
    # What began before the start and did not stop by then runs from the start on.
    own = starts[records.subject[doses.record]]
    runs = (doses.rate > 0) & (begins < own) & ~cancelled[begins] & ((stops < 0) | (stops > own))
    begins = np.where(runs, own, begins)
    alive = ~(past | late | cancelled)
    place = np.where(alive, np.cumsum(alive) - 1, -1)
    events = Events(raw.subject, moment, clock[moment], *raw[3:])
    begins, stops = (np.where(at >= 0, place[at], -1) for at in (begins, stops))
    return Timeline(Events(*(leaf[alive] for leaf in events)), begins, stops, ignored)


def reports(subject: np.ndarray, time: np.ndarray, rank: np.ndarray) -> _Raw:
    """Reports at times that are no rows: before all that happens then (`BEFORE`), or after it (`AFTER`)."""
    return _raw(subject, time, rank, ROW, report=np.arange(len(subject)))


def _collected(records, doses, start, end, asked) -> _Raw:
    """All events, in no order."""
    subjects, rows, subject = np.arange(len(start)), np.arange(len(records.time)), records.subject
    told = (records.kind == OBSERVATION) | (records.kind == OTHER)
    report = np.where(told, np.cumsum(told) - 1 + len(asked.time), -1)
    empty = np.flatnonzero((records.kind == RESET) | (records.kind == RESET_AND_DOSE))
    again = (records.kind[doses.record] == RESET_AND_DOSE) & (doses.repeat > 0)
    steady = np.flatnonzero(records.steady > 0)
    source, dose = subject[doses.record], np.arange(len(doses.record))
    infused, implied = doses.rate > 0, doses.implied > 0
    # Infusions that are implied run already when the record comes; repeats and what has a lag come by schedule.
    begin = np.where(implied, records.time[doses.record], doses.start)
    rank = np.where(implied | ((doses.repeat == 0) & (doses.start == records.time[doses.record])), FILED, SCHEDULED)
    of_dose = {"record": doses.record, "dose": dose, "repeat": doses.repeat}
    some, resets = ({name: value[chosen] for name, value in of_dose.items()} for chosen in (infused, again))
    repeated = records.time[doses.record] + doses.repeat * records.interval[doses.record]
    parts = [
        _raw(subjects, start, FIRST, START),
        _raw(subjects, end, LAST, END),
        asked,
        _raw(subject, records.time, FILED, ROW, rows, report=report),
        _raw(subject[empty], records.time[empty], FILED, EMPTY, empty),
        _raw(source[again], repeated[again], SCHEDULED, EMPTY, **resets),
        _raw(subject[steady], records.time[steady], FILED, STEADY, steady),
        _raw(source, begin, rank, np.where(infused, ON, BOLUS), **of_dose),
        _raw(source[infused], (doses.start + doses.length)[infused], SCHEDULED, OFF, **some),
    ]
    if records.covariates is not None:
        # A row's value holds until that row: where the next row's is another, it changes here.
        changed = (records.covariates[1:] != records.covariates[:-1]).any(1) & (subject[1:] == subject[:-1])
        at = np.flatnonzero(changed)
        parts.append(_raw(subject[at], records.time[at], FILED, COVARIATE, at))
    return _Raw(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def _moments(raw: _Raw) -> tuple[np.ndarray, np.ndarray]:
    """Number of each event's moment, `[E]`, and the clock of each moment, h."""
    order = _chronological(raw.subject, raw.time)
    time, subject = raw.time[order], raw.subject[order]
    reach = TIE * np.spacing(np.abs(time))
    fresh = np.ones(len(time), bool)
    fresh[1:] = (subject[1:] != subject[:-1]) | (np.diff(time) > np.maximum(reach[1:], reach[:-1]))
    number = np.cumsum(fresh) - 1
    first = np.flatnonzero(fresh)
    # A chain of times, each within a tie of the one before, is cut where it leaves the tie of its first.
    chained = np.unique(number[time - time[first][number] > np.maximum(reach, reach[first][number])])
    for begin, end in zip(first[chained], np.append(first, len(time))[chained + 1], strict=True):
        for k in range(begin + 1, end):
            if time[k] - time[begin] > max(reach[k], reach[begin]):
                fresh[k], begin = True, k
    number, first = np.cumsum(fresh) - 1, np.flatnonzero(fresh)
    moment = np.empty(len(time), np.int64)
    moment[order] = number
    clock = time[first]
    for kind in (START, END):  # exactly as they were asked for
        clock[moment[raw.kind == kind]] = raw.time[raw.kind == kind]
    return moment, clock


def _chronological(subject: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Order by subject and time. Records come nearly in it, which a single key lets the sort make use of."""
    span = float(np.ptp(time)) or 1.0
    order = np.argsort(2.0 * subject + (time - time.min()) / span, kind="stable")
    before, after = order[:-1], order[1:]
    # The key has rounding errors: what lies closer than these is told apart by the exact sort.
    fine = (subject[before] != subject[after]) | (time[before] <= time[after])
    return order if fine.all() else np.lexsort((time, subject))


def _ordered(moment, rank, record, repeat, kind) -> np.ndarray:
    """Order by moment, rank, row, repeat and kind, likewise."""
    sizes = (LAST + 1, int(record.max(initial=0)) + 2, int(repeat.max(initial=0)) + 1, END + 1)
    if (int(moment.max(initial=0)) + 1) * math.prod(sizes) >= 2**63:
        return np.lexsort((kind, repeat, record, rank, moment))
    key = moment
    for values, size in zip((rank, record + 1, repeat, kind), sizes, strict=True):
        key = key * size + values
    return np.argsort(key, kind="stable")


def _positions(dose: np.ndarray, chosen: np.ndarray, size: int) -> np.ndarray:
    """Where the chosen event of each dose stands; -1 where it has none."""
    at = np.full(size, -1)
    at[dose[chosen]] = np.flatnonzero(chosen)
    return at


def _cancelled(records, doses, raw, begins, stops) -> tuple[np.ndarray, np.ndarray]:
    """Which events a reset cancels, `[E]`, and where doses stop once resets have ended what ran."""
    empties = (raw.kind == EMPTY) | ((raw.kind == STEADY) & (np.append(records.steady, 0)[raw.record] == 1))
    row = np.full(len(records.time), -1)  # where each row stands, and where its own reset does
    filed = (raw.kind == ROW) & (raw.record >= 0)
    row[raw.record[filed]] = np.flatnonzero(filed)
    own = np.flatnonzero(empties & (raw.repeat == 0))
    np.maximum.at(row, raw.record[own], own)
    again = np.flatnonzero(empties & (raw.repeat > 0))
    # A later row's reset ends a course, its repeated resets too. Such resets can only cancel what came before them.
    gone = _next(own, row[raw.record[again]], raw.subject) < again
    cancelled = np.zeros(len(raw.kind), bool)
    cancelled[again[gone]] = True
    resets = np.sort(np.concatenate([own, again[~gone]]))
    # Each dose is known from its row on, or from the reset that comes with its repeat.
    born = row[doses.record]
    born[raw.dose[again[~gone]]] = again[~gone]
    ends = _next(resets, born, raw.subject)
    never, cut = begins > ends, stops > ends
    cancelled[begins[never]] = True
    cancelled[stops[cut]] = True
    return cancelled, np.where(never, -1, np.where(cut, ends, stops))


def _next(resets: np.ndarray, after: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """The first of the resets that comes later in the same subject's events; beyond all events where there is none."""
    beyond = len(subject)
    following = np.append(resets, beyond)[np.searchsorted(resets, after, side="right")]
    same = np.append(subject, -1)[following] == subject[after]
    return np.where(same, following, beyond)
