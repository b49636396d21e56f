"""Panels of what happens at a dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..compartments import COMPARTMENTS
from ..errors import DataError
from .ink import TEXT, Look, compact, end_labels, logarithmic, nothing, together, turns, words
from .panels import probe_state
from .probes import Curve, read_curves
from .series import TREATED
from .sweep import Sweep

METRICS = {
    "jump_error_mg": "jump\nerror\n(mg)",
    "jump_error_max_mg": "largest\njump\nerror (mg)",
    "overshoot_percent_max": "largest\novershoot\n(%)",
    "oscillation_mg": "oscil-\nlation\n(mg)",
    "noise_mg2": "noise\n(mg²)",
    "error_max_mg": "largest\nerror\n(mg)",
    "steps_after_dose": "steps\nafter\na dose",
}
LEAST = 1e-12  # mg; below that an error is the rounding of whoever subtracts

Curves = Mapping[str, Mapping[str, Curve]]


def curves(sweep: Sweep) -> dict[str, dict[str, Curve]]:
    """The curves of every framework that has them, by variant."""
    found = {}
    for variant, content in sweep.probes.get("stability", {}).items():
        if content.get("status") == "completed":
            try:
                found[variant] = read_curves(sweep.folder, variant)
            except DataError:  # `read` has named it among the problems
                continue
    return found


def treated(some: Curves, name: str) -> list[str]:
    """Variants that have that curve."""
    return [variant for variant, arrays in some.items() if name in arrays]


def infusion(sweep: Sweep) -> str:
    """How wide the dose is to a solver that is not restarted."""
    widths = {width for one in sweep.probes.get("stability", {}).values() if (width := one.get("infusion_h"))}
    told = f" of {' or '.join(f'{width:g}' for width in sorted(widths))} h" if widths else ""
    return f"Without a restart the dose is an infusion{told}: told its ends (jump_ts or its like), or told nothing."


def dose_time(curve: Curve) -> float:
    """Where the exact course jumps, h."""
    return float(curve.times[int(np.argmax(np.diff(curve.exact[:, 0])))])


def overlay(axis: Axes, some: Curves, name: str, look: Look, compartment: int = 0) -> None:
    """Curves over the exact one; dashes take turns where lines lie on each other, so that all are to be seen."""
    shown = treated(some, name)
    if not shown:
        return
    first = some[shown[0]][name]
    axis.plot(first.times, first.exact[:, compartment], color="#cfcfcf", lw=6, solid_capstyle="butt", zorder=1)
    for group in together([some[v][name].predicted[:, compartment] for v in shown]):
        for k, index in enumerate(group):
            curve = some[shown[index]][name]
            axis.plot(curve.times, curve.predicted[:, compartment], color=look.colour(shown[index]), lw=1.9,
                      ls=turns(k, len(group)), dash_capstyle="butt", zorder=2)  # fmt: skip
    axis.axvline(dose_time(first), color=TEXT, lw=0.9, ls=":", zorder=0)
    axis.annotate("dose", (dose_time(first), 0.5), xycoords=("data", "axes fraction"), xytext=(-5, 0), va="center",
                  textcoords="offset points", ha="right", fontsize=9)  # fmt: skip
    axis.set_xlim(first.times[0], first.times[-1])


def errors(
    axis: Axes, some: Curves, name: str, look: Look, compartment: int = 0, *, label: bool = True
) -> tuple[float, float] | None:
    """Distances from the exact curve, on a logarithmic axis; its limits, where there is anything to draw."""
    shown = treated(some, name)
    distances = [abs(some[v][name].predicted - some[v][name].exact)[:, compartment] for v in shown]
    ends, low, high = [], np.inf, LEAST
    for group in together([np.log10(np.maximum(distance, LEAST)) for distance in distances]):
        for k, index in enumerate(group):
            times, distance, colour = some[shown[index]][name].times, distances[index], look.colour(shown[index])
            seen = distance > LEAST
            axis.plot(times, np.where(seen, distance, np.nan), lw=1.5, color=colour, ls=turns(k, len(group)),
                      dash_capstyle="butt")  # fmt: skip
            axis.set_xlim(times[0], times[-1])
            if seen.any():
                low, high = min(low, float(np.percentile(distance[seen], 2))), max(high, float(distance.max()))
                ends.append((float(times[seen][-1]), float(distance[seen][-1]), shown[index], look.ink(shown[index])))
    if not ends:
        nothing(axis, "no error to be seen" if treated(some, name) else "no curve")
        return None
    axis.set_ylim(low / 2, high * 3)
    logarithmic(axis, "y")
    if label:
        end_labels(axis, ends, 0.09)
    return low / 2, high * 3


def share_errors(axes: Sequence[Axes], limits: Sequence[tuple[float, float] | None]) -> None:
    """One scale for panels of errors side by side."""
    known = [pair for pair in limits if pair]
    for axis, pair in zip(axes, limits, strict=True):
        if pair:
            axis.set_ylim(min(low for low, _ in known), max(high for _, high in known))
            logarithmic(axis, "y")
            axis.tick_params(labelleft=axis is axes[0])


def key(figure, look: Look, variants: Sequence[str], **place: Any) -> None:
    """Colours in words, above the panels."""
    handles = [Line2D([], [], color="#cfcfcf", lw=6, label="exact")]
    handles += [Line2D([], [], color=look.colour(v), lw=2.2, label=words(v)) for v in variants]
    figure.legend(handles=handles, ncols=min(len(handles), 6), **{"loc": "outside upper left", "fontsize": 9} | place)


def compartment_name(index: int) -> str:
    """Of the known kinetics; a number beyond them."""
    return COMPARTMENTS[index] if index < len(COMPARTMENTS) else f"compartment {index + 1}"


def absent(sweep: Sweep, field: str, treatment: str) -> dict[str, list[str]]:
    """Frameworks without a curve, by why."""
    found: dict[str, list[str]] = {}
    for variant, content in sweep.probes.get("stability", {}).items():
        part = ((content.get("fields") or {}).get(field) or {}).get(treatment) or {}
        if content.get("status") != "completed":
            found.setdefault(probe_state(sweep, "stability", variant), []).append(variant)
        elif part.get("status") != "completed":
            word = {"unsupported": "cannot do that", "failed": "failed"}.get(part.get("status", ""), "not measured")
            found.setdefault(word, []).append(variant)
    return found


def say_absent(axis: Axes, sweep: Sweep, some: Curves, field: str, treatment: str) -> None:
    """Name in a panel whoever has no curve there, and why, and whoever has one that is without the dose."""
    found = dict(absent(sweep, field, treatment))
    if missed := [v for v in treated(some, f"{field}.{treatment}") if _missed(some[v][f"{field}.{treatment}"])]:
        found["missed the dose"] = missed
    lines = ["\n".join([*(words(name, 14) for name in names), word]) for word, names in found.items()]
    if lines:
        axis.text(0.97, 0.52, "\n".join(lines), transform=axis.transAxes, va="center", ha="right", fontsize=9,
                  style="italic", color="#555555")  # fmt: skip


def _missed(curve: Curve) -> bool:
    """Whether a curve ends more than half of the exact one's rise away from it."""
    exact = curve.exact[:, 0]
    rise = exact.max() - exact[curve.times <= dose_time(curve)][0]
    return bool(abs(curve.predicted[-1, 0] - exact[-1]) > 0.5 * rise > 0)


