"""Evaluations: the true field fits everything, numbers are what they are called, bad input leaves nothing."""

import csv
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pk_event_fit import data, evaluate, job, models
from pk_event_fit.checkpoint import write_weights
from pk_event_fit.config import Accelerator, Config, FrameworkChoice, Tracking
from pk_event_fit.data import Data
from pk_event_fit.errors import CheckpointError, ConfigError
from pk_event_fit.evaluation import assess, cases, exposure, figures, planes, predictions, runs
from pk_event_fit.fields import Model
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.report.plane import error_percent
from pk_event_fit.training import Phase, Training

RTOL = 1e-6
SMALL = {"subjects": 4, "points": 5, "held_out": 1}
TRUTH = Model(structure="hybrid", hidden=[2], initial_scale=0.0, learned=[], kinetics="pk_2c")
MISSED = ["data.dose_times=[12,36]"]
OFTEN = ["data.dose_times=[12,20,28,36]", "data.dose_amounts=[75,75,75,75]"]
SLOW = ["data.doses=[{time:12,amount:100,duration:4},{time:24,amount:100,duration:4},{time:36,amount:100,duration:4}]"]
LONGER = ["data.end=96"]


@pytest.fixture(autouse=True)
def _apart(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # simulated cohorts are kept below the working folder
    if "drawn" not in request.fixturenames:  # most of the time would go into pictures
        monkeypatch.setattr(figures, "figures", lambda *_, **__: ({}, {}))


@pytest.fixture
def drawn() -> None:
    """Asks for pictures."""


def settings(model=TRUTH, **own) -> Config:
    return Config(
        framework=FrameworkChoice(name="torchode"),
        solver=Solver(rtol=RTOL, atol=1e-7),
        accelerator=Accelerator(precision="float64", threads=1),
        data=Data(**{**SMALL, **own}),
        model=model,
        training=Training(iterations=2),
        tracking=Tracking(mode="disabled"),
    )


def finished(folder: Path, config: Config, seed: int = 0) -> Path:
    """The folder of a run whose weights are those that its model begins with."""
    cohort = data.load(config.data)
    fitted, _ = data.split(cohort, config.data)
    field = models.build(config.model, config.data, cohort, fitted)
    folder.mkdir()
    write_weights(folder / "weights.npz", field, field.initial_params(cohort.amounts.shape[-1], seed), {})
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(config), sort_keys=False))
    return folder


@pytest.fixture
def truth(tmp_path) -> Path:
    """A run of the typical patient, whose field is the true one."""
    return finished(tmp_path / "truth", settings(cv=0.0))


def case_of(run: Path, words=()) -> tuple[runs.Run, cases.Case]:
    found = runs.read_run(run)
    config = evaluate.amended(found, words)
    suited = runs.suited(found, config.data)
    own = found._replace(config=replace(found.config, data=runs.suited(found, found.config.data)))
    return own, cases.load(own, suited)


def words_of(run: Path, words) -> Config:
    return evaluate.amended(runs.read_run(run), words)


@pytest.mark.parametrize("words", [[], MISSED, OFTEN, SLOW, LONGER], ids=["own", "missed", "often", "slow", "longer"])
def test_the_true_field_fits_its_subjects_whatever_they_are_given(truth, words, tmp_path):
    found = assess.evaluate(truth, words_of(truth, words), out=tmp_path / "out")
    assert found["goodness"]["train"]["values"]["all"]["rmse"] < 100 * RTOL * 100  # of 100 mg, some steps of that error
    worst = [one["p90_absolute_error_percent"] for one in found["nca"]["train"]["central"].values()
             if "p90_absolute_error_percent" in one]  # fmt: skip
    assert len(worst) >= 5
    assert max(worst) < 0.1


@pytest.mark.parametrize("words", [MISSED, SLOW, LONGER], ids=["missed", "slow", "longer"])
def test_subjects_keep_their_covariates_under_other_doses(tmp_path, words):
    model = Model(structure="covariate", hidden=[3])
    run = finished(tmp_path / "run", settings(model, covariates=["all"]))
    (_, own), (_, other) = case_of(run), case_of(run, words)
    expected = own.cohort.intervals.covariates[0]
    assert expected.std(0).min() > 0
    np.testing.assert_array_equal(other.cohort.intervals.covariates, np.broadcast_to(expected, (
        len(other.cohort.intervals.start), *expected.shape)))  # fmt: skip


def test_a_run_is_as_good_as_it_said_itself(tmp_path):
    result = job.run(replace(settings(Model(hidden=[3])), training=Training(iterations=2)), tmp_path / "run")
    found = assess.evaluate(tmp_path / "run")["goodness"]
    for part, expected in (("train", result["accuracy"]), ("test", result["accuracy"]["held_out"])):
        assert found[part]["values"]["all"]["rmse"] == pytest.approx(expected["rmse"], rel=1e-12)


