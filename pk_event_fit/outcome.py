"""What a finished fit leaves in its folder: scores, weights, predictions, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from . import store, training
from .checkpoint import HISTORY, Rows, write_weights
from .config import Config
from .data import Cohort, Shown
from .data.cohort import Source
from .data.splits import dose_counts
from .errors import SolverFailure
from .fields import Field
from .frameworks.base import Framework
from .integrate import predict
from .metrics.accuracy import accuracy, breakdown, of_observations

CURVE, LEAST = 200, 20  # points of a subject's curve, and of one interval's


class Parts(NamedTuple):
    """What a run is made of, once all input has proved to be good.

    Attributes:
        framework: Who solves.
        field: The vector field, with what its data need.
        cohort: Doses and observations.
        fitted: Its subjects that the fit sees.
        held_out: Those that it does not.
        validation: Those that judge the fit on its way, and are not fitted.
        state: Where the fit begins.
        rows: History up to there.
        import_s: Seconds that importing the solver library took.
        shown: What the fit sees of the cohort, with copies of subjects.
        units: In what its numbers are, see `data.units_of`.
    """

    framework: Framework
    field: Field
    cohort: Cohort
    fitted: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray
    state: training.State
    rows: Rows
    import_s: float
    shown: Shown
    units: dict[str, Any]

    @property
    def judges(self) -> np.ndarray | None:
        """Subjects of validation, or None where there are none."""
        return self.validation if len(self.validation) else None


def unit_of(config: Config) -> str:
    """Of what is fitted."""
    return f"log({config.data.observed_unit})" if config.data.error == "log" else config.data.observed_unit


def scores(config: Config, parts: Parts, predicted: np.ndarray) -> dict[str, Any]:
    """Errors of the fitted subjects, by compartment and by interval, those of validation, and those that were not seen.

    Those of a table are of its observations, each for itself, and where logarithms are fitted `rmse_log` is theirs.
    Where something is foretold, the errors of the fitted subjects are of what the fit has seen, and `forecast` is of
    the rest.
    """
    cohort, fitted = parts.cohort, parts.fitted
    unit = {"unit": config.data.observed_unit}
    if cohort.table is not None:
        return unit | _of_table(config, parts, _by_observation(cohort.table, predicted))

    def score(subjects, part=slice(None)):
        return accuracy(predicted[subjects][:, part], cohort.amounts[subjects][:, part])._asdict()

    def errors(part):
        pair = predicted[fitted][:, part], cohort.amounts[fitted][:, part]
        return score(fitted, part) | breakdown(*pair, cohort.compartments)

    doses = config.data.forecast  # all are dosed alike
    known = len(cohort.intervals.start) if doses is None else int((dose_counts(cohort)[:, 0] <= doses).sum())
    found = unit | errors(slice(known)) | _apart(parts, score)
    return found | ({} if config.data.forecast is None else {"forecast": errors(slice(known, None))})


def _apart(parts: Parts, score: Callable[[np.ndarray], Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of those that were not fitted; None where there are none."""
    others = {"held_out": parts.held_out} | ({"validation": parts.validation} if len(parts.validation) else {})
    return {name: {**score(who), "subjects": len(who)} if len(who) else None for name, who in others.items()}


