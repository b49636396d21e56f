"""What was measured in a sweep, as series: values of one quantity of one variant, and the files they came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import store
from ..errors import DataError
from ..metrics.reproducibility import drift
from ..metrics.stability import consistency
from .sweep import Run, Sweep

FIT, MODES, PASSES = "fit", ("direct", "direct_few", "adjoint"), ("forward", "gradient")
TREATED = {"restart": "restarted at the dose", "jump_ts": "told of the jump", "nothing": "told nothing"}
TREATMENTS = tuple(TREATED)
FIELDS, COMPARTMENTS = ("true", "learned"), ("central", "peripheral")
PERFORMANCE, STABILITY, ACCURACY, REPRODUCIBILITY = "performance", "stability", "accuracy", "reproducibility"
PERCENTILES = ("median", "p10", "p90")
COUNTS = ("accepted", "rejected", "evaluations", "points")
NOISE = "noise_mg2"
STABLE = {
    "jump_mg": "mg", "jump_error_mg": "mg", "jump_error_max_mg": "mg", "overshoot_percent_mean": "%",
    "overshoot_percent_max": "%", "oscillation_mg": "mg", NOISE: "mg²", "steps_after_dose": "steps",
    "steps_total": "steps", "error_max_mg": "mg", "error_rms_mg": "mg", "missed": "1 is yes",
}  # fmt: skip
PEAKS = ("time_to_peak_h", "time_to_peak_exact_h")


class Series(NamedTuple):
    """Values of one quantity.

    Attributes:
        variant: Of whom.
        dimension: `performance`, `stability`, `accuracy` or `reproducibility`.
        metric: Of what.
        detail: In what case; empty where there is one only.
        unit: Its unit; 1 for a ratio.
        values: By round or seed, or one value at 0.
        per: `round`; `seed`; `once` for what is computed, and would come out the same again; `single` for what chance
            had a hand in, and was measured once.
        sources: By round or seed, the file of the sweep, or several.
    """

    variant: str
    dimension: str
    metric: str
    detail: str
    unit: str
    values: dict[int, float]
    per: str
    sources: dict[int, str]


def number(value: Any) -> float | None:
    """A finite number, a truth value as 1 or 0, and None for whatever else a file holds there."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return value
    return None


def inside(content: Any, *path: str | int) -> Any:
    """What lies at a path of keys in nested JSON; None where there is no such place."""
    for key in path:
        if isinstance(content, dict) and key in content:
            content = content[key]
        elif isinstance(content, list) and isinstance(key, int) and -len(content) <= key < len(content):
            content = content[key]
        else:
            return None
    return content


def collect(sweep: Sweep) -> tuple[list[Series], list[str]]:
    """Every series of a sweep, and what was wrong with files of arrays."""
    series, problems = list(_runs(sweep.runs)), []
    readers = {"speed": _speed, "precision": _precision, "stability": _stability, "repeat": _repeat}
    for probe, read in readers.items():
        for variant, content in sweep.probes.get(probe, {}).items():
            if inside(content, "status") == "completed":
                series += read(_Probe(variant, probe, content))
    for variant in sweep.variants:
        try:
            series += _seeds(variant, [run for run in _completed(sweep.runs) if run.variant == variant])
        except DataError as error:
            problems.append(str(error))
    return [one for one in series if one.values], problems


def _completed(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.status == "completed" and run.seed is not None]


def _runs(runs: Iterable[Run]) -> Iterator[Series]:
    """What the fits' `result.json` say, over seeds."""
    by_variant: dict[str, list[Run]] = {}
    for run in _completed(runs):
        by_variant.setdefault(run.variant, []).append(run)
    for variant, members in by_variant.items():
        sources = {int(run.seed or 0): f"{run.name}/result.json" for run in members}
        results = {int(run.seed or 0): run.result for run in members}
        for dimension, metric, detail, unit, path in _fit_paths(results.values()):
            values = {seed: number(inside(result, *path)) for seed, result in results.items()}
            found = {seed: value for seed, value in values.items() if value is not None}
            yield Series(variant, dimension, metric, detail, unit, found, "seed", {k: sources[k] for k in found})
        above = {}
        for seed, result in results.items():
            peak, base = (number(inside(result, "performance", f"rss_{name}_mb")) for name in ("peak", "baseline"))
            if peak is not None and base is not None:
                above[seed] = peak - base
        yield Series(
            variant, PERFORMANCE, "memory_above", FIT, "MB", above, "seed", {seed: sources[seed] for seed in above}
        )


