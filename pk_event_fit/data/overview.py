"""What a cohort holds, in a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..records import OBSERVATION
from .cohort import Cohort, begun_by_rates


class Row(NamedTuple):
    """One compartment.

    Attributes:
        compartment: Its name.
        subjects: How many were observed there.
        observations: How many count; each that a number is the mean of.
        missing: Of a table, rows that are for an observation and hold none that counts; of a grid, places without one.
        censored: Those of them that are told to be below or above a limit.
        minimum: The least observed, NaN where nothing was; likewise `median` and `maximum`.
        median: The middle.
        maximum: The largest.
        doses: How often something begins to be given there, to all subjects: a bolus or an infusion.
        horizon: End of the longest time that a subject is followed, from the start of its own.
    """

    compartment: str
    subjects: int
    observations: int
    missing: int
    censored: int
    minimum: float
    median: float
    maximum: float
    doses: int
    horizon: float


def summary(cohort: Cohort) -> list[Row]:
    """A row for each compartment, in their order; values in the cohort's own units."""
    lengths = (cohort.intervals.start + cohort.intervals.duration).max(0) - cohort.intervals.start[0]
    horizon = float(lengths.max(initial=0.0))
    rows = []
    for number, name in enumerate(cohort.compartments):
        subject, values, missing, censored = _observed(cohort, number)
        some = values if len(values) else np.array([np.nan])
        spread = (float(some.min()), float(np.median(some)), float(some.max()))
        doses = _doses(cohort, number)
        rows.append(Row(name, len(np.unique(subject)), len(values), missing, censored, *spread, doses, horizon))
    return rows


def told(rows: Sequence[Row], unit: str, time_unit: str) -> list[str]:
    """The rows as lines of aligned columns, units in the head."""
    heads = {"minimum": f"minimum ({unit})", "horizon": f"horizon ({time_unit})"}
    table = [[heads.get(name, name) for name in Row._fields]]
    for row in rows:
        table.append([f"{entry:.4g}" if isinstance(entry, float) else str(entry) for entry in row])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return lines


def unfitted(rows: Sequence[Row]) -> str | None:
    """How many observations a fit does without, in words; None for none."""
    missing, censored = sum(row.missing for row in rows), sum(row.censored for row in rows)
    more = f", {censored} of them known to be below or above a limit (CENS)" if censored else ""
    return f"{missing} observations are missing{more}: they count for nothing" if missing else None


def _observed(cohort: Cohort, number: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Subject and value of each observation of a compartment, and how many are missing and censored."""
    if cohort.table is None:
        values = cohort.amounts[..., number]
        seen = np.isfinite(values)
        followed = (cohort.intervals.duration > 0).T[..., None] & np.ones(values.shape, bool)
        return np.nonzero(seen)[0], values[seen], int((followed & ~seen).sum()), 0
    rows = cohort.table.table.records
    own = rows.compartment == number + 1
    lacking = own & (rows.kind == OBSERVATION) & ~rows.used
    censored = lacking & (rows.censored != 0) if rows.censored is not None else np.zeros(len(own), bool)
    return rows.subject[own & rows.used], rows.observed[own & rows.used], int(lacking.sum()), int(censored.sum())


def _doses(cohort: Cohort, number: int) -> int:
    if cohort.table is None:
        begins = begun_by_rates(cohort) if cohort.begun is None else cohort.begun
        return int(begins[..., number].sum())
    clock = cohort.table.schedule.clock
    given = (clock.begins >= 0) & (clock.doses.implied == 0)
    return int((given & (clock.records.compartment[clock.doses.record] == number + 1)).sum())
