"""Panels of what fits cost and how good they are; each draws into axes and tells whether there was anything to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .ink import (
    TEXT,
    Look,
    bars,
    compiled,
    dots,
    figures,
    logarithmic,
    nothing,
    room,
    say,
    set_rows,
    settle,
    words,
)
from .sweep import Sweep

STATES = {"unsupported": "not supported", "completed": "not measured"}


def mode_of(sweep: Sweep, variant: str, mode: str = "direct") -> dict[str, Any]:
    """What the speed probe measured in a gradient mode; empty where it did not."""
    content = sweep.probes.get("speed", {}).get(variant, {})
    part = (content.get("modes") or {}).get(mode) or {}
    return part if content.get("status") == part.get("status") == "completed" else {}


def probe_state(sweep: Sweep, probe: str, variant: str, mode: str | None = None) -> str:
    """Why a probe has no number, in a word or two."""
    content = sweep.probes.get(probe, {}).get(variant, {})
    part = (content.get("modes") or {}).get(mode) if mode else None
    status = (part or content).get("status", "completed")
    return STATES.get(status, status)


def run_state(sweep: Sweep, variant: str) -> str:
    """Why a variant's fits have no number, in a word or two."""
    runs = [run for run in sweep.runs if run.variant == variant]
    states = {"other settings" if run.name in sweep.differing else run.status for run in runs if run.status}
    return " and ".join(sorted(STATES.get(state, state) for state in states)) or "not run"


def of_runs(sweep: Sweep, variant: str, pick: Callable[[Mapping[str, Any]], Any]) -> list[float]:
    """A number of each comparable run of a variant, where it has one."""
    values = [pick(run.result) for run in sweep.comparable if run.variant == variant]
    return [float(value) for value in values if value is not None]


