"""One file a model, in three formats: the same bits back whatever the field, and nothing else in their place."""

import itertools
import json
import struct
import sys
from io import BytesIO

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pk_event_fit
from pk_event_fit import SavedModel, formats, load_model, save_model, store
from pk_event_fit.arrays.jax import JaxArrays
from pk_event_fit.arrays.numpy import NumpyArrays
from pk_event_fit.arrays.torch import TorchArrays
from pk_event_fit.cli import compose
from pk_event_fit.compartments import TYPICAL, lookup
from pk_event_fit.croissant import __main__ as croissant
from pk_event_fit.data import Data, load, settled, units_of
from pk_event_fit.dosing import Dose
from pk_event_fit.errors import CheckpointError, ConfigError
from pk_event_fit.export import __main__ as command
from pk_event_fit.export import equinox as to_equinox
from pk_event_fit.export import torch as to_torch
from pk_event_fit.fields import Hybrid, MassBalanced, Mlp, Normalised, Scales, described, inside, measured
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.job import run

NETWORK = Mlp(hidden=[3], activation="tanh", initial_scale=1.0)
SCALES = Scales(amount=(120.0, 0.1), rate=(9.0, 1 / 3), centre=(70.0, -0.0), spread=(12.0, 1 / 7))
BARE = SCALES._replace(centre=(), spread=())
SEEN = {"network": NETWORK, "scales": SCALES, "covariates": ("WT", 'é "x"')}
PK = {"kinetics": "pk_2c", "parameters": TYPICAL}
AMOUNTS = {
    "mlp": NETWORK,
    "mlp, deep": Mlp(hidden=[2] * 11, activation="rbf"),  # more layers than sort as numbers
    "mlp, scaled": Normalised(network=NETWORK, scales=BARE),
    "covariate": Normalised(**SEEN),
    "mass_balanced": MassBalanced(**SEEN),
    "hybrid": Hybrid(network=NETWORK, scales=BARE, **PK),
    "hybrid, learned": Hybrid(learned=("clearance", "peripheral_volume"), **SEEN, **PK),
}
FIELDS = AMOUNTS | {f"{name}, volume": measured(field, volume=10.1) for name, field in AMOUNTS.items()}
KINDS = {"float32": np.uint32, "float64": np.uint64}
ABOUT = {
    "compartments": ["central", "ü"],
    "units": {"time": "h", "covariates": {"WT": "kg"}},
    "iteration": 7,
    "x": None,
}
SUFFIXES = pytest.mark.parametrize("suffix", formats.SUFFIXES)
MANY = pytest.mark.parametrize("name", FIELDS)


def bits(field, precision, seed):
    """Finite parameters of any bit pattern: every exponent, denormals, both zeros."""
    random, kind = np.random.default_rng(seed), KINDS[precision]
    special = np.array([0.0, -0.0, 1.0], precision)
    edges = np.finfo(precision)
    special = np.append(special, [edges.smallest_subnormal, -edges.tiny, edges.max, -edges.max]).astype(precision)
    params = {}
    for name, shape in field.shapes(2).items():
        drawn = random.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True).view(precision)
        other = random.choice(special, shape)
        params[name] = np.where(np.isfinite(drawn) & (random.random(shape) < 0.7), drawn, other)
    return params


def usual(field, precision="float64", seed=0):
    """Parameters as a fit might leave them, all other than 0."""
    random = np.random.default_rng(seed)
    start = field.initial_params(2, seed)
    return {
        name: (value + 0.3 * random.standard_normal(value.shape)).astype(precision) for name, value in start.items()
    }


def model_of(name, params=None, about=ABOUT):
    return SavedModel(field=FIELDS[name], params=usual(FIELDS[name]) if params is None else params, about=about)


def told(model):
    """All of a model, to the bit."""
    arrays = {name: (str(value.dtype), value.shape, value.tobytes()) for name, value in model.params.items()}
    return json.dumps(described(model.field)), arrays, json.dumps(dict(model.about), sort_keys=True)


