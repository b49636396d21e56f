"""How a field is fitted: one phase, or a list of them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

import numpy as np

from ..errors import ConfigError

OPTIMISERS = ("adam", "lbfgs", "matching")
PENALTIES = ("l2", "derivative")
FLAT = ("iterations", "learning_rate", "batch_size")  # settings of a fit without phases


@dataclass(kw_only=True)
class Phase:
    """One part of a fit. Adam's moments and the best parameters begin anew in each.

    Attributes:
        iterations: Optimiser steps, at most: patience and L-BFGS may end before.
        learning_rate: Adam's, at the first step; not of `lbfgs`.
        final_learning_rate: At the last, reached by half a cosine; None for the same throughout.
        batch_size: Subjects in a step; None for all of them. Of `adam` alone.
        length: How much of each subject's history is fitted, from its start: a fraction of it, above 0 to 1.0, or a
            whole number of doses, up to just before the next. Later intervals are not solved.
        regularisation: What is added to the loss, by name, times its factor: `l2`, the mean square of weights, biases
            left out; `derivative`, the mean square of the field at the report points, in units of the root mean square
            slope of what is observed (not of `matching`).
        trains: Names of parameters that move, or patterns such as `weight_*`; None for all.
        optimiser: `adam`; `lbfgs`, SciPy's; or `matching`, Adam on the mean square of field minus slope of smoothed
            data, for which no ODE is solved.

    Raises:
        ConfigError: A value is out of range, or a setting is of another optimiser.
    """

    iterations: int = 1000
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    batch_size: int | None = None
    length: int | float = 1.0
    regularisation: dict[str, float] = default(default_factory=dict)
    trains: list[str] | None = None
    optimiser: str = "adam"

    def __post_init__(self):
        _check_counts(self, "training.phases", ("iterations", "batch_size"))
        _check_above_0(self, "training.phases", ("learning_rate", "final_learning_rate"))
        whole = isinstance(self.length, int)
        if isinstance(self.length, bool) or not (self.length >= 1 if whole else 0 < self.length <= 1):
            raise ConfigError(
                f"training.phases: length={self.length}: needs a fraction, above 0 to 1.0, or a number of doses"
            )
        for name, factor in self.regularisation.items():
            if name not in PENALTIES:
                raise ConfigError(f"training.phases: regularisation.{name}: choose of {', '.join(PENALTIES)}")
            if not 0 <= factor < math.inf:
                raise ConfigError(f"training.phases: regularisation.{name}={factor}: must be 0 or more, and finite")
        if self.trains is not None and not self.trains:
            raise ConfigError("training.phases: trains=[]: needs a name or more; leave it out for all")
        if self.optimiser not in OPTIMISERS:
            raise ConfigError(f"training.phases: optimiser={self.optimiser}: choose one of {', '.join(OPTIMISERS)}")
        if self.optimiser != "adam" and self.batch_size is not None:
            raise ConfigError(f"training.phases: batch_size={self.batch_size}: {self.optimiser} takes all subjects")
        if self.optimiser == "matching" and "derivative" in self.regularisation:
            raise ConfigError("training.phases: regularisation.derivative: is not of matching, which solves nothing")

    def rate(self, step: int) -> float:
        """Adam's learning rate at a step, from 0."""
        last = self.final_learning_rate
        if last is None or self.iterations == 1:
            return self.learning_rate
        share = 0.5 * (1 + math.cos(math.pi * step / (self.iterations - 1)))
        return last + (self.learning_rate - last) * share

    def moving(self, names: Collection[str]) -> frozenset[str] | None:
        """Those of the parameters that move; None for all.

        Raises:
            ConfigError: A pattern fits none.
        """
        if self.trains is None:
            return None
        found = {pattern: fnmatch.filter(names, pattern) for pattern in self.trains}
        if missing := [pattern for pattern, fitting in found.items() if not fitting]:
            has = ", ".join(names)
            raise ConfigError(f"training.phases: trains: no parameter is called {', '.join(missing)}; there are {has}")
        return frozenset(name for fitting in found.values() for name in fitting)


@dataclass(kw_only=True)
class Training:
    """How a field is fitted: Adam on the mean squared error, or phases one after another.

    Attributes:
        iterations: Optimiser steps.
        learning_rate: Adam's.
        batch_size: Subjects in a step; None for all of them.
        clip_norm: Largest gradient norm let through, not in `lbfgs`; None for any.
        checkpoint_every: Iterations between checkpoints.
        phases: A list of `Phase`, in place of the first three, which must be left as they are; None for one of these.
        validate_every: Iterations between judgements by subjects that are never fitted, `data.validation`; None for
            never. The parameters kept are then those of the lowest loss of these subjects.
        patience: Judgements without improvement after which a phase ends, and goes back to its best parameters; None
            for no such end.
        milestones: Iterations after which the parameters are kept as they are, beside those that are kept in the end;
            None for none. One that no phase gets to is passed over.

    Raises:
        ConfigError: A value is out of range, or one of the first three is set beside phases.
    """

    iterations: int = 2000
    learning_rate: float = 1e-3
    batch_size: int | None = None
    clip_norm: float | None = None
    checkpoint_every: int = 100
    phases: list[Phase] | None = None
    validate_every: int | None = None
    patience: int | None = None
    milestones: list[int] | None = None

    def __post_init__(self):
        _check_counts(self, "training", ("iterations", "batch_size", "checkpoint_every", "validate_every", "patience"))
        _check_above_0(self, "training", ("learning_rate", "clip_norm"))
        if self.patience is not None and self.validate_every is None:
            raise ConfigError(f"training.patience={self.patience}: needs training.validate_every")
        if self.phases is not None:
            if not self.phases:
                raise ConfigError("training.phases=[]: needs a phase or more; leave it out for one")
            try:
                self.phases = [phase if isinstance(phase, Phase) else Phase(**phase) for phase in self.phases]
            except TypeError as error:
                raise ConfigError(f"training.phases: {error}") from error
            for name in FLAT:
                if (value := getattr(self, name)) != getattr(Training, name):
                    raise ConfigError(
                        f"training.{name}={value}: training.phases is set, and each phase has its own; set it there"
                    )

        if late := [number for number in self.milestones or () if not 1 <= number <= self.total]:
            raise ConfigError(f"training.milestones={late}: must be 1 to {self.total}, the number of iterations")

    @property
    def plan(self) -> list[Phase]:
        """The phases."""
        if self.phases is not None:
            return self.phases
        return [Phase(iterations=self.iterations, learning_rate=self.learning_rate, batch_size=self.batch_size)]

    @property
    def total(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.iterations for phase in self.plan)


def _check_counts(settings: Any, where: str, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 1 <= value <= 1_000_000_000:
            raise ConfigError(f"{where}{_joint(where)}{name}={value}: must be 1 or more")


def _check_above_0(settings: Any, where: str, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < np.inf:
            raise ConfigError(f"{where}{_joint(where)}{name}={value}: must be above 0, and finite")


def _joint(where: str) -> str:
    return "." if where == "training" else ": "
