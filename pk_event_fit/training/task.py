"""What is fitted to what: the loss of a phase, compiled, and its batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from ..arrays.base import Params
from ..data import Cohort, batch_of, batches
from ..errors import SolverFailure, TrainingFailure
from .curriculum import shortened
from .losses import descent_step, floor_of, mean_squared_error, rates_of, search_step
from .matching import mismatch, slopes_of
from .settings import Phase


class Objective(NamedTuple):
    """What a phase minimises.

    Attributes:
        search: `(params, *batch) -> (told, gradient, Report)`, see `search_step`.
        descent: `(params, moments, rate, *batch) -> (told, (params, moments), Report)`, see `descent_step`.
        loss: `(params, *batch) -> (loss, Report)`.
        batch: Arguments of an iteration.
    """

    search: Callable
    descent: Callable
    loss: Callable
    batch: Callable[[int], Any]


class Task:
    """What is fitted to what; what is compiled is kept for further phases."""

    def __init__(self, framework, field, cohort, settings, seed, subjects, error, validation):
        self.framework, self.field, self.cohort, self.settings = framework, field, cohort, settings
        self.seed, self.subjects, self.validation = seed, subjects, validation
        self.rows = np.arange(len(cohort.amounts)) if subjects is None else subjects
        self.judged = validation is not None and settings.validate_every is not None
        self.floor = floor_of(cohort, error, subjects)
        self._steps: dict[tuple, tuple[Callable, Callable, Callable]] = {}
        self._judges: dict[bytes, Callable] = {}

    def objective(self, phase: Phase, names: Collection[str]) -> Objective:
        """Of a phase."""
        arrays, part = self.framework.arrays, shortened(self.cohort, phase.length)
        if phase.optimiser == "matching":
            chosen = part if self.subjects is None else part.take(self.subjects)
            slopes = slopes_of(arrays, self.field, chosen)
            return Objective(*self._compiled(phase, part, names), lambda iteration: slopes)
        factors = {name: arrays.asarray(factor) for name, factor in _added(phase).items()}
        more = (factors,) if factors else ()
        whole = (*batch_of(arrays, part, self.subjects), *more) if phase.batch_size is None else None
        order = self.order(phase)
        return Objective(
            *self._compiled(phase, part, names),
            lambda iteration: whole or (*batch_of(arrays, part, self.rows[order(iteration)]), *more),
        )

    def order(self, phase: Phase) -> Callable[[int], np.ndarray]:
        """Which of the rows an iteration takes."""
        return batches(len(self.rows), phase.batch_size, self.seed)

    def _compiled(self, phase: Phase, part: Cohort, names: Collection[str]) -> tuple[Callable, Callable, Callable]:
        moving, kind = phase.moving(names), phase.optimiser
        clip = None if kind == "lbfgs" else self.settings.clip_norm  # a line search needs the gradient itself
        added, matched = _added(phase), kind == "matching"
        told = tuple(sorted(added.items() if matched else added))
        key = (matched, phase.length, told, moving, clip)
        if key not in self._steps:
            if matched:
                loss = mismatch(self.framework, self.field, added.get("l2", 0.0))
            else:
                own = self.cohort.take(self.rows)
                rates = rates_of(own, getattr(self.field, "volume", 1.0)) if "derivative" in added else None
                loss = mean_squared_error(self.framework, self.field, part.grid, self.floor, added, rates)
            given = self.framework, loss, clip, moving
            self._steps[key] = search_step(*given), descent_step(*given), loss
        return self._steps[key]

    def judge(self, phase: Phase) -> Callable[[Params], float]:
        """What tells the mean squared error of the subjects of validation, over the length of a phase, or infinity."""
        framework, part = self.framework, shortened(self.cohort, phase.length)
        key = part.grid.tobytes()
        if key not in self._judges:
            error = mean_squared_error(framework, self.field, part.grid, self.floor)
            self._judges[key] = framework.arrays.compile(error)
        loss, batch = self._judges[key], batch_of(framework.arrays, part, self.validation)

        def judged(params):
            try:
                value, report = framework.guard(loss, params, *batch)
                framework.check(report, batch[1])
            except SolverFailure:  # as bad as can be; the fit itself may well go on
                return math.inf
            return float(value) if math.isfinite(float(value)) else math.inf

        return judged

    def asked(
        self, phase: Phase, objective: Objective, step: Callable, given: tuple, iteration: int, batch: Any
    ) -> tuple:
        """Loss, norm, what else `step` finds and report of an iteration, `given` first the parameters.

        Raises:
            SolverFailure, TrainingFailure: See `fit`.
        """
        framework = self.framework
        try:
            told, found, report = framework.guard(step, *given, *batch)
            loss, gradient_norm, failed = map(float, framework.arrays.to_numpy(told))
            if failed:
                framework.check(report, batch[1])
        except SolverFailure as failure:
            if failure.subject is None:  # of a solve backward, which cannot tell; where the one forward fails, it can
                forward = framework.arrays.compile(objective.loss)
                framework.check(framework.guard(forward, given[0], *batch)[1], batch[1])
            raise of_cohort(failure, self.rows[self.order(phase)(iteration)]) from failure
        if not np.isfinite(loss) or not np.isfinite(gradient_norm):
            raise TrainingFailure(f"iteration {iteration}: loss {loss}, gradient norm {gradient_norm}; no step taken")
        return loss, gradient_norm, found, report


def _added(phase: Phase) -> dict[str, float]:
    """Penalties and their factors."""
    return {name: factor for name, factor in phase.regularisation.items() if factor}


def of_cohort(failure: SolverFailure, subjects: np.ndarray) -> SolverFailure:
    """The same failure, with its subject counted in the cohort instead of in the batch."""
    return SolverFailure(
        failure.framework,
        failure.reason,
        subject=None if failure.subject is None else int(subjects[failure.subject]),
        interval=failure.interval,
        t=failure.t,
        steps=failure.steps,
    )
