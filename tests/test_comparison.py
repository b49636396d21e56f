"""The sweep of a comparison: its words, its plan, and its end."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pk_event_fit import cli, comparison, study
from pk_event_fit import launch as jobs
from pk_event_fit.cli import _planned, _swept, compose
from pk_event_fit.config import FrameworkChoice, decided
from pk_event_fit.errors import CheckpointError, ConfigError

QUICK = "+experiment=framework_comparison_quick"


def test_the_experiment_writes_its_own_sweep():
    words = _swept([QUICK])
    assert words[0] == "--multirun"
    assert "framework=fused,diffrax,torchdiffeq,torchdyn,torchode" in words
    jobs = list(_planned(words))
    assert [job.framework.name for job in jobs] == ["fused", "diffrax", "torchdiffeq", "torchdyn", "torchode"]
    assert {job.seed for job in jobs} == {0}


def test_the_full_experiment_is_three_seeds_of_every_framework():
    jobs = list(_planned(_swept(["+experiment=framework_comparison"])))
    assert len(jobs) == 15
    assert {job.training.iterations for job in jobs} == {2000}
    # Fits to be compared are neighbours in time.
    assert [job.seed for job in jobs] == [0] * 5 + [1] * 5 + [2] * 5


def test_what_is_named_beats_what_the_experiment_sweeps():
    jobs = list(_planned(_swept([QUICK, "framework=torchode", "seed=3"])))
    assert [(job.framework.name, job.seed) for job in jobs] == [("torchode", 3)]
    assert [job.seed for job in _planned(_swept(["-m", QUICK, "+framework=diffrax", "seed=1,2"]))] == [1, 2]


@pytest.mark.parametrize("words", [["framework=diffrax"], ["experiment=smoke"], ["--cfg", "job", QUICK], []])
def test_other_words_stay_as_they_are(words):
    assert _swept(words) == words


def test_both_experiments_differ_in_size_alone():
    full, quick = compose(["experiment=framework_comparison"]), compose([QUICK])
    assert (full.data, full.solver, full.model, full.accelerator) == (
        quick.data,
        quick.solver,
        quick.model,
        quick.accelerator,
    )
    assert full.study.probes == quick.study.probes
    assert quick.study.compiled == ["torchode"]
    assert full.study.compiled == ["torchdiffeq", "torchdyn", "torchode"]


def plan():
    base = compose([QUICK, "study.compiled=[torchode]"])
    return [replace(base, framework=FrameworkChoice(name=name)) for name in ("diffrax", "torchode")]


def test_the_plan_names_every_job_that_will_run(tmp_path):
    comparison.write_plan(tmp_path, plan(), "framework_comparison_quick")
    told = json.loads((tmp_path / "plan.json").read_text())
    assert [job["folder"] for job in told["jobs"]] == ["0", "1", "torchode-compiled"]
    assert [job["compile"] for job in told["jobs"]] == [False, False, True]
    assert told["variants"] == ["diffrax", "torchode", "torchode-compiled"]
    assert told["experiment"] == "framework_comparison_quick"


def test_only_what_is_compared_plain_is_compared_compiled(tmp_path):
    comparison.write_plan(tmp_path, plan()[:1], None)
    assert json.loads((tmp_path / "plan.json").read_text())["variants"] == ["diffrax"]


def test_a_sweep_of_which_nothing_finished_says_so(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(comparison.study, "measure", lambda *arguments: asked.append(arguments))
    comparison.write_plan(tmp_path, plan(), "framework_comparison_quick")
    launched = []
    code = comparison.conclude(
        tmp_path, plan(), lambda config, folder, **_: launched.append(folder.name) or 1, interrupted=False
    )
    assert code == 1
    assert launched == ["torchode-compiled"]
    assert asked[0][3] is None  # no weights: the initial ones are measured with
    assert "no run finished" in capsys.readouterr().err


def test_an_interrupted_sweep_measures_nothing_more(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison.study, "measure", lambda *_: pytest.fail("measured"))
    comparison.write_plan(tmp_path, plan(), None)
    code = comparison.conclude(tmp_path, plan(), lambda *_, **__: pytest.fail("launched"), interrupted=True)
    assert code == 130


WORDS = [QUICK, "study.compiled=[torchode]", "study.frameworks=[diffrax,torchode]", "seed=0,1", "training.iterations=2"]


@pytest.fixture
def begun(tmp_path, monkeypatch):
    (tmp_path / "sweep").mkdir()
    return begin(tmp_path / "sweep", monkeypatch, WORDS)


def begin(tmp_path, monkeypatch, words):
    """A sweep's folder, what resuming it launches, and a function that resumes it; nothing is really run."""
    launched = []

    def launch(config, folder, *, group=None):
        launched.append((folder.name, config.resume is not None))
        folder.mkdir(exist_ok=True)
        result(folder, "completed")
        return 0

    monkeypatch.setattr(jobs, "launch", launch)
    monkeypatch.setattr(comparison.study, "measure", lambda *_: None)
    monkeypatch.setattr(comparison, "_track", lambda *_: None)
    plan = list(_planned(_swept(words)))
    comparison.write_plan(tmp_path, plan, "framework_comparison_quick", words)
    return tmp_path, launched, lambda: cli._resume([compose([f"resume={tmp_path}"])], [f"resume={tmp_path}"])


