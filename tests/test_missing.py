"""Observations that are missing on a grid: masked in the fit and in all that is said of it, and never a number."""

import json

import numpy as np
import pytest

from pk_event_fit import croissant, data, store, training
from pk_event_fit.cli import compose
from pk_event_fit.data import Data, batch_of, load
from pk_event_fit.errors import DataError
from pk_event_fit.evaluation import evaluate
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks import load as framework_of
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.job import run
from pk_event_fit.metrics.accuracy import accuracy, breakdown
from pk_event_fit.report.cohorts import draw_cohort

LOST = [(0, 1, 2, 0), (1, 3, 4, 1), (1, 2, 0, 0), (2, 1, 4, 0)]
FILE = ["data=file", "data.path=a.npz", "framework=diffrax", "tracking=disabled", "training=adam",
        "training.iterations=3", "model.hidden=[4]"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def whole():
    """Amounts of four subjects, mg, `[4, 4, 5, 2]`."""
    return load(Data(subjects=4, points=5)).amounts


@pytest.fixture
def amounts(whole):
    """The same without some."""
    found = whole.copy()
    found[tuple(np.transpose(LOST))] = np.nan
    np.savez("a.npz", all_solutions=found)
    return found


def cohort(**changed):
    return load(Data(source="file", path="a.npz", **changed))


def test_what_is_missing_has_no_weight_and_the_rest_is_as_it_was(amounts, whole):
    found, seen = cohort(), np.isfinite(amounts)
    np.testing.assert_array_equal(found.weights, seen)
    np.testing.assert_array_equal(found.amounts, amounts)
    assert seen.sum() == whole.size - len(LOST)
    np.testing.assert_array_equal(found.initial, 0.0)


def test_a_whole_file_has_no_weights(whole):
    np.savez("a.npz", all_solutions=whole)
    assert cohort().weights is None


def test_what_is_missing_decides_the_digest(amounts):
    one = cohort().digest
    amounts[0, 1, 3, 0] = np.nan
    np.savez("a.npz", all_solutions=amounts)
    assert len({one, cohort().digest, cohort(noise_sd=1.0).digest}) == 3


def test_a_missing_start_is_known_from_initial_amounts(amounts):
    amounts[2, 0, 0, 1] = np.nan
    initial = np.full((4, 2), 0.25)
    np.savez("a.npz", all_solutions=amounts, initial=initial)
    np.testing.assert_array_equal(cohort().initial, initial)


def test_doses_that_do_not_fit_are_found_among_what_is_seen(amounts):
    with pytest.raises(DataError, match="interval 2 starts 100 mg"):
        cohort(dose_amounts=[100.0, 50.0, 100.0])


@pytest.mark.parametrize("framework", ["diffrax", "torchode"])
def test_the_loss_and_its_gradient_are_of_what_was_observed(amounts, framework):
    """By hand: the mean of squares over what is not missing; filling it with anything changes nothing."""
    made, field = framework_of(framework).create(Solver(), precision="float64"), Mlp(hidden=(3,))
    params = {name: made.arrays.asarray(value) for name, value in field.initial_params(2, 0).items()}
    found = cohort()
    loss = training.loss_of(made, field, found)
    step = training.losses.gradient_step(made, loss, None)
    value, norm, gradient, _ = step(params, *batch_of(made.arrays, found, None))
    fitted = training.finish(made, field, found, training.start(made, field.initial_params(2, 0)))
    assert float(value) == pytest.approx(np.nanmean((fitted.predicted - amounts) ** 2), rel=1e-6)
    filled = found._replace(amounts=np.where(np.isnan(amounts), 1e3, amounts))
    other, same, *_ = step(params, *batch_of(made.arrays, filled, None))
    assert (float(value), float(norm)) == (float(other), float(same))
    assert all(np.isfinite(made.arrays.to_numpy(leaf)).all() for leaf in gradient.values())


def test_a_run_scores_what_was_observed(amounts, folder, capsys):
    result = run(compose([*FILE, "data.held_out=1", "data.validation=1", "training.validate_every=1"]), folder / "run")
    assert capsys.readouterr().out.count(f"{len(LOST)} observations are missing: they count for nothing") == 1
    arrays, _ = store.read_npz(folder / "run" / "predictions.npz")
    aside = np.concatenate([arrays["held_out"], arrays["validation"]])
    squares = (arrays["predicted"] - amounts) ** 2
    own, told = np.delete(squares, aside, 0), json.loads((folder / "run" / "result.json").read_text())["accuracy"]
    assert result["accuracy"]["mse"] == told["mse"] == pytest.approx(np.nanmean(own), rel=1e-6)
    assert told["held_out"]["mse"] == pytest.approx(np.nanmean(squares[arrays["held_out"]]), rel=1e-6)
    assert told["validation"]["mse"] == pytest.approx(np.nanmean(squares[arrays["validation"]]), rel=1e-6)
    intervals = [part["mse"] for part in told["by_interval"]]
    np.testing.assert_allclose(intervals, np.nanmean(own, (0, 2, 3)), rtol=1e-6)
    assert np.isfinite([told["rmse_floor"], told["skill"]]).all()
    assert (folder / "run" / "fit.png").stat().st_size > 10_000
    goodness = evaluate(folder / "run")["goodness"]["train"]["values"]["all"]
    assert goodness["n"] == np.isfinite(np.delete(amounts, aside, 0)).sum()


def test_what_is_foretold_is_told_by_doses_and_not_by_what_is_missing(amounts, folder):
    amounts[0, 1] = np.nan  # of the first subject nothing was observed after the first dose
    np.savez("a.npz", all_solutions=amounts)
    found = run(compose([*FILE, "data.forecast=2"]), folder / "run")["accuracy"]
    arrays, _ = store.read_npz(folder / "run" / "predictions.npz")
    squares = (arrays["predicted"] - amounts) ** 2
    assert found["mse"] == pytest.approx(np.nanmean(squares[:, :3]), rel=1e-6)
    assert found["forecast"]["mse"] == pytest.approx(np.nanmean(squares[:, 3]), rel=1e-6)


def test_a_part_of_which_nothing_was_observed_has_no_error():
    observed = np.array([1.0, np.nan, 3.0, np.nan]).reshape(2, 2, 1, 1)
    found = breakdown(np.zeros_like(observed), observed, ["a"])
    assert found["by_compartment"] == {"a": {"mse": 5.0, "rmse": 5.0**0.5}}
    assert found["by_interval"] == [{"mse": 5.0, "rmse": 5.0**0.5}, {"mse": None, "rmse": None}]


def test_the_floor_is_of_those_who_were_observed_at_a_point():
    # At the first point 1 and 3 mg, a floor of 1; at the second 5 mg of one subject, who is its own mean.
    observed = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]]).reshape(3, 1, 2, 1)
    assert accuracy(np.zeros_like(observed), observed) == (35 / 3, (35 / 3) ** 0.5, (2 / 3) ** 0.5, 1 - 35 / 2)


