"""What the measurements say, as sentences; every number in them comes from `Evidence.numbers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .costs import adjoint_brief
from .measures import Evidence
from .series import FIELDS, TREATED, TREATMENTS
from .setting import listed
from .standing import LEVEL, Standing


class Criterion(NamedTuple):
    """A quantity by which variants are ordered, less being better.

    Attributes:
        priority: What a reader may care for.
        least: Its smallest value, as a noun.
        most: Its largest.
        metric: As in the series.
        detail: As in the series.
        unit: Of the value; empty for a ratio.
        shown: Figure or table that has it.
    """

    priority: str
    least: str
    most: str
    metric: str
    detail: str
    unit: str
    shown: str


STEP = Criterion("fast training steps", "the shortest training step", "the longest training step", "step", "direct",
                 "ms", "figure: training time")  # fmt: skip
FITTED = Criterion("a fit done soon", "the shortest whole fit", "the longest whole fit", "training", "fit", "s",
                   "table: the whole fit")  # fmt: skip
MEMORY = Criterion("little memory", "the smallest peak memory of a fit", "the largest peak memory of a fit",
                   "peak_memory", "fit", "MB", "figure: memory")  # fmt: skip
DIRECT = Criterion("exact gradients", "the smallest error of the direct gradient",
                   "the largest error of the direct gradient", "gradient_error", "direct", "",
                   "figure: gradients")  # fmt: skip
ADJOINT = Criterion("exact adjoint gradients", "the smallest error of the adjoint gradient",
                    "the largest error of the adjoint gradient", "gradient_error", "adjoint", "",
                    "figure: gradients")  # fmt: skip
RMSE = Criterion("a close fit", "the smallest error of fits", "the largest error of fits", "rmse", "", "mg",
                 "figure: accuracy")  # fmt: skip
HELD = Criterion("a close fit of new subjects", "the smallest error on held-out subjects",
                 "the largest error on held-out subjects", "rmse", "held out", "mg", "figure: accuracy")  # fmt: skip
JUMP = Criterion("faithful doses", "the smallest largest error of the curves, with restarts and the true field",
                 "the largest error of the curves, with restarts and the true field", "error_max_mg", "true/restart",
                 "mg", "figure: stability")  # fmt: skip
SEEDS = Criterion("little dependence on the seed", "the smallest spread of predictions over seeds",
                  "the largest spread of predictions over seeds", "seed_sd", "", "mg",
                  "table: reproducibility")  # fmt: skip
THREADS = Criterion("the same numbers whatever the threads", "the smallest drift between numbers of threads",
                    "the largest drift between numbers of threads", "max_difference_mg", "threads", "mg",
                    "table: reproducibility")  # fmt: skip
IMPORT = Criterion("a quick import", "the shortest import", "the longest import", "import", "fit", "s",
                   "figure: training time")  # fmt: skip
START = Criterion("a quick first iteration", "the least time that compiling and warming up add to a fit",
                  "the most time that compiling and warming up add to a fit", "compile", "fit", "s",
                  "table: the whole fit")  # fmt: skip
CRITERIA = (STEP, IMPORT, START, FITTED, MEMORY, DIRECT, ADJOINT, JUMP, RMSE, HELD, SEEDS, THREADS)


def ordered(evidence: Evidence, criterion: Criterion) -> Standing | None:
    """The order by a criterion."""
    return evidence.standing(criterion.metric, criterion.detail)


def verdict(evidence: Evidence, criterion: Criterion) -> str:
    """Who comes first by a criterion, by how much, and whether that can be told from chance."""
    order = ordered(evidence, criterion)
    if order is None:
        return f"Not measured: {criterion.least}."
    if len(order.means) == 1:
        return f"{order.best} alone was measured, {_value(evidence, order, order.best, criterion)}: {criterion.least}."
    if not order.ratios:
        return _unranked(evidence, order, criterion)
    words = [_level(evidence, order, criterion)]
    if order.beaten:
        words.append(f"Next: {_next(evidence, order, criterion)}.")
    if order.unsettled:
        once = _values(evidence, order, order.unsettled, criterion)
        words.append(f"Measured too few times to be compared: {once}.")
    return " ".join(words)


def _unranked(evidence: Evidence, order: Standing, criterion: Criterion) -> str:
    """Values that are no ranking, since chance has not been measured."""
    values = {name: _value(evidence, order, name, criterion) for name in order.means}
    if len(set(values.values())) == 1:
        return f"All have the same, as far as digits are shown, by {criterion.least}: {next(iter(values.values()))}."
    listing = listed([f"{name} ({value})" for name, value in values.items()])
    first = f"{criterion.least[0].upper()}{criterion.least[1:]} first"
    if order.per == "once":
        why = "Their order depends on where steps happen to fall at this tolerance, and is no ranking."
        return f"{first}: {listing}. {why}"
    return f"{first}, {measured(evidence, criterion)} each, too few to tell from chance: {listing}."


def measured(evidence: Evidence, criterion: Criterion) -> str:
    """How often, at most."""
    often = max(len(series.values) for series in evidence.all(criterion.metric, criterion.detail).values())
    return "one measurement" if often == 1 else f"{evidence.numbers(often)} measurements"


def _level(evidence: Evidence, order: Standing, criterion: Criterion) -> str:
    if len(order.level) == 1:
        return f"{order.best} has {criterion.least}: {_value(evidence, order, order.best, criterion)}."
    reason = "the interval of their ratio holds one"
    if len(order.level) > 2:
        reason = "the interval of each one's ratio to the least holds one"
    values = _values(evidence, order, order.level, criterion)
    return f"These cannot be told apart as to {criterion.least}: {values}; {reason}."


def _next(evidence: Evidence, order: Standing, criterion: Criterion) -> str:
    second = order.beaten[0]
    text = f"{second}, {_value(evidence, order, second, criterion)}"
    found = order.ratios.get(second)
    if found is None or found.low is None or found.high is None:
        return text
    n = evidence.numbers
    times = n.ratio(found.ratio, found.low, found.high)
    kind = {"round": "rounds", "seed": "seeds"}[order.per]
    return f"{text}, {times} times as much ({n.percent(LEVEL)} interval, {n(found.n)} {kind})"


def _value(evidence: Evidence, order: Standing, name: str, criterion: Criterion) -> str:
    return evidence.numbers(order.means[name], criterion.unit)


def _values(evidence: Evidence, order: Standing, names: Sequence[str], criterion: Criterion) -> str:
    return listed([f"{name} ({_value(evidence, order, name, criterion)})" for name in names])


def counted(evidence: Evidence) -> str:
    """How many runs there are, and of what."""
    n, runs = evidence.numbers, evidence.sweep.runs
    frameworks = list(dict.fromkeys(name for name, _ in evidence.frameworks.values() if name))
    compiled = [variant for variant in evidence.frameworks if variant not in evidence.plain]
    more = f" ({n(len(compiled))} compiled)" if compiled else ""
    return (
        f"{n(len(evidence.completed))} of {n(len(runs))} runs completed, of {n(len(evidence.frameworks))} "
        f"variants{more}, of {listed(frameworks)}."
    )


def failed(evidence: Evidence) -> list[tuple[str, str]]:
    """Each run that is not completed, with its reason."""
    n = evidence.numbers
    return [
        (f"Job {n.name(run.name)} ({n.name(run.variant)}{'' if run.seed is None else f', seed {n(run.seed)}'}):",
         f"{run.status}{f': {n.name(run.error)}' if run.error else ''}.")
        for run in evidence.sweep.runs
        if run.status != "completed"
    ]  # fmt: skip


def treatments(evidence: Evidence, field: str) -> list[str]:
    """Which treatment of a dose errs least, over the libraries, by the largest error of the curve and by the jump's."""
    winners: dict[str, list[str]] = {}
    spans: dict[str, list[float]] = {}
    for variant in evidence.frameworks:
        for t in TREATMENTS:
            if (worst := evidence.mean(variant, "error_max_mg", f"{field}/{t}")) is not None:
                spans.setdefault(t, []).append(worst)
        errors = {t: evidence.mean(variant, "error_max_mg", f"{field}/{t}") for t in TREATMENTS}
        known = {t: error for t, error in errors.items() if error is not None}
        if len(known) < 2:
            continue
        least = min(known.values())
        best = [t for t, error in known.items() if evidence.numbers(error) == evidence.numbers(least)]
        winners.setdefault(" and ".join(f"“{TREATED[t]}”" for t in best), []).append(variant)
    if not winners:
        return [f"The treatments of a dose were not compared with the {field} field."]
    parts = [f"{best} in {listed(names)}" for best, names in winners.items()]
    n = evidence.numbers
    ends = {t: (n(min(found), "mg"), n(max(found), "mg")) for t, found in spans.items()}
    reach = [f"{TREATED[t]}, {a if a == b else f'{a} to {b}'}" for t, (a, b) in ends.items()]
    return [
        f"With the {field} field the largest error of the curves is smallest with {'; with '.join(parts)}.",
        f"Over the libraries it is: {'; '.join(reach)}.",
    ]


