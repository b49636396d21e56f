"""Whether a fit repeats to the bit, and what threads and precision change: a few steps, each in a fresh process."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import store
from ..errors import TrainingFailure
from ..metrics.reproducibility import bitwise, drift
from ..study import take_turns
from .bench import Bench

THREADS = (1, 2)


def probe(bench: Bench):
    """Four fits: twice the same, then with another number of threads, then in the other precision."""
    yield
    config = asdict(bench.config)
    base = {"threads": THREADS[1]}
    other = "float64" if bench.config.accelerator.precision == "float32" else "float32"
    settings: dict[str, dict[str, Any]] = {"once": base, "again": base, "one_thread": {"threads": THREADS[0]}}
    if other == "float64":  # a tolerance that needs float64 has no float32 to compare with
        settings[other] = {**base, "precision": other}
    fits = {}
    for name, accelerator in settings.items():
        fits[name] = _fit(bench, config, name, accelerator)
        yield
    return {
        "iterations": bench.config.study.iterations,
        "again": _compare(fits["once"], fits["again"]),
        "threads": {"counts": list(THREADS), **_compare(fits["once"], fits["one_thread"])},
        "precision": _compare(fits["once"], fits[other]) if other in fits else None,
    }


def _fit(bench: Bench, config: dict[str, Any], name: str, accelerator: dict[str, Any]) -> dict[str, Any]:
    folder = bench.out.with_suffix("")
    folder.mkdir(exist_ok=True)
    out = folder / f"{name}.json"
    out.unlink(missing_ok=True)  # one from before would pass for new, were the fit to be killed
    order = {**bench.order, "probe": "train", "out": str(out)}
    order["config"] = {**config, "accelerator": {**config["accelerator"], **accelerator}}
    take_turns([order])
    told = json.loads(Path(out).read_text())
    if told["status"] != "completed":
        raise TrainingFailure(f"{name}: {told['error']['message']}")
    arrays, _ = store.read_npz(out.with_suffix(".npz"))
    return {**told, "arrays": arrays}


def _compare(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    apart = drift(one["arrays"]["predicted"], two["arrays"]["predicted"])
    same = one["weights_digest"] == two["weights_digest"] and bitwise(
        one["arrays"]["predicted"], two["arrays"]["predicted"]
    )
    return {**apart, "bitwise": same, "loss_difference": abs(two["loss"] / one["loss"] - 1)}
