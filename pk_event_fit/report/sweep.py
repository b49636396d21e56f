"""A comparison sweep as its files tell it, whatever state they are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .files import noted, read_columns, read_json, read_settings
from .probes import read_probes
from .shapes import PLAN, PROVENANCE, RESULT

DIGEST = "data_digest"  # of what was fitted: compared like a setting
HISTORY = ("iteration", "loss", "gradient_norm", "step_ms")
EXCLUDED = ("framework.name", "accelerator.compile", "seed", "resume")  # may differ, like all of tracking.*
MACHINE = ("cpu", "cores", "threads", "device", "precision", "python", "packages", "git")


class Run(NamedTuple):
    """A job of the sweep.

    Attributes:
        folder: Where its files are, or would be.
        name: Of that folder.
        variant: Its framework, `-compiled` where it was; `unknown` where nothing tells.
        framework: Or None.
        compiled: Whether by `accelerator.compile`.
        seed: Or None.
        status: `completed`, `failed`, `missing` (no result: killed, or never begun) or `damaged`.
        error: Why it is not completed; None where it is.
        result: Of a completed or failed run; empty for all others, so that nothing is taken from a damaged file.
        settings: Its config by dotted keys; empty where that cannot be read.
        history: Columns of `history.csv`, `[iterations]`; empty where that cannot be read.
        provenance: Empty where that cannot be read.
    """

    folder: Path
    name: str
    variant: str
    framework: str | None
    compiled: bool
    seed: int | None
    status: str
    error: str | None
    result: dict[str, Any]
    settings: dict[str, Any]
    history: dict[str, np.ndarray]
    provenance: dict[str, Any]


class Sweep(NamedTuple):
    """All that a sweep's folder tells.

    Attributes:
        folder: The folder.
        plan: `plan.json`, or None where there is none that can be read.
        runs: In the plan's order.
        probes: By probe and variant; a file that is not there or not whole is a `status` and an `error` alone.
        problems: One sentence each.
        differing: By job, the settings (and data) that set it apart from most others, as `key=value` words; jobs that
            are like most others have no entry. Where no value is the most frequent, all have one.
    """

    folder: Path
    plan: dict[str, Any] | None
    runs: list[Run]
    probes: dict[str, dict[str, dict[str, Any]]]
    problems: list[str]
    differing: dict[str, str]

    @property
    def variants(self) -> list[str]:
        """Names of the variants, in the plan's order."""
        planned = (self.plan or {}).get("variants") or []
        found = [run.variant for run in self.runs if run.framework]
        return list(dict.fromkeys([*planned, *found]))

    @property
    def comparable(self) -> list[Run]:
        """Completed runs with the same settings but for framework, compilation and seed."""
        return [run for run in self.runs if run.status == "completed" and run.name not in self.differing]

    @property
    def complete(self) -> bool:
        """Whether everything that was planned is there, whole and alike."""
        return not self.problems and not self.differing and all(run.status == "completed" for run in self.runs)


def read(folder: Path) -> Sweep:
    """Read a sweep that may be incomplete, mixed or damaged.

    Args:
        folder: Of the sweep.

    Raises:
        DataError: There is no such folder, or it holds neither a plan nor a job.
    """
    folder = Path(folder)
    problems: list[str] = []
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    plan = noted(folder, "plan.json", problems, lambda path: read_json(path, PLAN))
    found = _job_folders(folder)
    if not found and not (folder / "plan.json").exists():
        raise DataError(f"{folder}: is no sweep: no plan.json, and no folder of a job in it")
    jobs = _planned(plan, problems) if plan and plan.get("jobs") else {name: {} for name in found}
    problems += [f"{name}/: is not in plan.json and was left out" for name in found if name not in jobs]
    runs = [_run(folder, name, job, problems) for name, job in jobs.items()]
    differing = _differing(runs)
    problems += [f"{name}/: its settings are not those of the others: {words}" for name, words in differing.items()]
    _check_machines(runs, problems)
    sweep = Sweep(folder, plan, runs, {}, problems, differing)
    return sweep._replace(probes=read_probes(folder, plan, sweep.variants, problems))