def treated(evidence: Evidence, field: str) -> list[tuple[str, str]]:
    """Library by library, the largest error and the steps after a dose under each treatment."""
    n, items = evidence.numbers, []
    for variant in evidence.frameworks:
        if variant not in evidence.plain and evidence.one(variant, "jump_error_mg", f"{field}/{TREATMENTS[0]}") is None:
            continue
        words = []
        for treatment in TREATMENTS:
            error = evidence.mean(variant, "error_max_mg", f"{field}/{treatment}")
            missed = "misses the dose, " if evidence.mean(variant, "missed", f"{field}/{treatment}") else ""
            steps = evidence.mean(variant, "steps_after_dose", f"{field}/{treatment}")
            if error is None:
                words.append(f"{TREATED[treatment]}: {_why(evidence, variant, field, treatment)}")
            else:
                after = "steps not counted" if steps is None else f"steps after a dose: {n(steps)}"
                words.append(f"{TREATED[treatment]}: {missed}largest error {n(error, 'mg')}, {after}")
        items.append((f"{variant}:", "; ".join(words) + "."))
    return items


def _why(evidence: Evidence, variant: str, field: str, treatment: str) -> str:
    return evidence.why_no_probe("stability", variant, "fields", field, treatment)


def repeats(evidence: Evidence) -> list[str]:
    """Whose runs come out the same, bit for bit."""
    words = []
    for case, what in (("again", "A repeated run"), ("threads", "A run with another number of threads")):
        found = {v: evidence.mean(v, "bitwise", case) for v in evidence.frameworks}
        same = [variant for variant, value in found.items() if value]
        other = [variant for variant, value in found.items() if value is not None and not value]
        none = [variant for variant, value in found.items() if value is None]
        if not same and not other:
            words.append(f"{what} was not measured.")
            continue
        parts = [f"gives the same bits with {listed(same)}"] * bool(same)
        parts += [f"does not with {listed(other)}" if same else f"gives other bits with {listed(other)}"] * bool(other)
        parts += [f"was not measured with {listed(none)}"] * bool(none)
        words.append(f"{what} {'; it '.join(parts)}.")
    return words


