"""Cohorts from tables: where observations end up, what is fitted of them, and what a run leaves."""

import json

import numpy as np
import pytest

from pk_event_fit import data, store, training
from pk_event_fit.cli import compose
from pk_event_fit.compartments import lookup
from pk_event_fit.data import Data, batch_of, load
from pk_event_fit.data.tables import schedule_of
from pk_event_fit.errors import ConfigError, DataError, ScheduleError, SolverFailure
from pk_event_fit.fields import Mlp, measured
from pk_event_fit.frameworks import load as framework_of
from pk_event_fit.frameworks.base import Framework, Solver
from pk_event_fit.job import prepare, run
from pk_event_fit.simulate.exact import follow

ROWS = """ID,TIME,AMT,CMT,RATE,DV,MDV,WT
a,0,100,1,0,.,1,50
a,1,0,2,0,3.0,0,50
a,1,0,2,0,5.0,0,50
a,6,0,0,0,2.5,0,50
a,12,0,2,0,1.0,0,50
a,12,100,1,0,.,1,50
a,12,0,2,0,9.0,1,50
a,15,0,2,0,4.0,0,50
b,0,60,2,20,.,1,80
b,2,0,2,0,1.5,0,80
b,8,0,2,0,0.7,0,80
b,30,50,1,0,.,1,80
"""
TABLE = {"source": "table", "compartments": ["depot", "central"], "measured": "central", "volume": 10.0, "scale": 50.0}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "mine.csv").write_text(ROWS)
    return tmp_path / "mine.csv"


def cohort(path, **changed):
    return load(Data(**TABLE, path=str(path), **changed))


def test_every_used_observation_is_fitted_once(path):
    found = cohort(path)
    assert (found.weights.sum(), np.isfinite(found.amounts).sum()) == (7, 6)


def test_two_observations_at_one_time_count_as_their_mean_twice(path):
    found = cohort(path)
    assert found.amounts[found.weights == 2].tolist() == [4.0]


def test_an_observation_without_compartment_is_of_the_measured_one(path):
    found = cohort(path)
    assert found.weights.sum((0, 1, 2)).tolist() == [0, 7]


def test_an_observation_before_a_dose_at_its_time_belongs_to_the_interval_that_ends_there(path):
    found = cohort(path)
    assert found.amounts[0, 0, -1, 1] == 1.0


def test_doses_after_the_last_observation_are_counted(path):
    assert cohort(path).ignored == 1


def test_times_are_each_subject_s_own(path):
    found = cohort(path)
    seen = found.times[0][found.weights[0].any(-1)]
    np.testing.assert_allclose(np.sort(seen), [1, 6, 12, 15], rtol=1e-15)


def test_amounts_are_divided_by_a_covariate(path):
    found, plain = cohort(path, per="WT"), cohort(path)
    np.testing.assert_allclose(found.intervals.bolus[0, 0], plain.intervals.bolus[0, 0] / 50)
    np.testing.assert_allclose(found.intervals.rate[0, 1], plain.intervals.rate[0, 1] / 80)
    np.testing.assert_allclose(found.intervals.duration, plain.intervals.duration)


def test_taken_subjects_keep_what_is_theirs(path):
    found = cohort(path).take(np.array([1]))
    alone = found.intervals
    assert (alone.bolus.shape[1], alone.points.shape[2], found.weights.sum()) == (1, 1, 2)
    assert alone.rate[0, 0].tolist() == [0.0, 20.0]


def test_many_subjects_keep_their_report_times(tmp_path):
    """More of them than there are report times in an interval."""
    rows = [f"{k},0,100,.\n{k},{k + 1},.,2\n{k},{k + 2},.,1" for k in range(9)]
    (tmp_path / "many.csv").write_text("ID,TIME,AMT,DV\n" + "\n".join(rows) + "\n")
    whole = load(Data(source="table", compartments=["central"], measured="central", path=str(tmp_path / "many.csv")))
    np.testing.assert_array_equal(whole.take(np.arange(9)).intervals.points, whole.intervals.points)
    np.testing.assert_array_equal(whole.take(np.array([8, 2])).intervals.points, whole.intervals.points[:, :, [8, 2]])


