"""Cross-validation: every subject is judged by the fit that has not seen it, and the page says what was found."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_evaluate import finished, settings

from pk_event_fit import data, guide, load_model, store
from pk_event_fit.cli import _planned, _swept, compose
from pk_event_fit.errors import ConfigError
from pk_event_fit.evaluate import main as evaluate_words
from pk_event_fit.evaluation import cases, evaluate, figures, folds, planes, read_run
from pk_event_fit.export.__main__ import main as export_words
from pk_event_fit.fields import Model
from pk_event_fit.report import walkthrough

EXPERIMENT = "+experiment=michaelis_menten"
FOLDS = 3
NETWORK = Model(hidden=[3], normalise=True)


@pytest.fixture
def apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "figures", lambda *_, **__: ({}, {}))
    return tmp_path


def fold(folder, number, **changes):
    """A run that left out one part of five subjects, its weights those of its own seed."""
    own = settings(NETWORK, subjects=5, held_out=0, folds=FOLDS, fold=number, **changes)
    return finished(folder / f"{number}", own, seed=number)


def test_each_subject_is_predicted_by_the_run_that_left_it_out(apart):
    runs = [fold(apart, number) for number in (2, 0, 1)]
    found = evaluate(runs, out=apart / "together")
    whole = settings(NETWORK, subjects=5, held_out=0, folds=FOLDS).data
    cohort, squares = data.load(whole), []
    for run, told in zip(runs, found["folds"], strict=True):
        who = data.split(cohort, replace(whole, fold=int(run.name))).test
        errors = load_model(run / "weights.npz").predict_cohort(cohort)[who] - cohort.amounts[who]
        assert told["fold"] == int(run.name)
        assert told["subjects"] == [str(subject) for subject in who]
        assert told["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)
        squares.append(errors.ravel() ** 2)
    everything = found["goodness"]["test"]["values"]["all"]
    assert everything["n"] == cohort.amounts.size
    assert everything["rmse"] == pytest.approx(np.sqrt(np.mean(np.concatenate(squares))), rel=1e-9)
    assert everything["parameters"] == 1  # the standard deviation; weights were fitted to others


def test_who_was_left_out_by_no_run_is_not_judged(apart):
    found = evaluate([fold(apart, 0), fold(apart, 2)], out=apart / "together")
    whole = settings(NETWORK, subjects=5, held_out=0, folds=FOLDS).data
    cohort = data.load(whole)
    left_out = sum(len(data.split(cohort, replace(whole, fold=number)).test) for number in (0, 2))
    assert (found["parts"], list(found["goodness"])) == ({"test": left_out}, ["test"])
    assert found["goodness"]["test"]["values"]["all"]["n"] == left_out * cohort.amounts[0].size


def test_the_page_of_a_cross_validation_says_so(apart):
    evaluate([fold(apart, number) for number in range(FOLDS)], out=apart / "together")
    text = (apart / "together" / "summary.md").read_text()
    assert "3 of 3 folds" in text
    assert "that of the run that left it out" in text
    assert "median of" not in text
    assert "**Fold by fold**" in text


def test_runs_of_one_fold_are_an_ensemble_and_of_other_data_are_refused(apart):
    first, again = fold(apart, 1), finished(apart / "again", read_run(apart / "1").config, seed=5)
    assert not folds.are_folds([read_run(first), read_run(again)])
    assert evaluate([first, again], out=apart / "ensemble")["members"] == 2
    other = fold(apart, 2, cv=0.3)
    assert not folds.are_folds([read_run(first), read_run(other)])
    with pytest.raises(ConfigError, match="other data"):
        evaluate([first, other], out=apart / "none")


def test_figures_of_folds_show_each_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = {}
    monkeypatch.setattr(figures, "drawn", lambda job, caption: drawn.setdefault(caption, job()) and None)
    own = {"kinetics": "pk_1c", "dose_compartments": [1, 1, 1], "subjects": 4, "held_out": 0, "folds": 2}
    runs = [finished(tmp_path / str(k), settings(NETWORK, **own, fold=k), seed=k) for k in range(2)]
    evaluate(runs, out=tmp_path / "together")
    field = next(made for caption, made in drawn.items() if "learned field" in caption)
    lines = field.axes[0].get_lines()
    assert len(lines) == 1 + len(runs)  # the truth, and each of them
    assert not np.allclose(lines[1].get_ydata(), lines[2].get_ydata())
    residuals = next(made for caption, made in drawn.items() if caption.startswith("Residuals"))
    assert len(residuals.axes) == 2  # over time, and over time after the dose


@pytest.mark.parametrize("kinetics", ["pk_1c", "pk_2c"])
def test_the_field_is_drawn_over_what_is_known_where_a_fold_is_missing(kinetics, apart):
    own = {"kinetics": kinetics, "dose_compartments": [1, 1, 1], "subjects": 4, "held_out": 0, "folds": 4}
    parts = [read_run(finished(apart / str(k), settings(NETWORK, **own, fold=k), seed=k)) for k in (1, 3)]
    runs = [folds.sighted(one) for one in parts]
    case = cases.load(runs[0], runs[0].config.data)
    owner = folds.whose(parts, case)
    case = folds.unseen(case, owner)
    assert np.isnan(case.cohort.amounts).any()
    known = case.cohort.amounts[owner >= 0]
    for run in runs:
        found = planes.typical_plane(run, case)
        if isinstance(found, planes.Plane):
            assert found.visited.sum() == known[..., 0].size
            found = (found.x, found.y, found.true, found.learned)
        assert all(np.isfinite(leaf).all() for leaf in found)
        assert known[..., 0].max() <= found[0][-1] <= 1.06 * known[..., 0].max()


def test_no_field_is_drawn_where_nothing_is_known(apart):
    run = read_run(finished(apart / "0", settings(NETWORK, kinetics="pk_1c", dose_compartments=[1, 1, 1])))
    case = cases.load(run, run.config.data)
    blind = case.cohort._replace(amounts=np.full_like(case.cohort.amounts, np.nan))
    assert planes.draw([run], case, "") is not None
    assert planes.draw([run], case._replace(cohort=blind), "") is None


def test_residuals_of_subjects_without_doses_have_no_empty_panel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = {}
    monkeypatch.setattr(figures, "drawn", lambda job, caption: drawn.setdefault(caption, job()) and None)
    own = {"kinetics": "michaelis_menten", "initial": [3.0, 2.0], "subjects": 2, "held_out": 0}
    own |= {"dose_times": [], "dose_amounts": [], "dose_compartments": []}
    evaluate(finished(tmp_path / "0", settings(NETWORK, **own)), out=tmp_path / "out")
    residuals = next(made for caption, made in drawn.items() if caption.startswith("Residuals"))
    assert len(residuals.axes) == 1
    assert not any(word in caption for caption in drawn for word in ("dose", "bolus", "infusion"))
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| train, substrate |" in text
    assert "| train, all |" not in text  # of one compartment, the same row again


def test_the_experiment_sweeps_over_its_folds_and_begins_with_all():
    plan = list(_planned(_swept([EXPERIMENT])))
    assert [config.data.fold for config in plan] == [None, *range(7)]
    assert [config.data.fold for config in _planned(_swept([EXPERIMENT, "data.folds=3"]))] == [None, 0, 1, 2]
    assert [config.data.fold for config in _planned(_swept([EXPERIMENT, "data.fold=4"]))] == [4]
    assert compose([EXPERIMENT, "framework=diffrax"]).framework.name == "diffrax"


def test_the_experiment_is_the_guides():
    config = compose([EXPERIMENT])
    assert (config.data.augment, config.data.augment_sigma, config.data.augment_relative) == (10, 0.01, True)
    assert (config.model.hidden, config.model.activation) == ([16], "selu")
    assert [phase.iterations for phase in config.training.plan] == [1000, 2000, 3000]
    assert config.data.folds == config.data.subjects  # one left out at a time
    assert config.data.validation > 0
    assert config.training.validate_every is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study.cross_validate=true"], "data.folds"),
        ([EXPERIMENT, "study.probes=[speed]"], "study.probes"),
        ([EXPERIMENT, "data.fold=9"], "data.fold=9"),
        ([EXPERIMENT, "data.folds=1"], "data.folds=1"),
        (["data.fold=0"], "data.folds"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(words, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        list(_planned(_swept(words)))


@pytest.mark.parametrize("words", [["seed=0,1"], ["framework=fused,diffrax"], ["data.fold=0,1"], ["data.fold=null,1"]])
def test_a_page_is_of_one_cross_validation(words):
    plan = list(_planned(_swept(["-m", EXPERIMENT, *words])))
    with pytest.raises(ConfigError, match="cross_validat"):
        guide.check(plan)


def test_folds_without_a_fold_leave_nobody_out():
    config = settings(NETWORK, subjects=5, held_out=0, folds=FOLDS).data
    cohort = data.load(config)
    assert [len(part) for part in data.split(cohort, config)] == [5, 0]


SMALL = [
    "data.folds=3", "data.augment=1", "data.subjects=4", "data.initial=[300,200,100,50]", "data.points=6",
    "training.phases=[{iterations:2,length:0.5},{iterations:3,regularisation:{l2:0.01}}]", "training.validate_every=1",
    "model.hidden=[4]", "framework=torchode", "accelerator.threads=1",
]  # fmt: skip
HEADINGS = (
    "The data", "Noisy copies", "The network", "Training in phases", "How good the fit is",
    "What was learned, and the truth", "Subjects that the fit has not seen", "Saved and loaded",
)  # fmt: skip


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    command = [sys.executable, "-m", "pk_event_fit", EXPERIMENT, *SMALL, f"hydra.sweep.dir={folder / 'sweep'}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done, folder / "sweep"


def test_one_command_ends_with_a_page(walk):
    done, sweep = walk
    assert done.returncode == 0, done.stderr
    text = (sweep / "report.md").read_text()
    for heading in HEADINGS:
        assert f"\n## {heading}\n" in text
    assert "pk_event_fit +experiment=michaelis_menten data.folds=3" in text
    page = (sweep / "report.html").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures == [
        "figures/cohort.svg", "figures/copies.svg", "evaluation/figures/training.svg",
        *(f"{folder}/figures/{name}.svg" for folder in ("evaluation", "cross_validation")
          for name in ("goodness_of_fit", "individual_fits", "field")),
    ]  # fmt: skip
    assert all((sweep / name).is_file() for name in pictures)
    assert all((sweep / name).is_file() for name in re.findall(r"\w+/evaluation\.html", text))
    assert text.count("/evaluation.html") == 2
    assert page.count("<figure>") == len(pictures)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_says_what_the_files_say(walk):
    _, sweep = walk
    text = (sweep / "report.md").read_text()
    for name in ("0", "1", "2", "3"):
        result = json.loads((sweep / name / "result.json").read_text())
        assert f"{result['accuracy']['rmse']:.3g}" in text
    for name in ("1", "2", "3"):
        result = json.loads((sweep / name / "result.json").read_text())
        assert f"{result['accuracy']['held_out']['rmse']:.3g}" in text
        assert f"{result['accuracy']['validation']['rmse']:.3g}" in text
    unseen = json.loads((sweep / "cross_validation" / "evaluation.json").read_text())
    assert f"{unseen['goodness']['test']['values']['all']['rmse']:.3g} mmol/L" in text
    parts = [one["subjects"] for one in unseen["folds"]]
    assert sorted(label for part in parts for label in part) == ["0", "1", "2", "3"]


def numbers(content):
    """Every number in what JSON, YAML or NumPy hold."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [number for one in content for number in numbers(one)]
    return [float(content)] if isinstance(content, int | float) and np.isfinite(content) else []


