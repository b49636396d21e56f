"""What each structure of a field is worth, on subjects and on doses that it has not seen. See README.md.

python -m experiments.structures.run [--quick] [--seeds 0 1 2] [--iterations 2000] [--keep fits]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import ROOT, digits, leave, options, table
from pk_event_fit import data, frameworks
from pk_event_fit.checkpoint import read_weights
from pk_event_fit.cli import compose
from pk_event_fit.compartments import PARAMETERS, TYPICAL
from pk_event_fit.integrate import predict
from pk_event_fit.metrics.accuracy import accuracy

HELD_OUT = 20
SMOOTH = "model.activation=silu"
SEEN = "data.covariates=[all]"
# Kinetics that are known by their form alone: each parameter twice or half the typical one.
ASTRAY = ", ".join(
    f"{name}: {factor * value:g}" for name, factor, value in zip(PARAMETERS, (2, 0.5, 2, 0.5), TYPICAL, strict=True)
)
VARIANTS: dict[str, list[str]] = {
    "amounts": ["model=mlp"],
    "amounts on scales": ["model=mlp", "model.normalise=true"],
    "covariates": ["model=covariate", "model.normalise=false"],
    "covariates, on scales": ["model=covariate"],
    "covariates, on scales, smooth": ["model=covariate", SMOOTH],
    "mass balanced": ["model=mass_balanced", SEEN],
    "mass balanced, smooth": ["model=mass_balanced", SEEN, SMOOTH],
    "hybrid without covariates": ["model=hybrid"],
    "hybrid": ["model=hybrid", SEEN],
    "hybrid, smooth": ["model=hybrid", SEEN, SMOOTH],
    "hybrid from twice and half": ["model=hybrid", SEEN, f"model.parameters={{{ASTRAY}}}"],
}
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


def fitted(name: str, framework: str, iterations: int, seed: int, folder: Path, keep: bool) -> dict[str, Any]:
    """A run of the command line, or where it may be kept the one that is there: what it is, and how it fits."""
    path = folder / "result.json"
    if not (keep and path.exists() and json.loads(path.read_text())["status"] == "completed"):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.is_file():
                old.unlink()
        command = [
            sys.executable, "-m", "pk_event_fit", f"framework={framework}", *VARIANTS[name], f"seed={seed}",
            f"data.held_out={HELD_OUT}", f"training.iterations={iterations}", "tracking=disabled",
            f"hydra.run.dir={folder}",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    result = json.loads(path.read_text())
    params = read_weights(folder / "weights.npz")[1]
    return {
        "parameters": sum(value.size for value in params.values()),
        "fitted_rmse": result["accuracy"]["rmse"],
    }


def errors(name: str, framework: str, folder: Path) -> dict[str, dict[str, float]]:
    """For each regimen, errors in mg of the subjects that were held out, and of the best single curve for them."""
    field, weights = read_weights(folder / "weights.npz")
    found = {}
    for regimen, doses in REGIMENS.items():
        config = compose([f"framework={framework}", *VARIANTS[name], f"data.held_out={HELD_OUT}", *doses])
        cohort = data.load(config.data)
        unseen = cohort.take(data.split(cohort, config.data)[1])
        solver = frameworks.load(framework).create(config.solver)
        arrays = solver.arrays
        batch = data.batch_of(arrays, unseen, None)
        params = {key: arrays.asarray(value) for key, value in weights.items()}
        solve = arrays.compile(lambda *given: predict(solver, field, *given, unseen.grid))  # noqa: B023
        states, report = solver.guard(solve, params, batch.initial, batch.intervals)
        solver.check(report, batch.intervals)
        score = accuracy(arrays.to_numpy(states).transpose(2, 0, 1, 3), unseen.amounts)
        found[regimen] = {"rmse": score.rmse, "floor": score.rmse_floor}
    return found


def main():
    chosen = options(__doc__, seeds=["0", "1", "2"], iterations=["2000"], keep=[])
    names = ["covariates", "hybrid"] if chosen.quick else list(VARIANTS)
    iterations, seeds = (20, [0]) if chosen.quick else (int(chosen.iterations[0]), [int(seed) for seed in chosen.seeds])
    framework = "fused" if "fused" in chosen.frameworks else chosen.frameworks[0]
    rows = []
    for name in names:
        for seed in seeds:
            label = name.replace(",", "").replace(" ", "_")
            folder = ROOT / "outputs" / "experiments" / "structures" / f"{label}-{framework}-{iterations}-{seed}"
            row = {
                "variant": name,
                "seed": seed,
                **fitted(name, framework, iterations, seed, folder, bool(chosen.keep)),
            }
            if "failed" not in row:
                row["errors"] = errors(name, framework, folder)
            rows.append(row)
            print(json.dumps(row), flush=True)
    results = {"framework": framework, "iterations": iterations, "seeds": seeds, "rows": rows}
    leave("structures", chosen, results, tables(results), None)


def tables(results: dict[str, Any]) -> str:
    good = [row for row in results["rows"] if "failed" not in row]
    names = list(dict.fromkeys(row["variant"] for row in good))
    of = {name: [row for row in good if row["variant"] == name] for name in names}
    floors = {regimen: good[0]["errors"][regimen]["floor"] for regimen in REGIMENS}

    def across(values):
        values = list(values)
        least, most = digits(min(values)), digits(max(values))
        return digits(float(np.median(values))) + ("" if least == most else f" ({least}-{most})")

    fits = [[name, str(rows[0]["parameters"]), across(row["fitted_rmse"] for row in rows)] for name, rows in of.items()]
    unseen = [
        [name, *(across(row["errors"][regimen]["rmse"] for row in rows) for regimen in REGIMENS)]
        for name, rows in of.items()
    ]
    unseen.append(["*best single curve*", *(digits(floors[regimen]) for regimen in REGIMENS)])
    lost = [f"{row['variant']}, seed {row['seed']}: {row['failed']}" for row in results["rows"] if "failed" in row]
    return "\n\n".join([
        f"{results['iterations']:,} iterations of Adam at 1e-3 on {100 - HELD_OUT} subjects, {results['framework']}, "
        f"seeds {', '.join(map(str, results['seeds']))}: median, and least to most.",
        table(["field", "parameters", "RMSE of those fitted, mg"], fits),
        f"RMSE of the {HELD_OUT} subjects that were held out, mg, by regimen; only the first was fitted:",
        table(["field", *REGIMENS], unseen),
        *(["Failed: " + "; ".join(lost)] if lost else []),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
