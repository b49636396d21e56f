"""The time of a training step against the width of the network. See README.md.

python -m experiments.larger_networks.run [--quick]
"""

from __future__ import annotations

import functools
import math
import time

from experiments.common import TrainingStep, cell, cohort, digits, leave, options, spread, steps, table, typical_network
from experiments.drawing import NullLocator, colour, label_ends, panels, plain_numbers
from experiments.turns import Worker, alternate, serve, timed, together
from pk_event_fit import frameworks
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver

MODULE = "experiments.larger_networks.run"
STAGES = 6  # evaluations that a step of Dopri5 adds
LIMIT = 120.0  # seconds for the first training step of a width, compilation included
BLOCK_S = 0.1
HELD: dict = {}


def prepare(name, width, subjects, points):
    """Take the first step, and hold it for `block`."""
    framework = frameworks.load(name).create(Solver())
    model = Mlp(hidden=[width, width])
    data = cohort(subjects, [12.0, 24.0, 36.0], 48.0, points)
    began = time.perf_counter()
    step = TrainingStep(framework, model, typical_network(model), data)
    report = step()
    first = time.perf_counter() - began
    calls = max(1, math.ceil(BLOCK_S / timed(step, 1)))
    HELD["block"] = functools.partial(timed, step, calls)
    tried = steps(report, framework.arrays)
    # A multiplication and an addition for each weight, and twice that on the way back.
    weights = sum(math.prod(shape) for shape in model.shapes(2).values() if len(shape) == 2)
    return {"first_s": first, "steps": tried, "operations": 3 * 2 * weights * subjects * STAGES * tried}


def block():
    return HELD["block"]()


def measure(workers, width, rounds, budget, **problem):
    asked = {
        name: functools.partial(worker.ask, "prepare", limit=LIMIT, name=name, width=width, **problem)
        for name, worker in workers.items()
    }
    answers, failures = together(asked)
    blocks, late = alternate(
        {name: functools.partial(workers[name].ask, "block", limit=LIMIT) for name in answers}, rounds, budget
    )
    rows = []
    for name in workers:
        row = {"framework": name, "width": width, **answers.get(name, {})}
        row |= {"failed": failures.get(name) or late.get(name), "ms": spread(blocks.get(name, []))}
        if row["ms"]:
            row["gflop_per_s"] = row["operations"] / row["ms"]["median"] / 1e6
        rows.append(row)
    return rows


def lines(rows):
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["framework"], []).append(row)
    return found


def tables(results):
    widths = results["widths"]
    header = ["library", *(f"width {width}" for width in widths)]

    def body(write, why=False):
        return [
            [name, *(write(row, line[0]) if row["ms"] else failure(row, why) for row in line)]
            for name, line in lines(results["rows"]).items()
        ]

    def ratio(row, first):
        return digits(row["ms"]["median"] / first["ms"]["median"]) if first["ms"] else "no first width"

    parts = [
        f"Time of a training step in ms, median (10th to 90th percentile of the blocks); {results['subjects']} "
        "subjects, 4 intervals, float32, rtol 1e-5:",
        table(header, body(lambda row, first: cell(row["ms"]), why=True)),
        f"The same as a multiple of that at width {widths[0]}:",
        table(header, body(ratio)),
        "Arithmetic rate in GFLOP/s: multiplications and additions of the network, forward and backward, in the steps "
        "that a subject needs, over the time (what a library computes beyond that is not counted):",
        table(header, body(lambda row, first: digits(row["gflop_per_s"]))),
        "Steps tried in a solve, the mean over subjects where each has its own:",
        table(header, body(lambda row, first: f"{row['steps']:.1f}")),
        "First training step in s, compilation included (two libraries prepare beside each other):",
        table(header, body(lambda row, first: digits(row["first_s"]))),
    ]
    return "\n\n".join(parts)


def failure(row, why):
    """In the first table with its reason."""
    return f"failed: {row['failed'][:120]}" if why else "failed"


def draw(results):
    figure, ((left, right),) = panels(2)
    for axis, key in ((left, lambda row: row["ms"]["median"]), (right, lambda row: row["gflop_per_s"])):
        ends = []
        for name, line in lines(results["rows"]).items():
            held = [row for row in line if row["ms"]]
            if not held:
                continue
            widths, values = [row["width"] for row in held], [key(row) for row in held]
            axis.plot(widths, values, color=colour(name), marker="o", ms=5, lw=2)
            if axis is left:
                low, high = ([row["ms"][p] for row in held] for p in ("p10", "p90"))
                axis.fill_between(widths, low, high, color=colour(name), alpha=0.2, lw=0)
            ends.append((widths[-1], values[-1], name, colour(name)))
        axis.set(xscale="log", yscale="log", xlabel="width of both hidden layers", xticks=results["widths"])
        axis.set_xticks(results["widths"], [str(width) for width in results["widths"]])
        axis.xaxis.set_minor_locator(NullLocator())
        plain_numbers(axis)
        label_ends(axis, ends)
    left.set(ylabel="time of a training step (ms)", title="Time")
    right.set(ylabel="arithmetic rate (GFLOP/s)", title="What the machine is made to do")
    return figure


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"prepare": prepare, "block": block})
    widths = [64, 128] if chosen.quick else [64, 128, 256, 512, 1024]
    problem = {"subjects": 10 if chosen.quick else 100, "points": 5 if chosen.quick else 50}
    rounds, budget = (1, 1.0) if chosen.quick else (7, 8.0)
    workers = {name: Worker(MODULE) for name in chosen.frameworks}
    rows = []
    for width in widths:
        rows += measure(workers, width, rounds, budget, **problem)
    for worker in workers.values():
        worker.__exit__()
    results = {"widths": widths, **problem, "rows": rows}
    leave("larger_networks", chosen, results, tables(results), draw(results))


if __name__ == "__main__":
    main()
