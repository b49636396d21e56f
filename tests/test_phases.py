"""Fits in phases: what each may set, where the next begins, and what is left out of a short one."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from phases import MODEL, PARAMS, assert_same, create, numbers, rows_of, small, steps

from pk_event_fit import cli, job, store, training
from pk_event_fit.checkpoint import read_checkpoint, write_checkpoint
from pk_event_fit.cli import compose
from pk_event_fit.config import from_dict
from pk_event_fit.data import Data, batch_of, load
from pk_event_fit.errors import CheckpointError, ConfigError
from pk_event_fit.evaluation import read_run
from pk_event_fit.integrate import predict
from pk_event_fit.training import Phase, Training, shortened
from pk_event_fit.training.losses import rates_of

SHAPES = MODEL.shapes(2)
THREE = [
    Phase(iterations=3, learning_rate=1e-2, final_learning_rate=1e-3, length=1),
    Phase(iterations=2, learning_rate=1e-3, batch_size=2, regularisation={"l2": 0.1}),
    Phase(iterations=3, learning_rate=1e-3, trains=["weight_*"]),
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def torchode():
    return create("torchode")


@pytest.fixture(scope="module")
def exactly():
    return create("torchode", precision="float64")


@pytest.fixture(scope="module")
def whole(torchode, cohort):
    """A framework, and an uninterrupted fit of three phases."""
    return torchode, steps(torchode, cohort, THREE)


BAD = {
    "iterations=0": {"iterations": 0},
    "learning_rate=0": {"learning_rate": 0.0},
    "final_learning_rate=inf": {"final_learning_rate": float("inf")},
    "batch_size=0": {"batch_size": 0},
    "length=0": {"length": 0},
    "length=0.0": {"length": 0.0},
    "length=1.5": {"length": 1.5},
    "length=nan": {"length": float("nan")},
    "length=True": {"length": True},
    "regularisation.l1": {"regularisation": {"l1": 1.0}},
    "regularisation.l2=-1": {"regularisation": {"l2": -1.0}},
    "trains=[]": {"trains": []},
    "optimiser=sgd": {"optimiser": "sgd"},
    "batch_size=2: lbfgs": {"optimiser": "lbfgs", "batch_size": 2},
    "regularisation.derivative": {"optimiser": "matching", "regularisation": {"derivative": 1.0}},
}


@pytest.mark.parametrize("told", BAD)
def test_a_bad_value_of_a_phase_is_refused_by_its_name(told):
    with pytest.raises(ConfigError, match=told.replace("[]", r"\[\]")):
        Phase(**BAD[told])


@pytest.mark.parametrize("phases", [[], [{"step": 3}], [{"iterations": 0}]], ids=str)
def test_a_bad_list_of_phases_is_refused(phases):
    with pytest.raises(ConfigError, match=r"training\.phases"):
        Training(phases=phases)


def test_phases_are_a_list_in_yaml_and_on_the_command_line():
    word = "training.phases=[{iterations:5,length:2},{length:0.5,trains:[weight_*],regularisation:{l2:0.1}}]"
    config = compose([word])
    wanted = [Phase(iterations=5, length=2), Phase(length=0.5, trains=["weight_*"], regularisation={"l2": 0.1})]
    assert config.training.phases == wanted


def test_a_config_with_phases_survives_as_a_dictionary():
    config = compose(["training=three_phase"])
    assert from_dict(asdict(config)) == config


@pytest.mark.parametrize(
    ("word", "told"),
    [("{iteration:5}", "iteration"), ("{iterations:1.5}", "iterations"), ("{_target_:os.system}", "_target_"),
     ("{trains:[{a:1}]}", "trains"), ("3", "phases")],
)  # fmt: skip
def test_a_bad_word_for_a_phase_is_refused_in_one_line(word, told):
    with pytest.raises(ConfigError) as caught:
        compose([f"training.phases=[{word}]"])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flat", [{"iterations": 5}, {"learning_rate": 1e-2}, {"batch_size": 2}], ids=str)
def test_what_phases_stand_in_place_of_is_refused_beside_them(flat):
    ((name, value),) = flat.items()
    with pytest.raises(ConfigError, match=rf"training\.{name}={value}: training\.phases"):
        Training(phases=[Phase()], **flat)


@pytest.mark.parametrize("word", ["training.iterations=2000", "++training.learning_rate=1e-3", "training.batch_size=5"])
@pytest.mark.parametrize("phases", ["training=fast", "training=three_phase", "experiment=michaelis_menten"])
def test_a_word_that_phases_would_ignore_is_refused_though_it_were_the_default(word, phases):
    with pytest.raises(ConfigError, match=r"training\.phases is set") as caught:
        compose([phases, word])
    assert word.lstrip("+").partition("=")[0] in str(caught.value)


def test_the_strategy_of_the_guide_grows_in_length_and_its_rates_do_not():
    plan = compose(["training=three_phase"]).training.plan
    assert [phase.iterations for phase in plan] == [1000, 2000, 3000]
    assert sorted(phase.length for phase in plan) == [phase.length for phase in plan]
    assert [phase.learning_rate for phase in plan] == [1e-3, 1e-3, 1e-4]


def test_flat_settings_are_one_phase_to_the_bit(cohort, torchode):
    flat = Training(iterations=4, learning_rate=1e-2, batch_size=2)
    *_, one = training.fit(torchode, MODEL, cohort, flat, training.start(torchode, PARAMS), seed=0)
    *_, other = steps(torchode, cohort, [Phase(iterations=4, learning_rate=1e-2, batch_size=2)])
    assert_same(torchode, one.state, other.state)


def test_iterations_are_counted_through_all_phases(whole):
    _, progress = whole
    assert [p.iteration for p in progress] == list(range(1, 9))
    assert [(p.state.phase, p.state.began) for p in progress] == [(0, 0)] * 3 + [(1, 3)] * 2 + [(2, 5)] * 3


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_fit_goes_on_to_the_bit_within_phases_and_between(whole, cohort, stop, tmp_path):
    framework, progress = whole
    write_checkpoint(tmp_path / "c.npz", framework, progress[stop - 1].state, rows_of(progress[:stop]), "data")
    state, _ = read_checkpoint(tmp_path / "c.npz", framework, SHAPES, "data")
    further = steps(framework, cohort, THREE, state)
    assert [p.loss for p in further] == [p.loss for p in progress[stop:]]
    assert_same(framework, further[-1].state, progress[-1].state)


def test_a_compiled_fit_goes_on_to_the_bit_within_a_phase_and_over_its_end(cohort, tmp_path):
    framework, phases = create("diffrax"), [Phase(iterations=2), Phase(iterations=2, learning_rate=1e-2)]
    progress = steps(framework, cohort, phases)
    write_checkpoint(tmp_path / "c.npz", framework, progress[0].state, rows_of(progress[:1]), "data")
    state, _ = read_checkpoint(tmp_path / "c.npz", framework, SHAPES, "data")
    assert_same(framework, steps(framework, cohort, phases, state)[-1].state, progress[-1].state)


def test_moments_begin_anew_in_each_phase(whole):
    framework, progress = whole
    assert [int(numbers(framework, p.state)[0][".count"]) for p in progress] == [1, 2, 3, 1, 2, 1, 2, 3]


def test_the_best_parameters_begin_anew_in_each_phase(torchode, cohort):
    """The second phase has more to fit, and a higher loss than any of the first."""
    progress = steps(torchode, cohort, [Phase(iterations=3, length=1), Phase(iterations=3, learning_rate=1e-2)])
    assert min(p.loss for p in progress[3:]) > max(p.loss for p in progress[:3])
    assert progress[-1].state.best_iteration >= 3


def test_the_rate_falls_by_half_a_cosine():
    phase = Phase(iterations=5, learning_rate=1.0, final_learning_rate=0.5)
    expected = 0.75 + 0.25 * np.cos(np.pi * np.arange(5) / 4)
    np.testing.assert_allclose([phase.rate(k) for k in range(5)], expected, rtol=1e-15)


def test_a_single_step_has_the_first_rate():
    assert Phase(iterations=1, learning_rate=1.0, final_learning_rate=0.5).rate(0) == 1.0


def test_each_phase_steps_at_its_own_rate(exactly, cohort):
    """Adam's first step is the rate itself, whatever the gradient: its means are the gradient and its square."""
    phases = [Phase(iterations=1, learning_rate=1e-2), Phase(iterations=1, learning_rate=1e-4)]
    states = [p.state for p in steps(exactly, cohort, phases)]
    before = [training.start(exactly, PARAMS), states[0]]
    for one, other, phase in zip(before, states, phases, strict=True):
        moved = max(float(abs(other.params[name] - one.params[name]).max()) for name in PARAMS)
        assert moved == pytest.approx(phase.learning_rate, rel=1e-6)  # eps = 1e-8 beside the gradient


