"""The figure of a regimen: what is given above, what becomes of it below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import store
from .ink import (
    COLOURS,
    FAINT,
    PLUG_INS,
    SMALL,
    STYLE,
    canvas,
    end_labels,
    footnote,
    logarithmic,
    set_rows,
    settle,
    tint,
    words,
)  # fmt: skip

INKS = (*COLOURS.values(), *PLUG_INS)
DPI = 150
GREY = "#777777"
LINES = 60  # doses that are marked by a line through all panels, at most
APART = 0.09  # of the time axis: labels of doses that are closer are left out
DECADES = 1e-6  # of the largest value: a logarithmic axis goes no lower


def draw_regimen(
    path: Path,
    times: np.ndarray,
    amounts: np.ndarray,
    concentration: np.ndarray,
    *,
    compartments: Sequence[str],
    measured: int,
    subject: np.ndarray,
    labels: Sequence[str],
    given: np.ndarray,
    resets: np.ndarray,
    observed: np.ndarray,
    log: bool = False,
    title: str = "",
    note: str = "",
) -> tuple[Path, Path]:
    """Write `path` as PNG and SVG: doses, the concentration and, of a single subject, the amounts against time.

    Both are drawn before either is written. Q times, M doses, R resets, N observations, D compartments.

    Args:
        path: Folder and name, without a suffix.
        times: h, `[Q]`, increasing within a subject; a time that comes twice is a jump, which no line crosses.
        amounts: mg, `[Q, D]`; of "effect" a concentration, mg/L, and of "response" the response.
        concentration: mg/L, `[Q]`.
        compartments: D names.
        measured: Which compartment the concentration is that of, from 0.
        subject: Whose, from 0, `[Q]`, not decreasing.
        labels: Of the subjects.
        given: Subject, compartment (from 0), begin (h), end (h; the begin of a bolus) and amount (mg; NaN for no
            label) of each dose, `[M, 5]`.
        resets: Subject and time (h) of each reset, `[R, 2]`.
        observed: Subject, time (h) and concentration (mg/L), `[N, 3]`.
        log: Whether the axis of the concentration is logarithmic.
        title: Above all.
        note: Below all.

    Returns:
        Paths of the PNG and the SVG.

    Raises:
        OSError: A file cannot be written.
    """
    content = {}
    with matplotlib.rc_context(STYLE):
        several = len(labels) > 1
        others = [] if several else _panels(compartments)
        strip = _names(given, compartments, labels)
        heights = [0.4 + 0.42 * len(strip), 2.6, *[2.1 for _ in others]]
        figure, axes = canvas(sum(heights) + 1.3, len(heights), 1, sharex=True, height_ratios=heights)
        top, main, *rest = axes[:, 0]
        low, high = float(times.min()), float(times.max())
        span = (high - low) or 1.0
        top.set_xlim(low - 0.02 * span, high + 0.02 * span)
        _doses(top, given, strip, several, span)
        _concentration(main, times, concentration, subject, labels, compartments, measured, observed, log)
        for axis, (chosen, unit) in zip(rest, others, strict=True):
            _amounts(axis, times, amounts, compartments, chosen, unit)
        _mark(axes[:, 0], given, resets, several)
        axes[-1, 0].set_xlabel("time (h)", fontsize=9.5)
        figure.suptitle(words(title, 90), x=0.01, ha="left", fontsize=11)
        footnote(figure, note)
        for kind in ("png", "svg"):
            content[kind] = _rendered(figure, kind, title)
    paths = path.parent / f"{path.name}.png", path.parent / f"{path.name}.svg"
    for one, kind in zip(paths, content, strict=True):
        store.write_bytes(one, content[kind])
    return paths


def broken(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values, `[Q]` and `[Q, ...]`, with a gap where a time comes twice: no line is to cross a jump."""
    at = np.flatnonzero(np.diff(times) <= 0) + 1
    return np.insert(times, at, np.nan), np.insert(values, at, np.nan, axis=0)


def _rendered(figure: Figure, kind: str, title: str) -> bytes:
    """The same figure gives the same bytes."""
    stream = io.BytesIO()
    about: dict[str, Any] = {"Title": title} | ({"Date": None} if kind == "svg" else {})
    figure.savefig(stream, format=kind, dpi=DPI, metadata=about)
    figure.set_layout_engine("none")  # what was laid out once need not be again
    return stream.getvalue()


def _panels(compartments: Sequence[str]) -> list[tuple[list[int], str]]:
    """Panels below the concentration: compartments and what their axis is called."""
    others = {"effect": "effect site (mg/L)", "response": "response"}
    masses = [k for k, name in enumerate(compartments) if name not in others]
    rest = [([k], others[name]) for k, name in enumerate(compartments) if name in others]
    # The one amount that there is would be the concentration again.
    return ([(masses, "amount (mg)")] if len(masses) > 1 else []) + rest


