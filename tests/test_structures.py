"""What fields hold whatever their weights: mass, signs, scales, subjects apart; and the same numbers everywhere."""

import numpy as np
import pytest
import test_frameworks as suite
from reference import Reference

from pk_event_fit import frameworks
from pk_event_fit.arrays.jax import JaxArrays
from pk_event_fit.arrays.numpy import NumpyArrays
from pk_event_fit.arrays.torch import TorchArrays
from pk_event_fit.compartments import TYPICAL, lookup, rate_matrix
from pk_event_fit.errors import ConfigError
from pk_event_fit.fields import ACTIVATIONS, Hybrid, MassBalanced, Mlp, Normalised, Scales, estimates, measured, plain
from pk_event_fit.frameworks.base import Interval, Solver

NUMPY = NumpyArrays().xp
EPS = np.finfo(np.float64).eps
NETWORK = Mlp(hidden=[8, 8], activation="tanh", initial_scale=1.0)
COVARIATES = ("WT", "AGE")
SCALES = Scales(amount=(120.0, 40.0), rate=(9.0, 2.0), centre=(70.0, 40.0), spread=(12.0, 15.0))
BARE = SCALES._replace(centre=(), spread=())
PK = {"kinetics": "pk_2c", "parameters": TYPICAL}
FIELDS = {
    "mlp": Normalised(network=NETWORK, scales=BARE),
    "covariate": Normalised(network=NETWORK, scales=SCALES, covariates=COVARIATES),
    "mass_balanced": MassBalanced(network=NETWORK, scales=BARE),
    "mass_balanced, covariates": MassBalanced(network=NETWORK, scales=SCALES, covariates=COVARIATES),
    "hybrid": Hybrid(network=NETWORK, scales=BARE, learned=("clearance", "peripheral_volume"), **PK),
    "hybrid, covariates": Hybrid(network=NETWORK, scales=SCALES, covariates=COVARIATES, learned=("clearance",), **PK),
}
LIBRARIES = {"jax": JaxArrays, "torch": TorchArrays}
MANY = pytest.mark.parametrize("name", FIELDS)
BALANCED = pytest.mark.parametrize(
    ("name", "seed"), [(name, seed) for name in FIELDS if "balanced" in name for seed in range(5)]
)


def drawn(name, seed=0, subjects=7):
    """A field, weights that are all other than 0, amounts `[B, 2]` and covariates `[B, 2]`."""
    random = np.random.default_rng(seed)
    field = FIELDS[name]
    params = {key: value + 0.3 * random.standard_normal(value.shape) for key, value in initial(field).items()}
    amounts = random.uniform(0.0, 150.0, (subjects, 2))
    covariates = np.stack([random.uniform(40, 110, subjects), random.uniform(20, 80, subjects)], 1)
    return field, params, amounts, covariates if field.covariates else None


def initial(field, size=2):
    return field.initial_params(size, 0)


def value(field, params, amounts, covariates, arrays=None):
    arrays = arrays or NumpyArrays()
    placed = {key: arrays.asarray(leaf) for key, leaf in params.items()}
    known = None if covariates is None else arrays.asarray(covariates)
    return arrays.to_numpy(field(arrays.xp, placed, None, arrays.asarray(amounts), known))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("library", LIBRARIES)
@MANY
def test_array_libraries_agree(name, library, precision):
    drawing = drawn(name)
    expected, arrays = value(*drawing), LIBRARIES[library](precision)
    # Some dozens of roundings; float32 begins with one of each input.
    found = value(*drawing, arrays)
    assert found.dtype == precision
    np.testing.assert_allclose(found, expected, rtol=0, atol=100 * arrays.eps * np.abs(expected).max())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_agree(activation, library):
    x = np.linspace(-5.0, 5.0, 41)
    arrays = LIBRARIES[library]("float64")
    found = arrays.to_numpy(getattr(arrays.xp, activation)(arrays.asarray(x)))
    np.testing.assert_allclose(found, getattr(NUMPY, activation)(x), rtol=10 * EPS, atol=10 * EPS)


