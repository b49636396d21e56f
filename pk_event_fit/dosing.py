"""Dosing histories to a padded table of intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .doses import TIE, dose_parameters, given
from .errors import ScheduleError
from .events import AFTER, BEFORE, reports, timeline
from .records import Dose, Event, Infusion, Records, Reset, check, place, records
from .table import Reports, Schedule, tabulate

__all__ = ["Dose", "Infusion", "Reports", "Reset", "Schedule", "schedule"]

SIDES = ("pre", "post", "both")


def schedule(
    histories: Records | Sequence[Iterable[Event]], *, compartments: int, start: float | None = None,
    end: float | None = None, bioavailability: Any = 1.0, lag: Any = 0.0, modelled_rate: Any = np.nan,
    modelled_duration: Any = np.nan, times: Any = None, side: str = "post", subjects: int | None = None,
    negative: bool = False, state_given: bool = False,
) -> Schedule:  # fmt: skip
    """Cut every subject's time at whatever happens to it.

    Doses at one time add up, whatever their order; times within 4 units in the last place are one. A dose at the start
    acts once, at the start of the first interval; one at the end acts at the start of a last interval that has no
    duration; one after the end is counted and ignored. Rows at one time act in their order, after doses that were
    scheduled for then. See `Records` for what a row means.

    Args:
        histories: Rows, or events of each subject in Python, in any order.
        compartments: D, how many compartments there are.
        start: Beginning of the time axis, h; None for each subject's first row.
        end: Its end, h; None for each subject's last observation, or last row where there is none, or last of `times`.
        bioavailability: F, the fraction of a dose that arrives: one, `[D]` or `[B, D]`.
        lag: ALAG, how much later a dose arrives, h, likewise.
        modelled_rate: R, mg/h, of infusions with RATE -1, likewise.
        modelled_duration: D, h, of infusions with RATE -2, likewise.
        times: Report times beside the observations: `[T]` for all subjects or `[B, T]`, h, in any order.
        side: Where the state jumps at such a time, report what was before (`pre`), what is after (`post`), or `both`.
        subjects: B; None for as many as there are rows of.
        negative: Whether negative amounts are let through.
        state_given: Whether the state at the start holds all that came before. Doses and resets before the start are
            then let through for what they bring from there on: infusions that still run, further doses, a lag's delay.

    Raises:
        ScheduleError: A row is impossible, a row or report is outside of the time axis, a dose comes before the start
            where the state there is not given, or the end is not after the start.
    """
    written = isinstance(histories, Records)
    rows = histories if isinstance(histories, Records) else records(histories)
    count = 1 + int(rows.subject.max(initial=-1)) if written else len(histories)
    if subjects is not None and count > subjects:
        raise ScheduleError(f"subjects={subjects}: there are histories of {count}")
    count = count if subjects is None else subjects
    if not count:
        raise ScheduleError("no subjects: a schedule needs one or more")
    check(rows, lambda row: place(rows, row), ScheduleError, negative=negative)
    if (high := rows.compartment > compartments).any():
        row = int(np.flatnonzero(high)[0])
        raise ScheduleError(f"{place(rows, row)}: compartment {rows.compartment[row]:g}: choose 1 to {compartments}")
    parameters = dose_parameters(count, compartments, bioavailability, lag, modelled_rate, modelled_duration)
    asked = _asked(times, side, count)
    starts, ends = _axis(rows, count, start, end, asked, state_given)
    doses = given(rows, parameters)
    line = timeline(rows, doses, starts, ends, asked)
    return tabulate(rows, parameters, line, doses, compartments)


def _asked(times, side, count):
    """Reports at given times."""
    if side not in SIDES:
        raise ScheduleError(f"side={side!r}: choose one of {', '.join(SIDES)}")
    if times is None:
        times = np.zeros((count, 0))
    array = np.asarray(times, np.float64)
    if array.ndim not in (1, 2) or (array.ndim == 2 and len(array) != count) or not np.isfinite(array).all():
        raise ScheduleError(f"times has shape {list(array.shape)}; needs finite hours, [T] or [{count}, T]")
    array = np.broadcast_to(array, (count, array.shape[-1]))
    ranks = {"pre": [BEFORE], "post": [AFTER], "both": [BEFORE, AFTER]}[side]
    # In the caller's order: subject, time, side.
    subject = np.repeat(np.arange(count), array.shape[1] * len(ranks))
    return reports(subject, np.repeat(array.reshape(-1), len(ranks)), np.tile(ranks, array.size))


def _axis(rows, count, start, end, asked, state_given) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each subject's time."""
    seen = (rows.kind == 0) | (rows.kind == 2)
    starts, ends = np.full(count, np.inf), np.full(count, -np.inf)
    if start is None:
        np.minimum.at(starts, rows.subject, rows.time)
        np.minimum.at(starts, asked.subject, asked.time)
    else:
        starts[:] = start
    if end is None:
        np.maximum.at(ends, rows.subject[seen], rows.time[seen])
        np.maximum.at(ends, asked.subject, asked.time)
        late = np.full(count, -np.inf)
        np.maximum.at(late, rows.subject, rows.time)
        ends = np.where(np.isfinite(ends), ends, late)
    else:
        ends[:] = end
    fixed = start is not None and end is not None
    if (wrong := ~(np.isfinite(starts) & np.isfinite(ends) & ((starts < ends) if fixed else (starts <= ends)))).any():
        b = int(np.flatnonzero(wrong)[0])
        raise ScheduleError(
            f"the time axis from {starts[b]:g} to {ends[b]:g} h of subject {b}: the end must come after the start"
        )
    let = ~seen if state_given else np.zeros(len(seen), bool)
    _inside(rows.time, rows.subject, starts, ends, seen, let, lambda row: place(rows, row))
    every = np.ones(len(asked.time), bool)
    _inside(asked.time, asked.subject, starts, ends, every, ~every, lambda _: "times")
    return starts, ends


def _inside(time, subject, starts, ends, seen, let, told) -> None:
    """Raise for what comes before the start, or is to be seen after the end; a rounding error is neither."""
    low, high = starts[subject], ends[subject]
    room = TIE * np.spacing(np.maximum(abs(time), np.maximum(abs(low), abs(high))))
    early, late = ~let & (time < low - room), seen & (time > high + room)
    for wrong, words, bound in ((early, "before the start at", low), (late, "after the end at", high)):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ScheduleError(f"{told(row)}: time {time[row]} h: {words} {bound[row]} h")
