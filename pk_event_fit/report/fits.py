"""Individual fits of an evaluation: what was observed of each subject, what is predicted for it, and its doses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from .ink import COLOURS, FAINT, PLUG_INS, SMALL, canvas, logarithmic, nothing, settle, words
from .regimen import broken

INKS = (*COLOURS.values(), *PLUG_INS)
MOST, COLUMNS = 12, 3  # subjects in one figure, and in a row of it
DOTS = 30  # observations of one compartment in a panel, at most
DECADES = 1e-3  # of the largest value: a logarithmic axis goes no lower below what was observed
DOSE = "#777777"


class Person(NamedTuple):
    """One panel. T times, D compartments, M doses.

    Attributes:
        label: What the subject is called.
        times: Of what was observed, h, `[N]`.
        compartment: Of which compartment, from 0, `[N]`.
        observed: mg, or mg/L, `[N]`.
        curve_times: h, `[T]`; a time that comes twice is a jump, which no line crosses.
        curve: What is predicted, `[T, D]`.
        low: Lower edge of a band, or None.
        high: Its upper edge.
        doses: Begin and end (of a bolus its begin), h, `[M, 2]`.
    """

    label: str
    times: np.ndarray
    compartment: np.ndarray
    observed: np.ndarray
    curve_times: np.ndarray
    curve: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    doses: np.ndarray


def chosen(subjects: np.ndarray) -> np.ndarray:
    """Those that are drawn: twelve at most, evenly."""
    return subjects[np.unique(np.linspace(0, len(subjects) - 1, min(MOST, len(subjects))).round().astype(int))]


def individual_fits(
    people: Sequence[Person], compartments: Sequence[str], *, unit: str, time_unit: str, log: bool, title: str,
    band: str = "",
) -> Figure | None:  # fmt: skip
    """One panel a subject; None where there is nobody.

    Args:
        people: The subjects.
        compartments: D names.
        unit: Of what was observed.
        time_unit: Of times.
        log: Whether the axis is logarithmic.
        title: Above all.
        band: What the band is called, where there is one.
    """
    if not people:
        return None
    columns = min(COLUMNS, len(people))
    rows = -(-len(people) // columns)
    figure, axes = canvas(1.15 + 1.75 * rows, rows, columns, sharey=True)
    seen = np.unique(np.concatenate([one.compartment for one in people]))
    for axis, one in zip(axes.flat, people, strict=False):
        settle(axis, words(one.label, 24))
        for k in seen:
            _compartment(axis, one, int(k), log)
        _doses(axis, one)
    _limits(axes[0, 0], people, seen, log)
    for axis in axes.flat[len(people) :]:
        axis.set_visible(False)
    for row in range(rows):
        axes[row, 0].set_ylabel(unit, fontsize=9.5)
    for column in range(columns):
        last = max(row for row in range(rows) if axes[row, column].get_visible())
        axes[last, column].set_xlabel(f"time ({time_unit})", fontsize=9.5)
    _legend(figure, axes[0, 0], [compartments[k] for k in seen], [INKS[k % len(INKS)] for k in seen], band)
    figure.suptitle(words(title, 95), x=0.01, ha="left", fontsize=10.5)
    return figure


def _compartment(axis: Any, one: Person, k: int, log: bool) -> None:
    ink, own = INKS[k % len(INKS)], np.flatnonzero(one.compartment == k)
    own = own[np.unique(np.linspace(0, len(own) - 1, DOTS).round().astype(int))] if len(own) > DOTS else own
    if one.low is not None and one.high is not None:
        times, low = broken(one.curve_times, one.low[:, k])
        _, high = broken(one.curve_times, one.high[:, k])
        axis.fill_between(times, low, high, color=ink, alpha=0.22, linewidth=0)
    times, curve = broken(one.curve_times, one.curve[:, k])
    with np.errstate(invalid="ignore"):
        curve = np.where(curve > 0, curve, np.nan) if log else curve
    axis.plot(times, curve, color=ink, lw=1.5)
    values = one.observed[own]
    shown = values > 0 if log else np.ones(len(values), bool)
    axis.plot(one.times[own][shown], values[shown], "o", ms=3.2, mfc="white", mec=ink, mew=0.9)


def _doses(axis: Any, one: Person) -> None:
    for begin, end in one.doses:
        if end > begin:
            axis.axvspan(begin, end, color=FAINT, zorder=0.4, lw=0)
        else:
            axis.axvline(begin, color=DOSE, lw=0.8, ls=":", zorder=0.5)


def _limits(axis: Any, people: Sequence[Person], seen: np.ndarray, log: bool) -> None:
    """Of what was observed, and of what is predicted as far as that is not out of all proportion."""
    observed = np.concatenate([one.observed for one in people])
    predicted = np.concatenate([one.curve[:, seen].ravel() for one in people])
    high = max(float(observed.max()), min(float(np.nanmax(predicted)), 2 * float(observed.max())))
    if not log:
        low = min(0.0, float(observed.min()))
        axis.set_ylim(low - 0.03 * (high - low), high + 0.06 * (high - low))
        return
    if not (observed > 0).any():
        nothing(axis, "nothing above 0 was observed")
        return
    low = max(float(observed[observed > 0].min()), DECADES * high)
    axis.set_ylim(low / 1.6, high * 1.6)
    logarithmic(axis, "y")


def _legend(figure: Figure, axis: Any, names: Sequence[str], inks: Sequence[str], band: str) -> None:
    handles, labels = [], []
    for name, ink in zip(names, inks, strict=True):
        plain = words(name.replace("_", " "))
        handles += axis.plot([], [], "o", ms=4, mfc="white", mec=ink, mew=0.9) + axis.plot([], [], color=ink, lw=1.5)
        labels += [f"{plain}, observed", f"{plain}, {'median' if band else 'predicted'}"]
    if band:
        handles.append(axis.fill_between([], [], [], color=inks[0], alpha=0.22, linewidth=0))
        labels.append(band)
    figure.legend(handles, labels, loc="outside lower left", ncols=min(3, len(names) + bool(band)), fontsize=SMALL)