def predicted(framework, cohort, params=PARAMS):
    """`[B, S, K, D]`."""
    placed = {name: framework.arrays.asarray(value) for name, value in params.items()}
    initial, table, _, steady, _ = batch_of(framework.arrays, cohort, None)
    states, _ = predict(framework, MODEL, placed, initial, table, cohort.grid, steady)
    return framework.arrays.to_numpy(states).transpose(2, 0, 1, 3)


def first(framework, cohort, **settings):
    return steps(framework, cohort, [Phase(iterations=1, **settings)])[0]


@pytest.mark.parametrize("doses", [1, 2])
def test_a_number_of_doses_fits_what_comes_before_the_next_alone(exactly, cohort, doses):
    """Of doses at 12, 24 and 36 h; before the first nothing happens."""
    known = doses + 1
    own = (predicted(exactly, cohort)[:, :known] - cohort.amounts[:, :known]) ** 2
    assert first(exactly, cohort, length=doses).loss == pytest.approx(own.mean(), rel=1e-12)


def test_later_intervals_are_not_solved(exactly, cohort):
    assert first(exactly, cohort, length=1).report.accepted.shape[0] == 2
    assert first(exactly, cohort, length=0.5).report.accepted.shape[0] == 2


def test_more_doses_than_there_are_is_all_of_them(exactly, cohort):
    assert first(exactly, cohort, length=3).loss == first(exactly, cohort).loss
    assert first(exactly, cohort, length=9).loss == first(exactly, cohort).loss


