"""The ends of a fast fit: slopes of smoothed data before any solve, and L-BFGS behind."""

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from phases import MODEL, PARAMS, assert_same, create, rows_of, small, steps

from pk_event_fit import job, record, training
from pk_event_fit.checkpoint import read_checkpoint, write_checkpoint
from pk_event_fit.cli import compose
from pk_event_fit.compartments import lookup
from pk_event_fit.data import Data, load, shown
from pk_event_fit.errors import ConfigError
from pk_event_fit.frameworks import available
from pk_event_fit.training import Phase, matching, shortened
from pk_event_fit.training.matching import slopes_of, smoothed
from pk_event_fit.training.quasi_newton import iterates

TIMES = np.linspace(0.0, 1.0, 60)
MATCH = Phase(optimiser="matching", iterations=3, learning_rate=1e-2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def exactly():
    return create("torchode", precision="float64")


def test_what_is_smooth_is_left_as_it_is():
    """Slopes of a cubic spline through exp(-3 t) err by less than h^3 times the fourth derivative."""
    values, slopes = smoothed(np.exp(-3 * TIMES), TIMES)
    np.testing.assert_allclose(values, np.exp(-3 * TIMES), atol=(1 / 59) ** 4 * 81)
    np.testing.assert_allclose(slopes, -3 * np.exp(-3 * TIMES), atol=(1 / 59) ** 3 * 81)


def test_noise_is_smoothed_away():
    truth = np.sin(3 * TIMES)
    noisy = truth + 0.05 * np.random.default_rng(0).standard_normal((50, 60))
    values, _ = smoothed(noisy, TIMES)
    # A smooth curve has some 5 free numbers in 60, and so sqrt(5 / 60) of the noise.
    assert np.sqrt(((values - truth) ** 2).mean()) < 0.05 * np.sqrt(8 / 60)


def test_a_straight_line_survives_any_noise_free_smoothing():
    values, slopes = smoothed(2.0 + 3.0 * TIMES, TIMES)
    np.testing.assert_allclose(values, 2.0 + 3.0 * TIMES, rtol=1e-9)
    np.testing.assert_allclose(slopes, 3.0, rtol=1e-6)


def test_slopes_are_those_of_the_kinetics(exactly, tmp_path):
    """dA/dt of the simulated kinetics, interval by interval: no spline goes through a dose."""
    cohort = load(Data(subjects=2, points=200, path=str(tmp_path / "c.npz"), covariates=["all"]))
    found = slopes_of(exactly.arrays, MODEL, cohort)
    y, slope, values = (exactly.arrays.to_numpy(leaf) for leaf in (found.states, found.slopes, found.covariates))
    true = np.einsum("nij,nj->ni", lookup("pk_2c").rate_matrix(values), y)
    np.testing.assert_allclose(slope, true, atol=2e-3 * abs(true).max())


def test_subjects_who_are_alike_count_as_one(exactly, tmp_path):
    cohort = load(Data(subjects=5, cv=0.0, points=9, path=str(tmp_path / "c.npz")))
    found = slopes_of(exactly.arrays, MODEL, cohort)
    alone = slopes_of(exactly.arrays, MODEL, cohort.take(np.array([2])))
    for one, other in zip(found[:3], alone[:3], strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)


def test_what_is_infused_is_no_part_of_the_slope(exactly, cohort):
    rate = np.zeros((4, 4, 2))
    rate[2, :, 0] = 7.0
    infused = cohort._replace(intervals=cohort.intervals._replace(rate=rate))
    one, other = (slopes_of(exactly.arrays, MODEL, each).slopes.numpy() for each in (cohort, infused))
    less = (one - other).reshape(4, -1, 2)  # intervals, subjects and points, compartments
    np.testing.assert_allclose(less[2], [[7.0, 0.0]] * len(less[2]), atol=1e-9)
    np.testing.assert_allclose(less[[0, 1, 3]], 0.0, atol=1e-9)


def test_every_framework_matches_the_same(cohort):
    found = {name: [p.loss for p in steps(create(name), cohort, [MATCH])] for name in available()}
    for losses in found.values():
        np.testing.assert_allclose(losses, found["torchode"], rtol=1e-4)  # float32, three steps


def test_of_many_points_some_of_each_place_are_matched(exactly, cohort, monkeypatch):
    whole = slopes_of(exactly.arrays, MODEL, cohort)
    monkeypatch.setattr(matching, "POINTS", len(whole.states) // 5)  # every fifth would be one place of each interval
    some = slopes_of(exactly.arrays, MODEL, cohort)
    rows = [tuple(row) for row in whole.states.tolist()]
    places = {rows.index(tuple(row)) % 5 for row in some.states.tolist()}
    assert (len(some.states), places) == (len(rows) // 5, set(range(5)))


def test_copies_in_a_table_are_refused_as_a_table():
    settings = Data(source="table", dataset="theophylline", compartments=["depot", "central"], measured="central",
                    volume=0.5, augment=1)  # fmt: skip
    cohort = load(settings)
    copied = shown(cohort, np.arange(12), settings).copied
    with pytest.raises(ConfigError, match="the data are a table"):
        matching.refuse(copied)


def test_the_mismatch_is_the_weighted_square(exactly, cohort):
    found = slopes_of(exactly.arrays, MODEL, cohort)
    y, slope, weights = (leaf.numpy() for leaf in found[:3])
    field = np.tanh(y @ PARAMS["weight_0"] + PARAMS["bias_0"]) @ PARAMS["weight_1"] + PARAMS["bias_1"]
    loss = steps(exactly, cohort, [MATCH])[0].loss
    assert loss == pytest.approx((weights * (field - slope) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize("length", [0.5, 0.625, 1])
def test_what_a_length_leaves_out_is_not_matched(exactly, tmp_path, length):
    """Of 48 h: to 24 h, into the third interval to 30 h, and to the second dose."""
    cohort = small(tmp_path, points=13)
    limit = {0.5: 24.0, 0.625: 30.0, 1: 24.0}[length]
    part = shortened(cohort, length)
    later = np.broadcast_to((part.times > limit + 1e-6)[None, ..., None], part.amounts.shape).copy()
    later[:, 2:] |= limit == 24.0
    other = part._replace(amounts=np.where(later, 7.0, part.amounts))
    found, wanted = (slopes_of(exactly.arrays, MODEL, each) for each in (other, part))
    assert len(found.states) == (~later[..., 0]).sum()
    for one, leaf in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(one.numpy(), leaf.numpy())


def missing(cohort, where):
    """The cohort, where nothing was observed there, `[B, S, K]`."""
    seen = np.broadcast_to(~where[..., None], cohort.amounts.shape)
    return cohort._replace(amounts=np.where(seen, cohort.amounts, np.nan), weights=seen.astype(np.float64))


def test_where_points_are_missing_the_others_alone_are_smoothed_and_matched(exactly, tmp_path):
    cohort = small(tmp_path, subjects=2, points=9)
    where = np.zeros(cohort.amounts.shape[:3], bool)
    where[1, 2, [0, 3, 8]] = True
    found = slopes_of(exactly.arrays, MODEL, missing(cohort, where))
    part, grid = cohort.amounts[1, 2, ~where[1, 2]], cohort.grid[~where[1, 2]]
    values, slopes = smoothed(part.T, grid)
    own = slice(2 * 18 + 9, 2 * 18 + 15)  # of the third interval, whose first nine are of the other subject
    np.testing.assert_allclose(found.states.numpy()[own], values.T, rtol=1e-12)
    np.testing.assert_allclose(found.slopes.numpy()[own], slopes.T / 12.0, rtol=1e-12)
    assert len(found.states) == 2 * 4 * 9 - 3
    assert float(found.weights.min()) > 0


def test_an_interval_that_was_not_observed_is_left_out(exactly, tmp_path):
    cohort = small(tmp_path, subjects=2, points=9)
    where = np.zeros(cohort.amounts.shape[:3], bool)
    where[:, 3] = True
    found = slopes_of(exactly.arrays, MODEL, missing(cohort, where))
    wanted = slopes_of(exactly.arrays, MODEL, shortened(cohort, 2))
    for one, other in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_mean_counts_as_often_as_was_observed(exactly, cohort):
    weights = np.ones_like(cohort.amounts)
    weights[2] = 2.0
    found = slopes_of(exactly.arrays, MODEL, cohort._replace(weights=weights))
    wanted = slopes_of(exactly.arrays, MODEL, cohort.take(np.array([0, 1, 2, 2, 3])))
    rows = [np.lexsort(leaf.slopes.numpy().T) for leaf in (found, wanted)]
    for one, other in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one.numpy()[rows[0]], other.numpy()[rows[1]], rtol=1e-12)


def test_an_interval_with_few_points_is_refused(tmp_path):
    cohort = small(tmp_path, points=9)
    where = np.zeros(cohort.amounts.shape[:3], bool)
    where[2, 1, :5] = True
    with pytest.raises(ConfigError, match="of interval 1 somebody has 4"):
        training.check(training.Training(phases=[MATCH]), MODEL, missing(cohort, where), np.arange(4))


def test_a_compartment_that_was_never_observed_is_refused(cohort):
    amounts, weights = cohort.amounts.copy(), np.ones_like(cohort.amounts)
    amounts[..., 1], weights[..., 1] = np.nan, 0.0
    with pytest.raises(ConfigError, match="nowhere were all compartments observed"):
        matching.refuse(cohort._replace(amounts=amounts, weights=weights))


def test_nothing_is_solved(exactly, cohort, monkeypatch):
    monkeypatch.setattr(type(exactly), "solve", lambda *_: pytest.fail("solved"))
    assert steps(exactly, cohort, [MATCH])[-1].iteration == 3


def test_a_table_is_refused_before_the_fit():
    config = compose(["data=indometacin", "training=fast"])
    cohort = load(config.data)
    with pytest.raises(ConfigError, match="the data are a table"):
        training.check(config.training, MODEL, cohort, np.arange(len(cohort.amounts)))


def test_too_few_points_are_refused(tmp_path):
    cohort = small(tmp_path, points=4)
    with pytest.raises(ConfigError, match=r"data\.points=5"):
        training.check(training.Training(phases=[MATCH]), MODEL, cohort, np.arange(4))


def bowl(x):
    return float(((x - 3.0) ** 2 * np.arange(1, 4)).sum()), 2 * (x - 3.0) * np.arange(1, 4)


def test_iterates_lead_to_the_minimum():
    *_, (x, value) = iterates(bowl, np.zeros(3), 50)
    np.testing.assert_allclose(x, 3.0, rtol=1e-7)
    assert value < 1e-12


def test_there_are_no_more_iterates_than_asked():
    assert len(list(iterates(bowl, np.zeros(3), 2))) == 2


def test_what_is_raised_of_a_value_is_raised():
    def broken(x):
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        list(iterates(broken, np.zeros(3), 2))


def test_leaving_early_leaves_no_thread():
    before = threading.active_count()
    walk = iterates(bowl, np.zeros(3), 50)
    next(walk)
    walk.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["diffrax", "torchode"])
def test_lbfgs_goes_down_in_every_iteration(name, cohort):
    framework = create(name, precision="float64")
    progress = steps(framework, cohort, [Phase(optimiser="lbfgs", iterations=4, trains=["*_1"])])
    losses = [p.loss for p in progress]
    assert len(losses) == 4
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert progress[-1].state.best_iteration == 4
    np.testing.assert_array_equal(framework.arrays.to_numpy(progress[-1].state.params["weight_0"]), PARAMS["weight_0"])


def test_lbfgs_tells_the_loss_of_what_it_leaves(exactly, cohort):
    last = steps(exactly, cohort, [Phase(optimiser="lbfgs", iterations=2)])[-1]
    params = {name: exactly.arrays.to_numpy(value) for name, value in last.state.params.items()}
    again = steps(exactly, cohort, [Phase(iterations=1)], training.start(exactly, params))[0]
    assert last.loss == pytest.approx(again.loss, rel=1e-12)


LBFGS = [Phase(iterations=2, learning_rate=1e-2), Phase(optimiser="lbfgs", iterations=4, trains=["*_1"])]
SHAPES = MODEL.shapes(2)


@pytest.fixture(scope="module")
def whole(exactly, cohort):
    """Two iterations by Adam and four by L-BFGS that nothing interrupts."""
    return steps(exactly, cohort, LBFGS)


@pytest.mark.parametrize("stop", [2, 3, 5, 6])
def test_lbfgs_goes_on_to_the_bit_from_the_beginning_of_its_phase(exactly, cohort, whole, stop, tmp_path):
    write_checkpoint(tmp_path / "c.npz", exactly, whole[stop - 1].state, rows_of(whole[:stop]), "data")
    state, _ = read_checkpoint(tmp_path / "c.npz", exactly, SHAPES, "data")
    further = steps(exactly, cohort, LBFGS, state)
    assert [(p.iteration, p.loss) for p in further] == [(p.iteration, p.loss) for p in whole[2:]]
    assert_same(exactly, further[-1].state, whole[-1].state)


def test_lbfgs_goes_on_where_a_checkpoint_of_before_does_not_say_how_it_began(exactly, cohort, whole, tmp_path):
    write_checkpoint(tmp_path / "c.npz", exactly, whole[4].state._replace(first=None), rows_of(whole[:5]), "data")
    state, _ = read_checkpoint(tmp_path / "c.npz", exactly, SHAPES, "data")
    (further,) = steps(exactly, cohort, LBFGS, state)
    params = {name: exactly.arrays.to_numpy(value) for name, value in whole[4].state.params.items()}
    (alone,) = steps(exactly, cohort, [replace(LBFGS[1], iterations=1)], training.start(exactly, params))
    assert (further.iteration, further.loss) == (6, alone.loss)
    assert further.state.first is None


def test_a_run_that_is_interrupted_within_lbfgs_goes_on_to_the_same_bits(tmp_path):
    words = ["framework=torchode", "data.subjects=4", "data.points=5", f"data.path={tmp_path}/cohort.npz",
             "model.hidden=[4]", "accelerator.threads=1", "tracking=disabled", "training.checkpoint_every=1",
             "training.phases=[{iterations:1},{iterations:4,optimiser:lbfgs,trains:['*_1']}]"]  # fmt: skip
    config, add = compose(words), record.Recorder.add

    def stop(self, progress):
        add(self, progress)
        if progress.iteration == 3:
            raise SystemExit

    job.run(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record.Recorder, "add", stop)
        with pytest.raises(SystemExit):
            job.run(config, tmp_path / "parts")
    job.run(replace(config, resume=str(tmp_path / "parts")), tmp_path / "parts")
    for name in ("weights.npz", "predictions.npz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    tables = [np.genfromtxt(tmp_path / name / "history.csv", delimiter=",", names=True) for name in ("parts", "whole")]
    for column in ("iteration", "loss", "gradient_norm", "phase"):
        np.testing.assert_array_equal(tables[0][column], tables[1][column])
    assert [line for line in (tmp_path / "parts" / "log.txt").read_text().splitlines() if line.endswith("begun anew")]
