"""Goodness of fit of an evaluation, by parts of its subjects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..metrics.goodness import by_compartment, goodness
from ..training import floor_of
from .cases import Case

OVERALL = "all"
LIKELIHOOD = ("log_likelihood", "aic", "bic")
# What the unit of a measure is: that of what was observed, none, or percent.
MEASURES = {
    "n": "", "weight": "", "parameters": "", "sigma": "observed", "chi_square": "", "reduced_chi_square": "",
    "wmape_percent": "%", "rmse": "observed", "r2": "", "log_likelihood": "", "aic": "", "bic": "",
}  # fmt: skip


def sigma_of(case: Case, asked: float | None) -> float | None:
    """The known standard deviation of one observation, on the scale that is fitted; None for unknown.

    Raises:
        ConfigError: It is asked to be what cannot be one, or another than the data were made with.
    """
    made = case.settings.noise_sd or None
    if asked is None:
        return made
    if not 0 < asked < np.inf:
        raise ConfigError(f"--sigma {asked}: must be above 0, and finite")
    if made is not None and made != asked:
        raise ConfigError(f"--sigma {asked}: the data were made with data.noise_sd={made}")
    return float(asked)


def measures(case: Case, predicted: np.ndarray, *, parameters: int, members: int, sigma: float | None) -> dict:
    """`{part: {scale: {compartment or "all": measures}}}`, of a prediction `[B, S, K, D]`.

    Scales are `values`, and `logarithms` where these were fitted. Parameters count for subjects fitted to these very
    data, and are 0 for all others, and for what was foretold. The median of several runs has no likelihood: its
    measures are None.

    Args:
        case: The subjects.
        predicted: mg, or what was observed.
        parameters: How many a run has.
        members: How many runs there are.
        sigma: Of one observation, on the scale that was fitted; None for unknown.
    """
    log = case.settings.error == "log"
    found: dict[str, Any] = {}
    train = case.parts.get("train")
    for part, who, amounts in _sections(case):
        observed, model = amounts[who], predicted[who]
        if not np.isfinite(observed).any():
            continue
        weights = None if case.cohort.weights is None else case.cohort.weights[who]
        fitted = parameters if case.own and part == "train" else 0
        given: dict[str, Any] = {"parameters": fitted, "weights": weights}
        known = None if log else sigma
        found[part] = {"values": _both(case, model, observed, members, sigma=known, **given)}
        if log:
            floor = floor_of(case.cohort, "log", who if train is None else train) or 0.0
            pair = np.log(np.maximum(model, floor)), np.log(observed)
            found[part]["logarithms"] = _both(case, *pair, members, sigma=sigma, **given)
    return found


def _sections(case: Case) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each part with its subjects and what counts of all amounts; what was foretold of those fitted is a part too."""
    for part, who in case.parts.items():
        if part != "train" or case.seen is None:
            yield part, who, case.cohort.amounts
            continue
        yield part, who, case.seen
        yield "forecast", who, np.where(np.isnan(case.seen), case.cohort.amounts, np.nan)


def _both(case: Case, model: np.ndarray, observed: np.ndarray, members: int, **given: Any) -> dict[str, Any]:
    names = case.cohort.compartments
    own = by_compartment(model, observed, names, **given)
    some = {OVERALL: goodness(model, observed, **given)} | {name: one for name, one in own.items() if one.n}
    told = {name: one._asdict() for name, one in some.items()}
    if members > 1:  # the median is not what any of the runs would have predicted by itself
        for one in told.values():
            one |= dict.fromkeys((*LIKELIHOOD, "reduced_chi_square", "parameters"))
    return told
