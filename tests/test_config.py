"""Words and files of settings: what composes, what is refused, and that a refusal names the key and the choices."""

import importlib
import sys
from dataclasses import asdict
from importlib.metadata import EntryPoint

import hydra
import pytest
from omegaconf import OmegaConf

from pk_event_fit import cli, frameworks
from pk_event_fit.cli import compose, typed
from pk_event_fit.config import Config, from_dict
from pk_event_fit.errors import ConfigError
from pk_event_fit.frameworks.base import Framework

NEEDS = {
    "data=file": ["data.path=cohort.npz"],
    "data=nonmem": ["data.path=mine.csv"],
    "data=croissant": ["data.path=mine.zip"],
}
OPTIONS = sorted(f"{path.parent.relative_to(cli.CONF).as_posix()}={path.stem}" for path in cli.CONF.glob("*/**/*.yaml"))
NAMES = sorted(path.stem for path in (cli.CONF / "framework").glob("*.yaml"))

# Each form that users type, as the words of its jobs, and what the job must then hold.
FORMS = {
    "+framework=diffrax": (["+framework=diffrax"], ("diffrax", 0, 1e-5, 2000)),
    "one with overrides": (
        ["framework=torchode", "seed=3", "solver.rtol=1e-6", "training.iterations=500"],
        ("torchode", 3, 1e-6, 500),
    ),
    "a job of -m framework=... seed=...": (["framework=torchdyn", "seed=2"], ("torchdyn", 2, 1e-5, 2000)),
    "a job of -m +framework=...": (["+framework=torchode"], ("torchode", 0, 1e-5, 2000)),
    "no words": ([], (None, 0, 1e-5, 2000)),
}

# Words, then what the one line of the refusal must say.
BAD_WORDS = {
    "unknown key": (["solver.tolerance=1"], ["solver.tolerance", "rtol", "max_steps"]),
    "unknown key at the top": (["sed=1"], ["sed", "seed", "training"]),
    "unknown key by +": (["+solver.tolerance=1"], ["solver.tolerance", "rtol"]),
    "unknown key at the top by +": (["+sed=1"], ["sed", "seed", "training"]),
    "unknown key in a value": (["data={sed:1}"], ["data.sed", "seed", "noise_sd"]),
    "unknown key of Hydra": (["hydra.rundir=x"], ["hydra.rundir", "run", "sweep"]),
    "text for a number": (["solver.rtol=small"], ["solver.rtol", "small"]),
    "fraction for a whole number": (["training.iterations=1.5"], ["training.iterations", "1.5"]),
    "truth value for a number": (["seed=true"], ["seed"]),
    "number for a list": (["model.hidden=4"], ["model.hidden"]),
    "text in a list": (["model.hidden=[4,wide]"], ["model.hidden[1]", "wide"]),
    "mapping in a list": (["data.dose_times=[{at:12},24,36]"], ["data.dose_times"]),
    "mark of a missing value": (["seed=???"], ["seed"]),
    "null": (["training.iterations=null"], ["training.iterations"]),
    "nothing": (["training.iterations="], ["training.iterations"]),
    "rtol of 0": (["solver.rtol=0"], ["solver.rtol"]),
    "rtol of nan": (["solver.rtol=nan"], ["solver.rtol"]),
    "atol below 0": (["solver.atol=-1"], ["solver.atol"]),
    "no steps": (["solver.max_steps=0"], ["solver.max_steps"]),
    "no iterations": (["training.iterations=0"], ["training.iterations"]),
    "learning rate without end": (["training.learning_rate=inf"], ["training.learning_rate"]),
    "no clipping left": (["training.clip_norm=0"], ["training.clip_norm"]),
    "no batch": (["training.batch_size=0"], ["training.batch_size"]),
    "no checkpoints": (["training.checkpoint_every=0"], ["training.checkpoint_every"]),
    "seed below 0": (["seed=-1"], ["seed"]),
    "no threads": (["accelerator.threads=0"], ["accelerator.threads"]),
    "no subjects": (["data.subjects=0"], ["data.subjects"]),
    "one point": (["data.points=1"], ["data.points"]),
    "variation below 0": (["data.cv=-0.1"], ["data.cv"]),
    "noise below 0": (["data.noise_sd=-1"], ["data.noise_sd"]),
    "data seed below 0": (["data.seed=-1"], ["data.seed"]),
    "doses of two lengths": (["data.dose_times=[12]"], ["data.dose_times"]),
    "correlation above 1": (["data.correlation=[[1,2,0,0],[2,1,0,0],[0,0,1,0],[0,0,0,1]]"], ["data.correlation"]),
    "no hidden layer": (["model.hidden=[]"], ["model.hidden"]),
    "layer of no width": (["model.hidden=[0]"], ["model.hidden"]),
    "scale below 0": (["model.initial_scale=-1"], ["model.initial_scale"]),
    "file without a path": (["data=file"], ["data.path"]),
    "name of a framework": (["framework=difrax"], ["framework", "difrax", *NAMES]),
    "name of a framework by +": (["+framework=difrax"], ["framework", "difrax", *NAMES]),
    "name of a framework by key": (["framework.name=difrax"], ["framework", "difrax", *NAMES]),
    "name of a solver": (["solver=euler"], ["solver", "euler", "dopri5", "tsit5"]),
    "name of a method": (["solver.method=euler"], ["solver.method", "euler", "dopri5", "tsit5"]),
    "name of a gradient": (["solver.gradient=forward"], ["solver.gradient", "direct", "adjoint"]),
    "name of data": (["data=pk_3c"], ["data", "pk_3c", "pk_2c", "pk_2c_typical", "file"]),
    "name of a source": (["data.source=web"], ["data.source", "web", "simulated", "file"]),
    "name of an activation": (["model.activation=gelu"], ["model.activation", "gelu", "relu", "softplus"]),
    "name of a precision": (["accelerator.precision=half"], ["accelerator.precision", "half", "float32", "float64"]),
    "name of a device": (["accelerator.device=tpu"], ["accelerator.device", "tpu", "cpu", "gpu"]),
    "name of tracking": (["tracking=always"], ["tracking", "always", "offline", "online", "disabled"]),
    "name of a tracking mode": (["tracking.mode=always"], ["tracking.mode", "always", "offline", "online", "disabled"]),
    "name of an experiment": (["experiment=huge"], ["experiment", "huge", "smoke", "typical"]),
    "null for a group": (["framework=null"], ["framework"]),
    "number for a group": (["solver=5"], ["solver"]),
    "two frameworks without -m": (["framework=[diffrax,torchode]"], ["framework"]),
    "value without a key": (["=3"], ["=3"]),
    "key without a value": (["seed"], ["seed"]),
    "list of a sweep without -m": (["seed=0,1"], ["seed", "multirun"]),
    "_target_": (["+_target_=os.system"], ["_target_"]),
    "_target_ in a part": (["+solver._target_=os.system"], ["solver._target_"]),
    "_target_ in a value": (["model={_target_:os.system}"], ["model._target_"]),
    "_target_ in a list": (["data.dose_times=[{_target_:os.system},24,36]"], ["data.dose_times", "_target_"]),
    "environment": (["tracking.project=${oc.env:HOME}"], ["tracking.project"]),
    "environment in quotes": (["tracking.group='${oc.env:HOME}'"], ["tracking.group"]),
    "environment in a list": (["model.hidden=[${oc.env:HOME}]"], ["model.hidden"]),
    "environment by a name that is itself looked up": (
        ["tracking.group=env", "tracking.project='${oc.${tracking.group}:HOME}'"],
        ["tracking.project"],
    ),
    "reference to nothing": (["tracking.project=${nowhere}"], ["tracking.project", "nowhere"]),
    "reference to itself": (["seed=${seed}"], ["seed"]),
}