ANY = st.builds(
    lambda name, precision, seed: model_of(name, bits(FIELDS[name], precision, seed)),
    st.sampled_from(list(FIELDS)), st.sampled_from(list(KINDS)), st.integers(0, 2**32 - 1),
)  # fmt: skip
free = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SUFFIXES
@free
@given(model=ANY)
def test_any_model_comes_back_to_the_bit(tmp_path, suffix, model):
    save_model(tmp_path / f"a{suffix}", model)
    assert told(load_model(tmp_path / f"a{suffix}")) == told(model)


@free
@given(model=ANY)
def test_any_way_through_the_formats_ends_in_the_same_bytes(tmp_path, model):
    save_model(tmp_path / "a.npz", model)
    first = (tmp_path / "a.npz").read_bytes()
    for before, after in (("npz", "safetensors"), ("safetensors", "eqx"), ("eqx", "npz")):
        save_model(tmp_path / f"a.{after}", load_model(tmp_path / f"a.{before}"))
    assert (tmp_path / "a.npz").read_bytes() == first


@SUFFIXES
def test_the_same_model_gives_the_same_bytes_whatever_the_order_and_layout(tmp_path, suffix):
    params = usual(FIELDS["covariate"])
    other = {name: np.asfortranarray(params[name].astype(">f8")) for name in reversed(params)}
    save_model(tmp_path / f"a{suffix}", model_of("covariate", params))
    save_model(tmp_path / f"b{suffix}", model_of("covariate", other))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def value(arrays, field, params):
    """What the field says of some amounts, to the bit."""
    random = np.random.default_rng(1)
    amounts, covariates = random.uniform(0.0, 150.0, (5, 2)), random.uniform(0.0, 80.0, (5, 2))
    placed = {name: arrays.asarray(leaf) for name, leaf in params.items()}
    seen = arrays.asarray(covariates) if getattr(inside(field), "covariates", ()) else None
    return arrays.to_numpy(field(arrays.xp, placed, None, arrays.asarray(amounts), seen)).tobytes()


@pytest.mark.parametrize("precision", KINDS)
@pytest.mark.parametrize("library", [NumpyArrays, JaxArrays, TorchArrays])
@MANY
def test_a_restored_field_gives_the_same_bits(tmp_path, name, library, precision):
    arrays = library() if library is NumpyArrays else library(precision)
    model = model_of(name, usual(FIELDS[name], precision))
    expected = value(arrays, model.field, model.params)
    for suffix in formats.SUFFIXES:
        save_model(tmp_path / f"a{suffix}", model)
        found = load_model(tmp_path / f"a{suffix}")
        assert value(arrays, found.field, found.params) == expected


@SUFFIXES
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path, suffix, number):
    path, params = tmp_path / f"a{suffix}", usual(NETWORK)
    params["bias_0"][1] = number
    with pytest.raises(ConfigError, match="bias_0 is not finite"):
        save_model(path, model_of("mlp", params))
    assert not path.exists()
    formats.write(path, dict(sorted(params.items())), {"kind": "pk_event_fit weights", **described(NETWORK)})
    with pytest.raises(CheckpointError, match="bias_0 is not finite"):
        load_model(path)


@pytest.mark.parametrize(
    ("params", "words"),
    [({"bias_0": np.zeros(4)}, "parameter bias_0 has shape"), ({"bias_0": np.zeros(3, int)}, "type int64"),
     ({"bias_0": np.zeros(3, np.float16)}, "no float32 or float64"), ({"more": np.zeros(1)}, "parameter more")],
)  # fmt: skip
def test_parameters_of_no_such_field_are_not_written(tmp_path, params, words):
    with pytest.raises(ConfigError, match=words):
        save_model(tmp_path / "a.npz", model_of("mlp", usual(NETWORK) | params))