def _performance(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda result: result["performance"].get(name)


def _median_step(result: Mapping[str, Any]) -> Any:
    return (result["performance"].get("step_ms") or {}).get("median")


def step_time(axis: Axes, sweep: Sweep, look: Look, *, small: bool = False) -> bool:
    """Time of a training step, from the timed blocks; from the fits where no block was timed."""
    variants = sweep.variants
    values: dict[str, Sequence[float]] = {v: mode_of(sweep, v).get("step_ms") or [] for v in variants}
    absent = {v: probe_state(sweep, "speed", v) for v in variants}
    title = "time per training step"
    if not any(values.values()):
        values = {
            v: of_runs(sweep, v, lambda r: (r["performance"].get("step_ms") or {}).get("median")) for v in variants
        }
        absent, title = {v: run_state(sweep, v) for v in variants}, "median time per training step of each fit"
    return _bar_panel(axis, look, values, absent, title, "time (ms)", small)


def import_time(axis: Axes, sweep: Sweep, look: Look) -> bool:
    """Time to import the library."""
    values = {v: _both(sweep, v, "import_s") for v in sweep.variants}
    return _bar_panel(axis, look, values, {v: run_state(sweep, v) for v in sweep.variants}, "import", "time (s)", False)


def first_call(axis: Axes, sweep: Sweep, look: Look) -> bool:
    """Time of the first training step: tracing, compiling, and running once."""
    variants = sweep.variants
    firsts = {v: (mode_of(sweep, v).get("first_call_s") or {}).get("gradient") for v in variants}
    values: dict[str, list[float]] = {v: [] if first is None else [first] for v, first in firsts.items()}
    absent, title = {v: probe_state(sweep, "speed", v) for v in variants}, "first gradient"
    if not any(values.values()):
        values = {v: of_runs(sweep, v, _performance("compile_s")) for v in variants}
        absent, title = {v: run_state(sweep, v) for v in variants}, "first step, extra"
    return _bar_panel(axis, look, values, absent, title, "time (s)", False)


def _both(sweep: Sweep, variant: str, name: str) -> list[float]:
    """A number of the fits' processes; of the speed probe's where no fit tells."""
    content = sweep.probes.get("speed", {}).get(variant, {})
    probe = content.get(name) if content.get("status") == "completed" else None
    return of_runs(sweep, variant, _performance(name)) or ([] if probe is None else [float(probe)])


def _bar_panel(axis, look: Look, values, absent, title: str, unit: str, small: bool) -> bool:
    settle(axis, title, unit, grid="x")
    if not any(values.values()):
        nothing(axis, "not measured")
        return False
    set_rows(axis, list(values), wrap=True)
    bars(axis, look, values, absent)
    room(axis, 0.5 if small else 0.32)
    return True


def memory(axis: Axes, sweep: Sweep, look: Look, *, small: bool = False) -> bool:
    """Resident memory: after imports (grey), and above that at the peak of a fit."""
    settle(axis, "peak memory of a fit's process", "memory (MB)", grid="x")
    set_rows(axis, sweep.variants, wrap=True)
    top = 0.0
    for row, variant in enumerate(sweep.variants):
        peaks = of_runs(sweep, variant, _performance("rss_peak_mb"))
        base = of_runs(sweep, variant, _performance("rss_baseline_mb"))
        if not peaks or not base:
            say(axis, row, run_state(sweep, variant))
            continue
        low, high = float(np.mean(base)), float(np.mean(peaks))
        above = max(0.0, high - low)
        axis.barh(row, low, height=0.62, facecolor="#d4d4d4", edgecolor="#8a8a8a", linewidth=0.8)
        axis.barh(row, above, left=low, height=0.62, **look.fill(variant))
        if len(peaks) > 1:
            axis.plot(peaks, row + np.linspace(-0.17, 0.17, len(peaks)), "o", ms=2.6, mfc="white", mec=TEXT, mew=0.6)
        text = f"{low:.0f} + {above:.0f}"
        axis.annotate(text, (max(peaks), row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
        top = max(top, *peaks)
    if not top:
        nothing(axis, "not measured")
        return False
    axis.set_xlim(0, top * 1.02)
    room(axis, 0.42 if small else 0.3)
    axis.xaxis.get_major_locator().set_params(nbins=5)  # type: ignore[call-arg]
    return True


def backward_memory(axis: Axes, sweep: Sweep, look: Look) -> bool:
    """What the backward pass needs, direct (full) and adjoint (hollow)."""
    settle(axis, "kept for the backward pass", "memory (MB)", grid="both")
    set_rows(axis, sweep.variants, wrap=True)
    found: list[float] = []
    for row, variant in enumerate(sweep.variants):
        modes = ("direct",) if compiled(variant) else ("direct_few", "adjoint")
        values = {mode: mode_of(sweep, variant, mode).get("backward_memory_mb") for mode in modes}
        known = {mode: value for mode, value in values.items() if value}
        for mode, value in known.items():
            dots(axis, look, variant, row, [value], hollow=mode == "adjoint")
        found += known.values()
        if not known:
            say(axis, row, "0" if 0 in values.values() else probe_state(sweep, "speed", variant))
    if not found:
        nothing(axis, "not measured")
        return False
    axis.set_xlim(min(found) / 1.5, max(found) * 1.5)
    logarithmic(axis, "x")
    return True


def accuracy(axis: Axes, sweep: Sweep, look: Look, *, held_out: bool = False, small: bool = False) -> bool:
    """Error of every fit beside the floor of a single curve for all subjects."""

    def pick(name: str):
        return lambda r: ((r["accuracy"].get("held_out") or {}) if held_out else r["accuracy"]).get(name)

    settle(axis, "held-out subjects" if held_out else "error of the fits" if small else "fitted subjects", "RMSE (mg)",
           grid="x")  # fmt: skip
    set_rows(axis, sweep.variants, wrap=True)
    values = {v: of_runs(sweep, v, pick("rmse")) for v in sweep.variants}
    known = [value for some in values.values() for value in some]
    floors = [value for v in sweep.variants for value in of_runs(sweep, v, pick("rmse_floor")) if value > 0]
    if not known:
        nothing(axis, "not measured")
        return False
    for row, (variant, some) in enumerate(values.items()):
        if some:
            dots(axis, look, variant, row, some)
        else:
            say(axis, row, run_state(sweep, variant))
    low, high = min(known + floors), max(known + floors)
    if high > 30 * low > 0:
        axis.set_xlim(low / 1.5, high * 1.5)
        logarithmic(axis, "x")
    else:
        half = max(0.55 * (high - low), 0.01 * high, 1e-12)  # not so close that rounding looks like a difference
        axis.set_xlim(max(0.0, (low + high) / 2 - 1.25 * half), (low + high) / 2 + 1.25 * half)
        axis.xaxis.get_major_locator().set_params(nbins=4)  # type: ignore[call-arg]
        axis.ticklabel_format(axis="x", useOffset=False)
    if floors:
        floor = float(np.median(floors))
        left = floor > float(np.mean(axis.get_xlim()))  # words go where there is room
        axis.axvline(floor, color=TEXT, lw=1.1, ls=":", zorder=1)
        axis.annotate("floor", (floor, 0), xycoords=("data", "axes fraction"), xytext=(-4 if left else 4, 3),
                      textcoords="offset points", fontsize=9, ha="right" if left else "left")  # fmt: skip
        axis.set_ylim(len(values) + 0.15, -0.6)
    return True


def lacking(sweep: Sweep) -> str:
    """What a figure has to say of runs that it leaves out."""
    parts = [f"{run.name} ({words(run.variant)}) {run.status}" for run in sweep.runs if run.status != "completed"]
    parts += [f"{name} has other settings: {text}" for name, text in sweep.differing.items()]
    return f"Left out: {'; '.join(parts)}." if parts else ""


def machine(sweep: Sweep) -> str:
    """What most fits ran on, in a sentence."""
    told = [
        f"{p['cpu']}, threads: {p.get('threads', 'unknown')}" for run in sweep.runs if (p := run.provenance).get("cpu")
    ]
    return f"{max(sorted(set(told)), key=told.count)}. " if told else ""


GRADIENTS = {"direct": "direct", "direct_few": "direct, few points", "adjoint": "adjoint, few points"}


def gradient_rows(sweep: Sweep) -> list[tuple[str, str]]:
    """Variant and mode of every row; compiled variants have the direct mode alone."""
    return [(v, mode) for v in sweep.variants for mode in (("direct",) if compiled(v) else GRADIENTS)]


def _name_rows(axis: Axes, rows: Sequence[tuple[str, str]]) -> None:
    first = {v: v if compiled(v) else f"{words(v, 16)}  direct" for v, _ in rows}
    set_rows(axis, [first[v] if mode == "direct" else GRADIENTS[mode] for v, mode in rows])


def gradient_cost(axis: Axes, sweep: Sweep, look: Look, rows: Sequence[tuple[str, str]]) -> bool:
    """Time of the forward pass (hollow) and of the whole gradient (full), and that of the backward over the forward."""
    settle(axis, "time of a gradient", "time (ms)", grid="x")
    _name_rows(axis, rows)
    found: list[float] = []
    for row, (variant, mode) in enumerate(rows):
        part = mode_of(sweep, variant, mode)
        if not part.get("forward_ms") or not part.get("gradient_ms"):
            say(axis, row, probe_state(sweep, "speed", variant, mode))
            continue
        forward, total = float(np.mean(part["forward_ms"])), float(np.mean(part["gradient_ms"]))
        sd = float(np.std(part["gradient_ms"], ddof=1)) if len(part["gradient_ms"]) > 1 else None
        colour = look.colour(variant)
        axis.plot([forward, total], [row, row], color=colour, lw=2.2, ls="--" if compiled(variant) else "-", zorder=2)
        axis.plot(forward, row, "o", ms=7, mfc="white", mec=colour, mew=1.4, zorder=3)
        axis.plot(total, row, "o", ms=7, mfc=colour, mec=colour, zorder=3)
        axis.errorbar(total, row, xerr=sd, color=TEXT, capsize=3, lw=1.1, zorder=4)
        ratio = f", ×{figures((total - forward) / forward)}" if forward > 0 else ""
        axis.annotate(f"{figures(total)}{ratio}", (total + (sd or 0), row), xytext=(7, 0), textcoords="offset points",
                      va="center", fontsize=9)  # fmt: skip
        found += [forward, total + (sd or 0)]
    if not found:
        nothing(axis, "not measured")
        return False
    axis.set_xlim(min(found) / 1.6, max(found) * (max(found) / min(found)) ** 0.45 * 1.6)
    logarithmic(axis, "x")
    return True


def gradient_error(axis: Axes, sweep: Sweep, look: Look, rows: Sequence[tuple[str, str]]) -> bool:
    """Relative error of gradients; direct full, adjoint hollow."""
    settle(axis, "error of the gradient", "relative error", grid="both")
    _name_rows(axis, rows)
    found = []
    for row, (variant, mode) in enumerate(rows):
        error = mode_of(sweep, variant, mode).get("gradient_error")
        if error:
            dots(axis, look, variant, row, [error], hollow=mode == "adjoint")
            found.append(error)
        else:
            say(axis, row, "0" if error == 0 else probe_state(sweep, "speed", variant, mode))
    if not found:
        nothing(axis, "not measured")
        return False
    axis.set_xlim(min(found) / 2, max(found) * 2)
    logarithmic(axis, "x")
    return True