def _job_folders(folder: Path) -> list[str]:
    try:
        paths = [path for path in folder.iterdir() if path.is_dir()]
        names = [path.name for path in paths if any((path / n).exists() for n in ("config.yaml", "result.json"))]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _planned(plan: Mapping[str, Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = {}
    for k, job in enumerate(plan["jobs"]):
        name = job.get("folder")
        if not name or name in (".", "..") or "\0" in name or Path(name).name != name or "\\" in name:
            problems.append(f"plan.json: job {k} names no folder of this sweep")
        elif name in jobs:
            problems.append(f"plan.json: names the folder {name} twice")
        else:
            jobs[name] = job
    return jobs


def _run(folder: Path, name: str, job: Mapping[str, Any], problems: list[str]) -> Run:
    inside = folder / name
    own: list[str] = []
    settings = noted(folder, f"{name}/config.yaml", own, read_settings, wanted=True) or {}
    status, error, result = _result(folder, name, own)
    claims = _claims(job, settings, result)
    if status in ("completed", "failed") and (torn := [key for key, values in claims.items() if len(values) > 1]):
        status, error, result = "damaged", f"its files name more than one {' and '.join(torn)}", {}
        own.append(f"{name}/: {error}, so its numbers were left out")
    if status == "failed":
        own.append(f"{name}/: failed: {error}")
    history = noted(folder, f"{name}/history.csv", own, lambda path: read_columns(path, HISTORY)) or {}
    provenance = noted(folder, f"{name}/provenance.json", own, lambda path: read_json(path, PROVENANCE)) or {}
    if status == "completed":
        history = _whole(history, result, name, own)
        absent = ("weights.npz", "predictions.npz", "provenance.json", "history.csv")
        own += [f"{name}/{file}: is missing" for file in absent if not (inside / file).exists()]
    problems += own
    framework, seed, compiled = (next(iter(claims[key]), None) for key in ("framework", "seed", "compile"))
    variant = f"{framework}-compiled" if compiled else str(framework or "unknown")
    return Run(inside, name, variant, framework, bool(compiled), seed, status, error, result, settings, history,
               provenance)  # fmt: skip


def _result(folder: Path, name: str, problems: list[str]) -> tuple[str, str | None, dict[str, Any]]:
    """Status, error and content of `result.json`."""
    path = f"{name}/result.json"
    try:
        result = read_json(folder / path, RESULT)
        if result is None:
            problems.append(f"{path}: is missing; the job was killed or never ran")
            return "missing", "it left no result: killed, or never run", {}
        status, score = result.get("status"), result.get("accuracy") or {}
        if status not in ("completed", "failed"):
            raise DataError("status is neither completed nor failed")
        if status == "completed" and None in (score.get("rmse"), score.get("mse"), result.get("performance")):
            raise DataError("says completed, and has no accuracy or no performance")
    except DataError as error:
        problems.append(f"{path}: {error}; none of its numbers is used")
        return "damaged", f"result.json {error}", {}
    why = (result.get("error") or {}).get("message") or "it does not say why"
    return status, why if status == "failed" else None, result


def _claims(job: Mapping[str, Any], settings: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What plan, config and result say the job is; more than one value where they contradict each other."""
    told = {
        "framework": [job.get("framework"), settings.get("framework.name"), result.get("framework")],
        "seed": [job.get("seed"), settings.get("seed"), result.get("seed")],
        "compile": [job.get("compile"), settings.get("accelerator.compile")],
    }
    kinds = {"framework": str, "seed": int, "compile": bool}
    return {
        key: list(dict.fromkeys(value for value in values if isinstance(value, kinds[key])))
        for key, values in told.items()
    }


def _whole(history: dict[str, np.ndarray], result: Mapping[str, Any], name: str, problems: list[str]):
    wanted = result.get("iterations")
    if not history or wanted is None or history["iteration"][-1] == wanted == len(history["iteration"]):
        return history
    last = round(history["iteration"][-1])
    problems.append(f"{name}/history.csv: ends at iteration {last} of {wanted}; it is not used")
    return {}


def _differing(runs: Sequence[Run]) -> dict[str, str]:
    tables = {run.name: _compared(run) for run in runs if run.settings}
    words: dict[str, list[str]] = {name: [] for name in tables}
    for key in sorted({key for table in tables.values() for key in table}):
        values = {name: repr(table.get(key)) for name, table in tables.items() if key in table or key != DIGEST}
        (usual, most), *others = Counter(values.values()).most_common()
        for name, value in values.items():
            if others and (value != usual or others[0][1] == most):
                words[name].append(f"{key}={tables[name].get(key)}")
    return {name: " ".join(found) for name, found in words.items() if found}


def _compared(run: Run) -> dict[str, Any]:
    kept = {k: v for k, v in run.settings.items() if k not in EXCLUDED and not k.startswith("tracking.")}
    digest = run.provenance.get(DIGEST)
    return {**kept, DIGEST: digest} if digest else kept


def _check_machines(runs: Sequence[Run], problems: list[str]) -> None:
    for key in MACHINE:
        values = {run.name: repr(run.provenance.get(key)) for run in runs if run.provenance}
        if len(counts := Counter(values.values())) > 1:
            usual = counts.most_common(1)[0][0]
            names = ", ".join(name for name, value in values.items() if value != usual)
            problems.append(f"{names}: provenance.json tells of another {key} than that of the others")
