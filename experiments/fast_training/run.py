"""How long until the typical patient is fitted? See README.md.

python -m experiments.fast_training.run [--quick] [--pairs 3]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import ROOT, digits, leave, options, table

# The first is what the others are compared with.
VARIANTS: dict[str, list[str]] = {
    "2,000 steps of Adam, Diffrax": ["framework=diffrax"],
    "2,000 steps of Adam, fused": ["framework=fused"],
    "training=fast, Diffrax": ["framework=diffrax", "training=fast"],
    "training=fast, fused": ["framework=fused", "training=fast"],
}


def once(words: list[str], seed: int, folder: Path) -> dict[str, Any]:
    """One command from the start of its process to its end, in a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, "-m", "pk_event_fit", "data=pk_2c_typical", *words, f"seed={seed}", "tracking=disabled",
        f"hydra.run.dir={folder}",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        return {"wall_s": wall, "failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    return {"wall_s": wall, "rmse": json.loads((folder / "result.json").read_text())["accuracy"]["rmse"]}


def main():
    chosen = options(__doc__, pairs=["3"])
    pairs = 1 if chosen.quick else int(chosen.pairs[0])
    own = {name: [*words, *(["training.iterations=20"] if chosen.quick and "training=fast" not in words else [])]
           for name, words in VARIANTS.items()}  # fmt: skip
    folder = ROOT / "outputs" / "experiments" / "fast_training"
    rows = []
    for pair in range(pairs):  # in alternation, a seed each
        for number, (name, words) in enumerate(own.items()):
            row = {"variant": name, "seed": pair, **once(words, pair, folder / str(number))}
            rows.append(row)
            print(json.dumps(row), flush=True)
    results = {"pairs": pairs, "rows": rows}
    leave("fast_training", chosen, results, tables(results), None)


def tables(results: dict[str, Any]) -> str:
    of = {name: [row for row in results["rows"] if row["variant"] == name] for name in VARIANTS}
    reference = [row["wall_s"] for row in next(iter(of.values()))]

    def across(values: list[float]) -> str:
        least, most = digits(min(values)), digits(max(values))
        return f"{digits(float(np.median(values)))} ({least}-{most})"

    body = []
    for name, rows in of.items():
        good = [row["rmse"] for row in rows if "rmse" in row]
        ratios = [other / row["wall_s"] for other, row in zip(reference, rows, strict=True)]
        error = across(good) if len(good) == len(rows) else f"failed {len(rows) - len(good)} of {len(rows)}"
        body.append([name, across([row["wall_s"] for row in rows]), across(ratios), error])
    return "\n\n".join([
        f"The whole command, from the start of its process to its end, {results['pairs']} times in alternation, a seed "
        "each: median (least to most). The ratio is of times in one round.",
        table(["command", "time, s", "times faster", "RMSE, mg"], body),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
