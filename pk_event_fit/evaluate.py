"""`python -m pk_event_fit.evaluate RUN [data.x=y ...]`: what a finished run is worth, on its own data or on others.

Several runs of the same data are evaluated as an ensemble: by the median of their predictions, with a band. The folder
of a sweep stands for all of its runs that were completed.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from . import cli
from .config import Config
from .errors import ConfigError, PKEventError, SolverFailure
from .evaluation import Run, evaluate, read_run
from .evaluation.files import FILES
from .evaluation.measures import OVERALL
from .launch import is_completed
from .simulate import Population

PARTS = ("data", "framework", "solver", "accelerator")
FITTING = ("training", "study")  # parts of the settings that no evaluation needs
# Settings by which subjects are others, and what a fit made of its own.
SUBJECTS = {one.name for one in dataclasses.fields(Population)} | {"path", "dataset"}
PARTS_OF_A_FIT = {"held_out": 0, "validation": 0, "folds": None, "fold": None, "forecast": None, "augment": 0}


def main(line: Sequence[str] | None = None) -> int:
    """Evaluate what the command line names.

    Returns:
        0; 2 for bad input, 1 where the predictions cannot be solved or written.
    """
    parser = argparse.ArgumentParser(prog="python -m pk_event_fit.evaluate", description=__doc__)
    add = parser.add_argument
    add("words", nargs="+", metavar="RUN | data.x=y",
        help="folders of finished runs or of sweeps; what is to be other than there")  # fmt: skip
    add("--out", metavar="FOLDER", help="where to write; usually RUN/evaluation, or SWEEP/evaluation")
    add("--framework", metavar="NAME", help="who solves; usually the run's own")
    add("--sigma", type=float, metavar="X", help="known standard deviation of one observation, for chi-square")
    add("--overwrite", action="store_true", help="replace what an earlier evaluation left there")
    asked = parser.parse_intermixed_args(line)
    words = [word for word in asked.words if "=" in word and not Path(word).is_dir()]
    named = [Path(word) for word in asked.words if word not in words]
    try:
        if not named:
            raise ConfigError("names no run; give the folder of a finished one")
        runs = [run for folder in named for run in members(folder)]
        if asked.out is None and len(named) == 1:
            asked.out = named[0] / "evaluation"
        words += [f"framework={asked.framework}"] if asked.framework else []
        settings = amended(read_run(runs[0]), words) if words else None
        content = evaluate(runs, settings, out=asked.out, sigma=asked.sigma, overwrite=asked.overwrite)
    except (SolverFailure, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for part, scales in content["goodness"].items():
        told = scales["values"][OVERALL]
        r2 = "" if told["r2"] is None else f", R2 {told['r2']:.5g}"
        print(f"{part:10s} {told['n']} observations, rmse {told['rmse']:.4g} {content['unit']}{r2}")
    folder = Path(asked.out) if asked.out else runs[0] / "evaluation"
    print(f"files      {', '.join(str(folder / name) for name in FILES)}, {len(content['figures'])} figures")
    return 0


def members(folder: Path) -> list[Path]:
    """The completed runs of a sweep, in the order of its jobs; any other folder as it is.

    Of a cross-validation those that left somebody out: a fit of all has no part in it.

    Raises:
        ConfigError: No run of the sweep was completed.
    """
    if (folder / "config.yaml").exists() or not (folder / "plan.json").exists():
        return [folder]
    jobs = sorted((one for one in folder.iterdir() if one.name.isdecimal()), key=lambda one: int(one.name))
    done = [one for one in jobs if is_completed(one)]
    if not done:
        raise ConfigError(f"{folder}: no run of this sweep was completed")
    if len(done) < len(jobs):
        print(f"left out   {', '.join(one.name for one in jobs if one not in done)}: not completed", file=sys.stderr)
    parts = [one for one in done if read_run(one).config.data.fold is not None]
    return parts or done


def amended(run: Run, words: Sequence[str]) -> Config:
    """A run's settings with some changed: `data=x` takes all of the data anew, `data.x=y` one setting; likewise others.

    Other dose times do away with a regimen in `data.doses`. Amounts and compartments that were the same for all doses
    are so for however many there are then.

    Raises:
        ConfigError: As `cli.compose`, or a word is about anything else than data, framework, solver and accelerator.
    """
    keys, config = [], run.config
    for word in words:
        found = re.match(r"\+{0,2}(\w+)(\.[.\w]+)?=", word)
        if not found or found[1] not in PARTS:
            raise ConfigError(f"{word}: what can be other than in the run is {', '.join(PARTS)}")
        keys.append(found[1] + (found[2] or ""))
        if keys[-1] == "data.covariates":
            raise ConfigError(f"{word}: the run's field sees {', '.join(run.covariates) or 'none'}; leave it out")
    told = cli.composed(words)
    for part, own in dataclasses.asdict(config).items():
        if not isinstance(own, dict):
            told[part] = own
        elif part not in (*keys, *FITTING):
            for name, value in own.items():
                if not any(re.match(rf"{part}\.{name}(\.|$)", key) for key in keys):
                    told[part][name] = value
    if "data" not in keys:
        _doses(told["data"], keys)
    if "data" in keys or any(key.removeprefix("data.") in SUBJECTS for key in keys):
        for name, value in PARTS_OF_A_FIT.items():
            if f"data.{name}" not in keys:
                told["data"][name] = value
    # What the field is made of is in its own file.
    told["data"]["covariates"] = list(run.covariates) or None
    if config.model.structure == "hybrid" and config.model.kinetics is None:
        told["model"]["kinetics"] = config.data.kinetics
    return cli.typed(told)


def _doses(data, keys: Sequence[str]) -> None:
    given = {key.removeprefix("data.") for key in keys if key.startswith("data.")}
    if given and "path" not in given and data["source"] == "simulated":
        data["path"] = None  # the run's file is of its own settings
    if "dose_times" not in given:
        return
    if "doses" not in given:
        data["doses"] = None
    for name in ("dose_amounts", "dose_compartments"):
        if name not in given and len(set(data[name])) == 1:
            data[name] = list(data[name])[:1] * len(data["dose_times"])


if __name__ == "__main__":
    sys.exit(main())