def tightest(evidence: Evidence) -> str:
    """Who is fastest at the smallest tolerance, and what error that leaves."""
    details = {s.detail: float(s.detail.partition("=")[2]) for s in evidence.series if s.metric == "solve"}
    if not details:
        return "Work against precision was not measured."
    detail = min(details, key=lambda name: details[name])
    n = evidence.numbers
    fastest = Criterion("", "the shortest forward solve", "", "solve", detail, "s", "work_precision")
    errors = {v: evidence.mean(v, "solve_error", detail) for v in evidence.all("solve", detail)}
    known = [f"{variant} {n(error, 'mg')}" for variant, error in errors.items() if error is not None]
    at = f"At the tightest tolerance, {n.name(detail.partition('=')[2])}"
    return f"{at}: {verdict(evidence, fastest)} The largest errors there: {listed(known)}."


def skill(evidence: Evidence) -> str:
    """Whether any fit is better than the best single curve for all subjects."""
    found = {v: evidence.mean(v, "skill") for v in evidence.frameworks}
    known = {variant: value for variant, value in found.items() if value is not None}
    if not known:
        return "Skill was not measured, or has no meaning since all subjects are alike."
    n = evidence.numbers
    values = listed([f"{variant} {n(value)}" for variant, value in known.items()])
    above = [variant for variant, value in known.items() if value > 0]
    word = f"the fits of {listed(above)} are better" if above else "no variant's fits are better"
    how = "Skill is one less the ratio of squared error to that curve's: at zero a fit is as good as that."
    return f"Against the best single curve for all subjects {word}; mean skill: {values}. {how}"


def summary(evidence: Evidence) -> list[tuple[str, str]]:
    """The findings in brief: a lead and its sentences."""
    return [
        ("Speed.", verdict(evidence, STEP)),
        ("Memory.", verdict(evidence, MEMORY)),
        ("Gradients.", f"{verdict(evidence, DIRECT)} {adjoint_brief(evidence)}"),
        ("Dosing events.", " ".join(text for field in FIELDS for text in treatments(evidence, field))),
        ("Accuracy.", f"{verdict(evidence, RMSE)} {skill(evidence)}"),
        ("Reproducibility.", " ".join(repeats(evidence))),
    ]
