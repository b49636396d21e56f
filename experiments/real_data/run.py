"""Neural ODEs beside classical compartment models on published data. See README.md.

python -m experiments.real_data.run [--quick] [--keep fits]
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from scipy.optimize import least_squares

from experiments.common import ROOT, digits, leave, options, table
from pk_event_fit.cli import compose
from pk_event_fit.compartments import lookup
from pk_event_fit.data import load
from pk_event_fit.data.tables import schedule_of
from pk_event_fit.simulate.exact import follow

# Each with the classical models that its literature uses; parameters are those of the table's units, by weight where
# doses are.
CLASSICAL = {
    "theophylline": ["pk_1c_depot", "pk_2c_depot"],
    "indometacin": ["pk_1c", "pk_2c"],
    "phenobarbital": ["pk_1c"],
    "remifentanil": ["pk_2c", "pk_3c"],
}
BEGIN = {
    "theophylline": {"clearance": 0.04, "central_volume": 0.5, "absorption_rate": 1.5,
                     "intercompartmental_clearance": 0.05, "peripheral_volume": 0.2},
    "indometacin": {"clearance": 8.0, "central_volume": 8.0, "intercompartmental_clearance": 8.0,
                    "peripheral_volume": 20.0},
    "phenobarbital": {"clearance": 0.006, "central_volume": 1.0},
    "remifentanil": {"clearance": 2.5, "central_volume": 5.0, "intercompartmental_clearance": 2.0,
                     "peripheral_volume": 10.0, "second_intercompartmental_clearance": 0.2,
                     "second_peripheral_volume": 10.0},
}  # fmt: skip
SPAN = 7.0  # how far logarithms of parameters may go from there


def neural(name, framework, iterations, folder, keep):
    """A run of the command line, or where it may be kept the one that is there; what its result says of the fit."""
    if keep and finished(folder):
        return outcome(folder)
    for old in folder.iterdir():
        if old.is_file():
            old.unlink()
    command = [sys.executable, "-m", "pk_event_fit", f"data={name}", f"framework={framework}", "tracking=disabled",
               f"training.iterations={iterations}", f"hydra.run.dir={folder}"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    return outcome(folder)


def finished(folder):
    """Whether a run was completed there."""
    path = folder / "result.json"
    return path.exists() and json.loads(path.read_text())["status"] == "completed"


def outcome(folder):
    """What the files of a run say of its fit."""
    result = json.loads((folder / "result.json").read_text())
    arrays = np.load(folder / "predictions.npz", allow_pickle=False)
    return {"rmse": result["accuracy"]["rmse"], "training_s": result["performance"]["training_s"],
            "log_rmse": log_rmse(arrays["predicted"], arrays["observed"])}  # fmt: skip


def log_rmse(predicted, observed):
    """Of logarithms, over observations above 0; None where a prediction is not."""
    seen = observed > 0
    if (predicted[seen] <= 0).any():
        return None
    return float(np.sqrt((np.log(predicted[seen] / observed[seen]) ** 2).mean()))


def classical(name, model):
    """One set of parameters for all subjects, by least squares of what the network is fitted by."""
    settings = compose([f"data={name}", "framework=diffrax"]).data
    cohort, kinetics = load(settings), lookup(model)
    source, planned = cohort.table.table, schedule_of(cohort.table.table, settings)
    used = source.records.used[planned.reports.record]
    observed = source.records.observed[planned.reports.record[used]]
    size = len(kinetics.compartments)
    planned = refitted(source, settings, size)

    def predicted(logs):
        values = np.exp(logs)
        return kinetics.concentration(values, follow(kinetics, values, planned)[used])

    def residuals(logs):
        found = predicted(logs)
        return np.log(np.maximum(found, 1e-12) / observed) if settings.error == "log" else found - observed

    begin = np.log([BEGIN[name][parameter] for parameter in kinetics.parameters])
    best = least_squares(residuals, begin, x_scale="jac", bounds=(begin - SPAN, begin + SPAN))
    found = predicted(best.x)
    return {
        "rmse": float(np.sqrt(((found - observed) ** 2).mean())),
        "log_rmse": log_rmse(found, observed),
        "parameters": dict(zip(kinetics.parameters, np.exp(best.x).tolist(), strict=True)),
    }


def refitted(source, settings, size):
    """The same rows for a model with another number of compartments."""
    from dataclasses import replace

    names = [f"compartment {k + 1}" for k in range(size)]
    return schedule_of(source, replace(settings, compartments=names, measured=names[0]))


def main():
    chosen = options(__doc__, iterations=["2000"], keep=[])
    names = ["indometacin"] if chosen.quick else list(CLASSICAL)
    iterations = 50 if chosen.quick else int(chosen.iterations[0])
    framework = "diffrax" if "diffrax" in chosen.frameworks else chosen.frameworks[0]
    rows = []
    for name in names:
        folder = ROOT / "outputs" / "experiments" / "real_data" / f"{name}-{framework}-{iterations}"
        folder.mkdir(parents=True, exist_ok=True)
        found = neural(name, framework, iterations, folder, bool(chosen.keep))
        rows.append({"data": name, "model": f"neural ODE, {framework}", **found})
        if "failed" not in found and not chosen.quick:
            (ROOT / "experiments" / "real_data" / f"{name}.png").write_bytes((folder / "fit.png").read_bytes())
        rows += [{"data": name, "model": model, **classical(name, model)} for model in CLASSICAL[name]]
    results = {"iterations": iterations, "rows": rows}
    leave("real_data", chosen, results, tables(results), None)


def tables(results):
    body = [
        [row["data"], row["model"], row.get("failed") or digits(row["rmse"]),
         "" if row.get("log_rmse") is None else digits(row["log_rmse"]),
         ", ".join(f"{name} {digits(value)}" for name, value in row.get("parameters", {}).items())]
        for row in results["rows"]
    ]  # fmt: skip
    return "\n\n".join([
        f"One model for all subjects of a data set; the neural ODEs have {results['iterations']:,} iterations. RMSE in "
        "the unit of the observations (mg/L; remifentanil ug/L), and of their logarithms:",
        table(["data", "model", "RMSE", "RMSE of logarithms", "parameters"], body),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
