"""Evaluates finished runs on a cohort, and writes what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import frameworks
from ..config import Config, decided, set_threads
from ..data import Data
from ..errors import ConfigError, SolverFailure
from ..frameworks.base import Framework
from . import figures, folds
from .cases import Case, load, same
from .exposure import exposure, summary, units
from .files import FILES, PICTURES, exposures, write
from .measures import measures, sigma_of
from .predictions import curves, flat, predictions
from .runs import Run, read_run, suited

SCHEMA_VERSION = 1
SAID = 6  # doses that are told in words


def evaluate(
    run: Path | str | Sequence[Path | str], settings: Config | None = None, *, out: Path | str | None = None,
    sigma: float | None = None, overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a finished run, or the median of several, and leave tables, figures and a page in a folder.

    Args:
        run: Its folder; of several runs of the same data, their folders. Where each left out another of the
            `data.folds`, every subject is predicted by the run that left it out.
        settings: Data, framework, solver and accelerator to evaluate with; None for those of the (first) run itself.
        out: Where to write; None for the folder `evaluation` of the run.
        sigma: Known standard deviation of one observation, in its unit, or of its logarithm where logarithms were
            fitted; None for `data.noise_sd`, where that is above 0, and else unknown.
        overwrite: Whether what an earlier evaluation left there may be replaced.

    Returns:
        What `evaluation.json` holds.

    Raises:
        CheckpointError: There is no finished run, or it is damaged.
        ConfigError, DataError, ScheduleError: The settings do not suit the run, or the data are bad.
        SolverFailure: The predictions cannot be solved. Nothing was written in all these cases.
    """
    runs = [read_run(Path(one)) for one in ([run] if isinstance(run, Path | str) else run)]
    folder = _folder(runs, out, overwrite)
    config = decided(runs[0].config if settings is None else settings, None)
    parts = runs if folds.are_folds(runs) else []
    if parts:
        runs = [folds.sighted(one) for one in runs]
        config = replace(config, data=replace(config.data, fold=None))
    config = replace(config, data=_data(runs, config.data))
    set_threads(config.accelerator.threads)
    runs = [one._replace(config=replace(one.config, data=suited(one, one.config.data))) for one in runs]
    framework = _framework(config)
    case, owner = load(runs[0], config.data), None
    if parts:
        owner = folds.whose(parts, case)
        case = folds.unseen(case, owner)
    known = sigma_of(case, sigma)
    found = predictions(framework, runs, case.cohort, owner=owner)
    points = flat(case, found.middle)
    why, lines = "", None
    try:
        lines = curves(framework, runs, case, figures.subjects_shown(case, points), found, owner)
    except SolverFailure as failure:  # at more points than were observed, or more of them to step onto
        why = f"No curves between observations: {failure}"
    exposed = exposure(case, found.middle)
    members = 1 if parts else len(runs)
    content = _content(runs, config, case, known) | {
        "members": members,
        "folds": None,
        "goodness": measures(case, found.middle, parameters=runs[0].size, members=members, sigma=known),
        "nca_units": units(config.data.observed_unit, config.data.time_unit),
        "nca": summary(case, exposed),
        "no_curves": why or None,
    }
    if parts and owner is not None:
        single = None if config.data.error == "log" else known
        content["folds"] = folds.fold_by_fold(parts, case, owner, found.middle, single)
        content["title"] = f"{len(parts)} of {config.data.folds} folds"
    title = f"{content['title']}: {content['data']['words']}"
    drawn, captions = figures.figures(parts or runs, case, points, lines, title, ensemble=members > 1)
    content["figures"] = captions
    write(folder, content, drawn, exposures(case, exposed))
    return content


def _folder(runs: Sequence[Run], out: Path | str | None, overwrite: bool) -> Path:
    if not runs:
        raise ConfigError("run: needs the folder of a finished run")
    if out is None and len(runs) > 1:
        raise ConfigError("out: several runs have no folder of their own; name one (--out FOLDER)")
    folder = runs[0].folder / "evaluation" if out is None else Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder")
    there = [name for name in (*FILES, *PICTURES) if (folder / name).exists()]
    if there and not overwrite:
        raise ConfigError(f"{folder}: already holds {there[0]}; name another folder (--out), or say --overwrite")
    return folder


def _data(runs: Sequence[Run], settings: Data) -> Data:
    """The data as all of the runs take them.

    Raises:
        ConfigError: They do not suit a run, or runs were fitted to different data or see other covariates.
    """
    first, *others = runs
    found = suited(first, settings)
    for other in others:
        own = suited(other, other.config.data), suited(first, first.config.data)
        if not same(suited(other, settings), found) or not same(*own):
            raise ConfigError(f"{other.folder}: was fitted to other data than {first.folder}, or sees other covariates")
    return found


def _framework(config: Config) -> Framework:
    kind = frameworks.load(str(config.framework.name))
    return kind.create(
        config.solver,
        precision=config.accelerator.precision,
        device=config.accelerator.device,
        **({"compile": True} if config.accelerator.compile else {}),  # a plug-in may know nothing of it
        **config.framework.own(kind.settings),
    )


def _content(runs: Sequence[Run], config: Config, case: Case, sigma: float | None) -> dict[str, Any]:
    first, digest = runs[0], case.cohort.digest
    return {
        "schema_version": SCHEMA_VERSION,
        "title": first.folder.resolve().name if len(runs) == 1 else f"{len(runs)} runs",
        "runs": [str(run.folder) for run in runs],
        "parameters": first.size,
        "framework": config.framework.name,
        "precision": config.accelerator.precision,
        "data": {
            "words": _words(case),
            "doses": _doses(case),
            "settings": _told(asdict(config.data)),
            "digest": digest,
            "own": case.own,
            "digest_of_the_run": first.digest,
        },
        "unit": config.data.observed_unit,
        "time_unit": config.data.time_unit,
        "sigma": sigma,
        "parts": {name: len(who) for name, who in case.parts.items()},
        "ignored_doses": case.cohort.ignored,
    }


def _told(value: Any) -> Any:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_told(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _doses(case: Case) -> str:
    """What every subject of a grid is given, in words; of a table how many doses there are."""
    if case.settings.tabular:
        return f"{len(case.given.begin)} in all, each subject's own"
    unit, clock, own = case.settings.observed_unit, case.settings.time_unit, case.given.of(0)
    told = [
        f"{amount:g} {unit} at {begin:g} {clock}" + (f" over {end - begin:g} {clock}" if end > begin else "")
        for amount, begin, end in zip(own.amount, own.begin, own.end, strict=True)
        if amount > 0
    ]
    more = "" if len(told) <= SAID else f" and {len(told) - SAID} more"
    return (", ".join(told[:SAID]) or "none") + more


def _words(case: Case) -> str:
    """The data in words."""
    settings = case.settings
    name = settings.dataset or (settings.source if settings.path is None else Path(settings.path).name)
    if settings.source == "simulated":
        name = f"simulated {settings.kinetics}"
    whose = "the run's own data" if case.own else "other subjects"
    if not case.own and "train" in case.parts:
        whose = "the run's subjects at other doses or times"
    return f"{name}, {whose}"
