"""Explicit and implicit methods on kinetics whose rates lie decades apart. See README.md.

python -m experiments.stiff_field.run [--quick]
"""

from __future__ import annotations

import functools
import math

import numpy as np

from experiments.common import cell, leave, options, spread, steps
from experiments.common import table as markdown
from experiments.drawing import colour, label_ends, panels
from experiments.turns import Failed, Worker, alternate, serve, timed, together
from pk_event_fit import frameworks
from pk_event_fit.compartments import TYPICAL, TwoCompartment, propagators
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.integrate import predict
from pk_event_fit.simulate import Design, Population

MODULE = "experiments.stiff_field.run"
DESIGN = Design(dose_times=[0.0, 12.0], dose_amounts=[100.0, 100.0], dose_compartments=[1, 1], end=24.0, points=25)
SUBJECTS = 10
SLOW = 1e-2  # 1/h, the slow rate of the typical patient here; the fast one is what is varied
SOLVER = {"rtol": 1e-5, "atol": 1e-7}
BLOCK_S = 0.1
HELD: dict = {}


def problem(fast: float):
    """Kinetics `[B, 4]` whose typical rates are 1e-2 and `fast` 1/h, and the intervals with them as covariates.

    Both volumes are 10 L. The compartments exchange at `fast`, and half of what is in both is open to elimination.
    """
    typical = np.array([2 * SLOW * 10, 10.0, fast / 2 * 10, 10.0])
    parameters = Population(subjects=SUBJECTS).draw() / np.array(TYPICAL) * typical
    rows = DESIGN.schedule(SUBJECTS).intervals
    return parameters, rows._replace(covariates=np.broadcast_to(parameters, (len(rows.start), *parameters.shape)))


def exact(parameters, rows):
    """Amounts by the matrix exponential, mg, `[S, K, B, 2]`."""
    state, found = np.zeros((SUBJECTS, 2)), []
    grid = np.linspace(0.0, 1.0, DESIGN.points)
    for k in range(len(rows.start)):
        carried = propagators(parameters, grid * rows.duration[k, 0])
        found.append(np.einsum("bkij,bj->kbi", carried, state + rows.bolus[k]))
        state = found[-1][-1]
    return np.stack(found)


def methods(name):
    return list(frameworks.load(name).methods)


@functools.cache
def solver(name, method):
    framework = frameworks.load(name).create(Solver(method=method, **SOLVER), precision="float64")
    grid = np.linspace(0.0, 1.0, DESIGN.points)
    solve = framework.arrays.compile(
        lambda initial, rows: predict(framework, TwoCompartment(), {}, initial, rows, grid)
    )
    return framework, solve


def prepare(name, method, fast):
    """Error and steps of a solve, which is then held for `block`."""
    framework, solve = solver(name, method)
    arrays, (parameters, rows) = framework.arrays, problem(fast)
    arguments = arrays.asarray(np.zeros((SUBJECTS, 2))), arrays.table(rows)

    def run():
        states, report = framework.guard(solve, *arguments)
        framework.check(report, arguments[1])
        return arrays.wait(states), report

    states, report = run()
    error = abs(arrays.to_numpy(states) - exact(parameters, rows)).max()
    calls = max(1, math.ceil(BLOCK_S / (once := timed(run, 1))))
    HELD[method] = functools.partial(timed, run, calls)
    return {"error_mg": float(error), "steps": steps(report, arrays), "once_s": once}


def block(method):
    return HELD[method]()


def measure(workers, fast, rounds, budget):
    asked = {
        (name, method): functools.partial(worker.ask, "prepare", limit=90, name=name, method=method, fast=fast)
        for (name, method), worker in workers.items()
    }
    answers, failures = together(asked)
    contestants = {
        label: functools.partial(workers[label].ask, "block", limit=60, method=label[1]) for label in answers
    }
    blocks, late = alternate(contestants, rounds, budget)
    rows = []
    for label in workers:
        row = {"framework": label[0], "method": label[1], "fast_per_h": fast, **answers.get(label, {})}
        row |= {"failed": failures.get(label) or late.get(label), "ms": spread(blocks.get(label, []))}
        rows.append(row)
    return rows


def curves(rows):
    found: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        found.setdefault((row["framework"], row["method"]), []).append(row)
    return found


