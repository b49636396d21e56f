"""Concentration profiles made ready for non-compartmental analysis: what is missing, below quantification or not there.

Rules, which are the defaults of the programs that the field uses:

* A missing value (NaN) is left out, and so is a point before the dose.
* A value below quantification (censored, under the limit, 0 or less) is 0 before the first that can be quantified and
  after the last, and is left out between them: `conc.blq` of PKNCA, first and last "keep", middle "drop" (Denney,
  Duvvuri & Buckeridge 2015, J Pharmacokinet Pharmacodyn 42:S65). Areas and slopes end at the last that can be.
* Where nothing was measured at the dose, a value is put there: 0; at steady state the smallest of the dosing interval;
  for a bolus, the line through the logarithms of the first two values, or the first value above 0 where these do not
  fall or one is 0 (Phoenix WinNonlin 8.3, NCA computation rules, "Data checking and pre-treatment"). It counts for
  areas alone, which are NaN where nothing was measured in the dosing interval of a steady state.
* At the time of a bolus a value of 0 was taken before it, and is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .checks import real, together, where

TIE = 4  # units in the last place within which two times are one


class Profile(NamedTuple):
    """Profiles, each with its own number of points; these come first, and what is behind them has no meaning.

    Attributes:
        times: Time after the dose, h, `[..., N]`, increasing, the first 0.
        values: `[..., N]`, 0 or more; 0 is below quantification.
        size: How many points, `[...]`; 0 where nothing was measured.
        last: Index of the last that can be quantified, `[...]`; -1 where none can.
        inserted: Whether the first point was put there, `[...]`.
        least: Smallest value measured in the dosing interval, its ends included, `[...]`; one below quantification
            counts here wherever it stands. NaN where nothing was.
        trough: Value measured at its end, likewise.
    """

    times: np.ndarray
    values: np.ndarray
    size: np.ndarray
    last: np.ndarray
    inserted: np.ndarray
    least: np.ndarray
    trough: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        """Which points were measured, `[..., N]`."""
        place = np.arange(self.times.shape[-1])
        return (place < self.size[..., None]) & (place >= self.inserted[..., None])

    def at(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Time, h, and value of the points of these indices, `[...]`; NaN where an index is below 0."""
        taken = np.maximum(place, 0)[..., None]
        found = (np.take_along_axis(array, taken, -1)[..., 0] for array in (self.times, self.values))
        time, value = (np.where(place < 0, np.nan, array) for array in found)
        return time, value


