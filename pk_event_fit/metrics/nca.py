"""Non-compartmental analysis: exposure and disposition from a profile itself, without a model of it.

What a value is decides the units. Of concentrations in mg/L, times in h and doses in mg: areas in mg h/L, clearance in
L/h and volume in L. Of amounts in mg: areas in mg h, "clearance" is a rate constant in 1/h, and "volume" a number.
After an extravascular dose both are apparent: CL/F and Vz/F. How values that are missing, below quantification or not
there at the dose are taken: `profiles`. How areas and slopes are: `areas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError, DataError
from .checks import broadcast, real, together, where
from .disposition import Nca, analysis
from .profiles import compact, observations, profiles, since

ROUTES = ("extravascular", "bolus", "infusion")


# Neither a number of points nor an R2 nor a percentage is a quantity to divide.
RATIOS = tuple(name for name in Nca._fields if name not in ("points", "r2_adjusted", "extrapolated_percent"))


class Comparison(NamedTuple):
    """A prediction beside what was observed.

    Attributes:
        observed: Of what was observed.
        predicted: Of the prediction at the same points.
        ratio: Predicted / observed, `{name: [...]}`, of all but `points`, `r2_adjusted` and `extrapolated_percent`; NaN
            where either is, or the observed one is 0.
    """

    observed: Nca
    predicted: Nca
    ratio: dict[str, np.ndarray]


def nca(
    times: Any, values: Any, *, dose: Any = None, dose_time: Any = 0.0, route: str = "extravascular",
    duration: Any = 0.0, tau: Any = None, steady: Any = False, censored: Any = None, lloq: Any = 0.0,
) -> Nca:  # fmt: skip
    """Non-compartmental analysis of profiles after one dose each.

    `[...]` are subjects, or whatever else; `times` and what is given of doses may lack their axes. A cohort on a grid,
    `[B, S, K]` of a compartment, is one profile for each subject and interval, with `dose_time=times[..., 0]`.

    Args:
        times: h, `[..., N]`.
        values: Concentrations or amounts, `[..., N]`; NaN where nothing was measured.
        dose: Amount, mg, `[...]`; None or NaN for unknown.
        dose_time: h, `[...]`; points before it are left out.
        route: `extravascular`, `bolus` or `infusion`. The terminal slope may hold the point at Cmax for a bolus alone.
        duration: Of infusions, h, `[...]`: points before their end are none of the terminal slope.
        tau: Dosing interval, h, `[...]`; None or NaN for none.
        steady: Whether it is one of a steady state, `[...]`. A value above 0 at the time of a bolus was taken after it.
        censored: Which values are below quantification, `[..., N]`; None for none.
        lloq: Lower limit of quantification, in the unit of the values, `[...]`.

    Raises:
        ConfigError: There is no such route, or a duration without an infusion.
        DataError: Shapes do not fit, a number is out of range, times do not increase, or a steady state has no `tau`.
    """
    times, values = observations(times, values, censored, lloq)
    shape = times.shape[:-1]
    amount, start, lasts, length = (
        broadcast(name, np.nan if x is None else x, shape)
        for name, x in (("dose", dose), ("dose_time", dose_time), ("duration", duration), ("tau", tau))
    )
    settled = broadcast("steady", steady, shape) != 0
    _check(route, amount, lasts, length)
    if (settled & np.isnan(length)).any():
        raise DataError("steady: a steady state needs its dosing interval, tau")
    profile = profiles(times, values, start, length, route == "bolus", settled)
    return analysis(profile, route, amount, lasts, length, settled)


def by_interval(
    times: Any, values: Any, dose_times: Any, *, end: Any = None, dose: Any = None, route: str = "extravascular",
    duration: Any = 0.0, steady: Any = False, censored: Any = None, lloq: Any = 0.0,
) -> Nca:  # fmt: skip
    """Non-compartmental analysis of each dosing interval of a profile after several doses, `[..., M]`.

    An interval reaches from its dose to the next, both ends included. Where two points share the time of a dose, the
    first was measured before it and the second after. One alone is of both intervals; but at a bolus other than the
    first, or of a steady state, it is the trough before, and the opening value is put there. Without a steady state
    `clearance` and `volume` of all but the first interval are NaN, and their `auc_inf` holds what is left of doses
    before.

    Args:
        times: As `nca`, and so are `route`, `censored` and `lloq`; a time repeats at a dose alone.
        values: As `nca`.
        dose_times: h, `[..., M]`, increasing; NaN behind the last dose of a profile.
        end: When the interval of the last dose ends, h, `[...]`; None or NaN for an open one, which has no `auc_tau`.
        dose: Amounts, mg, `[..., M]`, and so are `duration`, h, and `steady`.

    Raises:
        ConfigError: As `nca`.
        DataError: As `nca`, or dose times do not increase, or more than two points share the time of a dose, or more
            than one that of the end.
    """
    times, values = observations(times, values, censored, lloq)
    times, values, _ = compact(~np.isnan(values), times, values)
    starts, stops = _doses(times.shape[:-1], dose_times, end)
    tau = stops - starts
    given = (("dose", np.nan if dose is None else dose), ("duration", duration), ("steady", steady))
    amount, lasts, settled = (broadcast(name, x, starts.shape) for name, x in given)
    settled = settled != 0
    _check(route, amount, lasts, tau)
    before = settled | (np.arange(starts.shape[-1]) > 0)  # there is drug of doses before
    used = _used(since(times[..., None, :], starts, tau), starts, tau, before & (route == "bolus"))
    values = np.where(used, values[..., None, :], np.nan)
    profile = profiles(times[..., None, :], values, starts, tau, route == "bolus", before)
    return analysis(profile, route, np.where(before & ~settled, np.nan, amount), lasts, tau, before)


def _used(after: np.ndarray, starts: np.ndarray, tau: np.ndarray, trough: np.ndarray) -> np.ndarray:
    """Which points are of which interval, `[..., M, N]`, by their time after each dose, h, `[..., M, N]`.

    Args:
        after: Time after each dose, h.
        starts: Of the doses, h, `[..., M]`.
        tau: Length of each interval, h, likewise.
        trough: Whether a lone point at a dose was taken before it, likewise.

    Raises:
        DataError: More points share the time of a dose, or of the end, than are told apart.
    """
    place = np.arange(after.shape[-1])
    at_start, at_end = after == 0, after == tau[..., None]
    if (at_start.sum(-1) > 2).any():
        raise DataError(f"times: more than two points at the dose at {starts[where(at_start.sum(-1) > 2)]:g} h")
    final = np.isnan(np.concatenate([starts[..., 1:], np.full_like(starts[..., :1], np.nan)], -1))
    if (wrong := final & (at_end.sum(-1) > 1)).any():
        raise DataError(f"times: more than one point at the end at {(starts + tau)[wrong][0]:g} h, where no dose is")
    alone = (at_start.sum(-1) == 1) & trough
    opens = at_start & (place == np.where(at_start, place, -1).max(-1)[..., None]) & ~alone[..., None]
    closes = at_end & (place == np.where(at_end, place, len(place)).min(-1)[..., None])
    with np.errstate(invalid="ignore"):
        return opens | closes | ((after > 0) & ~(after >= tau[..., None]))


def compare(
    times: Any, observed: Any, predicted: Any, *, method: Callable[..., Nca] = nca,
    censored: Any = None, lloq: Any = 0.0, **options: Any,
) -> Comparison:  # fmt: skip
    """The same analysis of what was observed and of a prediction, at the same points.

    What is missing or below quantification in the data is so in the prediction, whatever it is there, so that areas are
    of the same spans; so is a prediction under the limit.

    Args:
        times: h, `[..., N]`.
        observed: `[..., N]`; NaN where nothing was.
        predicted: `[..., N]`, in the same unit.
        method: `nca` or `by_interval`.
        censored: As `nca`, and so is `lloq`.
        options: Of the method.

    Raises:
        ConfigError: As `nca`.
        DataError: As `nca`, or a prediction of a measured value is not finite.
    """
    clock, data = observations(times, observed, censored, lloq)
    clock, data, model = together(("times", clock), ("observed", data), ("predicted", real("predicted", predicted)))
    if (wrong := ~np.isnan(data) & ~np.isfinite(model)).any():
        raise DataError(f"predicted: {model[wrong][0]} at {where(wrong)}, where a value was measured: must be finite")
    one = method(clock, data, **options)
    other = method(clock, np.where(np.isnan(data), np.nan, model), censored=data == 0, lloq=lloq, **options)
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in RATIOS}
    with np.errstate(invalid="ignore"):
        ratio = {name: b / np.where(a > 0, a, np.nan) for name, (a, b) in pairs.items()}
    return Comparison(one, other, ratio)


def _doses(shape: tuple[int, ...], dose_times: Any, end: Any) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each dosing interval, h, `[..., M]`; NaN where there is none."""
    starts = real("dose_times", dose_times)
    if starts.ndim < 1 or not starts.shape[-1]:
        raise DataError(f"dose_times: have the shape {starts.shape}: need doses along the last axis")
    starts = broadcast("dose_times", starts, (*shape, starts.shape[-1]))
    final = broadcast("end", np.nan if end is None else end, shape)[..., None]
    following = np.concatenate([starts[..., 1:], np.full_like(final, np.nan)], -1)
    stops = np.where(np.isnan(following), final, following)
    if np.isinf(starts).any() or (np.isnan(starts[..., :-1]) & ~np.isnan(starts[..., 1:])).any():
        raise DataError("dose_times: must be finite, or NaN behind the last dose")
    if (wrong := stops <= starts).any():
        spot = where(wrong)
        told = f"{stops[spot]:g} h follows {starts[spot]:g} h"
        raise DataError(f"dose_times: {told}: must increase, each once, up to end")
    return starts, stops


def _check(route: str, dose: np.ndarray, duration: np.ndarray, tau: np.ndarray) -> None:
    if route not in ROUTES:
        raise ConfigError(f"route={route}: choose one of {', '.join(ROUTES)}")
    if route != "infusion" and duration.any():
        raise ConfigError(f"duration={duration.max():g}: is for route=infusion alone")
    for name, values in (("dose", dose), ("tau", tau)):
        if (wrong := (values <= 0) | np.isinf(values)).any():
            raise DataError(f"{name}: {values[wrong][0]:g} at {where(wrong)}: must be above 0 and finite, or NaN")
    if not (np.isfinite(duration) & (duration >= 0)).all():
        raise DataError("duration: must be 0 or more, and finite")