@pytest.mark.parametrize(
    ("about", "words"),
    [({"model": {}}, "the file says that itself"), ({"x": np.float32(1)}, "JSON cannot hold"),
     ({"x": float("nan")}, "JSON cannot hold")],
)  # fmt: skip
def test_what_a_file_cannot_say_is_not_written(tmp_path, about, words):
    with pytest.raises(ConfigError, match=words):
        save_model(tmp_path / "a.npz", model_of("mlp", about=about))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "about",
    [{"compartments": ["a"]}, {"compartments": "ab"}, {"compartments": [1, 2]}, {"units": []}, {"units": {"time": 1}},
     {"units": {"covariates": ["kg"]}}],
    ids=str,
)  # fmt: skip
def test_compartments_and_units_that_make_no_sense_are_refused(tmp_path, about):
    params = dict(sorted(usual(NETWORK).items()))
    formats.write(tmp_path / "a.npz", params, {"kind": "pk_event_fit weights", **described(NETWORK), **about})
    with pytest.raises(CheckpointError, match=r"a\.npz"):
        load_model(tmp_path / "a.npz")


def test_keys_that_are_numbers_come_back_as_the_texts_of_json(tmp_path):
    save_model(tmp_path / "a.eqx", model_of("mlp", about={"x": {10: "a", 9: "b"}}))
    assert load_model(tmp_path / "a.eqx").about == {"x": {"10": "a", "9": "b"}}


# Damage.


def outcome(path, content):
    """What a file of this content is: the whole model, or None where it is refused."""
    path.write_bytes(content)
    try:
        return told(load_model(path))
    except CheckpointError:
        return None


@SUFFIXES
def test_a_byte_changed_anywhere_is_refused_or_changes_nothing(tmp_path, suffix):
    path, random = tmp_path / f"a{suffix}", np.random.default_rng(0)
    save_model(path, model_of("mlp, volume", about={"compartments": ["a", "b"]}))
    content, whole = path.read_bytes(), told(load_model(path))
    for place, change in zip(random.permutation(len(content))[:800], random.integers(1, 256, 800), strict=False):
        changed = bytearray(content)
        changed[place] ^= int(change)
        assert outcome(path, bytes(changed)) in (None, whole), (place, change)