def test_an_infusion_is_one_dose_however_many_intervals_it_makes(tmp_path):
    """Infused from 0 to 2 h and from 12 to 14 h: four intervals."""
    rows = ["0,100,50,.", "1,.,.,3", "8,.,.,2", "12,100,50,.", "13,.,.,4", "20,.,.,1"]
    (tmp_path / "infused.csv").write_text("ID,TIME,AMT,RATE,DV\n" + "".join(f"1,{row}\n" for row in rows))
    settings = Data(source="table", path=str(tmp_path / "infused.csv"), compartments=["central"], measured="central")
    part = shortened(load(settings), 1)
    assert part.intervals.duration.tolist() == [[2.0], [10.0]]
    assert sorted(part.amounts[part.weights > 0].tolist()) == [2.0, 3.0]


def test_doses_are_counted_for_each_subject(cohort):
    """The second was never given the dose at 24 h: its first two last to the end."""
    bolus = cohort.intervals.bolus.copy()
    bolus[2, 1] = 0.0
    part = shortened(cohort._replace(intervals=cohort.intervals._replace(bolus=bolus), begun=None), 2)
    assert part.amounts.shape[1] == 4
    wanted = np.ones_like(cohort.amounts)
    wanted[[0, 2, 3], 3] = 0.0
    np.testing.assert_array_equal(part.weights, wanted)