def test_rbf_is_a_gaussian():
    np.testing.assert_allclose(NUMPY.rbf(np.array([0.0, 1.0, -2.0])), [1.0, np.exp(-1.0), np.exp(-4.0)], rtol=4 * EPS)


@MANY
def test_a_subject_alone_has_the_same_field(name):
    """As `vmap` calls it, `[D]`, and as report points that move do, `[..., B, D]`."""
    field, params, amounts, covariates = drawn(name)
    together = value(field, params, amounts, covariates)
    alone = [value(field, params, y, None if covariates is None else covariates[k]) for k, y in enumerate(amounts)]
    np.testing.assert_allclose(alone, together, rtol=100 * EPS, atol=1e-13)
    stacked = value(field, params, amounts[None, None], None if covariates is None else covariates[None, None])
    np.testing.assert_allclose(stacked[0, 0], together, rtol=100 * EPS, atol=1e-13)


@pytest.mark.parametrize("library", LIBRARIES)
@MANY
def test_gradients_are_those_of_differences(name, library):
    """Along a random direction in all parameters; central differences in NumPy, of order h^2."""
    field, params, amounts, covariates = drawn(name)
    random = np.random.default_rng(1)
    weights, along = random.standard_normal((7, 2)), {k: random.standard_normal(v.shape) for k, v in params.items()}

    def total(step):
        return (weights * value(field, {k: v + step * along[k] for k, v in params.items()}, amounts, covariates)).sum()

    arrays = LIBRARIES[library]("float64")
    known = None if covariates is None else arrays.asarray(covariates)

    def loss(placed):
        return (arrays.asarray(weights) * field(arrays.xp, placed, None, arrays.asarray(amounts), known)).sum(), None

    _, gradient = arrays.value_and_grad(loss)({k: arrays.asarray(v) for k, v in params.items()})
    found = sum((arrays.to_numpy(gradient[k]) * along[k]).sum() for k in params)
    step = 1e-5
    np.testing.assert_allclose(found, (total(step) - total(-step)) / (2 * step), rtol=1e-7)


@BALANCED
def test_mass_leaves_by_what_is_eliminated_alone(name, seed):
    field, params, amounts, covariates = drawn(name, seed)
    flows = field.flows(NUMPY, params, amounts, covariates)
    change = value(field, params, amounts, covariates).sum(-1)
    np.testing.assert_allclose(change, -np.einsum("bii->b", flows), rtol=0, atol=20 * EPS * flows.max())


@BALANCED
def test_flows_are_0_or_more(name, seed):
    field, params, amounts, covariates = drawn(name, seed)
    amounts[0] = 0.0
    flows = field.flows(NUMPY, params, amounts, covariates)
    assert (flows[1:] > 0).all()
    assert (flows[0] == 0).all()


@BALANCED
def test_flows_are_counted_where_they_leave_and_where_they_arrive(name, seed):
    """By hand: what comes from the other, less what goes there, less what is eliminated."""
    field, params, amounts, covariates = drawn(name, seed)
    flows = field.flows(NUMPY, params, amounts, covariates)
    first = flows[:, 1, 0] - flows[:, 0, 1] - flows[:, 0, 0]
    second = flows[:, 0, 1] - flows[:, 1, 0] - flows[:, 1, 1]
    expected = np.stack([first, second], 1)
    np.testing.assert_allclose(value(field, params, amounts, covariates), expected, rtol=0, atol=20 * EPS * flows.max())


@BALANCED
def test_nothing_flows_out_of_an_empty_compartment(name, seed):
    field, params, amounts, covariates = drawn(name, seed)
    amounts[:, 0] = 0.0
    assert (value(field, params, amounts, covariates)[:, 0] >= 0).all()


