"""Fields made for data: scales, covariates by name, what is refused, and fits that are saved and evaluated again."""

from dataclasses import replace

import numpy as np
import pytest

from pk_event_fit import frameworks, store
from pk_event_fit.checkpoint import read_weights, write_weights
from pk_event_fit.cli import compose
from pk_event_fit.compartments import TYPICAL, lookup
from pk_event_fit.config import Config
from pk_event_fit.data import Cohort, Data, batch_of, load
from pk_event_fit.errors import CheckpointError, ConfigError, DataError
from pk_event_fit.fields import (
    Hybrid,
    MassBalanced,
    Measured,
    Mlp,
    Model,
    Normalised,
    Scales,
    described,
    measured,
    restored,
)
from pk_event_fit.integrate import predict
from pk_event_fit.intervals import Interval
from pk_event_fit.models import build, scales_of

PARAMETERS = lookup("pk_2c").parameters
NETWORK = Mlp(hidden=[4], activation="tanh")
SCALES = Scales((120.0, 40.0), (9.0, 2.5), (70.1,), (12.3,))
BARE = SCALES._replace(centre=(), spread=())
KNOWN = {"kinetics": "pk_2c", "parameters": TYPICAL, "learned": ("clearance", "peripheral_volume")}
FIELDS = {
    "scaled": Normalised(network=NETWORK, scales=BARE),
    "covariate": Normalised(network=NETWORK, scales=SCALES, covariates=("WT",)),
    "mass_balanced": MassBalanced(network=NETWORK, scales=SCALES, covariates=("WT",)),
    "hybrid": Hybrid(network=NETWORK, scales=SCALES, covariates=("WT",), **KNOWN),
}
FIELDS |= {f"{name}, measured": Measured(model=field, volume=7.5) for name, field in FIELDS.items()}
ROWS = """ID,TIME,AMT,CMT,RATE,DV,MDV,WT,Age,NOTE
a,0,100,1,0,.,1,50,30,x
a,1,0,1,0,3.0,0,50,30,x
a,6,0,1,0,2.5,0,50,31,x
b,0,60,1,0,.,1,80,40,x
b,2,0,1,0,1.5,0,80,40,x
"""
TABLE = {"source": "table", "compartments": ["central"], "measured": "central", "volume": 10.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "cohort.npz")
    cohort(path)  # which writes it
    return path


@pytest.fixture
def table(tmp_path):
    (tmp_path / "mine.csv").write_text(ROWS)
    return str(tmp_path / "mine.csv")


def cohort(home, **changed):
    return load(Data(subjects=5, points=5, path=home, **changed))


def small(amounts, bolus=(), covariates=None):
    """Subjects observed at 0, 2 and 6 h in one interval of 6 h: amounts `[B, 1, 3, D]`."""
    amounts = np.asarray(amounts, float)
    count, _, _, size = amounts.shape
    doses = np.zeros((1, count, size))
    doses[0, :, : len(bolus)] = bolus
    known = None if covariates is None else np.asarray(covariates, float)[None]
    rows = Interval(np.arange(1), np.zeros((1, count)), np.full((1, count), 6.0), doses, covariates=known)
    names = () if known is None else tuple("ABC"[: known.shape[-1]])
    times = np.array([[0.0, 2.0, 6.0]])
    return Cohort(
        amounts, np.zeros((count, size)), rows, times[0] / 6, times, ("central", "other")[:size], "", covariates=names
    )


def test_scales_by_hand():
    """The largest amount; slopes 5 for 2 h and 10 for 4 h: root of (25 * 2 + 100 * 4) / 6."""
    found = scales_of(small([[[[60.0], [50.0], [10.0]]]]), Data())
    assert found == Scales((60.0,), (np.sqrt(75.0),))


def test_what_is_not_observed_has_the_largest_dose_and_the_pace_of_the_rest():
    values = np.array([[[[60.0, np.nan], [50.0, np.nan], [10.0, np.nan]]]])
    found = scales_of(small(values, bolus=(80.0,)), Data())
    assert found.amount == (60.0, 80.0)
    assert found.rate[1] / found.amount[1] == pytest.approx(found.rate[0] / found.amount[0])


def test_one_observation_each_has_the_pace_of_the_interval():
    values = np.full((1, 1, 3, 1), np.nan)
    values[0, 0, 1] = 50.0
    assert scales_of(small(values), Data()) == Scales((50.0,), (50.0 / 6.0,))


