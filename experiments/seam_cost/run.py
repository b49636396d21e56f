"""Times one training step through the package against the same library used by hand. See README.md.

python experiments/seam_cost/run.py --pairs 30 [framework ...]
"""

import argparse
import os
import platform
import time
from importlib.metadata import version

import direct
import numpy as np

from pk_event_fit.data import Data, load
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks import load as framework_class
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.training import Training, fit, start

ITERATIONS = 1_000_000  # never reached: a fit is advanced by hand


def through_the_package(name, cohort, weights, solver):
    framework = framework_class(name).create(solver)
    progress = iter(fit(framework, Mlp(), cohort, Training(iterations=ITERATIONS), start(framework, weights), seed=0))
    last = [None]

    def train():
        last[0] = next(progress)
        return last[0].loss

    def steps():
        report = last[0].report
        return float(sum(np.asarray(k).sum(0).mean() for k in (report.accepted, report.rejected)))

    return train, steps


def alternate(package, by_hand, pairs):
    """Seconds of each, in pairs whose order alternates; the first three are a warm-up and not counted."""
    seconds = {package: [], by_hand: []}
    for k in range(pairs + 3):
        for train in (package, by_hand) if k % 2 else (by_hand, package):
            began = time.perf_counter()
            train()
            seconds[train].append(time.perf_counter() - began)
    return np.array(seconds[package][3:]), np.array(seconds[by_hand][3:])


def bootstrap(ratios, draws=10_000):
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (draws, len(ratios))), axis=1)
    return np.percentile(medians, [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--data", default=None, help="npz to fit; the simulated cohort where it is left out")
    parser.add_argument("frameworks", nargs="*", default=["diffrax", "torchdiffeq", "torchode", "torchdyn"])
    options = parser.parse_args()
    cohort = load(Data(source="file", path=options.data) if options.data else Data())
    solver, weights = Solver(), Mlp().initial_params(2, 0)
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    problem = (
        weights,
        cohort.amounts.astype(np.float32),
        cohort.intervals.bolus[:, 0, 0].astype(np.float32),
        float(cohort.intervals.duration[0, 0]),
        solver.rtol,
        solver.atol,
    )
    print("| library | by hand | package, ms | by hand, ms | ratio of medians | paired ratio, median [95 %] | steps |")
    print("|---|---|---|---|---|---|---|")
    for name in options.frameworks:
        variants = {"as it comes": {}}
        if name in ("torchdiffeq", "torchdyn"):
            variants["every subject's tolerance held"] = {"guarded": True}
        for label, extra in variants.items():
            package, package_steps = through_the_package(name, cohort, weights, solver)
            by_hand, hand_steps = getattr(direct, name)(*problem, **extra)
            a, b = alternate(package, by_hand, options.pairs)
            low, high = bootstrap(a / b)
            cells = [_cell(1e3 * a), _cell(1e3 * b), f"{np.median(a) / np.median(b):.3f}"]
            cells.append(f"{np.median(a / b):.3f} [{low:.3f}, {high:.3f}]")
            print(
                f"| {name} | {label} | {' | '.join(cells)} | {package_steps():.1f} / {hand_steps():.1f} |", flush=True
            )
    names = ("jax", "diffrax", "torch", "torchdiffeq", "torchode", "torchdyn")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(f"\n{options.pairs} pairs; Dopri5, rtol {solver.rtol}, atol {solver.atol}, float32, {len(cohort.amounts)}")
    print(f"subjects; OMP_NUM_THREADS {threads}, {os.cpu_count()} cores, {platform.machine()}, Python")
    print(f"{platform.python_version()}; {', '.join(f'{name} {version(name)}' for name in names)}.")


def _cell(milliseconds):
    low, median, high = np.percentile(milliseconds, [10, 50, 90])
    return f"{median:.1f} ({low:.1f}-{high:.1f})"


if __name__ == "__main__":
    main()
