"""What does an ensemble cost a member, trained in one program, one after the other, or in processes? See README.md.

python -m experiments.ensembles.run [--quick]
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from experiments.common import TrainingStep, cell, leave, options, spread, table
from experiments.turns import Failed, Worker, alternate, serve, timed
from pk_event_fit import frameworks
from pk_event_fit.config import set_threads
from pk_event_fit.data import Data, load
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver

MODULE = "experiments.ensembles.run"
MEMBERS, CORES, LIMIT = 4, 2, 300.0
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
        self.arrays, self.update, self.batch = framework.arrays, one.update, one.batch
        self.params = {name: self.arrays.asarray(np.stack([one[name] for one in members])) for name in members[0]}
        self.moments = self.arrays.adam_init(self.params)
        gradient = jax.vmap(jax.value_and_grad(one.loss, has_aux=True), (0, *(None for _ in self.batch)))
        self.step = jax.jit(gradient).lower(self.params, *self.batch).compile()

    def __call__(self):
        (losses, report), gradient = self.step(self.params, *self.batch)
        if not np.isfinite(losses).all() or np.any(report.failed):
            raise Failed("a member's solve did not end")
        self.arrays.wait(self.update(self.params, gradient, self.moments, 1e-3)[0])


def prepare(name, way, members, threads):
    set_threads(threads)
    framework, data = frameworks.load(name).create(Solver()), load(Data())
    weights = [Mlp().initial_params(2, seed) for seed in members]
    HELD["step"] = (InOneProgram if way == "in one program" else InTurn)(framework, data, weights)
    HELD["step"]()


def block(calls):
    return timed(HELD["step"], calls)


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"prepare": prepare, "block": block})
    rounds, calls = (1, 1) if chosen.quick else (12, 5)
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
                    worker.ask("prepare", limit=LIMIT, **asked)
                ready[label] = functools.partial(at_once, pool, workers[label], calls)
            except Failed as error:
                row["failed"] = str(error)
        blocks, late = alternate(ready, rounds, 120.0)
    for group in workers.values():
        for worker in group:
            worker.__exit__()
    for label, seconds in blocks.items():
        row, first = found[label], blocks[f"{found[label]['name']}, {WAYS[0]}"]
        row["ms"] = spread(value / MEMBERS for value in seconds)
        row["ratio"] = spread(1e-3 * one / other for one, other in zip(first, seconds, strict=False))
        row |= {"failed": late[label]} if label in late else {}
    leave("ensembles", chosen, {"members": MEMBERS, "rows": found}, tables(found), None)


def at_once(pool, workers, calls):
    """Seconds of a training step of all members, each process with its own members."""
    return max(pool.map(lambda worker: worker.ask("block", limit=LIMIT, calls=calls), workers))


def tables(found):
    rows = [
        [row["name"], row["way"], cell(row["ms"]), cell(row["ratio"])]
        if "failed" not in row else [row["name"], row["way"], "failed: " + row["failed"][:80], ""]
        for row in found.values()
    ]  # fmt: skip
    return "\n\n".join([
        f"A training step of {MEMBERS} members, ms for each of them, median (10th to 90th percentile); by how "
        "many times that is faster than one after the other, of pairs:",
        table(["framework", "members", "ms a member", "times faster"], rows),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