@SUFFIXES
@free
@given(data=st.data())
def test_a_file_cut_off_is_refused(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    save_model(path, model_of("mass_balanced"))
    content = path.read_bytes()
    assert outcome(path, content[: data.draw(st.integers(0, len(content) - 1))]) is None


@SUFFIXES
@free
@given(content=st.binary(max_size=200))
def test_what_is_no_such_file_is_refused(tmp_path, suffix, content):
    assert outcome(tmp_path / f"a{suffix}", content) is None


@SUFFIXES
def test_a_file_that_is_not_there_is_refused(tmp_path, suffix):
    with pytest.raises(CheckpointError, match="none"):
        load_model(tmp_path / f"none{suffix}")


def tensors(header, body=b"\0" * 16, length=None):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ENTRY = {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}
HOSTILE = {
    "a header longer than the file": tensors({"a": ENTRY}, length=10_000),
    "a header of 2^63 bytes": tensors({"a": ENTRY}, length=2**63),
    "an array longer than the file": tensors({"a": ENTRY | {"shape": [200], "data_offsets": [0, 1600]}}),
    "a shape of other bytes": tensors({"a": ENTRY | {"shape": [2**61]}}),
    "two arrays in one place": tensors({"a": ENTRY, "b": ENTRY}),
    "a hole": tensors({"a": ENTRY | {"shape": [1], "data_offsets": [8, 16]}}),
    "offsets that run backwards": tensors({"a": ENTRY | {"data_offsets": [16, 0]}}),
    "an unknown type": tensors({"a": ENTRY | {"dtype": "X9"}}),
    "a type that NumPy lacks": tensors({"a": ENTRY | {"dtype": "BF16", "shape": [8]}}),
    "metadata that is no text": tensors({"a": ENTRY, "__metadata__": {"about": 3}}),
    "a note that is no JSON": tensors({"a": ENTRY, "__metadata__": {"about": "{"}}),
    "a note that is a list": tensors({"a": ENTRY, "__metadata__": {"about": "[]"}}),
    "a note deeper than Python goes": tensors({"a": ENTRY, "__metadata__": {"about": "[" * 100_000}}),
    "no JSON": tensors(b"nothing "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_safetensors_are_refused(tmp_path, name):
    assert outcome(tmp_path / "a.safetensors", HOSTILE[name]) is None


def leaf(array):
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


LINE = json.dumps({"kind": "pk_event_fit field", "model": {"hidden": [3]}, "compartments": 2}).encode() + b"\n"
LAYERS = b"".join(leaf(array) for array in (np.ones((3, 2)), np.ones(3), np.ones((2, 3)), np.ones(2)))
STRANGE = {
    "a leaf too many": LINE + LAYERS + leaf(np.ones(2)),
    "a byte too many": LINE + LAYERS + b"\0",
    "no leaves": LINE,
    "a leaf of one number": LINE + LAYERS.replace(leaf(np.ones(2)), leaf(np.float64(1.0))),
    "whole numbers": LINE + LAYERS.replace(leaf(np.ones(2)), leaf(np.ones(2, int))),
    "no line": LAYERS,
    "a line that is a list": b"[]\n" + LAYERS,
    "names of too few": LINE.replace(b"}\n", b', "digest": "", "leaves": ["a"]}\n') + LAYERS,
    "names that are numbers": LINE.replace(b"}\n", b', "digest": "", "leaves": [1, 2, 3, 4]}\n') + LAYERS,
    "one name for two": LINE.replace(b"}\n", b', "digest": "", "leaves": ["a", "a", "b", "c"]}\n') + LAYERS,
}


def test_the_file_that_the_strange_ones_are_made_of_is_read(tmp_path):
    assert outcome(tmp_path / "a.eqx", LINE + LAYERS) is not None


@pytest.mark.parametrize("name", STRANGE)
def test_strange_eqx_files_are_refused(tmp_path, name):
    assert outcome(tmp_path / "a.eqx", STRANGE[name]) is None


def test_a_leaf_that_promises_more_than_it_holds_is_refused_before_it_is_read(tmp_path):
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": (2**40,), "fortran_order": False, "descr": "<f8"})
    (tmp_path / "a.eqx").write_bytes(LINE + stream.getvalue())
    with pytest.raises(CheckpointError, match="promises more than there is"):
        load_model(tmp_path / "a.eqx")


def test_objects_in_an_eqx_file_are_refused(tmp_path):
    stream = BytesIO()
    np.save(stream, np.array([print, {}], dtype=object))
    (tmp_path / "a.eqx").write_bytes(LINE + stream.getvalue())
    with pytest.raises(CheckpointError, match=r"[Oo]bject arrays"):
        load_model(tmp_path / "a.eqx")


@SUFFIXES
def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch, suffix):
    save_model(tmp_path / f"a{suffix}", model_of("mlp"))
    monkeypatch.setattr(store, "LIMIT", 100)
    with pytest.raises(CheckpointError, match="limit of 100"):
        load_model(tmp_path / f"a{suffix}")


# Other ecosystems.


@MANY
def test_equinox_reads_an_eqx_file_as_leaves_of_the_module(tmp_path, name):
    model = model_of(name)
    save_model(tmp_path / "a.eqx", model)
    expected = to_equinox.to_module(model.field, model.params)
    with open(tmp_path / "a.eqx", "rb") as stream:
        stream.readline()
        found = eqx.tree_deserialise_leaves(stream, jax.tree.map(jnp.zeros_like, expected))
        assert stream.read() == b""
    assert eqx.tree_equal(found, expected)


@MANY
def test_what_equinox_writes_of_the_module_are_the_same_bytes(tmp_path, name):
    model, stream = model_of(name), BytesIO()
    save_model(tmp_path / "a.eqx", model)
    eqx.tree_serialise_leaves(stream, to_equinox.to_module(model.field, model.params))
    assert (tmp_path / "a.eqx").read_bytes().partition(b"\n")[2] == stream.getvalue()


@pytest.mark.parametrize("name", ["mlp", "hybrid, learned, volume", "mass_balanced"])
def test_modules_of_any_field_give_the_numbers_of_the_field(name):
    model, amounts, seen = model_of(name), np.array([3.0, 80.0]), None if name == "mlp" else np.array([75.0, 0.0])
    expected = model.field(NumpyArrays().xp, model.params, None, amounts, seen)
    placed = None if seen is None else torch.tensor(seen)
    found = to_torch.to_module(model.field, model.params)(None, torch.tensor(amounts), placed)
    other = eqx.filter_jit(to_equinox.to_module(model.field, model.params))(0.0, jnp.asarray(amounts), seen)
    room = 100 * np.finfo(float).eps  # some dozens of roundings
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=room, atol=room * abs(expected).max())
    np.testing.assert_allclose(other, expected, rtol=room, atol=room * abs(expected).max())


def same(found, params):
    assert found.keys() == params.keys()
    for name in params:
        assert (name, found[name].dtype, found[name].tobytes()) == (name, params[name].dtype, params[name].tobytes())


@pytest.mark.parametrize(
    ("line", "dtype"), [(b"", jnp.float32), (b'{"width": 3, "units": 64, "kind": "mine"}\n', jnp.float64)]
)
def test_leaves_of_an_equinox_mlp_are_read_where_the_field_is_told(tmp_path, line, dtype):
    module = eqx.nn.MLP(2, 2, 3, 2, key=jax.random.key(0), dtype=dtype)
    with open(tmp_path / "a.eqx", "wb") as stream:
        stream.write(line)
        eqx.tree_serialise_leaves(stream, module)
    found = load_model(tmp_path / "a.eqx", Mlp(hidden=[3, 3], activation="relu"))
    same(found.params, {
        f"{name}_{k}": np.asarray(getattr(layer, name)).T
        for k, layer in enumerate(module.layers) for name in ("weight", "bias")
    })  # fmt: skip
    assert found.about == {}


def test_somebody_elses_layers_are_refused_where_no_field_is_told_or_another(tmp_path):
    eqx.tree_serialise_leaves(tmp_path / "a.eqx", eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0)))
    for field in (None, Mlp(hidden=[4]), Mlp(hidden=[3, 3]), FIELDS["hybrid, learned"]):
        with pytest.raises(CheckpointError, match=r"a\.eqx"):
            load_model(tmp_path / "a.eqx", field)


