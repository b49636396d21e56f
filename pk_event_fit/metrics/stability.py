"""How a solver takes the doses: against the exact solution, in the hours around each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .checks import alike, numbers

TIE = 4  # units in the last place within which two times are one


class Event(NamedTuple):
    """A dose, by its place on the curves.

    Attributes:
        before: Index of the last point before the dose acts; the dose begins at its time.
        after: Index of the first point once all of it is in. With a restart that is the next point, at the same time;
            with an infusion it is the point at the infusion's end.
        compartment: Which compartment is dosed, from 0.
    """

    before: int
    after: int
    compartment: int


class Stability(NamedTuple):
    """What solved curves do at the doses.

    The residual is predicted less exact. The window of a dose reaches from its after-point over the given hours, both
    ends included, but not past the next dose's before-point; a time that repeats in it counts once.

    Attributes:
        jump_mg: Change in the dosed compartment from the before- to the after-point, as predicted; mean over subjects
            and doses, mg.
        jump_error_mg: |that change - the exact change|, mean over subjects and doses, mg.
        jump_error_max_mg: Its largest, mg.
        overshoot_percent_mean: Largest residual of the dosed compartment in the window, not below 0, over the exact
            change, in percent; mean over subjects and doses.
        overshoot_percent_max: Its largest, percent.
        oscillation_mg: Half the range of the residual in the window, its straight-line least-squares fit removed; mean
            over subjects, doses and compartments, mg. A window with under 3 points is left out; None if all are.
        noise_mg2: Variance of the second differences of the residual in the window: how unsteadily it bends, so that
            neither the curve's own bend nor a smooth error is noise; mean over subjects, doses and compartments, mg^2.
            Where points lie unevenly, twice the divided difference times the square of the window's mean spacing, which
            with even spacing is the usual one; compare numbers of like spacing alone. A window with under 4 points,
            which hold one difference at most, is left out; None if all are.
        time_to_peak_h: By compartment: hours from the before-point to the largest predicted amount (the first of
            equals) among the points after it, up to the next dose's before-point or the end; mean over subjects and
            doses.
        time_to_peak_exact_h: The same of the exact curve.
        error_max_mg: Largest |residual| of all subjects, points and compartments, mg.
        error_rms_mg: Root of the mean square of all residuals, mg.
    """

    jump_mg: float
    jump_error_mg: float
    jump_error_max_mg: float
    overshoot_percent_mean: float
    overshoot_percent_max: float
    oscillation_mg: float | None
    noise_mg2: float | None
    time_to_peak_h: dict[str, float]
    time_to_peak_exact_h: dict[str, float]
    error_max_mg: float
    error_rms_mg: float


def stability(
    predicted: np.ndarray,
    exact: np.ndarray,
    times: np.ndarray,
    *,
    events: Sequence[Event],
    compartments: Sequence[str],
    window: float = 0.5,
) -> Stability:
    """Compare whole trajectories with the exact ones at the doses that all subjects share.

    Solves of intervals of K points each become curves by `states.reshape(B, S * K, D)` from `[B, S, K, D]`; the dose
    that starts interval k is then `Event(k * K - 1, k * K, compartment)`.

    Args:
        predicted: Amounts, mg, `[B, N, D]`.
        exact: The exact solution of the same problem (for an infusion, of that infusion) at the same points, mg.
        times: Clock of the points, h, `[N]`, not decreasing; a time repeats where a curve jumps.
        events: Doses to look at, in any order; two into two compartments at one time are two events. A dose at the very
            start has no point before it and cannot be looked at.
        compartments: Names of the D compartments.
        window: How long after the after-point to look, h.

    Raises:
        DataError: Shapes do not fit, an array is empty or a number in it is not finite, times decrease, there is no
            event, one has no place on the curves or overlaps another, the exact amount does not rise at it, or the
            window is not above 0.
    """
    predicted, exact, times = _curves(predicted, exact, times, compartments)
    if not (np.isfinite(window) and window > 0):
        raise DataError(f"window={window}: must be above 0 h, and finite")
    doses = _ordered(events, len(times), len(compartments))
    windows = [_window(times, dose.after, _last(dose, doses, len(times)), window) for dose in doses]
    residual = predicted - exact
    jumps, rises = [_change(predicted, dose) for dose in doses], [_rise(exact, dose) for dose in doses]
    errors = abs(np.subtract(jumps, rises))
    excess = [residual[:, near, dose.compartment].max(1) for dose, near in zip(doses, windows, strict=True)]
    overshoots = 100 * np.maximum(excess, 0) / rises
    swings = [_swing(residual[:, near], times[near]) for near in windows if len(near) >= 3]
    noises = [_bends(residual[:, near], times[near]).var(1) for near in windows if len(near) >= 4]
    return Stability(
        jump_mg=float(np.mean(jumps)),
        jump_error_mg=float(errors.mean()),
        jump_error_max_mg=float(errors.max()),
        overshoot_percent_mean=float(overshoots.mean()),
        overshoot_percent_max=float(overshoots.max()),
        oscillation_mg=float(np.mean(swings)) if swings else None,
        noise_mg2=float(np.mean(noises)) if noises else None,
        time_to_peak_h=_times_to_peak(predicted, times, doses, compartments),
        time_to_peak_exact_h=_times_to_peak(exact, times, doses, compartments),
        error_max_mg=float(abs(residual).max()),
        error_rms_mg=float((residual**2).mean() ** 0.5),
    )


def consistency(predictions_by_seed: np.ndarray, jump_mg: float) -> float | None:
    """How little the predictions depend on the seed: 1 is not at all.

    1 - r / jump, not below 0, where r is the root of the mean, over all points, of the variance over seeds (divisor
    R - 1): the typical standard deviation over seeds, in units of a dose.

    Args:
        predictions_by_seed: Amounts, mg, `[R, ...]`: the same points for each of R seeds.
        jump_mg: Mean jump at a dose, mg.

    Returns:
        The score, from 0 to 1; None with fewer than two seeds.

    Raises:
        DataError: There are no predictions, one is not finite, or the jump is not above 0.
    """
    predictions = numbers("predictions", predictions_by_seed)
    if not (np.isfinite(jump_mg) and jump_mg > 0):
        raise DataError(f"jump_mg={jump_mg}: must be above 0, and finite")
    if predictions.ndim < 1 or len(predictions) < 2:
        return None
    # Centred on one seed first: seeds that agree to the bit have a deviation of 0, not of a rounding error.
    variance = (predictions - predictions[0]).var(0, ddof=1).mean()
    return max(0.0, 1 - float(variance) ** 0.5 / float(jump_mg))


def _curves(predicted, exact, times, compartments: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    predicted, exact = alike("predicted", predicted, "exact", exact, 3)
    times = numbers("times", times, 1)
    if len(times) != exact.shape[1]:
        raise DataError(f"times: {len(times)} for curves of {exact.shape[1]} points")
    if (np.diff(times) < 0).any():
        place = int(np.argmax(np.diff(times) < 0))
        raise DataError(f"times: {times[place + 1]:g} h comes after {times[place]:g} h: must not decrease")
    if len(set(compartments)) != len(compartments) or len(compartments) != exact.shape[2]:
        raise DataError(f"compartments {list(compartments)}: needs {exact.shape[2]} different names")
    return predicted, exact, times


def _ordered(events: Sequence[Event], points: int, compartments: int) -> list[Event]:
    doses = [Event(*event) for event in sorted(events)]
    if not doses:
        raise DataError("events: none: stability is about doses")
    for dose in doses:
        if not 0 <= dose.before < dose.after < points:
            raise DataError(f"{dose}: needs 0 <= before < after < {points}, the number of points")
        if not 0 <= dose.compartment < compartments:
            raise DataError(f"{dose}: choose compartment 0 to {compartments - 1}")
    for dose, other in pairwise(doses):
        if dose == other or (other.before < dose.after and dose[:2] != other[:2]):
            raise DataError(f"{dose} and {other}: are the same or overlap")
    return doses


def _last(dose: Event, doses: Sequence[Event], points: int) -> int:
    """Index of the last point before the next dose, or of the end."""
    return min((other.before for other in doses if other.before >= dose.after), default=points - 1)


def _window(times: np.ndarray, first: int, last: int, hours: float) -> np.ndarray:
    """Indices from `first` to `last` within so many hours, each time once."""
    end = times[first] + hours
    near = np.arange(first, last + 1)
    tie = TIE * np.spacing(abs(end))
    near = near[times[near] <= end + tie]
    return near[np.diff(times[near], prepend=-np.inf) > tie]


def _change(curves: np.ndarray, dose: Event) -> np.ndarray:
    return curves[:, dose.after, dose.compartment] - curves[:, dose.before, dose.compartment]


def _rise(exact: np.ndarray, dose: Event) -> np.ndarray:
    rise = _change(exact, dose)
    if (rise <= 0).any():
        subject = int(np.argmax(rise <= 0))
        raise DataError(f"{dose}, subject {subject}: the exact amount changes by {rise[subject]:g} mg: must rise")
    return rise


def _swing(residual: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Half the range of `[B, W, D]` about each one's straight line, `[B, D]`."""
    clock, level = times - times.mean(), residual - residual.mean(1, keepdims=True)
    slope = np.einsum("w,bwd->bd", clock, level) / (clock @ clock)
    return np.ptp(level - slope[:, None] * clock[:, None], axis=1) / 2


def _bends(residual: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Second differences of `[B, W, D]`, whatever the spacing, `[B, W - 2, D]`."""
    gaps = np.diff(times)[:, None]
    slopes = np.diff(residual, axis=1) / gaps
    return 2 * np.diff(slopes, axis=1) / (gaps[1:] + gaps[:-1]) * gaps.mean() ** 2


def _times_to_peak(
    curves: np.ndarray, times: np.ndarray, doses: Sequence[Event], compartments: Sequence[str]
) -> dict[str, float]:
    delays = []
    for dose in doses:
        first, last = dose.before + 1, _last(dose, doses, len(times))
        peaks = curves[:, first : last + 1].argmax(1)
        delays.append(times[first + peaks] - times[dose.before])
    means = np.mean(delays, axis=(0, 1))
    return {name: float(mean) for name, mean in zip(compartments, means, strict=True)}