def test_concentrations_count_as_amounts_in_the_volume(table):
    found = load(Data(**TABLE, path=table))
    assert scales_of(found, Data(**TABLE, path=table)).amount == (30.0,)


def test_a_scale_that_is_told_is_taken(home):
    assert scales_of(cohort(home), Data(scale=50.0)).amount == (50.0, 50.0)


def test_covariates_have_their_mean_and_standard_deviation():
    found = scales_of(small(np.ones((2, 1, 3, 1)), covariates=[[50.0, 3.0], [70.0, 3.0]]), Data())
    assert (found.centre, found.spread) == ((60.0, 3.0), (10.0, 3.0))


def test_scales_are_those_of_the_subjects_that_are_fitted():
    values = np.ones((2, 1, 3, 1)) * np.array([1.0, 500.0])[:, None, None, None]
    both = small(values, covariates=[[50.0], [90.0]])
    found = scales_of(both, Data(), np.array([0]))
    assert (found.amount, found.centre) == ((1.0,), (50.0,))


@pytest.mark.parametrize("structure", ["covariate", "mass_balanced", "hybrid"])
@pytest.mark.parametrize("factor", [1000.0, 1 / 0.45359237])
def test_the_units_of_covariates_change_nothing(home, structure, factor):
    found, model = cohort(home, covariates=["all"]), Model(structure=structure, hidden=[4], activation="tanh")
    scaled = found._replace(intervals=found.intervals._replace(covariates=found.intervals.covariates * factor))
    one, other = (predicted(build(model, Data(covariates=["all"]), each), each) for each in (found, scaled))
    np.testing.assert_allclose(other, one, rtol=1e-8, atol=1e-8)
    assert np.ptp(one[-1, -1], axis=0).max() > 0.1  # subjects do differ


@pytest.mark.parametrize("structure", ["mlp", "mass_balanced"])
def test_the_unit_of_amounts_changes_nothing(home, structure):
    """A thousand times the amounts are predicted of a thousand times the doses."""
    found, model = cohort(home), Model(structure=structure, hidden=[4], activation="tanh", normalise=True)
    table = found.intervals._replace(bolus=found.intervals.bolus * 1024)
    scaled = found._replace(amounts=found.amounts * 1024, intervals=table)
    one, other = (predicted(build(model, Data(), each), each) for each in (found, scaled))
    np.testing.assert_allclose(other, 1024 * one, rtol=1e-6)


def predicted(field, cohort, params=None):
    """`[S, K, B, D]`, by torchode, which compiles nothing."""
    framework = frameworks.load("torchode").create(frameworks.base.Solver(rtol=1e-9, atol=1e-10), precision="float64")
    begun = field.initial_params(len(cohort.compartments), 0)
    params = params or {name: value + 0.3 * np.cos(np.arange(value.size)).reshape(value.shape)
                        for name, value in begun.items()}  # fmt: skip
    placed = {name: framework.arrays.asarray(value) for name, value in params.items()}
    batch = batch_of(framework.arrays, cohort, None)
    return framework.arrays.to_numpy(predict(framework, field, placed, batch[0], batch[1], cohort.grid)[0])


def test_simulated_subjects_have_their_kinetic_parameters(home):
    found = cohort(home, covariates=["peripheral_volume", "clearance"])
    parameters = store.read_npz(home)[0]["parameters"]
    assert found.covariates == ("peripheral_volume", "clearance")
    np.testing.assert_array_equal(found.intervals.covariates, np.broadcast_to(parameters[:, [3, 0]], (4, 5, 2)))


def test_all_covariates_are_all_that_the_data_have(home, table):
    assert cohort(home, covariates=["all"]).covariates == PARAMETERS
    assert load(Data(**TABLE, path=table, covariates=["all"])).covariates == ("WT", "Age")


def test_a_steady_state_has_the_covariates_of_its_subject(tmp_path):
    doses = [{"time": 0, "amount": 100, "every": 12, "count": 3, "steady_state": True}]
    found = cohort(str(tmp_path / "cohort.npz"), doses=doses, covariates=["all"])
    known = found.intervals.covariates[0]
    np.testing.assert_array_equal(found.steady.cycle.covariates, np.broadcast_to(known, (3, 1, 5, 4)))