def reason(message: str) -> str:
    """What went wrong, without the advice that follows it."""
    return message.partition(". Try")[0].partition(": ")[2].partition(": ")[2] or message[:100]


def tables(rows, rates):
    header = ["library", "method", *(f"fast rate {rate:g} 1/h" for rate in rates)]

    def body(write, why=False):
        return [
            [*label, *(write(row) if row["ms"] else failure(row, why) for row in line)]
            for label, line in curves(rows).items()
        ]

    return "\n\n".join(
        [
            f"{SUBJECTS} subjects, two doses of 100 mg 12 h apart, slow rate {SLOW:g} 1/h, rtol {SOLVER['rtol']:g}, "
            f"atol {SOLVER['atol']:g}, float64, at most {Solver().max_steps} steps an interval. Time of a solve in ms, "
            "median (10th to 90th percentile of the blocks):",
            markdown(header, body(lambda row: cell(row["ms"]), why=True)),
            "Steps tried in both intervals, the mean over subjects where each has its own; largest error, mg:",
            markdown(header, body(lambda row: f"{row['steps']:,.0f}; {row['error_mg']:.1e}")),
        ]
    )


def failure(row, why):
    """In the first table with its reason."""
    return f"failed: {reason(row['failed'])}" if why else "failed"


def draw(rows, rates):
    figure, ((left, right),) = panels(2, width=6.4)
    ends: dict = {left: [], right: []}
    styles = {"dopri5": "-", "tsit5": "--"}
    ceiling = len(DESIGN.dose_times) * Solver().max_steps
    lost = {}
    for (name, method), line in curves(rows).items():
        held = [row for row in line if row["ms"]]
        look = {"color": colour(name), "ls": styles.get(method, "-."), "marker": "o", "ms": 5, "lw": 2}
        for axis, key in ((left, lambda row: row["steps"]), (right, lambda row: row["ms"]["median"])):
            if held:
                axis.plot([row["fast_per_h"] for row in held], [key(row) for row in held], **look)
                ends[axis].append((held[-1]["fast_per_h"], key(held[-1]), f"{name} {method}", colour(name)))
        for row in line:
            if not row["ms"]:
                lost.setdefault(row["fast_per_h"], []).append(name)
    for rate, names in lost.items():
        for k, name in enumerate(names):  # beside each other, for they all fail at one place
            left.plot(rate * 1.35 ** (k - (len(names) - 1) / 2), ceiling, "x", color=colour(name), ms=8, mew=2.4)
    left.axhline(ceiling, color="#555555", lw=1, ls=":")
    left.annotate(
        f"limit: {Solver().max_steps:,} steps in each interval; x failed", (rates[0], ceiling), xytext=(0, -14),
        textcoords="offset points", fontsize=9.5, color="#555555",
    )  # fmt: skip
    for axis in (left, right):
        axis.set(xscale="log", yscale="log", xlabel="fast rate (1/h)", xlim=(rates[0] / 1.6, rates[-1] * 5))
    left.set(ylabel="steps tried", title="Steps")
    right.set(ylabel="time of a solve (ms)", title="Time")
    for axis in (left, right):
        label_ends(axis, ends[axis])
    return figure


def main():
    chosen = options(__doc__)
    if chosen.worker:
        return serve({"methods": methods, "prepare": prepare, "block": block})
    rates = [1.0, 1e4] if chosen.quick else [1.0, 10.0, 100.0, 1e3, 1e4]
    rounds, budget = (1, 1.0) if chosen.quick else (5, 8.0)
    workers, rows = {}, []
    for name in chosen.frameworks:
        worker = Worker(MODULE)
        try:
            found = worker.ask("methods", name=name)
        except Failed:
            found = ["dopri5"]  # whatever it is will be told again, and in the table
        workers |= {(name, method): worker for method in found}
    for rate in rates:
        rows += measure(workers, rate, rounds, budget)
    for worker in set(workers.values()):
        worker.__exit__()
    results = {"slow_per_h": SLOW, "subjects": SUBJECTS, **SOLVER, "max_steps": Solver().max_steps, "rows": rows}
    leave("stiff_field", chosen, results, tables(rows, rates), draw(rows, rates))


if __name__ == "__main__":
    main()
