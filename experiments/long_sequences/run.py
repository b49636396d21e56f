"""Time and memory of a training step against the number of doses. See README.md.

python -m experiments.long_sequences.run [--quick]
"""

from __future__ import annotations

import functools
import math
import time

from experiments.common import TrainingStep, cohort, leave, options, spread, steps, typical_network
from experiments.long_sequences.show import draw, tables
from experiments.turns import Worker, alternate, serve, timed, together
from pk_event_fit import frameworks
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.metrics.performance import rss_mb, rss_peak_mb

MODULE = "experiments.long_sequences.run"
POINTS = 5  # report points an interval, every 3 h
LIMIT = 90.0  # seconds for the first training step, compilation included
BLOCK_S = 0.1
HELD: dict = {}


def prepare(name, doses, subjects):
    """Take the first step and hold it; peak memory is that of the process so far, less that before the first step."""
    framework, model = frameworks.load(name).create(Solver()), Mlp()
    data = cohort(subjects, [12.0 * k for k in range(doses)], 12.0 * doses, POINTS)
    before = rss_mb()
    step = TrainingStep(framework, model, typical_network(model), data)
    began = time.perf_counter()
    report = step()
    once = time.perf_counter() - began  # what is compiled is so already
    peak = rss_peak_mb()
    HELD["step"] = step
    HELD["block"] = functools.partial(timed, step, max(1, math.ceil(BLOCK_S / once)))
    answer = {"steps": steps(report, framework.arrays), "baseline_mb": before, "peak_mb": peak}
    return answer | {"above_mb": peak - before if peak and before else None}


def kept():
    return HELD["step"].kept_mb()


def block():
    return HELD["block"]()


def measure(names, doses, subjects, rounds, budget, lost):
    """One row for each library, each in a fresh process; those lost to the limit before are not tried again."""
    workers = {name: Worker(MODULE) for name in names if name not in lost}
    problem = {"doses": doses, "subjects": subjects}
    answers, failures = together(
        {name: functools.partial(w.ask, "prepare", limit=LIMIT, name=name, **problem) for name, w in workers.items()}
    )
    contestants = {name: functools.partial(workers[name].ask, "block", limit=LIMIT) for name in answers}
    blocks, late = alternate(contestants, rounds, budget)
    # After the rest, because it needs a solve of its own where torch saves.
    memory, _ = together({name: functools.partial(workers[name].ask, "kept", limit=LIMIT) for name in answers})
    for worker in workers.values():
        worker.__exit__()
    rows = []
    for name in names:
        row = {"framework": name, **problem, **answers.get(name, {}), "kept_mb": memory.get(name)}
        row |= {"failed": lost.get(name) or failures.get(name) or late.get(name)}
        row |= {"ms": spread(blocks.get(name, []))}
        if row["failed"] and name not in lost:
            lost[name] = f"not tried: {doses} doses were {row['failed'][:60]}"
        rows.append(row)
    return rows


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"prepare": prepare, "block": block, "kept": kept})
    # The torch libraries take a minute for a thousand doses, and hardly longer for ten subjects than for one.
    doses = {1: [4, 16]} if chosen.quick else {1: [4, 16, 64, 250, 1000], 10: [4, 16, 64, 250]}
    rounds, budget = (1, 1.0) if chosen.quick else (5, 4.0)
    rows = []
    for subjects, counts in doses.items():
        lost: dict[str, str] = {}
        for count in counts:
            rows += measure(chosen.frameworks, count, subjects, rounds, budget, lost)
    results = {"doses": doses[1], "batches": list(doses), "points": POINTS, "rows": rows}
    leave("long_sequences", chosen, results, tables(results), draw(results))


if __name__ == "__main__":
    main()