def _names(given: np.ndarray, compartments: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Rows of the strip: the compartments that are dosed, or the subjects where each can have a colour, or one row."""
    if len(labels) > len(INKS):
        return [f"{len(labels)} subjects"]
    if len(labels) > 1:
        return list(labels)
    return [_plain(compartments[k]) for k in np.unique(given[:, 1]).astype(int)] or ["nothing given"]


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _ink(number: int, of: int) -> dict[str, Any]:
    """Colour of a subject among several."""
    return {"color": INKS[number]} if of <= len(INKS) else {"color": INKS[0], "alpha": 0.35}


def _doses(axis: Axes, given: np.ndarray, names: Sequence[str], several: bool, span: float) -> None:
    """A strip: boluses as arrows whose length tells the amount, infusions as bars."""
    settle(axis, "given, as it arrives: arrows are boluses, bars are infusions", grid="x")
    set_rows(axis, names)
    axis.spines["left"].set_visible(False)
    largest = float(np.nanmax(given[:, 4], initial=0.0)) or 1.0
    sites = np.unique(given[:, 1])
    free = np.full(len(names), -np.inf)  # time up to which a label takes the room of each row
    for subject, site, begin, end, amount in given[np.argsort(given[:, 2], kind="stable")]:
        row = int(np.searchsorted(sites, site)) if not several else int(subject) if len(names) > 1 else 0
        colour = INKS[int(subject) if several and len(names) > 1 else 0 if several else int(site)]
        base = row + 0.3
        if end > begin:
            axis.broken_barh([(begin, end - begin)], (base - 0.26, 0.26), facecolor=tint(colour, 0.6), edgecolor=colour,
                             linewidth=1.0, alpha=0.8)  # fmt: skip
        else:
            high = base - 0.2 - 0.3 * amount / largest
            axis.plot([begin, begin], [high, base], color=colour, lw=1.6, solid_capstyle="butt")
            axis.plot([begin], [base], "v", color=colour, ms=4.5, clip_on=False)
        if np.isfinite(amount) and begin >= free[row]:
            axis.annotate(f"{amount:g} mg", (begin, row - 0.22), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize=SMALL)  # fmt: skip
            free[row] = begin + APART * span


def _concentration(axis, times, values, subject, labels, compartments, measured, observed, log) -> None:
    """The concentration of every subject, and what was observed of it."""
    settle(axis, f"{_plain(compartments[measured])} concentration", ylabel="mg/L")
    count, ends = len(labels), []
    for number, label in enumerate(labels):
        own, seen = subject == number, observed[:, 0] == number
        if not own.any():
            continue
        style = _ink(number, count) if count > 1 else {"color": INKS[measured]}
        axis.plot(*broken(times[own], _shown(values[own], log)), lw=2.0, **style)
        axis.plot(observed[seen, 1], _shown(observed[seen, 2], log), "o", ms=4.5, mfc="white", mew=1.2, **style)
        name = _plain(compartments[measured]) if count == 1 else label
        ends.append((float(times[own][-1]), float(values[own][-1]), name, style["color"]))
    _limit(axis, np.concatenate([values, observed[:, 2]]), log)
    if count <= len(INKS):
        low = axis.get_ylim()[0]
        end_labels(axis, [(x, max(y, low), name, colour) for x, y, name, colour in ends], 0.085)


def _amounts(axis, times, amounts, compartments, chosen, unit) -> None:
    """What is in some of the compartments of a single subject."""
    settle(axis, "", ylabel=unit)
    for k in chosen:
        axis.plot(*broken(times, amounts[:, k]), lw=1.8, color=INKS[k])
    _limit(axis, amounts[:, chosen].ravel(), False)
    ends = [(float(times[-1]), float(amounts[-1, k]), _plain(compartments[k]), INKS[k]) for k in chosen]
    end_labels(axis, ends, 0.1)


def _mark(axes: np.ndarray, given: np.ndarray, resets: np.ndarray, several: bool) -> None:
    """Lines through all panels, where a single subject is dosed or reset; the resets alone where there are several."""
    doses = np.unique(given[:, 2])
    for axis in axes:
        for time in doses if not several and len(doses) <= LINES else []:
            axis.axvline(time, color=FAINT, lw=1.0, ls=":", zorder=0.5)
        for time in np.unique(resets[:, 1]):
            axis.axvline(time, color=GREY, lw=1.2, ls="--", zorder=0.6)
    for time in np.unique(resets[:, 1]):
        axes[1].annotate("reset", (time, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -3),
                         textcoords="offset points", va="top", fontsize=SMALL, color=GREY)  # fmt: skip


def _shown(values: np.ndarray, log: bool) -> np.ndarray:
    """What an axis can show."""
    return np.where(values > 0, values, np.nan) if log else values


def _limit(axis: Axes, values: np.ndarray, log: bool) -> None:
    """Final limits, which labels at the ends of lines need; from 0 where nothing is below."""
    high = float(values.max(initial=0.0)) or 1.0
    if log and (values > 0).any():
        low = max(float(values[values > 0].min()), DECADES * high)
        axis.set_ylim(low / 1.5, high * 1.5)
        logarithmic(axis, "y")
        return
    low = float(values.min(initial=0.0))
    margin = 0.06 * (high - low)
    axis.set_ylim(low - margin if low < 0 else 0.0, high + margin)
