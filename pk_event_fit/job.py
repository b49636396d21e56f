"""Runs one job: builds the objects, fits, records. Each job has a process and a folder of its own."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from . import data, frameworks, models, signals, store, training
from .checkpoint import read_checkpoint
from .config import Config, decided, forget_compiled, from_dict, set_threads
from .errors import CheckpointError, ConfigError, PKEventError, SolverFailure, TrainingFailure
from .fields import estimates
from .frameworks.base import Framework, Report
from .metrics.performance import rss_mb, rss_peak_mb, step_times
from .outcome import Parts, leave_arrays, leave_figures, leave_milestone, scores, unit_of
from .provenance import provenance
from .record import Recorder
from .study import variant_of
from .tracking import Tracker, leave

SCHEMA_VERSION = 1
UNSEEN = {"validation": "those that judge", "held_out": "those held out", "forecast": "later doses"}


def run(config: Config, folder: Path, *, group: str | None = None) -> dict[str, Any]:
    """Fit as the config says and leave everything in a folder.

    Args:
        config: What to do. With `resume`, the folder holds an earlier run, which goes on from its checkpoint.
        folder: Where the run's files go; must not hold a run yet, unless that is resumed.
        group: W&B group where the config names none.

    Returns:
        What `result.json` holds.

    Raises:
        ConfigError, DataError, ScheduleError, CheckpointError: The input is bad; nothing was written.
        SolverFailure, TrainingFailure: The run failed; `result.json` says so and the last checkpoint is kept.
    """
    config = decided(config, group)
    set_threads(config.accelerator.threads)
    with contextlib.ExitStack() as held:
        if config.accelerator.compile:
            held.enter_context(forget_compiled())
        if config.resume is not None:
            held.enter_context(store.locked(folder))
        parts = prepare(config, folder)
        if config.resume is None:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(store.locked(folder))
        about = _provenance(config, folder, parts.cohort.digest)
        claim(folder, config)
        store.write_json(folder / "provenance.json", about)
        return _fit(config, folder, parts, about)


def _fit(config: Config, folder: Path, parts: Parts, about: dict[str, Any]) -> dict[str, Any]:
    """Fit, and record what comes of it, whatever that is."""
    framework, cohort = parts.framework, parts.cohort
    variant = variant_of(framework.name, config.accelerator.compile)
    name = f"{variant}-seed{config.seed}"
    if cohort.ignored:
        end = "a last observation" if cohort.table else f"the end at {cohort.times[-1, -1]:g} h"
        print(f"{cohort.ignored} of the doses come after {end}: they change nothing", flush=True)
    for told in _of_table(config, cohort):
        print(told, flush=True)
    if (line := data.unfitted(data.summary(cohort))) is not None:
        print(line, flush=True)
    settings = {**asdict(config), "variant": variant, "provenance": about}
    tracking = config.tracking
    tracker = Tracker(
        mode=tracking.mode,
        folder=folder,
        project=tracking.project,
        group=tracking.group or folder.name,
        name=name,
        config=settings,
    )
    recorder = Recorder(
        folder, framework, config.training, parts.state, parts.rows, parts.shown.copied.digest, tracker,
        unit_of(config), training.dead_layers(parts.field, parts.shown.seen),
    )  # fmt: skip
    result: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "framework": framework.name, "seed": config.seed}
    result["ignored_doses"] = cohort.ignored
    # What is imported by now costs every framework the same memory, W&B's client too.
    baseline = rss_mb()
    try:
        for progress in training.fit(
            framework, parts.field, parts.shown.copied, config.training, parts.state, seed=config.seed,
            subjects=parts.shown.rows, error=config.data.error, validation=parts.judges,
        ):  # fmt: skip
            # Before it is noted: where a kill comes between, the iteration is taken again, and the file written again.
            if progress.iteration in (config.training.milestones or ()):
                leave_milestone(folder, config, parts, progress.state, about)
            recorder.add(progress)
        peak = rss_peak_mb()
        judges = None if config.training.validate_every is None else parts.judges
        fitted = training.finish(
            framework, parts.field, parts.shown.seen, recorder.state, parts.fitted, config.data.error, judges
        )
        recorder.close()
    except (Exception, KeyboardInterrupt) as error:
        message = f"interrupted; go on with resume={folder}" if isinstance(error, KeyboardInterrupt) else str(error)
        result |= {"status": "failed", "error": {"type": type(error).__name__, "message": message}, "accuracy": None}
        result |= _measured(parts, recorder, (baseline, rss_peak_mb()), None)
        with contextlib.suppress(OSError):  # the disk may be what failed; the error that led here is the one to tell
            recorder.close()
            store.write_json(folder / "result.json", result)
        tracker.finish(result, [], "", [])
        if cohort.table is not None and isinstance(error, SolverFailure) and error.subject is not None:
            origin = parts.shown.copied.origin
            own = error.subject if origin is None else int(origin[error.subject])
            print(f"subject {error.subject} is the one with ID {cohort.table.table.ids[own]}", flush=True)
        raise
    result |= {"status": "completed", "kept_iteration": fitted.iteration}
    result["accuracy"] = scores(config, parts, fitted.predicted)
    result |= estimates(parts.field, fitted.params)
    result |= _measured(parts, recorder, (baseline, peak), fitted.report)
    leave_arrays(folder, config, parts, fitted, about)
    store.write_json(folder / "result.json", result)
    figures: list[Path] = []
    try:
        figures = leave_figures(folder, config, parts, fitted, recorder.rows)
    finally:
        names = ("config.yaml", "history.csv", "result.json", "provenance.json", "weights.npz", "fit.png", "loss.png")
        tracker.finish(result, figures, name, [folder / entry for entry in names])
    _say(result, folder, config.data.observed_unit)
    return result


def prepare(config: Config, folder: Path) -> Parts:
    """Everything that can be refused is refused here, before a file is written."""
    began = time.perf_counter()
    framework_class = frameworks.load(str(config.framework.name))
    import_s = time.perf_counter() - began
    framework = framework_class.create(
        config.solver,
        precision=config.accelerator.precision,
        device=config.accelerator.device,
        **({"compile": True} if config.accelerator.compile else {}),  # a plug-in may know nothing of it
        **config.framework.own(framework_class.settings),
    )
    if config.resume is None and (folder / "config.yaml").exists():
        raise ConfigError(f"{folder}: already holds a run; name another folder, or go on with resume={folder}")
    cohort = data.load(config.data)
    left, held_out = data.split(cohort, config.data)
    fitted, validation = data.judges(left, config.data, cohort)
    shown = data.shown(cohort, fitted, config.data)
    field = models.build(config.model, config.data, shown.seen, fitted)
    _seen(cohort, shown.seen, (fitted, validation, held_out), config.data)
    training.check(config.training, field, shown.copied, shown.rows, validation if len(validation) else None)
    groups, units = (fitted, held_out, validation), data.units_of(config.data, cohort.covariates)
    if config.resume is None:
        state = training.start(framework, field.initial_params(cohort.amounts.shape[-1], config.seed))
        return Parts(framework, field, cohort, *groups, state, [], import_s, shown, units)
    shapes = field.shapes(cohort.amounts.shape[-1])
    state, rows = read_checkpoint(folder / "checkpoint.npz", framework, shapes, shown.copied.digest)
    if state.iteration > config.training.total or state.phase >= len(config.training.plan):
        raise ConfigError(f"training.iterations={config.training.total}: the run has already done {state.iteration}")
    state = training.resumed(framework.arrays, state)
    return Parts(framework, field, cohort, *groups, state, rows[: state.iteration], import_s, shown, units)


def _seen(cohort: data.Cohort, seen: data.Cohort, parts: Sequence[Any], settings: data.Data) -> None:
    """Raise where a part of the subjects was dosed, and never observed."""
    whose = zip((seen, seen, cohort), parts, ("that are fitted", "of validation", "that are held out"), strict=True)
    for part, subjects, what in whose:
        if part.weights is not None and len(subjects) and not part.weights[subjects].any():
            names = ("held_out", "validation", "fold", "folds", "forecast")
            told = ", ".join(f"data.{name}={value}" for name in names if (value := getattr(settings, name)))
            raise ConfigError(f"{told}, data.seed={settings.seed}: the subjects {what} have no observation")


def claim(folder: Path, config: Config) -> None:
    """Write `config.yaml`; of two new runs that want one folder, one is refused."""
    text = yaml.safe_dump(asdict(replace(config, resume=None)), sort_keys=False)
    if config.resume is not None:
        (folder / "result.json").unlink(missing_ok=True)  # it would be stale from here on
        store.write_text(folder / "config.yaml", text)
        return
    try:
        store.write_bytes(folder / "config.yaml", text.encode(), new=True)
    except FileExistsError as error:
        raise ConfigError(f"{folder}: already holds a run; name another folder, or resume={folder}") from error


def _provenance(config: Config, folder: Path, digest: str) -> dict[str, Any]:
    """What `provenance.json` is to hold; a resumed run keeps what it said `earlier`, and says what is not the same.

    Raises:
        CheckpointError: The earlier file is damaged.
    """
    about, path = provenance(config, digest), folder / "provenance.json"
    if config.resume is None or not path.exists():
        return about
    try:
        earlier = json.loads(path.read_text())
        before = earlier.pop("earlier", [])
        changed = [key for key in ("packages", "threads", "cpu", "git") if earlier.get(key) != about[key]]
        about["earlier"] = [*before, earlier]
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error
    if changed:
        print(f"not as before, so the bits may differ: {', '.join(changed)} (see provenance.json)", flush=True)
    return about


def solver_counts(framework: Framework, report: Report) -> dict[str, Any]:
    """Steps and evaluations of one forward solve of all intervals; the mean over subjects where each has its own.

    None stands for what the library does not count.
    """
    leaves = {name: getattr(report, name) for name in ("accepted", "rejected", "evaluations")}
    counts = {name: None if leaf is None else framework.arrays.to_numpy(leaf) for name, leaf in leaves.items()}
    per_subject = counts["accepted"] is not None and counts["accepted"].shape[-1] > 1
    means = {name: None if count is None else float(count.sum(0).mean()) for name, count in counts.items()}
    return {**means, "counted_for": "each subject" if per_subject else "the batch"}


def _measured(parts: Parts, recorder: Recorder, memory: tuple, report: Report | None) -> dict[str, Any]:
    # Times of steps are of this process, or of the whole run where this process did too little to tell; training is
    # always the whole run's.
    own = recorder.seconds if len(recorder.seconds) > 1 else [row["step_ms"] / 1e3 for row in recorder.rows]
    performance = {"import_s": parts.import_s, **step_times(own)}
    performance["training_s"] = sum(row["step_ms"] for row in recorder.rows) / 1e3
    performance |= dict(zip(("rss_baseline_mb", "rss_peak_mb"), memory, strict=True))
    counts = None if report is None else solver_counts(parts.framework, report)
    return {"iterations": recorder.state.iteration, "performance": performance, "solver": counts}


def _of_table(config: Config, cohort: data.Cohort) -> list[str]:
    """What a user should know of how a table was read."""
    if cohort.table is None:
        return []
    table, lines, unit = cohort.table.table, [], config.data.observed_unit
    seen = set(cohort.covariates) if config.data.covariates else set()
    if others := {*table.extra, *table.covariates} - {"MDV", config.data.per} - seen:
        lines.append(f"columns that are not used: {', '.join(sorted(others))}")
    if unit.endswith(("/L", "/mL")) and config.data.volume is None:
        lines.append(f"warning: observations are in {unit}, and without data.volume so are doses taken to be")
    return lines


def _say(result: Mapping[str, Any], folder: Path, unit: str) -> None:
    score, times = result["accuracy"], result["performance"]
    skill = "" if score["skill"] is None else f", skill {score['skill']:.4f}"
    floor = score["rmse_floor"]
    alike = "" if floor is None else f"; best single curve for all subjects {floor:.4g} {unit}{skill}"
    volume = f"; volume {result['volume']:.4g} L" if "volume" in result else ""
    print(f"fit    rmse {score['rmse']:.4g} {unit}{alike}{volume}")
    unseen = [f"{score[name]['rmse']:.4g} {unit} of {words}" for name, words in UNSEEN.items() if score.get(name)]
    if unseen:
        print(f"unseen rmse {', '.join(unseen)}")
    if times["step_ms"]:
        print(
            f"time   import {times['import_s']:.1f} s, compile {times['compile_s']:.1f} s, "
            f"step {times['step_ms']['median']:.1f} ms, training {times['training_s']:.1f} s"
        )
    print(f"files  {folder}", flush=True)


def main() -> None:
    """Run the job that standard input describes, as the command line does; exit 2 for bad input, 1 for a failure."""
    signals.interrupt_once()
    order, code = {"folder": ""}, 0
    try:
        order = json.load(sys.stdin)
        run(from_dict(order["config"]), Path(order["folder"]), group=order["group"])
    except (SolverFailure, TrainingFailure, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        code = 1
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
        with contextlib.suppress(OSError, KeyError, TypeError):  # whoever gave the order may ask for no more
            store.write_text(Path(order["told"]), str(error))
    except Exception:
        traceback.print_exc()
        code = 1
    except KeyboardInterrupt:
        begun = (Path(order["folder"]) / "checkpoint.npz").exists()
        with contextlib.suppress(OSError):  # who reads it may be gone by the same signal
            print(f"interrupted; go on with resume={order['folder']}" if begun else "interrupted", file=sys.stderr)
        code = 130
    leave(code)


if __name__ == "__main__":
    main()
