"""The page of a cross-validated fit: from the data to a saved model, step by step, each with what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .document import Block, Bullets, Code, Figure, Heading, Paragraph, Table


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
        jobs: `result.json` of each fold, by its number; None of one that failed.
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
        *facts.single.get("Goodness of fit", ()),
        *facts.single.get("Individual fits", ()),
        *_field(facts),
        Heading(2, "Subjects that no fit has seen"),
        *_folds(facts),
        Heading(2, "Saved and loaded"),
        *_saved(facts),
        Heading(2, "Do it again, or otherwise"),
        Code("\n".join(_again(facts))),
    ]


def _lead(facts: Facts) -> str:
    unit, fits = facts.config["data"]["observed_unit"], 1 + sum(job is not None for job in facts.jobs.values())
    seconds = sum(job["performance"]["training_s"] for job in (facts.result, *facts.jobs.values()) if job)
    own = f"{facts.result['accuracy']['rmse']:.3g} {unit}"
    told = (
        f"{fits} fits of one network, in {facts.result['framework']}: of all subjects, and without each part of them "
        f"in turn; {seconds:.0f} s of training in all. The first is off by {own} (root mean square) from what it was "
        "fitted to."
    )
    if facts.unseen is not None:
        told += f" Subjects that a fit had not seen are predicted with an error of {facts.unseen['rmse']:.3g} {unit}"
        told += "" if facts.unseen["r2"] is None else f", R² {facts.unseen['r2']:.5g}"
        told += "."
    return told


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
        Table("What was observed", *facts.summary),
        *([facts.figures["cohort"]] if "cohort" in facts.figures else []),
    ]


def _copies(facts: Facts) -> list[Block]:
    data = facts.config["data"]
    if not data["augment"]:
        return [Paragraph("None: the subjects are fitted as they were observed.")]
    size = f"{100 * data['augment_sigma']:g} % of the value" if data["augment_relative"] else (
        f"{data['augment_sigma']:g} {data['observed_unit']}")  # fmt: skip
    told = (
        f"Beside itself each fitted subject has {data['augment']} copies, each number with normal noise of its own, "
        f"of {size}. Nobody is copied who judges a fit, or is left out of it."
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
    head = ["phase", "optimiser", "steps", "learning rate", "subjects a step", "of each history", "penalty"]
    told = f"Of {all_of_them} subjects {fitted} are fitted"
    if judges and training["validate_every"] is not None:
        kept = facts.result["kept_iteration"]
        told += (
            f"; judged every {training['validate_every']} steps by {judges} that {'is' if judges == 1 else 'are'} not, "
            f"and the weights of the least error there are kept: those after {kept:,} steps of "
            f"{facts.result['iterations']:,}"
        )
    return [
        Table("Phases", head, rows),
        Paragraph(f"{told}. It took {facts.result['performance']['training_s']:.0f} s."),
        *([Bullets([("", note) for note in facts.notes])] if facts.notes else []),
        *facts.single.get("Training", ()),
    ]


def _length(length: float) -> str:
    if isinstance(length, int):
        return f"{length} intervals"
    return "all" if length == 1 else f"the first {100 * length:g} %"


def _field(facts: Facts) -> list[Block]:
    found = facts.single.get("Learned and true field")
    return [Heading(2, "What was learned, and the truth"), *found] if found else []


def _folds(facts: Facts) -> list[Block]:
    data, unit = facts.config["data"], facts.config["data"]["observed_unit"]
    alone = data["folds"] == facts.subjects[2]
    how = "each subject is left out once" if alone else f"each of {data['folds']} parts of them is left out once"
    told = (
        f"The same is done without some of the subjects: {how}, nothing is chosen by it, and the fit predicts it. In "
        "the figures below every subject is predicted by the fit that has not seen it."
    )
    head = ["left out", f"RMSE of those fitted ({unit})", f"of those that judged ({unit})",
            f"of those left out ({unit})", "steps kept", "training (s)"]  # fmt: skip
    rows = [[f"part {number}", *_fold(job)] for number, job in sorted(facts.jobs.items())]
    return [
        Paragraph(told),
        Table("Fits without a part", head, rows),
        *facts.folds.get("Goodness of fit", ()),
        *facts.folds.get("Individual fits", ()),
        *facts.folds.get("Learned and true field", ()),
    ]


def _fold(job: Mapping[str, Any] | None) -> list[str]:
    if job is None:
        return ["failed", *["–"] * 4]
    score = job["accuracy"]
    errors = [score["rmse"], *((score.get(name) or {}).get("rmse") for name in ("validation", "held_out"))]
    told = ["–" if error is None else f"{error:.3g}" for error in errors]
    return [*told, f"{job['kept_iteration']:,}", f"{job['performance']['training_s']:.0f}"]


def _saved(facts: Facts) -> list[Block]:
    code = (
        "import pk_event_fit\n\n"
        'model = pk_event_fit.load_model("model.npz")    # or model.eqx\n'
        "curves = model.predict([[]], times=[10.0, 50.0, 100.0], initial=[[120.0]])"
    )
    if facts.config["data"]["dose_times"] or len(facts.summary[1]) > 1:
        code = 'import pk_event_fit\n\nmodel = pk_event_fit.load_model("model.npz")    # or model.eqx'
    return [Bullets([("", one) for one in facts.saved]), Code(code, "python")]


def _again(facts: Facts) -> list[str]:
    words = " ".join(word for word in facts.words if not word.startswith("hydra."))
    return [
        f"python -m pk_event_fit {words}",
        f"python -m pk_event_fit {words} framework=torchode    # in another library",
        "python -m pk_event_fit.evaluate 0 --out elsewhere     # its first fit alone, from the folder of this page",
        "python -m pk_event_fit.export 0 model.safetensors",
    ]
