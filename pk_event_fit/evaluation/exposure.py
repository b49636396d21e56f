"""Non-compartmental analysis of data and prediction at the same points, dose by dose."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compartments import lookup
from ..doses import TIE
from ..metrics.nca import Comparison, by_interval, compare
from ..records import OBSERVATION
from .cases import Case, Given

QUANTITIES = (
    "cmax", "tmax", "auc_last", "auc_inf", "lambda_z", "half_life", "clearance", "volume", "auc_tau", "ctrough",
)  # fmt: skip
NEAR = 1e-6  # of an interval: observations that end so near its end have followed it to there


class Profiles(NamedTuple):
    """What was observed of one compartment, and the doses that profiles begin with; n subjects who have either.

    Attributes:
        times: h, `[n, N]`; NaN behind the last.
        observed: `[n, N]`, likewise.
        predicted: `[n, N]`, likewise.
        begin: Of doses, h, `[n, M]`; NaN behind the last.
        dose: mg, `[n, M]`.
        duration: Of infusions, h, `[n, M]`.
        route: `extravascular`, `bolus` or `infusion`, `[n, M]`.
        steady: Whether the dose is one of a steady state, `[n, M]`.
        end: When the interval of the last dose ends, h, `[n]`; NaN for an open one.
        limit: Of quantification, in the unit of what was observed, `[n]`; 0 for none.
    """

    times: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    begin: np.ndarray
    dose: np.ndarray
    duration: np.ndarray
    route: np.ndarray
    steady: np.ndarray
    end: np.ndarray
    limit: np.ndarray


class Exposure(NamedTuple):
    """Analyses of each compartment that was observed, `{name: ...}`.

    Attributes:
        found: Data and prediction side by side, `{quantity: (observed, predicted)}`, `[B, M]`.
        begin: Of the doses, h, `[B, M]`.
        dose: mg, `[B, M]`.
    """

    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
    begin: dict[str, np.ndarray]
    dose: dict[str, np.ndarray]


def exposure(case: Case, predicted: np.ndarray) -> Exposure:
    """Analyses of every subject and dose; `predicted` is `[B, S, K, D]`.

    An interval reaches from a dose, into whatever compartment, to the next; that of the last dose is as long as the one
    before it where the data end with it, and else open. Clearance and volume are of compartments that are dosed, and of
    the central, or measured, one.
    """
    found: dict[str, Any] = {}
    begin, dose = {}, {}
    for number, name in enumerate(case.cohort.compartments):
        if not np.isfinite(case.cohort.amounts[..., number]).any() or not len(case.given.begin):
            continue
        profile = profiles(case, predicted, number)
        pairs = _analysed(profile)
        if number not in {*case.given.compartment.tolist(), _central(case)}:
            del pairs["clearance"], pairs["volume"]
        found[name], begin[name], dose[name] = pairs, profile.begin, profile.dose
    return Exposure(found, begin, dose)


def _central(case: Case) -> int:
    """The compartment whose clearance is the subject's."""
    settings = case.settings
    if settings.source == "simulated":
        return lookup(settings.kinetics).observed
    names = case.cohort.compartments
    wanted = settings.measured or "central"
    return names.index(wanted) if wanted in names else 0