def stability_table(axis: Axes, sweep: Sweep, field: str) -> bool:
    """Numbers of every framework and treatment; the darker, the larger within its column."""
    variants = list(sweep.probes.get("stability", {}))
    lines = [(variant, treatment) for variant in variants for treatment in TREATED]
    parts = [_part(sweep, variant, field, treatment) for variant, treatment in lines]
    shades = {metric: _shades([part.get(metric) for part in parts]) for metric in METRICS}
    axis.set_axis_off()
    axis.set_xlim(-3.3, len(METRICS))
    axis.set_ylim(len(lines) + 0.1, -2.4)
    axis.text(-3.3, -0.75, f"{field} field", fontsize=10.5, weight="bold")
    for column, title in enumerate(METRICS.values()):
        axis.text(column + 0.5, -0.2, title, ha="center", va="bottom", fontsize=9)
    for row, ((variant, treatment), part) in enumerate(zip(lines, parts, strict=True)):
        if treatment == next(iter(TREATED)):
            axis.text(-3.3, row + 0.5, words(variant, 15), va="center", fontsize=9, weight="bold")
            axis.plot([-3.3, len(METRICS)], [row, row], color="#999999", lw=0.8)
        axis.text(-0.08, row + 0.5, TREATED[treatment], va="center", ha="right", fontsize=9)
        if not part:
            text = _why(sweep, variant, field, treatment)
            axis.text(0.1, row + 0.5, text, va="center", fontsize=9, style="italic", color="#777777")
            continue
        for column, metric in enumerate(METRICS):
            # A flat line where the dose should be has no overshoot and no noise.
            flat = part.get("missed") and metric in ("overshoot_percent_max", "oscillation_mg", "noise_mg2")
            _cell(axis, column, row, part.get(metric), 0.0 if flat else shades[metric][row], "missed" if flat else None)
    return any(parts)


def _part(sweep: Sweep, variant: str, field: str, treatment: str) -> dict[str, Any]:
    content = sweep.probes["stability"][variant]
    part = ((content.get("fields") or {}).get(field) or {}).get(treatment) or {}
    return part if content.get("status") == part.get("status") == "completed" else {}


def _why(sweep: Sweep, variant: str, field: str, treatment: str) -> str:
    return next((word for word, names in absent(sweep, field, treatment).items() if variant in names), "not measured")


def _shades(values: Sequence[float | None]) -> list[float]:
    """From 0 for the least to 1 for the largest, by order of magnitude; 0 for what is missing, or 0."""
    logs = [float(np.log10(abs(value))) if value else None for value in values]  # 0 is no order of magnitude
    known = [value for value in logs if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # A column whose numbers are hardly apart is not to look as if they were.
    return [0.0 if value is None else (value - low) / max(high - low, 1.0) for value in logs]


def _cell(axis: Axes, column: int, row: int, value: float | None, shade: float, word: str | None = None) -> None:
    face = tuple(1 - shade * (1 - part) for part in (0.48, 0.67, 0.85))
    axis.fill_between([column + 0.03, column + 0.97], row + 0.04, row + 0.96, color=face, lw=0)
    text = word or ("–" if value is None else compact(value))
    axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=9, color=TEXT)
