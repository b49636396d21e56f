"""What a profile says of exposure and disposition."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .areas import area, terminal, whole
from .profiles import Profile


class Nca(NamedTuple):
    """What is found of each profile, `[...]`; NaN where it cannot be. Times are after the dose.

    Attributes:
        cmax: Largest value; at steady state, of the dosing interval.
        tmax: When it is first measured, h; NaN where nothing can be quantified.
        clast: Last value that can be quantified.
        tlast: Its time, h.
        c0: Value at the dose, measured or put there.
        auc_last: Area from the dose to `tlast`.
        auc_inf: `auc_last` + `clast` / `lambda_z`.
        extrapolated_percent: Share of the second term in it, percent.
        lambda_z: Terminal rate constant, 1/h.
        half_life: ln 2 / `lambda_z`, h.
        points: How many values `lambda_z` is from; 0 for none.
        r2_adjusted: Adjusted R2 of the line through their logarithms.
        clearance: Dose / `auc_inf`; at steady state dose / `auc_tau`.
        volume: Vz, `clearance` / `lambda_z`.
        auc_tau: Area over the dosing interval; beyond `tlast` by `lambda_z`.
        cmin: Smallest value measured within the dosing interval, its ends included; 0 below quantification.
        ctrough: Value measured at its end, likewise.
        cavg: `auc_tau` / its length.
    """

    cmax: np.ndarray
    tmax: np.ndarray
    clast: np.ndarray
    tlast: np.ndarray
    c0: np.ndarray
    auc_last: np.ndarray
    auc_inf: np.ndarray
    extrapolated_percent: np.ndarray
    lambda_z: np.ndarray
    half_life: np.ndarray
    points: np.ndarray
    r2_adjusted: np.ndarray
    clearance: np.ndarray
    volume: np.ndarray
    auc_tau: np.ndarray
    cmin: np.ndarray
    ctrough: np.ndarray
    cavg: np.ndarray


def analysis(
    profile: Profile, route: str, dose: np.ndarray, duration: np.ndarray, tau: np.ndarray, steady: np.ndarray
) -> Nca:
    """What profiles say; all numbers and `Nca` are `[...]`.

    Args:
        profile: Profiles after a dose.
        route: As `nca.nca`.
        dose: mg; NaN for unknown.
        duration: Of an infusion, h, else 0.
        tau: Dosing interval, h; NaN for none.
        steady: Whether it is one of a steady state.
    """
    none = profile.last < 0
    tlast, clast = profile.at(profile.last)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        counts = profile.measured & ~(steady[..., None] & (profile.times > tau[..., None]))
        heights = np.where(counts, profile.values, -np.inf)
        tmax, cmax = profile.at(np.where(counts.any(-1), heights.argmax(-1), -1))
        tmax = np.where(cmax > 0, tmax, np.nan)
        earliest = np.fmax(tmax, duration) if route == "infusion" else tmax
        included = (earliest > tmax) | (route == "bolus")
        slope = terminal(profile, earliest, included)
        last = np.where(profile.size > 0, area(profile, np.zeros(tau.shape), np.where(none, 0.0, tlast)), np.nan)
        rest = clast / slope.rate
        over_tau = whole(profile, slope.rate, np.zeros(tau.shape), tau)
        clearance = dose / np.where(steady, over_tau, last + rest)
        return Nca(
            cmax=cmax,
            tmax=tmax,
            clast=clast,
            tlast=tlast,
            c0=profile.at(np.where(profile.size > 0, 0, -1))[1],
            auc_last=last,
            auc_inf=last + rest,
            extrapolated_percent=100 * rest / (last + rest),
            lambda_z=slope.rate,
            half_life=np.log(2) / slope.rate,
            points=slope.points,
            r2_adjusted=slope.r2_adjusted,
            clearance=clearance,
            volume=clearance / slope.rate,
            auc_tau=over_tau,
            cmin=profile.least,
            ctrough=profile.trough,
            cavg=over_tau / tau,
        )
