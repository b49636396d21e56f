"""Dosing records to a padded table of intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import ScheduleError
from .frameworks.base import Interval

TIE = 4  # units in the last place within which two times are one


class Dose(NamedTuple):
    """A bolus.

    Attributes:
        time: h.
        amount: mg.
        compartment: Which compartment it enters, from 1.
    """

    time: float
    amount: float
    compartment: int = 1


class Schedule(NamedTuple):
    """What becomes of dosing records.

    Attributes:
        intervals: The table, float64, leaves `[S, B, ...]`; padded with intervals of no duration and no dose.
        ignored: Doses after the end, which change nothing, by subject, `[B]`.
    """

    intervals: Interval
    ignored: np.ndarray


def schedule(histories: Sequence[Sequence[Dose]], *, start: float, end: float, compartments: int) -> Schedule:
    """Cut every subject's time at its doses.

    Doses at one time add up, whatever their order. A dose at the start acts once, at the start of the first interval;
    one at the end acts at the start of a last interval that has no duration; one after the end is counted and ignored.

    Args:
        histories: Doses of each subject, in any order.
        start: Beginning of the time axis, h.
        end: Its end, h.
        compartments: D, how many compartments there are.

    Raises:
        ScheduleError: A time or an amount is not finite, an amount is negative, a compartment does not exist, a dose
            comes before the start, or the end is not after the start.
    """
    if not (np.isfinite(start) and np.isfinite(end) and start < end):
        raise ScheduleError(f"the time axis from {start} to {end} h: the end must come after the start")
    if not histories:
        raise ScheduleError("no subjects: a schedule needs one or more")
    cut = [_cut(doses, subject, start, end, compartments) for subject, doses in enumerate(histories)]
    rows, subjects = max(len(times) for times, _ in cut), len(cut)
    starts = np.full((rows, subjects), float(end))
    ends = np.full((rows, subjects), float(end))
    bolus = np.zeros((rows, subjects, compartments))
    for subject, (times, amounts) in enumerate(cut):
        starts[: len(times), subject] = times
        ends[: len(times) - 1, subject] = times[1:]
        bolus[: len(times), subject] = amounts
    ignored = np.array([sum(dose.time > end and not _same(dose.time, end) for dose in doses) for doses in histories])
    return Schedule(Interval(np.arange(rows), starts, ends - starts, bolus), ignored)


def _cut(doses, subject, start, end, compartments) -> tuple[list[float], list[np.ndarray]]:
    """Times at which a subject's intervals start, and the amounts added there."""
    for row, dose in enumerate(doses):
        where = f"subject {subject}, dose {row}: "
        if not np.isfinite(dose.time) or not np.isfinite(dose.amount):
            raise ScheduleError(f"{where}time {dose.time}, amount {dose.amount}: both must be finite")
        if dose.amount < 0:
            raise ScheduleError(f"{where}amount {dose.amount} mg: must not be negative")
        if not 1 <= dose.compartment <= compartments or dose.compartment != int(dose.compartment):
            raise ScheduleError(f"{where}compartment {dose.compartment}: choose 1 to {compartments}")
        if dose.time < start and not _same(dose.time, start):
            raise ScheduleError(f"{where}time {dose.time} h: before the start at {start} h, where the state is given")
    times, amounts = [float(start)], [np.zeros(compartments)]
    for dose in sorted(doses, key=lambda dose: dose.time):
        # Past a rounding error, so that 3 * 0.1 h is not after an end at 0.3 h.
        if dose.time > end and not _same(dose.time, end):
            continue
        if not _same(dose.time, times[-1]):
            times.append(float(end if _same(dose.time, end) else dose.time))
            amounts.append(np.zeros(compartments))
        amounts[-1][int(dose.compartment) - 1] += dose.amount
    return times, amounts


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= TIE * np.spacing(max(abs(a), abs(b)))
