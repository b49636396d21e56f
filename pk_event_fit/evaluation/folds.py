"""Cross-validation: runs that are the parts of one cohort, each asked about the subjects that it left out alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import data
from ..metrics.goodness import goodness
from .cases import Case, same
from .runs import Run

NOBODY = -1


def are_folds(runs: Sequence[Run]) -> bool:
    """Whether runs are of the same data, and each leaves out another part of the same ones."""
    numbers = [run.config.data.fold for run in runs]
    whole = [run.config.data for run in map(sighted, runs)]
    different = None not in numbers and len(set(numbers)) == len(numbers)
    return len(runs) > 1 and different and all(same(whole[0], one) for one in whole[1:])


def sighted(run: Run) -> Run:
    """The same run as if it had left out nobody."""
    return run._replace(config=replace(run.config, data=replace(run.config.data, fold=None)))


def whose(runs: Sequence[Run], case: Case) -> np.ndarray:
    """Which run left out each subject, `[B]`; -1 for those that none of them did."""
    found = np.full(len(case.labels), NOBODY)
    for number, run in enumerate(runs):
        found[data.split(case.cohort, run.config.data).test] = number
    return found


def unseen(case: Case, owner: np.ndarray) -> Case:
    """The case of those subjects that some run left out; `owner` is of `whose`."""
    left_out = owner != NOBODY
    amounts = np.where(left_out[:, None, None, None], case.cohort.amounts, np.nan)
    cohort = case.cohort._replace(amounts=amounts)
    return case._replace(cohort=cohort, parts={"test": np.flatnonzero(left_out)})


def fold_by_fold(
    runs: Sequence[Run], case: Case, owner: np.ndarray, predicted: np.ndarray, sigma: float | None
) -> list[dict[str, Any]]:
    """Number, run, subjects and errors of each part; of a part where nothing was observed these are None.

    Args:
        runs: As they were read.
        case: Of `unseen`.
        owner: Of `whose`.
        predicted: `[B, S, K, D]`.
        sigma: Of one observation; None for unknown, and where logarithms were fitted.
    """
    found = []
    weights = case.cohort.weights
    for number, run in enumerate(runs):
        who = np.flatnonzero(owner == number)
        seen = case.cohort.amounts[who]
        told: dict[str, Any] = dict.fromkeys(("n", "rmse", "r2", "wmape_percent", "reduced_chi_square"))
        if np.isfinite(seen).any():
            own = None if weights is None else weights[who]
            score = goodness(predicted[who], seen, parameters=0, weights=own, sigma=sigma)._asdict()
            told = {name: score[name] for name in told}
        labels = [case.labels[subject] for subject in who.tolist()]
        found.append({"fold": run.config.data.fold, "run": str(run.folder), "subjects": labels, **told})
    return found