@pytest.mark.parametrize("length", [0.2, 0.125])
def test_a_length_in_which_nothing_happens_is_refused(cohort, length):
    """The first dose comes at 12 of 48 h."""
    with pytest.raises(ConfigError, match=f"length={length}: nothing happens by then"):
        shortened(cohort, length)


def test_a_number_of_doses_for_subjects_without_any_is_refused(cohort):
    table = cohort.intervals._replace(bolus=np.zeros_like(cohort.intervals.bolus))
    nobody = cohort._replace(intervals=table, begun=None)
    with pytest.raises(ConfigError, match="length=1: nothing happens by then"):
        shortened(nobody, 1)
    assert shortened(nobody._replace(initial=np.ones_like(cohort.initial)), 1).amounts.shape == cohort.amounts.shape


def test_one_subject_who_was_infused_is_enough(cohort):
    rate = np.zeros_like(cohort.intervals.bolus)
    rate[0, 3, 0] = 1.0
    infused = cohort._replace(intervals=cohort.intervals._replace(rate=rate))
    assert shortened(infused, 0.25).amounts.shape[1] == 1


def test_a_fraction_that_ends_within_an_interval_leaves_out_what_is_observed_later(exactly, cohort):
    seen = cohort.times <= 18.0
    own = ((predicted(exactly, cohort) - cohort.amounts) ** 2)[:, seen]
    found = first(exactly, cohort, length=0.375)
    assert found.report.accepted.shape[0] == 2
    assert found.loss == pytest.approx(own.mean(), rel=1e-12)


def test_a_fraction_of_a_single_interval_cuts_it(exactly, cohort):
    """9 of 48 h lie in the first interval, whose points are 3 h apart."""
    cohort = cohort._replace(initial=np.full_like(cohort.initial, 50.0))  # else nothing happens there
    part = shortened(cohort, 0.1875)
    assert part.intervals.duration.tolist() == [[9.0] * 4]
    np.testing.assert_allclose(part.grid, [0, 1 / 3, 2 / 3, 1], rtol=1e-15)
    own = (predicted(exactly, cohort)[:, :1, :4] - cohort.amounts[:, :1, :4]) ** 2
    assert first(exactly, cohort, length=0.1875).loss == pytest.approx(own.mean(), rel=1e-3)  # other steps


def test_a_length_without_observations_is_refused(cohort):
    with pytest.raises(ConfigError, match="nothing was observed"):
        shortened(cohort, 0.01)


def test_the_whole_length_is_the_cohort_itself(cohort):
    assert shortened(cohort, 1.0) is cohort


def test_l2_adds_the_mean_square_of_weights_without_biases(exactly, cohort):
    weights = np.concatenate([value.ravel() for name, value in PARAMS.items() if name.startswith("weight")])
    more = first(exactly, cohort, regularisation={"l2": 3.0}).loss - first(exactly, cohort).loss
    assert more == pytest.approx(3.0 * (weights**2).mean(), rel=1e-9)


def test_derivative_adds_the_mean_square_of_the_scaled_field(exactly, cohort):
    states = predicted(exactly, cohort)
    slope = np.tanh(states @ PARAMS["weight_0"] + PARAMS["bias_0"]) @ PARAMS["weight_1"] + PARAMS["bias_1"]
    more = first(exactly, cohort, regularisation={"derivative": 2.0}).loss - first(exactly, cohort).loss
    assert more == pytest.approx(2.0 * ((slope / rates_of(cohort)) ** 2).mean(), rel=1e-9)


def test_the_scale_of_slopes_is_that_of_a_straight_line(cohort):
    line = 3.0 * cohort.times[None, :, :, None] * np.array([1.0, -2.0])
    np.testing.assert_allclose(rates_of(cohort._replace(amounts=line)), [3.0, 6.0], rtol=1e-12)


