"""The sections of the article, as blocks: all of it for `post.md`, parts of it for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import advice, costs, findings
from .document import Block, Bullets, Code, Figure, Heading, Paragraph, Table
from .measures import Evidence
from .series import FIELDS, inside, number
from .setting import commits, dose_times, listed, machine, value, versions
from .standing import LEVEL

TITLE = "Neural ODE frameworks at dosing events: a measured comparison"
WORKS = {
    "diffrax": "Diffrax: Patrick Kidger, On Neural Differential Equations, PhD thesis, University of Oxford.",
    "torchdiffeq": "torchdiffeq: Chen, Rubanova, Bettencourt and Duvenaud, Neural Ordinary Differential Equations, "
    "NeurIPS.",
    "torchdyn": "TorchDyn: Poli, Massaroli, Yamashita, Asama, Park and Ermon, TorchDyn: Implicit Models and Neural "
    "Numerical Methods in PyTorch.",
    "fused": "fused: this package's own engine.",
    "torchode": "torchode: Lienen and Günnemann, torchode: A Parallel ODE Solver for PyTorch.",
}

Figures = Mapping[str, Figure]
Tables = Mapping[str, Sequence[Table]]


def article(evidence: Evidence, tables: Tables, figures: Figures, problems: Sequence[str]) -> list[Block]:
    """The whole post."""
    return [
        Heading(1, TITLE),
        *executive(evidence, problems, figures),
        *methodology(evidence),
        Heading(2, "Results"),
        *performance(evidence, tables, figures),
        *stability(evidence, tables, figures),
        *accuracy(evidence, tables, figures),
        *reproducibility(evidence, tables),
        *dose(evidence, figures),
        Heading(2, "Strengths and considerations"),
        *advice.frameworks(evidence),
        Heading(2, "Decision matrix"),
        Paragraph("Each line names what the measurements recommend for one priority, and what shows it."),
        advice.matrix(evidence),
        *repeat(evidence),
        *citation(evidence),
    ]


def executive(evidence: Evidence, problems: Sequence[str], figures: Figures) -> list[Block]:
    """What a reader who stops here should know."""
    blocks: list[Block] = [
        Heading(2, "Executive summary"),
        Paragraph(f"{about(evidence)} {findings.counted(evidence)}"),
    ]
    blocks += [*missing(evidence, problems), Bullets(findings.summary(evidence)), *_shown(figures, "dashboard")]
    return blocks


def about(evidence: Evidence) -> str:
    """The question, in a sentence."""
    n, times = evidence.numbers, dose_times(evidence)
    when = f" at {listed([n.time(t) for t in times])} h" if times else ""
    return (
        f"Each framework fits the same Neural ODE to the same cohort ({value(evidence, 'data.subjects')} subjects, "
        f"doses{when}) from the same weights, with the same loss, batches, method "
        f"({value(evidence, 'solver.method')}), tolerance ({value(evidence, 'solver.rtol')}) and threads; "
        "nothing but the framework, its compilation and the seed differs between runs."
    )


def missing(evidence: Evidence, problems: Sequence[str]) -> list[Block]:
    """What is not there, so that nobody takes the rest for the whole; nothing where all is."""
    if not problems:
        return []
    said = tuple(f"{run.name}/: failed: " for run in evidence.sweep.runs)  # the list of runs tells that
    others = [("", evidence.numbers.whole(problem)) for problem in problems if not problem.startswith(said)]
    return [
        Paragraph("This report is not complete. All else here is from files that are whole; these are not, or differ:"),
        Bullets([*findings.failed(evidence), *others]),
    ]


def methodology(evidence: Evidence) -> list[Block]:
    """What was done, in the words of the runs' own settings."""
    n = evidence.numbers
    seeds = sorted({run.seed for run in evidence.sweep.runs if run.seed is not None})

    def of(key: str) -> str:
        return value(evidence, key)

    return [
        Heading(2, "Methodology"),
        Bullets([
            ("Problem.", f"{of('data.subjects')} subjects, doses of {of('data.dose_amounts')} mg at "
             f"{of('data.dose_times')} h, {of('data.points')} points in each interval, to {of('data.end')} h."),
            ("Fit.", f"{of('training.iterations')} iterations, learning rate {of('training.learning_rate')}, batch "
             f"size: {of('training.batch_size')}, seeds: {listed([n(seed) for seed in seeds]) or 'not known'}, "
             f"gradient: {of('solver.gradient')}."),
            ("Solver.", f"{of('solver.method')}, relative tolerance {of('solver.rtol')}, absolute tolerance "
             f"{of('solver.atol')} mg, at most {of('solver.max_steps')} steps, precision "
             f"{of('accelerator.precision')}, on {of('accelerator.device')}. Every library holds the tolerance for "
             "every subject; those that step the batch as one, by that of the worst."),
            ("Processes.", "Every job and every probe has a fresh process of its own, one at work at a time."),
            *_timing(evidence),
            ("Doses.", "Three treatments: the solve restarts at the dose; the solver goes through it as a narrow "
             "infusion and is told when that begins and ends; the same, told nothing. Each is compared with the exact "
             "solution of its own problem."),
            ("Machine.", f"{machine(evidence)}."),
        ]),
    ]  # fmt: skip