def test_covariates_of_a_file_are_found_by_name(home, tmp_path):
    arrays, _ = store.read_npz(home)
    own = {"covariates": np.arange(10.0).reshape(5, 2), "covariate_names": np.array(["WT", "AGE"])}
    store.write_npz(tmp_path / "own.npz", arrays | own, {})
    found = load(Data(source="file", path=str(tmp_path / "own.npz"), covariates=["AGE", "clearance"]))
    np.testing.assert_array_equal(found.intervals.covariates[2, :, 0], [1, 3, 5, 7, 9])


@pytest.mark.parametrize(
    ("own", "words"),
    [({"covariates": np.ones((4, 1))}, "needs numbers"), ({"covariates": np.full((5, 1), np.nan)}, "subject 0 is nan"),
     ({}, "has no covariate WT")],
)  # fmt: skip
def test_covariates_that_a_file_lacks_are_refused(home, tmp_path, own, words):
    arrays, _ = store.read_npz(home)
    named = own | ({"covariate_names": np.array(["WT"])} if own else {})
    store.write_npz(tmp_path / "own.npz", arrays | named, {})
    with pytest.raises(DataError, match=words):
        load(Data(source="file", path=str(tmp_path / "own.npz"), covariates=["WT"]))


def test_covariates_of_a_table_are_those_of_the_row_that_ends_an_interval(table):
    found = load(Data(**TABLE, path=table, covariates=["age"]))
    held = found.intervals.duration > 0
    assert found.covariates == ("Age",)
    assert [found.intervals.covariates[held[:, k], k, 0].tolist() for k in range(2)] == [[30.0, 31.0], [40.0]]


def test_covariates_of_a_table_are_in_the_order_that_is_told(table):
    found = load(Data(**TABLE, path=table, covariates=["Age", "WT"], per="WT"))
    assert found.intervals.covariates[0].tolist() == [[30.0, 50.0], [40.0, 80.0]]


def test_a_covariate_may_divide_doses_and_be_seen(table):
    found = load(Data(**TABLE, path=table, covariates=["Age"], per="WT"))
    assert (found.intervals.bolus[0, 0, 0], found.covariates) == (2.0, ("Age",))


@pytest.mark.parametrize("names", [["HEIGHT"], ["NOTE"]])
def test_covariates_that_a_table_lacks_are_refused(table, names):
    with pytest.raises(DataError, match=names[0]):
        load(Data(**TABLE, path=table, covariates=names))


def test_without_covariates_a_table_stays_as_it_was(table):
    found = load(Data(**TABLE, path=table))
    assert (found.intervals.covariates, found.covariates, len(found.intervals.start)) == (None, (), 1)


def test_covariates_are_of_the_data_that_a_checkpoint_belongs_to(home):
    assert cohort(home).digest != cohort(home, covariates=["clearance"]).digest


def test_subjects_take_their_covariates_with_them(home):
    found = cohort(home, covariates=["all"])
    np.testing.assert_array_equal(
        found.take(np.array([3])).intervals.covariates[:, 0], found.intervals.covariates[:, 3]
    )


