"""Draws a cohort and solves it exactly."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import Any, NamedTuple

import numpy as np

from ..compartments import Kinetics, lookup, propagators
from ..dosing import Dose, Schedule, schedule
from ..errors import ConfigError
from ..records import Event
from .exact import along
from .regimen import events_of

END = 48.0  # h, of the default design


@dataclass(kw_only=True)
class Design:
    """When subjects are dosed and observed.

    Attributes:
        dose_times: h.
        dose_amounts: mg, one for each time.
        dose_compartments: From 1, one for each time.
        doses: In their place, a regimen of any kind, see `regimen`; None for none.
        start: Beginning of the time axis, h.
        end: Its end, h; None for 48.
        points: Report points in each interval, both ends included.
        initial: Amounts before anything is given, mg, which subjects take in turn: of the first compartment, or lists
            with one of each; None for the state at rest.

    Raises:
        ConfigError: The lists differ in length, an initial amount is no number of 0 or more, or there are fewer than
            two points.
    """

    dose_times: list[float] = default(default_factory=lambda: [12.0, 24.0, 36.0])
    dose_amounts: list[float] = default(default_factory=lambda: [100.0, 100.0, 100.0])
    dose_compartments: list[int] = default(default_factory=lambda: [1, 1, 1])
    doses: list[Any] | None = None
    start: float = 0.0
    end: float | None = None
    points: int = 200
    initial: list[Any] | None = None

    def __post_init__(self):
        lengths = {len(self.dose_times), len(self.dose_amounts), len(self.dose_compartments)}
        if len(lengths) != 1:
            raise ConfigError("data.dose_times, dose_amounts and dose_compartments: need one entry for each dose")
        if not 2 <= self.points <= 1_000_000:
            raise ConfigError(f"data.points={self.points}: must be 2 to 1,000,000")
        if self.doses is not None:
            events_of(self.doses, "data.doses")
        if self.initial is not None and not (self.initial and all(map(_amounts, self.initial))):
            raise ConfigError(f"data.initial={self.initial}: needs amounts of 0 or more, or lists of them")

    @property
    def until(self) -> float:
        """End of the time axis, h."""
        return END if self.end is None else self.end

    def schedule(self, subjects: int, compartments: int = 2) -> Schedule:
        """The same doses for every subject.

        Raises:
            ScheduleError: A dose is impossible.
        """
        if self.doses is None:
            listed = zip(self.dose_times, self.dose_amounts, self.dose_compartments, strict=True)
            doses: list[Event] = [Dose(*dose) for dose in listed]
        else:
            doses = events_of(self.doses, "data.doses")
        return schedule([doses] * subjects, start=self.start, end=self.until, compartments=compartments)

    def begin(self, kinetics: Kinetics, parameters: np.ndarray) -> np.ndarray:
        """Amounts before anything is given, mg, `[B, P]` to `[B, D]`.

        Raises:
            ConfigError: An entry of `initial` has another number of compartments.
        """
        state = kinetics.resting(parameters)
        if self.initial is None:
            return state
        for number, row in enumerate(state):
            entry = np.asarray(self.initial[number % len(self.initial)], np.float64)
            if entry.ndim and len(entry) != len(row):
                raise ConfigError(
                    f"data.initial={entry.tolist()}: {kinetics.name} has {len(row)}: {', '.join(kinetics.compartments)}"
                )
            row[: entry.size] = entry
        return state


def _amounts(entry: Any) -> bool:
    """Whether something is an amount, or a list of them."""
    try:
        array = np.asarray(entry, np.float64)
    except (TypeError, ValueError):
        return False
    return array.ndim < 2 and array.size > 0 and bool(((array >= 0) & (array < np.inf)).all())


@dataclass(kw_only=True)
class Population:
    """Whom to draw: log-normal around the typical patient.

    Attributes:
        subjects: How many.
        cv: Coefficient of variation of each parameter; 0 makes every subject the typical patient.
        correlation: Correlations of the logarithms, `[P][P]` in the order of the model's parameters; None for none.
        seed: Of the draw.
        kinetics: Whose parameters are drawn, a name in `compartments.KINETICS`.
        typical: The typical patient's parameters by name, where they are not the model's own.

    Raises:
        ConfigError: A value is out of range, or the matrix is not a correlation matrix.
    """

    subjects: int = 100
    cv: float = 0.1
    correlation: list[Any] | None = None
    seed: int = 42
    kinetics: str = "pk_2c"
    typical: dict[str, float] = default(default_factory=dict)

    @property
    def model(self) -> Kinetics:
        """The kinetics by their name."""
        return lookup(self.kinetics)

    def typical_parameters(self) -> np.ndarray:
        """Of the typical patient, `[P]`."""
        model, own = self.model, self.typical
        for name, value in own.items():
            if name not in model.parameters:
                raise ConfigError(f"data.typical.{name}={value}: {model.name} has {', '.join(model.parameters)}")
            if not 0 < value < np.inf:
                raise ConfigError(f"data.typical.{name}={value}: must be above 0, and finite")
        usual = zip(model.parameters, model.typical, strict=True)
        return np.array([own.get(name, value) for name, value in usual], np.float64)

    def __post_init__(self):
        if not 1 <= self.subjects <= 10_000_000:
            raise ConfigError(f"data.subjects={self.subjects}: must be 1 or more")
        if not 0 <= self.cv < 10:
            raise ConfigError(f"data.cv={self.cv}: must be 0 or more, and below 10")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"data.seed={self.seed}: must be 0 or more")
        self.typical_parameters()
        self.correlation_root()

    def correlation_root(self) -> np.ndarray:
        """A square root of the correlation matrix, `[P, P]`."""
        size = len(self.model.parameters)
        if self.correlation is None:
            return np.eye(size)
        try:
            matrix = np.array(self.correlation, np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"data.correlation={self.correlation}: needs rows of numbers, all of one length"
            ) from error
        if matrix.shape != (size, size) or not np.isfinite(matrix).all():
            raise ConfigError(f"data.correlation: needs {size} rows of {size} finite numbers")
        if not np.array_equal(matrix, matrix.T) or (np.diag(matrix) != 1).any() or (abs(matrix) > 1).any():
            raise ConfigError("data.correlation: must be symmetric, with ones on the diagonal and none above 1")
        values, vectors = np.linalg.eigh(matrix)
        # Eigenvalues of a singular correlation matrix come out a few rounding errors below zero.
        if values[0] < -size * np.finfo(np.float64).eps * values[-1] * 4:
            raise ConfigError(f"data.correlation: is not positive semi-definite (smallest eigenvalue {values[0]:.3g})")
        return vectors * np.sqrt(np.clip(values, 0, None))

    def draw(self) -> np.ndarray:
        """Parameters of every subject, `[B, P]`, in the model's order and units.

        The typical value is the median; the standard deviation of the logarithm is sqrt(log(1 + cv^2)).
        """
        random = np.random.Generator(np.random.PCG64(self.seed))
        normal = random.standard_normal((self.subjects, len(self.model.parameters)))
        deviation = np.sqrt(np.log1p(self.cv**2))
        return self.typical_parameters() * np.exp(deviation * normal @ self.correlation_root().T)


class Simulation(NamedTuple):
    """A cohort whose truth is known.

    Attributes:
        amounts: mg, `[B, S, K, D]`; each interval starts with the state after its dose.
        times: h, `[S, K]`.
        parameters: `[B, P]` in the order of the model's.
        schedule: The doses, as intervals.
    """

    amounts: np.ndarray
    times: np.ndarray
    parameters: np.ndarray
    schedule: Schedule


def simulate(population: Population, design: Design) -> Simulation:
    """Draw subjects and solve their kinetics in float64: exactly where they are linear, see `exact`, else by DOP853."""
    parameters, model = population.draw(), population.model
    plan = design.schedule(population.subjects, len(model.compartments))
    table = plan.intervals
    fractions = np.linspace(0.0, 1.0, design.points)
    times = table.start[:, :1] + fractions * table.duration[:, :1]
    plain = table.rate is None and table.keep is None and plan.steady is None
    state = design.begin(model, parameters)
    if not (plain and model.linear):
        return Simulation(along(model, parameters, plan, fractions, state), times, parameters, plan)
    # Boluses alone: all subjects at once.
    amounts = np.empty((population.subjects, len(table.start), design.points, state.shape[1]))
    carriers: dict[float, np.ndarray] = {}
    for k in range(len(table.start)):
        duration = float(table.duration[k, 0])
        if duration not in carriers:
            carriers[duration] = propagators(parameters, fractions * duration, model)
        amounts[:, k] = np.einsum("bkij,bj->bki", carriers[duration], state + table.bolus[k])
        state = amounts[:, k, -1]
    return Simulation(amounts, times, parameters, plan)