def _timing(evidence: Evidence) -> list[tuple[str, str]]:
    """How times and gradients were taken, and when two of them differ."""
    n = evidence.numbers
    speed = [c for c in evidence.sweep.probes.get("speed", {}).values() if c.get("status") == "completed"]
    pairs = [(c.get("rounds"), c.get("calls")) for c in speed]
    blocks = " or ".join(dict.fromkeys(f"{n(rounds)} rounds of at most {n(calls)} calls" for rounds, calls in pairs
                                       if isinstance(rounds, int) and isinstance(calls, int)))  # fmt: skip
    bounds = [inside(content, "exact_gradient", "uncertainty") for content in speed]
    known = [bound for bound in map(number, bounds) if bound is not None]
    sure = f"; at few report points, two ways to that differ by {n(max(known))} at most, relative" if known else ""
    timed = f"after warm-up, in {blocks}, the variants taking turns" if blocks else "not measured in this sweep"
    return [
        ("Times.", f"Import, first call and steady time are told apart. Timed blocks: {timed}."),
        ("Differences.", f"A ratio has the {n.percent(LEVEL)} percentile interval of a paired bootstrap over rounds, "
         "or over seeds for whole fits. Where that holds one, this text says that they cannot be told apart. With "
         "fewer pairs than rounds have, as those of seeds, nobody is called better."),
        ("Gradients.", f"Compared with the exact gradient{sure}."),
    ]  # fmt: skip


def performance(evidence: Evidence, tables: Tables, figures: Figures) -> list[Block]:
    """Time, memory, gradients."""
    gains = [gain for variant in evidence.plain if (gain := _gain(evidence, variant))]
    times = {"Training step": findings.STEP, "Whole fit": findings.FITTED, "Import": findings.IMPORT,
             "First iteration": findings.START}  # fmt: skip
    errors = {"Direct gradient": findings.DIRECT, "Adjoint gradient": findings.ADJOINT}
    compiled = [("Compiled.", " ".join(gains))] * bool(gains)
    return [
        Heading(3, "Performance"),
        Bullets([*_verdicts(evidence, times), *compiled]),
        *tables.get("performance", ()), *_shown(figures, "training_time"),
        Paragraph(findings.verdict(evidence, findings.MEMORY)), *_shown(figures, "memory"),
        Bullets([("Adjoint against direct.", costs.adjoint_cost(evidence)), *_verdicts(evidence, errors)]),
        *tables.get("gradients", ()), *_shown(figures, "gradients"),
    ]  # fmt: skip


def _verdicts(evidence: Evidence, criteria: Mapping[str, findings.Criterion]) -> list[tuple[str, str]]:
    return [(f"{lead}.", findings.verdict(evidence, criterion)) for lead, criterion in criteria.items()]


def _gain(evidence: Evidence, variant: str) -> str | None:
    gain = costs.compiled_gain(evidence, variant)
    return f"{variant}: {gain[0][0].lower()}{gain[0][1:]}" if gain else None


def stability(evidence: Evidence, tables: Tables, figures: Figures) -> list[Block]:
    """At all doses."""
    told = [text for field in FIELDS for text in findings.treatments(evidence, field)]
    return [
        Heading(3, "Stability"), Paragraph(" ".join([*told, findings.verdict(evidence, findings.JUMP)])),
        *tables.get("stability", ()), *_shown(figures, "stability"),
    ]  # fmt: skip