def _fit_paths(results: Iterable[dict]) -> Iterator[tuple[str, str, str, str, tuple]]:
    """Dimension, metric, detail, unit and place of every number in `result.json`."""
    for name in ("import_s", "compile_s", "training_s"):
        yield PERFORMANCE, name.removesuffix("_s"), FIT, "s", ("performance", name)
    for name in ("rss_baseline_mb", "rss_peak_mb"):
        yield PERFORMANCE, name.removeprefix("rss_").replace("_mb", "_memory"), FIT, "MB", ("performance", name)
    for name in PERCENTILES:
        yield PERFORMANCE, "step", f"{FIT}/{name}", "ms", ("performance", "step_ms", name)
    for name in ("accepted", "rejected", "evaluations"):
        yield PERFORMANCE, name, FIT, "a forward solve", ("solver", name)
    units = {"mse": "mg²", "rmse": "mg", "rmse_floor": "mg", "skill": "1"}
    names: dict[str, None] = {}
    intervals = 0
    for result in results:
        compartments = inside(result, "accuracy", "by_compartment")
        names |= dict.fromkeys(compartments if isinstance(compartments, dict) else ())
        found = inside(result, "accuracy", "by_interval")
        intervals = max(intervals, len(found) if isinstance(found, list) else 0)
    for metric, unit in units.items():
        yield ACCURACY, metric, "", unit, ("accuracy", metric)
        yield ACCURACY, metric, "held out", unit, ("accuracy", "held_out", metric)
        if metric in ("mse", "rmse"):
            for name in names:
                yield ACCURACY, metric, name, unit, ("accuracy", "by_compartment", name, metric)
            for k in range(intervals):
                yield ACCURACY, metric, f"interval {k}", unit, ("accuracy", "by_interval", k, metric)


class _Probe:
    """Makes series of one probe's file."""

    def __init__(self, variant: str, probe: str, content: dict):
        self.variant, self.content, self.source = variant, content, f"probes/{probe}/{variant}.json"

    def once(
        self, dimension: str, metric: str, detail: str, unit: str, value: Any, per: str = "once"
    ) -> Series:  # fmt: skip
        known = number(value)
        values = {} if known is None else {0: float(known)}
        return Series(self.variant, dimension, metric, detail, unit, values, per, dict.fromkeys(values, self.source))

    def rounds(self, dimension: str, metric: str, detail: str, unit: str, values: Any) -> Series:
        known = {k: number(value) for k, value in enumerate(values if isinstance(values, list) else [])}
        found = {k: float(value) for k, value in known.items() if value is not None}
        return Series(self.variant, dimension, metric, detail, unit, found, "round", dict.fromkeys(found, self.source))


def _speed(probe: _Probe) -> Iterator[Series]:
    yield probe.once(PERFORMANCE, "import", "probe", "s", inside(probe.content, "import_s"), "single")
    base = number(inside(probe.content, "rss_baseline_mb"))
    for mode in MODES:
        content = inside(probe.content, "modes", mode)
        if inside(content, "status") != "completed":
            continue
        for step in PASSES:
            first = inside(content, "first_call_s", step)
            yield probe.once(PERFORMANCE, "first_call", f"{mode}/{step}", "s", first, "single")
        for name in ("forward", "gradient", "step"):
            yield probe.rounds(PERFORMANCE, name, mode, "ms", inside(content, f"{name}_ms"))
        kind = str(inside(content, "backward_memory_kind") or "")
        value = inside(content, "backward_memory_mb")
        yield probe.once(PERFORMANCE, "backward_memory", mode, f"MB, {kind}" if kind else "MB", value)
        peak = number(inside(content, "peak_mb"))
        above = None if peak is None or base is None else peak - base
        yield probe.once(PERFORMANCE, "memory_above", f"probe/{mode}", "MB", above, "single")
        for name in COUNTS:
            unit = "report points" if name == "points" else "a training step"
            yield probe.once(PERFORMANCE, name, mode, unit, inside(content, name))
        for name in ("gradient_error", "gradient_error_max", "loss_error"):
            yield probe.once(PERFORMANCE, name, mode, "1", inside(content, name))