def history(subjects=3, size=2):
    """Doses into the first compartment; its second interval is an infusion, the last of the second subject padding."""
    duration = np.full((4, subjects), 12.0)
    duration[3, 1] = 0.0
    start = np.concatenate([np.zeros((1, subjects)), np.cumsum(duration, 0)[:-1]])
    bolus, rate = np.zeros((4, subjects, size)), np.zeros((4, subjects, size))
    bolus[[0, 2], :, 0] = 100.0
    rate[1, :, 0] = 8.0
    covariates = np.broadcast_to(np.linspace([50.0, 30.0], [90.0, 60.0], subjects), (4, subjects, 2))
    return Interval(np.arange(4), start, duration, bolus, rate, covariates)


def solved(field, params, table, library="torchode", initial=None):
    framework = frameworks.load(library).create(Solver(rtol=1e-9, atol=1e-11), precision="float64")
    begin = np.zeros(table.bolus.shape[1:]) if initial is None else initial
    return suite.solve(framework, begin, table, field=field, params=params)[0]


@pytest.mark.parametrize(("library", "seed"), [("diffrax", 0), ("torchdiffeq", 1)])
def test_amounts_stay_0_or_more_and_are_no_more_than_was_given(library, seed):
    field, params, _, _ = drawn("mass_balanced, covariates", seed)
    params = {key: 2 * leaf for key, leaf in params.items()}
    table = history()
    states = solved(field, params, table, library)
    assert states.min() >= -1e-9
    totals, grid = states.sum(-1), np.array(suite.GRID)
    given = grid[:, None] * (table.rate.sum(-1) * table.duration)[:, None]
    assert (np.diff(totals - given, axis=1) <= 1e-7).all()


@pytest.mark.parametrize("library", suite.NAMES)
def test_every_framework_solves_it(library):
    """Flows and covariates, against DOP853."""
    field, params, _, _ = drawn("mass_balanced, covariates")
    table = history()
    expected, _ = suite.solve(Reference.create(), np.zeros((3, 2)), table, field=field, params=params)
    assert suite.error(solved(field, params, table, library), expected).max() <= 10 * 1e-9


@MANY
def test_subjects_may_come_in_any_order(name):
    field, params, _, covariates = drawn(name)
    table, order = history(), np.array([2, 0, 1])
    table = table if covariates is not None else table._replace(covariates=None)
    moved = Interval(table.number, *(None if leaf is None else leaf[:, order] for leaf in table[1:]))
    found, expected = solved(field, params, moved), solved(field, params, table)[:, :, order]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_hybrid_that_lacks_nothing_is_its_kinetics():
    """Zero learned term, doses and an infusion: the exponential of the matrix."""
    network = Mlp(hidden=[8], initial_scale=0.0)
    field = Hybrid(network=network, scales=BARE, learned=lookup("pk_2c").parameters, **PK)
    initial, table = suite.regimen()
    table = table._replace(covariates=None)
    known = table._replace(covariates=np.broadcast_to(np.array(TYPICAL), (4, 4, 4)))
    found = solved(field, field.initial_params(2, 0), table, initial=initial)
    assert suite.error(found, suite.exact(initial, known)).max() <= 10 * 1e-9


def test_a_hybrid_adds_what_its_network_says():
    field, params, amounts, _ = drawn("hybrid")
    apart = value(Normalised(network=NETWORK, scales=BARE), params, amounts, None)
    own = np.array(TYPICAL)
    own[[0, 3]] = np.exp(params["log_kinetics"])
    expected = amounts @ rate_matrix(own).T + apart
    np.testing.assert_allclose(value(field, params, amounts, None), expected, rtol=0, atol=1e-12)


def test_kinetics_begin_where_they_are_told_and_only_some_are_learned():
    field = FIELDS["hybrid"]
    begun = initial(field)
    assert begun["log_kinetics"].shape == (2,)
    assert estimates(field, begun)["kinetics"] == pytest.approx(
        dict(zip(lookup("pk_2c").parameters, TYPICAL, strict=True))
    )


