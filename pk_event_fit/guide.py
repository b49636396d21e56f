"""Ends a cross-validation: evaluates its fits, saves the model of the first, and writes a page that tells of all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import data, store
from .config import Config, decided
from .errors import ConfigError, PKEventError
from .launch import is_completed
from .study import told

FILES = ("report.html", "report.md", "model.npz", "model.eqx")
FORMATS = (".npz", ".eqx")


def check(plan: Sequence[Config]) -> None:
    """See that a sweep is one cross-validation: of the same fit, but for whom it leaves out.

    Raises:
        ConfigError: It is not.
    """
    whole = [asdict(replace(config, data=replace(config.data, fold=None))) for config in plan]
    if any(repr(one) != repr(whole[0]) for one in whole):
        raise ConfigError("study.cross_validate: one cross-validation is of one framework, seed and set of settings")
    parts = [config.data.fold for config in plan]
    if None not in parts or len(parts) < 3:
        raise ConfigError(
            f"data.fold={parts}: study.cross_validate needs null, for the fit of all, and two parts or more"
        )


def conclude(sweep: Path, plan: Sequence[Config], words: Sequence[str]) -> int:
    """Evaluate what was fitted and write the page, as far as fits were completed.

    Args:
        sweep: Its folder, whose jobs are numbered as the plan is.
        plan: The configs of the jobs.
        words: Of the command line that asked for it.

    Returns:
        The exit code: 0, or 1 where something could not be evaluated or written.
    """
    folders = {config.data.fold: sweep / str(number) for number, config in enumerate(plan)}
    done = {fold: folder for fold, folder in folders.items() if is_completed(folder)}
    for name in FILES:
        (sweep / name).unlink(missing_ok=True)  # of an earlier end
    if None not in done or len(done) < 3:
        print("failed: no page without the fit of all, and two parts or more", file=sys.stderr)
        return 1
    try:
        _write(sweep, plan[0], words, folders, done)
    except (PKEventError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(f"guide  {sweep / 'report.html'}, report.md, model.npz, model.eqx, evaluation, cross_validation", flush=True)
    return 0


def _write(
    sweep: Path, asked: Config, words: Sequence[str], folders: Mapping[int | None, Path],
    done: Mapping[int | None, Path],
) -> None:  # fmt: skip
    # Imported here: an ordinary run needs none of it.
    from .evaluation import evaluate, pages, read_run
    from .report import page
    from .report.document import markdown
    from .report.walkthrough import Facts, blocks

    parts = {fold: folder for fold, folder in folders.items() if fold is not None}
    print("evaluating the fit of all, and each part by the fit without it", flush=True)
    beside = _evaluating([done[fold] for fold in parts if fold in done], sweep / "cross_validation")
    try:
        single = evaluate(done[None], out=sweep / "evaluation", overwrite=True)
        saved = _save(sweep, done[None])
        if code := beside.wait():
            raise ConfigError(f"the cross-validation could not be evaluated (exit code {code}); its message is above")
    finally:
        beside.kill()
        beside.wait()
    unseen = told(sweep / "cross_validation" / "evaluation.json")
    run = read_run(done[None])
    config = decided(run.config, None)
    cohort = data.load(config.data)
    fitted, judges = data.judges(data.split(cohort, config.data).train, config.data, cohort)
    about = asdict(config) | {
        "parameters": run.size, "plan": [asdict(phase) for phase in config.training.plan]
    }  # fmt: skip
    facts = Facts(
        title=_title(config),
        words=list(words),
        config=about,
        result=told(done[None] / "result.json"),
        summary=_summary(config, cohort),
        subjects=(len(fitted), len(judges), len(cohort.amounts)),
        truth=_truth(config),
        notes=_notes(done[None]),
        single=_sections(single, sweep, "evaluation"),
        folds=_sections({**unseen, "folds": None}, sweep, "cross_validation"),  # the page has a table of them
        jobs={fold: told(folder / "result.json") if fold in done else None for fold, folder in parts.items()},
        left_out={one["fold"]: pages.listed(one["subjects"]) for one in unseen["folds"]},
        unseen=unseen["goodness"].get("test", {}).get("values", {}).get("all"),
        saved=saved if cohort.table is not None else [*saved, _again(sweep, done[None], cohort)],
        figures=_figures(sweep, config, cohort, fitted),
    )
    document = blocks(facts)
    store.write_text(sweep / "report.md", markdown(document))
    store.write_text(sweep / "report.html", page.page(document))


def _title(config: Config) -> str:
    if config.data.source == "simulated":
        name = config.data.kinetics.replace("_", " ").replace("michaelis menten", "Michaelis-Menten")
        return f"A Neural ODE of {name} kinetics"
    return f"A Neural ODE of {config.data.dataset or Path(str(config.data.path)).name}"


def _truth(config: Config) -> str | None:
    if config.data.source != "simulated":
        return None
    values = config.data.typical_parameters()
    named = zip(config.data.model.parameters, values, config.data.model.units, strict=True)
    told = f"{config.data.kinetics}, with " + ", ".join(f"{name} {value:g} {unit}" for name, value, unit in named)
    return told + (f", varying between subjects by {100 * config.data.cv:g} %" if config.data.cv else "")


def _summary(config: Config, cohort: data.Cohort) -> tuple[list[str], list[list[str]]]:
    from .data.overview import Row, summary

    unit = config.data.observed_unit
    heads = {name: f"{name} ({unit})" for name in ("minimum", "median", "maximum")}
    heads["horizon"] = f"horizon ({config.data.time_unit})"
    rows = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in summary(cohort)]
    return [heads.get(name, name) for name in Row._fields], rows


def _notes(folder: Path) -> list[str]:
    """Warnings of a fit, if there were any; where phases began and ended is in the figure."""
    try:
        lines = (folder / "log.txt").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line for line in lines if "warning" in line.lower()]


def _sections(content: Mapping[str, Any], sweep: Path, folder: str) -> dict[str, list[Any]]:
    """An evaluation's page by heading; its pictures are named so that two evaluations fit on one page."""
    from .evaluation import pages
    from .report.document import Figure, Heading

    pictures = {
        name: (caption, (sweep / folder / "figures" / f"{name}.svg").read_text())
        for name, caption in content["figures"].items()
    }
    found: dict[str, list[Any]] = {}
    heading = ""
    for block in pages.blocks(content, pictures):
        if isinstance(block, Heading):
            heading = block.text
            found[heading] = []
        elif isinstance(block, Figure):
            own = block._replace(name=f"{folder.replace('_', '-')}-{block.name}", path=f"{folder}/{block.path}")
            found[heading].append(own)
        else:
            found[heading].append(block)
    return found


