"""The page of a cross-validated fit: from the data to a saved model, step by step, each with what came of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .document import Block, Bullets, Code, Figure, Heading, Paragraph, Table

ELSEWHERE = ("residuals", "individual-fits-log")  # figures that an evaluation's own page has, and this one leaves out


class Facts(NamedTuple):
    """What the page tells.

    Attributes:
        title: Of the page.
        words: By which all of it was made.
        config: Settings of the fit that left nobody out, as a dictionary.
        result: Its `result.json`.
        summary: Head and rows of what the cohort holds.
        subjects: How many were fitted, judged the fit, and are there in all.
        truth: Kinetics behind simulated subjects, and their parameters; None where these are not known.
        notes: Lines of the log of the fit.
        single: Blocks of its evaluation by heading.
        folds: Blocks of the cross-validation by heading.
        jobs: `result.json` of each fold that was asked for, by its number; None of one that failed.
        left_out: Whom each of those that did not fail left out, in words.
        unseen: Measures of all that was predicted unseen; None where nothing was.
        saved: Sentences on the files of the model.
        figures: Of the cohort and its copies, by name.
    """

    title: str
    words: Sequence[str]
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    summary: tuple[Sequence[str], Sequence[Sequence[str]]]
    subjects: tuple[int, int, int]
    truth: str | None
    notes: Sequence[str]
    single: Mapping[str, Sequence[Block]]
    folds: Mapping[str, Sequence[Block]]
    jobs: Mapping[int, Mapping[str, Any] | None]
    left_out: Mapping[int, str]
    unseen: Mapping[str, Any] | None
    saved: Sequence[str]
    figures: Mapping[str, Figure]


def blocks(facts: Facts) -> list[Block]:
    """The page."""
    return [
        Heading(1, facts.title),
        Paragraph(_lead(facts)),
        Heading(2, "The data"),
        *_data(facts),
        Heading(2, "Noisy copies"),
        *_copies(facts),
        Heading(2, "The network"),
        *_network(facts),
        Heading(2, "Training in phases"),
        *_training(facts),
        Heading(2, "How good the fit is"),
        *_shown(facts.single, "Goodness of fit", "Individual fits"),
        *_field(facts),
        Heading(2, "Subjects that the fit has not seen"),
        *_folds(facts),
        Heading(2, "Saved and loaded"),
        *_saved(facts),
        Heading(2, "Do it again, or otherwise"),
        Code("\n".join(_again(facts.words, facts.result["framework"]))),
    ]


def _shown(evaluation: Mapping[str, Sequence[Block]], *headings: str) -> list[Block]:
    """What an evaluation has under headings, but for figures that show the same once more."""
    found = [block for heading in headings for block in evaluation.get(heading, ())]
    return [block for block in found if not (isinstance(block, Figure) and block.name.endswith(ELSEWHERE))]


def _lead(facts: Facts) -> str:
    unit, done = facts.config["data"]["observed_unit"], [job for job in facts.jobs.values() if job]
    seconds = sum(job["performance"]["training_s"] for job in (facts.result, *done))
    told = (
        f"One network is fitted {1 + len(done)} times, in {facts.result['framework']}: with all subjects, and without "
        f"{_parts(facts)}. That took {seconds:.0f} s of training in all. The first fit has an error of "
        f"{facts.result['accuracy']['rmse']:.3g} {unit} (root mean square) on the subjects it was fitted to."
    )
    if facts.unseen is not None:
        told += f" Subjects that a fit had not seen are predicted with an error of {facts.unseen['rmse']:.3g} {unit}"
        told += "" if facts.unseen["r2"] is None else f", R² {facts.unseen['r2']:.5g}"
        told += "."
    return told


def _parts(facts: Facts) -> str:
    """Who was left out, as far as there are fits without them."""
    parts, done = facts.config["data"]["folds"], sum(job is not None for job in facts.jobs.values())
    kind = "subjects" if parts == facts.subjects[2] else "parts of the subjects"
    return f"each of {parts} {kind}" if done == parts else f"{done} of {parts} {kind}, one at a time"


def _data(facts: Facts) -> list[Block]:
    data = facts.config["data"]
    noise = data["noise_sd"]
    items = []
    if facts.truth is not None:
        items.append(("The truth, which no fit is told:", facts.truth))
    items.append(("Error of an observation:", f"{noise:g} {data['observed_unit']} (standard deviation)")
                 if noise else ("Error of an observation:", "not known, or none"))  # fmt: skip
    return [
        Bullets(items),
        Table("By compartment", *facts.summary),
        *([facts.figures["cohort"]] if "cohort" in facts.figures else []),
    ]


def _copies(facts: Facts) -> list[Block]:
    data = facts.config["data"]
    if not data["augment"]:
        return [Paragraph("None: the subjects are fitted as they were observed.")]
    size = f"{100 * data['augment_sigma']:g} % of the value" if data["augment_relative"] else (
        f"{data['augment_sigma']:g} {data['observed_unit']}")  # fmt: skip
    told = (
        f"Each subject that is fitted has {data['augment']} copies beside it. Every number of a copy has normal noise "
        f"of its own, with a standard deviation of {size}. Subjects that judge a fit, or are left out of it, have none."
    )
    return [Paragraph(told), *([facts.figures["copies"]] if "copies" in facts.figures else [])]


def _network(facts: Facts) -> list[Block]:
    model = facts.config["model"]
    wide = " and ".join(str(size) for size in model["hidden"])
    scales = model["normalise"] if model["normalise"] is not None else model["structure"] != "mlp"
    kinds = {
        "mlp": "rates of change of the amounts", "covariate": "the same of amounts and covariates",
        "mass_balanced": "flows between compartments and out", "hybrid": "what known kinetics lack",
    }  # fmt: skip
    return [
        Bullets([
            ("What it gives:", kinds[model["structure"]]),
            ("Hidden layers:", f"{len(model['hidden'])}, of {wide} units, {model['activation']}"),
            ("Numbers that are fitted:", f"{facts.config['parameters']:,}"),
            ("Inputs and outputs:", "on scales taken from the fitted subjects, which the model's file keeps"
             if scales else "as they are"),
        ])
    ]  # fmt: skip


def _training(facts: Facts) -> list[Block]:
    training, (fitted, judges, all_of_them) = facts.config["training"], facts.subjects
    rows = [
        [
            str(number), phase["optimiser"], f"{phase['iterations']:,}", f"{phase['learning_rate']:g}",
            "all" if phase["batch_size"] is None else str(phase["batch_size"]), _length(phase["length"]),
            ", ".join(f"{name} {factor:g}" for name, factor in phase["regularisation"].items()) or "none",
        ]
        for number, phase in enumerate(facts.config["plan"], 1)
    ]  # fmt: skip
    head = ["phase", "optimiser", "steps", "learning rate", "subjects per step", "part of each history", "penalty"]
    told = f"{fitted} of {all_of_them} subjects are fitted."
    if judges and training["validate_every"] is not None:
        kept, steps = facts.result["kept_iteration"], facts.result["iterations"]
        told += (
            f" Every {training['validate_every']} steps the fit is judged by {judges} that "
            f"{'is' if judges == 1 else 'are'} not, and the weights with the least error there are kept: those after "
            f"{kept:,} of {steps:,} steps."
        )
    return [
        Table("Phases", head, rows),
        Paragraph(f"{told} It took {facts.result['performance']['training_s']:.0f} s."),
        *([Bullets([("", note) for note in facts.notes])] if facts.notes else []),
        *facts.single.get("Training", ()),
    ]


def _length(length: float) -> str:
    if isinstance(length, int):
        return "the first dose" if length == 1 else f"the first {length} doses"
    return "all" if length == 1 else f"the first {100 * length:g} %"


def _field(facts: Facts) -> list[Block]:
    found = facts.single.get("Learned and true field")
    return [Heading(2, "What was learned, and the truth"), *found] if found else []


def _folds(facts: Facts) -> list[Block]:
    unit, failed = facts.config["data"]["observed_unit"], sum(job is None for job in facts.jobs.values())
    whole = sum(job is not None for job in facts.jobs.values()) == facts.config["data"]["folds"]
    told = (
        f"The same is done without {_parts(facts)}; nothing is chosen by whoever is left out. Below, "
        + (
            "every subject is predicted by the fit that has not seen it."
            if whole
            else "those left out are predicted by the fit that has not seen them, and nobody else is judged."
        )
        + (f" {failed} more {'was' if failed == 1 else 'were'} asked for, and failed." if failed else "")
    )
    head = ["left out", "subjects", f"RMSE of those fitted ({unit})", f"of those that judged ({unit})",
            f"of those left out ({unit})", "steps kept", "training (s)"]  # fmt: skip
    rows = [
        [f"part {number}", facts.left_out.get(number, "–"), *_fold(job)] for number, job in sorted(facts.jobs.items())
    ]
    return [
        Paragraph(told),
        Table("Fits without a part", head, rows),
        *_shown(facts.folds, "Goodness of fit", "Individual fits", "Learned and true field"),
        Paragraph(
            "More figures and measures are on pages of their own, evaluation/evaluation.html and "
            "cross_validation/evaluation.html."
        ),
    ]


def _fold(job: Mapping[str, Any] | None) -> list[str]:
    if job is None:
        return ["failed", *["–"] * 4]
    score = job["accuracy"]
    errors = [score["rmse"], *((score.get(name) or {}).get("rmse") for name in ("validation", "held_out"))]
    told = ["–" if error is None else f"{error:.3g}" for error in errors]
    return [*told, f"{job['kept_iteration']:,}", f"{job['performance']['training_s']:.0f}"]


def _saved(facts: Facts) -> list[Block]:
    data = facts.config["data"]
    code = 'import pk_event_fit\n\nmodel = pk_event_fit.load_model("model.npz")  # or model.eqx'
    if data["initial"] and not data["dose_times"] and not data["covariates"] and len(facts.summary[1]) == 1:
        first, end = data["initial"][0], float(data["end"])
        before = [float(amount) for amount in (first if isinstance(first, list) else [first])]
        code += (
            f"\ncurves = model.predict([[]], times={[0.0, end / 2, end]}, initial={[before]})"
            f"  # {data['observed_unit']}, [subjects, times, compartments]"
        )
    return [Bullets([("", one) for one in facts.saved]), Code(code, "python")]


def _again(words: Sequence[str], framework: str) -> list[str]:
    """Lines for a shell: all of it once more, in another library, and what can be done with its first fit."""
    own = [word for word in words if not word.lstrip("+").startswith("hydra.")]
    other = "diffrax" if framework == "torchode" else "torchode"
    free = [word for word in own if not re.match(r"[+~]*framework\b", word)]  # Hydra takes one, and only its settings
    return [
        shlex.join(["python", "-m", "pk_event_fit", *own]),
        "# in another library",
        shlex.join(["python", "-m", "pk_event_fit", *free, f"framework={other}"]),
        "# from the folder of this page: its first fit alone, evaluated and as another file",
        "python -m pk_event_fit.evaluate 0 --out elsewhere",
        "python -m pk_event_fit.export 0 model.safetensors",
    ]