BAD_FILES = {
    "unknown key": ("solver: {tolerance: 1}", ["solver.tolerance", "rtol"]),
    "unknown part": ("solvers: {rtol: 1}", ["solvers", "solver"]),
    "text for a number": ("seed: first", ["seed", "first"]),
    "number for a part": ("solver: 3", ["solver"]),
    "mark of a missing value": ("seed: ???", ["seed"]),
    "null for a number": ("training: {iterations: null}", ["training.iterations"]),
    "mapping in a list": ("data: {dose_times: [{at: 12}, 24, 36]}", ["data.dose_times"]),
    "out of range": ("solver: {rtol: 2}", ["solver.rtol"]),
    "wrong name": ("framework: {name: difrax}", ["framework", *NAMES]),
    "_target_": ("_target_: os.system", ["_target_"]),
    "_target_ in a part": ("model: {_target_: os.system, hidden: [4]}", ["model._target_"]),
    "_target_ by an alias": ("model: &a {_target_: os.system}\nsolver: *a", ["_target_"]),
    "_target_ by a merge": ("training: {<<: {_target_: os.system}}", ["training._target_"]),
    "_target_ in a list": ("data: {correlation: [{_target_: os.system}]}", ["data.correlation"]),
    "part by reference": ("solver: ${model}\nmodel: {_target_: os.system}", ["solver"]),
    "environment": ("tracking: {project: '${oc.env:HOME}'}", ["tracking.project"]),
    "environment in a text": ("tracking: {project: 'from ${oc.env:HOME}'}", ["tracking.project"]),
    "environment in a list of lists": ("data: {correlation: [['${oc.env:HOME}']]}", ["data.correlation"]),
    "environment by a looked-up variable": (
        "tracking: {project: '${oc.env:${tracking.group}}', group: HOME}",
        ["tracking.project"],
    ),
    "environment by a looked-up resolver": (
        "tracking: {project: '${oc.${tracking.group}:HOME}', group: env}",
        ["tracking.project"],
    ),
}


def refusal(action, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        action(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option):
    assert isinstance(compose([option, *NEEDS.get(option, [])]), Config)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith("experiment=")])
