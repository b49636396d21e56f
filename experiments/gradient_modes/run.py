"""Direct and adjoint gradients of each library over tolerances. See README.md.

python -m experiments.gradient_modes.run [--quick]
"""

from __future__ import annotations

import functools
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

from experiments.common import ahead, kept_mb, leave, options, spread
from experiments.gradient_modes import problems
from experiments.gradient_modes.show import draw, tables
from experiments.turns import Failed, Worker, alternate, serve, timed, together
from pk_event_fit import frameworks
from pk_event_fit.frameworks.base import Solver

MODULE = "experiments.gradient_modes.run"
MODES = ("direct", "adjoint")
REFERENCE = 1e-12
BLOCK_S = 0.05
LIMIT = 200  # seconds for anything that may have to be compiled
HELD: dict = {}


@functools.cache
def make(name, mode):
    # The tolerance is given to each solve.
    return frameworks.load(name).create(Solver(gradient=mode), precision="float64")


@functools.cache
def compiled(name, mode, what, points, fine=False):
    """The gradient of one of the losses, compiled once for all tolerances; Diffrax takes ten seconds for it."""
    framework = make(name, mode)
    loss = getattr(problems, f"{what}_loss")(framework, points, fine)
    return framework.arrays.compile(framework.arrays.value_and_grad(loss))


def gradient(framework, step, *arguments):
    """The gradient in NumPy, by name.

    Raises:
        SolverFailure: A solve did not end.
    """
    (_, report), found = framework.guard(step, *arguments)
    framework.check(report, next(leaf for leaf in arguments if hasattr(leaf, "duration")))
    return {name: framework.arrays.to_numpy(value) for name, value in found.items()}


def distance(found, exact):
    """Relative L2 distance over all leaves together."""
    difference = math.sqrt(sum(float(((found[name] - exact[name]) ** 2).sum()) for name in exact))
    return difference / math.sqrt(sum(float((value**2).sum()) for value in exact.values()))


def reference(name, path, subjects, points):
    """Write the exact gradients; say how far two ways to them are apart.

    One is the adjoint, the other goes straight through a solver whose steps are held to the distance of report points;
    both at a tolerance of 1e-12.
    """
    stored, apart = {}, {}
    for situation in problems.SITUATIONS:
        ways = []
        for mode, fine in (("adjoint", False), ("direct", True)):
            framework = make(name, mode)
            weights, batch = problems.inputs(framework.arrays, situation, subjects, points)
            batch = (*batch, REFERENCE, REFERENCE)
            by_weights = gradient(framework, compiled(name, mode, "weights", points, fine), weights, *batch)
            given = problems.doses_of(batch[1])
            by_doses = gradient(framework, compiled(name, mode, "doses", points, fine), given, weights, *batch)
            ways.append({"weights": by_weights, **{key: {key: value} for key, value in by_doses.items()}})
        apart[situation] = {kind: distance(ways[0][kind], ways[1][kind]) for kind in ways[1]}
        stored |= {
            f"{situation}|{kind}|{leaf}": value for kind, leaves in ways[1].items() for leaf, value in leaves.items()
        }
    np.savez(path, **stored)
    return apart


@functools.cache
def exact(path):
    found: dict = {}
    with np.load(path) as stored:
        for key in stored.files:
            situation, kind, leaf = key.split("|")
            found.setdefault((situation, kind), {})[leaf] = stored[key]
    return found


@functools.cache
def built(name, mode, points, subjects):
    """Gradient and forward solve, compiled, and the memory that the gradient keeps."""
    framework = make(name, mode)
    arrays, loss = framework.arrays, problems.weights_loss(make(name, mode), points)
    weights, batch = problems.inputs(arrays, problems.MOVING, subjects, points)
    arguments = (weights, *batch, 1e-5, 1e-7)
    return ahead(arrays.compile(arrays.value_and_grad(loss)), *arguments), ahead(arrays.compile(loss), *arguments)


