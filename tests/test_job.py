"""What a job leaves behind: the same bits again, all of it after a kill, and the truth after a failure."""

import csv
import errno
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from pk_event_fit import data, job, record, store, training
from pk_event_fit.config import Accelerator, Config, FrameworkChoice, Tracking
from pk_event_fit.data import Data
from pk_event_fit.errors import CheckpointError, ConfigError, SolverFailure, TrainingFailure
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks import available
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.saving import load_model
from pk_event_fit.training import Training

ITERATIONS = 6
FRAMEWORKS = available()
SAME = ("weights.npz", "predictions.npz", "config.yaml")  # the other files hold times


@pytest.fixture(scope="module")
def cohort_path(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("data") / "cohort.npz")


@pytest.fixture
def config(cohort_path) -> Config:
    """A small fit by torchode, which compiles nothing, that saves at every other iteration."""
    return settings("torchode", cohort_path)


def settings(name: str, path: str, seed: int = 0, **changes) -> Config:
    return Config(
        framework=FrameworkChoice(name=name),
        solver=Solver(rtol=1e-4, atol=1e-6),
        accelerator=Accelerator(threads=1),
        data=Data(subjects=3, points=5, path=path),
        model=Mlp(hidden=[4]),
        training=Training(**{"iterations": ITERATIONS, "checkpoint_every": 2, **changes}),
        tracking=Tracking(mode="disabled"),
        seed=seed,
    )


def further(config: Config, **changes) -> Config:
    return replace(config, training=replace(config.training, **changes))


def losses(folder: Path) -> list[tuple[str, str, str]]:
    with open(folder / "history.csv", newline="") as stream:
        return [(row["iteration"], row["loss"], row["gradient_norm"]) for row in csv.DictReader(stream)]


def state(folder: Path) -> dict[str, np.ndarray]:
    """All of a checkpoint that decides how the fit goes on."""
    arrays, note = store.read_npz(folder / "checkpoint.npz")
    kept = {name: array for name, array in arrays.items() if name != "history.step_ms"}
    return {**kept, **{name: np.array(note[name]) for name in ("iteration", "best_iteration")}}


def assert_same_fit(one: Path, other: Path) -> None:
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert losses(one) == losses(other)


def run_until(iteration: int, error: BaseException, config: Config, folder: Path, *, noted: bool = False) -> None:
    """Run a job until that error comes when that iteration is to be noted, or has just been."""
    add = record.Recorder.add

    def stop(self, progress):
        if progress.iteration == iteration and not noted:
            raise error
        add(self, progress)
        if progress.iteration == iteration:
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record.Recorder, "add", stop)
        with pytest.raises(type(error)):
            job.run(config, folder)


def order(monkeypatch, config: Config, folder: Path) -> int:
    """The exit code of the job that the command line would start."""
    words = json.dumps({"config": asdict(config), "folder": str(folder), "group": None})
    monkeypatch.setattr(sys, "stdin", io.StringIO(words))
    monkeypatch.setattr(job, "leave", sys.exit)
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as caught:
            job.main()
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    return caught.value.code


