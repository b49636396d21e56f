"""Which subjects are fitted and which are held out; never by time, but for `forecast`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import ConfigError
from .cohort import Cohort, begun_by_rates, sealed
from .settings import Data


class Split(NamedTuple):
    """Subjects, both in increasing order.

    Attributes:
        train: Those that are fitted.
        test: Those that are held out.
    """

    train: np.ndarray
    test: np.ndarray


def total_dose(cohort: Cohort) -> np.ndarray:
    """What each subject is given in all, boluses and infusions, mg, `[B]`; doses behind a steady state do not count."""
    table = cohort.intervals
    given = table.bolus.sum((0, 2))
    return given if table.rate is None else given + (table.rate * table.duration[..., None]).sum((0, 2))


def train_test_split(cohort: Cohort, test: int | float, seed: int, stratify: np.ndarray | None = None) -> Split:
    """Hold out some subjects, drawn at random.

    Args:
        cohort: Whose.
        test: How many, or what share of them, above 0 and below 1, which is rounded.
        seed: Of the draw.
        stratify: A number for each subject, such as `total_dose(cohort)`, `[B]`: of the subjects in its order each of
            `test` neighbouring groups, alike in size, loses one. None for none.

    Raises:
        ConfigError: It is no such number, a share is rounded to nobody or everybody, nobody is left to fit, or the
            numbers are not one for each subject.
    """
    subjects = len(cohort.amounts)
    count = _count(test, subjects)
    random = _random(seed)
    if stratify is None:
        return _split(subjects, random.permutation(subjects)[:count])
    groups = np.array_split(_ordered(stratify, subjects, random), count) if count else []
    return _split(subjects, np.array([random.choice(group) for group in groups], np.int64))


def k_fold(cohort: Cohort, k: int, seed: int, stratify: np.ndarray | None = None) -> list[Split]:
    """Divide the subjects into `k` parts, at random and alike in size, each of which is held out once.

    Args:
        cohort: Whose.
        k: How many parts.
        seed: Of the draw.
        stratify: As in `train_test_split`: of every `k` neighbours in its order each part has one.

    Raises:
        ConfigError: There are fewer than 2 parts or more than subjects, or the numbers are not one for each subject.
    """
    subjects = len(cohort.amounts)
    if not 2 <= k <= subjects:
        raise ConfigError(f"data.folds={k}: must be 2 to {subjects}, the number of subjects")
    random = _random(seed)
    if stratify is None:
        part, order = np.arange(subjects) % k, random.permutation(subjects)
    else:
        order = _ordered(stratify, subjects, random)
        part = np.concatenate([random.permutation(k) for _ in range(-(-subjects // k))])[:subjects]
    return [_split(subjects, order[part == number]) for number in range(k)]


def leave_one_out(cohort: Cohort) -> list[Split]:
    """Hold out every subject once, in their order.

    Raises:
        ConfigError: There is but one.
    """
    if (subjects := len(cohort.amounts)) < 2:
        raise ConfigError("leave_one_out: the cohort has 1 subject, and nobody else to fit")
    return [_split(subjects, np.array([number])) for number in range(subjects)]


def split(cohort: Cohort, settings: Data) -> Split:
    """Which subjects are fitted and which are held out, as the settings ask.

    Raises:
        ConfigError: Nobody is left to fit, or there are more folds than subjects.
    """
    subjects, doses = len(cohort.amounts), total_dose(cohort) if settings.stratify else None
    if settings.folds is not None and settings.fold is not None:
        if settings.folds == subjects:
            return leave_one_out(cohort)[settings.fold]
        return k_fold(cohort, settings.folds, settings.seed, doses)[settings.fold]
    if settings.held_out >= subjects:
        raise ConfigError(f"data.held_out={settings.held_out}: the cohort has {subjects} subjects")
    return train_test_split(cohort, settings.held_out, settings.seed, doses)


def judges(fitted: np.ndarray, settings: Data, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Which of the subjects that `split` leaves are fitted and which judge the fit, both in increasing order.

    Where `split` draws along the total doses, so does this.

    Raises:
        ConfigError: Nobody is left to fit.
    """
    if settings.validation >= len(fitted):
        raise ConfigError(f"data.validation={settings.validation}: {len(fitted)} subjects are left to fit")
    random = np.random.Generator(np.random.PCG64([settings.seed, 6]))
    if settings.stratify and settings.validation:
        order = _ordered(total_dose(cohort)[fitted], len(fitted), random)
        chosen = np.array([random.choice(group) for group in np.array_split(order, settings.validation)])
        return np.delete(fitted, chosen), np.sort(fitted[chosen])
    order = random.permutation(len(fitted))
    return np.sort(fitted[order[settings.validation :]]), np.sort(fitted[order[: settings.validation]])


