"""Checkpoints and weights: what was written comes back to the bit, and nothing else is taken for it."""

import json

import numpy as np
import pytest

from pk_event_fit import frameworks, store, training
from pk_event_fit.checkpoint import HISTORY, read_checkpoint, read_weights, write_checkpoint, write_weights
from pk_event_fit.data import Data, load
from pk_event_fit.errors import CheckpointError
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.training import Training

MODEL = Mlp(hidden=[4], activation="tanh")
SHAPES = MODEL.shapes(2)
PARAMS = MODEL.initial_params(2, seed=3)
NAMES = ("diffrax", "torchode")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return load(Data(subjects=3, points=5, path=str(tmp_path_factory.mktemp("data") / "cohort.npz")))


def create(name):
    return frameworks.load(name).create(Solver(), precision="float32")


def go_on(framework, cohort, state, rows, **settings):
    """The state and the history after each further iteration, by its number."""
    stops = {state.iteration: (state, list(rows))}
    for progress in training.fit(framework, MODEL, cohort, Training(iterations=4, **settings), state, seed=0):
        values = (progress.iteration, progress.loss, progress.gradient_norm, 0.0)
        rows = [*rows, dict(zip(HISTORY, values, strict=True))]
        stops[progress.iteration] = (progress.state, rows)
    return stops


def fit(framework, cohort, **settings):
    return go_on(framework, cohort, training.start(framework, PARAMS), [], **settings)


@pytest.fixture(scope="module")
def fits(cohort):
    """By name: a framework, and an uninterrupted fit of four iterations."""
    return {name: (framework, fit(framework, cohort)) for name in NAMES for framework in [create(name)]}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.npz"


def flat(framework, state):
    """All of a state that is arrays, NumPy, by name."""
    groups = {
        "params": state.params,
        "mean": state.moments.mean,
        "square": state.moments.square,
        "best": state.best_params,
        "": {"count": state.moments.count},
    }
    return {
        (group, name): np.asarray(framework.arrays.to_numpy(value))
        for group, values in groups.items()
        for name, value in values.items()
    }


def assert_same_bits(framework, one, other):
    assert (one.iteration, one.best_iteration, one.best_loss) == (
        other.iteration,
        other.best_iteration,
        other.best_loss,
    )
    found, wanted = flat(framework, one), flat(framework, other)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert (name, found[name].dtype, found[name].tobytes()) == (name, wanted[name].dtype, wanted[name].tobytes())


def rewrite(path, **changes):
    """Change a file's note and leave its arrays and their digest."""
    with np.load(path) as archive:
        content = dict(archive)
    content["about"] = np.array(json.dumps({**json.loads(str(content["about"])), **changes}))
    np.savez(path, **content)


def resign(path, arrays=None, drop=(), **changes):
    """Change a file and write it as the package would, digest and all."""
    content, note = store.read_npz(path)
    note.pop("digest")
    content = {name: value for name, value in {**content, **(arrays or {})}.items() if name not in drop}
    store.write_npz(path, content, {**note, **changes})


@pytest.mark.parametrize("iteration", [0, 2, 4])
def test_a_checkpoint_comes_back_to_the_bit(fits, name, iteration, path):
    framework, stops = fits[name]
    state, rows = stops[iteration]
    write_checkpoint(path, framework, state, rows, "data")
    found, history = read_checkpoint(path, framework, SHAPES, "data")
    assert_same_bits(framework, found, state)
    assert history == rows


def test_the_same_state_gives_the_same_bytes(fits, name, tmp_path):
    framework, stops = fits[name]
    for file in ("a.npz", "b.npz"):
        write_checkpoint(tmp_path / file, framework, *stops[2], "data")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_fit_that_stops_and_goes_on_is_the_uninterrupted_one_to_the_bit(fits, name, cohort, path):
    framework, stops = fits[name]
    write_checkpoint(path, framework, *stops[2], "data")
    state, rows = go_on(framework, cohort, *read_checkpoint(path, framework, SHAPES, "data"))[4]
    assert_same_bits(framework, state, stops[4][0])
    assert rows == stops[4][1]


