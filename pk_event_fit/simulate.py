"""Draws a cohort and solves it exactly."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default
from typing import Any, NamedTuple

import numpy as np

from . import compartments
from .dosing import Dose, Schedule, schedule
from .errors import ConfigError


@dataclass(kw_only=True)
class Design:
    """When subjects are dosed and observed.

    Attributes:
        dose_times: h.
        dose_amounts: mg, one for each time.
        dose_compartments: From 1, one for each time.
        start: Beginning of the time axis, h.
        end: Its end, h.
        points: Report points in each interval, both ends included.

    Raises:
        ConfigError: The lists differ in length, or there are fewer than two points.
    """

    dose_times: list[float] = default(default_factory=lambda: [12.0, 24.0, 36.0])
    dose_amounts: list[float] = default(default_factory=lambda: [100.0, 100.0, 100.0])
    dose_compartments: list[int] = default(default_factory=lambda: [1, 1, 1])
    start: float = 0.0
    end: float = 48.0
    points: int = 200

    def __post_init__(self):
        lengths = {len(self.dose_times), len(self.dose_amounts), len(self.dose_compartments)}
        if len(lengths) != 1:
            raise ConfigError("data.dose_times, dose_amounts and dose_compartments: need one entry for each dose")
        if not 2 <= self.points <= 1_000_000:
            raise ConfigError(f"data.points={self.points}: must be 2 to 1,000,000")

    def schedule(self, subjects: int, compartments: int = 2) -> Schedule:
        """The same doses for every subject.

        Raises:
            ScheduleError: A dose is impossible.
        """
        doses = [Dose(*dose) for dose in zip(self.dose_times, self.dose_amounts, self.dose_compartments, strict=True)]
        return schedule([doses] * subjects, start=self.start, end=self.end, compartments=compartments)


@dataclass(kw_only=True)
class Population:
    """Whom to draw: log-normal around the typical patient.

    Attributes:
        subjects: How many.
        cv: Coefficient of variation of each parameter; 0 makes every subject the typical patient.
        correlation: Correlations of the logarithms, `[4][4]` in the order of `compartments.PARAMETERS`; None for none.
        seed: Of the draw.

    Raises:
        ConfigError: A value is out of range, or the matrix is not a correlation matrix.
    """

    subjects: int = 100
    cv: float = 0.1
    correlation: list[Any] | None = None
    seed: int = 42

    def __post_init__(self):
        if not 1 <= self.subjects <= 10_000_000:
            raise ConfigError(f"data.subjects={self.subjects}: must be 1 or more")
        if not 0 <= self.cv < 10:
            raise ConfigError(f"data.cv={self.cv}: must be 0 or more, and below 10")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"data.seed={self.seed}: must be 0 or more")
        self.correlation_root()

    def correlation_root(self) -> np.ndarray:
        """A square root of the correlation matrix, `[4, 4]`."""
        size = len(compartments.PARAMETERS)
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
        """Parameters of every subject, `[B, 4]`: L/h, L, L/h, L.

        The typical value is the median; the standard deviation of the logarithm is sqrt(log(1 + cv^2)).
        """
        random = np.random.Generator(np.random.PCG64(self.seed))
        normal = random.standard_normal((self.subjects, len(compartments.PARAMETERS)))
        deviation = np.sqrt(np.log1p(self.cv**2))
        return np.array(compartments.TYPICAL) * np.exp(deviation * normal @ self.correlation_root().T)


class Simulation(NamedTuple):
    """A cohort whose truth is known.

    Attributes:
        amounts: mg, `[B, S, K, 2]`; each interval starts with the state after its dose.
        times: h, `[S, K]`.
        parameters: `[B, 4]` in the order of `compartments.PARAMETERS`.
        schedule: The doses, as intervals.
    """

    amounts: np.ndarray
    times: np.ndarray
    parameters: np.ndarray
    schedule: Schedule


def simulate(population: Population, design: Design) -> Simulation:
    """Draw subjects and solve the two-compartment model exactly, in float64, by the matrix exponential."""
    parameters = population.draw()
    plan = design.schedule(population.subjects)
    table = plan.intervals
    fractions = np.linspace(0.0, 1.0, design.points)
    state = np.zeros((population.subjects, 2))
    amounts = np.empty((population.subjects, len(table.start), design.points, 2))
    carriers: dict[float, np.ndarray] = {}
    for k in range(len(table.start)):
        duration = float(table.duration[k, 0])
        if duration not in carriers:
            carriers[duration] = compartments.propagators(parameters, fractions * duration)
        amounts[:, k] = np.einsum("bkij,bj->bki", carriers[duration], state + table.bolus[k])
        state = amounts[:, k, -1]
    times = table.start[:, :1] + fractions * table.duration[:, :1]
    return Simulation(amounts, times, parameters, plan)
