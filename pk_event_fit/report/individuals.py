"""Individual fits: what was observed of each subject, and the curve that is predicted for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .figures import DOSE, OBSERVED, PREDICTED, STYLE, plt, save

MOST = 12  # subjects in one figure


def draw_individuals(
    path: Path, arrays: Mapping[str, np.ndarray], ids: Sequence[str], compartments: Sequence[str], title: str, *,
    unit: str, time_unit: str, log: bool = False,
) -> None:  # fmt: skip
    """One panel a subject, of twelve at most, evenly chosen from those with observations; held-out ones are marked.

    Args:
        path: PNG to write.
        arrays: `subject`, `times`, `compartment`, `observed` of each observation; `curve_times [B, T]`, `curves
            [B, T, D]`; and `held_out`.
        ids: Label of each subject.
        compartments: Their names.
        title: What run this is.
        unit: Of what is observed.
        time_unit: Of times.
        log: Whether the axis is logarithmic.
    """
    subjects = np.unique(arrays["subject"])
    shown = subjects[np.unique(np.linspace(0, len(subjects) - 1, MOST).round().astype(int))]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, squeeze=False, sharey=True, figsize=(max(7.0, 1.2 + 2.7 * columns), 0.9 + 2.2 * rows)
        )
        for axis, subject in zip(axes.flat, shown, strict=False):
            _panel(axis, arrays, subject, compartments)
            unseen = " (held out)" if subject in arrays["held_out"] else ""
            axis.set_title(f"{ids[subject]}{unseen}", fontsize=11)
            if log:
                axis.set_yscale("log")
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel(unit)
        for column in range(columns):
            last = max(row for row in range(rows) if axes[row, column].get_visible())
            axes[last, column].set_xlabel(f"time ({time_unit})")
        handles = axes[0, 0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, loc="upper right", ncols=len(handles[0]), fontsize=10)
        more = "" if len(shown) == len(subjects) else f"; {len(shown)} of {len(subjects)} subjects"
        figure.suptitle(f"{title}{more}", x=0.01, ha="left", fontsize=12)
        figure.tight_layout(rect=(0, 0, 1, 0.98))
        save(figure, path)


def _panel(axis, arrays: Mapping[str, np.ndarray], subject: int, names: Sequence[str]) -> None:
    """Points and curve of one subject, of each compartment that was observed; marks where there are no curves."""
    own = arrays["subject"] == subject
    styles = ((PREDICTED, "-"), (DOSE, "--"))
    seen = np.unique(arrays["compartment"])  # of anybody, so that a line means the same in all panels
    for number, compartment in enumerate(seen):
        chosen = own & (arrays["compartment"] == compartment)
        colour, line = styles[number % len(styles)]
        of = f" ({names[compartment - 1]})" if len(seen) > 1 else ""
        if "curves" in arrays:
            curve = arrays["curves"][subject, :, compartment - 1]
            axis.plot(arrays["curve_times"][subject], curve, color=colour, ls=line, lw=1.6, label=f"predicted{of}")
        else:
            axis.plot(arrays["times"][chosen], arrays["predicted"][chosen], "_", ms=9, color=colour,
                      label=f"predicted{of}")  # fmt: skip
        axis.plot(
            arrays["times"][chosen], arrays["observed"][chosen], "o^"[number % 2], ms=4, color=OBSERVED,
            label=f"observed{of}", clip_on=False,
        )  # fmt: skip