def command(folder: Path, *words: str) -> subprocess.CompletedProcess:
    line = (sys.executable, "-m", "pk_event_fit", *words)
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def whole(request, cohort_path, tmp_path_factory):
    """A fit by each framework that nothing interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    config = settings(request.param, cohort_path)
    job.run(config, folder)
    return config, folder


def test_the_same_seed_gives_the_same_bits(whole, tmp_path):
    config, folder = whole
    job.run(config, tmp_path)
    assert_same_fit(tmp_path, folder)


def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path):
    config, folder = whole
    run_until(5, SystemExit(), config, tmp_path)  # which no handler waits for: all that is left is the checkpoint of 4
    assert not (tmp_path / "result.json").exists()
    job.run(replace(config, resume=str(tmp_path)), tmp_path)
    assert_same_fit(tmp_path, folder)


@pytest.fixture
def straight(config, tmp_path) -> Path:
    folder = tmp_path / "straight"
    job.run(config, folder)
    return folder


@pytest.fixture
def stopped(config, tmp_path) -> Path:
    """A run that was interrupted after 4 of its iterations."""
    folder = tmp_path / "stopped"
    run_until(4, KeyboardInterrupt(), config, folder, noted=True)
    return folder


def test_another_seed_gives_other_weights(config, straight, tmp_path):
    job.run(replace(config, seed=1), tmp_path)
    ours, theirs = (store.read_npz(folder / "weights.npz")[0] for folder in (tmp_path, straight))
    assert not np.array_equal(ours["weight_0"], theirs["weight_0"])


def test_another_seed_has_the_same_data(config, straight, tmp_path):
    job.run(replace(config, seed=1), tmp_path)
    ours, theirs = (store.read_npz(folder / "predictions.npz")[0] for folder in (tmp_path, straight))
    np.testing.assert_array_equal(ours["observed"], theirs["observed"])


def test_another_seed_of_the_data_has_other_data(config, straight, tmp_path):
    job.run(replace(config, data=replace(config.data, seed=7, path=str(tmp_path / "other.npz"))), tmp_path)
    ours, theirs = (store.read_npz(folder / "predictions.npz")[0] for folder in (tmp_path, straight))
    assert not np.array_equal(ours["observed"], theirs["observed"])


@pytest.mark.parametrize("noted", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_bits(config, straight, tmp_path, noted):
    folder = tmp_path / "stopped"
    run_until(3, KeyboardInterrupt(), config, folder, noted=noted)
    job.run(replace(config, resume=str(folder)), folder)
    assert_same_fit(folder, straight)


def test_a_run_by_batches_that_is_interrupted_goes_on_to_the_same_bits(cohort_path, tmp_path):
    config = settings("torchode", cohort_path, batch_size=1, clip_norm=10.0)
    job.run(config, tmp_path / "straight")
    run_until(3, KeyboardInterrupt(), config, tmp_path / "stopped")
    job.run(replace(config, resume=str(tmp_path / "stopped")), tmp_path / "stopped")
    assert_same_fit(tmp_path / "stopped", tmp_path / "straight")


def test_an_interrupted_run_says_how_to_go_on(stopped):
    result = json.loads((stopped / "result.json").read_text())
    assert (result["status"], result["iterations"]) == ("failed", 4)
    assert f"resume={stopped}" in result["error"]["message"]


def test_a_resumed_run_leaves_the_result_of_a_whole_one(config, straight, stopped):
    job.run(replace(config, resume=str(stopped)), stopped)
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (stopped, straight))
    for key in ("status", "iterations", "kept_iteration", "accuracy", "solver"):
        assert ours[key] == theirs[key], key


def test_a_finished_run_goes_further_to_the_same_bits(config, straight, tmp_path):
    job.run(further(config, iterations=9), tmp_path)
    job.run(replace(further(config, iterations=9), resume=str(straight)), straight)
    assert_same_fit(straight, tmp_path)


def test_a_run_that_is_killed_on_its_way_further_is_not_told_as_completed(config, straight):
    run_until(8, MemoryError(), replace(further(config, iterations=9), resume=str(straight)), straight)
    result = straight / "result.json"
    assert not result.exists() or json.loads(result.read_text())["status"] != "completed"


def test_a_run_does_not_go_back(config, straight):
    with pytest.raises(ConfigError, match=r"training\.iterations=3.*6"):
        job.run(replace(further(config, iterations=3), resume=str(straight)), straight)


def test_a_run_killed_at_work_goes_on_to_the_same_bits_by_one_word(config, tmp_path):
    config = further(config, iterations=60, checkpoint_every=1)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    words = json.dumps({"config": asdict(config), "folder": str(killed), "group": None})
    worker = subprocess.Popen((sys.executable, "-m", "pk_event_fit.job"), stdin=subprocess.PIPE, text=True)
    worker.stdin.write(words)
    worker.stdin.close()
    while worker.poll() is None:
        if (killed / "checkpoint.npz").exists() and state(killed)["iteration"] >= 5:
            os.kill(worker.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    assert worker.wait() == -signal.SIGKILL
    assert len(losses(killed)) < config.training.iterations
    done = command(tmp_path, "resume=killed")
    assert done.returncode == 0, done.stderr
    job.run(config, whole)
    assert_same_fit(killed, whole)


def test_a_second_signal_does_not_keep_a_job_from_saving(config, tmp_path, monkeypatch):
    add, close = record.Recorder.add, record.Recorder.close

    def interrupted(self, progress):
        add(self, progress)
        signal.raise_signal(signal.SIGTERM)

    def disturbed(self):
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(kind)
        close(self)

    monkeypatch.setattr(record.Recorder, "add", interrupted)
    monkeypatch.setattr(record.Recorder, "close", disturbed)
    assert order(monkeypatch, config, tmp_path) == 130
    assert json.loads((tmp_path / "result.json").read_text())["error"]["type"] == "KeyboardInterrupt"
    assert state(tmp_path)["iteration"] == 1


def test_resuming_goes_further_by_a_second_word(stopped):
    done = command(stopped.parent, f"resume={stopped}", "training.iterations=8")
    assert done.returncode == 0, done.stderr
    assert [row[0] for row in losses(stopped)] == [str(k) for k in range(1, 9)]


def alter(path: Path) -> None:
    """Change one number and nothing else, as someone would who knows the format."""
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["params.bias_0"][0] += 1
    np.savez(path, **arrays)


def flip(path: Path) -> None:
    """One bit of a number; there are bytes of a file that mean nothing."""
    with np.load(path) as archive:
        number = archive["params.weight_0"].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(number)] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def strip(path: Path) -> None:
    """Without its note, which holds the digest."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "about"}
    np.savez(path, **arrays)


