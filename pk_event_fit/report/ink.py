"""What all comparison figures share: colours, rows of bars and dots, labels at the ends of lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

# Okabe & Ito 2008: told apart by colour-blind readers and in print.
COLOURS = {
    "diffrax": "#0072B2", "torchdiffeq": "#D55E00", "torchdyn": "#009E73", "torchode": "#CC79A7", "fused": "#E69F00",
}  # fmt: skip
PLUG_INS = ("#56B4E9", "#000000")
EXACT, FAINT, TEXT = "#9a9a9a", "#e5e5e5", "#333333"
DASHED = (0, (4, 1.6))
WIDTH = 7.2  # inches, as printed
SMALL = 9  # points, and nothing below
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure is the same everywhere
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#777777",
    "axes.labelcolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 1.0,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "text.color": TEXT,
    "svg.hashsalt": "pk_event_fit",
    "svg.fonttype": "path",
}


_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


class Look:
    """Colour, dash and name of each variant of a sweep.

    Args:
        variants: All of them, so that a plug-in keeps its colour from figure to figure.
    """

    def __init__(self, variants: Sequence[str]):
        plug_ins = list(dict.fromkeys(name for v in variants if (name := plain(v)) not in COLOURS))
        self._colours = COLOURS | {name: PLUG_INS[k % len(PLUG_INS)] for k, name in enumerate(plug_ins)}

    def colour(self, variant: str) -> str:
        """The framework's, compiled or not."""
        return self._colours.get(plain(variant), PLUG_INS[-1])

    def fill(self, variant: str) -> dict[str, Any]:
        """Of a bar: solid, or hatched where compiled."""
        colour = self.colour(variant)
        if compiled(variant):
            return {"facecolor": tint(colour, 0.8), "edgecolor": colour, "hatch": "/////", "linewidth": 0.8}
        return {"facecolor": colour, "edgecolor": colour, "linewidth": 0.8}

    def line(self, variant: str) -> dict[str, Any]:
        """Of a line: solid, or dashed where compiled."""
        return {"color": self.colour(variant), "linestyle": DASHED if compiled(variant) else "-"}

    def ink(self, variant: str) -> tuple[float, ...]:
        """For words: darker, to be read on white."""
        return tuple(0.75 * part for part in to_rgb(self.colour(variant)))


def plain(variant: str) -> str:
    """The framework of a variant."""
    return variant.removesuffix("-compiled")


def compiled(variant: str) -> bool:
    """Whether a variant is compiled."""
    return variant.endswith("-compiled")


def tint(colour: str, share: float) -> tuple[float, ...]:
    """A colour mixed with that share of white."""
    return tuple(part + (1 - part) * share for part in to_rgb(colour))


def words(text: str, width: int = 26) -> str:
    """A name as a figure takes it: printable, not a formula, not too long."""
    if compiled(text):
        return f"{words(plain(text), max(1, width - 9))}-compiled"
    clean = "".join(letter if letter.isprintable() else "?" for letter in text).replace("$", r"\$")
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"


def canvas(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Figure, np.ndarray]:
    """A figure of the printed width and its axes, `[rows, columns]`."""
    figure = Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def settle(axis: Axes, title: str = "", xlabel: str = "", ylabel: str = "", grid: str = "both") -> None:
    """Title, labels, grid; sizes are set here, since ticks made later would take those of whoever draws."""
    axis.set_title(title, fontsize=10, color=TEXT)
    axis.set_xlabel(xlabel, fontsize=9.5)
    axis.set_ylabel(ylabel, fontsize=9.5)
    axis.tick_params(labelsize=SMALL, color="#777777", labelcolor=TEXT)
    axis.grid(True, axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]


def logarithmic(axis: Axes, which: str) -> None:
    """A logarithmic axis whose ticks are readable, be it over a decade or over twenty."""
    getattr(axis, f"set_{which}scale")("log")
    side = axis.xaxis if which == "x" else axis.yaxis
    low, high = sorted(getattr(axis, f"get_{which}lim")())
    if high < 30 * low:  # hardly a decade: its only round power would be the only number
        side.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        side.set_major_formatter(_PLAIN)
    else:
        side.set_major_locator(LogLocator(10, numticks=6 if which == "x" else 8))
        plain_numbers = 5e-4 < low < high < 5e4
        side.set_major_formatter(_PLAIN if plain_numbers else LogFormatterSciNotation())
    side.set_minor_formatter(NullFormatter())


def set_rows(axis: Axes, names: Sequence[str], *, wrap: bool = False) -> None:
    """One row for each name, from the top."""
    shown = [words(name).replace("-compiled", "\ncompiled" if wrap else "-compiled") for name in names]
    axis.set_yticks(range(len(names)), shown)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def bars(axis: Axes, look: Look, values: Mapping[str, Sequence[float]], absent: Mapping[str, str]):
    """A bar a variant to its mean, with standard deviation, every single value, and the mean in words.

    Args:
        axis: With a row for each variant.
        look: Of the variants.
        values: By variant, in the order of the rows; empty where there are none.
        absent: What to say of those.
    """
    known = [value for some in values.values() for value in some]
    top = max(known, default=0.0) or 1.0
    wide = min(known, default=1.0) <= 0 or top < 30 * min(known, default=1.0)
    for row, (variant, some) in enumerate(values.items()):
        if not some:
            say(axis, row, absent.get(variant, "not measured"))
            continue
        mean, sd = float(np.mean(some)), float(np.std(some, ddof=1)) if len(some) > 1 else None
        if wide:
            axis.barh(row, mean, height=0.62, **look.fill(variant))
        else:  # a bar has no start on a logarithmic axis
            axis.plot([mean], [row], "o", ms=7, mfc=look.fill(variant)["facecolor"], mec=look.colour(variant))
        if len(some) > 1:
            spots = row + np.linspace(-0.17, 0.17, len(some))
            axis.plot(some, spots, "o", ms=2.6, mfc="white", mec=TEXT, mew=0.6, zorder=4)
            axis.errorbar(mean, row, xerr=sd, color=TEXT, capsize=3, lw=1.1, zorder=3)
        spread = f" ± {_like(sd, figures(mean))}" if sd and sd > 1e-9 * mean else ""
        edge = max(*some, mean + (sd or 0.0))
        axis.annotate(figures(mean) + spread, (edge, row), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=SMALL)  # fmt: skip
    if wide:
        axis.set_xlim(0, top * 1.04)
        axis.xaxis.set_major_locator(MaxNLocator(4))
    else:
        axis.set_xlim(min(known) / 1.6, top * 1.6)
        logarithmic(axis, "x")


