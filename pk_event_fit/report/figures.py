"""Figures of one run. The only importer of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from .. import store
from ..data import Cohort

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Okabe & Ito 2008: told apart by colour-blind readers and in print.
OBSERVED, PREDICTED, DOSE = "#0072B2", "#D55E00", "#555555"
STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.8,
    "svg.hashsalt": "pk_event_fit",
}


def quantity(compartment: str, unit: str) -> str:
    """What an axis says of a compartment: what an effect site holds is no amount, and a response has its own unit."""
    own = {"effect": f"effect (equivalent {unit})", "response": "response"}
    return own.get(compartment, f"{compartment} ({unit})")


def draw_fit(
    path: Path, cohort: Cohort, predicted: np.ndarray, title: str, *, unit: str = "mg", time_unit: str = "h"
) -> None:
    """Observed and predicted amounts of three subjects, each compartment a row, doses marked.

    The subjects are those with the least, the middle and the largest total amount observed, or mean where some are
    missing.

    Args:
        path: PNG to write.
        cohort: What was observed.
        predicted: mg, `[B, S, K, D]`.
        title: What run this is.
        unit: Of amounts.
        time_unit: Of times.
    """
    # Means where something is missing: a sum would tell how much is.
    seen = np.isfinite(cohort.amounts)
    totals = np.where(seen, cohort.amounts, 0.0).sum((1, 2, 3)) / (1 if seen.all() else seen.sum((1, 2, 3)))
    marks: Any = {} if seen.all() else {"marker": "o", "ms": 2.5}  # a line would not show what stands alone
    order = np.argsort(totals, kind="stable")
    names = ["least exposed", "middle", "most exposed"]
    chosen = [int(order[k]) for k in (0, len(order) // 2, len(order) - 1)]
    if totals[chosen[0]] == totals[chosen[2]]:
        chosen, names = chosen[:1], ["all subjects are alike"]
    rows, columns = len(cohort.compartments), len(chosen)
    doses = cohort.times[:, 0]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, sharex=True, sharey="row", squeeze=False, figsize=(1.6 + 3.6 * columns, 2.8 * rows + 0.9)
        )
        for row, compartment in enumerate(cohort.compartments):
            for column, subject in enumerate(chosen):
                axis = axes[row, column]
                for k in range(len(doses)):
                    # One line an interval: a line across a dose would draw values between its two sides.
                    label = ("observed", "predicted") if k == 0 else (None, None)
                    axis.plot(
                        cohort.times[k],
                        cohort.amounts[subject, k, :, row],
                        color=OBSERVED,
                        lw=2.2,
                        label=label[0],
                        **marks,
                    )
                    axis.plot(
                        cohort.times[k],
                        predicted[subject, k, :, row],
                        color=PREDICTED,
                        lw=1.8,
                        ls=(0, (4, 2)),
                        label=label[1],
                    )
                for k in map(int, np.flatnonzero(cohort.intervals.bolus[:, subject, row])):
                    axis.axvline(doses[k], color=DOSE, lw=0.9, ls=":")
                    amount = f"{cohort.intervals.bolus[k, subject, row]:g} {unit}"
                    axis.annotate(
                        amount, (doses[k], 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2),
                        textcoords="offset points", va="top", fontsize=8.5, color=DOSE,
                    )  # fmt: skip
                if row == 0:
                    axis.set_title(f"subject {subject}: {names[column]}", fontsize=11)
                if row == rows - 1:
                    axis.set_xlabel(f"time ({time_unit})")
                    axis.set_xticks(np.unique([*doses, cohort.times[-1, -1]]).round(6))
                if column == 0:
                    axis.set_ylabel(quantity(compartment, unit))
            low, high = axes[row, 0].get_ylim()
            axes[row, 0].set_ylim(min(low, 0), high + 0.08 * (high - low))
        axes[-1, -1].legend(frameon=False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        figure.tight_layout()
        save(figure, path)


def draw_loss(
    path: Path, history: Mapping[str, Sequence[float]], floor: float | None, title: str, unit: str = "mg"
) -> None:
    """Root mean squared error over the iterations, and the floor of a single curve where there is one.

    Args:
        path: PNG to write.
        history: Columns of `history.csv`.
        floor: `rmse_floor`, or None.
        title: What run this is.
        unit: Of the error.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.2, 3.8))
        axis.plot(history["iteration"], np.sqrt(history["loss"]), color=PREDICTED, lw=1.4, label="this fit")
        if floor:
            words = f"best single curve for all subjects, {floor:.3g} {unit}"
            axis.axhline(floor, color=DOSE, lw=1.2, ls="--", label=words)
        if history["iteration"][0] == 1:  # else it is the later phases of a fit
            axis.set_xscale("log")  # most of a fit happens in its first tenth
        axis.set_yscale("log")
        # A range of less than a decade has no decade mark, and the minor ones would be without numbers.
        axis.yaxis.set_major_formatter(matplotlib.ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        axis.yaxis.set_minor_formatter(matplotlib.ticker.LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        axis.set_xlabel("iteration")
        axis.set_ylabel(f"RMSE ({unit})")
        axis.set_title(title, loc="left", fontsize=12)
        axis.legend(frameon=False)
        figure.tight_layout()
        save(figure, path)


def save(figure, path: Path) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    plt.close(figure)
    store.write_bytes(path, stream.getvalue())
