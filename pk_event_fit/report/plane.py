"""The learned field beside the true one, in the plane of two amounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from .fits import INKS
from .ink import SMALL, canvas, settle, words

TRUE, LEARNED = "#777777", INKS[1]
CELLS, ARROWS = 40, 11  # of the map, and of the arrows, along each axis
NEAR = 0.02  # of the fastest true change: what changes slower is compared with that
LEAST, MOST = 0.1, 100.0  # percent, between which colours tell errors apart


class Plane(NamedTuple):
    """Two fields on a grid of amounts. X and Y amounts along the axes.

    Attributes:
        names: Of the two compartments.
        x: mg, `[X]`.
        y: mg, `[Y]`.
        true: mg/h, `[X, Y, 2]`.
        learned: Likewise.
        visited: How many observations are in each cell about a grid point, `[X, Y]`.
    """

    names: tuple[str, str]
    x: np.ndarray
    y: np.ndarray
    true: np.ndarray
    learned: np.ndarray
    visited: np.ndarray


def error_percent(plane: Plane) -> np.ndarray:
    """Length of the difference over that of the true field, percent, `[X, Y]`.

    Where the true one is slower than 2 % of its fastest, over that: a field is 0 somewhere, and no error is small
    there.
    """
    size = np.linalg.norm(plane.true, axis=-1)
    return 100 * np.linalg.norm(plane.learned - plane.true, axis=-1) / np.maximum(size, NEAR * size.max())


def field_plane(plane: Plane, *, unit: str, title: str) -> Figure:
    """Arrows of both fields, and the error of the learned one where the data are."""
    figure, axes = canvas(4.1, 1, 2, sharey=True)
    left, right = axes[0]
    labels = [f"{words(name.replace('_', ' '))} ({unit})" for name in plane.names]
    settle(left, "direction and speed", *labels)
    settle(right, "error of the learned field", labels[0])
    _arrows(left, plane)
    _outline(left, plane)
    errors = np.where(plane.visited > 0, np.clip(error_percent(plane), LEAST, MOST), np.nan)
    norm = LogNorm(LEAST, MOST)
    mesh = right.pcolormesh(plane.x, plane.y, errors.T, norm=norm, cmap="viridis_r", shading="nearest")
    bar = figure.colorbar(mesh, ax=right, extend="both", ticks=[0.1, 1, 10, 100], format="%g")
    bar.set_label("error (%)", fontsize=9.5)
    bar.ax.tick_params(labelsize=SMALL)
    handles = [left.plot([], [], color=ink, lw=2.0)[0] for ink in (TRUE, LEARNED)]
    handles += left.plot([], [], color="#bbbbbb", lw=6)
    names = ["true field", "learned field", "where observations are"]
    figure.legend(handles, names, loc="outside lower left", ncols=3, fontsize=SMALL)
    figure.suptitle(words(title, 95), x=0.01, ha="left", fontsize=10.5)
    return figure


def _arrows(axis: Any, plane: Plane) -> None:
    some = [np.linspace(0, len(values) - 1, ARROWS).round().astype(int) for values in (plane.x, plane.y)]
    width, height = np.ptp(plane.x), np.ptp(plane.y)
    true, learned = (field[np.ix_(*some)] / (width, height) for field in (plane.true, plane.learned))
    longest = np.linalg.norm(true, axis=-1).max() or 1.0
    x, y = np.meshgrid(plane.x[some[0]], plane.y[some[1]], indexing="ij")
    for field, ink, thick in ((true, TRUE, 0.009), (learned, LEARNED, 0.004)):
        speed = np.linalg.norm(field, axis=-1, keepdims=True)
        # Square roots: the slow ones would else be dots.
        arrow = field / np.where(speed > 0, speed, 1.0) * np.sqrt(speed / longest) * 1.5 / ARROWS
        axis.quiver(x, y, arrow[..., 0] * width, arrow[..., 1] * height, color=ink, angles="xy", scale_units="xy",
                    scale=1.0, width=thick, zorder=3)  # fmt: skip


def _outline(axis: Any, plane: Plane) -> None:
    """A shade where the data are."""
    shade = np.where(plane.visited > 0, 0.22, np.nan)
    axis.pcolormesh(plane.x, plane.y, shade.T, cmap="Greys", vmin=0, vmax=1, shading="nearest", zorder=0.5)


def field_line(
    x: np.ndarray, true: np.ndarray, learned: np.ndarray, name: str, *, unit: str, time_unit: str, title: str
) -> Figure:
    """The same of one compartment: rates of change over the amount, `[X]`, learned by one run or several, `[R, X]`."""
    figure, axes = canvas(3.4)
    axis = axes[0, 0]
    settle(axis, words(title, 95), f"{words(name.replace('_', ' '))} ({unit})",
           f"rate of change ({unit}/{time_unit})")  # fmt: skip
    axis.plot(x, true, color=TRUE, lw=4.0, label="true field")
    lines = np.atleast_2d(learned)
    for k, line in enumerate(lines):
        label = ("learned field" if len(lines) == 1 else f"learned fields of {len(lines)} runs") if k == 0 else None
        axis.plot(x, line, color=LEARNED, lw=1.6 if len(lines) == 1 else 0.9, label=label)
    axis.legend(fontsize=SMALL)
    return figure


def grid(low: Sequence[float], high: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Amounts along both axes, and a little beyond."""
    edges = [(a - 0.03 * (b - a), b + 0.06 * (b - a)) for a, b in zip(low, high, strict=True)]
    x, y = (np.linspace(max(a, 0.0), b, CELLS) for a, b in edges)
    return x, y
