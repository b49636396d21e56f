"""Noisy copies of subjects, and what a fit is shown of a cohort."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import ConfigError
from .cohort import Cohort, sealed
from .settings import Data
from .splits import forecast


def augment(
    cohort: Cohort, n: int, sigma: float, *, relative: bool = True, seed: int, keep: bool = True, initial: bool = False
) -> Cohort:
    """Copies of every subject with normal noise of its own on each number that was observed.

    Missing observations stay missing; doses, clocks, weights and covariates are those of the original. A number that is
    the mean of w observations has the noise of a mean, sigma / sqrt(w). A value of 0 has no relative noise. The
    result's `origin` tells which subject each is a copy of.

    Args:
        cohort: Whose copies.
        n: Copies of each subject.
        sigma: Standard deviation of one observation's noise, relative to the value, or in the unit of what is observed.
        relative: Which of the two.
        seed: Of the noise.
        keep: Whether the subjects themselves come first.
        initial: Whether initial amounts have noise as well; they never fall below 0.

    Returns:
        The subjects, if they are kept, then all of them with the noise of the first copy, and so on.

    Raises:
        ConfigError: There is no copy to make, or sigma is out of range.
    """
    if n < 1 or not 0 < sigma < np.inf:
        raise ConfigError(f"augment: n={n}, sigma={sigma}: both must be above 0, and sigma finite")
    subjects = len(cohort.amounts)
    source = np.tile(np.arange(subjects), n + keep)
    first = subjects * keep
    copies = cohort.take(source)
    random = np.random.Generator(np.random.PCG64([seed, 4]))

    def noisy(values: np.ndarray, share: np.ndarray | float = 1.0) -> np.ndarray:
        noise = sigma * share * random.standard_normal(values[first:].shape)
        return np.concatenate([values[:first], values[first:] * (1 + noise) if relative else values[first:] + noise])

    weights = np.ones(1) if copies.weights is None else copies.weights[first:]
    amounts = noisy(copies.amounts, 1 / np.sqrt(np.where(weights > 0, weights, 1.0)))
    begin = np.maximum(noisy(copies.initial), 0.0) if initial else copies.initial
    origin = source if cohort.origin is None else cohort.origin[source]
    return sealed(copies._replace(amounts=amounts, initial=begin, origin=origin, table=None))


class Shown(NamedTuple):
    """What a fit is shown of a cohort.

    Attributes:
        seen: The cohort without what is to be foretold.
        copied: The same, and copies of those that are fitted behind it.
        rows: Rows of it that are fitted.
    """

    seen: Cohort
    copied: Cohort
    rows: np.ndarray


def shown(cohort: Cohort, fitted: np.ndarray, settings: Data) -> Shown:
    """The cohort as the settings let a fit see it: nothing is copied of subjects that are held out.

    Args:
        cohort: All that was observed.
        fitted: Subjects that are fitted, increasing.
        settings: `forecast` and `augment`.

    Raises:
        ConfigError: Nothing is left to fit, or to foretell; or a copy of logarithms would not be above 0.
    """
    seen = cohort if settings.forecast is None else forecast(cohort, settings.forecast)
    if settings.forecast is not None:
        known, whole = (np.isfinite(one.amounts[fitted]) for one in (seen, cohort))
        if not (whole & ~known).any():
            raise ConfigError(f"data.forecast={settings.forecast}: nothing was observed later of those that are fitted")
    if not settings.augment:
        return Shown(seen, seen, fitted)
    subjects = len(seen.amounts)
    copies = augment(
        seen.take(fitted), settings.augment, settings.augment_sigma, relative=settings.augment_relative,
        seed=settings.seed, keep=False,
    )  # fmt: skip
    if settings.error == "log" and (copies.amounts <= 0).any():
        raise ConfigError(
            f"data.augment_sigma={settings.augment_sigma}: makes values of 0 or less, without a logarithm"
        )
    origin = np.concatenate([np.arange(subjects), fitted[copies.origin]])
    alike = seen.take(origin)
    amounts = np.concatenate([seen.amounts, copies.amounts])
    rows = np.concatenate([fitted, np.arange(subjects, len(origin))])
    return Shown(seen, sealed(alike._replace(amounts=amounts, origin=origin, table=None)), rows)
