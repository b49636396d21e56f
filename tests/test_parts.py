"""What a run fits of a cohort, and what it must not see: folds, copies, what is to be foretold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pk_event_fit import job, store
from pk_event_fit.cli import compose
from pk_event_fit.config import Accelerator, Config, FrameworkChoice, Tracking
from pk_event_fit.data import Data, load
from pk_event_fit.errors import CheckpointError, ConfigError
from pk_event_fit.fields import Model
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.job import prepare, run
from pk_event_fit.metrics.accuracy import accuracy
from pk_event_fit.training import Training

SUBJECTS = 6


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(data=None, iterations=2, **changes) -> Config:
    """A small fit, whose scales come from the data."""
    return Config(
        framework=FrameworkChoice(name="torchode"),
        solver=Solver(rtol=1e-4, atol=1e-6),
        accelerator=Accelerator(threads=1, precision="float32"),
        data=data or Data(**{"subjects": SUBJECTS, "points": 4, **changes}),
        model=Model(structure="mass_balanced", hidden=[4]),
        training=Training(iterations=iterations),
        tracking=Tracking(mode="disabled"),
    )


def saved(name, change=None):
    """A file with amounts, `[6, 4, 4, 2]`, some of them changed."""
    amounts = load(Data(subjects=SUBJECTS, points=4)).amounts
    if change is not None:
        change(amounts)
    np.savez(name, all_solutions=amounts)
    return str(name)


def fit(config, folder):
    """A run without its figures, which would take longer than it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "leave_figures", lambda *_: [])
        run(config, folder)


def weights(folder):
    return store.read_npz(folder / "weights.npz")[0]


def told(folder):
    return json.loads((folder / "result.json").read_text())["accuracy"]


def later(amounts):
    amounts[:, 3, 1:] *= 1.5


@pytest.mark.parametrize(
    ("asked", "change"),
    [
        ({"forecast": 2}, later),
        ({"forecast": 2, "augment": 2}, later),
        ({"folds": 3, "fold": 1, "augment": 2}, None),
    ],
    ids=["foretold", "foretold of copies", "held out"],
)
def test_what_a_fit_may_not_see_changes_nothing(folder, asked, change):
    one = saved("one.npz")
    if change is None:
        held = prepare(settings(Data(source="file", path=one, **asked)), folder / "none").held_out

        def change(amounts):
            amounts[held, :, 1:] *= 1.5

    other = saved("other.npz", change)
    for path in (one, other):
        fit(settings(Data(source="file", path=path, **asked)), folder / path.removesuffix(".npz"))
    found, wanted = weights(folder / "other"), weights(folder / "one")
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    assert told(folder / "one") != told(folder / "other")


def test_errors_are_of_what_was_seen_and_apart_of_the_rest(folder):
    run(settings(forecast=2, held_out=2), folder / "run")
    arrays, _ = store.read_npz(folder / "run/predictions.npz")
    result, fitted = told(folder / "run"), np.setdiff1d(np.arange(SUBJECTS), arrays["held_out"])
    pair = arrays["predicted"][fitted], arrays["observed"][fitted]
    assert result["rmse"] == pytest.approx(accuracy(*(array[:, :3] for array in pair)).rmse, rel=1e-12)
    assert result["forecast"]["rmse"] == pytest.approx(accuracy(*(array[:, 3:] for array in pair)).rmse, rel=1e-12)
    assert (len(result["by_interval"]), len(result["forecast"]["by_interval"])) == (3, 1)
    unseen = arrays["predicted"][arrays["held_out"]], arrays["observed"][arrays["held_out"]]
    assert result["held_out"]["rmse"] == pytest.approx(accuracy(*unseen).rmse, rel=1e-12)


