"""The time of a training step on the CPU and on a GPU. See README.md.

python -m experiments.accelerator.run [--quick]

Without a GPU it says so and stops with exit code 2.
"""

from __future__ import annotations

import functools
import math
import sys
import time

from experiments.common import TrainingStep, cell, cohort, digits, leave, options, spread, steps, table, typical_network
from experiments.drawing import colour, label_ends, panels, plain_numbers
from experiments.turns import Worker, alternate, serve, timed, together
from pk_event_fit import frameworks
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver

MODULE = "experiments.accelerator.run"
LIMIT = 120.0  # seconds for the first training step, compilation included
BLOCK_S = 0.1
HELD: dict = {}


def name_of(name, device):
    """What the library calls the device. Raises where it has none."""
    arrays = frameworks.load(name).create(Solver(), device=device).arrays
    if hasattr(arrays.device, "device_kind"):
        return arrays.device.device_kind
    import torch

    return torch.cuda.get_device_name() if arrays.device.type == "cuda" else "cpu"


def prepare(name, device, width, subjects, points):
    """Take the first step, and hold it for `block`."""
    framework = frameworks.load(name).create(Solver(), device=device)
    model, data = Mlp(hidden=[width, width]), cohort(subjects, [12.0, 24.0, 36.0], 48.0, points)
    began = time.perf_counter()
    step = TrainingStep(framework, model, typical_network(model), data)
    report = step()
    first = time.perf_counter() - began
    HELD["block"] = functools.partial(timed, step, max(1, math.ceil(BLOCK_S / timed(step, 1))))
    return {"first_s": first, "steps": steps(report, framework.arrays)}


def block():
    return HELD["block"]()


def devices_of(workers):
    """Names of the devices, and why a library has none."""
    return together(
        {label: functools.partial(w.ask, "name_of", name=label[0], device=label[1]) for label, w in workers.items()}
    )


def measure(workers, without, problem, rounds, budget):
    able = {label: worker for label, worker in workers.items() if label not in without}
    answers, failures = together(
        {
            label: functools.partial(w.ask, "prepare", limit=LIMIT, name=label[0], device=label[1], **problem)
            for label, w in able.items()
        }
    )
    blocks, late = alternate(
        {label: functools.partial(workers[label].ask, "block", limit=LIMIT) for label in answers}, rounds, budget
    )
    return [
        {
            "framework": label[0],
            "device": label[1],
            **problem,
            **answers.get(label, {}),
            "failed": without.get(label) or failures.get(label) or late.get(label),
            "ms": spread(blocks.get(label, [])),
        }
        for label in workers
    ]


def curves(rows):
    found: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        found.setdefault((row["framework"], row["device"]), []).append(row)
    return found


def title(problem):
    return f"{problem['subjects']:,} subjects, width {problem['width']}"


def tables(results):
    header = ["library", "device", *map(title, results["problems"])]

    def body(write, why=False):
        return [
            [*label, *(write(row) if row["ms"] else failure(row, why) for row in line)]
            for label, line in curves(results["rows"]).items()
        ]

    by = {(r["framework"], r["device"], r["subjects"], r["width"]): r["ms"] for r in results["rows"]}

    def gain(row):
        cpu = by.get((row["framework"], "cpu", row["subjects"], row["width"]))
        return digits(cpu["median"] / row["ms"]["median"]) if cpu else "no CPU time"

    names = ", ".join(sorted(set(results["devices"].values()) - {"cpu"})) or "none"
    parts = [
        f"Time of a training step in ms, median (10th to 90th percentile of the blocks); GPU: {names}; 4 intervals, "
        "float32, rtol 1e-5:",
        table(header, body(lambda row: cell(row["ms"]), why=True)),
        "Time on the CPU over time on this device:",
        table(header, body(gain)),
        "Steps tried in a solve, the mean over subjects where each has its own:",
        table(header, body(lambda row: f"{row['steps']:.1f}")),
        "First training step in s, compilation included (two prepare beside each other):",
        table(header, body(lambda row: digits(row["first_s"]))),
    ]
    return "\n\n".join(parts)


def failure(row, why):
    """In the first table with its reason."""
    return f"failed: {row['failed'][:120]}" if why else "failed"


def draw(results):
    widths = sorted({problem["width"] for problem in results["problems"]})
    figure, (axes,) = panels(len(widths), width=5.8)
    for axis, width in zip(axes, widths, strict=True):
        ends = []
        for (name, device), line in curves(results["rows"]).items():
            held = [row for row in line if row["ms"] and row["width"] == width]
            if not held:
                continue
            x, y = [row["subjects"] for row in held], [row["ms"]["median"] for row in held]
            axis.plot(x, y, color=colour(name), ls="-" if device == "gpu" else "--", marker="o", ms=5, lw=2)
            ends.append((x[-1], y[-1], f"{name}, {device.upper()}", colour(name)))
        axis.set(xscale="log", yscale="log", xlabel="subjects", title=f"Width {width}")
        axis.set_ylabel("time of a training step (ms)")
        plain_numbers(axis)
        label_ends(axis, ends)
    return figure


def main():
    chosen = options(__doc__, devices=["cpu", "gpu"])
    if chosen.worker:
        return serve({"name_of": name_of, "prepare": prepare, "block": block})
    workers = {(name, device): Worker(MODULE) for name in chosen.frameworks for device in chosen.devices}
    try:
        devices, without = devices_of({label: w for label, w in workers.items() if label[1] == "gpu"})
        if "gpu" in chosen.devices and not devices:
            why = "; ".join(dict.fromkeys(without.values())) or "no library was named"
            print(f"no GPU here: {why}", file=sys.stderr)
            return 2
        sizes, widths = ([10], [64]) if chosen.quick else ([100, 1000, 10000], [64, 512])
        problems = [{"subjects": size, "width": width, "points": 50} for width in widths for size in sizes]
        rounds, budget = (1, 1.0) if chosen.quick else (5, 8.0)
        rows = [row for problem in problems for row in measure(workers, without, problem, rounds, budget)]
    finally:
        for worker in workers.values():
            worker.__exit__()
    named = {f"{name} {device}": found for (name, device), found in devices.items()}
    results = {"devices": named, "problems": problems, "rows": rows}
    leave("accelerator", chosen, results, tables(results), draw(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