def test_what_does_not_train_stays_to_the_bit(torchode, cohort):
    *_, last = steps(torchode, cohort, [Phase(iterations=3, trains=["bias_1", "weight_0"])])
    start = training.start(torchode, PARAMS).params
    moved = {name for name in PARAMS if not bool((last.state.params[name] == start[name]).all())}
    assert moved == {"bias_1", "weight_0"}


def test_the_norm_is_of_what_trains(exactly, cohort):
    norms = [first(exactly, cohort, trains=[name]).gradient_norm for name in PARAMS]
    assert np.hypot.reduce(norms) == pytest.approx(first(exactly, cohort).gradient_norm, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"trains": ["weights"]}, "weights"), ({"batch_size": 9}, "batch_size=9"), ({"length": 0.01}, "length=0.01")],
)
def test_a_phase_that_does_not_suit_the_data_is_refused_before_the_fit(cohort, settings, told):
    with pytest.raises(ConfigError, match=told):
        training.check(Training(phases=[Phase(), Phase(**settings)]), MODEL, cohort, np.arange(4))


def test_a_checkpoint_of_before_there_were_phases_is_read(torchode, cohort, tmp_path):
    progress, path = steps(torchode, cohort, [Phase(iterations=2)]), tmp_path / "c.npz"
    write_checkpoint(path, torchode, progress[-1].state, rows_of(progress), "data")
    arrays, note = store.read_npz(path)
    store.write_npz(path, arrays, {key: note[key] for key in note.keys() - {"phase", "began", "digest"}})
    assert_same(torchode, read_checkpoint(path, torchode, SHAPES, "data")[0], progress[-1].state)


def test_a_checkpoint_whose_phase_begins_after_its_end_is_refused(torchode, tmp_path):
    state = training.start(torchode, PARAMS)._replace(began=3)
    write_checkpoint(tmp_path / "c.npz", torchode, state, [], "data")
    with pytest.raises(CheckpointError, match="began at iteration 3 of 0"):
        read_checkpoint(tmp_path / "c.npz", torchode, SHAPES, "data")


@pytest.fixture
def config(tmp_path):
    words = ["framework=torchode", "data.subjects=4", "data.points=5", f"data.path={tmp_path}/cohort.npz",
             "model.hidden=[4]", "accelerator.threads=1", "tracking=disabled", "training.checkpoint_every=1",
             "training.phases=[{iterations:2,length:2},{iterations:2,batch_size:2}]"]  # fmt: skip
    return compose(words)


def test_a_run_that_stops_at_the_end_of_a_phase_goes_on_to_the_same_bits(config, tmp_path):
    job.run(config, tmp_path / "whole")
    one = replace(config, training=replace(config.training, phases=config.training.phases[:1]))
    job.run(one, tmp_path / "parts")
    job.run(replace(config, resume=str(tmp_path / "parts")), tmp_path / "parts")
    for name in ("weights.npz", "predictions.npz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_of_before_with_settings_that_phases_ignored_goes_on_and_is_evaluated(config, tmp_path):
    job.run(config, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("\n  iterations: 2000\n", "\n  iterations: 50\n", 1))
    assert path.read_text() != text
    stored = cli._stored(tmp_path / "run")
    assert (stored.training.phases, read_run(tmp_path / "run").config.training) == (
        config.training.phases,
        config.training,
    )


def test_a_run_tells_its_phases(config, tmp_path):
    job.run(config, tmp_path / "run")
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert rows[0] == "iteration,loss,gradient_norm,step_ms,phase"
    assert [row.split(",")[-1] for row in rows[1:]] == ["1.0", "1.0", "2.0", "2.0"]
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    starts = [line.partition(":")[0] for line in log if line.startswith("phase")]
    whole = [f"phase {k} {what}" for k, end in ((1, 2), (2, 4)) for what in ("of 2", f"left after iteration {end}")]
    assert starts == whole