@SUFFIXES
def test_a_field_that_is_told_must_be_that_of_the_file(tmp_path, suffix):
    save_model(tmp_path / f"a{suffix}", model_of("mlp"))
    assert load_model(tmp_path / f"a{suffix}", NETWORK).field == NETWORK
    with pytest.raises(CheckpointError, match="another field"):
        load_model(tmp_path / f"a{suffix}", Mlp(hidden=[3], activation="relu"))


@MANY
def test_a_safetensors_file_is_the_state_dict_of_the_torch_module(tmp_path, name):
    model = model_of(name)
    save_model(tmp_path / "a.safetensors", model)
    module = to_torch.to_module(model.field, {key: 0 * leaf for key, leaf in model.params.items()})
    module.load_state_dict(safetensors.torch.load_file(tmp_path / "a.safetensors"))
    same(to_torch.params_of(module.state_dict()), model.params)


def test_a_state_dict_of_layers_is_read_where_the_field_is_told(tmp_path):
    field = FIELDS["mlp, deep"]
    module = to_torch.to_torch(field, usual(field))
    safetensors.torch.save_file(module.state_dict(), tmp_path / "a.safetensors")
    same(load_model(tmp_path / "a.safetensors", field).params, usual(field))
    same(to_torch.params_of(module.state_dict()), usual(field))


def test_two_stacks_of_layers_are_refused(tmp_path):
    two = {f"{part}.0.{name}": np.ones(2) for part in "ab" for name in ("weight", "bias")}
    safetensors.numpy.save_file(two, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="more than one stack"):
        load_model(tmp_path / "a.safetensors", NETWORK)