def censored(path, value="1", mdv="0"):
    """The observation of subject a at 6 h is known to be below a limit of 2.5 alone."""
    head, *rows = ROWS.replace("a,6,0,0,0,2.5,0", f"a,6,0,0,0,2.5,{mdv}").splitlines()
    marked = [row + (f",{value}" if row.startswith("a,6") else ",0") for row in rows]
    path.write_text("\n".join([head + ",CENS", *marked]) + "\n")


@pytest.mark.parametrize("value", ["1", "-1"])
def test_a_censored_observation_counts_for_nothing(path, value):
    censored(path, value)
    found, place = cohort(path), cohort(path).times[0] == 6
    assert found.weights.sum() == 6
    assert place.sum() >= 1
    assert np.isnan(found.amounts[0][place]).all()
    assert (data.summary(found)[1].missing, data.summary(found)[1].censored) == (2, 1)


def test_a_censored_observation_is_as_if_it_had_no_value(path):
    censored(path)
    one = cohort(path).digest
    censored(path, mdv="1")
    assert cohort(path).digest == one


def test_a_censored_zero_is_no_fault_of_a_fit_to_logarithms(path):
    censored(path)
    path.write_text(path.read_text().replace("2.5", "0"))
    assert cohort(path, error="log").weights.sum() == 6


def test_a_run_says_what_it_does_without(path, tmp_path, capsys):
    censored(path)
    result = run(compose(words(path)), tmp_path / "run")
    line = "2 observations are missing, 1 of them known to be below or above a limit (CENS): they count for nothing"
    assert capsys.readouterr().out.count(line) == 1
    arrays, _ = store.read_npz(tmp_path / "run" / "predictions.npz")
    assert len(arrays["observed"]) == 6
    mse = np.mean((arrays["predicted"] - arrays["observed"]) ** 2)
    assert result["accuracy"]["mse"] == pytest.approx(mse, rel=1e-6)


def test_the_digest_tells_other_observations(path):
    before = cohort(path).digest
    path.write_text(ROWS.replace("2.5", "2.6"))
    assert cohort(path).digest != before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"per": "AGE"}, "no covariate 'AGE'; there is WT"),
        ({"error": "log"}, None),
    ],
)
def test_what_the_table_lacks_is_said(path, changed, words):
    if words is None:
        path.write_text(ROWS.replace("2.5", "0"))
        words = "subject 0, line 5: DV 0.0: data.error=log needs values above 0"
    with pytest.raises(DataError, match=words):
        cohort(path, **changed)


def test_a_compartment_that_is_not_named_is_refused_with_file_and_line(path):
    path.write_text(ROWS.replace("b,30,50,1", "b,30,50,3"))
    with pytest.raises(
        ScheduleError, match=r"mine\.csv: subject 1, line 13: compartment 3: choose 1 to 2; data\.compartments"
    ):
        cohort(path)


