"""Fits a field to a cohort. A generator that yields progress and touches no file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..arrays.base import Params
from ..data import Cohort, batches
from ..errors import SolverFailure, TrainingFailure
from ..frameworks.base import Framework
from .curriculum import shortened
from .matching import refuse
from .quasi_newton import Flat, iterates
from .settings import Phase, Training
from .state import Progress, State, entered, resumed
from .task import Task


def fit(
    framework: Framework, field: Callable, cohort: Cohort, settings: Training, state: State, *, seed: int,
    subjects: np.ndarray | None = None, error: str = "additive", validation: np.ndarray | None = None,
) -> Iterator[Progress]:  # fmt: skip
    """Fit a field to a cohort, one iteration at a time.

    Args:
        framework: Who solves.
        field: The vector field.
        cohort: Doses and observations.
        settings: How to fit.
        state: Where to begin: `start(...)`, or an earlier `Progress.state`, which goes on bit for bit; one within a
            phase by `lbfgs` goes back to the beginning of that phase and takes its iterations again.
        seed: Of the order of the batches.
        subjects: Rows of the cohort to fit to; None for all.
        error: `additive`, or `log` for errors of the logarithm.
        validation: Rows of the cohort that judge every `settings.validate_every` iterations; None for none.

    Yields:
        `Progress` of each iteration of each phase.

    Raises:
        ConfigError: A phase does not suit the field or the data.
        SolverFailure: A solve did not end. The last state that was yielded is still good.
        TrainingFailure: The loss or the gradient is not finite; no step was taken from it.
    """
    task = Task(framework, field, cohort, settings, seed, subjects, error, validation)
    state = resumed(framework.arrays, state)
    for number, phase in enumerate(settings.plan):
        if number < state.phase:
            continue
        if number > state.phase:
            state = entered(framework.arrays, state, number, task.judged)
        for progress in (settle if phase.optimiser == "lbfgs" else descend)(task, phase, state):
            state = progress.state
            yield progress


class Jury:
    """Which parameters of a phase are the best so far: by the subjects of validation, where there are any."""

    def __init__(self, task: Task, phase: Phase):
        self.settings, self.phase = task.settings, phase
        self.judge = task.judge(phase) if task.judged else None

    def opened(self, state: State) -> State:
        """Where the phase begins."""
        if self.judge is None or state.iteration > state.began:
            return state
        return state._replace(best_loss=self.judge(state.params))

    def tired(self, state: State) -> bool:
        """Whether the phase is to end."""
        every, patience = self.settings.validate_every, self.settings.patience
        if self.judge is None or patience is None or every is None:
            return False
        return (state.iteration - state.best_iteration) // every >= patience

    def seen(
        self, state: State, candidate: tuple[int, float, Params], last: bool = False
    ) -> tuple[State, float | None]:
        """The state with the best so far, `candidate` where nobody else judges, and what was judged of it.

        The `last` of a phase is judged out of turn: the next begins with the best.
        """
        if self.judge is None:
            return state.bettered(*candidate), None
        done, every = state.iteration - state.began, self.settings.validate_every
        if done % (every or 1) and done < self.phase.iterations and not last:
            return state, None
        value = self.judge(state.params)
        return state.bettered(state.iteration, value, state.params), value


def descend(task: Task, phase: Phase, state: State) -> Iterator[Progress]:
    """A phase by Adam."""
    arrays, jury, objective = task.framework.arrays, Jury(task, phase), task.objective(phase, state.params)
    state = jury.opened(state)
    for iteration in range(state.iteration + 1, state.began + phase.iterations + 1):
        if jury.tired(state):
            return
        batch = objective.batch(iteration)
        began = time.perf_counter()
        given = state.params, state.moments, phase.rate(iteration - state.began - 1)
        loss, norm, (params, moments), report = task.asked(phase, objective, objective.descent, given, iteration, batch)
        before, state = state, state._replace(iteration=iteration, params=arrays.wait(params), moments=moments)
        seconds = time.perf_counter() - began
        if phase.batch_size is not None and jury.judge is None:  # losses of different batches do not compare
            state, validation = state._replace(best_iteration=iteration, best_loss=math.inf, best_params=params), None
        else:  # the loss is that of the parameters before the step
            state, validation = jury.seen(state, (iteration - 1, loss, before.params))
        yield Progress(iteration, loss, norm, seconds, report, state, validation)


def settle(task: Task, phase: Phase, state: State) -> Iterator[Progress]:
    """A phase by L-BFGS, in float64 outside of the solver; it ends before its iterations where no step is better."""
    jury, objective = Jury(task, phase), task.objective(phase, state.params)
    state, left = jury.opened(state), state.began + phase.iterations - state.iteration
    if state.iteration == state.began:  # else it is of a checkpoint that does not hold them
        state = state._replace(first=state.params)
    flat, batch = Flat(task.framework.arrays, state.params, phase.moving(state.params)), objective.batch(0)
    latest: dict[str, Any] = {}

    def function(x):
        try:
            given, iteration = (flat.placed(x),), state.iteration + 1
            loss, norm, gradient, report = task.asked(phase, objective, objective.search, given, iteration, batch)
        except (SolverFailure, TrainingFailure):
            if not latest:
                raise
            return 10.0 * latest["worst"], np.zeros_like(x)  # too long a step: the line search takes a shorter one
        latest.update(norm=norm, report=report, worst=max(abs(loss), latest.get("worst", 1e-300)))
        return loss, flat.vector(gradient)

    def walk():
        began = time.perf_counter()
        for x, loss in iterates(function, flat.vector(state.params), left):
            yield x, loss, latest["norm"], time.perf_counter() - began, latest["report"]
            began = time.perf_counter()

    if left <= 0 or jury.tired(state):
        return
    # One step ahead of what is told: only where there is no further one is it known which was the last.
    ahead = walk()
    found = next(ahead, None)
    while found is not None and not jury.tired(state):
        (x, loss, norm, seconds, report), found = found, next(ahead, None)
        state = state._replace(iteration=state.iteration + 1, params=flat.placed(x))
        state, validation = jury.seen(state, (state.iteration, loss, state.params), last=found is None)
        yield Progress(state.iteration, loss, norm, seconds, report, state, validation)


def check(
    settings: Training, field, cohort: Cohort, subjects: np.ndarray, validation: np.ndarray | None = None
) -> None:
    """Raise where a phase does not suit the field, the subjects that are to be fitted, or those who are to judge.

    Raises:
        ConfigError: A batch is larger than the cohort, a name fits no parameter, nothing was observed of a part of the
            history, or slopes are to be matched that nobody can tell.
    """
    for phase in settings.plan:
        batches(len(subjects), phase.batch_size, 0)
        phase.moving(field.shapes(cohort.amounts.shape[-1]))
        part = shortened(cohort.take(subjects), phase.length)
        if phase.optimiser == "matching":
            refuse(part)
        if settings.validate_every is not None and validation is not None:
            shortened(cohort.take(validation), phase.length)
