"""Subjects who judge a fit and are never fitted."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from phases import MODEL, PARAMS, assert_same, create, numbers, rows_of, small, steps

from pk_event_fit import data, job, store, training
from pk_event_fit.checkpoint import read_checkpoint, write_checkpoint
from pk_event_fit.cli import compose
from pk_event_fit.data import Data
from pk_event_fit.errors import ConfigError
from pk_event_fit.integrate import predict
from pk_event_fit.training import Phase, Training
from pk_event_fit.training.task import Task

FITTED, JUDGES = np.array([0, 2]), np.array([1, 3])
LONG = Phase(iterations=14, learning_rate=1e-2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def torchode():
    return create("torchode")


@pytest.fixture(scope="module")
def contrary(torchode, cohort):
    """Its judges were observed to do what the fit says of them after four steps, and not after."""
    state = judged(torchode, cohort, [LONG])[3].state
    initial, table, *_ = data.batch_of(torchode.arrays, cohort, None)
    states, _ = predict(torchode, MODEL, state.params, initial, table, cohort.grid)
    amounts = cohort.amounts.copy()
    amounts[JUDGES] = torchode.arrays.to_numpy(states).transpose(2, 0, 1, 3)[JUDGES]
    return cohort._replace(amounts=amounts)


def judged(framework, cohort, phases, state=None, **settings):
    settings = {"validate_every": 2, **settings}
    return steps(framework, cohort, phases, state, subjects=FITTED, validation=JUDGES, **settings)


def test_judges_are_drawn_of_those_that_are_not_held_out(tmp_path):
    settings = Data(subjects=10, held_out=3, validation=2, points=2, path=str(tmp_path / "ten.npz"))
    ten = data.load(settings)
    left, held_out = data.split(ten, settings)
    fitted, judges = data.judges(left, settings, ten)
    assert (len(fitted), len(judges), len(held_out)) == (5, 2, 3)
    assert sorted([*fitted, *judges, *held_out]) == list(range(10))


def test_judges_are_drawn_by_the_seed_of_the_data(cohort):
    left, asked = np.arange(50), [Data(subjects=50, validation=5, seed=seed) for seed in (1, 1, 2)]
    drawn = [data.judges(left, settings, cohort)[1].tolist() for settings in asked]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("settings", [{"validation": 10}, {"validation": -1}, {"validation": 7, "held_out": 3}])
def test_judges_leave_somebody_to_fit(settings):
    with pytest.raises(ConfigError, match=r"data\.validation"):
        Data(subjects=10, **settings)


def test_judges_of_a_file_leave_somebody_to_fit(cohort):
    with pytest.raises(ConfigError, match=r"data\.validation=3"):
        data.judges(np.arange(3), Data(source="file", path="a.npz", validation=3), cohort)


def test_judging_needs_judges():
    with pytest.raises(ConfigError, match=r"training\.validate_every=5: needs data\.validation"):
        compose(["training.validate_every=5"])


def test_patience_needs_judging():
    with pytest.raises(ConfigError, match=r"training\.patience=5"):
        Training(patience=5)


@pytest.mark.parametrize("regularisation", [{}, {"derivative": 0.1, "l2": 0.1}], ids=str)
def test_judges_are_never_in_the_gradient(torchode, cohort, regularisation):
    other = cohort._replace(amounts=cohort.amounts.copy())
    other.amounts[JUDGES] *= np.linspace(1.0, 2.0, cohort.amounts.shape[2])[:, None]
    phases = [Phase(iterations=4, regularisation=regularisation)]
    one, two = (judged(torchode, each, phases) for each in (cohort, other))
    assert [p.loss for p in one] == [p.loss for p in two]
    assert one[1].validation != two[1].validation


def test_judges_who_were_not_observed_in_a_phase_are_refused(cohort):
    weights = np.ones_like(cohort.amounts)
    weights[JUDGES, :2] = 0.0
    settings = Training(phases=[Phase(length=0.5), Phase()], validate_every=2)
    part = cohort._replace(weights=weights)
    with pytest.raises(ConfigError, match=r"length=0\.5: nothing was observed by then"):
        training.check(settings, MODEL, part, FITTED, JUDGES)
    training.check(settings, MODEL, part, FITTED)


def test_judges_are_asked_every_so_often_and_at_the_end(torchode, cohort):
    progress = judged(torchode, cohort, [Phase(iterations=5)])
    assert [p.iteration for p in progress if p.validation is not None] == [2, 4, 5]


def test_what_is_judged_is_the_loss_of_the_judges(torchode, cohort):
    progress = judged(torchode, cohort, [Phase(iterations=2)])
    again = steps(torchode, cohort, [Phase(iterations=1)], training.start(torchode, _numpy(torchode, progress[-1])),
                  subjects=JUDGES)  # fmt: skip
    assert progress[-1].validation == pytest.approx(again[0].loss, rel=1e-6)


def _numpy(framework, progress):
    return {name: framework.arrays.to_numpy(value) for name, value in progress.state.params.items()}


def test_the_best_parameters_are_those_that_were_judged_best(torchode, contrary):
    progress = judged(torchode, contrary, [LONG])
    found = {p.iteration: p.validation for p in progress if p.validation is not None}
    assert min(found, key=found.get) == progress[-1].state.best_iteration == 4
    for name, value in progress[3].state.params.items():
        assert bool((progress[-1].state.best_params[name] == value).all())


def test_a_phase_ends_when_patience_does(torchode, contrary):
    assert judged(torchode, contrary, [LONG], patience=3)[-1].iteration == 4 + 3 * 2


def test_the_next_phase_begins_with_the_best_of_the_last(torchode, contrary):
    one = Phase(iterations=1, learning_rate=1e-3)
    both = judged(torchode, contrary, [LONG, one], patience=2)
    assert [p.state.phase for p in both] == [0] * 8 + [1]
    params = {name: torchode.arrays.to_numpy(value) for name, value in both[3].state.params.items()}
    *_, alone = judged(torchode, contrary, [one], training.start(torchode, params))
    for name in PARAMS:
        assert bool((alone.state.params[name] == both[-1].state.params[name]).all())


def test_a_phase_that_ends_between_two_judgements_is_judged_at_its_end(torchode, cohort):
    """L-BFGS ends where float32 finds no better step, long before the first judgement is due."""
    phases = [Phase(optimiser="lbfgs", iterations=400, trains=["*_1"]), Phase(iterations=1)]
    *within, last, further = judged(torchode, cohort, phases, validate_every=200)
    assert (last.state.phase, further.state.phase, further.iteration) == (0, 1, last.iteration + 1)
    assert last.iteration < 200
    assert [p.validation for p in within] == [None] * len(within)
    assert last.state.best_iteration == last.iteration
    assert last.state.best_loss == last.validation < np.inf
    assert further.loss == pytest.approx(last.loss, rel=1e-5)  # float32, compiled or not
    assert further.loss < 0.1 * within[0].loss


def test_what_an_early_end_leaves_is_kept_only_where_it_is_judged_better(torchode, cohort):
    """Judges were observed to do what the fit says of them at first: whatever is learned is worse."""
    initial, table, *_ = data.batch_of(torchode.arrays, cohort, None)
    states, _ = predict(torchode, MODEL, training.start(torchode, PARAMS).params, initial, table, cohort.grid)
    amounts = cohort.amounts.copy()
    amounts[JUDGES] = torchode.arrays.to_numpy(states).transpose(2, 0, 1, 3)[JUDGES]
    phase = Phase(optimiser="lbfgs", iterations=400, trains=["bias_1"])
    last = judged(torchode, cohort._replace(amounts=amounts), [phase], validate_every=200)[-1]
    assert last.validation > last.state.best_loss
    assert last.state.best_iteration == 0


@pytest.mark.parametrize("stop", [3, 4, 8, 9])
def test_a_judged_fit_goes_on_to_the_bit(torchode, contrary, stop, tmp_path):
    phases = [LONG, Phase(iterations=3)]
    progress = judged(torchode, contrary, phases, patience=2)
    done = progress[:stop]
    write_checkpoint(tmp_path / "c.npz", torchode, done[-1].state, rows_of(done), "data")
    shapes = {name: value.shape for name, value in PARAMS.items()}
    state, _ = read_checkpoint(tmp_path / "c.npz", torchode, shapes, "data")
    further = judged(torchode, contrary, phases, state, patience=2)
    assert [(p.loss, p.validation) for p in further] == [(p.loss, p.validation) for p in progress[stop:]]
    assert_same(torchode, further[-1].state, progress[-1].state)


def test_fits_by_batches_have_a_best_where_they_are_judged(torchode, cohort):
    last = judged(torchode, cohort, [replace(LONG, iterations=5, batch_size=1)], validate_every=5)[-1]
    assert last.state.best_loss == last.validation < np.inf


def test_a_state_that_cannot_be_solved_is_no_better(cohort):
    framework = create("torchode")
    start = training.start(framework, PARAMS)
    framework.solver.max_steps = 1
    task = Task(framework, MODEL, cohort, Training(validate_every=1), 0, FITTED, "additive", JUDGES)
    assert task.judge(Phase())(start.params) == np.inf


@pytest.fixture
def run(tmp_path):
    words = ["framework=torchode", "data.subjects=6", "data.points=5", f"data.path={tmp_path}/cohort.npz",
             "data.held_out=1", "data.validation=2", "training.validate_every=2", "training.iterations=5",
             "model.hidden=[4]", "accelerator.threads=1", "tracking=disabled"]  # fmt: skip
    config = compose(words)
    return config, job.run(config, tmp_path / "run"), tmp_path / "run"


def test_a_run_tells_errors_of_all_three_apart(run):
    _, result, folder = run
    arrays, _ = store.read_npz(folder / "predictions.npz")
    squares = (arrays["predicted"].astype(np.float64) - arrays["observed"]) ** 2
    for name in ("held_out", "validation"):
        score = result["accuracy"][name]
        assert score["subjects"] == len(arrays[name])
        assert score["mse"] == pytest.approx(squares[arrays[name]].mean(), rel=1e-12)
    fitted = np.setdiff1d(np.arange(6), [*arrays["held_out"], *arrays["validation"]])
    assert result["accuracy"]["mse"] == pytest.approx(squares[fitted].mean(), rel=1e-12)


def test_a_run_notes_what_was_judged(run):
    _, result, folder = run
    with open(folder / "history.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["validation"] != "" for row in rows] == [False, True, False, True, True]
    judged = {int(row["iteration"]): float(row["validation"]) for row in rows if row["validation"]}
    assert result["kept_iteration"] == min(judged, key=judged.get)


def test_a_judged_run_goes_on_with_its_history(run, tmp_path):
    config, _, folder = run
    longer = replace(config, training=replace(config.training, iterations=6), resume=str(folder))
    before = (folder / "history.csv").read_text()
    job.run(longer, folder)
    assert (folder / "history.csv").read_text().startswith(before)
    assert json.loads((folder / "result.json").read_text())["iterations"] == 6


def test_judging_changes_nothing_of_a_fit_but_what_is_kept(torchode, cohort):
    last = judged(torchode, cohort, [Phase(iterations=2)])[-1].state
    found, _ = numbers(torchode, last)
    wanted, _ = numbers(torchode, steps(torchode, cohort, [Phase(iterations=2)], subjects=FITTED)[-1].state)
    for name in wanted:
        if not name.startswith("best."):
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    judge = Task(torchode, MODEL, cohort, Training(validate_every=2), 0, FITTED, "additive", JUDGES).judge(Phase())
    first = training.start(torchode, PARAMS).params
    assert (last.best_iteration, last.best_loss) == min((2, judge(last.params)), (0, judge(first)), key=lambda p: p[1])
    for name, value in (last.params if last.best_iteration else first).items():
        np.testing.assert_array_equal(found[f"best.{name}"], torchode.arrays.to_numpy(value), err_msg=name)
