"""What the fused engine is worth: against each library, and against the arithmetic that there is. See README.md.

python -m experiments.fused_engine.run [--quick] [--only training cycles steady programs grown]

`--only` measures some parts again; the others stay as they are in results.json.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path

import numpy as np

from experiments.common import cell, digits, leave, options, spread, table
from experiments.drawing import colour, panels, plain_numbers
from experiments.fused_engine import contestants
from experiments.turns import Failed, Worker, alternate, serve, timed
from pk_event_fit.fields import Mlp
from pk_event_fit.metrics.performance import rss_mb, rss_peak_mb

MODULE = "experiments.fused_engine.run"
RESULTS = Path(__file__).parent / "results.json"
LIMIT = 300.0  # seconds for what a worker is asked once
CALLS = 20  # solves of a block of Van der Pol, which take a few milliseconds
CYCLES = ("fused", "diffrax", "torchdyn", "torchdiffeq", "torchode")
HELD: dict = {}


def imported(name):
    """Everything that a contestant imports, before its memory is looked at."""
    import jax  # noqa: F401

    if name in ("fused", "diffrax", "bare"):
        import diffrax  # noqa: F401
        import optax  # noqa: F401
    else:
        import torch  # noqa: F401

        __import__("torchdyn.numerics" if name == "torchdyn" else name)


def prepare(label, calls):
    """The first training step, by how much it took longer than later ones, and memory above that of the imports."""
    name, own = contestants.TRAINING[label]
    if label.endswith("lean"):
        os.environ["XLA_FLAGS"] = contestants.LEAN  # read when JAX first sees its devices
    imported(name)
    before = rss_mb()
    step, steps = contestants.training(name, own)
    began = time.perf_counter()
    step()
    first = time.perf_counter() - began
    later = [timed(step, 1) for _ in range(calls)]
    HELD.update(step=step, steps=steps, counts=[])
    return {"compile_s": first - float(np.median(later)), "above_mb": rss_peak_mb() - before}


def cycle(name, batch):
    solve = contestants.van_der_pol(name, batch)
    solve()
    HELD.update(step=solve, steps=solve, counts=[])
    return {}


def block(calls):
    timed(HELD["step"], calls)  # not counted: after a rest, while others are measured, all take longer at first
    seconds = timed(HELD["step"], calls)
    HELD["counts"].append(HELD["steps"]())
    return seconds


def counted():
    """Steps of a call, and what else is counted: medians over blocks, since they change while a network learns."""
    return np.atleast_1d(np.median(HELD["counts"], axis=0)).tolist()


def program(name, forward=False):
    """What the compiler makes of a gradient of the default problem, or of its loss alone, and what it takes for it."""
    from pk_event_fit import frameworks
    from pk_event_fit.data import Data, batch_of, load
    from pk_event_fit.frameworks.base import Solver
    from pk_event_fit.training import gradient_step, mean_squared_error

    imported(name)
    framework, data = frameworks.load(name).create(Solver()), load(Data())
    params = {key: framework.arrays.asarray(value) for key, value in Mlp().initial_params(2, 0).items()}
    batch = batch_of(framework.arrays, data, None)
    loss = mean_squared_error(framework, Mlp(), data.grid)
    step = framework.arrays.compile(loss) if forward else gradient_step(framework, loss, None)
    found, before = [time.perf_counter()], rss_peak_mb()
    lowered = step.lower(params, *batch[:3])
    found.append(time.perf_counter())
    compiled = lowered.compile()
    found.append(time.perf_counter())
    return {
        "trace_s": found[1] - found[0],
        "compile_s": found[2] - found[1],
        "kernels": compiled.as_text().count(" fusion("),
        "compiler_mb": rss_peak_mb() - before,
        "buffers_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
    }


def grow(subjects, doses, gradient):
    before = rss_mb()
    step = contestants.growing(subjects, doses, gradient)
    step()
    return {"seconds": min(timed(step, 1) for _ in range(3)), "above_mb": rss_peak_mb() - before}


def products(seconds):
    return contestants.products(seconds)


def main():
    chosen = options(__doc__, only=())
    if chosen.worker:
        return serve(
            {
                "prepare": prepare,
                "cycle": cycle,
                "block": block,
                "counted": counted,
                "grow": grow,
                "products": products,
                "program": program,
            }
        )
    quick = chosen.quick
    rounds, calls = (2, 2) if quick else (12, 10)
    parts = {
        "training": lambda: measure(
            {label: ("prepare", {"label": label, "calls": calls}) for label in contestants.TRAINING},
            rounds, calls, "fused, 2 shards",
        ),
        "cycles": lambda: measure(
            {name: ("cycle", {"name": name, "batch": 8 if quick else 256}) for name in CYCLES},
            rounds, 1 if quick else CALLS, "fused",
        ),
        "steady": lambda: steady(rounds, 3 * calls, 0.1 if quick else 0.5),
        "programs": programs,
        "grown": lambda: growth(quick),
    }  # fmt: skip
    before = json.loads(RESULTS.read_text()) if chosen.only else {}
    if unknown := set(chosen.only) - set(parts):
        raise SystemExit(f"--only: {', '.join(sorted(unknown))}: choose of {', '.join(parts)}")
    results = {name: part() if name in (chosen.only or parts) else before[name] for name, part in parts.items()}
    leave("fused_engine", chosen, results, tables(results), draw(results))


def measure(asked, rounds, calls, reference):
    """Contestants prepared one after the other, each in a process of its own; then blocks of all in turn."""
    workers = {label: Worker(MODULE) for label in asked}
    found, ready = {}, {}
    for label, (task, arguments) in asked.items():
        try:
            found[label] = workers[label].ask(task, limit=LIMIT, **arguments)
            ready[label] = functools.partial(workers[label].ask, "block", limit=LIMIT, calls=calls)
        except Failed as error:
            found[label] = {"failed": str(error)}
    blocks, late = alternate(ready, rounds, 120.0)
    for label in blocks:
        found[label] |= dict(zip(("steps", "tried"), workers[label].ask("counted", limit=LIMIT), strict=False))
    for worker in workers.values():
        worker.__exit__()
    for label, seconds in blocks.items():
        found[label]["ms"] = spread(seconds)
        pairs = zip(seconds, blocks[reference], strict=False)
        found[label]["ratio"] = spread([1e-3 * one / other for one, other in pairs])
        found[label] |= {"failed": late[label]} if label in late else {}
    return found


def steady(rounds, calls, seconds):
    """Training steps, and products alone on both cores, in turn: the machine is not as fast at all times.

    Returns:
        Time of a step, FLOP/s of the products, and what the step's arithmetic is of that: medians of pairs.
    """
    from concurrent.futures import ThreadPoolExecutor

    pairs = []
    with Worker(MODULE) as worker, Worker(MODULE) as one, Worker(MODULE) as other, ThreadPoolExecutor(2) as pool:
        worker.ask("prepare", limit=LIMIT, label="fused, 2 shards", calls=calls)
        for _ in range(rounds):
            time_of_step = worker.ask("block", limit=LIMIT, calls=calls)
            found = pool.map(lambda core: core.ask("products", limit=LIMIT, seconds=seconds), (one, other))
            pairs.append((time_of_step, sum(found)))
        steps, tried = worker.ask("counted", limit=LIMIT)
    work = contestants.flops(steps, Mlp())
    times, rates = zip(*pairs, strict=True)
    return {
        "ms": spread(times), "steps": steps, "tried": tried, "products": float(np.median(rates)),
        "share": spread(1e-3 * work / time_of_step / rate for time_of_step, rate in pairs),
    }  # fmt: skip


def programs():
    found = {}
    for name in ("fused", "diffrax"):
        for label, forward in ((name, False), (f"{name}, the loss alone", True)):
            with Worker(MODULE) as worker:
                found[label] = worker.ask("program", limit=LIMIT, name=name, forward=forward)
    return found


def growth(quick):
    sizes = [(100, 4), (1000, 4), (100, 8)] if quick else [(10**k, 4) for k in (2, 3, 4, 5)]
    sizes += [] if quick else [(100, 10), (100, 100), (100, 1000)]
    found = []
    for gradient in ("direct", "adjoint"):
        for subjects, doses in sizes:
            row = {"subjects": subjects, "doses": doses, "gradient": gradient}
            with Worker(MODULE) as worker:
                try:
                    row |= worker.ask("grow", limit=LIMIT, **row)
                except Failed as error:
                    row["failed"] = str(error)
            found.append(row)
    return found


def against(results):
    """What was asked of the engine, and what was measured."""
    rows, cycles = results["training"], results["cycles"]
    best, lean = rows["fused, 2 shards"], rows["fused, 2 shards, lean"]
    quickest = best_of_diffrax(rows)
    plain = rows["diffrax, as it comes"]
    share, turns = results["steady"]["share"], rate_of(best, results["steady"]["products"])

    def step(name):
        return cycles[name]["ms"]["median"] / cycles[name]["steps"]

    def three(values):
        return ", ".join(map(digits, values))

    lines = [
        [f"training step, against Diffrax's best ({quickest})", "8", digits(rows[quickest]["ratio"]["median"])],
        ["against torchode, torchdiffeq, TorchDyn", "12, 20, 20",
         three(rows[name]["ratio"]["median"] for name in ("torchode", "torchdiffeq", "torchdyn"))],
        ["compiling, Diffrax's first step longer by so many times as the engine's (lean)", "3",
         f"{digits(plain['compile_s'] / best['compile_s'])} ({digits(plain['compile_s'] / lean['compile_s'])})"],
        ["memory above imports, the engine's (lean) as a part of Diffrax's", "half",
         f"{digits(best['above_mb'] / plain['above_mb'])} ({digits(lean['above_mb'] / plain['above_mb'])})"],
        ["arithmetic, of what products of 100 x 64 with 64 x 64 reach: in turn with them (with other rows)", "35 %",
         f"{digits(100 * share['median'])} % ({digits(100 * turns)} %)"],
        *(
            [f"exponent of time, {gradient}: 100 to 100,000 subjects, 4 to 1,000 doses", "1.05 at most",
             three(exponent(results["grown"], gradient, key) for key in ("subjects", "doses"))]
            for gradient in ("direct", "adjoint")
        ),
        ["Van der Pol, ms a step: Diffrax, TorchDyn, torchdiffeq, torchode", "1.5, 10, 12, 20",
         three(step(name) / step("fused") for name in ("diffrax", "torchdyn", "torchdiffeq", "torchode"))],
    ]  # fmt: skip
    return table(["what", "asked", "measured"], lines)


def best_of_diffrax(rows):
    """The label of its row that the engine is least ahead of."""
    others = [label for label, row in rows.items() if label.startswith("diffrax") and "ms" in row]
    return min(others, key=lambda label: rows[label]["ratio"]["median"])


def rate_of(row, products):
    """Arithmetic of steps that were kept, as a part of what products alone reach, FLOP/s."""
    return contestants.flops(row["steps"], Mlp()) / (1e-3 * row["ms"]["median"]) / products


def products_of(rows):
    """What the products of the engine's steps take in JAX, ms: of those that are kept, and of all.

    A step in vain is tried forward only, a third of one that is kept.
    """
    alone, best = rows["the products alone"], rows["fused, 2 shards"]
    kept = alone["ms"]["median"] * best["steps"] / alone["steps"]
    return kept, kept * (1 + (best["tried"] / best["steps"] - 1) / 3)


def exponent(grown, gradient, key):
    """Of time, from the least to the most of something that grows, all else at its least."""
    other = {"subjects": "doses", "doses": "subjects"}[key]
    least = min(row[other] for row in grown)
    line = [row for row in grown if row["gradient"] == gradient and row[other] == least and "seconds" in row]
    first, last = (end(line, key=lambda row: row[key]) for end in (min, max))
    return float(np.log(last["seconds"] / first["seconds"]) / np.log(last[key] / first[key]))


def tables(results):
    rows, steady = results["training"], results["steady"]
    training = [
        [label, cell(row.get("ms")), cell(row.get("ratio")), digits(row["compile_s"]), digits(row["above_mb"]),
         f"{row['steps']:,.0f}"]
        if "failed" not in row else [label, "failed: " + row["failed"][:60], "", "", "", ""]
        for label, row in rows.items()
    ]  # fmt: skip
    work = contestants.flops(steady["steps"], Mlp())
    percent = {key: 100 * steady["share"][key] for key in ("median", "p10", "p90")}
    least, most = products_of(rows)
    done = contestants.flops(steady["steps"], Mlp(), steady["tried"])
    other = rows[best_of_diffrax(rows)]["ms"]["median"]
    cycles = [
        [name, cell(row.get("ms")), digits(row["ms"]["median"] / row["steps"]), f"{row['steps']:.0f}",
         digits(row["ms"]["median"] / row["steps"] / (results["cycles"]["fused"]["ms"]["median"]
                                                      / results["cycles"]["fused"]["steps"]))]
        if "failed" not in row else [name, "failed", "", "", ""]
        for name, row in results["cycles"].items()
    ]  # fmt: skip
    grown = [
        [row["gradient"], f"{row['subjects']:,}", f"{row['doses']:,}",
         *([digits(row["seconds"]), digits(row["above_mb"])] if "failed" not in row else ["failed", ""])]
        for row in results["grown"]
    ]  # fmt: skip
    return "\n\n".join([
        against(results),
        "A training step of the default problem, median (10th to 90th percentile); ratios to `fused, 2 shards` are of "
        "pairs; steps are of all subjects, in libraries that say so those that were kept:",
        table(["", "ms", "ratio", "first step longer by, s", "memory above imports, MB", "steps"], training),
        f"In turn with such products alone, the engine's step takes {cell(steady['ms'])} ms. It is "
        f"{digits(work / 1e6)} MFLOP, and products of 100 x 64 with 64 x 64 reach "
        f"{digits(steady['products'] / 1e9)} GFLOP/s on both cores: {cell(percent)} % of that, by pairs. With steps "
        f"tried in vain, and the field evaluated once more on the way back, it is at least {digits(done / 1e6)} MFLOP: "
        f"{digits(1e3 * done / steady['products'])} ms at the rate of those products. An eighth of what Diffrax's best "
        f"row takes, in turn with the others, is {digits(other / 8)} ms.",
        f"The products of the steps that are kept, in the same compiler on the same devices, take {digits(least)} ms "
        f"in turn with the rows above, with those of steps tried in vain {digits(most)} ms: a step that were nothing "
        f"else would be {digits(other / most)} times as fast as Diffrax's best row.",
        "What compiling a gradient takes, or the loss alone, through the package (kernels: fusions of the compiled "
        "program; buffers: what the program itself needs):",
        table(["", "traced, s", "compiled, s", "kernels", "ms a kernel", "memory of the compiler, MB", "buffers, MB"], [
            [name, digits(row["trace_s"]), digits(row["compile_s"]), f"{row['kernels']}",
             digits(1e3 * row["compile_s"] / row["kernels"]), digits(row["compiler_mb"]), digits(row["buffers_mb"])]
            for name, row in results["programs"].items()
        ]),
        "Van der Pol, one cycle; ms a solve, ms a step of the loop, steps, and ms a step against the engine's:",
        table(["", "ms a solve", "ms a step", "steps", "ratio"], cycles),
        "A gradient of the engine, 5 report points an interval:",
        table(["gradient", "subjects", "doses", "s", "memory above the start, MB"], grown),
    ])  # fmt: skip


def draw(results):
    figure, ((left, right),) = panels(2)
    for gradient, style in (("direct", "-"), ("adjoint", "--")):
        for axis, key, other in ((left, "subjects", ("doses", 4)), (right, "doses", ("subjects", 100))):
            line = [row for row in results["grown"] if row["gradient"] == gradient and "failed" not in row
                    and row[other[0]] == other[1]]  # fmt: skip
            axis.plot([row[key] for row in line], [row["seconds"] for row in line], style, marker="o",
                      label=gradient, color=colour("fused"))  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="subjects, 4 doses each", ylabel="time of a gradient (s)")
    right.set(xscale="log", yscale="log", xlabel="doses of each of 100 subjects", ylabel="time of a gradient (s)")
    left.legend(frameon=False)
    for axis in (left, right):
        plain_numbers(axis)
    return figure


if __name__ == "__main__":
    main()