def result(folder, status, kind=None):
    """What a job leaves that came to an end."""
    folder.mkdir(exist_ok=True)
    error = {"type": kind, "message": "as told"} if kind else None
    (folder / "result.json").write_text(json.dumps({"status": status, "error": error}))


def test_a_sweep_goes_on_where_it_ended(begun):
    sweep, launched, go_on = begun
    result(sweep / "0", "completed")
    result(sweep / "1", "failed", "SolverFailure")  # it would fail again
    result(sweep / "2", "failed", "KeyboardInterrupt")
    go_on()
    assert launched == [("2", False), ("3", False), ("torchode-compiled", False)]


@pytest.mark.parametrize(("words", "resumed"), [(WORDS, False), ([*WORDS, "study.probes=[]"], True)])
def test_a_job_that_was_cut_off_goes_on_unless_its_times_are_compared(tmp_path, monkeypatch, words, resumed):
    sweep, launched, go_on = begin(tmp_path, monkeypatch, words)
    for number in (0, 1, 3):
        result(sweep / str(number), "completed")
    cut = sweep / "2"
    result(cut, "failed", "KeyboardInterrupt")
    comparison.store.write_text(cut / "config.yaml", stored(2, sweep, words))
    (cut / "checkpoint.npz").touch()
    (cut / "notes.txt").touch()
    assert go_on() in (0, 1)
    assert launched[0] == ("2", resumed)
    assert (cut / "checkpoint.npz").exists() == resumed
    assert (cut / "notes.txt").exists()


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "Ended", "OSError", "MemoryError"])
def test_what_may_end_otherwise_is_tried_again(tmp_path, kind):
    result(tmp_path, "failed", kind)
    assert not jobs.is_over(tmp_path)


def test_a_resumed_sweep_without_probes_has_a_table_of_all_jobs(tmp_path, monkeypatch):
    sweep, _, go_on = begin(tmp_path, monkeypatch, [*WORDS, "study.probes=[]"])
    result(sweep / "1", "completed")
    monkeypatch.setattr(jobs, "launch", lambda *_, **__: 130)
    assert go_on() == 130
    rows = (sweep / "summary.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows[1:]] == ["0", "1"]


def stored(number, sweep, words=WORDS):
    """The config that a job of the sweep writes down."""
    config = decided(list(_planned(_swept(words)))[number], sweep.name)
    return yaml.safe_dump(asdict(config), sort_keys=False)


def test_a_job_that_ended_before_its_first_checkpoint_begins_anew(begun):
    sweep, launched, go_on = begun
    comparison.store.write_text(sweep / "0" / "config.yaml", stored(0, sweep))
    result(sweep / "0", "failed", "Ended")
    go_on()
    assert launched[0] == ("0", False)
    assert not (sweep / "0" / "config.yaml").exists()  # it would be refused as another's


def test_a_job_of_other_settings_is_not_gone_on_with(begun):
    sweep, launched, go_on = begun
    comparison.store.write_text(sweep / "1" / "config.yaml", stored(1, sweep).replace("rtol: 1.0e-05", "rtol: 1.0e-04"))
    with pytest.raises(CheckpointError, match="1: its solver are not what"):
        go_on()
    assert launched == []


def test_a_plan_that_means_something_else_is_refused(begun):
    sweep, launched, go_on = begun
    told = json.loads((sweep / "plan.json").read_text())
    (sweep / "plan.json").write_text(json.dumps({**told, "jobs": told["jobs"][1:]}))
    with pytest.raises(CheckpointError, match="other jobs"):
        go_on()
    assert launched == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"words": 3}', '{"words": []}'])
