"""What dosing histories cost: building their table, ragged batches, and ten thousand doses. See README.md.

python -m experiments.events.run [--quick]
"""

from __future__ import annotations

import functools
import time

import numpy as np

from experiments.common import cell, digits, leave, options, spread, table, typical_network
from experiments.drawing import NullLocator, colour, label_ends, panels, plain_numbers
from experiments.turns import Worker, alternate, serve, timed, together
from pk_event_fit import frameworks
from pk_event_fit.dosing import schedule
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.integrate import predict
from pk_event_fit.metrics.performance import rss_mb, rss_peak_mb
from pk_event_fit.records import Records

MODULE = "experiments.events.run"
LIMIT = 300.0  # seconds for what a worker is asked once
DOSES, SEEN = 20, 8  # of the longest history in a ragged batch; observations of each subject
BATCHES = ("longest", "ragged", "sparse")
HELD: dict = {}


def rows(counts, *, observations=0, span=12.0, additional=False, seen_for=None) -> Records:
    """So many doses of 100 mg for each subject, `span` h apart, as rows of their own or as ADDL; and observations.

    Observations lie at random, each subject's its own, within `seen_for` intervals of `span` h of each subject, or as
    many as it has doses.
    """
    rng = np.random.default_rng(1)
    subjects, lasting = np.arange(len(counts)), span * np.asarray(counts if seen_for is None else seen_for)
    dosed = subjects if additional else np.repeat(subjects, counts)
    number = np.arange(len(dosed)) - np.repeat(np.cumsum(counts) - counts, counts) if not additional else 0 * subjects
    seen = np.repeat(subjects, observations)
    subject = np.concatenate([dosed, seen])
    moment = np.concatenate([span * number, rng.uniform(0, lasting[seen])])
    order = np.lexsort((moment, subject))
    gives = (np.arange(len(subject)) < len(dosed))[order]
    more = np.concatenate([np.asarray(counts) - 1, 0 * seen])[order] if additional else np.zeros(len(order), np.int64)
    nothing = np.zeros(len(order))
    return Records(
        subject=subject[order], time=moment[order], kind=gives.astype(np.int64), amount=100.0 * gives,
        compartment=np.ones(len(order)), rate=nothing, additional=more, interval=span * (more > 0),
        steady=nothing.astype(np.int64), observed=np.where(gives, np.nan, 1.0), used=~gives,
    )  # fmt: skip


def build(subjects, doses, additional):
    """Seconds to build the table of a cohort, and its rows."""
    counts = np.full(subjects, doses)
    records = rows(counts, observations=0, additional=additional)
    began = time.perf_counter()
    made = schedule(records, compartments=2, end=12.0 * doses)
    return {"seconds": time.perf_counter() - began, "intervals": int(made.intervals.duration.size)}


def ragged(name, subjects, kind):
    """Prepare a training step on subjects with 20 doses each (`longest`), or with 1 to 20 (the others).

    In `ragged` a subject is seen for as long as it is dosed; in `sparse` for as long as those with 20 doses, so that
    some intervals are 20 times as long as others.
    """
    from pk_event_fit.training import gradient_step, mean_squared_error

    counts = np.random.default_rng(2).integers(1, DOSES + 1, subjects)
    counts = np.full(subjects, DOSES) if kind == "longest" else np.maximum(counts, [DOSES, *[1] * (subjects - 1)])
    lasting = np.full(subjects, DOSES) if kind == "sparse" else counts
    planned = schedule(rows(counts, observations=SEEN, seen_for=lasting), compartments=2, end=12.0 * lasting)
    framework, model = frameworks.load(name).create(Solver()), Mlp()
    arrays = framework.arrays
    params = {key: arrays.asarray(value) for key, value in typical_network(model).items()}
    table_, where = arrays.table(planned.intervals), planned.reports
    weights = np.zeros((*planned.intervals.points.shape, 2))
    weights[where.interval, where.point, where.subject, 0] = 1.0
    initial, weights = arrays.asarray(np.zeros((subjects, 2))), arrays.asarray(weights)
    loss = mean_squared_error(framework, model, np.array([0.0, 1.0]))
    step = gradient_step(framework, loss, None)

    def once():
        value, norm, _, report = framework.guard(step, params, initial, table_, 0 * weights, None, weights)
        float(value), float(norm)
        framework.check(report, table_)

    once()
    HELD["step"] = once
    return {"intervals": list(planned.intervals.duration.shape), "points": planned.intervals.points.shape[1]}


def block():
    return timed(HELD["step"], 1)


def long(name, doses):
    """Seconds of a forward solve of one subject, the second one where the library compiles, and memory above before."""
    planned = schedule(rows([doses]), compartments=2, end=12.0 * doses)
    framework, model = frameworks.load(name).create(Solver()), Mlp()
    arrays = framework.arrays
    params = {key: arrays.asarray(value) for key, value in typical_network(model).items()}
    table_, initial = arrays.table(planned.intervals), arrays.asarray(np.zeros((1, 2)))
    solve = arrays.compile(lambda p, y, rows: predict(framework, model, p, y, rows))
    before = rss_mb()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        with _no_gradient(name):
            framework.check(arrays.wait(solve(params, initial, table_))[1], table_)
        seconds.append(time.perf_counter() - began)
        if name != "diffrax" and seconds[-1] > 30:
            break  # nothing is compiled: the second is as the first
    peak = rss_peak_mb()
    return {"seconds": min(seconds), "above_mb": peak - before if peak and before else None}


