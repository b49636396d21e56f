"""Cohorts whose subjects are all dosed alike and observed on one grid: from npz files, simulated ones among them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import compartments, store
from ..dosing import Schedule
from ..errors import ConfigError, DataError
from ..frameworks.base import Interval
from ..simulate import END, Design, Population, Simulation, simulate
from .cohort import Cohort, begun
from .covariates import covariates_of, with_covariates
from .settings import Data

SCHEMA_VERSION = 1
DEFAULT_PATH = "data/pk_dataset_2C.npz"
LATER: tuple[tuple[str, str, Any], ...] = (
    ("design", "doses", None),
    ("design", "initial", None),
    ("population", "kinetics", "pk_2c"),
    ("population", "typical", {}),
)


def load_grid(settings: Data) -> Cohort:
    """The cohort that the settings ask for; a simulated one is made, and its file written, where it is missing.

    Raises:
        DataError: The file is damaged, does not hold what it should, or is not what the settings ask for.
    """
    return planned_grid(settings)[0]


def planned_grid(settings: Data) -> tuple[Cohort, Schedule]:
    """As `load_grid`, with the schedule that its doses make."""
    return assembled(*(_simulated(settings) if settings.source == "simulated" else _read(settings)), settings)


def assembled(
    path: Path, arrays: dict[str, np.ndarray], about: Mapping[str, Any], settings: Data
) -> tuple[Cohort, Schedule]:
    """The cohort of a file's arrays and note, and its schedule; `path` is what messages call it.

    Raises:
        DataError: They do not hold what they should, or contradict the settings.
    """
    names = _compartments(about, arrays.get("all_solutions"), path)
    amounts = _amounts(arrays, names, path)
    subjects, rows, points, size = amounts.shape
    design = _design(arrays, settings, path)
    known, values = covariates_of(arrays, settings, path, subjects)
    plan = with_covariates(design.schedule(subjects, size), values)
    table = plan.intervals
    if len(table.start) != rows:
        raise DataError(
            f"{path}: all_solutions has {rows} intervals, and doses at {design.dose_times} h from {design.start} to "
            f"{design.until} h make {len(table.start)}; set data.dose_times"
        )
    usual = Design()
    if design.end is None and (design.doses, design.dose_times) != (usual.doses, usual.dose_times):
        raise DataError(f"{path}: has no times, so that nothing tells how long its last interval is; set data.end")
    initial = _initial(arrays, amounts, plan, names, path)
    if table.keep is None and plan.steady is None:
        _check_jumps(amounts, table, path)
    fractions = np.linspace(0.0, 1.0, points)
    random = np.random.Generator(np.random.PCG64([settings.seed, 1]))
    noise = settings.noise_sd * random.standard_normal(amounts.shape) if settings.noise_sd else 0.0
    seen = np.isfinite(amounts)
    weights = None if seen.all() else seen.astype(np.float64)
    fitted = {"amounts": np.where(seen, amounts + noise, 0.0), "initial": initial, "bolus": table.bolus}
    fitted |= {"duration": table.duration}
    more = {"rate": table.rate, "keep": table.keep, "covariates": table.covariates, "weights": weights}
    if plan.steady is not None:
        more |= {"steady.place": plan.steady.place}
        more |= {f"steady.{name}": leaf for name, leaf in plan.steady.cycle._asdict().items()}
    fitted |= {name: leaf for name, leaf in more.items() if leaf is not None}
    cohort = Cohort(
        amounts=amounts + noise,
        initial=initial,
        intervals=table,
        grid=fractions,
        times=_times(arrays, table, fractions, path),
        compartments=names,
        digest=store.digest(fitted),
        ignored=int(plan.ignored[0]),
        steady=plan.steady,
        weights=weights,
        covariates=known,
        begun=begun(plan),
    )
    return cohort, plan


def _names(kind: type) -> list[str]:
    return [entry.name for entry in fields(kind)]


def _compartments(about: Mapping[str, Any], amounts: np.ndarray | None, path: Path) -> tuple[str, ...]:
    size = 2 if amounts is None or not amounts.ndim else amounts.shape[-1]
    default = compartments.COMPARTMENTS if size == 2 else tuple(f"compartment {k + 1}" for k in range(size))
    names = about.get("compartments", list(default))
    if not isinstance(names, list) or len(names) != size or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: the note's compartments are {names!r}; needs {size} names")
    return tuple(names)


def _design(arrays: dict[str, np.ndarray], settings: Data, path: Path) -> Design:
    """The doses that the file itself tells, and what the settings say of the rest; they must not contradict."""
    told: dict[str, Any] = {}
    for name in ("dose_times", "dose_amounts", "dose_compartments"):
        if name in arrays:
            array = arrays[name]
            if array.ndim != 1 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
                raise DataError(
                    f"{path}: {name} has shape {list(array.shape)} and type {array.dtype}; needs numbers [S]"
                )
            told[name] = array.tolist()
    if "times" in arrays:
        times = arrays["times"]
        if times.ndim != 2 or 0 in times.shape or times.dtype.kind != "f" or not np.isfinite(times).all():
            raise DataError(f"{path}: times has shape {list(times.shape)} and type {times.dtype}; needs h [S, K]")
        told |= {"start": float(times[0, 0]), "end": float(times[-1, -1])}
    if "end" in arrays:  # to the last bit, which times may miss
        end = arrays["end"]
        if end.ndim or end.dtype.kind not in "iuf" or not np.isfinite(end):
            raise DataError(f"{path}: end has shape {list(end.shape)} and type {end.dtype}; needs one time, h")
        told["end"] = float(end)
    usual, asked = Design(end=END), {name: getattr(settings, name) for name in _names(Design)}
    for name, value in told.items():
        # The end is a sum of durations: a rounding error is no contradiction, and the settings' own value is as asked.
        own: Any = usual.end if asked[name] is None else asked[name]
        same = np.shape(own) == np.shape(value) and np.allclose(own, value, rtol=1e-12, atol=0)
        if not same and own != getattr(usual, name):
            raise DataError(f"{path}: its {name} is {value}, and data.{name}={asked[name]}")
        told[name] = own if same else value
    try:
        return Design(**{**asked, **told})
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def _times(arrays: dict[str, np.ndarray], table: Interval, fractions: np.ndarray, path: Path) -> np.ndarray:
    times = table.start[:, :1] + fractions * table.duration[:, :1]
    found = arrays.get("times", times)
    # One grid of fractions serves all intervals; times that are written in float32 are as good.
    if found.shape != times.shape or (abs(found - times) > 1e-6 * abs(times).max()).any():
        raise DataError(f"{path}: times must run evenly from dose to dose, {times.shape[1]} points an interval")
    return times


def _read(settings: Data) -> tuple[Path, dict[str, np.ndarray], dict]:
    path = Path(settings.path or DEFAULT_PATH).expanduser()
    if not path.is_file():
        raise DataError(f"data.path={path}: there is no such file (looked from {Path.cwd()})")
    return path, *store.read_npz(path)


def _simulated(settings: Data) -> tuple[Path, dict[str, np.ndarray], dict]:
    population = Population(**{name: getattr(settings, name) for name in _names(Population)})
    design = Design(**{name: getattr(settings, name) for name in _names(Design)})
    design = replace(design, end=design.until)
    asked = {"population": asdict(population), "design": asdict(design)}
    for part, name, usual in LATER:  # what was not there when files were first written, and is left as it was then
        if asked[part][name] == usual:
            del asked[part][name]
    if settings.path:
        path = Path(settings.path).expanduser()
    elif population == Population() and design == Design(end=END):
        path = Path(DEFAULT_PATH)
    else:
        tag = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
        path = Path(DEFAULT_PATH).with_stem(f"{Path(DEFAULT_PATH).stem}-{tag}")
    if not path.exists():
        write(path, simulate(population, design), asked)
    arrays, about = store.read_npz(path)
    told = {name: about.get(name) for name in asked}
    if told != json.loads(json.dumps(asked)) or about.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: was made with other settings or by another version; give another data.path, or "
            "read it with data=file"
        )
    return path, arrays, about


def write(path: Path, simulation: Simulation, asked: dict) -> None:
    """Write a simulated cohort: `all_solutions` in mg, `[B, S, K, D]`, and all that says what it is."""
    doses, model = asked["design"], compartments.lookup(asked["population"].get("kinetics", "pk_2c"))
    times = {} if "doses" in doses else {
        "dose_times": np.array(doses["dose_times"], np.float64),
        "dose_amounts": np.array(doses["dose_amounts"], np.float64),
        "dose_compartments": np.array(doses["dose_compartments"], np.int64),
    }  # fmt: skip
    store.write_npz(
        path,
        {
            "all_solutions": simulation.amounts,
            "times": simulation.times,
            "parameters": simulation.parameters,
            "parameter_names": np.array(model.parameters),
            **times,
        },
        {
            "schema_version": SCHEMA_VERSION,
            "units": {
                "amount": model.amount_unit,
                "time": model.time_unit,
                **dict(zip(model.parameters, model.units, strict=True)),
            },
            "compartments": list(model.compartments),
            "seed": asked["population"]["seed"],
            **asked,
        },
    )


def _amounts(arrays: dict[str, np.ndarray], names: tuple[str, ...], path: Path) -> np.ndarray:
    """What was observed, `[B, S, K, D]`; NaN where nothing was."""
    if "all_solutions" not in arrays:
        raise DataError(f"{path}: has no array 'all_solutions'; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    amounts = arrays["all_solutions"]
    if amounts.ndim != 4 or 0 in amounts.shape or amounts.shape[2] < 2:
        raise DataError(
            f"{path}: all_solutions has shape {list(amounts.shape)}; needs [subjects, intervals, points, "
            "compartments] with two points or more"
        )
    if amounts.dtype.kind != "f":
        raise DataError(f"{path}: all_solutions has type {amounts.dtype}; needs floating-point amounts in mg")
    if (endless := np.isinf(amounts)).any():
        spot = [int(k) for k in np.argwhere(endless)[0]]
        raise DataError(
            f"{path}: all_solutions{spot} is {amounts[tuple(spot)]}; every amount must be finite, or NaN where it is "
            "missing"
        )
    seen = np.isfinite(amounts)
    if not (there := seen.any((1, 2, 3))).all():
        raise DataError(f"{path}: all_solutions: subject {int((~there).argmax())} has no observation; leave it out")
    if not (there := seen.any((0, 1, 2))).all():
        lost = names[int((~there).argmax())]
        raise DataError(
            f"{path}: all_solutions: compartment {lost} has no observation; tables may have such (data=nonmem)"
        )
    return amounts.astype(np.float64)


def _initial(
    arrays: dict[str, np.ndarray], amounts: np.ndarray, plan: Schedule, names: tuple[str, ...], path: Path
) -> np.ndarray:
    """Amounts before the first dose, mg, `[B, D]`: those of the file, or what its first amounts are without it."""
    # Before a first steady state the amounts are anyone's guess; they do not matter where it replaces them.
    replaced = plan.steady is not None and bool(plan.steady.place[:, 0].any())
    bolus = plan.intervals.bolus[0]
    initial = arrays.get("initial", np.zeros_like(bolus) if replaced else amounts[:, 0, 0] - bolus)
    if initial.shape != bolus.shape or initial.dtype.kind not in "iuf":
        raise DataError(f"{path}: initial has shape {list(initial.shape)}; needs amounts {list(bolus.shape)}")
    if (lost := ~np.isfinite(initial)).any():
        subject, number = (int(k) for k in np.argwhere(lost)[0])
        what = "initial" if "initial" in arrays else "all_solutions"
        raise DataError(
            f"{path}: {what}: what subject {subject} begins with in {names[number]} is missing; needs an array "
            "initial, [subject, compartment], mg"
        )
    return initial.astype(np.float64)


def _check_jumps(amounts: np.ndarray, table: Interval, path: Path) -> None:
    """A dose table that does not fit the file would be fitted without a sign of trouble."""
    jumps = amounts[:, 1:, 0] - amounts[:, :-1, -1]
    counts = np.isfinite(jumps).sum(0)
    jumps = np.nansum(jumps, 0) / np.maximum(counts, 1)
    doses = table.bolus[1:].mean(1)
    # Second differences tell noise from a curve: their variance is six times that of the noise.
    second = np.diff(amounts, 2, axis=2)
    second = second[np.isfinite(second)]
    noise = np.sqrt((second**2).mean() / 6) if len(second) else 0.0
    room = 4 * noise * np.sqrt(2 / np.maximum(counts, 1)) + 1e-6 * np.nanmax(abs(amounts))
    off = (counts > 0) & (abs(jumps - doses) > room + 0.1 * np.maximum(abs(doses), abs(doses).max(initial=0)))
    if off.any():
        k, compartment = (int(n) for n in np.argwhere(off)[0])
        raise DataError(
            f"{path}: interval {k + 1} starts {jumps[k, compartment]:.4g} mg above the end of the one before in "
            f"compartment {compartment + 1}, and the doses say {doses[k, compartment]:.4g} mg; set data.dose_amounts"
        )