def swap(path: Path) -> None:
    path.write_bytes((path.parent / "weights.npz").read_bytes())


@pytest.mark.parametrize("change", [alter, flip, cut, strip, swap])
def test_an_altered_checkpoint_is_refused(config, straight, change):
    change(straight / "checkpoint.npz")
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz"):
        job.run(replace(further(config, iterations=9), resume=str(straight)), straight)


def test_the_checkpoint_of_another_model_is_refused(config, straight):
    other = replace(config, model=Mlp(hidden=[5]), resume=str(straight))
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: .*the model's"):
        job.run(other, straight)


def test_the_checkpoint_of_other_data_is_refused(config, straight, tmp_path):
    other = replace(config, data=replace(config.data, seed=7, path=str(tmp_path / "other.npz")), resume=str(straight))
    with pytest.raises(CheckpointError, match="other data"):
        job.run(other, straight)


def test_resuming_from_an_altered_checkpoint_exits_with_2_and_changes_nothing(stopped):
    (stopped / "result.json").unlink()  # as a kill leaves it
    alter(stopped / "checkpoint.npz")
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    done = command(stopped.parent, f"resume={stopped}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "checkpoint.npz" in done.stderr
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


@pytest.mark.parametrize("word", ["seed=1", "framework=torchode", "hydra.run.dir=other", "-m"])
def test_resuming_takes_no_other_word(stopped, word):
    done = command(stopped.parent, f"resume={stopped}", word)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert word in done.stderr


@pytest.mark.parametrize("content", ["{[", "seed: [", "seed: first", "- 1", "\x00"])
def test_resuming_with_a_damaged_config_is_refused_in_one_line(stopped, content):
    (stopped / "config.yaml").write_text(content)
    done = command(stopped.parent, f"resume={stopped}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_resuming_nothing_is_refused(tmp_path):
    done = command(tmp_path, "resume=.")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"resume={tmp_path}" in done.stderr


def test_a_new_run_does_not_enter_the_folder_of_another(config, straight):
    before = {path.name: path.read_bytes() for path in straight.iterdir()}
    with pytest.raises(ConfigError, match="already holds a run"):
        job.run(config, straight)
    assert {path.name: path.read_bytes() for path in straight.iterdir()} == before


BAD_STEP = 3


@pytest.fixture
def poisoned(cohort_path, monkeypatch) -> Config:
    """By batches of one, where the subject of the third iteration has an amount that is no number."""
    config = settings("torchode", cohort_path, batch_size=1)
    cohort = data.load(config.data)
    subject = data.batches(3, 1, config.seed)(BAD_STEP)
    cohort.amounts[subject, 1, 2, 0] = math.nan
    monkeypatch.setattr(data, "load", lambda settings: cohort)
    return config


def test_a_loss_that_is_no_number_stops_the_run(poisoned, tmp_path):
    with pytest.raises(TrainingFailure, match="iteration 3: loss nan"):
        job.run(poisoned, tmp_path)


def test_no_step_is_taken_from_a_loss_that_is_no_number(poisoned, tmp_path, monkeypatch):
    with pytest.raises(TrainingFailure):
        job.run(poisoned, tmp_path / "failed")
    monkeypatch.undo()
    job.run(further(poisoned, iterations=BAD_STEP - 1), tmp_path / "healthy")
    ours, theirs = state(tmp_path / "failed"), state(tmp_path / "healthy")
    for name in theirs.keys() - {"iteration"}:
        if not name.startswith("history"):
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert ours["iteration"] == theirs["iteration"] == BAD_STEP - 1


def test_a_failed_fit_is_told_as_failed(poisoned, tmp_path):
    with pytest.raises(TrainingFailure):
        job.run(poisoned, tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["accuracy"], result["iterations"]) == ("failed", None, BAD_STEP - 1)
    assert result["error"]["type"] == "TrainingFailure"


def test_a_failed_fit_exits_with_1(poisoned, tmp_path, monkeypatch, capsys):
    assert order(monkeypatch, poisoned, tmp_path) == 1
    assert capsys.readouterr().err.startswith("failed: iteration 3: loss nan")


def test_no_step_is_taken_from_a_gradient_that_is_no_number(config, tmp_path, monkeypatch):
    field = Mlp.__call__

    def broken(self, xp, params, t, y, covariates):
        # 0 forward, and no number backward: the root of 0 has an infinite slope.
        return field(self, xp, params, t, y, covariates) + 0 * xp.sqrt(0 * (params["bias_0"] ** 2).sum())

    monkeypatch.setattr(Mlp, "__call__", broken)
    with pytest.raises(TrainingFailure, match=r"iteration 1: .*gradient norm nan"):
        job.run(config, tmp_path)
    found = store.read_npz(tmp_path / "checkpoint.npz")[0]
    for name, value in config.model.network.initial_params(2, config.seed).items():
        np.testing.assert_array_equal(found[f"params.{name}"], value.astype(np.float32))


@pytest.fixture
def hopeless(config) -> Config:
    return replace(config, solver=replace(config.solver, max_steps=1))


def test_a_failed_solve_is_told_as_failed(hopeless, tmp_path):
    with pytest.raises(SolverFailure, match="max steps"):
        job.run(hopeless, tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["accuracy"], result["iterations"]) == ("failed", None, 0)
    assert result["error"]["type"] == "SolverFailure"


def test_a_failed_solve_leaves_no_weights_and_no_predictions(hopeless, tmp_path):
    with pytest.raises(SolverFailure):
        job.run(hopeless, tmp_path)
    assert not (tmp_path / "weights.npz").exists()
    assert not (tmp_path / "predictions.npz").exists()


def test_a_failed_solve_exits_with_1(hopeless, tmp_path, monkeypatch):
    assert order(monkeypatch, hopeless, tmp_path) == 1


# Files that a run has written when it has saved twice: provenance, and each time the checkpoint and the history.
WRITTEN = 1 + 2 + 2


def fill_disk(patch: pytest.MonkeyPatch, function: str) -> None:
    """Let that function of `os` find no space for the third checkpoint."""
    real, calls = getattr(os, function), []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > WRITTEN:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    patch.setattr(os, function, full)


@pytest.fixture(params=["fsync", "replace"])
def full(request, config, tmp_path) -> Path:
    """A run that the disk had no space for after two iterations."""
    folder = tmp_path / "full"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, request.param)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            job.run(config, folder)
    return folder


def test_a_full_disk_leaves_the_checkpoint_before(config, full, tmp_path):
    job.run(further(config, iterations=2), tmp_path / "short")
    ours, theirs = state(full), state(tmp_path / "short")
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_full_disk_leaves_no_partial_file(full):
    assert {path.name for path in full.iterdir()} == {"config.yaml", "provenance.json", "checkpoint.npz", "history.csv"}


def test_a_run_that_a_full_disk_stopped_goes_on_to_the_same_bits(config, full, straight):
    job.run(replace(config, resume=str(full)), full)
    assert_same_fit(full, straight)


def test_a_full_disk_exits_with_1_and_one_line(config, tmp_path, monkeypatch, capsys):
    fill_disk(monkeypatch, "replace")
    assert order(monkeypatch, config, tmp_path) == 1
    told = capsys.readouterr().err
    assert told.startswith("failed: ")
    assert told.count("\n") == 1


def test_the_result_is_the_error_of_the_predictions(straight):
    arrays, _ = store.read_npz(straight / "predictions.npz")
    found = json.loads((straight / "result.json").read_text())["accuracy"]
    error = arrays["predicted"].astype(np.float64) - arrays["observed"]
    spread = arrays["observed"] - arrays["observed"].mean(0)
    eps = np.finfo(np.float64).eps * error.size  # sums in another order
    assert found["mse"] == pytest.approx((error**2).mean(), rel=eps)
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=eps)
    assert found["rmse_floor"] == pytest.approx(np.sqrt((spread**2).mean()), rel=eps)
    assert found["skill"] == pytest.approx(1 - (error**2).mean() / (spread**2).mean(), rel=eps)


