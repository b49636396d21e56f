"""How the loss fell, phase by phase where there are phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .fits import INKS
from .ink import FAINT, SMALL, canvas, end_labels, logarithmic, settle, words

PHASE = "phase"
POINTS = 1_000  # of a curve
COLUMNS = {"loss": "training", "validation": "validation"}


def training_loss(
    histories: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], *, unit: str, title: str
) -> Figure | None:
    """Losses over the iterations: those of the fitted subjects and of validation, of several runs dashed.

    Args:
        histories: Columns of `history.csv` of each run.
        names: Of the runs.
        unit: Of what was observed; a loss is in its square.
        title: Above all.

    Returns:
        None where no run has iterations and a loss.
    """
    figure, axes = canvas(3.6)
    axis, drawn, ends = axes[0, 0], 0, []
    settle(axis, words(title, 95), "iteration", f"loss ({unit})²" if "/" in unit or "(" in unit else f"loss ({unit}²)")
    several = len(histories) > 1
    for run, (history, name) in enumerate(zip(histories, names, strict=True)):
        columns = [key for key in COLUMNS if key in history and history[key].dtype.kind == "f"]
        for key in columns if "iteration" in history else []:
            known = np.isfinite(history[key]) & (history[key] > 0)
            if not known.any():
                continue
            some = _some(int(known.sum()))
            x, y = history["iteration"][known][some], history[key][known][some]
            ink = INKS[(run if several else drawn) % len(INKS)]
            dashed = several and key == "validation"
            axis.plot(x, y, color=ink, lw=0.9 if several and not dashed else 1.4, ls=(0, (4, 2)) if dashed else "-",
                      marker="o" if len(x) < 30 else "", ms=3)  # fmt: skip
            if not dashed:
                ends.append((float(x[-1]), float(y[-1]), name if several else COLUMNS[key], ink))
            drawn += 1
    if not drawn:
        return None
    logarithmic(axis, "y")
    if len(histories) == 1:
        _phases(axis, histories[0])
    end_labels(axis, ends if len(ends) > 1 else [])
    return figure


def _some(count: int) -> np.ndarray:
    """Which of so many points are drawn: all, or evenly as many as an eye can tell apart, the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))


def _phases(axis: Any, history: Mapping[str, np.ndarray]) -> None:
    """Every other phase of which something is drawn on grey, each with its name."""
    if PHASE not in history:
        return
    # Of a phase without a loss to draw nothing is said: its name would lie outside of the axes.
    drawn = np.isfinite(history["loss"])
    phase, iteration = history[PHASE][drawn], history["iteration"][drawn]
    heads = np.append(0, np.flatnonzero(phase[1:] != phase[:-1]) + 1)
    if len(heads) < 2:
        return
    for k, head in enumerate(heads):
        begin = float(iteration[head])
        end = float(iteration[heads[k + 1]] if k + 1 < len(heads) else iteration[-1])
        if k % 2:
            axis.axvspan(begin, end, color=FAINT, zorder=0.3, lw=0)
        value = phase[head]
        name = f"phase {value:g}" if phase.dtype.kind == "f" else str(value)
        axis.annotate(words(name, 18), (begin, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3), va="top",
                      textcoords="offset points", fontsize=SMALL)  # fmt: skip
