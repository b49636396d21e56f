"""Cohorts: files in, arrays out, batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import compartments, store
from .errors import ConfigError, DataError
from .frameworks.base import Interval
from .simulate import Design, Population, Simulation, simulate

SCHEMA_VERSION = 1
DEFAULT_PATH = "data/pk_dataset_2C.npz"


@dataclass(kw_only=True)
class Data(Population, Design):
    """Where the cohort comes from.

    Attributes:
        source: `simulated`, from a file that is made on first use, or `file`, any npz with `all_solutions`.
        path: The file; None for `data/pk_dataset_2C.npz`, with a digest of the settings where they are not the default.
        noise_sd: Standard deviation of noise added to what is observed, mg.
        held_out: Subjects that the fit does not see, drawn by `seed`.

    Raises:
        ConfigError: A value is out of range.
    """

    source: str = "simulated"
    path: str | None = None
    noise_sd: float = 0.0
    held_out: int = 0

    def __post_init__(self):
        Population.__post_init__(self)
        Design.__post_init__(self)
        if self.source not in ("simulated", "file"):
            raise ConfigError(f"data.source={self.source}: choose simulated or file")
        if self.source == "file" and not self.path:
            raise ConfigError("data.path: data=file needs the path of an npz file")
        if not 0 <= self.noise_sd < np.inf:
            raise ConfigError(f"data.noise_sd={self.noise_sd}: must be 0 or more, and finite")
        if self.held_out < 0 or (self.source == "simulated" and self.held_out >= self.subjects):
            raise ConfigError(f"data.held_out={self.held_out}: must be 0 or more, and leave subjects to fit")


class Cohort(NamedTuple):
    """Subjects with their doses and what was observed of them.

    Attributes:
        amounts: What was observed, mg, `[B, S, K, D]`, float64.
        initial: Amounts before the first record, mg, `[B, D]`.
        intervals: Doses and clocks, leaves `[S, B, ...]`, float64.
        grid: Fractions of an interval at which it was observed, `[K]`.
        times: The same as clock times, h, `[S, K]`.
        compartments: Their names, D of them.
        digest: SHA-256 of what is fitted: amounts, initial state, doses, durations.
        ignored: Doses of each subject that come after the end and change nothing.
    """

    amounts: np.ndarray
    initial: np.ndarray
    intervals: Interval
    grid: np.ndarray
    times: np.ndarray
    compartments: tuple[str, ...]
    digest: str
    ignored: int = 0

    @property
    def observed(self) -> np.ndarray:
        """`amounts` in the order of a prediction, `[S, K, B, D]`."""
        return np.ascontiguousarray(self.amounts.transpose(1, 2, 0, 3))

    def take(self, subjects: np.ndarray) -> Cohort:
        """Some of the subjects, in the order given."""
        number, *leaves = self.intervals
        chosen = Interval(number, *(None if leaf is None else leaf[:, subjects] for leaf in leaves))
        return self._replace(amounts=self.amounts[subjects], initial=self.initial[subjects], intervals=chosen)


def load(settings: Data) -> Cohort:
    """The cohort that the settings ask for; a simulated one is made, and its file written, where it is missing.

    Raises:
        DataError: The file is damaged, does not hold what it should, or is not what the settings ask for.
    """
    path, arrays, about = _simulated(settings) if settings.source == "simulated" else _read(settings)
    amounts = _amounts(arrays, path)
    subjects, rows, points, size = amounts.shape
    design = _design(arrays, settings, path)
    plan = design.schedule(subjects, size)
    table = plan.intervals
    if len(table.start) != rows:
        raise DataError(
            f"{path}: all_solutions has {rows} intervals, and doses at {design.dose_times} h from {design.start} to "
            f"{design.end} h make {len(table.start)}; set data.dose_times"
        )
    _check_jumps(amounts, table, path)
    fractions = np.linspace(0.0, 1.0, points)
    random = np.random.Generator(np.random.PCG64([settings.seed, 1]))
    noise = settings.noise_sd * random.standard_normal(amounts.shape) if settings.noise_sd else 0.0
    initial = amounts[:, 0, 0] - table.bolus[0]
    fitted = {"amounts": amounts + noise, "initial": initial, "bolus": table.bolus, "duration": table.duration}
    return Cohort(
        amounts=amounts + noise,
        initial=initial,
        intervals=table,
        grid=fractions,
        times=_times(arrays, table, fractions, path),
        compartments=_compartments(about, size, path),
        digest=store.digest(fitted),
        ignored=int(plan.ignored[0]),
    )


def batches(subjects: int, size: int | None, seed: int) -> Callable[[int], np.ndarray]:
    """Which subjects the iteration of a number (from 1) takes: a new order each epoch, what is left over is left out.

    Raises:
        ConfigError: A batch is larger than the cohort.
    """
    if size is None:
        return lambda iteration: np.arange(subjects)
    if size > subjects:
        raise ConfigError(f"training.batch_size={size}: the cohort has {subjects} subjects")
    count = subjects // size

    def select(iteration: int) -> np.ndarray:
        epoch, batch = divmod(iteration - 1, count)
        order = np.random.Generator(np.random.PCG64([seed, 2, epoch])).permutation(subjects)
        return order[batch * size : (batch + 1) * size]

    return select


def split(subjects: int, settings: Data) -> tuple[np.ndarray, np.ndarray]:
    """Which subjects are fitted and which are held out, both in increasing order.

    Raises:
        ConfigError: Nobody is left to fit.
    """
    if settings.held_out >= subjects:
        raise ConfigError(f"data.held_out={settings.held_out}: the cohort has {subjects} subjects")
    order = np.random.Generator(np.random.PCG64([settings.seed, 3])).permutation(subjects)
    return np.sort(order[settings.held_out :]), np.sort(order[: settings.held_out])


def _names(kind: type) -> list[str]:
    return [entry.name for entry in fields(kind)]


def _compartments(about: dict, size: int, path: Path) -> tuple[str, ...]:
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
    usual, asked = Design(), {name: getattr(settings, name) for name in _names(Design)}
    for name, value in told.items():
        # The end is a sum of durations: a rounding error is no contradiction, and the settings' own value is as asked.
        same = np.shape(asked[name]) == np.shape(value) and np.allclose(asked[name], value, rtol=1e-12, atol=0)
        if not same and asked[name] != getattr(usual, name):
            raise DataError(f"{path}: its {name} is {value}, and data.{name}={asked[name]}")
        told[name] = asked[name] if same else value
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
    asked = {"population": asdict(population), "design": asdict(design)}
    if settings.path:
        path = Path(settings.path).expanduser()
    elif asked == {"population": asdict(Population()), "design": asdict(Design())}:
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
    """Write a simulated cohort: `all_solutions` in mg, `[B, S, K, 2]`, and all that says what it is."""
    doses = asked["design"]
    store.write_npz(
        path,
        {
            "all_solutions": simulation.amounts,
            "times": simulation.times,
            "parameters": simulation.parameters,
            "parameter_names": np.array(compartments.PARAMETERS),
            "dose_times": np.array(doses["dose_times"], np.float64),
            "dose_amounts": np.array(doses["dose_amounts"], np.float64),
            "dose_compartments": np.array(doses["dose_compartments"], np.int64),
        },
        {
            "schema_version": SCHEMA_VERSION,
            "units": {
                "amount": "mg",
                "time": "h",
                **dict(zip(compartments.PARAMETERS, compartments.UNITS, strict=True)),
            },
            "compartments": list(compartments.COMPARTMENTS),
            "seed": asked["population"]["seed"],
            **asked,
        },
    )


def _amounts(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
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
    if not (finite := np.isfinite(amounts)).all():
        spot = [int(k) for k in np.argwhere(~finite)[0]]
        raise DataError(f"{path}: all_solutions{spot} is {amounts[tuple(spot)]}; every amount must be finite")
    return amounts.astype(np.float64)


def _check_jumps(amounts: np.ndarray, table: Interval, path: Path) -> None:
    """A dose table that does not fit the file would be fitted without a sign of trouble."""
    jumps = (amounts[:, 1:, 0] - amounts[:, :-1, -1]).mean(0)
    doses = table.bolus[1:].mean(1)
    # Second differences tell noise from a curve: their variance is six times that of the noise.
    noise = np.sqrt((np.diff(amounts, 2, axis=2) ** 2).mean() / 6) if amounts.shape[2] > 2 else 0.0
    room = 4 * noise * np.sqrt(2 / len(amounts)) + 1e-6 * abs(amounts).max()
    off = abs(jumps - doses) > room + 0.1 * np.maximum(abs(doses), abs(doses).max(initial=0))
    if off.any():
        k, compartment = (int(n) for n in np.argwhere(off)[0])
        raise DataError(
            f"{path}: interval {k + 1} starts {jumps[k, compartment]:.4g} mg above the end of the one before in "
            f"compartment {compartment + 1}, and the doses say {doses[k, compartment]:.4g} mg; set data.dose_amounts"
        )
