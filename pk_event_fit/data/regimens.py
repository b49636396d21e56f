"""Subjects under other doses than their own: by known kinetics, or by superposition of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compartments import Kinetics
from ..dosing import Dose, schedule
from ..errors import ConfigError
from ..intervals import Interval
from ..records import Event, Reset
from ..simulate.exact import along
from ..simulate.regimen import events_of
from .cohort import Cohort, begun, sealed
from .covariates import with_covariates
from .settings import Data


def jitter(
    cohort: Cohort, settings: Data, *, amounts: float = 0.0, times: float = 0.0, seed: int,
    subjects: np.ndarray | None = None,
) -> Cohort:  # fmt: skip
    """A copy of each simulated subject whose doses differ a little in amount and time; solved again, exactly.

    Each dose of a course varies by itself. An infusion keeps its rate, or its duration, whichever it is told by. No
    dose comes before the start, and one that is moved past the end is not given. Nothing is added of `noise_sd`.

    Args:
        cohort: That was made by `settings`, or some of its subjects.
        settings: Of simulated subjects; their kinetics are known.
        amounts: Coefficient of variation of amounts, log-normal around what was planned.
        times: Standard deviation of times, h.
        seed: Of the draw.
        subjects: Which of the simulated subjects the cohort has, `[B]`; None for all.

    Returns:
        As many subjects, with intervals and `times [B, S, K]` of their own; where one has fewer intervals than another,
        weights tell which count.

    Raises:
        ConfigError: The kinetics are not known, the cohort is not of these subjects, a dose leads to a steady state,
            or a spread is out of range.
    """
    if settings.source != "simulated" or cohort.table is not None:
        raise ConfigError("jitter: the kinetics are known of simulated subjects alone")
    if not (0 <= amounts < 10 and 0 <= times < np.inf):
        raise ConfigError(f"jitter: amounts={amounts}, times={times}: must be 0 or more, and amounts below 10")
    model, whose = settings.model, np.arange(settings.subjects) if subjects is None else np.asarray(subjects)
    if len(whose) != len(cohort.amounts) or model.compartments != cohort.compartments:
        raise ConfigError(
            f"jitter: the cohort has {len(cohort.amounts)} subjects in {', '.join(cohort.compartments)}, and the "
            f"settings {len(whose)} in {', '.join(model.compartments)}"
        )
    random = np.random.Generator(np.random.PCG64([seed, 5]))
    planned, spread = _singles(settings), float(np.sqrt(np.log1p(amounts**2)))
    histories = [_moved(planned, random, spread, times, settings.start) for _ in whose]
    size = len(model.compartments)
    plan = schedule(histories, start=settings.start, end=settings.until, compartments=size)
    parameters = settings.draw()
    begin = settings.begin(model, parameters)[whose]
    found = along(model, parameters[whose], plan, cohort.grid, begin)
    padding = (plan.clock.heads < 0).T[..., None, None]
    if (values := cohort.intervals.covariates) is not None:
        plan = with_covariates(plan, values[0])
    table = plan.intervals
    return sealed(cohort._replace(
        amounts=np.where(padding, np.nan, found), initial=begin, intervals=table,
        times=table.start.T[..., None] + cohort.grid * table.duration.T[..., None], ignored=int(plan.ignored.max()),
        weights=np.where(padding, 0.0, np.ones_like(found)) if padding.any() else None, origin=np.arange(len(whose)),
        begun=begun(plan),
    ))  # fmt: skip


def _singles(settings: Data) -> list[Event]:
    """Every planned dose by itself, and resets."""
    if settings.doses is None:
        listed = zip(settings.dose_times, settings.dose_amounts, settings.dose_compartments, strict=True)
        return [Dose(*dose) for dose in listed]
    singles: list[Event] = []
    for event in events_of(settings.doses, "data.doses"):
        if isinstance(event, Reset):
            singles.append(event)
        elif event.steady_state:
            raise ConfigError("jitter: a dose that leads to a steady state stands for endlessly many; write them out")
        else:
            times = (event.time + number * event.every for number in range(event.count))
            singles += [event._replace(time=time, every=0.0, count=1) for time in times]
    return singles


def _moved(planned: list[Event], random: np.random.Generator, spread: float, hours: float, start: float) -> list[Event]:
    moved: list[Event] = []
    for event in planned:
        if not isinstance(event, Reset):
            late, more = hours * random.standard_normal(), np.exp(spread * random.standard_normal())
            event = event._replace(time=max(start, float(event.time + late)), amount=float(event.amount * more))
        moved.append(event)
    return moved


def superpose(cohort: Cohort, amounts: Sequence[float], every: int, kinetics: Kinetics) -> Cohort:
    """What doses in a row would do to subjects who were observed after a single bolus, if their kinetics are linear.

    It is the sum of the single response, shifted and scaled (Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, chapter
    3). Doses fall on times of the grid, so that nothing is interpolated, and end before the single response does, so
    that nothing is extrapolated. An error of the single response comes back after every dose.

    Args:
        cohort: Nothing in the body until a bolus at the start of the last interval; on a grid.
        amounts: Of the doses, in the unit of the single one and where it went; N of them.
        every: Steps of the grid from dose to dose, and after the last.
        kinetics: Those of the subjects; of measured ones, those that they are held to have.

    Returns:
        The same subjects, with N intervals of `every + 1` points each.

    Raises:
        ConfigError: The kinetics are not linear, the cohort is none of single boluses on a grid, or its grid is too
            short.
    """
    if not kinetics.linear:
        raise ConfigError(f"superpose: {kinetics.name} is not linear")
    table, given = cohort.intervals, np.asarray(amounts, np.float64)
    plain = table.rate is None and table.keep is None and table.points is None and cohort.steady is None
    if not plain or cohort.times.ndim != 2 or (table.bolus[:-1] != 0).any() or not (table.bolus[-1].sum(-1) > 0).all():
        raise ConfigError(
            "superpose: needs subjects on a grid who are given one bolus, at the start of its last interval"
        )
    single = table.bolus[-1]
    if (np.abs(cohort.initial).max(-1) > 1e-9 * single.sum(-1)).any() or ((single > 0).sum(-1) != 1).any():
        raise ConfigError("superpose: needs empty subjects, and a bolus into one compartment")
    steps = cohort.amounts.shape[2] - 1
    if given.ndim != 1 or not (given > 0).all() or every < 1 or not 1 <= len(given) * every <= steps:
        raise ConfigError(f"superpose: {given.size} doses every {every} steps: the grid has {steps}")
    share = given[:, None] / single.sum(-1)  # [N, B]
    response, count = cohort.amounts[:, -1], len(given)
    found = np.zeros((len(response), count, every + 1, response.shape[-1]))
    for k in range(count):
        for i in range(k + 1):
            first = (k - i) * every
            found[:, k] += share[i][:, None, None] * response[:, first : first + every + 1]
    length = table.duration[-1] * every / steps
    start = table.start[-1] + length * np.arange(count)[:, None]
    held = None if table.covariates is None else np.repeat(table.covariates[-1:], count, 0)
    intervals = Interval(
        np.arange(count), start, np.tile(length, (count, 1)), share[..., None] * single, covariates=held
    )
    seen = np.isfinite(found)
    grid = np.linspace(0.0, 1.0, every + 1)
    return sealed(cohort._replace(
        amounts=found, initial=np.zeros_like(cohort.initial), intervals=intervals, grid=grid,
        times=start[:, :1] + grid * length[0], weights=None if seen.all() else seen.astype(np.float64), ignored=0,
        begun=None,
    ))  # fmt: skip