def test_a_damaged_plan_is_refused(begun, content):
    sweep, _, go_on = begun
    (sweep / "plan.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"plan\.json"):
        go_on()


def test_a_sweep_goes_on_as_planned_alone(begun):
    sweep, launched, _ = begun
    with pytest.raises(ConfigError, match="nothing else"):
        cli._resume([compose([f"resume={sweep}"])], [f"resume={sweep}", "training.iterations=9"])
    assert launched == []


def test_an_interrupt_ends_a_resumed_sweep(begun, monkeypatch):
    _, launched, go_on = begun
    monkeypatch.setattr(jobs, "launch", lambda config, folder, **_: launched.append(folder.name) or 130)
    assert go_on() == 130
    assert launched == ["0"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (-15, -15), (130, 1)])
def test_a_job_that_is_interrupted_alone_has_failed(code, expected):
    """Else it would end the sweep that it is of."""
    job = SimpleNamespace(communicate=lambda _: None, returncode=code)
    assert jobs._wait(job, "") == expected


def test_a_second_interrupt_ends_a_job_at_once():
    told = []

    def interrupted(_):
        raise KeyboardInterrupt

    def wait():
        told.append("wait")
        if told.count("wait") == 1:
            raise KeyboardInterrupt

    job = SimpleNamespace(
        communicate=interrupted, wait=wait, terminate=lambda: told.append("terminate"), kill=lambda: told.append("kill")
    )
    assert jobs._wait(job, "") == 130
    assert told == ["terminate", "wait", "kill", "wait"]


def test_a_sweep_that_is_at_work_is_not_gone_on_with(begun):
    sweep, launched, go_on = begun
    (sweep / "3").mkdir()
    for busy in (sweep, sweep / "3"):
        with cli.store.locked(busy), pytest.raises(ConfigError, match="another process"):
            go_on()
    assert launched == []


def test_a_renamed_sweep_goes_on_in_its_old_group(begun, monkeypatch):
    sweep, _, _ = begun
    comparison.store.write_text(sweep / "0" / "config.yaml", stored(0, sweep))
    moved = sweep.rename(sweep.with_name("1e5"))
    groups = []
    monkeypatch.setattr(jobs, "launch", lambda config, folder, *, group: groups.append(group) or 1)
    cli._resume([compose([f"resume={moved}"])], [f"resume={moved}"])
    assert set(groups) == {sweep.name}


CONFIG = {"study": {"probes": ["speed", "stability"]}, "accelerator": {}}


def measured(tmp_path, monkeypatch, **contents):
    """Which probes run when those were written before: one by one, and in turns."""
    ran = []
    monkeypatch.setattr(study, "take_turns", lambda orders: ran.append([Path(o["out"]).stem for o in orders]))
    for name, content in contents.items():
        probe, _, variant = name.rpartition("_")
        path = tmp_path / "probes" / probe / f"{variant}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    variants = {"diffrax": ("diffrax", False), "torchode": ("torchode", False)}
    study.measure(tmp_path, CONFIG, variants, tmp_path / "0" / "weights.npz")
    return ran


DONE = {"status": "completed", "weights": "0"}
ALL = {name: DONE for name in ("_exact", "speed_diffrax", "speed_torchode", "stability_diffrax", "stability_torchode")}


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    assert measured(tmp_path, monkeypatch, **ALL) == []


@pytest.mark.parametrize("other", [{**DONE, "status": "failed"}, {**DONE, "weights": "1"}, {}, []])
def test_what_is_not_timed_is_measured_where_it_is_missing(tmp_path, monkeypatch, other):
    assert measured(tmp_path, monkeypatch, **ALL | {"stability_torchode": other}) == [["torchode"]]


@pytest.mark.parametrize("other", [{**DONE, "status": "failed"}, {**DONE, "weights": "1"}, {}, []])
def test_what_is_timed_is_measured_side_by_side_or_not_at_all(tmp_path, monkeypatch, other):
    assert measured(tmp_path, monkeypatch, **ALL | {"speed_torchode": other}) == [["diffrax", "torchode"]]
    assert not (tmp_path / "probes/speed/diffrax.json").exists()  # it would pass for new, were this to be cut off


def test_what_failed_in_the_solver_is_not_tried_again(tmp_path, monkeypatch):
    failed = {"status": "failed", "weights": "0", "error": {"type": "SolverFailure", "message": "no"}}
    assert measured(tmp_path, monkeypatch, **ALL | {"speed_torchode": failed}) == []


def test_a_new_exact_gradient_is_compared_with_anew(tmp_path, monkeypatch):
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "exact.npz").touch()
    asked = measured(tmp_path, monkeypatch, **ALL | {"_exact": {}})
    assert asked == [["exact"], ["diffrax", "torchode"]]
    assert not (tmp_path / "probes" / "exact.npz").exists()