def test_every_decimal_of_the_page_is_in_the_files(walk):
    _, sweep = walk
    known = [path.stat().st_size / 1024 for path in sweep.glob("model.*")]
    for path in (*sweep.glob("*/result.json"), *sweep.glob("*/evaluation.json")):
        known += numbers(json.loads(path.read_text()))
    known += numbers(yaml.safe_load((sweep / "0" / "config.yaml").read_text()))
    observed = store.read_npz(sweep / "0" / "predictions.npz")[0]["observed"]
    known += [observed.min(), np.median(observed), observed.max()]
    prose = re.sub(r"```.*?```", "", (sweep / "report.md").read_text(), flags=re.DOTALL)
    found = re.findall(r"(?<![\w.-])-?\d+\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+", prose)
    assert len(found) > 10
    for word in found:
        digits, _, power = word.partition("e")
        place = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
        assert min(abs(np.array(known) - float(word))) <= 0.5001 * place, word


@pytest.mark.parametrize("module", [guide, walkthrough])
def test_no_number_of_the_page_is_written_in_its_code(module):
    tree = ast.parse(Path(module.__file__).read_text())
    typed = [node for node in tree.body if getattr(node, "name", None) not in ("_saved", "_again")]  # lines to be typed
    nodes = [node for part in typed for node in ast.walk(part)]
    exempt = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    exempt |= {id(node.slice) for node in nodes if isinstance(node, ast.Subscript)}  # names
    formats = (node.format_spec for node in nodes if isinstance(node, ast.FormattedValue) and node.format_spec)
    exempt |= {id(one) for spec in formats for one in ast.walk(spec)}
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in exempt]
    assert len(texts) > 50
    assert [text for text in texts if re.search("[0-9]", text)] == []