def _no_gradient(name):
    import contextlib

    if name == "diffrax":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"build": build, "ragged": ragged, "block": block, "long": long})
    quick = chosen.quick
    sizes = [10, 100] if quick else [100, 1000, 10_000]
    builds = []
    with Worker(MODULE) as worker:
        for additional in (False, True):
            for subjects in sizes:
                found = [worker.ask("build", subjects=subjects, doses=100, additional=additional) for _ in range(5)]
                builds.append({"subjects": subjects, "additional": additional, "intervals": found[0]["intervals"],
                               "ms": spread(one["seconds"] for one in found[1:])})  # fmt: skip
    batches = measure_ragged(chosen.frameworks, 20 if quick else 1000, 1 if quick else 5)
    counts = [10, 30] if quick else [100, 1000, 10_000]
    solves = []
    for name in chosen.frameworks:
        for doses in counts:
            with Worker(MODULE) as worker:
                ask = functools.partial(worker.ask, "long", limit=LIMIT, name=name, doses=doses)
                answers, failures = together({0: ask})
            solves.append({"framework": name, "doses": doses, **answers.get(0, {}), "failed": failures.get(0)})
    results = {"builds": builds, "ragged": batches, "solves": solves, "counts": counts}
    leave("events", chosen, results, tables(results), draw(results))


def measure_ragged(names, subjects, rounds):
    """The three batches of one library in turn."""
    found = []
    for name in names:
        workers = {kind: Worker(MODULE) for kind in BATCHES}
        problem = {"name": name, "subjects": subjects}
        answers, failures = together({
            kind: functools.partial(worker.ask, "ragged", limit=LIMIT, kind=kind, **problem)
            for kind, worker in workers.items()
        })  # fmt: skip
        blocks, late = alternate(
            {kind: functools.partial(workers[kind].ask, "block", limit=LIMIT) for kind in answers}, rounds, 120.0
        )
        for worker in workers.values():
            worker.__exit__()
        row = {"framework": name, "subjects": subjects, "failed": failures or late or None}
        row |= {kind: spread(blocks.get(kind, [])) for kind in workers}
        for kind in BATCHES[1:]:
            if row[kind] and row["longest"]:
                pairs = zip(row[kind]["blocks"], row["longest"]["blocks"], strict=False)
                row[f"{kind}_ratio"] = spread([1e-3 * one / other for one, other in pairs])
        found.append(row | {f"{kind}_size": answers.get(kind) for kind in workers})
    return found


def tables(results):
    built = [
        [f"{row['subjects']:,}", "ADDL 99" if row["additional"] else "100 rows", f"{row['intervals']:,}",
         cell(row["ms"]), digits(1e6 * row["ms"]["median"] / row["intervals"])]
        for row in results["builds"]
    ]  # fmt: skip
    batches = [
        [row["framework"], *(cell(row[kind]) for kind in BATCHES),
         *(cell(row.get(f"{kind}_ratio")) for kind in BATCHES[1:])]
        for row in results["ragged"]
    ]  # fmt: skip
    lines = {}
    for row in results["solves"]:
        told = "failed" if row["failed"] else f"{digits(row['seconds'])} / {digits(row['above_mb'] or 0)}"
        lines.setdefault(row["framework"], []).append(told)
    counts = [f"{count:,} doses" for count in results["counts"]]
    return "\n\n".join([
        "Building the table, 100 doses a subject, median (10th to 90th percentile) in ms, and ns an interval:",
        table(["subjects", "written as", "intervals", "ms", "ns an interval"], built),
        f"A training step of {results['ragged'][0]['subjects']:,} subjects with {SEEN} observations each, in ms. "
        f"Longest: {DOSES} doses 12 h apart for all. Ragged: 1 to {DOSES}, seen for as long as dosed. Sparse: the same "
        "doses, all seen for as long as the longest. Ratios to the longest are of pairs:",
        table(["library", *BATCHES, "ragged / longest", "sparse / longest"], batches),
        "A forward solve of one subject, s / memory above the start, MB:",
        table(["library", *counts], [[name, *line] for name, line in lines.items()]),
    ])  # fmt: skip


def draw(results):
    figure, ((left, right),) = panels(2)
    for additional, name in ((False, "rows of their own"), (True, "ADDL")):
        line = [row for row in results["builds"] if row["additional"] == additional]
        left.plot([row["intervals"] for row in line], [row["ms"]["median"] / 1e3 for row in line], marker="o",
                  label=name, color="#0072B2" if additional else "#D55E00")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="intervals", ylabel="time to build the table (s)", title="Table")
    left.legend(frameon=False)
    plain_numbers(left)
    ends = []
    for name in dict.fromkeys(row["framework"] for row in results["solves"]):
        line = [row for row in results["solves"] if row["framework"] == name and not row["failed"]]
        if line:
            x, y = [row["doses"] for row in line], [row["seconds"] for row in line]
            right.plot(x, y, marker="o", color=colour(name))
            ends.append((x[-1], y[-1], name, colour(name)))
    right.set(xscale="log", yscale="log", xlabel="doses of one subject", ylabel="time of a forward solve (s)")
    right.set_title("Long histories")
    right.xaxis.set_minor_locator(NullLocator())
    plain_numbers(right)
    label_ends(right, ends)
    return figure


if __name__ == "__main__":
    main()