def test_errors_of_a_table_are_of_what_was_seen_and_apart_of_the_rest(folder):
    text = "ID,TIME,AMT,DV\n1,0,10,.\n1,1,.,5\n1,4,10,.\n1,5,.,7\n2,0,10,.\n2,8,.,3\n2,9,10,.\n2,10,.,6\n"
    (folder / "a.csv").write_text(text)
    table = Data(source="table", path="a.csv", compartments=["central"], measured="central", forecast=1)
    fit(settings(table), folder / "run")
    arrays, _ = store.read_npz(folder / "run/predictions.npz")
    errors = dict(zip(arrays["observed"].tolist(), arrays["predicted"] - arrays["observed"], strict=True))
    result = told(folder / "run")
    for found, seen in ((result, (5.0, 3.0)), (result["forecast"], (7.0, 6.0))):
        wanted = np.mean([errors[value] ** 2 for value in seen]) ** 0.5
        assert found["rmse"] == pytest.approx(wanted, rel=1e-6)


def test_the_prediction_is_of_the_cohort_without_copies(folder):
    fit(settings(augment=3), folder / "run")
    arrays, _ = store.read_npz(folder / "run/predictions.npz")
    assert arrays["predicted"].shape == arrays["observed"].shape == (SUBJECTS, 4, 4, 2)


def test_copies_change_the_fit(folder):
    for name, asked in (("plain", {}), ("copies", {"augment": 3, "augment_sigma": 0.1})):
        fit(settings(**asked), folder / name)
    one, other = weights(folder / "plain"), weights(folder / "copies")
    assert any((one[name] != other[name]).any() for name in one)


@pytest.mark.parametrize("asked", [{}, {"augment": 2}, {"augment": 3, "augment_sigma": 0.02}, {"forecast": 1}])
def test_a_fit_goes_on_with_its_own_copies_alone(folder, asked):
    fit(settings(augment=3), folder / "run")
    with pytest.raises(CheckpointError, match="belongs to other data"):
        fit(replace(settings(iterations=3, **asked), resume="run"), folder / "run")


def test_a_fit_with_copies_goes_on_to_the_same_bits(folder):
    fit(settings(augment=2, iterations=4), folder / "whole")
    fit(settings(augment=2), folder / "run")
    fit(replace(settings(augment=2, iterations=4), resume="run"), folder / "run")
    found, wanted = weights(folder / "run"), weights(folder / "whole")
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize("fold", range(3))
def test_a_fold_is_held_out(folder, fold):
    parts = prepare(settings(folds=3, fold=fold), folder / "none")
    assert len(parts.held_out) == 2
    assert not set(parts.held_out) & set(parts.shown.rows)


def test_batches_may_be_as_large_as_the_subjects_and_their_copies(folder):
    config = settings(augment=1)
    prepare(replace(config, training=Training(batch_size=12)), folder / "none")
    with pytest.raises(ConfigError, match="the cohort has 12 subjects"):
        replace(config, training=Training(batch_size=13))


def test_every_setting_is_on_the_command_line():
    words = ["folds=5", "fold=1", "stratify=true", "forecast=2", "augment=10", "augment_sigma=0.05"]
    found = compose([f"data.{word}" for word in (*words, "augment_relative=false")]).data
    assert (found.folds, found.fold, found.stratify, found.forecast) == (5, 1, True, 2)
    assert (found.augment, found.augment_sigma, found.augment_relative) == (10, 0.05, False)


def test_the_substrate_of_an_enzyme_is_a_cohort():
    found = load(compose(["data=michaelis_menten"]).data)
    assert found.amounts.shape == (8, 1, 20, 1)
    assert (found.compartments, found.times[0, -1]) == (("substrate",), 100.0)


@pytest.mark.parametrize("asked", [{"augment": 1}, {"forecast": 1}])
def test_a_comparison_has_no_copies_and_foretells_nothing(asked):
    word = ",".join(f"data.{name}={value}" for name, value in asked.items())
    with pytest.raises(ConfigError, match=r"study\.probes"):
        compose(["study.probes=[speed]", word])