def figures(value: float) -> str:
    """A positive number to three figures, ending noughts kept."""
    if 999.5 <= value < 1e6:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def compact(value: float) -> str:
    """A number to two figures in as few letters as will do."""
    if value == 0 or 0.01 <= abs(value) < 9999.5:
        return f"{value:.2g}" if abs(value) < 99.5 else f"{value:.0f}"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(power)}"


def _like(sd: float, mean: str) -> str:
    """A deviation with the decimals of its mean, or one figure where those would make it 0."""
    text = f"{sd:.{len(mean.partition('.')[2])}f}" if "e" not in mean else f"{sd:.1g}"
    return text if float(text) else f"{sd:.1g}"


def room(axis: Axes, share: float) -> None:
    """Widen an axis to the right by a share of its length, for words."""
    low, high = axis.get_xlim()
    if axis.get_xscale() == "log":
        axis.set_xlim(low, high * (high / low) ** (0.7 * share))
    else:
        axis.set_xlim(low, high + share * (high - low))


def say(axis: Axes, row: float, text: str) -> None:
    """Put words in a row in place of a value."""
    axis.annotate(words(text, 44), (0, row), xycoords=("axes fraction", "data"), xytext=(4, 0), style="italic",
                  textcoords="offset points", va="center", fontsize=SMALL, color="#777777")  # fmt: skip


def dots(axis: Axes, look: Look, variant: str, row: float, values: Sequence[float], *, hollow: bool = False) -> None:
    """Single values in a row, and a bar at their mean."""
    colour = look.colour(variant)
    face = "white" if hollow else tint(colour, 0.75) if compiled(variant) else colour
    spots = row + (np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1))
    axis.plot(values, spots, "o", ms=5.5, mfc=face, mec=colour, mew=1.3, zorder=3)
    if len(values) > 1:
        axis.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, lw=1.8, zorder=2)


def end_labels(axis: Axes, entries: Sequence[tuple[float, float, str, Any]], gap: float = 0.075) -> None:
    """Names beside the ends of lines, right of the axes, moved apart where they would overlap.

    A line that ends in the left half has its name at its end.

    Args:
        axis: With its final limits.
        entries: x, y, words and colour of each.
        gap: Least distance of two, as a share of the axes' height.
    """
    if not entries:
        return
    spots = axis.transAxes.inverted().transform(axis.transData.transform([entry[:2] for entry in entries]))[:, 1]
    order = np.argsort(spots, kind="stable")
    moved = np.clip(spots[order], 0, 1)
    for _ in range(200):
        for k in range(len(moved) - 1):
            if (lack := gap - (moved[k + 1] - moved[k])) > 1e-9:
                moved[k] -= lack / 2
                moved[k + 1] += lack / 2
        moved += max(0.0, -moved[0])
        moved -= max(0.0, moved[-1] - 1) if gap * (len(moved) - 1) <= 1 else 0.0
    for height, k in zip(moved, order, strict=True):
        x, y, text, colour = entries[k]
        if axis.transAxes.inverted().transform(axis.transData.transform((x, y)))[0] < 0.5:  # a line to it would cross
            axis.annotate(words(text), (x, y), xytext=(12, 0), textcoords="offset points", va="center", fontsize=SMALL,
                          color=colour)  # fmt: skip
            continue
        axis.annotate(
            words(text), (x, y), xytext=(1.05, float(height)), textcoords="axes fraction", va="center", fontsize=SMALL,
            color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)},
        )  # fmt: skip


def turns(k: int, of: int) -> Any:
    """A dash that leaves the others of its group their places."""
    return "-" if of == 1 else (k * 5.0, (5.0, 5.0 * (of - 1)))


def together(lines: Sequence[np.ndarray]) -> list[list[int]]:
    """Which lines lie on top of each other: within a hundredth of their range."""
    groups: list[list[int]] = []
    for k, line in enumerate(lines):
        for group in groups:
            other = lines[group[0]]
            if other.shape == line.shape and abs(other - line).max() <= 0.01 * max(np.ptp(other), np.ptp(line)):
                group.append(k)
                break
        else:
            groups.append([k])
    return groups


def nothing(axis: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.text(0.5, 0.5, textwrap.fill(text, 34), ha="center", va="center", transform=axis.transAxes, color="#777777",
              style="italic", fontsize=SMALL)  # fmt: skip


def footnote(figure: Figure, text: str) -> None:
    """A note below a figure."""
    if text:
        width = int(14.5 * figure.get_figwidth())
        wrapped = textwrap.fill(re.sub(r"(?<!\\)\$", r"\$", text), width, max_lines=4, placeholder=" …")
        figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=SMALL, color="#555555")