def test_a_table_without_observations_is_refused(path):
    path.write_text("ID,TIME,AMT\na,0,100\na,1,50\n")
    with pytest.raises(DataError, match="has no observation to fit"):
        cohort(path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"path": None}, "needs one of the two"),
        ({"dataset": "theophylline"}, "needs one of the two"),
        ({"compartments": None}, "needs their names"),
        ({"compartments": ["a", "a"]}, "all different"),
        ({"measured": "gut"}, "choose one of depot, central"),
        ({"lag": [1.0]}, "needs 2 values"),
        ({"volume": 0.0}, "must be above 0"),
        ({"scale": -1.0}, "must be above 0"),
        ({"error": "both"}, "choose one of additive, log"),
        ({"noise_sd": 1.0}, "leave it 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed, words):
    with pytest.raises(ConfigError, match=words):
        Data(**{**TABLE, "path": "mine.csv", **changed})


def test_a_comparison_of_a_table_is_refused():
    with pytest.raises(ConfigError, match=r"study\.probes: a comparison needs amounts on a grid"):
        compose(["+experiment=framework_comparison_quick", "data=theophylline"])


def test_the_loss_counts_observations_alone(path):
    """By hand: the mean of squares over the seven observations, of amounts over the volume."""
    found = cohort(path)
    framework, field = framework_of("torchode").create(Solver(), precision="float64"), measured(Mlp(), 50.0, 10.0)
    params = {k: framework.arrays.asarray(v) for k, v in field.initial_params(2, 0).items()}
    loss = training.loss_of(framework, field, found)
    value, _ = loss(params, *batch_of(framework.arrays, found, None))
    fitted = training.finish(framework, field, found, training.start(framework, field.initial_params(2, 0)))
    table, planned = found.table
    where = planned.reports
    used = table.records.used[where.record]
    own = fitted.predicted[where.subject, where.interval, where.point, 1][used]
    expected = ((own - table.records.observed[where.record[used]]) ** 2).mean()
    # A mean of two observations has their spread taken out, (3 - 4)^2 + (5 - 4)^2 over seven.
    np.testing.assert_allclose(float(value) + 2 / 7, expected, rtol=1e-6)


def test_known_kinetics_are_found_again(path):
    """Observations replaced by those of a known model: its own field has no loss."""
    kinetics = lookup("pk_1c_depot")
    settings = Data(**{**TABLE, "volume": None, "scale": 1.0}, path=str(path))
    table = load(settings).table.table
    planned = schedule_of(table, settings)
    values = np.array(kinetics.typical)
    amounts = follow(kinetics, values, planned)[:, 1]
    observed = np.full(len(table.records.time), np.nan)
    observed[planned.reports.record] = amounts
    lines = ROWS.splitlines()
    header, body = lines[0], [line.split(",") for line in lines[1:]]
    for row, cells in enumerate(body):
        if table.records.used[row]:
            cells[5] = repr(float(observed[row]))
    path.write_text("\n".join([header, *map(",".join, body)]) + "\n")
    found = load(settings)
    framework = framework_of("diffrax").create(Solver(rtol=1e-10, atol=1e-12), precision="float64")
    constant = framework.arrays.asarray(values)

    def field(xp, params, t, y, covariates):
        return kinetics(xp, params, t, y, constant)

    field.autonomous = True
    value, _ = training.loss_of(framework, field, found)({}, *batch_of(framework.arrays, found, None))
    assert float(value) < 1e-14


@pytest.mark.parametrize("error", ["additive", "log"])
def test_a_run_on_a_table_leaves_a_prediction_for_each_observation(path, tmp_path, error):
    words = [
        "framework=diffrax", "data=nonmem", f"data.path={path}", "data.compartments=[depot,central]", "data.volume=10",
        "data.scale=50", f"data.error={error}", "training.iterations=3", "tracking=disabled", "data.held_out=1",
    ]  # fmt: skip
    folder = tmp_path / "run"
    result = run(compose(words), folder)
    arrays, note = store.read_npz(folder / "predictions.npz")
    assert (len(arrays["observed"]), note["units"]["observed"]) == (7, "mg")
    fitted = ~np.isin(arrays["subject"], arrays["held_out"])
    mse = ((arrays["predicted"] - arrays["observed"])[fitted] ** 2).mean()
    table = json.loads((folder / "result.json").read_text())["accuracy"]
    assert result["accuracy"]["rmse"] == table["rmse"]
    assert table["mse"] == pytest.approx(mse, rel=1e-6)
    if error == "log":
        floor = 0.1 * arrays["observed"][fitted].min()
        logs = np.log(np.maximum(arrays["predicted"], floor) / arrays["observed"])[fitted]
        assert table["rmse_log"] == pytest.approx(np.sqrt((logs**2).mean()), rel=1e-6)
    assert arrays["curves"].shape[::2] == (2, 2)
    assert np.isfinite(arrays["curves"]).all()
    assert (folder / "fit.png").stat().st_size > 10_000


def test_a_run_on_a_table_is_resumed_to_the_same_bits(path, tmp_path):
    words = ["framework=diffrax", "data=nonmem", f"data.path={path}", "data.compartments=[depot,central]",
             "data.volume=10", "data.scale=50", "tracking=disabled"]  # fmt: skip
    run(compose([*words, "training.iterations=4"]), tmp_path / "whole")
    run(compose([*words, "training.iterations=2"]), tmp_path / "parts")
    run(compose([*words, "training.iterations=4", f"resume={tmp_path / 'parts'}"]), tmp_path / "parts")
    one, other = (store.read_npz(tmp_path / name / "weights.npz")[0] for name in ("whole", "parts"))
    assert {name: value.tobytes() for name, value in one.items()} == {n: v.tobytes() for n, v in other.items()}


@pytest.mark.parametrize(("name", "subjects", "observations"), [("theophylline", 12, 132), ("indometacin", 6, 66)])
def test_data_that_come_with_the_package(name, subjects, observations):
    found = load(compose([f"data={name}", "framework=diffrax"]).data)
    assert (len(found.amounts), found.weights.sum()) == (subjects, observations)


@pytest.mark.parametrize(("name", "subjects", "observations"), [("phenobarbital", 59, 155), ("remifentanil", 65, 1992)])
def test_data_that_another_package_brings(name, subjects, observations):
    found = load(compose([f"data={name}", "framework=diffrax"]).data)
    assert (len(found.amounts), found.weights.sum()) == (subjects, observations)


def test_unknown_data_are_refused():
    with pytest.raises(ConfigError, match="choose one of theophylline"):
        data.load(Data(**TABLE, dataset="aspirin"))


DOSED_ALONE = ROWS + "c,0,100,1,0,.,1,50\nc,9,50,1,0,.,1,50\n"


def words(path, *more):
    return ["framework=diffrax", "data=nonmem", f"data.path={path}", "data.compartments=[depot,central]",
            "data.volume=10", "data.scale=50", "tracking=disabled", "training.iterations=4", *more]  # fmt: skip


def test_a_batch_of_nobody_observed_is_no_failure(path, tmp_path):
    path.write_text(DOSED_ALONE)
    assert run(compose(words(path, "training.batch_size=1")), tmp_path / "run")["status"] == "completed"


def test_subjects_held_out_without_an_observation_are_refused(path, tmp_path):
    path.write_text(DOSED_ALONE)
    refused = []
    for seed in range(20):
        try:
            prepare(
                compose(words(path, "data.held_out=1", f"data.seed={seed}", "accelerator.precision=float32")),
                tmp_path / "run",
            )
        except ConfigError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 20
    assert all("have no observation" in message for message in refused)


def test_those_held_out_do_not_set_the_least_of_logarithms(path):
    found = cohort(path)
    assert training.floor_of(found, "log", np.array([0])) == 0.1 * 1.0
    assert training.floor_of(found, "log", np.array([1])) == 0.1 * 0.7


def test_other_covariates_may_be_missing_where_doses_are_by_one(path):
    path.write_text("\n".join(line + (",AGE" if k == 0 else ",.") for k, line in enumerate(ROWS.splitlines())) + "\n")
    found = cohort(path, per="wt")
    assert found.intervals.bolus[0, 0].tolist() == [2.0, 0.0]


def test_curves_that_cannot_be_solved_do_not_lose_a_fit(path, tmp_path, monkeypatch):
    def fail(framework, report, intervals):
        if intervals.points is None:
            raise SolverFailure("diffrax", "solver.max_steps=128 reached")
        return check(framework, report, intervals)

    check = Framework.check
    monkeypatch.setattr(Framework, "check", fail)
    folder = tmp_path / "run"
    assert run(compose(words(path)), folder)["status"] == "completed"
    assert "curves" not in store.read_npz(folder / "predictions.npz")[0]
    assert (folder / "fit.png").stat().st_size > 10_000


def test_observations_of_another_compartment_alone_are_refused(path):
    path.write_text(ROWS.replace(",0,2,0,", ",0,1,0,").replace(",0,0,0,", ",0,1,0,"))
    with pytest.raises(DataError, match=r"line 3: CMT 1: no observation is of data\.measured"):
        cohort(path)


def test_a_run_says_the_volume_that_was_fitted_and_what_it_did_not_use(path, tmp_path, capsys):
    result = run(compose(words(path)), tmp_path / "run")
    arrays, _ = store.read_npz(tmp_path / "run" / "weights.npz")
    assert result["volume"] == pytest.approx(np.exp(arrays["log_volume"][0]), rel=1e-6)
    assert "columns that are not used: WT" in capsys.readouterr().out


def test_a_run_says_who_was_not_seen_and_what_unit_doses_are_in_without_a_volume(path, tmp_path, capsys):
    seen = ["model=covariate", "data.covariates=[wt]", "data.volume=null", "data.observed_unit=mg/L", "data.held_out=1"]
    result = run(compose(words(path, *seen)), tmp_path / "run")
    told = capsys.readouterr().out
    assert "not used" not in told  # WT was seen by the field
    assert "observations are in mg/L, and without data.volume so are doses" in told
    assert f"unseen rmse {result['accuracy']['held_out']['rmse']:.4g} mg/L of those held out" in told
