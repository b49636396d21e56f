"""The figures of an evaluation, from its predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..report.evaluated import drawn
from ..report.fits import Person, chosen, individual_fits
from ..report.phases import training_loss
from ..report.residuals import Cloud, goodness_of_fit, residuals_in_time
from . import planes
from .cases import Case
from .predictions import Curves, Flat
from .runs import Run

CAPTIONS = {
    "individual_fits": "Individual fits. Circles are observations, lines are predictions, dotted lines are boluses and "
    "grey spans infusions.",
    "individual_fits_log": "The same on a logarithmic axis.",
    "goodness_of_fit": "Goodness of fit: observed against predicted, with the line of identity; residuals (observed "
    "less predicted) against prediction and against time, with their median in twelve parts of the range.",
    "residuals": "Residuals (observed less predicted) of each compartment over time and over time after the last dose.",
    "field": "The learned field beside the true one, for the typical subject, and the length of their difference in "
    "percent of the true field where observations are. Arrows are as long as the square root of the speed.",
    "training": "Loss over the iterations, of fitted subjects and, where there are any, those of validation; phases "
    "are told apart by grey.",
}
UNDOSED = {
    "individual_fits": "Individual fits. Circles are observations, lines are predictions.",
    "residuals": "Residuals (observed less predicted) of each compartment over time.",
}
LINE = "The learned field and the true one, for the typical subject, over what was observed."
SEVERAL = "Loss over the iterations of each run; dashed that of subjects of validation, where there are any."
Drawn = dict[str, dict[str, bytes]]


def subjects_shown(case: Case, flat: Flat) -> np.ndarray:
    """Who has a panel: twelve at most of those who were observed."""
    return chosen(np.unique(flat.subject))


def _of_amounts(run: Run) -> dict[str, np.ndarray]:
    """The history without the losses of phases that match slopes, which are no errors of amounts."""
    history, plan = dict(run.history or {}), run.config.training.plan
    if "phase" in history and history["phase"].dtype.kind == "f" and history["phase"].max() <= len(plan):
        matched = [plan[int(number) - 1].optimiser == "matching" for number in history["phase"]]
        history["loss"] = np.where(matched, np.nan, history["loss"])
    return history


def figures(
    runs: Sequence[Run], case: Case, flat: Flat, curves: Curves | None, title: str, *, ensemble: bool
) -> tuple[Drawn, dict]:
    """Every figure for which there is something to draw, as PNG and SVG; and captions by name.

    Args:
        runs: Those that were evaluated.
        case: On what.
        flat: Observations and predictions.
        curves: Between them; None where there are none.
        title: Above each figure.
        ensemble: Whether predictions are a median of the runs, with a band.
    """
    settings, names = case.settings, case.cohort.compartments
    cloud, about = _cloud(case, flat), {"unit": settings.observed_unit, "time_unit": settings.time_unit}
    band = f"5-95 % band of {len(runs)} runs" if ensemble else ""
    people = [] if curves is None else _people(case, flat, curves)
    parts = list(case.parts)

    def fits(log: bool) -> Callable[[], Any]:
        return lambda: individual_fits(people, names, log=log, title=title, band=band, **about)

    histories = [(_of_amounts(run), run.folder.name if ensemble else f"fold {run.config.data.fold}") for run in runs]
    unit = settings.observed_unit
    of_loss = f"log({unit})" if runs[0].config.data.error == "log" else unit
    jobs: dict[str, Callable[[], Any]] = {
        "individual_fits": fits(False),
        "individual_fits_log": fits(True),
        "goodness_of_fit": lambda: goodness_of_fit(cloud, names, parts, title=title, **about),
        "residuals": lambda: residuals_in_time(cloud, names, parts, title=title, **about),
        "field": lambda: planes.draw(runs, case, title),
        "training": lambda: training_loss(*zip(*histories, strict=True), unit=of_loss, title="loss of the fit"),
    }
    captions = CAPTIONS | ({} if len(case.given.begin) else UNDOSED)
    if len(planes.shown(case)) == 1:
        captions["field"] = LINE
    if len(runs) > 1:
        captions["training"] = SEVERAL
    if band:
        captions["individual_fits"] += (
            f" Lines are medians of {len(runs)} runs; bands reach from the 5 % to the 95 % quantile of the runs' own "
            "predictions: of an ensemble, without any noise of measurement."
        )
    made = {name: drawn(job, captions[name]) for name, job in jobs.items()}
    found = {name: content for name, content in made.items() if content is not None}
    return found, {name: captions[name] for name in found}


def _cloud(case: Case, flat: Flat) -> Cloud:
    number = np.zeros(len(case.labels), np.int64)
    for k, who in enumerate(case.parts.values()):
        number[who] = k
    return Cloud(flat.compartment, number[flat.subject], flat.time, flat.after, flat.observed, flat.predicted)


def _people(case: Case, flat: Flat, curves: Curves) -> list[Person]:
    found = []
    part = {int(subject): name for name, who in case.parts.items() for subject in who}
    for k, subject in enumerate(curves.subjects.tolist()):
        own, doses = flat.subject == subject, case.given.of(subject)
        low, high = (None if leaf is None else leaf[k] for leaf in curves.band[1:])
        also = f" ({part[subject]})" if len(case.parts) > 1 else ""
        found.append(
            Person(
                f"subject {case.labels[subject]}{also}", flat.time[own], flat.compartment[own], flat.observed[own],
                curves.times[k], curves.band.middle[k], low, high, np.stack([doses.begin, doses.end], -1),
            )
        )  # fmt: skip
    return found