def test_a_prediction_that_is_no_number_is_not_hidden_by_what_is_missing():
    observed = np.array([1.0, np.nan]).reshape(2, 1, 1, 1)
    assert np.isnan(accuracy(np.full_like(observed, np.nan), observed).rmse)


def test_what_is_missing_is_summed_up(amounts):
    rows = data.summary(cohort())
    assert [(row.observations, row.missing) for row in rows] == [(77, 3), (79, 1)]
    assert data.unfitted(rows) == "4 observations are missing: they count for nothing"
    assert data.unfitted(data.summary(load(Data(subjects=2, points=3)))) is None


def test_what_is_missing_is_handed_on_as_missing(amounts, folder):
    croissant.write(folder / "out", data.describe(Data(source="file", path="a.npz")))
    found = load(Data(source="croissant", path=str(folder / "out")))
    assert found.weights.sum() == np.isfinite(amounts).sum()
    assert np.nansum(found.amounts) == np.nansum(amounts)


def test_what_stands_alone_is_drawn(amounts, folder):
    draw_cohort(folder / "a.png", cohort())
    amounts[0, 1, 1::2] = np.nan  # no two neighbours are left there
    np.savez("a.npz", all_solutions=amounts)
    draw_cohort(folder / "b.png", cohort())
    assert (folder / "a.png").read_bytes() != (folder / "b.png").read_bytes()