def test_an_experiment_composes_with_a_plus_too(option):
    assert compose([f"+{option}"]) == compose([option])


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_a_framework_names_that_framework(name):
    assert compose([f"framework={name}"]).framework.name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_framework_with_and_without_a_plus_is_the_same_config(name):
    assert compose([f"+framework={name}"]) == compose([f"framework={name}"])


def test_every_framework_of_the_package_has_a_file():
    assert frameworks.available() == NAMES


def test_words_beat_an_experiment():
    assert compose(["experiment=smoke", "training.iterations=7"]).training.iterations == 7


@pytest.mark.parametrize("form", FORMS)
def test_each_command_form_composes(form):
    words, (name, seed, rtol, iterations) = FORMS[form]
    config = compose(words)
    found = (config.framework.name, config.seed, config.solver.rtol, config.training.iterations)
    assert found == (name, seed, rtol, iterations)


@pytest.mark.parametrize("form", FORMS)
def test_each_command_form_composes_through_hydra(form):
    words, _ = FORMS[form]
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        composed = hydra.compose("config", words)
    assert typed(composed) == compose(words)


@pytest.mark.parametrize("case", BAD_WORDS)
def test_a_bad_word_is_refused_in_one_line_that_names_it(case):
    words, told = BAD_WORDS[case]
    message = refusal(compose, words)
    assert "\n" not in message
    assert [part for part in told if part not in message] == []


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_that_names_the_key(case):
    text, told = BAD_FILES[case]
    message = refusal(typed, OmegaConf.create(text))
    assert "\n" not in message
    assert [part for part in told if part not in message] == []


def test_a_refusal_does_not_repeat_a_secret(monkeypatch):
    monkeypatch.setenv("PK_SECRET", "do-not-tell")
    assert "do-not-tell" not in refusal(compose, ["seed=${oc.env:PK_SECRET}"])


def test_a_word_may_refer_to_another_setting():
    assert compose(["training.iterations=${seed}", "seed=7"]).training.iterations == 7


def test_a_file_may_refer_to_another_setting():
    config = typed(OmegaConf.create("model: {hidden: ['${seed}', '${training.iterations}']}\nseed: 3"))
    assert config.model.hidden == [3, 2000]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["framework=torchode", "seed=3", "accelerator.threads=1", "training.clip_norm=2", "training.batch_size=5"],
        ["data.correlation=[[1,0.5,0,0],[0.5,1,0,0],[0,0,1,0],[0,0,0,1]]", "model.hidden=[8,8,8]"],
        ["data=file", "data.path=a.npz", "tracking=online", "tracking.group=g", "resume=here"],
    ],
)
def test_a_config_survives_being_a_dictionary(words):
    config = compose(words)
    assert from_dict(asdict(config)) == config


@pytest.mark.parametrize(
    "change", [{"bogus": 1}, {"solver": {"bogus": 1}}, {"solver": {"rtol": 2.0}}, {"seed": -1}, {"model": 3}]
)
def test_a_dictionary_is_checked_again(change):
    refusal(from_dict, {**asdict(Config()), **change})


class Plugin(Framework):
    name = "plugged"


@pytest.fixture
def plugin(monkeypatch):
    entry = EntryPoint(name="plugged", value=f"{__name__}:Plugin", group=frameworks.GROUP)

    def installed(*, group, name=entry.name):
        return [entry] if (group, name) == (entry.group, entry.name) else []

    monkeypatch.setattr(frameworks, "entry_points", installed)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_available_beside_the_own_frameworks():
    assert frameworks.available() == sorted([*NAMES, "plugged"])


@pytest.mark.usefixtures("plugin")
def test_a_plugin_loads():
    assert frameworks.load("plugged") is Plugin


@pytest.mark.usefixtures("plugin")
def test_a_plugin_can_be_chosen():
    assert compose(["framework.name=plugged"]).framework.name == "plugged"


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_named_among_the_choices():
    assert "plugged" in refusal(compose, ["framework.name=bogus"])


@pytest.mark.parametrize(("name", "extra"), [("torchdiffeq", "torch"), ("torchode", "torch"), ("torchdyn", "torchdyn")])
def test_a_missing_library_is_told_with_the_extra_that_brings_it(monkeypatch, name, extra):
    for module in [name, *(key for key in sys.modules if key.startswith(f"{name}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"pk_event_fit.frameworks.{name}", raising=False)
    message = refusal(frameworks.load, name)
    assert [part for part in (f"framework={name}", f"pk-event-fit[{extra}]") if part not in message] == []


def test_a_framework_that_does_not_exist_is_not_loaded():
    assert "diffrax, fused, torchdiffeq, torchdyn, torchode" in refusal(frameworks.load, "os")


def test_looking_for_frameworks_imports_none_of_them(monkeypatch):
    asked = []
    monkeypatch.setattr(importlib, "import_module", lambda name, *rest: asked.append(name))
    frameworks.available()
    assert asked == []