def dose_counts(cohort: Cohort) -> np.ndarray:
    """How many doses each subject has been given by each interval, its own included, `[S, B]`.

    What is given at one time is one dose. Where the cohort does not tell which doses begin, one does where a bolus is
    given, an infusion rate rises, or a steady state enters.
    """
    table, steady = cohort.intervals, cohort.steady
    if cohort.begun is not None:
        begins = cohort.begun.max(-1) > 0
    else:
        begins = begun_by_rates(cohort).max(-1) > 0
        if steady is not None:
            begins = begins | (steady.place > 0).any(0)
    again = np.zeros_like(begins)  # at the time of the one before, with an observation between
    again[1:] = begins[:-1] & (table.duration[:-1] == 0)
    return (begins & ~again).cumsum(0)


def forecast(cohort: Cohort, doses: int = 2) -> Cohort:
    """The cohort as it is known before each subject's next dose: what was observed later is missing, of weight 0.

    Doses and clocks stay, so that what is missing can be foretold.

    Args:
        cohort: All that was observed.
        doses: How many doses are known; see `dose_counts`.

    Raises:
        ConfigError: Nothing was observed of later doses, so that there is nothing to foretell, or nothing before.
    """
    known = (dose_counts(cohort) <= doses).T[..., None, None]
    seen = np.isfinite(cohort.amounts)
    for what, some in (("later", seen & ~known), ("up to there", seen & known)):
        if not some.any():
            raise ConfigError(f"data.forecast={doses}: nothing was observed {what}")
    weights = seen.astype(np.float64) if cohort.weights is None else cohort.weights
    return sealed(
        cohort._replace(amounts=np.where(known, cohort.amounts, np.nan), weights=np.where(known, weights, 0.0))
    )


def _count(test: int | float, subjects: int) -> int:
    """How many are held out."""
    told = f"test={test}: "
    if isinstance(test, float | np.floating):
        if not 0 < test < 1:
            raise ConfigError(f"{told}a share must be above 0 and below 1; a number of subjects is an integer")
        count = round(float(test) * subjects)
        if not 0 < count < subjects:
            raise ConfigError(f"{told}of {subjects} subjects that is {count}: one or more must be fitted, or held out")
        return count
    if isinstance(test, bool) or not isinstance(test, int | np.integer):
        raise ConfigError(f"{told}needs an integer, or a share as a float")
    if not 0 <= test < subjects:
        raise ConfigError(f"{told}the cohort has {subjects} subjects, one or more of which are to be fitted")
    return int(test)


def _random(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, 3]))


def _ordered(numbers: np.ndarray, subjects: int, random: np.random.Generator) -> np.ndarray:
    """The subjects in the order of their numbers, equal ones at random."""
    values = np.asarray(numbers, np.float64)
    if values.shape != (subjects,):
        raise ConfigError(f"stratify has shape {list(values.shape)}; needs one number for each of {subjects} subjects")
    return np.lexsort((random.permutation(subjects), values))


def _split(subjects: int, test: np.ndarray) -> Split:
    held = np.sort(test)
    return Split(np.setdiff1d(np.arange(subjects), held), held)