@pytest.fixture
def overshot(config, tmp_path):
    """A fit with steps so large that its loss falls first and then rises."""
    config = further(config, iterations=5, learning_rate=0.02)
    result = job.run(config, tmp_path)
    found = [float(row[1]) for row in losses(tmp_path)]
    assert 0 < int(np.argmin(found)) < len(found) - 1
    return config, tmp_path, result, found


def test_the_weights_kept_are_those_of_the_lowest_loss(overshot):
    _, _, result, found = overshot
    assert result["kept_iteration"] == int(np.argmin(found))  # the loss of an iteration is that before its step
    assert result["accuracy"]["mse"] == pytest.approx(min(found), rel=1e-5)  # a mean in float32


def test_the_weights_kept_are_those_of_that_iteration(overshot, tmp_path_factory):
    config, folder, result, _ = overshot
    other = tmp_path_factory.mktemp("short")
    job.run(further(config, iterations=result["kept_iteration"]), other)
    kept, last = store.read_npz(folder / "weights.npz")[0], state(other)
    for name, value in kept.items():
        np.testing.assert_array_equal(value, last[f"params.{name}"], err_msg=name)


def test_the_last_weights_are_kept_where_they_are_the_best(straight):
    found = [float(row[1]) for row in losses(straight)]
    assert found == sorted(found, reverse=True)
    assert json.loads((straight / "result.json").read_text())["kept_iteration"] == ITERATIONS


