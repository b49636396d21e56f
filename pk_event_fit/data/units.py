"""In what the numbers of a cohort are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import croissant
from ..compartments import lookup
from .settings import Data


def units_of(settings: Data, covariates: Sequence[str] = ()) -> dict[str, Any]:
    """Units of `time`, `observed`, `amount`, and of `covariates` by name; what nobody has said is left out.

    Amounts are what was observed, or in a Croissant data set what AMT is. Where concentrations were observed, a table
    does not say whether doses were taken by weight, and so neither in what amounts are.

    Args:
        settings: Of the data, decided.
        covariates: Names of those that are used.

    Raises:
        DataError: A Croissant data set cannot be read.
    """
    found = {"time": settings.time_unit, "observed": settings.observed_unit}
    if settings.volume is None and settings.per is None:
        found["amount"] = settings.observed_unit
    told: Mapping[str, str] = {}
    if settings.source == "simulated":
        kinetics = lookup(settings.kinetics)
        told = dict(zip(kinetics.parameters, kinetics.units, strict=True))
    if settings.source == "croissant":
        columns = croissant.read(Path(settings.path or "")).units
        told = {name: columns[name.upper()] for name in covariates if name.upper() in columns}
        if settings.per is None and "AMT" in columns:
            found["amount"] = columns["AMT"]
    return found | {"covariates": {name: told[name] for name in covariates if name in told}}
