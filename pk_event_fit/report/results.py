"""The tables of a comparison. A cell without a number says in words why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..metrics.statistics import spread
from .document import Table
from .measures import Evidence, backward_cost
from .repeats import NONE, number, reproducibility
from .series import FIELDS, MODES, NOISE, PEAKS, PERCENTILES, TREATED, TREATMENTS, Series, inside
from .setting import clock, footnote
from .standing import LEVEL, Standing

SHAPE = ("overshoot_percent_mean", "overshoot_percent_max", "oscillation_mg", NOISE)


def tables(evidence: Evidence) -> dict[str, list[Table]]:
    """All tables by topic, each with what it ran on under it; those without a row are left out."""
    made: dict[str, Callable[[Evidence], Iterable[Table]]] = {
        "runs": runs, "performance": performance, "gradients": gradients, "stability": stability,
        "accuracy": accuracy, "precision": precision, "reproducibility": reproducibility,
    }  # fmt: skip
    found = {}
    for topic, make in made.items():
        note = footnote(evidence, np.dtype(np.double).name if topic in ("precision", "stability") else None)
        parts = [table for table in make(evidence) if table.rows]
        found[topic] = [table._replace(note=f"{table.note} {note}".strip()) for table in parts]
    return found


def runs(evidence: Evidence) -> list[Table]:
    """One row a job, whatever became of it."""
    n, rows = evidence.numbers, []
    for run in evidence.sweep.runs:
        error = n.name(run.error) if run.error else ""
        step = [evidence.one(run.variant, "step", "fit/median"), evidence.one(run.variant, "training", "fit")]
        cells = [_of_run(evidence, series, run) for series in (evidence.one(run.variant, "rmse"), *step)]
        seed = "not known" if run.seed is None else n(run.seed)
        rows.append([n.name(run.name), n.name(run.variant), seed, run.status, *cells, error])
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    head = ["job", "variant", "seed", "status", "RMSE, mg", "iteration, ms", "training, s", "reason"]
    return [Table("Runs", head[: len(rows[0])] if rows else head, rows)]


def _of_run(evidence: Evidence, series: Series | None, run) -> str:
    if series is None or run.status != "completed" or run.seed not in series.values:
        return NONE
    return evidence.numbers(series.values[run.seed])


def performance(evidence: Evidence) -> list[Table]:
    """What starting, stepping and keeping cost: from the fits, and from the timed blocks."""
    n = evidence.numbers
    order = evidence.standing("step", "direct")
    against = f"ratio to {order.best} {interval(evidence)}" if order else "ratio"
    head = ["variant", "import, s", "first gradient, s", "training step, ms", against, "evaluations a step",
            "steps kept + tried again"]  # fmt: skip
    rows = []
    for variant in evidence.frameworks:
        why = evidence.why_no_probe("speed", variant, "modes", MODES[0])
        kept, tried = (evidence.mean(variant, name, MODES[0]) for name in ("accepted", "rejected"))
        whose = inside(evidence.sweep.probes.get("speed", {}).get(variant), "modes", MODES[0], "counted_for")
        steps = "not counted by the library" if kept is None else f"{n(kept)} + {n(tried)}, {n.name(whose)}"
        if evidence.one(variant, "step", MODES[0]) is None:
            rows.append([variant, _fit(evidence, variant, "import"), why, *[NONE] * (len(head) - 3)])
            continue
        cells = [number(evidence, variant, metric, detail, why) for metric, detail in
                 (("import", "fit"), ("first_call", "direct/gradient"), ("step", MODES[0]))]  # fmt: skip
        cells.append(ratio(evidence, order, variant))
        rows.append([variant, *cells, number(evidence, variant, "evaluations", MODES[0], why), steps])
    blocks = f"Timed blocks of the direct gradient and the optimiser's step: {_rounds(evidence, 'step', MODES[0])}."
    return [Table("A training step", head, rows, blocks), _fits(evidence)]


def _fits(evidence: Evidence) -> Table:
    n = evidence.numbers
    order = evidence.standing("training", "fit")
    against = f"ratio to {order.best} {interval(evidence)}" if order else "ratio"
    parts = " / ".join(n.name(part) for part in PERCENTILES)
    head = ["variant", "completed", f"iteration {parts}, ms", "training, s", against,
            "added by the first iteration, s", "memory after imports, MB", "peak memory, MB",
            "memory for the backward pass"]  # fmt: skip
    rows = []
    for variant in evidence.frameworks:
        mine = [run for run in evidence.sweep.runs if run.variant == variant]
        done = f"{n(sum(run.status == 'completed' for run in mine))} of {n(len(mine))}"
        why = evidence.why_no_run(variant)
        saved = evidence.one(variant, "backward_memory", MODES[0])
        kept = (
            f"{n(saved.values[0])} {saved.unit}"
            if saved
            else evidence.why_no_probe("speed", variant, "modes", MODES[0])
        )
        if evidence.one(variant, "training", "fit") is None:
            rows.append([variant, done, why, *[NONE] * 5, kept])
            continue
        times = [evidence.mean(variant, "step", f"fit/{part}") for part in PERCENTILES]
        cells = [" / ".join(n(time) for time in times), _fit(evidence, variant, "training")]
        cells += [ratio(evidence, order, variant)]
        cells += [_fit(evidence, variant, name) for name in ("compile", "baseline_memory", "peak_memory")]
        rows.append([variant, done, *cells, kept])
    return Table(
        "The whole fit", head, rows, "Mean ± standard deviation over seeds; training from the same first bits."
    )


MODE = {"direct": "direct", "direct_few": "direct, few points", "adjoint": "adjoint, few points"}


def gradients(evidence: Evidence) -> list[Table]:
    """What a gradient costs and how wrong it is, direct and by the adjoint equation."""
    n, rows = evidence.numbers, []
    head = ["variant", "gradient", "report points", "forward solve, ms",
            f"backward over forward time {interval(evidence)}", "relative error of the gradient",
            "evaluations", "memory for the backward pass"]  # fmt: skip
    for variant, (_, compiled) in evidence.frameworks.items():
        for mode in MODES[: 1 if compiled else None]:
            why = evidence.why_no_probe("speed", variant, "modes", mode)
            if evidence.one(variant, "forward", mode) is None:
                rows.append([variant, MODE[mode], why, NONE, NONE, NONE, NONE, NONE])
                continue
            cost = backward_cost(evidence, variant, mode)
            saved = evidence.one(variant, "backward_memory", mode)
            rows.append([
                variant, MODE[mode], number(evidence, variant, "points", mode, "not recorded"),
                number(evidence, variant, "forward", mode, why),
                n.ratio(*cost) if cost else "not measured", number(evidence, variant, "gradient_error", mode, why),
                number(evidence, variant, "evaluations", mode, why),
                f"{n(saved.values[0])} {saved.unit}" if saved else "not measured",
            ])  # fmt: skip
    note = (
        "The error is that of the whole gradient against the exact one, by the Euclidean norm. The adjoint is compared "
        "at few report points in each interval, since libraries stop at each on their way back. Where the state is at "
        "rest the tolerance does not bound a direct gradient's error: steps grow as long as the state allows. XLA's "
        "buffers and what torch saves are different things, to be compared within a kind."
    )
    return [Table("Gradients", head, rows, note)]


def stability(evidence: Evidence) -> list[Table]:
    """What happens at a dose: true and learned field, by treatment."""
    metrics = {
        "error_max_mg": "largest error, mg", "jump_error_mg": "error of the jump, mg",
        "overshoot_percent_mean": "overshoot mean, %",
        "overshoot_percent_max": "largest, %", "oscillation_mg": "oscillation, mg", NOISE: "noise, mg²",
        "steps_after_dose": "steps after a dose",
    }  # fmt: skip
    found = [series.detail for series in evidence.series if series.metric == "time_to_peak_h"]
    compartments = list(dict.fromkeys(detail.rpartition("/")[2] for detail in found))
    peaked = [f"time to peak (exact), {evidence.numbers.name(part)}, h" for part in compartments]
    made = []
    for field in FIELDS:
        rows = []
        for variant in _probed(evidence, "stability"):
            for treatment in TREATMENTS:
                detail, title = f"{field}/{treatment}", TREATED[treatment]
                if evidence.one(variant, "jump_error_mg", detail) is None:
                    why = evidence.why_no_probe("stability", variant, "fields", field, treatment)
                    rows.append([variant, title, why, *[NONE] * (len(metrics) + len(compartments) - 1)])
                    continue
                missed = evidence.mean(variant, "missed", detail)
                # A flat line where the dose should be has no overshoot and no noise.
                cells = ["missed the dose" if missed and metric in SHAPE else
                         number(evidence, variant, metric, detail, "not measured") for metric in metrics]  # fmt: skip
                peaks = ["missed the dose" if missed else _peak(evidence, variant, f"{detail}/{part}")
                         for part in compartments]  # fmt: skip
                rows.append([variant, title, *cells, *peaks])
        head = ["variant", "treatment", *metrics.values(), *peaked]
        made.append(Table(f"At the doses, {field} field", head, rows))
    return made


def _peak(evidence: Evidence, variant: str, detail: str) -> str:
    found, exact = (evidence.mean(variant, name, detail) for name in PEAKS)
    return "not measured" if found is None else f"{evidence.numbers(found)} ({evidence.numbers(exact)})"


def accuracy(evidence: Evidence) -> list[Table]:
    """How well the fits fit: all subjects, held out, by compartment, by interval."""
    order = evidence.standing("rmse")
    against = f"ratio to {order.best} {interval(evidence)}" if order else "ratio"
    parts = dict.fromkeys(s.detail for s in evidence.series if s.metric == "rmse" and s.detail not in ("", "held out"))
    titles = {part: _part(evidence, part) for part in parts}
    head = [
        "variant",
        "RMSE, mg",
        against,
        "floor, mg",
        "skill",
        "held out RMSE, mg",
        "held out floor, mg",
        "held out skill",
    ]
    rows, split = [], []
    for variant in evidence.frameworks:
        if evidence.one(variant, "rmse") is None:
            rows.append([variant, evidence.why_no_run(variant), *[NONE] * (len(head) - 2)])
            continue
        places = [
            ("rmse_floor", ""),
            ("skill", ""),
            ("rmse", "held out"),
            ("rmse_floor", "held out"),
            ("skill", "held out"),
        ]
        cells = [number(evidence, variant, metric, detail, "not measured") for metric, detail in places]
        rows.append([variant, number(evidence, variant, "rmse"), ratio(evidence, order, variant), *cells])
        split.append([variant, *(number(evidence, variant, "rmse", part) for part in parts)])
    note = "Mean ± standard deviation over seeds. The floor is the error of the best single curve for all subjects."
    made = [Table("Accuracy of the fits", head, rows, note)]
    return made + [Table("RMSE by part, mg", ["variant", *titles.values()], split, note)] * bool(parts)


def _part(evidence: Evidence, detail: str) -> str:
    name, _, place = detail.partition(" ")
    return clock(evidence, int(place)) if name == "interval" and place.isdecimal() else evidence.numbers.name(detail)


def precision(evidence: Evidence) -> list[Table]:
    """Error achieved against time, over tolerances: a column a variant."""
    n = evidence.numbers
    details = list(dict.fromkeys(s.detail for s in evidence.series if s.metric == "solve_error"))
    variants, rows = _probed(evidence, "precision"), []
    for detail in details:
        cells = []
        for variant in variants:
            seconds = evidence.one(variant, "solve", detail)
            if seconds is None:
                cells.append(evidence.why_no_probe("precision", variant))
                continue
            error = evidence.mean(variant, "solve_error", detail)
            times = spread([1e3 * second for second in seconds.values.values()])
            cells.append(f"{n(error)} mg in {n.spread(times.mean, times.sd, 'ms')}")
        rows.append([n.name(detail.partition("=")[2]), *cells])
    head = ["relative tolerance", *variants]
    return [Table("Largest error, and time of a forward solve, true field", head, rows)]


def _probed(evidence: Evidence, probe: str) -> Sequence[str]:
    """Plain variants, and others that have such a file all the same."""
    found = evidence.sweep.probes.get(probe, {})
    return [v for v in evidence.frameworks if v in found or (found and v in evidence.plain)]


def interval(evidence: Evidence) -> str:
    """How an interval is announced in a table's head."""
    return f"[{evidence.numbers.percent(LEVEL)}]"


def _fit(evidence: Evidence, variant: str, metric: str) -> str:
    return number(evidence, variant, metric, "fit", evidence.why_no_run(variant))


def ratio(evidence: Evidence, order: Standing | None, variant: str) -> str:
    """A ratio to the best with its interval; in words where there is none."""
    if order is None or variant not in order.means:
        return NONE
    if variant == order.best:
        return "reference"
    found = order.ratios.get(variant)
    if found is not None and found.low is not None and found.high is not None:
        return evidence.numbers.ratio(found.ratio, found.low, found.high)
    best = order.means[order.best]
    return f"{evidence.numbers(order.means[variant] / best)} (no interval)" if best else "not defined"


def _rounds(evidence: Evidence, metric: str, detail: str) -> str:
    counts = dict.fromkeys(len(series.values) for series in evidence.all(metric, detail).values())
    return f"{' or '.join(evidence.numbers(count) for count in counts)} rounds" if counts else "not measured"
