"""The command line as users type it, each command a process of its own in a folder of its own."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pk_event_fit import cli, launch

SMALL = ("data.subjects=3", "data.points=5", "model.hidden=[4]", "training.iterations=2")
QUIET = (*SMALL, "tracking=disabled")
KEY = "0123456789abcdef" * 2 + "01234567"

FILES = {
    "config.yaml", "history.csv", "result.json", "provenance.json", "checkpoint.npz", "weights.npz", "predictions.npz",
    "fit.png", "loss.png",
}  # fmt: skip
ACCURACY = {"unit", "mse", "rmse", "rmse_floor", "skill", "by_compartment", "by_interval", "held_out"}
PERFORMANCE = {"import_s", "compile_s", "step_ms", "training_s", "rss_baseline_mb", "rss_peak_mb"}
SOLVER = {"accepted", "rejected", "evaluations"}


def command(folder: Path, *words: str, flags: tuple[str, ...] = (), **environment: str):
    # Without what conftest.py sets for tests in its own process.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "JAX_"))}
    words = (sys.executable, *flags, "-m", "pk_event_fit", *words)
    return subprocess.run(words, cwd=folder, env=own | environment, capture_output=True, text=True, timeout=300)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


# What is typed for one run, the framework that it means, the seed, and the precision that holds the tolerance.
SINGLE = {
    "none named": (("solver.rtol=1e-6",), "diffrax", 0, "float64"),
    "+framework=x": (("+framework=torchode",), "torchode", 0, "float32"),
    "framework=x": (("framework=torchode", "seed=3", "solver.rtol=1e-6"), "torchode", 3, "float64"),
}


@pytest.fixture(scope="module", params=SINGLE)
def single(request, tmp_path_factory):
    words, name, seed, precision = SINGLE[request.param]
    folder = tmp_path_factory.mktemp("single")
    done = command(folder, *words, *QUIET)
    assert done.returncode == 0, done.stderr
    run = only(folder / "outputs")
    return done, run, json.loads((run / "result.json").read_text()), name, seed, precision


def test_all_files_of_a_run_are_known_to_who_clears_them_away():
    assert set(launch.FILES) == {*FILES, "log.txt"}  # the latter where there was something to say


def test_a_run_leaves_the_documented_files_and_no_others(single):
    _, run, *_ = single
    assert {path.name for path in run.iterdir()} == FILES


def test_a_run_writes_nothing_on_stderr(single):
    assert single[0].stderr == ""


def test_the_folder_of_a_run_is_named_by_a_stamp_with_microseconds(single):
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", single[1].name)


def test_the_result_says_what_was_run(single):
    _, _, result, name, seed, _ = single
    assert (result["status"], result["framework"], result["seed"]) == ("completed", name, seed)


def test_the_result_holds_the_documented_keys(single):
    result = single[2]
    assert set(result["accuracy"]) == ACCURACY
    assert set(result["performance"]) == PERFORMANCE
    assert set(result["performance"]["step_ms"]) == {"median", "p10", "p90"}
    assert set(result["solver"]) >= SOLVER


def test_the_stored_config_is_the_one_that_was_asked_for(single):
    _, run, _, name, seed, _ = single
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["framework"]["name"], config["seed"], config["data"]["subjects"]) == (name, seed, 3)


def test_provenance_says_where_the_result_comes_from(single):
    about = json.loads((single[1] / "provenance.json").read_text())
    assert {"git", "packages", "cpu", "threads", "precision", "data_digest"} <= set(about)


def test_a_run_computes_in_the_precision_that_holds_its_tolerance(single):
    _, run, *_, precision = single
    with np.load(run / "weights.npz") as weights:
        assert weights["weight_0"].dtype == precision


def test_the_history_has_a_row_an_iteration(single):
    assert [row["iteration"] for row in table(single[1] / "history.csv")] == ["1", "2"]


def test_the_console_shows_the_losses_of_the_history(single):
    done, run, *_ = single
    shown = re.findall(r"^iteration (\d+)/2 +loss (\S+) mg\^2 +rmse (\S+) mg\b", done.stdout, re.MULTILINE)
    rows = table(run / "history.csv")
    assert shown == [(r["iteration"], f"{float(r['loss']):.4g}", f"{float(r['loss']) ** 0.5:.4g}") for r in rows]


def test_the_console_shows_the_accuracy_of_the_result(single):
    done, _, result, *_ = single
    score = result["accuracy"]
    line = f"rmse {score['rmse']:.4g} mg; best single curve for all subjects {score['rmse_floor']:.4g} mg"
    assert f"{line}, skill {score['skill']:.4f}" in done.stdout


def test_the_result_has_the_step_time_of_the_history(single):
    _, run, result, *_ = single
    steps = [float(row["step_ms"]) for row in table(run / "history.csv")]
    assert result["performance"]["step_ms"]["median"] == pytest.approx(steps[1], rel=1e-12)
    assert result["performance"]["training_s"] == pytest.approx(sum(steps) / 1e3, rel=1e-12)


def test_a_run_says_which_framework_it_took_only_where_none_was_named(single):
    done, _, _, name, *_ = single
    said = "no framework named: taking diffrax; the others are fused, torchdiffeq, torchdyn, torchode"
    assert (said in done.stdout) == (name == "diffrax")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return command(folder, "-m", "framework=torchode,torchdiffeq", "seed=0,1", *QUIET), only(folder / "outputs")


JOBS = [("torchode", "0"), ("torchode", "1"), ("torchdiffeq", "0"), ("torchdiffeq", "1")]


def test_a_sweep_exits_with_0(sweep):
    assert sweep[0].returncode == 0


def test_a_sweep_has_a_row_for_each_run(sweep):
    rows = table(sweep[1] / "summary.csv")
    assert [(row["framework"], row["seed"], row["status"]) for row in rows] == [(*job, "completed") for job in JOBS]


def test_the_rows_of_a_sweep_are_the_results_of_its_jobs(sweep):
    for row in table(sweep[1] / "summary.csv"):
        result = json.loads((sweep[1] / row["job"] / "result.json").read_text())
        assert float(row["rmse"]) == result["accuracy"]["rmse"]


def test_the_page_of_a_sweep_has_a_row_for_each_run_and_one_for_each_framework(sweep):
    lines = (sweep[1] / "summary.md").read_text().splitlines()
    named = [line for line in lines if line.startswith("|") and re.search(r"\| torch(ode|diffeq) \|", line)]
    assert len(named) == len(JOBS) + 2


def test_a_sweep_shows_its_page(sweep):
    assert (sweep[1] / "summary.md").read_text() in sweep[0].stdout


def test_jobs_of_a_sweep_share_their_data(sweep):
    about = [json.loads((sweep[1] / str(k) / "provenance.json").read_text()) for k in range(len(JOBS))]
    assert len({one["data_digest"] for one in about}) == 1


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    """Of these two only torchode has the method; what is refused by one is no reason to stop."""
    folder = tmp_path_factory.mktemp("plus")
    words = ("-m", "+framework=torchdiffeq,torchode", "solver=tsit5", "hydra.sweep.dir=here/there")
    return command(folder, *words, *QUIET), folder


def test_a_sweep_goes_where_it_is_told(plus):
    _, folder = plus
    assert {path.name for path in folder.iterdir()} == {"here", "data"}
    assert {path.name for path in (folder / "here" / "there").iterdir()} >= {"0", "1", "summary.csv", "summary.md"}


def test_a_sweep_by_plus_goes_on_after_a_refused_job_and_shows_it(plus):
    rows = table(plus[1] / "here" / "there" / "summary.csv")
    assert [(row["framework"], row["status"]) for row in rows] == [("torchdiffeq", "failed"), ("torchode", "completed")]


def test_a_refused_job_of_a_sweep_keeps_its_reason(plus):
    sweep = plus[1] / "here" / "there"
    reason = json.loads((sweep / "0" / "result.json").read_text())["error"]["message"]
    assert "tsit5" in reason
    assert f"error: {reason}" in plus[0].stderr
    assert table(sweep / "summary.csv")[0]["error"] == reason
    assert {path.name for path in (sweep / "0").iterdir()} == {"result.json"}
    assert not list(sweep.glob(".*"))


def test_a_sweep_with_a_refused_job_exits_with_1(plus):
    assert plus[0].returncode == 1


@pytest.fixture(scope="module")
def limping(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limping")
    done = command(folder, "-m", "framework=torchode", "solver.max_steps=1,4096", *QUIET)
    return done, only(folder / "outputs")


def test_a_sweep_with_a_failed_job_exits_with_1(limping):
    assert limping[0].returncode == 1


def test_a_sweep_goes_on_after_a_failed_job(limping):
    rows = table(limping[1] / "summary.csv")
    assert [row["status"] for row in rows] == ["failed", "completed"]


def test_a_failed_row_says_why_and_has_no_number(limping):
    row = table(limping[1] / "summary.csv")[0]
    assert "max steps" in row["error"]
    assert row["rmse"] == ""


def test_the_page_of_a_sweep_shows_the_failed_row(limping):
    lines = (limping[1] / "summary.md").read_text().splitlines()
    assert sum("| failed |" in line for line in lines) == 1


def test_a_failed_job_shows_no_traceback(limping):
    assert "Traceback" not in limping[0].stderr


# Words, and what the one line must hold. The last are found in the job's own process, before it writes.
REFUSED = {
    "unknown key": (("solver.tolerance=1",), "solver.tolerance"),
    "unknown key by +": (("+bogus=1",), "bogus"),
    "wrong name": (("framework=difrax",), "torchdyn torchode"),
    "wrong name in a sweep": (("-m", "framework=torchode,difrax"), "torchdyn torchode"),
    "wrong name of Hydra's": (("-m", "framework=torchode", "hydra/sweeper=bogus"), "bogus"),
    "null for a framework": (("framework=null",), "framework"),
    "_target_": (("+solver._target_=os.system",), "solver._target_"),
    "missing file": (("framework=torchode", "data=file", "data.path=nowhere.npz"), "nowhere.npz"),
    "impossible tolerance": (
        ("framework=torchode", "solver.rtol=1e-9", "accelerator.precision=float32"),
        "accelerator.precision=float64",
    ),
    "impossible dose": (("framework=torchode", "data.dose_compartments=[9,1,1]"), "compartment 9"),
    "no number for a dose": (("framework=torchode", "data.dose_times=[{at:12},24,36]"), "dose_times"),
    "batch larger than the cohort": (("framework=torchode", "training.batch_size=50"), "training.batch_size=50"),
}


@pytest.fixture(scope="module", params=REFUSED)
def refused(request, tmp_path_factory):
    words, told = REFUSED[request.param]
    folder = tmp_path_factory.mktemp("refused")
    return command(folder, *words, *QUIET), folder, told


def test_a_refusal_exits_with_2(refused):
    assert refused[0].returncode == 2


def test_a_refusal_is_one_line_that_says_what_is_wrong(refused):
    done, _, told = refused
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr


def test_a_refusal_leaves_no_file_and_no_folder(refused):
    assert tree(refused[1]) == {}


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = command(tmp_path, "framework=torchode", *QUIET, "hydra.run.dir=taken/run")
    assert done.returncode in (1, 2)
    assert "taken" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("case", ["unknown key", "impossible tolerance"])
def test_bad_input_is_refused_without_assertions_too(tmp_path, case):
    words, told = REFUSED[case]
    done = command(tmp_path, *words, *QUIET, flags=("-O",))
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_that_fails_exits_with_1_and_says_so_without_assertions_too(tmp_path):
    done = command(tmp_path, "framework=torchode", "solver.max_steps=1", *QUIET, flags=("-O",))
    result = json.loads((only(tmp_path / "outputs") / "result.json").read_text())
    assert (done.returncode, result["status"]) == (1, "failed")
    assert done.stderr.startswith("failed: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placed")
    words = ("framework=torchode", *QUIET, "hydra.run.dir=here/there", "data.path=cohort.npz")
    assert command(folder, *words).returncode == 0
    return folder, words


def test_a_run_goes_where_it_is_told(placed):
    folder, _ = placed
    assert {path.name for path in folder.iterdir()} == {"here", "cohort.npz"}
    assert {path.name for path in (folder / "here" / "there").iterdir()} == FILES


def test_a_second_run_in_one_folder_is_refused_and_the_first_is_untouched(placed):
    folder, words = placed
    before = tree(folder)
    done = command(folder, *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "already holds a run" in done.stderr
    assert tree(folder) == before


def test_a_second_run_leaves_one_that_is_still_going_untouched(placed, tmp_path):
    folder, words = placed
    going = tmp_path / "here" / "there"
    going.mkdir(parents=True)
    for name in ("config.yaml", "checkpoint.npz", "history.csv"):  # no result yet
        (going / name).write_bytes((folder / "here" / "there" / name).read_bytes())
    before = tree(tmp_path / "here")
    assert command(tmp_path, *words).returncode == 2
    assert tree(tmp_path / "here") == before


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("followed")
    home = {"HOME": str(folder), "NETRC": str(folder / "netrc"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = command(folder, "framework=torchode", *SMALL, WANDB_API_KEY=KEY, **home)
    assert done.returncode == 0, done.stderr
    return done, folder


def test_following_a_run_is_offline_by_default_and_leaves_the_record_with_the_run(followed):
    _, folder = followed
    (record,) = only(folder / "outputs").glob("wandb/offline-run-*/run-*.wandb")
    assert record.stat().st_size > 0


def test_an_offline_run_says_nothing_of_trouble(followed):
    assert followed[0].stderr == ""


def test_a_key_in_the_environment_is_in_no_file_of_the_run(followed):
    done, folder = followed
    assert [name for name, content in tree(folder).items() if content and KEY.encode() in content] == []
    assert KEY not in done.stdout


def stopped(own, folder, stop, begun=("iteration",)):
    """What a command says that is stopped once lines have begun with all of these, and the command."""
    process = subprocess.Popen(
        own, cwd=folder, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )  # fmt: skip
    try:
        missing = set(begun)
        for line in process.stdout:
            missing -= {start for start in missing if line.startswith(start)}
            if not missing:
                break
        if stop == "all":  # as a terminal does: the command and its job
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(stop)
        return *process.communicate(timeout=120), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("stop", ["all", signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_says_how_to_go_on_and_goes_on(tmp_path, stop):
    words = (
        "framework=torchode",
        *SMALL[:3],
        "training.iterations=100000",
        "training.checkpoint_every=1",
        "tracking=disabled",
    )
    own = [sys.executable, "-m", "pk_event_fit", *words, "hydra.run.dir=run"]
    _, errors, process = stopped(own, tmp_path, stop)
    assert process.returncode == 130
    assert "resume=" in errors
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["error"]["type"]) == ("failed", "KeyboardInterrupt")
    done = command(tmp_path, "resume=run", f"training.iterations={result['iterations'] + 2}", "tracking=disabled")
    assert done.returncode == 0, done.stderr
    assert len(table(tmp_path / "run" / "history.csv")) == result["iterations"] + 2


def test_a_sweep_that_is_stopped_has_a_table_and_no_further_job(tmp_path):
    words = ("-m", "framework=torchode", "seed=0,1", *SMALL[:3], "training.iterations=100000", "tracking=disabled")
    own = [sys.executable, "-m", "pk_event_fit", *words, "hydra.sweep.dir=sweep"]
    _, errors, process = stopped(own, tmp_path, signal.SIGTERM)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert [row["status"] for row in table(tmp_path / "sweep" / "summary.csv")] == ["failed"]
    assert not (tmp_path / "sweep" / "1").exists()


def test_jobs_that_run_side_by_side_are_all_there_and_say_whose_words_they_are(tmp_path):
    words = ["-m", "framework=torchode", "seed=0,1", "solver.max_steps=1,4096", *QUIET, "study.at_once=2"]
    done = command(tmp_path, *words, "accelerator.threads=1", "hydra.sweep.dir=sweep")
    assert done.returncode == 1  # one step is too few
    rows = table(tmp_path / "sweep" / "summary.csv")
    assert [row["job"] for row in rows] == [str(number) for number in range(4)]
    assert sorted(row["status"] for row in rows) == ["completed"] * 2 + ["failed"] * 2
    for row in rows:
        assert f"\n{row['job']}: " in done.stdout + done.stderr
        settings = yaml.safe_load((tmp_path / "sweep" / row["job"] / "config.yaml").read_text())
        assert (row["status"] == "completed") == (settings["solver"]["max_steps"] == 4096)


@pytest.mark.parametrize("stop", ["all", signal.SIGTERM])
def test_jobs_that_run_side_by_side_all_save_when_they_are_stopped(tmp_path, stop):
    words = ("-m", "framework=torchode", "seed=0,1,2", *SMALL[:3], "training.iterations=100000", "tracking=disabled",
             "study.at_once=2", "accelerator.threads=1")  # fmt: skip
    own = [sys.executable, "-m", "pk_event_fit", *words, "hydra.sweep.dir=sweep"]
    _, errors, process = stopped(own, tmp_path, stop, begun=("0: iteration", "1: iteration"))
    assert process.returncode == 130
    assert "Traceback" not in errors
    for name in ("0", "1"):
        result = json.loads((tmp_path / "sweep" / name / "result.json").read_text())
        assert (result["status"], result["error"]["type"]) == ("failed", "KeyboardInterrupt")
        assert (tmp_path / "sweep" / name / "checkpoint.npz").exists()
    assert not (tmp_path / "sweep" / "2").exists()
    assert [row["job"] for row in table(tmp_path / "sweep" / "summary.csv")] == ["0", "1"]


def test_an_interrupt_where_no_job_is_at_work_is_no_traceback(monkeypatch, capsys):
    def interrupted():
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "_main", interrupted)
    monkeypatch.setattr(cli, "leave", sys.exit)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_sweep_into_the_folder_of_another_is_refused(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "summary.csv").write_text("kept")
    done = command(tmp_path, "-m", "framework=torchode", "seed=0,1", *QUIET, "hydra.sweep.dir=old")
    assert done.returncode == 2
    assert "already holds a sweep" in done.stderr
    assert not list(tmp_path.rglob("result.json"))
    assert (tmp_path / "old" / "summary.csv").read_text() == "kept"


def test_another_launcher_is_refused(tmp_path):
    done = command(tmp_path, "-m", "hydra/launcher=joblib", "framework=torchode", *QUIET)
    assert done.returncode == 2
    assert "hydra/launcher" in done.stderr


def test_a_sweep_may_be_asked_for_by_pattern(tmp_path):
    done = command(tmp_path, "-m", "framework=glob(torchd*)", *QUIET, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    assert [row["framework"] for row in table(tmp_path / "sweep" / "summary.csv")] == ["torchdiffeq", "torchdyn"]