# Files of before.


def test_weights_that_say_nothing_of_units_are_read(tmp_path):
    note = {"kind": "pk_event_fit weights", **described(NETWORK), "framework": "torchode", "seed": 1, "iteration": 2}
    store.write_npz(tmp_path / "weights.npz", usual(NETWORK), note)
    found = load_model(tmp_path / "weights.npz")
    assert (found.compartments, found.units, found.size) == ((), {}, 2)
    assert told(found) == told(SavedModel(field=NETWORK, params=usual(NETWORK), about=dict(list(note.items())[2:])))


def test_an_eqx_file_without_a_digest_is_read(tmp_path):
    params = {"weight_0": np.ones((2, 3)), "bias_0": np.ones(3), "weight_1": np.ones((3, 2)), "bias_1": np.ones(2)}
    (tmp_path / "a.eqx").write_bytes(LINE + LAYERS)
    same(load_model(tmp_path / "a.eqx").params, params)
    assert to_equinox.load_eqx(tmp_path / "a.eqx")[0] == Mlp(hidden=[3])


# What a run leaves.


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = compose([
        "framework=torchode", "model=covariate", "model.hidden=[4]", "data.subjects=5", "data.points=5",
        f"data.path={folder / 'cohort.npz'}", "data.covariates=[clearance,central_volume]", "data.held_out=1",
        "training.iterations=3", "tracking=disabled", "solver.rtol=1e-4",
    ])  # fmt: skip
    return folder / "run", config, run(config, folder / "run")


def test_a_run_says_what_its_numbers_mean(fitted):
    found = load_model(fitted[0] / "weights.npz")
    assert found.compartments == ("central", "peripheral")
    covariates = {"clearance": "L/h", "central_volume": "L"}
    assert found.units == {"time": "h", "observed": "mg", "amount": "mg", "covariates": covariates}
    assert found.field.covariates == tuple(covariates)


def test_a_run_says_how_its_model_came_about(fitted):
    folder, config, result = fitted
    about, trained = load_model(folder / "weights.npz").about, load_model(folder / "weights.npz").about["trained"]
    assert (about["framework"], about["seed"], about["iteration"]) == ("torchode", 0, result["kept_iteration"])
    assert trained["solver"] == vars(config.solver)
    assert trained["accuracy"]["rmse"] == result["accuracy"]["rmse"]
    assert trained["accuracy"]["held_out"] == result["accuracy"]["held_out"]
    assert trained["data"]["digest"] == json.loads((folder / "provenance.json").read_text())["data_digest"]
    assert about["provenance"]["packages"]["torchode"]


def test_a_cohort_is_predicted_again_to_the_bit(fitted, tmp_path):
    folder, config, _ = fitted
    save_model(tmp_path / "a.safetensors", load_model(folder / "weights.npz"))
    found = load_model(tmp_path / "a.safetensors").predict_cohort(load(config.data))
    np.testing.assert_array_equal(found, store.read_npz(folder / "predictions.npz")[0]["predicted"])


def test_a_cohort_of_others_is_refused(fitted):
    folder, config, _ = fitted
    cohort = load(config.data)
    for changed in ({"compartments": ("a", "b")}, {"covariates": ("central_volume", "clearance")}):
        with pytest.raises(ConfigError, match="the cohort's"):
            load_model(folder / "weights.npz").predict_cohort(cohort._replace(**changed))


