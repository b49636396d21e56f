"""The figures of a comparison sweep."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .. import store
from . import closeups, lines, panels
from .ink import STYLE, Look, canvas, footnote, nothing, plain, settle, words
from .series import FIELDS
from .sweep import Sweep

DPI = 150
CAPTIONS = {
    "training_time": "Time per training step of each variant: mean, standard deviation and every timed block; beside "
    "it the time to import the library, and that of the first gradient, which includes compiling.",
    "memory": "Peak memory of a fit's process, split into what is there after imports and what comes on top, and what "
    "a gradient keeps for its backward pass, direct and adjoint at few report points; compiled ones at all.",
    "accuracy": "Error of every fit on the fitted and on held-out subjects, one dot a seed, beside the floor: the "
    "error of the best single curve for all subjects.",
    "loss_curves": "Error along the fits, mean over seeds and band from the least to the largest, and below it how far "
    "each variant is from the mean of all fits of the same seed.",
    "dosing_event": "One subject around a dose, solved with the true field and restarted at the dose: exact amounts, "
    "each framework's, and below them their distance.",
    "treatments": "The same dose under three treatments: the solver is restarted at it, is told of it, or is told "
    "nothing and meets it as a narrow infusion.",
    "work_precision": "Largest error against the exact solution over the time of a solve, one line a framework, one "
    "dot a tolerance.",
    "stability": "What happens at the doses by framework and treatment, for the true and for the learned field; the "
    "darker a cell, the larger the number within its column.",
    "gradients": "Time of a gradient, forward and backward, and its error against the exact gradient: direct, and "
    "direct and adjoint at few report points.",
    "dashboard": "The comparison in one picture: step time, memory, accuracy, loss, a dose from close up, and work "
    "against precision.",
}


def _styled(draw: Callable[[Sweep, Look], Figure | None]) -> Callable[[Sweep], Figure | None]:
    @wraps(draw)
    def styled(sweep: Sweep) -> Figure | None:
        with matplotlib.rc_context(STYLE):
            return draw(sweep, Look(sweep.variants))

    return styled


def _height(sweep: Sweep, row: float = 0.42, rest: float = 1.1) -> float:
    return rest + row * max(2, len(sweep.variants))


@_styled
def training_time(sweep: Sweep, look: Look) -> Figure | None:
    """Time per training step, of the import, and of the first gradient."""
    figure, axes = canvas(_height(sweep), 1, 3, sharey=True, width_ratios=(2.2, 1, 1))
    main, imports, first = axes[0]
    if not panels.step_time(main, sweep, look):
        return None
    panels.import_time(imports, sweep, look)
    panels.first_call(first, sweep, look)
    footnote(
        figure,
        "White dots: single measurements; in numbers: mean ± standard deviation; hatched: compiled. "
        + panels.lacking(sweep),
    )
    return figure


@_styled
def memory(sweep: Sweep, look: Look) -> Figure | None:
    """Resident memory of fits, and what backward passes keep."""
    figure, axes = canvas(_height(sweep), 1, 2, sharey=True, width_ratios=(1.5, 1))
    measured = [panels.memory(axes[0, 0], sweep, look), panels.backward_memory(axes[0, 1], sweep, look)]
    if not any(measured):
        return None
    kinds: dict[str, list[str]] = {}
    for variant in sweep.variants:
        if kind := panels.mode_of(sweep, variant).get("backward_memory_kind"):
            kinds.setdefault(kind, []).append(words(plain(variant)))
    told = "; ".join(f"{kind} ({', '.join(dict.fromkeys(names))})" for kind, names in kinds.items())
    note = "Left: grey, after imports; coloured, above that. Right: full dots, direct gradient; hollow, adjoint"
    footnote(figure, f"{note}{f'; {told}' if told else ''}. {panels.lacking(sweep)}")
    return figure


@_styled
def accuracy(sweep: Sweep, look: Look) -> Figure | None:
    """Errors of the fits."""
    has_held_out = any(run.result["accuracy"].get("held_out") for run in sweep.comparable)
    figure, axes = canvas(_height(sweep), 1, 1 + has_held_out, sharey=True)
    measured = [panels.accuracy(axis, sweep, look, held_out=bool(k)) for k, axis in enumerate(axes[0])]
    if not any(measured):
        return None
    footnote(
        figure,
        "A dot a seed, a line at their mean; floor: the best single curve for all subjects. " + panels.lacking(sweep),
    )
    return figure


@_styled
def loss_curves(sweep: Sweep, look: Look) -> Figure | None:
    """Errors along the fits, and how far each variant is from the mean of all."""
    curves = lines.losses(sweep)
    if not curves:
        return None
    figure, axes = canvas(5.4, 2, 1, sharex=True, height_ratios=(1.7, 1))
    lines.loss(axes[0, 0], sweep, look)
    axes[0, 0].set_xlabel("")
    lines.apart(axes[1, 0], curves, look)
    footnote(
        figure,
        "Bands: least to largest over seeds; dashed: compiled; colours in turns: curves that lie on each other. "
        + panels.lacking(sweep),
    )
    return figure


@_styled
def dosing_event(sweep: Sweep, look: Look) -> Figure | None:
    """A dose from close up, and errors around it."""
    some, name = closeups.curves(sweep), "true.restart"
    shown = closeups.treated(some, name)
    if not shown:
        return None
    count = min(some[shown[0]][name].exact.shape[1], 3)
    figure, axes = canvas(5.2, 2, count, sharex=True)
    for k in range(count):
        closeups.overlay(axes[0, k], some, name, look, k)
        settle(axes[0, k], f"{closeups.compartment_name(k)} compartment", "", "amount (mg)" if k == 0 else "")
        settle(axes[1, k], "", "time (h)", "distance from exact (mg)" if k == 0 else "")
        closeups.errors(axes[1, k], some, name, look, k, label=k == count - 1)
    closeups.key(figure, look, shown)
    missing = [f"{', '.join(names)}: {word}" for word, names in closeups.absent(sweep, "true", "restart").items()]
    footnote(figure, "; ".join(missing))
    return figure


@_styled
def treatments(sweep: Sweep, look: Look) -> Figure | None:
    """The same dose under three treatments."""
    some = closeups.curves(sweep)
    shown = [v for v in some if any(v in closeups.treated(some, f"true.{name}") for name in closeups.TREATED)]
    if not shown:
        return None
    figure, axes = canvas(5.4, 2, len(closeups.TREATED), sharex=True)
    limits = []
    for k, (treatment, title) in enumerate(closeups.TREATED.items()):
        name = f"true.{treatment}"
        settle(axes[0, k], title, "", "central compartment (mg)" if k == 0 else "")
        settle(axes[1, k], "", "time (h)", "distance from exact (mg)" if k == 0 else "")
        closeups.overlay(axes[0, k], some, name, look)
        limits.append(closeups.errors(axes[1, k], some, name, look, label=False))
        closeups.say_absent(axes[0, k], sweep, some, "true", treatment)
        axes[0, k].sharey(axes[0, 0])
        axes[0, k].tick_params(labelleft=k == 0)
    closeups.share_errors(axes[1], limits)
    closeups.key(figure, look, shown)
    footnote(figure, closeups.infusion(sweep))
    return figure


@_styled
def work_precision(sweep: Sweep, look: Look) -> Figure | None:
    """Error against time."""
    figure, axes = canvas(4.4)
    if not lines.work_precision(axes[0, 0], sweep, look):
        return None
    footnote(figure, lines.imprecise(sweep))
    return figure


@_styled
def stability(sweep: Sweep, look: Look) -> Figure | None:
    """Tables of what happens at the doses."""
    count = 3 * len(sweep.probes.get("stability", {}))
    if not count:
        return None
    figure, axes = canvas(2 * (0.8 + 0.235 * count), 2, 1)
    measured = [closeups.stability_table(axis, sweep, field) for axis, field in zip(axes[:, 0], FIELDS, strict=True)]
    return figure if any(measured) else None


@_styled
def gradients(sweep: Sweep, look: Look) -> Figure | None:
    """Cost and error of gradients."""
    rows = panels.gradient_rows(sweep)
    figure, axes = canvas(1.1 + 0.3 * max(3, len(rows)), 1, 2, sharey=True, width_ratios=(1.5, 1))
    cost, error = axes[0]
    if not any([panels.gradient_cost(cost, sweep, look, rows), panels.gradient_error(error, sweep, look, rows)]):
        return None
    footnote(figure, "Left: hollow, forward solve; full, whole gradient; × is backward over forward. Dashed: compiled.")
    return figure


@_styled
def dashboard(sweep: Sweep, look: Look) -> Figure | None:
    """The comparison in one picture."""
    figure = Figure(figsize=(11, 8.5), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    upper, lower = np.asarray(figure.subfigures(2, 1))  # so that labels in one row take no room in the other
    (steps, memories, scores), (fits, event, work) = upper.subplots(1, 3), lower.subplots(1, 3)
    measured = [
        panels.step_time(steps, sweep, look, small=True),
        panels.memory(memories, sweep, look, small=True),
        panels.accuracy(scores, sweep, look, small=True),
        lines.loss(fits, sweep, look, small=True),
        _small_event(event, sweep, look),
        lines.work_precision(work, sweep, look, small=True),
    ]
    if not any(measured):
        return None
    for axis in (memories, scores):
        axis.set_yticklabels([])
    done = sum(run.status == "completed" for run in sweep.runs)
    name = words((sweep.plan or {}).get("experiment") or sweep.folder.name, 60)
    figure.suptitle(f"{name}: {done} of {len(sweep.runs)} fits completed", x=0.01, ha="left", fontsize=13)
    footnote(figure, panels.machine(sweep) + panels.lacking(sweep))
    return figure


def _small_event(axis: Axes, sweep: Sweep, look: Look) -> bool:
    some = closeups.curves(sweep)
    settle(axis, "a dose from close up", "time (h)", "central compartment (mg)")
    shown = closeups.treated(some, "true.restart")
    if not shown:
        nothing(axis, "not measured")
        return False
    closeups.overlay(axis, some, "true.restart", look)
    return True


FIGURES: dict[str, Callable[[Sweep], Figure | None]] = {
    "training_time": training_time,
    "memory": memory,
    "accuracy": accuracy,
    "loss_curves": loss_curves,
    "dosing_event": dosing_event,
    "treatments": treatments,
    "work_precision": work_precision,
    "stability": stability,
    "gradients": gradients,
    "dashboard": dashboard,
}


def write_figures(sweep: Sweep, folder: Path) -> dict[str, Path]:
    """Write every figure as SVG and PNG; the same sweep gives the same bytes.

    A figure of an earlier time for which nothing is measured any more is removed.

    Args:
        sweep: What to draw.
        folder: Where to.

    Returns:
        Paths of the SVG files by name of the figure.
    """
    written = {}
    for name, draw in FIGURES.items():
        figure = draw(sweep)
        for kind in ("png", "svg"):
            path = folder / f"{name}.{kind}"
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            stream, about = io.BytesIO(), {"Title": CAPTIONS[name]}
            with matplotlib.rc_context(STYLE):
                extra = {"Date": None} if kind == "svg" else {}
                figure.savefig(stream, format=kind, dpi=DPI, metadata={**about, **extra})
                figure.set_layout_engine("none")  # what was laid out once need not be again
            store.write_bytes(path, stream.getvalue())
            written[name] = path
    return written
