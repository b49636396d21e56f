"""What was observed of a whole cohort, and what is predicted for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Cohort
from ..errors import ConfigError
from .figures import DOSE, OBSERVED, PREDICTED, STYLE, plt, quantity, save

CROWD = 30  # subjects: of more, lines are fainter
DOSES = 60  # times that are marked, at most
CURVE, LEAST = 200, 20  # points of a subject's curve, and of one interval's


def plot(cohort: Cohort, predictor: Any = None, path: Path | str | None = None, **told: Any) -> plt.Figure:
    """What was observed, as points, and what is predicted between them, as lines; boluses and infusions are marked.

    Args:
        cohort: What was observed.
        predictor: A trained model, with `predict_cohort` (`pk_event_fit.load_model`), which is asked along every
            interval; what is predicted where it was observed, `[B, S, K, D]`; or None.
        path: PNG to write, or None.
        told: As `cohort_figure` has it.

    Raises:
        ConfigError: As `cohort_figure`, or the path is no PNG, or the cohort has others than the model's compartments.
        SolverFailure: A solve of the model did not end.
    """
    if path is not None and Path(path).suffix != ".png":
        raise ConfigError(f"{path}: needs a name that ends with .png")
    options: dict[str, Any] = {"points": True, **told}
    if hasattr(predictor, "predict_cohort"):
        fine = _fine(cohort)
        options |= {"predicted": predictor.predict_cohort(fine), "predicted_times": fine.times}
    elif predictor is not None:
        options |= {"predicted": predictor}
    figure = cohort_figure(cohort, **options)
    if path is not None:
        with plt.rc_context(STYLE):
            save(figure, Path(path))
    return figure


def _fine(cohort: Cohort) -> Cohort:
    """Nothing observed, along every interval."""
    table = cohort.intervals._replace(points=None, drift=None)
    grid = np.linspace(0.0, 1.0, max(LEAST, CURVE // len(table.start)))
    times = table.start.T[..., None] + grid * table.duration.T[..., None]
    nothing = np.zeros((*times.shape, len(cohort.compartments)))
    return cohort._replace(amounts=nothing, weights=None, intervals=table, grid=grid, times=times, table=None)


def draw_cohort(path: Path, cohort: Cohort, predicted: np.ndarray | None = None, **told: Any) -> None:
    """Write `cohort_figure` as a PNG.

    Args:
        path: PNG to write.
        cohort: What was observed.
        predicted: What is predicted, or None.
        told: As `cohort_figure` has it.

    Raises:
        ConfigError: As `cohort_figure`.
    """
    with plt.rc_context(STYLE):
        save(cohort_figure(cohort, predicted, **told), path)


def cohort_figure(
    cohort: Cohort, predicted: np.ndarray | None = None, *, unit: str = "mg", time_unit: str = "h",
    title: str = "", held_out: Sequence[int] | np.ndarray = (), log: bool = False, points: bool = False,
    predicted_times: np.ndarray | None = None,
) -> plt.Figure:  # fmt: skip
    """A panel for each compartment that was observed: every subject against time, and dashed what is predicted.

    Args:
        cohort: What was observed; nothing is drawn where an observation is missing.
        predicted: In the cohort's unit, `[B, S, K, D]`, such as the `predicted` that a fit ends with; None for none.
        unit: Of what was observed.
        time_unit: Of times.
        title: Above all; usually how many subjects there are.
        held_out: Subjects that are drawn in grey.
        log: Whether the axes are logarithmic.
        points: Whether observations are points, and predictions lines.
        predicted_times: Of the prediction, `[B, S, T]`, which is `[B, S, T, D]`; None for those of the cohort.

    Raises:
        ConfigError: The prediction has another shape than the cohort, or its times, or nothing was observed.
    """
    wanted: tuple[int, ...] = cohort.amounts.shape
    if predicted_times is not None:
        wanted = (*predicted_times.shape, wanted[-1])
    if predicted is not None and np.shape(predicted) != wanted:
        raise ConfigError(f"predicted has shape {list(np.shape(predicted))}; needs {list(wanted)}")
    shown = [k for k in range(len(cohort.compartments)) if np.isfinite(cohort.amounts[..., k]).any()]
    if not shown:
        raise ConfigError("the cohort has no observation to draw")
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, squeeze=False, sharex=True, figsize=(4.4 + 2.9 * columns, 1.0 + 2.9 * rows)
        )
        for axis, k in zip(axes.flat, shown, strict=False):
            _panel(axis, cohort, k, (predicted, predicted_times), set(map(int, held_out)), points)
            axis.set_ylabel(quantity(cohort.compartments[k], unit), fontsize=11)
            axis.tick_params(labelsize=10)  # of whoever draws, else
            if log:
                axis.set_yscale("log")
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        _below(axes, time_unit)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        legend = figure.legend(handles, labels, frameon=False, loc="upper right", ncols=len(labels), fontsize=10)
        for handle in legend.legend_handles:
            handle.set_alpha(1)  # type: ignore[union-attr]
        figure.suptitle(title or f"{len(cohort.amounts)} subjects", x=0.01, ha="left", fontsize=12)
        figure.tight_layout(rect=(0, 0, 1, 0.98))
    plt.close(figure)  # pyplot would else keep it
    return figure


def _below(axes, time_unit: str) -> None:
    """Time under the last panel of each column."""
    for column in range(axes.shape[1]):
        last = max(row for row in range(len(axes)) if axes[row, column].get_visible())
        axes[last, column].set_xlabel(f"time ({time_unit})", fontsize=11)
        axes[last, column].tick_params(labelbottom=True)


def _panel(
    axis,
    cohort: Cohort,
    k: int,
    prediction: tuple[np.ndarray | None, np.ndarray | None],
    held_out: set[int],
    points: bool,
) -> None:
    predicted, when = prediction
    count = len(cohort.amounts)
    faint = 0.9 if count <= CROWD else max(0.12, 12 / count)
    times = np.broadcast_to(cohort.times, cohort.amounts.shape[:-1])
    # A line would not show what stands alone.
    sparse = points or cohort.table is not None or not np.isfinite(cohort.amounts).all()
    marks: dict[str, Any] = {"marker": "o", "ms": 3} if sparse else {}
    marks |= {"ls": "none"} if points else {}
    between = times if when is None else when
    labels = set()

    def line(at: np.ndarray, values: np.ndarray, label: str, **style) -> None:
        axis.plot(*_broken(at, values), label=None if label in labels else label, **style)
        labels.add(label)

    for subject in range(count):
        unseen = subject in held_out
        colour, label = (DOSE, "held out") if unseen else (OBSERVED, "observed")
        line(times[subject], cohort.amounts[subject, ..., k], label, color=colour, alpha=faint, lw=1.1, **marks)
        if predicted is not None:
            standing = cohort.intervals.duration[:, subject, None] == 0  # padding
            values = np.where(standing, np.nan, predicted[subject, ..., k])
            style = "-" if points else (0, (4, 2))
            line(between[subject], values, "predicted", color=PREDICTED, alpha=faint, lw=1.1, ls=style)
    _given(axis, cohort, k)


def _given(axis, cohort: Cohort, k: int) -> None:
    """Times of boluses dotted, and spans of infusions grey; nothing where there are too many to be told apart."""
    table = cohort.intervals
    bolus = np.unique(table.start[table.bolus[..., k] != 0])
    for time in bolus if len(bolus) <= DOSES else ():
        axis.axvline(time, color=DOSE, lw=0.9, ls=":", zorder=0.5)
    if table.rate is None:
        return
    runs = (table.rate[..., k] > 0) & (table.duration > 0)
    spans = np.unique(np.stack([table.start[runs], (table.start + table.duration)[runs]], -1), axis=0)
    for begin, end in spans if len(spans) <= DOSES else ():
        axis.axvspan(begin, end, color=DOSE, alpha=0.08, lw=0, zorder=0.4)


def _broken(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A subject's times and values, `[S, K]`, in one line: what is missing left out, a gap at every jump."""
    keep = np.isfinite(values)
    flat, seen = times[keep], values[keep]
    which = np.nonzero(keep)[0]
    gaps = np.flatnonzero((np.diff(which) > 0) & (np.diff(flat) <= 0)) + 1
    return np.insert(flat, gaps, np.nan), np.insert(seen, gaps, np.nan)