def code_of(sweep, language):
    """Blocks of code on a page."""
    return re.findall(rf"```{language}\n(.*?)```", (sweep / "report.md").read_text(), re.DOTALL)


def test_the_code_on_the_page_runs_as_it_stands(walk, monkeypatch):
    _, sweep = walk
    monkeypatch.chdir(sweep)
    (code,) = code_of(sweep, "python")
    scope = {}
    exec(code, scope)  # noqa: S102
    run, curves = read_run(sweep / "0"), scope["curves"]
    assert curves.shape == (1, 3, 1)
    kept = store.read_npz(sweep / "0" / "predictions.npz")[0]["predicted"]
    assert curves[0, 0, 0] == run.config.data.initial[0]
    assert curves[0, -1, 0] == pytest.approx(kept[0, -1, -1, 0], rel=10 * run.config.solver.rtol)


def commands(lines):
    """Modules and words of command lines, as a shell takes them."""
    split = [words for line in lines if (words := shlex.split(line, comments=True))]
    assert all(words[:2] == ["python", "-m"] for words in split)
    return [(words[2], words[3:]) for words in split]


@pytest.mark.parametrize(
    "words",
    [
        [EXPERIMENT, *SMALL, "hydra.sweep.dir=elsewhere"],
        ["-m", "data=michaelis_menten", "+framework=fused", "data.folds=3", "data.fold=null,0,1,2"],
        [EXPERIMENT, "framework=torchode", "data.initial=[300, 200]", "data.folds=2", "data.subjects=2"],
    ],
)
def test_commands_of_the_page_mean_what_they_say(words):
    again, other, *_ = commands(walkthrough._again(words, "torchode"))
    own = [word for word in words if "hydra" not in word]
    assert again == ("pk_event_fit", own)
    plan, elsewhere = (list(_planned(_swept(line[1]))) for line in (again, other))
    assert {config.framework.name for config in elsewhere} == {"diffrax"}
    assert [config.data for config in plan] == [config.data for config in elsewhere]
    assert commands(walkthrough._again(words, "fused"))[1][1][-1] == "framework=torchode"