def test_a_fit_by_batches_goes_on_to_the_bit(cohort, path):
    framework = create("torchode")
    stops = fit(framework, cohort, batch_size=2)
    write_checkpoint(path, framework, *stops[2], "data")
    resumed = go_on(framework, cohort, *read_checkpoint(path, framework, SHAPES, "data"), batch_size=2)
    assert_same_bits(framework, resumed[4][0], stops[4][0])


@pytest.mark.parametrize(("writer", "reader"), [NAMES, NAMES[::-1]])
def test_a_checkpoint_of_one_framework_is_read_by_another(fits, writer, reader, path):
    (writer, stops), (reader, _) = fits[writer], fits[reader]
    write_checkpoint(path, writer, *stops[2], "data")
    one, other = flat(writer, stops[2][0]), flat(reader, read_checkpoint(path, reader, SHAPES, "data")[0])
    assert one.keys() == other.keys()
    for each in one:
        np.testing.assert_array_equal(other[each], one[each])


def test_another_framework_goes_on_where_the_first_one_stopped(fits, cohort, path):
    (diffrax, stops), (torchode, _) = fits["diffrax"], fits["torchode"]
    write_checkpoint(path, diffrax, *stops[2], "data")
    _, rows = go_on(torchode, cohort, *read_checkpoint(path, torchode, SHAPES, "data"))[4]
    # Losses are squares of amounts that each framework gets right to ten times rtol = 1e-5 in each of four intervals.
    own = [row["loss"] for row in stops[4][1]]
    np.testing.assert_allclose([row["loss"] for row in rows], own, rtol=2 * 2 * 4 * 10 * 1e-5)


@pytest.fixture
def written(path):
    framework = create("torchode")
    write_checkpoint(path, framework, training.start(framework, PARAMS), [], "data")
    return framework


def test_a_missing_checkpoint_is_refused(tmp_path, written):
    with pytest.raises(CheckpointError, match=r"none\.npz"):
        read_checkpoint(tmp_path / "none.npz", written, SHAPES, "data")


def test_a_truncated_checkpoint_is_refused(path, written):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz"):
        read_checkpoint(path, written, SHAPES, "data")


def test_a_checkpoint_with_a_changed_array_is_refused(path, written):
    with np.load(path) as archive:
        content = dict(archive)
    content["params.bias_0"][0] = 1e-3
    np.savez(path, **content)
    with pytest.raises(CheckpointError, match="digest"):
        read_checkpoint(path, written, SHAPES, "data")


def test_a_checkpoint_with_a_changed_iteration_is_refused(path, written):
    rewrite(path, iteration=7)
    with pytest.raises(CheckpointError):
        read_checkpoint(path, written, SHAPES, "data")


def test_a_checkpoint_without_a_digest_is_refused(path, written):
    arrays, note = store.read_npz(path)
    note.pop("digest")
    np.savez(path, **arrays, about=np.array(json.dumps(note)))
    with pytest.raises(CheckpointError, match="is no file of"):
        read_checkpoint(path, written, SHAPES, "data")


def test_a_checkpoint_of_other_data_is_refused(path, written):
    with pytest.raises(CheckpointError, match="other data"):
        read_checkpoint(path, written, SHAPES, "other")


@pytest.mark.parametrize("other", [Mlp(hidden=[5]), Mlp(hidden=[4, 4])], ids=["wider", "deeper"])
def test_a_checkpoint_of_another_model_is_refused(path, written, other):
    with pytest.raises(CheckpointError, match="parameter"):
        read_checkpoint(path, written, other.shapes(2), "data")


@pytest.mark.parametrize("group", ["params", "mean", "square", "best"])
@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((4, 1)), np.zeros(4, int)], ids=["long", "2-d", "int"])
def test_a_checkpoint_with_an_array_of_another_shape_or_type_is_refused(path, written, group, array):
    resign(path, {f"{group}.bias_0": array})
    with pytest.raises(CheckpointError, match="parameter"):
        read_checkpoint(path, written, SHAPES, "data")


@pytest.mark.parametrize("name", ["params.bias_0", "best.weight_1", "best_loss", "history.loss"])
def test_a_checkpoint_that_lacks_an_array_is_refused(path, written, name):
    resign(path, drop=[name])
    with pytest.raises(CheckpointError):
        read_checkpoint(path, written, SHAPES, "data")