def test_milestones_are_the_weights_after_these_iterations(config, straight, tmp_path):
    folder = tmp_path / "kept"
    job.run(further(config, milestones=[2, 5]), folder)
    assert sorted(path.name for path in (folder / "milestones").iterdir()) == ["2.npz", "5.npz"]
    assert not (straight / "milestones").exists()
    assert losses(folder) == losses(straight)
    for number in (2, 5):
        run_until(number, SystemExit(), further(config, checkpoint_every=1), tmp_path / str(number), noted=True)
        model, wanted = load_model(folder / "milestones" / f"{number}.npz"), state(tmp_path / str(number))
        assert model.about["iteration"] == number
        for name, value in model.params.items():
            np.testing.assert_array_equal(value, wanted[f"params.{name}"], err_msg=name)


def test_a_killed_run_keeps_the_same_milestones(config, tmp_path):
    """Killed when the iteration is to be noted, which is a milestone and the last before a checkpoint."""
    config = further(config, milestones=[4, 6])
    job.run(config, tmp_path / "whole")
    run_until(4, SystemExit(), config, tmp_path / "killed")
    (tmp_path / "killed" / "milestones" / "4.npz").unlink()
    job.run(replace(config, resume=str(tmp_path / "killed")), tmp_path / "killed")
    for name in ("4.npz", "6.npz"):
        pair = [(tmp_path / folder / "milestones" / name).read_bytes() for folder in ("killed", "whole")]
        assert pair[0] == pair[1]


@pytest.mark.parametrize("number", [0, ITERATIONS + 1])
def test_a_milestone_that_no_fit_gets_to_is_refused(number):
    with pytest.raises(ConfigError, match=rf"training\.milestones=\[{number}\]: must be 1 to {ITERATIONS}"):
        Training(iterations=ITERATIONS, milestones=[1, number])


def test_a_failed_subject_of_a_batch_is_counted_in_the_cohort():
    subjects = np.array([7, 3, 9])
    failure = training._of_cohort(SolverFailure("x", "why", subject=1, interval=2, t=3.0, steps=4), subjects)
    assert (failure.subject, failure.interval, failure.t, failure.steps) == (3, 2, 3.0, 4)