def test_commands_for_the_first_fit_do_what_they_say(walk, tmp_path, monkeypatch, capsys):
    _, sweep = walk
    folder = Path(shutil.copytree(sweep, tmp_path / "sweep"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(figures, "figures", lambda *_, **__: ({}, {}))
    (text,) = code_of(sweep, "bash")
    mains = {"pk_event_fit.evaluate": evaluate_words, "pk_event_fit.export": export_words}
    known = [(module, words) for module, words in commands(text.splitlines()) if module in mains]
    assert [mains[module](words) for module, words in known] == [0, 0]
    assert (folder / "elsewhere" / "evaluation.json").is_file()
    assert load_model(folder / "model.safetensors").size == 1


def test_the_page_counts_the_parts_that_are_there(walk, tmp_path, monkeypatch):
    _, sweep = walk
    assert "without each of 3 parts of the subjects" in (sweep / "report.md").read_text()
    assert "every subject is predicted by the fit that has not seen it" in (sweep / "report.md").read_text()
    words = [EXPERIMENT, *SMALL]
    folder = Path(shutil.copytree(sweep, tmp_path / "sweep"))
    monkeypatch.chdir(sweep.parent)
    (folder / "2" / "result.json").write_text(json.dumps({"status": "failed"}))
    monkeypatch.setattr(guide, "_evaluating", lambda runs, out: Done(evaluate(runs, out=out, overwrite=True)))
    assert guide.conclude(folder, list(_planned(_swept(words))), words) == 0
    text = (folder / "report.md").read_text()
    assert text.count("without 2 of 3 parts of the subjects, one at a time") == 2
    assert "One network is fitted 3 times" in text
    assert "every subject" not in text.lower()
    assert "1 more was asked for, and failed" in text
    assert re.search(r"\| part 1 \| – \| failed ", text)
    assert "2 of 3 folds" in (folder / "cross_validation" / "summary.md").read_text()


class Done:
    """A process that has ended well."""

    def __init__(self, _):
        self.kill = self.wait = lambda: 0


def test_the_saved_model_is_the_fit_of_all(walk):
    _, sweep = walk
    first = load_model(sweep / "0" / "weights.npz")
    for name in ("model.npz", "model.eqx"):
        again = load_model(sweep / name)
        assert again.field == first.field
        assert {k: v.tobytes() for k, v in again.params.items()} == {k: v.tobytes() for k, v in first.params.items()}
    kept = store.read_npz(sweep / "0" / "predictions.npz")[0]["predicted"]
    config = read_run(sweep / "0").config.data
    np.testing.assert_array_equal(load_model(sweep / "model.eqx").predict_cohort(data.load(config)), kept)
    assert "predicts of the subjects what the fit did, bit for bit" in (sweep / "report.md").read_text()


def test_without_the_fit_of_all_there_is_no_page_and_an_earlier_one_is_gone(tmp_path, capsys):
    plan = [config for config in _planned(_swept([EXPERIMENT, "data.folds=2"]))]
    (tmp_path / "report.html").write_text("of before")
    assert guide.conclude(tmp_path, plan, []) == 1
    assert not (tmp_path / "report.html").exists()
    assert "no page" in capsys.readouterr().err