REFUSED = {
    "name of a structure": (["model.structure=lstm"], ["lstm", "mass_balanced", "hybrid"]),
    "name of a model": (["model=lstm"], ["lstm", "mass_balanced", "hybrid"]),
    "covariates of mlp": (["data.covariates=[all]"], ["data.covariates", "model=mlp"]),
    "covariate without": (["model=covariate", "data.covariates=null"], ["data.covariates", "all"]),
    "no covariates": (["model=hybrid", "data.covariates=[]"], ["data.covariates"]),
    "one covariate twice": (["model=hybrid", "data.covariates=[a,a]"], ["data.covariates"]),
    "all and more": (["model=hybrid", "data.covariates=[all,a]"], ["data.covariates"]),
    "kinetics of mlp": (["model.kinetics=pk_1c"], ["model.kinetics", "model=hybrid"]),
    "parameters of mlp": (["+model.parameters.clearance=2"], ["model.parameters", "model=hybrid"]),
    "learned of mass_balanced": (["model=mass_balanced", "model.learned=[]"], ["model.learned", "model=hybrid"]),
    "unknown kinetics": (["model=hybrid", "model.kinetics=pk_9c"], ["model.kinetics", "pk_9c", "pk_2c_depot"]),
    "unknown parameter": (["model=hybrid", "+model.parameters.km=2"], ["km", "pk_2c", "clearance"]),
    "parameter of 0": (["model=hybrid", "+model.parameters.clearance=0"], ["model.parameters.clearance"]),
    "unknown learned": (["model=hybrid", "model.learned=[km]"], ["km", "pk_2c", "clearance"]),
    "hybrid of a table": (["model=hybrid", "data=theophylline"], ["model.kinetics", "pk_1c_depot"]),
    "a comparison of others": (
        ["+experiment=framework_comparison_quick", "model=mass_balanced"], ["study.probes", "model=mlp"]
    ),
    "a comparison on scales": (
        ["+experiment=framework_comparison_quick", "model.normalise=true"], ["study.probes", "model.normalise"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case):
    words, told = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        compose(words)
    assert [word for word in told if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("kinetics", "compartments", "words"),
    [("pk_1c", ["central", "other"], "has central, and the data central, other"),
     ("pk_1c_depot", ["central", "depot"], "has depot, central, and the data central, depot")],
)  # fmt: skip
def test_kinetics_of_other_compartments_are_refused(table, kinetics, compartments, words):
    settings = Data(**{**TABLE, "compartments": compartments}, path=table)
    with pytest.raises(ConfigError, match=words):
        build(Model(structure="hybrid", kinetics=kinetics), settings, load(settings))


def test_the_volume_that_is_fitted_along_is_not_learned_twice(table):
    settings = Data(**TABLE, path=table)
    field = build(Model(structure="hybrid", kinetics="pk_1c"), settings, load(settings))
    assert field.model.learned == ("clearance",)


def test_a_network_alone_is_the_model_that_it_makes():
    assert Config(model=NETWORK).model == Model(hidden=[4], activation="tanh")


def test_the_plain_model_is_the_network_itself(home):
    assert build(Model(hidden=[4], activation="tanh"), Data(), cohort(home)) == NETWORK


@pytest.mark.parametrize("name", FIELDS)
def test_weights_come_back_with_their_field(name, tmp_path):
    field = FIELDS[name]
    params = field.initial_params(2, 3)
    write_weights(tmp_path / "w.npz", field, params, {})
    found, kept = read_weights(tmp_path / "w.npz")
    assert found == field
    assert {key: value.tobytes() for key, value in kept.items()} == {k: v.tobytes() for k, v in params.items()}


def test_weights_of_before_there_were_structures_are_read(tmp_path):
    field = measured(NETWORK, 50.0, 10.0)
    note = {"model": described(NETWORK)["model"], "measured": {"scale": 50.0, "volume": 10.0}}
    store.write_npz(tmp_path / "w.npz", field.initial_params(2, 0), {"kind": "pk_event_fit weights", **note})
    assert read_weights(tmp_path / "w.npz")[0] == field


@pytest.mark.parametrize(
    "changed",
    [{"name": "lstm"}, {"scales": {}}, {"scales": {"amount": [0.0]}}, {"covariates": ["A", "B"]}, {"kinetics": "pk_9c"},
     {"learned": ["clearance"]}, {"parameters": ["a"]}, {"scales": None}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_weights_of_an_unusable_structure_are_refused(changed, tmp_path):
    note = described(FIELDS["hybrid"])
    note["structure"] |= changed
    params = FIELDS["hybrid"].initial_params(2, 0)
    store.write_npz(tmp_path / "w.npz", params, {"kind": "pk_event_fit weights", **note})
    with pytest.raises(CheckpointError):
        read_weights(tmp_path / "w.npz")


@pytest.mark.parametrize(
    "word", ["+model.parameters.clearance=2", "model.parameters.clearance=2", "model.parameters={clearance: 2}"]
)
def test_the_settings_of_a_model_are_those_that_are_told(word):
    config = compose(["model=hybrid", word, "model.learned=[clearance]"])
    expected = Model(structure="hybrid", initial_scale=0.01, parameters={"clearance": 2.0}, learned=["clearance"])
    assert config.model == expected
    assert replace(config.model, learned=None).start("pk_2c") == (2.0, *TYPICAL[1:])


def test_a_field_is_what_its_description_says():
    assert [restored(described(field)) for field in FIELDS.values()] == list(FIELDS.values())
