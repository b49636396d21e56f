"""The folder of a sweep stands for its runs: one command gives the band of all seeds."""

import json

import pytest
from test_evaluate import finished, settings

from pk_event_fit import evaluate, store
from pk_event_fit.evaluation import figures
from pk_event_fit.fields import Model

NETWORK = Model(hidden=[3])


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Three seeds, of which the second job has failed; the order of their names is not that of their numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "figures", lambda *_, **__: ({}, {}))
    folder = tmp_path / "sweep"
    folder.mkdir()
    store.write_json(folder / "plan.json", {})
    for seed, (name, status) in enumerate([("2", "completed"), ("9", "failed"), ("10", "completed")]):
        store.write_json(finished(folder / name, settings(NETWORK), seed) / "result.json", {"status": status})
    return folder


def test_a_sweep_is_the_ensemble_of_its_completed_runs(sweep, capsys):
    assert evaluate.main([str(sweep)]) == 0
    assert "left out   9: not completed" in capsys.readouterr().err
    named = [str(sweep / "2"), str(sweep / "10"), "--out", str(sweep.parent / "named")]
    assert evaluate.main(named) == 0
    found, expected = (json.loads((folder / "evaluation.json").read_text())
                       for folder in (sweep / "evaluation", sweep.parent / "named"))  # fmt: skip
    assert found["members"] == 2
    assert found["goodness"] == expected["goodness"]


def test_a_sweep_of_which_nothing_was_completed_is_refused(sweep, capsys):
    for job in ("2", "10"):
        store.write_json(sweep / job / "result.json", {"status": "failed"})
    assert evaluate.main([str(sweep)]) == 2
    assert "no run of this sweep was completed" in capsys.readouterr().err
    assert not (sweep / "evaluation").exists()


def test_a_run_is_evaluated_into_its_own_folder(sweep):
    assert evaluate.main([str(sweep / "2")]) == 0
    assert json.loads((sweep / "2" / "evaluation" / "evaluation.json").read_text())["members"] == 1


def test_of_a_cross_validation_the_fit_of_all_has_no_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "figures", lambda *_, **__: ({}, {}))
    folder = tmp_path / "sweep"
    folder.mkdir()
    store.write_json(folder / "plan.json", {})
    for name, fold in (("0", None), ("1", 0), ("2", 1)):
        own = settings(NETWORK, held_out=0, folds=2, fold=fold)
        store.write_json(finished(folder / name, own) / "result.json", {"status": "completed"})
    assert evaluate.main([str(folder)]) == 0
    found = json.loads((folder / "evaluation" / "evaluation.json").read_text())
    assert [one["fold"] for one in found["folds"]] == [0, 1]