def test_kinetics_follow_covariates_by_their_effects():
    """One standard deviation more weight multiplies the clearance by exp(effect)."""
    field = FIELDS["hybrid, covariates"]
    params = initial(field) | {"effects": np.array([[0.3], [0.0]])}
    standard = np.array([[0.0, 0.0], [1.0, 5.0]])
    found = field.kinetic_parameters(NUMPY, params, standard)["clearance"]
    np.testing.assert_allclose(found, TYPICAL[0] * np.exp([0.0, 0.3]), rtol=10 * EPS)


def test_the_volume_that_is_measured_by_is_the_central_one():
    field = measured(Hybrid(network=Mlp(hidden=[4], initial_scale=0.0), scales=BARE, **PK), volume=7.0)
    params = field.initial_params(2, 0)
    own = (TYPICAL[0], 7.0, *TYPICAL[2:])
    amounts = drawn("hybrid")[2]
    np.testing.assert_allclose(value(field, params, amounts, None), amounts @ rate_matrix(np.array(own)).T, rtol=1e-13)
    assert estimates(field, params)["kinetics"]["central_volume"] == pytest.approx(estimates(field, params)["volume"])


@pytest.mark.parametrize("name", [name for name in FIELDS if FIELDS[name].covariates])
def test_subjects_of_different_covariates_differ(name):
    field, params, _, _ = drawn(name)
    table = history()
    states = solved(field, params, table)
    alike = solved(field, params, table._replace(covariates=table.covariates[:, :1].repeat(3, 1)))
    assert np.abs(states[:, :, 2] - states[:, :, 0]).max() > 1.0
    assert np.abs(alike[:2, :, 2] - alike[:2, :, 0]).max() < 1e-9


@pytest.mark.parametrize("name", [name for name in FIELDS if FIELDS[name].covariates])
@pytest.mark.parametrize("given", [None, 1, 3])
def test_intervals_without_the_covariates_are_refused(name, given):
    field, params, amounts, _ = drawn(name)
    with pytest.raises(ConfigError, match=f"the field sees WT, AGE, and the intervals have {given or 0} covariates"):
        value(field, params, amounts, None if given is None else np.ones((7, given)))


def test_scales_go_into_the_network():
    field, params, amounts, _ = drawn("mlp")
    network, own = plain(measured(field, volume=3.0), params | {"log_volume": np.zeros(1)})
    np.testing.assert_allclose(value(network, own, amounts, None), value(field, params, amounts, None), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "mlp"])
def test_a_field_that_is_more_than_a_network_is_not_taken_away_as_one(name):
    with pytest.raises(ConfigError, match="only a network of amounts alone"):
        plain(FIELDS[name], drawn(name)[1])


@MANY
def test_a_field_is_one_of_its_own_number_of_compartments(name):
    with pytest.raises(ConfigError, match=r"3 compartments|and the data 3"):
        FIELDS[name].initial_params(3, 0)


@pytest.mark.parametrize(
    "changed",
    [{"amount": ()}, {"amount": (0.0,)}, {"rate": (-1.0, 1.0)}, {"rate": (np.inf,)}, {"spread": (0.0, 1.0)},
     {"spread": (1.0,)}, {"centre": (np.nan, 1.0)}],
    ids=str,
)  # fmt: skip
def test_impossible_scales_are_refused(changed):
    with pytest.raises(ConfigError, match="Scales"):
        Normalised(network=NETWORK, scales=SCALES._replace(**changed), covariates=COVARIATES)


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"kinetics": "pk_9c"}, "model.kinetics=pk_9c"), ({"learned": ("km",)}, "there is no km"),
     ({"learned": ("clearance", "clearance")}, "different names"), ({"parameters": (1.0,)}, "need clearance"),
     ({"parameters": (0.0, 1.0, 1.0, 1.0)}, "above 0")],
)  # fmt: skip
def test_impossible_kinetics_are_refused(changed, words):
    with pytest.raises(ConfigError, match=words):
        Hybrid(**{"network": NETWORK, "scales": BARE, **PK, **changed})
