"""What structure and strategy are worth, on subjects and on doses that a fit has not seen. See README.md.

python -m experiments.structures.run [--quick] [--seeds 0 1 2] [--at_once 2] [--keep fits]
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import ROOT, digits, leave, options, table
from pk_event_fit import data, frameworks
from pk_event_fit.checkpoint import read_weights
from pk_event_fit.cli import compose
from pk_event_fit.compartments import PARAMETERS, TYPICAL
from pk_event_fit.errors import SolverFailure
from pk_event_fit.integrate import predict
from pk_event_fit.metrics.accuracy import accuracy

HELD_OUT = 20
SMOOTH = "model.activation=silu"
SEEN = "data.covariates=[all]"
# Kinetics that are known by their form alone: each parameter twice or half the typical one.
ASTRAY = ", ".join(
    f"{name}: {factor * value:g}" for name, factor, value in zip(PARAMETERS, (2, 0.5, 2, 0.5), TYPICAL, strict=True)
)
FIELDS: dict[str, list[str]] = {
    "amounts alone": ["model=mlp"],
    "covariates": ["model=covariate", "model.normalise=false"],
    "covariates, on scales": ["model=covariate"],
    "covariates, on scales, smooth": ["model=covariate", SMOOTH],
    "mass balanced, smooth": ["model=mass_balanced", SEEN, SMOOTH],
    "hybrid without covariates, smooth": ["model=hybrid", SMOOTH],
    "hybrid, smooth": ["model=hybrid", SEEN, SMOOTH],
    "hybrid from twice and half, smooth": ["model=hybrid", SEEN, SMOOTH, f"model.parameters={{{ASTRAY}}}"],
}
STRATEGIES: dict[str, list[str]] = {"Adam": ["training=adam"], "training=fast": ["training=fast"]}
REGIMENS: dict[str, list[str]] = {
    "100 mg at 12, 24, 36 h": [],
    "75 mg every 8 h": [
        "data.dose_times=[8,16,24,32,40]", "data.dose_amounts=[75,75,75,75,75]", "data.dose_compartments=[1,1,1,1,1]",
    ],
    "the dose at 24 h missed": [
        "data.dose_times=[12,36]", "data.dose_amounts=[100,100]", "data.dose_compartments=[1,1]",
    ],
    "100 mg over 4 h": ["data.doses=[{time: 12, amount: 100, duration: 4, every: 12, count: 3}]"],
}  # fmt: skip


class Fit(NamedTuple):
    """One command: what is fitted, how, and where its run is."""

    field: str
    strategy: str
    seed: int
    folder: Path


def fitted(fit: Fit, framework: str, more: list[str], keep: bool) -> dict[str, Any]:
    """A run of the command line, or where it may be kept the one that is there: what it is, and how it fits."""
    path = fit.folder / "result.json"
    if not (keep and path.exists() and json.loads(path.read_text())["status"] == "completed"):
        fit.folder.mkdir(parents=True, exist_ok=True)
        for old in fit.folder.iterdir():
            if old.is_file():
                old.unlink()
        command = [
            sys.executable, "-m", "pk_event_fit", f"framework={framework}", *FIELDS[fit.field],
            *STRATEGIES[fit.strategy], f"seed={fit.seed}", f"data.held_out={HELD_OUT}", "accelerator.threads=1",
            "tracking=disabled", *more, f"hydra.run.dir={fit.folder}",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    result = json.loads(path.read_text())
    return {
        "parameters": sum(value.size for value in read_weights(fit.folder / "weights.npz")[1].values()),
        "fitted_rmse": result["accuracy"]["rmse"],
        "iterations": result["iterations"],
        "training_s": result["performance"]["training_s"],
    }


def errors(name: str, framework: str, folders: list[Path]) -> list[dict[str, dict[str, Any]]]:
    """Of runs of one field, errors in mg of who was held out, by regimen, and of the best single curve for them."""
    found: list[dict[str, dict[str, Any]]] = [{} for _ in folders]
    for regimen, doses in REGIMENS.items():
        config = compose([f"framework={framework}", *FIELDS[name], f"data.held_out={HELD_OUT}", *doses])
        cohort = data.load(config.data)
        unseen = cohort.take(data.split(cohort, config.data)[1])
        solver = frameworks.load(framework).create(config.solver)
        arrays, solves = solver.arrays, {}
        batch = data.batch_of(arrays, unseen, None)
        for own, folder in zip(found, folders, strict=True):
            field, weights = read_weights(folder / "weights.npz")
            if repr(field) not in solves:  # once for all seeds
                solves[repr(field)] = arrays.compile(
                    lambda *given, field=field: predict(solver, field, *given, unseen.grid)  # noqa: B023
                )
            params = {key: arrays.asarray(value) for key, value in weights.items()}
            try:
                states, report = solver.guard(solves[repr(field)], params, batch.initial, batch.intervals)
                solver.check(report, batch.intervals)
            except SolverFailure as failure:
                own[regimen] = {"failed": str(failure)}
                continue
            score = accuracy(arrays.to_numpy(states).transpose(2, 0, 1, 3), unseen.amounts)
            own[regimen] = {"rmse": score.rmse, "floor": score.rmse_floor}
    return found


def main():
    chosen = options(__doc__, seeds=["0", "1", "2"], at_once=["2"], keep=[])
    names = ["covariates", "hybrid, smooth"] if chosen.quick else list(FIELDS)
    strategies = ["Adam"] if chosen.quick else list(STRATEGIES)
    seeds, more = ([0], ["training.iterations=20"]) if chosen.quick else ([int(seed) for seed in chosen.seeds], [])
    framework = "fused" if "fused" in chosen.frameworks else chosen.frameworks[0]
    root = ROOT / "outputs" / "experiments" / "structures" / f"{framework}{'-quick' if chosen.quick else ''}"
    fits = [
        Fit(name, strategy, seed, root / re.sub(r"[^\w-]+", "_", f"{name}-{strategy}-{seed}"))
        for name in names for strategy in strategies for seed in seeds
    ]  # fmt: skip
    with ThreadPoolExecutor(int(chosen.at_once[0])) as pool:
        work = functools.partial(fitted, framework=framework, more=more, keep=bool(chosen.keep))
        rows = []
        for fit, outcome in zip(fits, pool.map(work, fits), strict=True):
            rows.append({"field": fit.field, "strategy": fit.strategy, "seed": fit.seed, **outcome})
            print(json.dumps(rows[-1]), flush=True)
    for name in names:
        mine = [(fit, row) for fit, row in zip(fits, rows, strict=True) if fit.field == name and "failed" not in row]
        for (_, row), found in zip(mine, errors(name, framework, [fit.folder for fit, _ in mine]), strict=True):
            row["errors"] = found
    results = {"framework": framework, "seeds": seeds, "rows": rows}
    leave("structures", chosen, results, tables(results), None)


def tables(results: dict[str, Any]) -> str:
    rows = [row for row in results["rows"] if "failed" not in row]
    names, strategies = (list(dict.fromkeys(row[key] for row in rows)) for key in ("field", "strategy"))
    first = next(iter(REGIMENS))

    def of(name, strategy):
        return [row for row in rows if (row["field"], row["strategy"]) == (name, strategy)]

    def across(values):
        values = list(values)
        if not values:
            return "failed"
        least, most = digits(min(values)), digits(max(values))
        return digits(float(np.median(values))) + ("" if least == most else f" ({least}-{most})")

    def unseen(name, strategy, regimen):
        found = [row["errors"][regimen] for row in of(name, strategy)]
        lost = sum("failed" in one for one in found)
        return across(one["rmse"] for one in found if "rmse" in one) + (f", failed {lost}" if lost else "")

    head, fits = ["field", "parameters"], [[name, str(of(name, strategies[0])[0]["parameters"])] for name in names]
    for strategy in strategies:
        counts = sorted({row["iterations"] for row in rows if row["strategy"] == strategy})
        head += [f"{strategy}, {counts[-1]:,} steps: fitted", "held out"]
        for line in fits:
            found = of(line[0], strategy)
            line += [across(row["fitted_rmse"] for row in found), unseen(line[0], strategy, first)]
    parts = [
        f"RMSE, mg, of {100 - HELD_OUT} subjects that are fitted and {HELD_OUT} that are held out, "
        f"{results['framework']} with one thread, seeds {', '.join(map(str, results['seeds']))}: "
        "median (least to most).",
        table(head, fits),
    ]
    for strategy in strategies:
        lines = [[name, *(unseen(name, strategy, regimen) for regimen in REGIMENS)] for name in names]
        floors = [next(row["errors"][regimen]["floor"] for row in rows if "floor" in row["errors"][regimen])
                  for regimen in REGIMENS]  # fmt: skip
        lines.append(["*best single curve*", *map(digits, floors)])
        parts += [f"RMSE of those held out, mg, by regimen, {strategy}; only the first was fitted:",
                  table(["field", *REGIMENS], lines)]  # fmt: skip
    lost = [f"{row['field']}, {row['strategy']}, seed {row['seed']}: {row['failed']}"
            for row in results["rows"] if "failed" in row]  # fmt: skip
    return "\n\n".join([*parts, *(["Failed: " + "; ".join(lost)] if lost else [])])


if __name__ == "__main__":
    main()
