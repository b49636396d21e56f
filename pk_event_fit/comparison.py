"""Concludes the sweep of a comparison: compiled fits, probes, tables, figures and pages."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import store, study, workspace
from .checkpoint import read_weights
from .config import Config, FrameworkChoice, decided
from .errors import CheckpointError, DataError, PKEventError
from .study import variant_of
from .tracking import track_sweep

SCHEMA_VERSION = 1
FILES = ("summary.csv", "summary.md", "measurements.csv", "report.html", "post.md")


def write_plan(sweep: Path, plan: Sequence[Config], experiment: Any = None, words: Sequence[str] = ()) -> None:
    """Write `plan.json`: what will be run, so that what is missing later can be named, and by which words."""
    asked = {"experiment": experiment if isinstance(experiment, str) else None, "words": list(words)}
    store.write_json(sweep / "plan.json", {"schema_version": SCHEMA_VERSION, **asked, **_planned(plan)})


def read_plan(sweep: Path) -> list[str]:
    """The words that asked for a sweep.

    Raises:
        CheckpointError: Its plan is damaged or holds none.
    """
    from .report.files import read_json
    from .report.shapes import PLAN

    try:
        words = (read_json(sweep / "plan.json", PLAN) or {}).get("words")
    except DataError as error:
        raise CheckpointError(f"{sweep / 'plan.json'}: {error}") from error
    if not words:
        raise CheckpointError(f"{sweep / 'plan.json'}: holds no words of a command line to go on with")
    return words


def check_plan(sweep: Path, plan: Sequence[Config]) -> None:
    """See that these are the jobs of a sweep's plan.

    Raises:
        CheckpointError: They are others, so the sweep cannot go on.
    """
    if not plan:
        raise CheckpointError(f"{sweep}: its words ask for no job")
    stored, now = study.told(sweep / "plan.json"), _planned(plan)
    if changed := [key for key, value in now.items() if stored.get(key) != value]:
        raise CheckpointError(f"{sweep}: its words mean other {' and '.join(changed)} by now; begin a new sweep")


def _planned(plan: Sequence[Config]) -> dict[str, list[Any]]:
    jobs = [
        {
            "folder": folder,
            "framework": config.framework.name,
            "seed": config.seed,
            "compile": config.accelerator.compile,
        }
        for folder, config in jobs_of(plan)
    ]
    return {"jobs": jobs, "variants": list(_variants(plan)), "probes": list(plan[0].study.probes)}


def conclude(
    sweep: Path, plan: Sequence[Config], launch: Callable[..., int], *, group: str | None = None, failed: bool = False,
    interrupted: bool = False,
) -> int:  # fmt: skip
    """Measure, fit what is compiled, and write tables, figures and pages.

    Args:
        sweep: Its folder, with the jobs of the sweep itself done.
        plan: The configs of those jobs.
        launch: Runs a job in a fresh process, unless it is done, and returns its exit code.
        group: W&B group of the jobs where their configs name none; the folder's name where it is left out.
        failed: Whether one of them failed.
        interrupted: Whether to leave out all that is still to be run.

    Returns:
        The exit code: 0, or 1 where something failed, or 130.
    """
    # Imported here: an ordinary run needs none of it.
    from .report.build import build

    group = group or sweep.name
    try:
        if not interrupted:
            settled = asdict(decided(replace(plan[0], accelerator=replace(plan[0].accelerator, compile=False)), group))
            study.measure(sweep, settled, _variants(plan), _weights(sweep, plan))
            # Last, since all that is compared otherwise does without them.
            for folder, config in jobs_of(plan)[len(plan) :]:
                print(f"job {folder}", flush=True)
                if launch(config, sweep / folder, group=group) == 130:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
    except (PKEventError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        failed = True
    if interrupted:
        print(f"interrupted: what is missing will be named; go on with resume={sweep}", file=sys.stderr, flush=True)
    try:
        problems = build(sweep)
        _track(sweep, plan[0], group)
    except (PKEventError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    print(f"sweep  {sweep / 'report.html'}, post.md, summary.md, measurements.csv", flush=True)
    return 130 if interrupted else int(failed or bool(problems))


HEADLINES = (("step", "direct"), ("rmse", ""), ("rmse", "held out"))


def _track(sweep: Path, config: Config, group: str) -> None:
    """An aggregate run in W&B with tables, figures and pages, and the workspace where there is an account."""
    tables: dict[str, tuple[list, list[list]]] = {}
    for name in ("summary", "measurements"):
        with (sweep / f"{name}.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
        tables[name] = (head, [[_number(cell) for cell in row] for row in rows])
    head, rows = tables["measurements"]
    told = [dict(zip(head, row, strict=True)) for row in rows]
    means = [row for row in told if (row["metric"], row["detail"] or "") in HEADLINES and row["seed"] is None]
    tracking = config.tracking
    track_sweep(
        mode=tracking.mode,
        sweep=sweep,
        project=tracking.project,
        group=tracking.group or group,
        tables=tables,
        figures=sorted((sweep / "figures").glob("*.png")),
        files=[sweep / name for name in (*FILES, "plan.json")],
        summary={"/".join(filter(None, (row["variant"], row["metric"], row["detail"]))): row["value"] for row in means},
    )
    workspace.offer(mode=tracking.mode, project=tracking.project, group=tracking.group or group)


def _number(cell: str) -> float | str | None:
    try:
        return float(cell)
    except ValueError:
        return cell or None


def jobs_of(plan: Sequence[Config]) -> list[tuple[str, Config]]:
    """Every job and its folder: those of the sweep, and one more for each framework that is to be compiled."""
    swept = [(str(number), config) for number, config in enumerate(plan)]
    return swept + [
        (
            variant_of(name, True),
            replace(
                plan[0], framework=FrameworkChoice(name=name), accelerator=replace(plan[0].accelerator, compile=True)
            ),
        )
        for name in plan[0].study.compiled
        if name in {config.framework.name for config in plan}
    ]


def _variants(plan: Sequence[Config]) -> dict[str, tuple[str, bool]]:
    found = {}
    for _, config in jobs_of(plan):
        name, compiled = str(config.framework.name), config.accelerator.compile
        found[variant_of(name, compiled)] = (name, compiled)
    return found


def _weights(sweep: Path, plan: Sequence[Config]) -> Path | None:
    """The weights that all are measured with: those of the first fit that was completed."""
    for number in range(len(plan)):
        path = sweep / str(number) / "weights.npz"
        try:
            read_weights(path)
        except (PKEventError, OSError):
            continue
        return path
    return None
