"""From data to a saved model by one command: how long it takes, and what comes of it. See README.md.

python -m experiments.michaelis_menten.run [--quick]
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiments.common import ROOT, digits, leave, options, table

COMMAND = "+experiment=michaelis_menten"
QUICK = ["training.phases=[{iterations: 20}]", "training.validate_every=10", "data.folds=3"]
# What is kept of the page beside the table: files of the sweep by the names they have here.
FIGURES = {
    "cohort.svg": "figures/copies.svg",
    "training.svg": "evaluation/figures/training.svg",
    "unseen.svg": "cross_validation/figures/individual_fits.svg",
    "field.svg": "cross_validation/figures/field.svg",
}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def job(folder: Path) -> dict[str, Any]:
    """One fit: what of the subjects it is told by, and how well."""
    result = read(folder / "result.json")
    if result["status"] != "completed":
        return {"failed": result["status"]}
    score = result["accuracy"]
    return {
        "fitted_rmse": score["rmse"],
        "judge_rmse": score["validation"]["rmse"],
        "unseen_rmse": score["held_out"]["rmse"] if score.get("held_out") else None,
        "kept": result["kept_iteration"],
        "iterations": result["iterations"],
        "training_s": result["performance"]["training_s"],
    }


def main():
    chosen = options(__doc__)
    sweep = ROOT / "outputs" / "experiments" / "michaelis_menten" / ("quick" if chosen.quick else "sweep")
    shutil.rmtree(sweep, ignore_errors=True)
    command = [sys.executable, "-m", "pk_event_fit", COMMAND, *(QUICK if chosen.quick else []),
               f"hydra.sweep.dir={sweep}"]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True)
    wall = time.perf_counter() - began
    jobs = sorted((path.parent for path in sweep.glob("*/result.json") if path.parent.name.isdecimal()),
                  key=lambda folder: int(folder.name))  # fmt: skip
    unseen = read(sweep / "cross_validation" / "evaluation.json")
    saved = next(line for line in (sweep / "report.md").read_text().splitlines() if "predicts of the subjects" in line)
    results = {
        "wall_s": wall,
        "jobs": [job(folder) for folder in jobs],
        "unseen": unseen["goodness"]["test"]["values"]["all"],
        "saved": re.sub(r"^\W+", "", saved),
    }
    leave("michaelis_menten", chosen, results, tables(results), None)
    if not chosen.quick:
        for name, path in FIGURES.items():
            shutil.copy(sweep / path, Path(__file__).parent / name)


def tables(results: dict[str, Any]) -> str:
    def cell(value):
        return "" if value is None else digits(value)

    head = ["left out", "RMSE of the fitted, mmol/L", "of the one that judges", "of the one left out", "steps kept",
            "training, s"]  # fmt: skip
    rows = [
        ["nobody" if number == 0 else f"experiment {number}", cell(one["fitted_rmse"]), cell(one["judge_rmse"]),
         cell(one["unseen_rmse"]), f"{one['kept']:,} of {one['iterations']:,}", digits(one["training_s"])]
        if "failed" not in one else [str(number), one["failed"], "", "", "", ""]
        for number, one in enumerate(results["jobs"])
    ]  # fmt: skip
    told = results["unseen"]
    return "\n\n".join([
        f"The whole command, from the start of its process to its page: {digits(results['wall_s'])} s. Experiments "
        f"that a fit has not seen are predicted with an RMSE of {digits(told['rmse'])} mmol/L, R² {told['r2']:.5f}, "
        f"over {told['n']:,} observations.",
        table(head, rows),
        results["saved"],
    ])  # fmt: skip


if __name__ == "__main__":
    main()
