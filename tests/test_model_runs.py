"""Fits of every model by the command's own path: saved, evaluated again, resumed, and of a table."""

import numpy as np
import pytest

from pk_event_fit import frameworks, store
from pk_event_fit.checkpoint import read_weights
from pk_event_fit.cli import compose
from pk_event_fit.data import batch_of, load
from pk_event_fit.integrate import predict
from pk_event_fit.job import run

ROWS = """ID,TIME,AMT,CMT,RATE,DV,MDV,WT
a,0,100,1,0,.,1,50
a,1,0,1,0,3.0,0,50
a,6,0,1,0,2.5,0,50
b,0,60,1,0,.,1,80
b,2,0,1,0,1.5,0,80
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data") / "cohort.npz")


@pytest.fixture
def table(tmp_path):
    (tmp_path / "mine.csv").write_text(ROWS)
    return str(tmp_path / "mine.csv")


def words(home, model, *more):
    return [f"model={model}", "model.hidden=[4]", "data.subjects=5", "data.points=5", f"data.path={home}",
            "data.held_out=1", "tracking=disabled", "solver.rtol=1e-4", *more]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name"),
    [("mlp", "torchode"), ("covariate", "diffrax"), ("mass_balanced", "diffrax"), ("hybrid", "diffrax")],
)
def test_what_a_fit_leaves_is_evaluated_again_to_the_bit(home, tmp_path, model, name):
    more = ["model.normalise=true"] if model == "mlp" else ["data.covariates=[all]"]
    config = compose(words(home, model, f"framework={name}", "training.iterations=3", *more))
    assert run(config, tmp_path / "run")["status"] == "completed"
    field, params = read_weights(tmp_path / "run" / "weights.npz")
    framework = frameworks.load(name).create(config.solver, precision="float32")
    arrays, found = framework.arrays, load(config.data)
    solve = arrays.compile(lambda params, initial, table: predict(framework, field, params, initial, table, found.grid))
    placed, batch = {name: arrays.asarray(value) for name, value in params.items()}, batch_of(arrays, found, None)
    states = arrays.to_numpy(solve(placed, *batch[:2])[0]).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(states, store.read_npz(tmp_path / "run" / "predictions.npz")[0]["predicted"])


@pytest.mark.parametrize("model", ["covariate", "hybrid"])
def test_a_fit_is_resumed_to_the_same_bits(home, tmp_path, model):
    asked = words(home, model, "framework=torchode", "data.covariates=[all]")
    run(compose([*asked, "training.iterations=4"]), tmp_path / "whole")
    run(compose([*asked, "training.iterations=2"]), tmp_path / "parts")
    run(compose([*asked, "training.iterations=4", f"resume={tmp_path / 'parts'}"]), tmp_path / "parts")
    assert (tmp_path / "whole" / "weights.npz").read_bytes() == (tmp_path / "parts" / "weights.npz").read_bytes()


def fitted(table, folder, model, *more):
    return run(
        compose([
            f"model={model}", "framework=torchode", "data=nonmem", f"data.path={table}", "data.volume=10",
            "model.hidden=[4]", "data.covariates=[WT]", "training.iterations=2", "tracking=disabled", *more,
        ]),
        folder,
    )  # fmt: skip


@pytest.mark.parametrize("model", ["covariate", "mass_balanced"])
def test_a_table_is_fitted_with_its_covariates(table, tmp_path, model):
    assert fitted(table, tmp_path / "run", model)["volume"] != 10.0
    assert read_weights(tmp_path / "run" / "weights.npz")[0].model.covariates == ("WT",)


def test_a_hybrid_of_a_table_has_one_central_volume(table, tmp_path):
    result = fitted(table, tmp_path / "run", "hybrid", "model.kinetics=pk_1c")
    assert result["kinetics"]["central_volume"] == pytest.approx(result["volume"])
    assert result["volume"] != 10.0
