"""How the experiments' figures look."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from pk_event_fit import store

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

__all__ = ["NullLocator", "colour", "label_ends", "panels", "plain_numbers", "save"]

# Okabe & Ito 2008: told apart by colour-blind readers and in print.
COLOURS = {
    "diffrax": "#0072B2",
    "torchdiffeq": "#D55E00",
    "torchdyn": "#009E73",
    "torchode": "#CC79A7",
    "fused": "#E69F00",
}
OTHERS = ("#56B4E9", "#000000")
STYLE: Any = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.8,
    "svg.hashsalt": "pk_event_fit",
}


def colour(framework: str) -> str:
    """The same for a framework in every figure."""
    return COLOURS.get(framework) or OTHERS[sum(map(ord, framework)) % len(OTHERS)]


def panels(columns: int, *, width: float = 5.2, height: float = 4.4):
    """A figure with panels side by side."""
    plt.rcParams.update(STYLE)
    return plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False, layout="constrained")


def plain_numbers(axis) -> None:
    """Numbers at the marks of a logarithmic y axis whose limits are final; between decades too where they are few."""
    low, high = axis.get_ylim()
    subs = (1, 2, 5) if high < 300 * low else (1,)
    axis.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.yaxis.set_major_formatter(lambda value, place: f"{value:,.6g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def label_ends(axis, ends: list[tuple[float, float, str, str]], *, gap: float = 14.0) -> None:
    """Write each line's name at the right edge, led to from its end, pushed apart where they would overlap.

    Args:
        axis: Its limits and scales must be final.
        ends: x, y, text, colour.
        gap: Least distance between two labels, points.
    """
    if not ends:
        return
    axis.figure.canvas.draw()
    unit = 72 / axis.figure.dpi
    ends = sorted(ends, key=lambda end: end[1])
    heights = axis.transData.transform([end[:2] for end in ends])[:, 1] * unit
    low, high = (axis.transAxes.transform((0, k))[1] * unit for k in (0.02, 0.98))
    for _ in range(500):  # neighbours push each other apart by half of what they lack, and the frame pushes back
        lack = np.clip(gap - np.diff(heights), 0, None) / 2
        heights[:-1] -= lack
        heights[1:] += lack
        heights = np.clip(heights, low, high)
    for (x, y, text, tint), height in zip(ends, heights, strict=True):
        place = axis.transData.inverted().transform((0, height / unit))[1]
        axis.annotate(
            text, (x, y), xytext=(1.04, place), textcoords=axis.get_yaxis_transform(), color=tint, va="center",
            fontsize=10, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": tint, "lw": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 4,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def save(figure, folder: Path) -> None:
    """Write `figure.svg` and `figure.png`."""
    for kind, extra in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 130})):
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, bbox_inches="tight", **extra)
        store.write_bytes(folder / f"figure.{kind}", stream.getvalue())
    plt.close(figure)