def accuracy(evidence: Evidence, tables: Tables, figures: Figures) -> list[Block]:
    """How well the fits fit, and what accuracy costs."""
    told = _verdicts(evidence, {"Fitted subjects": findings.RMSE, "Held-out subjects": findings.HELD})
    return [
        Heading(3, "Accuracy"), Bullets([*told, ("Skill.", findings.skill(evidence))]), *tables.get("accuracy", ()),
        *_shown(figures, "accuracy", "loss_curves"), Paragraph(findings.tightest(evidence)),
        *tables.get("precision", ()), *_shown(figures, "work_precision"),
    ]  # fmt: skip


def reproducibility(evidence: Evidence, tables: Tables) -> list[Block]:
    """What comes out again."""
    told = [*findings.repeats(evidence), findings.verdict(evidence, findings.SEEDS)]
    return [Heading(3, "Reproducibility"), Paragraph(" ".join(told)), *tables.get("reproducibility", ())]


def dose(evidence: Evidence, figures: Figures) -> list[Block]:
    """A close look at the first dose."""
    times, n = dose_times(evidence), evidence.numbers
    at = f" (t = {n.time(times[0])} h)" if times else ""
    blocks: list[Block] = [Heading(2, f"Deep dive: the dosing event{at}")]
    widths = {content.get("infusion_h") for content in evidence.sweep.probes.get("stability", {}).values()}
    windows = {content.get("window_h") for content in evidence.sweep.probes.get("stability", {}).values()}
    seen = [" or ".join(n.time(v) for v in sorted(v for v in found if isinstance(v, int | float)))
            for found in (widths, windows)]  # fmt: skip
    if not all(seen):
        return [*blocks, Paragraph("What happens at a dose was not measured."), *_shown(figures, "dosing_event")]
    blocks.append(Paragraph(
        f"A solver that is restarted meets a jump. One that goes through the dose needs it to have a width, an "
        f"infusion of {seen[0]} h: told when it begins and ends, or told nothing. Each is compared with the exact "
        f"solution of its own problem. A restart adds the dose outside of the solver, so that its jump is exact by "
        f"construction; what is to be compared is the largest error of the curves. Steps after a dose are evaluations "
        f"of the field within {seen[1]} h, divided by those of a step, of one subject solved alone. Before the first "
        "dose the curve is at rest, which lets steps grow without limit: the hardest case for a solver told nothing."
    ))  # fmt: skip
    blocks += _shown(figures, "dosing_event", "treatments")
    for field in FIELDS:
        blocks += [Heading(3, f"The {field} field"), Paragraph(" ".join(findings.treatments(evidence, field)))]
        blocks.append(Bullets(findings.treated(evidence, field)))
    return blocks


def repeat(evidence: Evidence) -> list[Block]:
    """How to get these numbers again, and from what they came."""
    n, plan = evidence.numbers, evidence.sweep.plan or {}
    names = ",".join(dict.fromkeys(name for name, _ in evidence.frameworks.values() if name))
    seeds = ",".join(n(seed) for seed in sorted({run.seed for run in evidence.sweep.runs if run.seed is not None}))
    experiment = plan.get("experiment")
    order = f"+experiment={n.whole(experiment)}" if experiment else f"-m framework={n.whole(names)} seed={seeds}"
    words = plan.get("words")
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        # Where its files went is no part of what it was.
        order = " ".join(n.whole(word) for word in words if not word.startswith("hydra.sweep.dir="))
    folder = evidence.sweep.folder
    lines = [
        f"python -m pk_event_fit {order}",
        f"python -m pk_event_fit.report {n.whole(f'{folder.parent.name}/{folder.name}')}",
    ]
    return [
        Heading(2, "How to repeat it"), Code("\n".join(lines)),
        Paragraph(f"The second line makes this text again from the files of the sweep. Commit: {commits(evidence)}. "
                  f"{versions(evidence, tools=True)}."),
        Paragraph("Every number here comes from a file of the sweep; most are rows of measurements.csv, whose column "
                  "source names the file."),
    ]  # fmt: skip


def citation(evidence: Evidence) -> list[Block]:
    """Whose work was compared."""
    used = list(dict.fromkeys(name for name, _ in evidence.frameworks.values() if name))
    works = [("", WORKS[name]) for name in used if name in WORKS]
    own = [("", f"{name}: see its own package.") for name in used if name not in WORKS]
    return [
        Heading(2, "Citation"),
        Paragraph(
            "Cite the solver libraries whose work it is, and pk_event_fit for the comparison; the README has years."
        ),
        Bullets([*works, *own]),
    ]


def _shown(figures: Figures, *names: str) -> list[Figure]:
    return [figures[name] for name in names if name in figures]