def test_units_are_those_that_the_data_say(tmp_path):
    (tmp_path / "a.csv").write_text("ID,TIME,AMT,CMT,DV,MDV,WT\n1,0,100,1,.,1,50\n1,2,0,1,1.5,0,50\n")
    words = ["data=nonmem", f"data.path={tmp_path / 'a.csv'}", "data.volume=10", "data.observed_unit=ug/L"]
    out = str(tmp_path / "out")
    assert croissant.main([out, *words, "--unit", "WT=kg", "--unit", "AMT=ug/kg"]) == 0
    bare = {"time": "h", "observed": "ug/L"}
    table = compose(["framework=torchode", "model=covariate", "data.covariates=[WT]", *words]).data
    assert units_of(table, ("WT",)) == bare | {"covariates": {}}  # whether doses are by weight, nobody has said
    told = settled(Data(source="croissant", path=out, volume=10.0, covariates=["WT"]))
    assert units_of(told, ("WT",)) == bare | {"amount": "ug/kg", "covariates": {"WT": "kg"}}


KNOWN = Hybrid(
    network=NETWORK, scales=Scales((1.0,), (1.0,), (70.0,), (10.0,)), covariates=("WT",), kinetics="pk_1c",
    parameters=lookup("pk_1c").typical, learned=("clearance",),
)  # fmt: skip


@pytest.mark.parametrize("framework", ["torchdiffeq", "torchode"])
def test_doses_are_predicted_as_known_kinetics_have_it(framework):
    """Where the network says nothing, concentrations fall by exp(-CL / V t), with CL = exp(theta + B z)."""
    field, effect, solver = measured(KNOWN, volume=8.0), 0.4, Solver(rtol=1e-8, atol=1e-10)
    params = {name: np.zeros(shape) for name, shape in field.shapes(1).items()}
    params |= {"log_kinetics": np.log([2.0]), "effects": np.array([[effect]]), "log_volume": np.log([16.0])}
    times, weights = np.array([6.0, 0.0, 1.5]), np.array([[70.0], [85.0]])
    doses = [[Dose(0.0, 100.0)], [Dose(0.0, 50.0), Dose(2.0, 30.0)]]
    model = SavedModel(field=field, params=params, about={"framework": framework})
    found = model.predict(doses, times, covariates=weights, initial=[[4.0], [0.0]], solver=solver)
    rate = 2.0 * np.exp(effect * (weights - 70.0) / 10.0) / 16.0
    amounts = np.array([[104.0], [50.0]]) * np.exp(-rate * times)
    amounts[1] += 30.0 * np.exp(-rate[1] * (times - 2.0)) * (times >= 2.0)
    # A tolerance of 1e-8 for each of two intervals, and ten times that as the solvers keep it.
    np.testing.assert_allclose(found, amounts[..., None] / 16.0, rtol=2e-7)


# The command.


def test_the_command_goes_round_to_the_same_bytes(fitted, tmp_path, capsys):
    way = [fitted[0], *(tmp_path / name for name in ("a.safetensors", "b.eqx", "c.npz"))]
    assert [command.main([str(one), str(other)]) for one, other in itertools.pairwise(way)] == [0, 0, 0]
    assert way[-1].read_bytes() == (fitted[0] / "weights.npz").read_bytes()
    assert "covariate of central, peripheral: 30 parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "out", "words"),
    [("none", "a.bin", "ends with one of .npz, .safetensors, .eqx"), ("none", "taken.npz", "is there already"),
     ("none", "a.npz", "none"), ("taken.npz", "a.npz", "taken.npz")],
)  # fmt: skip
def test_the_command_refuses_before_anything_is_written(tmp_path, capsys, run, out, words):
    (tmp_path / "taken.npz").write_bytes(b"mine")
    assert command.main([str(tmp_path / run), str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("taken.npz", b"mine")]


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path):
    save_model(tmp_path / "a.npz", model_of("mlp"))
    with pytest.raises(FileExistsError):
        save_model(tmp_path / "a.npz", model_of("covariate"), new=True)
    assert load_model(tmp_path / "a.npz").field == NETWORK


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "pk_event_fit.formats.safetensors", raising=False)
    monkeypatch.delattr(formats, "safetensors", raising=False)
    with pytest.raises(ConfigError, match=r"pk-event-fit\[safetensors\]"):
        save_model(tmp_path / "a.safetensors", model_of("mlp"))


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="has no attribute 'load_models'"):
        pk_event_fit.load_models  # noqa: B018