def _analysed(profile: Profiles) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each dose by its own route."""
    shape = profile.begin.shape
    pairs = {name: (np.full(shape, np.nan), np.full(shape, np.nan)) for name in QUANTITIES}
    for route in np.unique(profile.route[np.isfinite(profile.begin)]):
        here = profile.route == route
        result: Comparison = compare(
            profile.times, profile.observed, profile.predicted, method=by_interval, dose_times=profile.begin,
            end=profile.end, dose=profile.dose, route=str(route),
            duration=np.where(here, profile.duration, 0.0) if route == "infusion" else 0.0, steady=profile.steady,
            lloq=profile.limit,
        )  # fmt: skip
        for name, (one, other) in pairs.items():
            one[here], other[here] = getattr(result.observed, name)[here], getattr(result.predicted, name)[here]
    return pairs


def profiles(case: Case, predicted: np.ndarray, compartment: int) -> Profiles:
    """Profiles of one compartment; at a dose both sides, elsewhere one value a time."""
    amounts, limit = _quantified(case, compartment)
    rows = [_profile(case, amounts[subject], predicted[subject, ..., compartment], subject)
            for subject in range(len(case.labels))]  # fmt: skip
    doses = [_doses(case.given.of(subject), compartment, rows[subject][0]) for subject in range(len(rows))]
    times, observed, model = (_padded([row[k] for row in rows], np.nan) for k in range(3))
    filling = (np.nan, np.nan, 0.0, "extravascular", False)
    columns = (_padded([own[k] for own in doses], fill) for k, fill in enumerate(filling))
    begin, dose, duration, route, steady = columns
    end = np.array([own[5] for own in doses])
    return Profiles(times, observed, model, begin, dose, duration, route, steady, end, limit)


def _quantified(case: Case, compartment: int) -> tuple[np.ndarray, np.ndarray]:
    """What was observed of a compartment, `[B, S, K]`, 0 where it was below quantification (CENS 1), and each subject's
    limit of that (LLOQ), `[B]`; 0 where there is none, or more than one.
    """
    amounts, limit = case.cohort.amounts[..., compartment].copy(), np.zeros(len(case.labels))
    if case.cohort.table is None:
        return amounts, limit
    rows = case.cohort.table.table.records
    of_it = (rows.kind == OBSERVATION) & (rows.compartment == compartment + 1)
    if rows.censored is not None:
        where = case.cohort.table.schedule.reports
        below = (where.record >= 0) & (of_it & (rows.censored == 1))[where.record]
        at = tuple(leaf[below] for leaf in (where.subject, where.interval, where.point))
        # Of several values at one time those that were quantified count; of a left-out subject none.
        shown = np.isfinite(case.cohort.amounts).any((1, 2, 3))[at[0]] & np.isnan(amounts[at])
        amounts[tuple(leaf[shown] for leaf in at)] = 0.0
    if rows.limit is not None:
        for subject in range(len(limit)):
            own = np.unique(rows.limit[of_it & (rows.subject == subject) & np.isfinite(rows.limit)])
            limit[subject] = own[0] if len(own) == 1 else 0.0
    return amounts, limit


def _profile(case: Case, amounts: np.ndarray, predicted: np.ndarray, subject: int) -> tuple[np.ndarray, ...]:
    """Times, observed and predicted of a subject, from its amounts `[S, K]`."""
    observed = amounts.ravel()
    seen = ~np.isnan(observed)
    times, observed, model = case.times[subject].ravel()[seen], observed[seen], predicted.ravel()[seen]
    # Of one moment the last, which is after all that happens then; and at a dose the first, before it, as well.
    last = np.append(np.diff(times) > TIE * np.spacing(abs(times[1:])), True) if len(times) else seen[:0]
    first = np.append(True, last[:-1]) if len(times) else last
    at_dose = np.isin(times, case.given.of(subject).begin)
    keep = last | (first & at_dose)
    return times[keep], observed[keep], model[keep]


def _doses(own: Given, compartment: int, times: np.ndarray) -> tuple:
    """Begin, amount, duration, route and steadiness of each time at which a subject is dosed, and the last's end."""
    begin, place = np.unique(own.begin, return_inverse=True)
    count = len(begin)
    dose, duration, steady, tau = np.zeros(count), np.zeros(count), np.zeros(count, bool), np.full(count, np.nan)
    np.add.at(dose, place, np.nan_to_num(own.amount))
    route = np.full(count, "extravascular")
    into = own.compartment == compartment
    route[place[into]] = "bolus"
    infused = into & (own.end > own.begin)
    route[place[infused]] = "infusion"
    np.maximum.at(duration, place[infused], (own.end - own.begin)[infused])
    steady[place[own.steady]] = True
    tau[place[own.steady]] = own.tau[own.steady]
    return begin, np.where(dose > 0, dose, np.nan), duration, route, steady, _end(begin, tau, times)