def prepare(name, mode, rtol, path, subjects, points):
    """Errors of the weights' gradient and memory; what is to be timed is held for `block`."""
    framework = make(name, mode)
    step, forward = built(name, mode, points, subjects)
    answer = {"error": {}, "bias_error": {}}  # of all, and of the biases alone: inflow, so to say
    for situation in problems.SITUATIONS:
        weights, batch = problems.inputs(framework.arrays, situation, subjects, points)
        batch = (*batch, rtol, rtol / 100)
        found = gradient(framework, step, weights, *batch)
        truth = exact(path)[situation, "weights"]
        answer["error"][situation] = distance(found, truth)
        answer["bias_error"][situation] = distance(found, {leaf: truth[leaf] for leaf in truth if leaf[:4] == "bias"})
    answer["kept_mb"] = kept_mb(problems.weights_loss(framework, points), step, weights, *batch)

    def run(function):
        framework.arrays.wait(framework.guard(function, weights, *batch)[0])

    # The last situation is the one that is timed: there every interval has to be solved.
    run(forward)
    for kind, function in (("gradient", step), ("forward", forward)):
        calls = max(1, math.ceil(BLOCK_S / timed(functools.partial(run, function), 1)))
        HELD[mode, kind] = functools.partial(timed, functools.partial(run, function), calls)
    return answer


def block(mode, kind):
    return HELD[mode, kind]()


def doses(name, mode, rtol, path, subjects, points):
    """Errors of the gradients with regard to times and amounts of doses."""
    framework, answer = make(name, mode), {}
    for situation in problems.SITUATIONS:
        weights, batch = problems.inputs(framework.arrays, situation, subjects, points)
        batch = (problems.doses_of(batch[1]), weights, *batch, rtol, rtol / 100)
        found = gradient(framework, compiled(name, mode, "doses", points), *batch)
        answer[situation] = {key: distance(found, {key: exact(path)[situation, key][key]}) for key in found}
    return answer


def measure(workers, rtol, shared, rounds, budget):
    """One row for each library and mode."""
    labels = [(name, mode) for mode in MODES for name in workers]
    answers, failures = together({label: ask(workers, "prepare", label, rtol, shared) for label in labels})
    contestants = {
        (*label, kind): functools.partial(workers[label[0]].ask, "block", limit=LIMIT, mode=label[1], kind=kind)
        for label in answers
        for kind in ("forward", "gradient")
    }
    blocks, late = alternate(contestants, rounds, budget)
    rows = []
    for label in labels:
        row = {"framework": label[0], "mode": label[1], "rtol": rtol, "failed": failures.get(label)}
        row |= answers.get(label, {})
        for kind in ("forward", "gradient"):
            row[f"{kind}_ms"] = spread(blocks.get((*label, kind), []))
            row["failed"] = row["failed"] or late.get((*label, kind))
        rows.append(row)
    return rows


def ask(workers, task, label, rtol, shared):
    return functools.partial(
        workers[label[0]].ask, task, limit=LIMIT, name=label[0], mode=label[1], rtol=rtol, **shared
    )


def measure_doses(workers, rtol, shared):
    labels = [(name, mode) for mode in MODES for name in workers]
    answers, failures = together({label: ask(workers, "doses", label, rtol, shared) for label in labels})
    return [
        {"framework": label[0], "mode": label[1], "rtol": rtol, "error": answers.get(label),
         "failed": failures.get(label)}
        for label in labels
    ]  # fmt: skip


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"reference": reference, "prepare": prepare, "block": block, "doses": doses})
    tolerances = [1e-3, 1e-5] if chosen.quick else [10.0**-k for k in range(3, 10)]
    rounds, budget = (1, 1.0) if chosen.quick else (5, 2.0)
    shared = {"subjects": 4 if chosen.quick else 100, "points": 4 if chosen.quick else 7}
    with tempfile.TemporaryDirectory() as folder:
        shared["path"] = str(Path(folder) / "exact.npz")
        apart = None
        # Any would do; those that compile take longest.
        for name in sorted(chosen.frameworks, key=lambda name: not name.startswith("torch")):
            with Worker(MODULE) as worker:
                try:
                    apart = worker.ask("reference", limit=LIMIT, name=name, **shared)
                    break
                except Failed as error:
                    print(f"no exact gradient by {name}: {error}", file=sys.stderr)
        if apart is None:
            return 1
        workers = {name: Worker(MODULE) for name in chosen.frameworks}
        rows, dose_rows = [], []
        for rtol in tolerances:
            rows += measure(workers, rtol, shared, rounds, budget)
            if not chosen.quick and round(math.log10(rtol)) % 2:  # every second one tells enough of the doses
                dose_rows += measure_doses(workers, rtol, shared)
        for worker in workers.values():
            worker.__exit__()
    results = {
        **{key: shared[key] for key in ("subjects", "points")},
        "uncertainty": apart, "tolerances": tolerances, "rows": rows, "doses": dose_rows,
    }  # fmt: skip
    leave("gradient_modes", chosen, results, tables(results), draw(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
