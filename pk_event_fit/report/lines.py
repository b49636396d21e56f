"""Panels of lines: errors along the fits, and work against precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from .ink import TEXT, Look, compact, compiled, end_labels, logarithmic, nothing, plain, settle, together, turns, words
from .panels import of_runs
from .sweep import Sweep

DRAWN = 500  # points of a curve: with every one of thousands a page has megabytes


def losses(sweep: Sweep) -> dict[str, dict[int, np.ndarray]]:
    """RMSE in mg along the comparable fits, by variant and seed, all cut to the length of the shortest."""
    curves: dict[str, dict[int, np.ndarray]] = {}
    for run in sweep.comparable:
        if run.history and run.seed is not None and (run.history["loss"] > 0).all():
            curves.setdefault(run.variant, {})[run.seed] = np.sqrt(run.history["loss"])
    length = min((len(curve) for seeds in curves.values() for curve in seeds.values()), default=0)
    return {
        variant: {seed: curve[:length] for seed, curve in sorted(curves[variant].items())}
        for variant in sweep.variants
        if variant in curves
    }


def drawn(count: int) -> np.ndarray:
    """Iterations that are drawn: all of them where they are far apart on a logarithmic axis, further on what shows."""
    return np.unique(np.geomspace(1, count, DRAWN).round().astype(int))


def loss(axis: Axes, sweep: Sweep, look: Look, *, small: bool = False) -> bool:
    """RMSE along the fits: mean over seeds, and the band between the least and the largest."""
    settle(axis, "error along the fit", "iteration", "RMSE (mg)")
    curves = {variant: np.stack([*seeds.values()]) for variant, seeds in losses(sweep).items()}
    if not curves:
        nothing(axis, "no history of a comparable fit")
        return False
    names = list(curves)
    for group in together([np.log(values.mean(0)) for values in curves.values()]):
        for k, index in enumerate(group):
            values, style = curves[names[index]], look.line(names[index])
            if len(group) > 1:
                style["linestyle"] = turns(k, len(group))
            x = drawn(values.shape[1])
            values = values[:, x - 1]
            axis.fill_between(x, values.min(0), values.max(0), color=style["color"], alpha=0.18, lw=0)
            axis.plot(x, values.mean(0), lw=2.0, dash_capstyle="butt", **style)
    longest = max(values.shape[1] for values in curves.values())
    axis.set_xlim(1, max(longest, 2))
    logarithmic(axis, "x")
    floors = [f for v in curves for f in of_runs(sweep, v, lambda r: r["accuracy"].get("rmse_floor")) if f > 0]
    if floors:
        axis.axhline(float(np.median(floors)), color=TEXT, lw=1.1, ls=":", zorder=1)
        axis.annotate("floor: best single curve", (0, float(np.median(floors))), xycoords=("axes fraction", "data"),
                      xytext=(4, 3), textcoords="offset points", fontsize=9)  # fmt: skip
    low = min([values.min() for values in curves.values()] + floors)
    axis.set_ylim(low / 1.12, max(values.max() for values in curves.values()) * 1.1)
    logarithmic(axis, "y")
    named = [v for v in curves if not (small and compiled(v) and plain(v) in curves)]
    ends = [(curves[v].shape[1], float(curves[v].mean(0)[-1]), v, look.ink(v)) for v in named]
    end_labels(axis, ends, 0.075)
    return True


def apart(axis: Axes, curves: Mapping[str, Mapping[int, np.ndarray]], look: Look) -> None:
    """How far the fits of a variant are from the mean of all with the same seed, in percent, mean over seeds."""
    settle(axis, "", "iteration", "from the mean of\nits seed (%)")
    by_seed: dict[int, list[np.ndarray]] = {}
    for seeds in curves.values():
        for seed, curve in seeds.items():
            by_seed.setdefault(seed, []).append(curve)
    for variant, seeds in curves.items():
        off = np.mean([100 * (curve / np.mean(by_seed[seed], 0) - 1) for seed, curve in seeds.items()], 0)
        x = drawn(len(off))
        axis.plot(x, off[x - 1], lw=1.3, **look.line(variant))


def work_precision(axis: Axes, sweep: Sweep, look: Look, *, gap: float = 0.07, small: bool = False) -> bool:
    """Largest error against time, a line a framework, a dot a tolerance."""
    settle(axis, "work and precision", "time of one solve of all subjects (s)", "largest error (mg)")
    lines = {}
    for variant in sweep.variants:
        content = sweep.probes.get("precision", {}).get(variant, {})
        some = [p for p in content.get("points") or [] if p.get("status") == content.get("status") == "completed"]
        some = [p for p in some if p.get("seconds") and min(p["seconds"]) > 0 and p.get("error_mg") and p.get("rtol")]
        if some:
            lines[variant] = sorted(some, key=lambda p: -p["rtol"])
    if not lines:
        nothing(axis, "not measured")
        return False
    for variant, points in lines.items():
        x = np.array([np.mean(p["seconds"]) for p in points])
        ends = ([min(p["seconds"]) for p in points] - x, [max(p["seconds"]) for p in points] - x)
        axis.errorbar(x, [p["error_mg"] for p in points], xerr=np.abs(ends), marker="o", ms=4.5, lw=1.6,
                      capsize=2, elinewidth=0.9, **look.line(variant))  # fmt: skip
    logarithmic(axis, "x")
    logarithmic(axis, "y")
    fastest = min(lines, key=lambda variant: float(np.mean(lines[variant][0]["seconds"])))
    for point in [] if small else lines[fastest]:
        spot = (float(np.mean(point["seconds"])), point["error_mg"])
        axis.annotate(f"rtol {compact(point['rtol'])}", spot, xytext=(-7, -3), textcoords="offset points", ha="right",
                      va="top", fontsize=9, color=look.ink(fastest))  # fmt: skip
    low, high = axis.get_xlim()
    axis.set_xlim(low / (1 if small else (high / low) ** 0.18), high)
    last = [(float(np.mean(p[-1]["seconds"])), p[-1]["error_mg"], v, look.ink(v)) for v, p in lines.items()]
    end_labels(axis, last, gap)
    return True


def imprecise(sweep: Sweep) -> str:
    """What work-precision figures have to say of points that they lack."""
    parts = []
    for variant, content in sweep.probes.get("precision", {}).items():
        failed = [
            compact(p["rtol"]) for p in content.get("points") or [] if p.get("status") == "failed" and p.get("rtol")
        ]
        if content.get("status") != "completed":
            parts.append(f"{words(variant)}: {content['status']}")
        elif failed:
            parts.append(f"{words(variant)}: failed at rtol {', '.join(failed)}")
    return "; ".join(parts)