def _end(begin: np.ndarray, tau: np.ndarray, times: np.ndarray) -> float:
    if not len(begin):
        return np.nan
    length = tau[-1] if np.isfinite(tau[-1]) else begin[-1] - begin[-2] if len(begin) > 1 else np.nan
    followed = len(times) and abs(times[-1] - (begin[-1] + length)) <= NEAR * length
    return float(times[-1]) if followed else float(begin[-1] + length) if np.isfinite(tau[-1]) else np.nan


def _padded(rows: list[np.ndarray], fill: Any) -> np.ndarray:
    """Rows of different lengths as one array; one column at least."""
    size = max(1, *(len(row) for row in rows)) if rows else 1
    return np.stack([np.concatenate([row, np.full(size - len(row), fill)]) for row in rows])


def relative_errors(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """100 (predicted - observed) / observed, percent; NaN where either is, or the observed one is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * (predicted / np.where(observed > 0, observed, np.nan) - 1)


def summary(case: Case, found: Exposure) -> dict[str, Any]:
    """`{part: {compartment: {quantity: ...}}}`: medians over subjects and doses, and errors; or why there are none."""
    return {
        part: {
            name: {quantity: _summed(pairs, quantity, who) for quantity in QUANTITIES}
            for name, pairs in found.found.items()
        }
        for part, who in case.parts.items()
    }


def _summed(pairs: dict[str, tuple[np.ndarray, np.ndarray]], quantity: str, who: np.ndarray) -> dict[str, Any]:
    if quantity not in pairs:
        return {"left_out": "what is dosed is another compartment"}
    one, other = (array[who].ravel() for array in pairs[quantity])
    both = np.isfinite(one) & np.isfinite(other)
    if not both.any():
        lost = np.isfinite(one).any()
        return {"left_out": "the prediction has none" if lost else WHY[quantity]}
    one, other = one[both], other[both]
    errors = relative_errors(one, other)
    errors = errors[np.isfinite(errors)]
    told = {"profiles": int(both.sum()), "observed_median": float(np.median(one)),
            "predicted_median": float(np.median(other))}  # fmt: skip
    if not len(errors):
        return told | {"error_left_out": "the observed one is 0"}
    return told | {
        "median_error_percent": float(np.median(errors)),
        "p90_absolute_error_percent": float(np.quantile(abs(errors), 0.9)),
    }


_SLOPE = "no profile falls over three points or more after its peak"
_TAU = "no dosing interval is closed by a next dose"
WHY = {
    "cmax": "nothing was measured after a dose",
    "tmax": "nothing was measured after a dose",
    "auc_last": "nothing was measured after a dose",
    "auc_inf": _SLOPE,
    "lambda_z": _SLOPE,
    "half_life": _SLOPE,
    "clearance": f"{_SLOPE}, after a first dose or at steady state",
    "volume": f"{_SLOPE}, after a first dose or at steady state",
    "auc_tau": _TAU,
    "ctrough": f"{_TAU}, or nothing was measured there",
}


def units(observed_unit: str, time_unit: str) -> dict[str, str]:
    """Of each quantity, where doses are in the unit of an amount: that of what was observed, or of it times L."""
    concentration = observed_unit.endswith("/L")
    area = f"{observed_unit[:-2]} {time_unit}/L" if concentration else f"{observed_unit} {time_unit}"
    return {
        "cmax": observed_unit,
        "tmax": time_unit,
        "auc_last": area,
        "auc_inf": area,
        "lambda_z": f"1/{time_unit}",
        "half_life": time_unit,
        "clearance": f"L/{time_unit}" if concentration else f"1/{time_unit}",
        "volume": "L" if concentration else "1",
        "auc_tau": area,
        "ctrough": observed_unit,
    }
