"""What the experiments share: options, problems to solve, and files to leave.

Each experiment is run as `python -m experiments.<name>.run` from the root of the checkout.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pk_event_fit import frameworks, store
from pk_event_fit.compartments import COMPARTMENTS, TYPICAL, rate_matrix
from pk_event_fit.config import Config
from pk_event_fit.data import Cohort
from pk_event_fit.fields import Mlp
from pk_event_fit.provenance import provenance
from pk_event_fit.simulate import Design, Population, simulate
from pk_event_fit.training import descent_step, mean_squared_error

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- written by run.py -->", "<!-- end -->"


def options(description: str, **more: Any) -> argparse.Namespace:
    """The command line that all experiments have; `more` adds flags with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a look that all works, in half a minute")
    parser.add_argument("--out", type=Path, help="folder of the results; the experiment's own where it is left out")
    parser.add_argument("--frameworks", nargs="+", default=frameworks.available())
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name, value in more.items():
        parser.add_argument(f"--{name}", nargs="+", default=value)
    return parser.parse_args()


# Problems


def cohort(subjects: int, dose_times: list[float], end: float, points: int) -> Cohort:
    """Subjects around the typical patient, 100 mg at each time (h), solved exactly; no file is read or written."""
    design = Design(
        dose_times=dose_times,
        dose_amounts=[100.0] * len(dose_times),
        dose_compartments=[1] * len(dose_times),
        end=end,
        points=points,
    )
    made = simulate(Population(subjects=subjects), design)
    return Cohort(
        amounts=made.amounts,
        initial=np.zeros((subjects, 2)),
        intervals=made.schedule.intervals,
        grid=np.linspace(0.0, 1.0, points),
        times=made.times,
        compartments=COMPARTMENTS,
        digest="",
    )


def typical_network(model: Mlp) -> dict[str, np.ndarray]:
    """Weights with which a network of two hidden layers is the typical patient's kinetics exactly, at any width.

    In ReLU, SiLU and softplus a(x) - a(-x) = x: four units of each layer carry the two amounts and their negatives.
    All others are random and end in zeros: they cost time and have gradients, and change nothing.
    """
    params = model.initial_params(2, 0)
    first, second, last = (params[f"weight_{k}"] for k in range(3))
    pair = np.array([[1.0, -1.0]])
    first[:, :4] = np.kron(np.eye(2), pair)
    second[:, :4] = 0
    second[:4, :4] = np.kron(np.eye(2), pair.T @ pair)
    last[:] = 0
    last[:4] = np.kron(rate_matrix(np.array(TYPICAL)).T, pair.T)
    return params


class TrainingStep:
    """One training step, to be taken again and again: its outcome is dropped, so that all steps do the same work."""

    def __init__(self, framework, field, weights, data: Cohort):
        arrays = framework.arrays
        self.framework = framework
        self.params = {name: arrays.asarray(value) for name, value in weights.items()}
        self.moments = arrays.adam_init(self.params)
        self.batch = arrays.asarray(data.initial), arrays.table(data.intervals), arrays.asarray(data.observed)
        self.loss = mean_squared_error(framework, field, data.grid)
        self.step = ahead(descent_step(framework, self.loss, None), self.params, self.moments, 1e-3, *self.batch)

    def __call__(self):
        """The report of the solves."""
        told, (params, _), report = self.framework.guard(self.step, self.params, self.moments, 1e-3, *self.batch)
        _, _, failed = self.framework.arrays.to_numpy(told)
        if failed:
            self.framework.check(report, self.batch[1])
        self.framework.arrays.wait(params)
        return report

    def kept_mb(self) -> float:
        """See `kept_mb`; of Adam's step as well, where that is compiled with the gradient."""
        return kept_mb(self.loss, self.step, self.params, *self.batch)


def ahead(function: Callable, *arguments: Any) -> Callable:
    """A compiled function compiled now, so that it can be asked for its memory; any other as it is."""
    return function.lower(*arguments).compile() if hasattr(function, "lower") else function


def kept_mb(loss: Callable, compiled: Callable, params: dict, *batch: Any) -> float:
    """Memory of a gradient, MB (10^6 bytes): XLA's temporary buffers, or what torch saves for the way back."""
    if hasattr(compiled, "memory_analysis"):
        return compiled.memory_analysis().temp_size_in_bytes / 1e6
    import torch

    saved: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    # The values are held until the end: a storage that is given back could lend its address to another.
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = loss(leaves, *batch)
    flat = [leaf for part in batch for leaf in (part if isinstance(part, tuple) else [part])]
    for given in [*leaves.values(), *flat]:
        if isinstance(given, torch.Tensor):
            saved.pop(given.untyped_storage().data_ptr(), None)
    del held
    return sum(saved.values()) / 1e6


def steps(report, arrays) -> float:
    """Steps tried over all intervals, the mean over subjects where each has its own."""
    counts = (arrays.to_numpy(count).astype(float) for count in (report.accepted, report.rejected))
    return float(sum(count.sum(0).mean() for count in counts))


# Files


def spread(seconds: Iterable[float]) -> dict[str, Any] | None:
    """Median, 10th and 90th percentile in ms, and the blocks themselves; None of nothing."""
    values = [1e3 * value for value in seconds]
    if not values:
        return None
    p10, median, p90 = (float(k) for k in np.percentile(values, [10, 50, 90]))
    return {"median": median, "p10": p10, "p90": p90, "n": len(values), "blocks": values}


def cell(found: dict[str, Any] | None) -> str:
    """`median (p10-p90)` in ms, to three digits."""
    return "" if found is None else f"{digits(found['median'])} ({digits(found['p10'])}-{digits(found['p90'])})"


def digits(value: float) -> str:
    """A number to three digits, never as a power of ten."""
    places = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(places, 6)}f}"


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(value).replace("|", "/") for value in line) + " |" for line in lines)


def hardware() -> str:
    """The machine and the versions, one sentence."""
    found = provenance(Config(), "")
    names = ("jax", "diffrax", "torch", "torchdiffeq", "torchode", "torchdyn")
    packages = ", ".join(f"{name} {found['packages'][name]}" for name in names if name in found["packages"])
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return f"{found['cores']} cores ({found['cpu']}), OMP_NUM_THREADS {threads}, Python {found['python']}, {packages}."


def leave(name: str, chosen: argparse.Namespace, results: dict[str, Any], text: str, figure: Any) -> None:
    """Write `results.json`, `table.md` and the figure, put the table into the README beside them, and print it.

    A quick run writes to `outputs/experiments/<name>`, so that it never takes the place of a measurement.
    """
    own = ROOT / "experiments" / name
    folder = chosen.out or (ROOT / "outputs" / "experiments" / name if chosen.quick else own)
    results = {"schema_version": 1, "quick": chosen.quick, "hardware": hardware(), **results}
    text = f"{text}\n\n{results['hardware']}\n"
    store.write_json(folder / "results.json", _plain(results))
    store.write_text(folder / "table.md", text)
    if figure is not None:
        from experiments.drawing import save

        save(figure, folder)
    readme = folder / "README.md"
    if readme.exists() and BEGIN in (page := readme.read_text()):
        head, rest = page.split(BEGIN, 1)
        store.write_text(readme, f"{head}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    print(f"{text}\n{folder}")


def _plain(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
