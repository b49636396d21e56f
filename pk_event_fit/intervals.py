"""What a solver is handed of a dosing history, and what it answers."""

from __future__ import annotations

from typing import NamedTuple

from .arrays.base import Array


class Interval(NamedTuple):
    """One interval between dose times, for every subject of a batch (or a table of them, with a leading `[S]`).

    Attributes:
        number: Which interval this is, from 0, `[]`.
        start: Clock time at its start, h, `[B]`.
        duration: Its length, h, `[B]`; 0 marks padding.
        bolus: Amounts added at its start, mg, `[B, D]`.
        rate: Infusion rates within it, mg/h, `[B, D]`, or None where nobody is infused.
        covariates: Values that hold within it, `[B, C]`, or None.
        keep: What stays of the state at its start, before the bolus: 1, or 0 at a reset, `[B]`; None where all stays.
        points: Own times of each subject's report points, increasing, first 0, last 1, `[K, B]`; None where all share
            the grid that is given to the solve.
        drift: Zeros that carry how `points` move with what is differentiated, `[K, B]`; None where nothing moves them.
    """

    number: Array
    start: Array
    duration: Array
    bolus: Array
    rate: Array = None
    covariates: Array = None
    keep: Array = None
    points: Array = None
    drift: Array = None


class Steady(NamedTuple):
    """Steady states that enter a table of intervals: R for each subject at most.

    Attributes:
        place: 1 where a steady state enters an interval, else 0, `[R, S, B]`.
        idle: 1 where a subject has no such steady state, else 0, `[R, B]`.
        still: 1 where what arrives is the same all the time, so that the state there is at rest, else 0, `[R, B]`.
        cycle: One cycle of each, from the phase at which it enters, leaves `[M, R, B, ...]`.
    """

    place: Array
    idle: Array
    still: Array
    cycle: Interval


class Report(NamedTuple):
    """What a solver says of one interval. None stands for what the library does not count.

    Attributes:
        accepted: Steps kept, `[B]`, or `[1]` where the library steps the whole batch as one.
        rejected: Steps tried again, likewise.
        evaluations: Calls of the field, likewise.
        failed: Whether the end was not reached, `[B]`, or None where a failure raises at once.
        reached: Own time last known to be reached, in [0, 1], `[B]`, or None likewise.
    """

    accepted: Array = None
    rejected: Array = None
    evaluations: Array = None
    failed: Array = None
    reached: Array = None
