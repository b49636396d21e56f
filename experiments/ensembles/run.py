"""What does an ensemble cost a member, trained in one program, one after the other, or in processes? See README.md.

python -m experiments.ensembles.run [--quick]
"""

from __future__ import annotations

import functools
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from experiments.common import TrainingStep, cell, leave, options, spread, table
from experiments.turns import Failed, Worker, alternate, serve, timed
from pk_event_fit import frameworks, store
from pk_event_fit.config import set_threads
from pk_event_fit.data import Data, load
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.training import Training, fit, start

MODULE = "experiments.ensembles.run"
MEMBERS, CORES, LIMIT = 4, 2, 300.0
TRAINED = 300  # iterations behind them: at its first weights a field is nearly nothing, and takes half as many steps
WAYS = ("one after the other", "in one program", "in two processes")  # the first is what the others are compared with
NAMES = ("diffrax", "fused")
HELD: dict = {}


class InTurn:
    """A training step of each member, one after the other, by one compiled program."""

    def __init__(self, framework, data, members):
        self.step = TrainingStep(framework, Mlp(), members[0], data)
        self.members = [{name: framework.arrays.asarray(w) for name, w in one.items()} for one in members]

    def __call__(self):
        for member in self.members:
            self.step.params = member
            self.step()


class InOneProgram:
    """A training step of all members at once, vectorised over their weights."""

    def __init__(self, framework, data, members):
        import jax

        one = TrainingStep(framework, Mlp(), members[0], data)
        self.arrays, self.batch = framework.arrays, one.batch
        self.update = self.arrays.compile(self.arrays.adam_update)
        self.params = {name: self.arrays.asarray(np.stack([one[name] for one in members])) for name in members[0]}
        self.moments = self.arrays.adam_init(self.params)
        gradient = jax.vmap(jax.value_and_grad(one.loss, has_aux=True), (0, *(None for _ in self.batch)))
        self.step = jax.jit(gradient).lower(self.params, *self.batch).compile()

    def __call__(self):
        (losses, report), gradient = self.step(self.params, *self.batch)
        if not np.isfinite(losses).all() or np.any(report.failed):
            raise Failed("a member's solve did not end")
        self.arrays.wait(self.update(self.params, gradient, self.moments, 1e-3)[0])


def train(folder, iterations):
    """Weights of each member after so many iterations; how many steps that subject tries that needs the most."""
    framework, data, most = frameworks.load("fused").create(Solver()), load(Data()), []
    for seed in range(MEMBERS):
        begun = start(framework, Mlp().initial_params(2, seed))
        settings = Training(iterations=iterations)
        (progress,) = deque(fit(framework, Mlp(), data, settings, begun, seed=seed), maxlen=1)
        weights = {name: np.asarray(value) for name, value in progress.state.params.items()}
        store.write_npz(Path(folder) / f"{seed}.npz", weights, {})
        tried = np.asarray(progress.report.accepted) + np.asarray(progress.report.rejected)
        most.append(int(tried.sum(0).max()))
    return most


def prepare(folder, name, way, members, threads):
    set_threads(threads)
    framework, data = frameworks.load(name).create(Solver()), load(Data())
    weights = [store.read_npz(Path(folder) / f"{seed}.npz")[0] for seed in members]
    HELD["step"] = (InOneProgram if way == "in one program" else InTurn)(framework, data, weights)
    HELD["step"]()


def block(calls):
    return timed(HELD["step"], calls)


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"train": train, "prepare": prepare, "block": block})
    with tempfile.TemporaryDirectory() as folder:
        results = measure(folder, 3 if chosen.quick else TRAINED, *((1, 1) if chosen.quick else (12, 5)))
    leave("ensembles", chosen, results, tables(results), None)


def measure(folder, iterations, rounds, calls):
    """What each way takes, by framework; all members have been trained before."""
    with Worker(MODULE) as worker:
        most = worker.ask("train", limit=LIMIT, folder=folder, iterations=iterations)
    found = {f"{name}, {way}": {"name": name, "way": way} for name in NAMES for way in WAYS}
    ready, workers = {}, {}
    with ThreadPoolExecutor(CORES) as pool:
        for label, row in found.items():
            apart = CORES if row["way"] == "in two processes" else 1
            workers[label] = [Worker(MODULE) for _ in range(apart)]
            try:
                for k, worker in enumerate(workers[label]):
                    members = list(range(MEMBERS))[k::apart]
                    asked = {"name": row["name"], "way": row["way"], "members": members, "threads": CORES // apart}
                    worker.ask("prepare", limit=LIMIT, folder=folder, **asked)
                ready[label] = functools.partial(at_once, pool, workers[label], calls)
            except Failed as error:
                row["failed"] = str(error)
        blocks, late = alternate(ready, rounds, 120.0)
    for group in workers.values():
        for worker in group:
            worker.__exit__()
    for label, seconds in blocks.items():
        row, first = found[label], blocks.get(f"{found[label]['name']}, {WAYS[0]}", [])
        row["ms"] = spread(value / MEMBERS for value in seconds)
        row["ratio"] = spread(1e-3 * one / other for one, other in zip(first, seconds, strict=False))
        row |= {"failed": late[label]} if label in late else {}
    return {"members": MEMBERS, "iterations": iterations, "most_steps": most, "rows": found}


def at_once(pool, workers, calls):
    """Seconds of a training step of all members, each process with its own members."""
    return max(pool.map(lambda worker: worker.ask("block", limit=LIMIT, calls=calls), workers))


def tables(results):
    rows = [
        [row["name"], row["way"], cell(row["ms"]), cell(row["ratio"])]
        if "failed" not in row else [row["name"], row["way"], "failed: " + row["failed"][:80], ""]
        for row in results["rows"].values()
    ]  # fmt: skip
    most = ", ".join(map(str, results["most_steps"]))
    return "\n\n".join([
        f"A training step of {MEMBERS} members, {results['iterations']} iterations behind each, ms for each of them, "
        "median (10th to 90th percentile); by how many times that is faster than one after the other, of pairs. In a "
        f"step of the engine the subject that needs the most tries {most} steps, by member:",
        table(["framework", "members", "ms a member", "times faster"], rows),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