@pytest.mark.parametrize(
    ("arrays", "note"),
    [
        ({"history.loss": np.zeros(3)}, {}),
        ({"history.loss": np.float64(0)}, {}),
        ({"best_loss": np.zeros(2)}, {}),
        ({}, {"iteration": "two"}),
        ({}, {"iteration": None}),
    ],
    ids=["longer history", "history without length", "two losses", "iteration in words", "no iteration"],
)
def test_a_checkpoint_that_makes_no_sense_is_refused(path, written, arrays, note):
    resign(path, arrays, **note)
    with pytest.raises(CheckpointError):
        read_checkpoint(path, written, SHAPES, "data")


def test_weights_are_not_taken_for_a_checkpoint(path, written):
    write_weights(path, MODEL, PARAMS, {"data_digest": "data"})
    with pytest.raises(CheckpointError, match="is no file of pk_event_fit checkpoint"):
        read_checkpoint(path, written, SHAPES, "data")


def test_weights_come_back_to_the_bit(path):
    write_weights(path, MODEL, PARAMS, {})
    _, found = read_weights(path)
    assert {name: value.tobytes() for name, value in found.items()} == {k: v.tobytes() for k, v in PARAMS.items()}


def test_weights_come_back_with_their_model(path):
    model = Mlp(hidden=[4, 3], activation="selu", initial_scale=0.5)
    write_weights(path, model, model.initial_params(2, 0), {"framework": "diffrax"})
    assert read_weights(path)[0] == model


@pytest.mark.parametrize("compartments", [1, 3])
def test_weights_of_other_numbers_of_compartments_come_back(path, compartments):
    write_weights(path, MODEL, MODEL.initial_params(compartments, 0), {})
    assert read_weights(path)[1]["bias_1"].shape == (compartments,)


def test_a_checkpoint_is_not_taken_for_weights(path, written):
    with pytest.raises(CheckpointError, match="is no file of pk_event_fit weights"):
        read_weights(path)


def test_any_other_npz_is_not_taken_for_weights(path):
    np.savez(path, **PARAMS)
    with pytest.raises(CheckpointError, match="is no file of"):
        read_weights(path)


def test_truncated_weights_are_refused(path):
    write_weights(path, MODEL, PARAMS, {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError):
        read_weights(path)


def test_weights_with_a_changed_array_are_refused(path):
    write_weights(path, MODEL, PARAMS, {})
    with np.load(path) as archive:
        content = dict(archive)
    content["weight_0"][0, 0] += 1e-9
    np.savez(path, **content)
    with pytest.raises(CheckpointError, match="digest"):
        read_weights(path)


def test_weights_with_a_changed_activation_are_refused(path):
    """Another activation fits the same arrays, and makes another field of them."""
    write_weights(path, MODEL, PARAMS, {})
    rewrite(path, model={"hidden": [4], "activation": "relu", "initial_scale": 0.1})
    with pytest.raises(CheckpointError):
        read_weights(path)


@pytest.mark.parametrize(
    "model",
    [None, 3, {}, {"hidden": [5]}, {"hidden": [4, 4]}, {"hidden": 4}, {"hidden": [4], "activation": "sin"}, {"x": 1}],
    ids=str,
)
def test_weights_of_an_unusable_model_are_refused(path, model):
    write_weights(path, MODEL, PARAMS, {})
    resign(path, model=model)
    with pytest.raises(CheckpointError):
        read_weights(path)


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize(
    "array", [np.zeros(9), np.float64(0), np.zeros(SHAPES["bias_1"], int)], ids=["1-d", "0-d", "int"]
)
def test_weights_of_another_shape_or_type_are_refused(path, name, array):
    write_weights(path, MODEL, PARAMS, {})
    resign(path, {name: array})
    with pytest.raises(CheckpointError):
        read_weights(path)


def test_a_failing_write_keeps_the_checkpoint_before(path, written, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, written, training.start(written, PARAMS), [], "other")
    assert [(each, each.read_bytes()) for each in path.parent.iterdir()] == [(path, before)]