def _of_table(config: Config, parts: Parts, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The same of a table; intervals of one number have nothing in common there, and are not told apart."""
    floor = training.floor_of(parts.cohort, config.data.error, parts.fitted)
    whose = np.isin(arrays["subject"], parts.fitted)
    seen = _by_observation(cast(Source, parts.cohort.table), parts.shown.seen.amounts)["predicted"]
    fitted, later = whose & np.isfinite(seen), whose & np.isnan(seen)

    def score(chosen):
        return of_observations(arrays["predicted"][chosen], arrays["observed"][chosen], floor)

    own = {
        name: score(chosen)
        for k, name in enumerate(parts.cohort.compartments)
        if (chosen := fitted & (arrays["compartment"] == k + 1)).any()
    }
    by_compartment = {name: {"mse": errors["mse"], "rmse": errors["rmse"]} for name, errors in own.items()}
    apart = _apart(parts, lambda who: score(np.isin(arrays["subject"], who)))
    found = score(fitted) | {"by_compartment": by_compartment, "by_interval": []} | apart
    return found | ({} if config.data.forecast is None else {"forecast": score(later)})


def leave_arrays(
    folder: Path, config: Config, parts: Parts, fitted: training.Fitted, provenance: Mapping[str, Any]
) -> None:
    """The model's file and predictions; of a table, one prediction for each observation, and curves between them."""
    about = _about(config, parts, fitted.iteration, provenance, scores(config, parts, fitted.predicted))
    write_weights(folder / "weights.npz", parts.field, fitted.params, about)
    cohort, unit = parts.cohort, config.data.observed_unit
    arrays = {"predicted": fitted.predicted, "observed": cohort.amounts, "times": cohort.times}
    if cohort.table is not None:
        arrays = _by_observation(cohort.table, fitted.predicted) | _curves(parts, fitted)
    units = {"predicted": unit, "observed": unit, "times": config.data.time_unit}
    unfitted = {"held_out": parts.held_out} | ({"validation": parts.validation} if len(parts.validation) else {})
    store.write_npz(folder / "predictions.npz", {**arrays, **unfitted}, {"units": units})


def leave_milestone(
    folder: Path, config: Config, parts: Parts, state: training.State, provenance: Mapping[str, Any]
) -> None:
    """The model as it is after so many steps, better or worse: a file as `weights.npz` is, without accuracy."""
    (folder / "milestones").mkdir(exist_ok=True)
    params = {name: parts.framework.arrays.to_numpy(value) for name, value in state.params.items()}
    about = _about(config, parts, state.iteration, provenance)
    write_weights(folder / "milestones" / f"{state.iteration}.npz", parts.field, params, about)


def _about(
    config: Config, parts: Parts, iteration: int, provenance: Mapping[str, Any], score: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a model's file says beside its field: what its numbers mean, how it was fitted, where it comes from.

    Nothing of the machine, the folder or the time: the same fit leaves the same bytes.
    """
    cohort, own = parts.cohort, parts.framework.settings
    data = {"source": config.data.source, "dataset": config.data.dataset, "digest": cohort.digest}
    trained = {
        "solver": asdict(config.solver),
        "settings": config.framework.own(own),
        "device": config.accelerator.device,
        "compile": config.accelerator.compile,
        "training": asdict(config.training),
        "error": config.data.error,
        "data": data
        | {"fitted": len(parts.fitted), "validation": len(parts.validation), "held_out": len(parts.held_out)}
        | {"forecast": config.data.forecast, "augment": config.data.augment},
    }
    if score is not None:
        trained["accuracy"] = {key: score[key] for key in score if key not in ("by_compartment", "by_interval")}
    return {
        "framework": parts.framework.name,
        "seed": config.seed,
        "iteration": iteration,
        "compartments": list(cohort.compartments),
        "units": parts.units,
        "trained": trained,
        "provenance": {key: provenance.get(key) for key in ("git", "python", "packages")},
    }


def _by_observation(source: Source, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Each observation that is used, and its prediction; `predicted` is `[B, S, K, D]`."""
    table, planned = source
    rows, where = table.records, planned.reports
    used = rows.used[where.record]
    subject, record = where.subject[used], where.record[used]
    compartment = rows.compartment[record].astype(np.int64)
    return {
        "subject": subject,
        "times": rows.time[record],
        "compartment": compartment,
        "side": where.side[used],
        "observed": rows.observed[record],
        "predicted": predicted[subject, where.interval[used], where.point[used], compartment - 1],
    }


def curve_grid(intervals: int) -> np.ndarray:
    """Fractions at which each of so many intervals is drawn, `[K]`, both ends among them."""
    return np.linspace(0.0, 1.0, max(LEAST, CURVE // intervals))


def _curves(parts: Parts, fitted: training.Fitted) -> dict[str, np.ndarray]:
    """What is predicted along every interval, both sides of every jump: `curve_times [B, T]`, `curves [B, T, D]`.

    Nothing, where that cannot be solved.
    """
    cohort, framework, arrays = parts.cohort, parts.framework, parts.framework.arrays
    nominal = cohort.intervals._replace(points=None)
    grid = curve_grid(len(nominal.start))
    solve = arrays.compile(
        lambda params, initial, table, steady: predict(framework, parts.field, params, initial, table, grid, steady)
    )
    table, params = arrays.table(nominal), {k: arrays.asarray(v) for k, v in fitted.params.items()}
    initial, steady = arrays.asarray(cohort.initial), arrays.table(cohort.steady)
    try:
        states, report = framework.guard(solve, params, initial, table, steady)
        framework.check(report, table)
    except SolverFailure as failure:  # more points, or more of them to step onto: the fit itself has been solved
        print(f"no curves between observations: {failure}", flush=True)
        return {}
    observe = getattr(parts.field, "observe", None)
    seen = arrays.to_numpy(states if observe is None else observe(arrays.xp, params, states))
    times = nominal.start[:, None] + grid[:, None] * nominal.duration[:, None]
    count = len(cohort.initial)
    return {
        "curve_times": times.transpose(2, 0, 1).reshape(count, -1),
        "curves": seen.transpose(2, 0, 1, 3).reshape(count, -1, seen.shape[-1]),
    }


def leave_figures(folder: Path, config: Config, parts: Parts, fitted, rows: Rows) -> list[Path]:
    """Fit and loss."""
    # Imported here: matplotlib's memory is not the fit's.
    from .report.figures import draw_fit, draw_loss
    from .report.individuals import draw_individuals

    figures = [folder / "fit.png", folder / "loss.png"]
    score, cohort = scores(config, parts, fitted.predicted), parts.cohort
    title = f"{parts.framework.name}, seed {config.seed}: RMSE {score['rmse']:.3g} {config.data.observed_unit}"
    if (doses := config.data.forecast) is not None:
        title += f"; foretold from dose {doses + 1} on: {score['forecast']['rmse']:.3g} {config.data.observed_unit}"
    if cohort.table is None:
        units = {"unit": config.data.observed_unit, "time_unit": config.data.time_unit}
        draw_fit(figures[0], cohort, fitted.predicted, title, **units)
    else:
        arrays, _ = store.read_npz(folder / "predictions.npz")
        draw_individuals(
            figures[0], arrays, cohort.table.table.ids, cohort.compartments, title,
            unit=config.data.observed_unit, time_unit=config.data.time_unit, log=config.data.error == "log",
        )  # fmt: skip
    # What is matched to slopes is no error of amounts.
    plan = config.training.plan
    solved = [row for row in rows if plan[int(row.get("phase", 1)) - 1].optimiser != "matching"]
    history = {name: [row[name] for row in solved or rows] for name in HISTORY}
    draw_loss(figures[1], history, score["rmse_floor"], title, unit_of(config))
    return figures
