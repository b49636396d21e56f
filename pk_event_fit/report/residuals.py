"""Goodness of fit in pictures: observed against predicted, and what is left between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from .fits import INKS
from .ink import SMALL, TEXT, canvas, logarithmic, nothing, settle, words

DOTS = 1200  # of one panel, at most
BINS, FEWEST = 12, 4  # of a running median, and numbers in one of them
LINE = "#555555"


class Cloud(NamedTuple):
    """Observations of an evaluation, `[N]`.

    Attributes:
        compartment: From 0.
        part: Which of the parts, from 0.
        time: h.
        after: h after the last dose; NaN before the first.
        observed: mg, or mg/L.
        predicted: Likewise.
    """

    compartment: np.ndarray
    part: np.ndarray
    time: np.ndarray
    after: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """Observed less predicted."""
        return self.observed - self.predicted


def goodness_of_fit(
    cloud: Cloud, compartments: Sequence[str], parts: Sequence[str], *, unit: str, time_unit: str, title: str
) -> Figure:
    """Observed against predicted, linear and logarithmic; residuals against prediction and against time."""
    figure, axes = canvas(6.6, 2, 2)
    shown = _thinned(cloud)
    for axis, log in ((axes[0, 0], False), (axes[0, 1], True)):
        _identity(axis, shown, log, unit)
    left, right = axes[1]
    settle(left, "residuals against prediction", f"predicted ({unit})", f"observed − predicted ({unit})")
    settle(right, "residuals against time", f"time ({time_unit})", f"observed − predicted ({unit})")
    for axis, x, every in ((left, shown.predicted, cloud.predicted), (right, shown.time, cloud.time)):
        _scatter(axis, shown, x, shown.residual)
        _median(axis, every, cloud.residual)
    _legend(figure, axes[0, 0], cloud, compartments, parts)
    figure.suptitle(words(title, 95), x=0.01, ha="left", fontsize=10.5)
    return figure


def residuals_in_time(
    cloud: Cloud, compartments: Sequence[str], parts: Sequence[str], *, unit: str, time_unit: str, title: str
) -> Figure:
    """Residuals of each compartment over time and, where somebody was dosed, over time after the last dose."""
    seen = np.unique(cloud.compartment)
    columns: list[tuple[str, Callable[[Cloud], np.ndarray]]] = [(f"time ({time_unit})", lambda some: some.time)]
    if np.isfinite(cloud.after).any():
        columns.append((f"time after the last dose ({time_unit})", lambda some: some.after))
    figure, axes = canvas(1.2 + 2.3 * len(seen), len(seen), len(columns), sharey="row")
    for row, k in zip(axes, seen, strict=True):
        own = Cloud(*(leaf[cloud.compartment == k] for leaf in cloud))
        shown = _thinned(own)
        for axis, (label, x) in zip(row, columns, strict=True):
            settle(axis, words(compartments[k].replace("_", " ")), label)
            if not np.isfinite(x(own)).any():
                nothing(axis, "nothing was observed after a dose")
                continue
            _scatter(axis, shown, x(shown), shown.residual)
            _median(axis, x(own), own.residual)
        row[0].set_ylabel(f"observed − predicted ({unit})", fontsize=9.5)
    _legend(figure, axes[0, 0], cloud, compartments, parts)
    figure.suptitle(words(title, 95), x=0.01, ha="left", fontsize=10.5)
    return figure


def _thinned(cloud: Cloud) -> Cloud:
    """Some of the observations, chosen by chance, always the same: every n-th would show a grid of its own."""
    if len(cloud.time) <= DOTS:
        return cloud
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(cloud.time))[:DOTS]
    return Cloud(*(leaf[np.sort(order)] for leaf in cloud))


def _scatter(axis: Any, cloud: Cloud, x: np.ndarray, y: np.ndarray) -> None:
    for k in np.unique(cloud.compartment):
        ink = INKS[int(k) % len(INKS)]
        for part in np.unique(cloud.part):
            own = (cloud.compartment == k) & (cloud.part == part)
            axis.plot(x[own], y[own], **_mark(int(part), ink))


def _mark(part: int, ink: str) -> dict[str, Any]:
    face = ink if part == 0 else "white"
    return {"linestyle": "none", "marker": "o^s"[part % 3], "ms": 2.6 if part == 0 else 3.4, "mfc": face, "mec": ink,
            "mew": 0.0 if part == 0 else 0.8, "alpha": 0.6 if part == 0 else 0.9}  # fmt: skip


def _identity(axis: Any, cloud: Cloud, log: bool, unit: str) -> None:
    settle(axis, "logarithmic" if log else "linear", f"predicted ({unit})", f"observed ({unit})")
    x, y = cloud.predicted, cloud.observed
    if log:
        fine = (x > 0) & (y > 0)
        if not fine.any():
            nothing(axis, "nothing above 0 was both observed and predicted")
            return
        high = float(max(x[fine].max(), y[fine].max()))
        low = max(float(min(x[fine].min(), y[fine].min())), 1e-4 * high)
        ends = low / 1.3, high * 1.3
        _scatter(axis, Cloud(*(leaf[fine] for leaf in cloud)), x[fine], y[fine])
    else:
        low, high = float(min(x.min(), y.min(), 0.0)), float(max(x.max(), y.max()))
        ends = low - 0.03 * (high - low), high + 0.03 * (high - low)
        _scatter(axis, cloud, x, y)
    axis.set_xlim(*ends)
    axis.set_ylim(*ends)
    if log:
        logarithmic(axis, "x")
        logarithmic(axis, "y")
    axis.plot(ends, ends, color=LINE, lw=1.0, zorder=1.5)


def _median(axis: Any, x: np.ndarray, residual: np.ndarray) -> None:
    """A line at 0, and the median in each twelfth of the range that holds enough of them."""
    axis.axhline(0.0, color=LINE, lw=1.0, zorder=1.5)
    known = np.isfinite(x)
    x, residual = x[known], residual[known]
    edges = np.linspace(x.min(), x.max(), BINS + 1)
    number = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    bins = [number == k for k in range(BINS) if (number == k).sum() >= FEWEST]
    axis.plot(
        [np.median(x[own]) for own in bins],
        [np.median(residual[own]) for own in bins],
        color=TEXT,
        lw=1.6,
        ls=(0, (4, 1.6)),
        zorder=3,
    )


def _legend(figure: Figure, axis: Any, cloud: Cloud, compartments: Sequence[str], parts: Sequence[str]) -> None:
    handles, labels = [], []
    for part in np.unique(cloud.part):
        for k in np.unique(cloud.compartment):
            handles += axis.plot([], [], **(_mark(int(part), INKS[int(k) % len(INKS)]) | {"ms": 5, "alpha": 1.0}))
            labels.append(f"{words(compartments[k].replace('_', ' '))}, {parts[part]}")
    handles += axis.plot([], [], color=TEXT, lw=1.6, ls=(0, (4, 1.6)))
    labels.append("median of residuals")
    figure.legend(handles, labels, loc="outside lower left", ncols=min(3, len(handles)), fontsize=SMALL)
