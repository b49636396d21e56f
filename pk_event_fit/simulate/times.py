"""The times at which a simulation is told: what happens, what was observed, and evenly between."""

from __future__ import annotations

import numpy as np

from ..dosing import Schedule
from ..events import END
from ..records import OBSERVATION

NEAR = 1e-9  # of the time axis: closer to something that happens, an evenly spread time is left out


def ends_of(plan: Schedule) -> np.ndarray:
    story = plan.clock.events
    last, ends = story.kind == END, np.zeros(plan.intervals.start.shape[1])
    ends[story.subject[last]] = story.time[last]
    return ends


def times_of(plan: Schedule, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Each subject's report times, h, `[B, T]`, increasing, and how many count, `[B]`; the rest repeat the last."""
    table, rows, found = plan.intervals, plan.clock.records, []
    for number, end in enumerate(ends_of(plan)):
        cuts = table.start[plan.clock.heads[:, number] >= 0, number]
        seen = rows.time[(rows.subject == number) & (rows.kind == OBSERVATION)]
        room = max(NEAR * (end - cuts[0]), 16 * np.spacing(max(abs(cuts[0]), abs(end))))
        fixed = np.unique(np.append(cuts, end))
        fixed = np.union1d(fixed, _apart(seen, fixed, room))
        found.append(np.union1d(fixed, _apart(np.linspace(cuts[0], end, points), fixed, room)))
    counts = np.array([len(times) for times in found])
    return np.stack([np.pad(times, (0, counts.max() - len(times)), mode="edge") for times in found]), counts


def _apart(times: np.ndarray, fixed: np.ndarray, room: float) -> np.ndarray:
    """Those of the times that are farther than `room` from all of `fixed`, which increase."""
    after = np.searchsorted(fixed, times)
    below, above = fixed[np.maximum(after - 1, 0)], fixed[np.minimum(after, len(fixed) - 1)]
    return times[np.minimum(np.abs(times - below), np.abs(above - times)) > room]