def test_what_was_foretold_is_told_apart(tmp_path):
    result = job.run(settings(Model(hidden=[3]), forecast=2, augment=1, validation=1), tmp_path / "run")
    found = assess.evaluate(tmp_path / "run")["goodness"]
    said = result["accuracy"]
    expected = {"train": said, "forecast": said["forecast"], "validation": said["validation"], "test": said["held_out"]}
    assert found.keys() == expected.keys()
    for part, own in expected.items():
        assert found[part]["values"]["all"]["rmse"] == pytest.approx(own["rmse"], rel=1e-12)
    counted = {part: one["values"]["all"]["parameters"] for part, one in found.items()}
    assert counted == {"train": 18, "forecast": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize("words", [MISSED, ["data=pk_2c_typical", "data.points=5"], ["data.subjects=2"]], ids=str)
def test_a_run_in_phases_with_judges_is_evaluated_on_other_data(tmp_path, words):
    phases = [Phase(iterations=1, length=0.5), Phase(iterations=1, trains=["weight_*"])]
    config = replace(settings(Model(hidden=[3]), validation=1), training=Training(phases=phases, validate_every=1))
    job.run(config, tmp_path / "run")
    found = assess.evaluate(tmp_path / "run", words_of(tmp_path / "run", words), out=tmp_path / "out")
    assert found["goodness"].keys() == ({"train", "validation", "test"} if words == MISSED else {"other"})


def test_parameters_that_never_moved_are_not_counted(tmp_path):
    phases = [Phase(iterations=1, trains=["weight_0"]), Phase(iterations=1, trains=["bias_1"])]
    config = replace(settings(Model(hidden=[3])), training=Training(phases=phases))
    assert runs.read_run(finished(tmp_path / "run", config)).size == 2 * 3 + 2


@pytest.mark.parametrize(("hidden", "said"), [(3, False), (30, True)])
def test_a_page_says_where_there_are_more_parameters_than_observations(tmp_path, hidden, said):
    run = finished(tmp_path / "run", settings(Model(hidden=[hidden])))
    told = assess.evaluate(run)["goodness"]["train"]["values"]["all"]
    assert (told["parameters"] >= told["n"]) is said
    text = (run / "evaluation" / "evaluation.html").read_text()
    assert ("say nothing of a model" in text) is said


def test_settings_without_a_number_are_told_and_are_their_own(tmp_path):
    table = {"source": "table", "dataset": "indometacin", "compartments": ["central"], "measured": "central",
             "volume": 10.0, "modelled_rate": [float("nan")]}  # fmt: skip
    config = replace(settings(Model(hidden=[3])), data=Data(**table))
    run = finished(tmp_path / "run", config)
    assert case_of(run)[1].own
    assert assess._told(asdict(config.data))["modelled_rate"] == [None]


def test_another_framework_predicts_the_same(truth, tmp_path):
    own, case = case_of(truth)
    config = own.config
    one, other = (
        predictions.predictions(assess._framework(replace(config, framework=FrameworkChoice(name=name))), [own],
                                case.cohort).middle
        for name in ("torchode", "torchdiffeq")
    )  # fmt: skip
    np.testing.assert_allclose(one, other, rtol=100 * RTOL, atol=1e-4)


def test_parameters_count_for_who_was_fitted_to_these_data_alone(tmp_path):
    run = finished(tmp_path / "run", settings(Model(hidden=[3])))
    size = 2 * 3 + 3 + 3 * 2 + 2
    own = assess.evaluate(run, out=tmp_path / "own")["goodness"]
    other = assess.evaluate(run, words_of(run, MISSED), out=tmp_path / "other")["goodness"]
    counted = {name: found["values"]["all"]["parameters"] for name, found in own.items()}
    assert counted == {"train": size + 1, "test": 1}  # and the standard deviation of the residuals
    assert other["train"]["values"]["all"]["parameters"] == 1


def test_chi_square_is_of_a_known_error_alone(truth, tmp_path):
    without = assess.evaluate(truth, out=tmp_path / "without")["goodness"]["train"]["values"]["central"]
    told = assess.evaluate(truth, out=tmp_path / "with", sigma=0.5)["goodness"]["train"]["values"]["central"]
    assert without["chi_square"] is None
    assert told["chi_square"] == pytest.approx(told["n"] * (told["rmse"] / 0.5) ** 2, rel=1e-12)


def test_the_error_that_data_were_made_with_is_known(tmp_path):
    run = finished(tmp_path / "run", settings(cv=0.0, noise_sd=2.0, subjects=50))
    found = assess.evaluate(run)["goodness"]["train"]["values"]["all"]
    spread = 5 * np.sqrt(2 / found["n"])  # five standard deviations of a reduced chi-square
    assert found["reduced_chi_square"] == pytest.approx(1, abs=spread)
    with pytest.raises(ConfigError, match="noise_sd"):
        assess.evaluate(run, out=tmp_path / "out", sigma=1.0)


def test_time_after_a_dose_counts_from_the_last_before(truth):
    _, case = case_of(truth, SLOW)
    clock = case.times[0]
    doses, after = np.array([12.0, 24.0, 36.0]), case.after[0]
    assert np.isnan(after[clock < 12]).all()
    for interval, (times, found) in enumerate(zip(clock, after, strict=True)):
        before = doses[doses <= case.cohort.intervals.start[interval, 0]]
        if len(before):
            np.testing.assert_allclose(found, times - before[-1], atol=1e-12)
    assert after[clock == 24].tolist() == [12.0, 0.0]  # just before the dose, and just after


def test_infusions_are_told_from_boluses(truth):
    _, case = case_of(truth, ["data.doses=[{time:6,amount:50},{time:12,amount:100,duration:4}]"])
    own = case.given.of(0)
    assert [leaf.tolist() for leaf in own[1:5]] == [[0, 0], [6.0, 12.0], [6.0, 16.0], [50.0, 100.0]]


def test_exposure_is_that_of_each_dose(truth):
    _, case = case_of(truth)
    found = exposure.exposure(case, case.cohort.amounts * 1.1)
    central = found.found["central"]
    assert found.begin["central"][0].tolist() == [12.0, 24.0, 36.0]
    amounts = case.cohort.amounts[0, ..., 0]
    np.testing.assert_allclose(central["cmax"][0][0], amounts[1:].max(1), rtol=1e-12)
    np.testing.assert_allclose(central["ctrough"][0][0], amounts[1:, -1], rtol=1e-12)  # the last interval is closed too
    for name, factor in (("cmax", 1.1), ("auc_tau", 1.1), ("ctrough", 1.1), ("lambda_z", 1.0), ("half_life", 1.0)):
        errors = exposure.relative_errors(*central[name])
        np.testing.assert_allclose(errors, 100 * (factor - 1), atol=1e-9)


def test_an_open_interval_has_no_trough(truth):
    _, case = case_of(truth, LONGER)
    central = exposure.exposure(case, case.cohort.amounts).found["central"]
    assert np.isfinite(central["ctrough"][0][0]).tolist() == [True, True, False]


def test_clearance_is_of_what_is_dosed(truth, tmp_path):
    found = assess.evaluate(truth, out=tmp_path / "out")["nca"]["train"]
    assert found["peripheral"]["clearance"] == {"left_out": "what is dosed is another compartment"}
    assert found["central"]["clearance"]["profiles"] == 3  # of three subjects, after the first dose alone


def test_the_plane_of_the_true_field_has_no_error_and_one_of_twice_its_speed_a_whole_one(truth):
    own, case = case_of(truth)
    plane = planes.typical_plane(own, case)
    np.testing.assert_allclose(error_percent(plane), 0, atol=1e-9)
    double = plane._replace(learned=2 * plane.true)
    assert error_percent(double).max() == pytest.approx(100)
    assert plane.visited.sum() == case.cohort.amounts[..., 0].size


def test_several_runs_are_their_median_with_a_band(tmp_path):
    config = settings(Model(hidden=[3]))
    folders = [finished(tmp_path / str(seed), config, seed) for seed in range(3)]
    several = [case_of(folder)[0] for folder in folders]
    _, case = case_of(folders[0])
    framework = assess._framework(config)
    alone = np.stack([predictions.predictions(framework, [run], case.cohort).middle for run in several])
    band = predictions.predictions(framework, several, case.cohort)
    np.testing.assert_array_equal(band.middle, np.sort(alone, 0)[1])
    np.testing.assert_allclose(band.low, np.quantile(alone, 0.05, axis=0), rtol=1e-12)
    np.testing.assert_allclose(band.high, np.quantile(alone, 0.95, axis=0), rtol=1e-12)
    found = assess.evaluate(folders, out=tmp_path / "out")
    told = found["goodness"]["train"]["values"]["all"]
    assert (told["aic"], told["parameters"]) == (None, None)
    assert "no visual predictive check" in (tmp_path / "out" / "summary.md").read_text()


def test_runs_of_different_data_are_no_ensemble(tmp_path):
    folders = [finished(tmp_path / str(seed), settings(seed=seed)) for seed in (1, 2)]
    with pytest.raises(ConfigError, match="other data"):
        assess.evaluate(folders, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_written_is_what_is_returned_and_asks_nothing_of_a_network(truth, drawn):
    found = assess.evaluate(truth)
    folder = truth / "evaluation"
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(json.dumps(found))
    page = (folder / "evaluation.html").read_text()
    assert len(re.findall("<svg", page)) == len(found["figures"])
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:image/png)""", page)
    rows = list(csv.DictReader((folder / "evaluation.csv").open()))
    value = next(r["value"] for r in rows if (r["subjects"], r["compartment"], r["measure"]) == ("test", "all", "rmse"))
    assert float(value) == found["goodness"]["test"]["values"]["all"]["rmse"]
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"{name}.{kind}" for name in found["figures"] for kind in ("png", "svg")
    }


def test_an_earlier_evaluation_stays_unless_said(truth):
    assess.evaluate(truth)
    before = (truth / "evaluation" / "evaluation.json").read_bytes()
    with pytest.raises(ConfigError, match="--overwrite"):
        assess.evaluate(truth, sigma=1.0)
    assert (truth / "evaluation" / "evaluation.json").read_bytes() == before
    assess.evaluate(truth, sigma=1.0, overwrite=True)
    assert json.loads((truth / "evaluation" / "evaluation.json").read_text())["sigma"] == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.kinetics=pk_1c_depot"], "depot, central"),
        (["data=theophylline"], "concentrations"),
        (["training.iterations=3"], "data, framework, solver, accelerator"),
        (["data.covariates=[clearance]"], "sees none"),
        (["data.subjects=many"], "subjects"),
        (["framework=nosuch"], "nosuch"),
        (["--sigma", "-1"], "sigma"),
    ],
)
def test_what_does_not_suit_the_run_is_refused_and_nothing_is_written(truth, capsys, words, message):
    assert evaluate.main([str(truth), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (truth / "evaluation").exists()


def test_a_folder_without_weights_is_no_run(truth, tmp_path):
    (truth / "weights.npz").unlink()
    with pytest.raises(CheckpointError, match="no finished run"):
        assess.evaluate(truth)


def test_the_command_line_writes_where_it_is_told(truth, tmp_path, capsys):
    assert evaluate.main([str(truth), "--out", str(tmp_path / "out"), *MISSED]) == 0
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())["data"]["settings"]
    assert (told["dose_times"], told["dose_amounts"], told["dose_compartments"]) == ([12, 36], [100, 100], [1, 1])
    assert "rmse" in capsys.readouterr().out


def test_what_is_below_quantification_is_so_in_an_exposure(tmp_path):
    """The trough of the first dose was looked for and not found; the last value is under the limit."""
    rows = ["ID,TIME,AMT,DV,CENS,LLOQ", "1,0,100,.,0,.", "1,0.5,.,5,0,1", "1,1,.,8,0,1", "1,2,.,4,0,1", "1,4,.,2,0,1",
            "1,12,.,1,1,1", "1,12,100,.,0,.", "1,13,.,9,0,1", "1,15,.,3,0,1", "1,24,.,0.5,0,1"]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    table = Data(source="table", path=str(tmp_path / "a.csv"), compartments=["depot", "central"], measured="central",
                 volume=10.0)  # fmt: skip
    own = runs.read_run(finished(tmp_path / "run", replace(settings(Model(hidden=[3])), data=table)))
    case = cases.load(own, table)
    predicted = np.nan_to_num(case.cohort.amounts, nan=7.0)
    found = exposure.exposure(case, predicted).found["central"]
    assert found["ctrough"][0].tolist() == found["ctrough"][1].tolist() == [[0.0, 0.0]]
    assert found["auc_last"][0][0, 1] == found["auc_last"][1][0, 1] > 0
    assert np.isnan(exposure.exposure(case._replace(cohort=case.cohort._replace(table=None)), predicted)
                    .found["central"]["ctrough"][0][0, 0])  # fmt: skip


def test_a_table_is_evaluated_by_its_own_observations(tmp_path):
    config = settings(Model(hidden=[3]), **SMALL)
    table = Data(source="table", dataset="theophylline", compartments=["depot", "central"], measured="central",
                 volume=0.5, scale=5.0, observed_unit="mg/L")  # fmt: skip
    run = finished(tmp_path / "run", replace(config, data=table))
    found = assess.evaluate(run)
    cohort = data.load(table)
    assert found["goodness"]["train"]["values"]["central"]["weight"] == cohort.weights.sum()
    assert list(found["nca"]["train"]) == ["central"]
    assert found["nca"]["train"]["central"]["cmax"]["profiles"] == 12
    assert found["nca_units"]["clearance"] == "L/h"
