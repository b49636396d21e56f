"""The sweep of a comparison: its words, its plan, and its end."""

import json
from dataclasses import replace

import pytest

from pk_event_fit import comparison
from pk_event_fit.cli import _planned, _swept, compose
from pk_event_fit.config import FrameworkChoice

QUICK = "+experiment=framework_comparison_quick"


def test_the_experiment_writes_its_own_sweep():
    words = _swept([QUICK])
    assert words[0] == "--multirun"
    assert "framework=diffrax,torchdiffeq,torchdyn,torchode" in words
    jobs = list(_planned(words))
    assert [job.framework.name for job in jobs] == ["diffrax", "torchdiffeq", "torchdyn", "torchode"]
    assert {job.seed for job in jobs} == {0}


def test_the_full_experiment_is_three_seeds_of_every_framework():
    jobs = list(_planned(_swept(["+experiment=framework_comparison"])))
    assert len(jobs) == 12
    assert {job.training.iterations for job in jobs} == {2000}
    # Fits to be compared are neighbours in time.
    assert [job.seed for job in jobs] == [0] * 4 + [1] * 4 + [2] * 4


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
    assert full.study.compiled == quick.study.compiled


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