def observations(times: Any, values: Any, censored: Any, lloq: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of one shape, float64; values below quantification are 0, and what is missing is NaN in both.

    Args:
        times: h, `[..., N]`.
        values: `[..., N]`; NaN where nothing was measured.
        censored: Which are below quantification, `[..., N]`, their values whatever they are; None for none.
        lloq: Lower limit of quantification, in the unit of the values, `[...]`.

    Raises:
        DataError: The shapes do not fit, there is no point, a value is infinite, a measured one has no time, or the
            limit is below 0.
    """
    times, values, limit = (real(name, x) for name, x in (("times", times), ("values", values), ("lloq", lloq)))
    below = np.asarray(False if censored is None else censored)
    if below.dtype != bool:
        raise DataError(f"censored: has the type {below.dtype}, and needs True and False")
    times, values, below, limit = together(
        ("times", times), ("values", values), ("censored", below), ("lloq", limit[..., None])
    )
    if not values.shape[-1]:
        raise DataError(f"values: have the shape {values.shape}: need points along the last axis")
    if not ((limit >= 0) & np.isfinite(limit)).all():
        raise DataError("lloq: must be 0 or more, and finite")
    if np.isinf(values).any():
        raise DataError(f"values: infinite at {where(np.isinf(values))}: must be finite, or NaN for what is missing")
    seen = below | ~np.isnan(values)
    if (wrong := seen & ~np.isfinite(times)).any():
        raise DataError(f"times: {times[wrong][0]} h at {where(wrong)}, where a value was measured: must be finite")
    with np.errstate(invalid="ignore"):
        values = np.where(seen, np.where(below | (values < limit), 0.0, values), np.nan)
    return np.where(seen, times, np.nan), values


def profiles(
    times: np.ndarray, values: np.ndarray, dose_time: np.ndarray, tau: np.ndarray, bolus: bool, steady: np.ndarray
) -> Profile:
    """Profiles after a dose.

    Args:
        times: h, `[..., N]`, as `observations` gives them.
        values: Likewise.
        dose_time: h, `[...]`.
        tau: Dosing interval, h, `[...]`; NaN for none.
        bolus: Whether the dose is in the sampled compartment at once.
        steady: Whether there is drug from doses before, `[...]`.

    Raises:
        DataError: The times of a profile do not increase.
    """
    after = since(times, dose_time, tau)
    keep = ~np.isnan(values) & (after >= 0) & ~(bolus & (after == 0) & (values == 0))
    after, values, keep = compact(keep, after, values)
    if (wrong := keep[..., 1:] & (np.diff(after) <= 0)).any():
        *profile, k = where(wrong)
        one, other = after[(*profile, k + 1)], after[(*profile, k)]
        told = f"profile {profile}: {one:g} h after the dose follows {other:g} h"
        raise DataError(f"times: {told}: must increase, each once")
    with np.errstate(invalid="ignore"):
        within, at_end = (keep & found for found in (after <= tau[..., None], after == tau[..., None]))
    least, trough = _smallest(values, within), _smallest(values, at_end)
    place = np.arange(values.shape[-1])
    known = keep & (values > 0)
    first = known.argmax(-1)[..., None]
    last = np.where(known, place, -1).max(-1)[..., None]
    after, values, keep = compact(keep & (known | (place < first) | (place > last)), after, values)
    missing = keep[..., 0] & (after[..., 0] > 0)
    start = np.where(missing, _opening(after, values, keep, tau, bolus, steady), 0.0)
    pairs = ((np.zeros(missing.shape), after), (start, values), (missing, keep))
    after, values, keep = (np.concatenate([one[..., None], rest], -1) for one, rest in pairs)
    after, values, keep = compact(keep, after, values)
    last = np.where(keep & (values > 0), np.arange(values.shape[-1]), -1).max(-1)
    after, values = np.where(keep, after, 0.0), np.where(keep, values, 0.0)
    return Profile(after, values, keep.sum(-1), last, missing, least, trough)


def since(times: np.ndarray, dose_time: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Time after a dose, h, `[..., N]`: exactly 0 or `tau` where a rounding error away from it."""
    start, length = dose_time[..., None], tau[..., None]
    after = times - start
    with np.errstate(invalid="ignore"):
        room = TIE * np.spacing(np.maximum(abs(times), abs(start)))
        after = np.where(abs(after) <= room, 0.0, after)
        return np.where(abs(after - length) <= room, length, after)


def _opening(
    after: np.ndarray, values: np.ndarray, keep: np.ndarray, tau: np.ndarray, bolus: bool, steady: np.ndarray
) -> np.ndarray:
    """Value at the dose where none was measured, `[...]`, of points `[..., N]`."""
    if not bolus:
        with np.errstate(invalid="ignore"):
            inside = keep & ~(after > tau[..., None])
        return np.where(steady, _smallest(values, inside), 0.0)
    positive = np.take_along_axis(values, (keep & (values > 0)).argmax(-1)[..., None], -1)[..., 0]
    if values.shape[-1] < 2:
        return positive
    one, two = values[..., 0], values[..., 1]
    falls = keep[..., 1] & (two > 0) & (one > two)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rate = (np.log(one) - np.log(two)) / (after[..., 1] - after[..., 0])
        line = one * np.exp(rate * after[..., 0])
    return np.where(falls & np.isfinite(line), line, positive)


def _smallest(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Of some points each, `[...]`; NaN where there are none."""
    return np.where(among.any(-1), np.where(among, values, np.inf).min(-1), np.nan)


def compact(keep: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The points to keep come first, in their order; and which places they take."""
    order = np.argsort(~keep, axis=-1, kind="stable")
    return [np.take_along_axis(array, order, -1) for array in (*arrays, keep)]