def _evaluating(folders: Sequence[Path], out: Path) -> subprocess.Popen:
    """Evaluates runs in a process of its own, while this one evaluates another."""
    command = [sys.executable, "-m", "pk_event_fit.evaluate", *map(str, folders), "--out", str(out), "--overwrite"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _save(sweep: Path, folder: Path) -> list[str]:
    """Write the model in other formats, read each, and see that it is the same model; what was seen, in sentences."""
    from .saving import load_model, save_model

    model = load_model(folder / "weights.npz")
    count, said = sum(value.size for value in model.params.values()), []
    for suffix in FORMATS:
        path = sweep / f"model{suffix}"
        save_model(path, model)
        again = load_model(path)
        same = again.field == model.field and all(
            np.array_equal(again.params[name], value) for name, value in model.params.items()
        )
        if not same:
            raise ConfigError(f"{path}: does not hold the model that was written")
        said.append(f"{path.name}, {path.stat().st_size / 1024:.1f} KB: {count:,} numbers, read back to the same bits.")
    names = ", ".join(model.compartments)
    units = ", ".join(f"{name} in {unit}" for name, unit in model.units.items() if isinstance(unit, str))
    about = f"compartments ({names}), units ({units}) and scales"
    source = "data, settings, commit and versions of libraries"
    return [*said, f"Each says what its numbers mean: {about}; and where they come from: {source}."]


def _again(sweep: Path, folder: Path, cohort: data.Cohort) -> str:
    """Whether the model as it was saved predicts what the fit did, in a sentence."""
    from .saving import load_model

    kept = store.read_npz(folder / "predictions.npz")[0]["predicted"]
    off = float(np.abs(load_model(sweep / "model.eqx").predict_cohort(cohort) - kept).max())
    return f"model.eqx predicts of the subjects what the fit did, {f'within {off:.1e}' if off else 'bit for bit'}."


def _figures(sweep: Path, config: Config, cohort: data.Cohort, fitted: np.ndarray) -> dict[str, Any]:
    """The cohort and, where there are any, its copies, drawn and written."""
    from .report.cohorts import cohort_figure
    from .report.document import Figure
    from .report.evaluated import drawn

    unit, clock, log = config.data.observed_unit, config.data.time_unit, config.data.error == "log"
    count = len(fitted)
    shown = {"cohort": (cohort, "What was observed of each subject.", f"{len(cohort.amounts)} subjects")}
    if config.data.augment:
        copied = data.shown(cohort, fitted, config.data).copied.take
        caption = f"The {count} subjects that are fitted, and {config.data.augment} noisy copies of each."
        rows = data.shown(cohort, fitted, config.data).rows
        shown["copies"] = (copied(rows), caption, f"{count} subjects and {len(rows) - count} copies")
    found = {}
    for name, (whom, caption, title) in shown.items():
        made = drawn(lambda: cohort_figure(whom, unit=unit, time_unit=clock, title=title, log=log), caption)  # noqa: B023
        for kind, content in (made or {}).items():
            (sweep / "figures").mkdir(exist_ok=True)
            store.write_bytes(sweep / "figures" / f"{name}.{kind}", content)
        if made is not None:
            found[name] = Figure(name, f"figures/{name}.svg", caption, made["svg"].decode())
    return found
