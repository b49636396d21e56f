"""The learned field and the true one where both are known: of simulated subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays.numpy import NumpyArrays
from ..compartments import Kinetics
from ..fields import inside
from ..report.plane import Plane, field_line, field_plane, grid
from .cases import Case
from .runs import Run

NO_AMOUNTS = ("response", "effect")  # compartments that hold none, which no plane of amounts shows


def shown(case: Case) -> list[int]:
    """The one or two compartments to show; none where the true field is not known."""
    if case.settings.source != "simulated":
        return []
    names = case.cohort.compartments
    masses = [k for k, name in enumerate(names) if name not in NO_AMOUNTS]
    # A depot only empties itself: where there is a peripheral compartment, that and the central one are the plane.
    return masses[:2] if names[0] != "depot" else masses[1:3] if len(masses) > 2 else masses


def typical_plane(run: Run, case: Case) -> Plane | tuple[np.ndarray, ...]:
    """Both fields of the typical subject, with nothing in compartments that are not shown; of one, a line.

    Returns:
        A `Plane`; or amounts, mg, true and learned rates of change, mg/h, `[X]` each.
    """
    chosen, model = shown(case), case.settings.model
    values = case.settings.typical_parameters()
    seen = _seen(case, chosen)
    low, high = seen.min(0), np.maximum(seen.max(0), 1e-12)
    if len(chosen) == 1:
        x = np.linspace(max(float(low[0]), 0.0), float(high[0]), 200)
        true, learned = _fields(run, model, values, x[:, None], chosen, len(case.cohort.compartments))
        return x, true[:, 0], learned[:, 0]
    x, y = grid(low, high)
    at = np.stack(np.meshgrid(x, y, indexing="ij"), -1)
    true, learned = _fields(run, model, values, at, chosen, len(case.cohort.compartments))
    edges = [np.concatenate([[-np.inf], (one[1:] + one[:-1]) / 2, [np.inf]]) for one in (x, y)]
    visited = np.histogramdd(seen, edges)[0]
    names = tuple(case.cohort.compartments[k] for k in chosen)
    return Plane((names[0], names[1]), x, y, true, learned, visited)


def _seen(case: Case, chosen: list[int]) -> np.ndarray:
    """Amounts that were observed together, `[N, n]`; who was left out by no run of a cross-validation has none."""
    amounts = case.cohort.amounts[..., chosen].reshape(-1, len(chosen))
    return amounts[np.isfinite(amounts).all(-1)]


def _fields(run: Run, model: Kinetics, values: np.ndarray, at: np.ndarray, chosen: list[int], size: int) -> tuple:
    """True and learned rates of change, mg/h, of amounts `[..., n]` in the chosen compartments, `[..., n]`."""
    xp: Any = NumpyArrays("float64").xp
    state = np.zeros((*at.shape[:-1], size))
    state[..., chosen] = at
    parameters = np.broadcast_to(values, (*at.shape[:-1], len(values)))
    columns = [model.parameters.index(name) for name in run.covariates]
    covariates = parameters[..., columns] if columns else None
    params = {name: value.astype(np.float64) for name, value in run.params.items()}
    true = model(xp, {}, None, state, parameters)
    learned = inside(run.field)(xp, params, None, state, covariates)
    return true[..., chosen], np.asarray(learned)[..., chosen]


def draw(runs: Sequence[Run], case: Case, title: str) -> Any:
    """The figure; None where there is nothing to compare with, or several runs have a plane each."""
    chosen, unit = shown(case), case.settings.observed_unit
    if not chosen or (len(chosen) > 1 and len(runs) > 1) or not len(_seen(case, chosen)):
        return None
    found = [typical_plane(run, case) for run in runs]
    if isinstance(found[0], Plane):
        return field_plane(found[0], unit=unit, title=title)
    (x, true, _), name = found[0], case.cohort.compartments[chosen[0]]
    learned = np.stack([one[2] for one in found])
    return field_line(x, true, learned, name, unit=unit, time_unit=case.settings.time_unit, title=title)
