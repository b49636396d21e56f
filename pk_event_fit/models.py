"""The field that the settings ask for, with its scales from the data."""

from __future__ import annotations

import numpy as np

from .compartments import lookup
from .data import Cohort, Data
from .errors import ConfigError
from .fields import Field, Hybrid, MassBalanced, Model, Normalised, Scales, measured
from .training.losses import slopes


def build(model: Model, settings: Data, cohort: Cohort, subjects: np.ndarray | None = None) -> Field:
    """The field.

    Args:
        model: Which.
        settings: Of the data: how they were measured, and in what units.
        cohort: The data.
        subjects: Those that are fitted, from whom the scales are taken; None for all.

    Raises:
        ConfigError: The model does not suit the data.
    """
    network, names = model.network, cohort.covariates
    if model.structure == "mlp" and names:
        raise ConfigError("model.structure=mlp: sees no covariates; choose another, or leave out data.covariates")
    if model.structure == "covariate" and not names:
        raise ConfigError("model.structure=covariate: set data.covariates, or [all] for all that the data have")
    if model.plain:
        return measured(network, settings.scale, settings.volume)
    scales = scales_of(cohort, settings, subjects, model.normalised)
    if model.structure == "mass_balanced":
        return measured(MassBalanced(network=network, scales=scales, covariates=names), volume=settings.volume)
    if model.structure != "hybrid":
        return measured(Normalised(network=network, scales=scales, covariates=names), volume=settings.volume)
    kinetics = _kinetics(model, settings, cohort)
    start = model.start(kinetics)
    learned = lookup(kinetics).parameters if model.learned is None else tuple(model.learned)
    if settings.volume is not None:  # it is the central volume, and has a parameter of its own
        learned = tuple(name for name in learned if name != "central_volume")
    field = Hybrid(
        network=network, scales=scales, covariates=names, kinetics=kinetics, parameters=start, learned=learned
    )
    return measured(field, volume=settings.volume)


def scales_of(cohort: Cohort, settings: Data, subjects: np.ndarray | None = None, normalised: bool = True) -> Scales:
    """Scales of amounts, rates and covariates, from subjects of a cohort.

    That of an amount is the largest observed, or where none is the largest dose; `data.scale`, where it is not 1. That
    of a rate is the root mean square of the slopes between neighbouring observations, over time; where there are none,
    the amount's over the time that amounts have elsewhere. Covariates have their mean and standard deviation.

    Args:
        cohort: The data.
        settings: How they were measured.
        subjects: Whose; None for all.
        normalised: Whether amounts and rates have scales of the data, or that of the settings alone.
    """
    part = cohort if subjects is None else cohort.take(subjects)
    centre, spread = _spread(part)
    one = (float(settings.scale),)
    if not normalised:
        return Scales(one, one, centre, spread)
    values = part.amounts * (1.0 if settings.volume is None else settings.volume)
    seen = np.where(np.isfinite(values), np.abs(values), 0.0).max((0, 1, 2))
    amount = np.where(seen > 0, seen, _largest_dose(part)) if settings.scale == 1 else np.full(seen.shape, one[0])
    slope = slopes(values, part.times)
    known = slope > 0
    lengths = part.intervals.duration[part.intervals.duration > 0]
    hours = np.median(amount[known] / slope[known]) if known.any() else lengths.mean() if len(lengths) else 1.0
    rate = np.where(known, slope, amount / hours)
    return Scales(tuple(amount.tolist()), tuple(rate.tolist()), centre, spread)


def _largest_dose(cohort: Cohort) -> float:
    table = cohort.intervals
    given = [table.bolus] if table.rate is None else [table.bolus, table.rate * table.duration[..., None]]
    return max(float(doses.max(initial=0.0)) for doses in given) or 1.0


def _spread(cohort: Cohort) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each covariate over intervals; one that is the same everywhere has its size."""
    table = cohort.intervals
    if table.covariates is None:
        return (), ()
    values = table.covariates[table.duration > 0] if (table.duration > 0).any() else table.covariates[:, 0]
    centre, spread = values.mean(0), values.std(0)
    size = np.where(centre == 0, 1.0, np.abs(centre))
    # That of equal numbers is a rounding error of their mean.
    spread = np.where(spread > 1e-9 * size, spread, size)
    return tuple(centre.tolist()), tuple(spread.tolist())


def _kinetics(model: Model, settings: Data, cohort: Cohort) -> str:
    """Name of the kinetics, whose compartments must be those of the data.

    Raises:
        ConfigError: None are named, or their compartments are others or in another order.
    """
    name = model.kinetics or (settings.kinetics if settings.source == "simulated" else None)
    if name is None:
        raise ConfigError("model.kinetics: a hybrid field needs the name of known kinetics, such as pk_1c_depot")
    own, data = lookup(name).compartments, cohort.compartments
    moved = any(data[k] in own and data[k] != own[k] for k in range(min(len(own), len(data))))
    if len(own) != len(data) or moved:
        raise ConfigError(f"model.kinetics={name}: has {', '.join(own)}, and the data {', '.join(data)}")
    return name