def _precision(probe: _Probe) -> Iterator[Series]:
    points = inside(probe.content, "points")
    for point in points if isinstance(points, list) else []:
        rtol = number(inside(point, "rtol"))
        if rtol is None or inside(point, "status") != "completed":
            continue
        detail = f"rtol={rtol:g}"
        yield probe.rounds(ACCURACY, "solve", detail, "s", inside(point, "seconds"))
        for name, unit in (("error_mg", "mg"), ("rms_mg", "mg"), ("accepted", "steps"), ("rejected", "steps")):
            yield probe.once(ACCURACY, f"solve_{name.removesuffix('_mg')}", detail, unit, inside(point, name))


def _stability(probe: _Probe) -> Iterator[Series]:
    for field in FIELDS:
        for treatment in TREATMENTS:
            content = inside(probe.content, "fields", field, treatment)
            if inside(content, "status") != "completed":
                continue
            detail = f"{field}/{treatment}"
            for name, unit in STABLE.items():
                yield probe.once(STABILITY, name, detail, unit, inside(content, name))
            for name in PEAKS:
                peaks = inside(content, name)
                for compartment in peaks if isinstance(peaks, dict) else ():
                    yield probe.once(STABILITY, name, f"{detail}/{compartment}", "h", peaks[compartment])


def _repeat(probe: _Probe) -> Iterator[Series]:
    units = {"bitwise": "1 is yes", "max_difference_mg": "mg", "loss_difference": "1"}
    for case in ("again", "threads", "precision"):
        for name, unit in units.items():
            yield probe.once(REPRODUCIBILITY, name, case, unit, inside(probe.content, case, name))


def _seeds(variant: str, runs: list[Run]) -> Iterator[Series]:
    """How far the predictions of fits that differ in the seed alone lie apart."""
    if len(runs) < 2:
        return
    predictions = [store.read_npz(run.folder / "predictions.npz")[0].get("predicted") for run in runs]
    if any(one is None or one.shape != predictions[0].shape for one in predictions):  # type: ignore[union-attr]
        raise DataError(f"{variant}: the predictions of its runs have not one shape")
    stack = np.stack(predictions).astype(np.float64)  # type: ignore[arg-type]
    source = {0: " ".join(f"{run.name}/predictions.npz" for run in runs)}
    apart = float(stack.std(0, ddof=1).max())
    yield Series(variant, REPRODUCIBILITY, "seed_sd_max", "", "mg", {0: apart}, "single", source)
    typical = float(np.sqrt((stack - stack[0]).var(0, ddof=1).mean()))
    yield Series(variant, REPRODUCIBILITY, "seed_sd", "", "mg", {0: typical}, "single", source)
    farthest = max(drift(stack[0], other)["max_difference_mg"] for other in stack[1:])
    yield Series(variant, REPRODUCIBILITY, "seed_difference", "", "mg", {0: farthest}, "single", source)
    doses = inside(runs[0].settings, "data.dose_amounts")
    jumps = [value for value in map(number, doses if isinstance(doses, list) else []) if value is not None]
    if jumps and (score := consistency(stack, float(np.mean(jumps)))) is not None:
        yield Series(variant, REPRODUCIBILITY, "consistency", "", "1", {0: score}, "single", source)
