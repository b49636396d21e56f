"""Noisy copies of subjects: what varies, what does not, and who is never copied."""

import numpy as np
import pytest

from pk_event_fit.data import Data, augment, forecast, load, shown, split
from pk_event_fit.data.cohort import sealed
from pk_event_fit.errors import ConfigError

SMALL = {"subjects": 5, "points": 4}


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load(Data(**SMALL))


@pytest.fixture
def flat(cohort):
    """Everything observed is 2 mg in one compartment and 3 mg in the other."""
    return cohort._replace(amounts=np.broadcast_to([2.0, 3.0], cohort.amounts.shape).copy())


def noise(found, cohort, n):
    """Noise of each copy, `[n, B, S, K, D]`."""
    return found.amounts.reshape(n, *cohort.amounts.shape) - cohort.amounts


def test_the_subjects_themselves_come_first(cohort):
    found = augment(cohort, 3, 0.1, seed=1)
    assert len(found.amounts) == 20
    np.testing.assert_array_equal(found.amounts[:5], cohort.amounts)


def test_it_is_known_whose_copy_each_is(cohort):
    assert augment(cohort, 2, 0.1, seed=1).origin.tolist() == [0, 1, 2, 3, 4] * 3


def test_a_copy_of_copies_stems_from_the_first(cohort):
    once = augment(cohort, 1, 0.1, seed=1, keep=False).take(np.array([3, 1]))
    assert augment(once, 2, 0.1, seed=2, keep=False).origin.tolist() == [3, 1, 3, 1]


@pytest.mark.parametrize(("relative", "size"), [(True, [0.2, 0.3]), (False, [0.1, 0.1])])
def test_the_noise_has_the_deviation_asked_for(flat, relative, size):
    found = noise(augment(flat, 400, 0.1, relative=relative, seed=1, keep=False), flat, 400)
    # 32,000 draws: the standard error of a deviation is 1 / sqrt(2 n), 0.4 %; five of them.
    np.testing.assert_allclose(found.std((0, 1, 2, 3)), size, rtol=0.02)


@pytest.mark.parametrize("axis", range(5), ids=["copy", "subject", "interval", "point", "compartment"])
def test_every_number_has_noise_of_its_own(flat, axis):
    found = noise(augment(flat, 40, 0.1, relative=False, seed=1, keep=False), flat, 40)
    one, other = np.take(found, 0, axis).ravel(), np.take(found, 1, axis).ravel()
    # The correlation of n independent pairs has a deviation of 1 / sqrt(n); five of them.
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / one.size**0.5


@pytest.mark.parametrize(("relative", "size"), [(True, [0.2, 0.3]), (False, [0.1, 0.1])])
def test_a_mean_of_observations_has_the_noise_of_a_mean(flat, relative, size):
    weighted = flat._replace(weights=np.full(flat.amounts.shape, 4.0))
    found = noise(augment(weighted, 400, 0.1, relative=relative, seed=1, keep=False), flat, 400)
    # As above: of four observations the deviation is half.
    np.testing.assert_allclose(found.std((0, 1, 2, 3)), np.array(size) / 2, rtol=0.02)


def test_what_is_missing_stays_missing(cohort):
    seen = forecast(cohort, 1)
    found = augment(seen, 2, 0.1, seed=1)
    np.testing.assert_array_equal(np.isnan(found.amounts), np.tile(np.isnan(seen.amounts), (3, 1, 1, 1)))
    np.testing.assert_array_equal(found.weights, np.tile(seen.weights, (3, 1, 1, 1)))


def test_doses_and_initial_amounts_are_copied(cohort):
    cohort = cohort._replace(initial=np.arange(10.0).reshape(5, 2))
    found = augment(cohort, 2, 0.1, seed=1)
    np.testing.assert_array_equal(found.initial, np.tile(cohort.initial, (3, 1)))
    np.testing.assert_array_equal(found.intervals.bolus, np.tile(cohort.intervals.bolus, (1, 3, 1)))


def test_initial_amounts_vary_where_asked_and_are_never_below_nothing(cohort):
    cohort = cohort._replace(initial=np.full((5, 2), 0.01))
    found = augment(cohort, 50, 1.0, relative=False, seed=1, initial=True)
    np.testing.assert_array_equal(found.initial[:5], cohort.initial)
    assert len(np.unique(found.initial)) > 100
    assert found.initial.min() == 0


def test_the_same_seed_gives_the_same_copies_and_another_others(cohort):
    one, same, other = (augment(cohort, 2, 0.1, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.amounts, same.amounts)
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(("n", "sigma"), [(0, 0.1), (1, 0.0), (1, np.inf), (1, np.nan)])
def test_impossible_copies_are_refused(cohort, n, sigma):
    with pytest.raises(ConfigError, match="augment"):
        augment(cohort, n, sigma, seed=1)


def test_a_fit_without_copies_sees_the_cohort_itself(cohort):
    found = shown(cohort, np.array([0, 2]), Data(**SMALL))
    assert found.seen is found.copied is cohort
    assert found.rows.tolist() == [0, 2]


def test_nothing_is_copied_of_a_subject_that_is_held_out(cohort):
    settings = Data(**SMALL, held_out=2, augment=3)
    parts = split(cohort, settings)
    found = shown(cohort, parts.train, settings)
    assert set(found.copied.origin[found.rows]) == set(parts.train)
    assert found.copied.origin[found.rows].tolist() == parts.train.tolist() * 4


def test_copies_carry_the_doses_of_whom_they_stem_from(cohort):
    cohort.intervals.bolus[1] *= np.arange(1, 6)[:, None]
    found = shown(cohort, np.array([1, 4]), Data(**SMALL, augment=2)).copied
    np.testing.assert_array_equal(found.intervals.bolus, cohort.intervals.bolus[:, found.origin])


def test_the_original_subjects_keep_their_numbers(cohort):
    found = shown(cohort, np.array([1, 4]), Data(**SMALL, augment=2)).copied
    np.testing.assert_array_equal(found.amounts[:5], cohort.amounts)


def test_copies_are_of_what_a_fit_may_see(cohort):
    found = shown(cohort, np.array([1, 4]), Data(**SMALL, augment=2, forecast=2))
    assert np.isnan(found.copied.amounts[:, 3]).all()
    assert np.isfinite(found.copied.amounts[:, :3]).all()


def test_somebody_who_is_fitted_must_have_something_to_foretell(cohort):
    amounts = cohort.amounts.copy()
    amounts[1, 3] = np.nan
    part = cohort._replace(amounts=amounts)
    with pytest.raises(ConfigError, match=r"data\.forecast=2: nothing was observed later of those that are fitted"):
        shown(part, np.array([1]), Data(**SMALL, forecast=2))
    assert np.isnan(shown(part, np.array([1, 2]), Data(**SMALL, forecast=2)).seen.amounts[2, 3]).all()


def test_what_is_fitted_decides_the_digest(cohort):
    asked = [{}, {"augment": 1}, {"augment": 2}, {"augment": 1, "augment_sigma": 0.02}, {"forecast": 1}]
    asked += [{"augment": 1, "augment_relative": False}]
    found = {shown(cohort, np.arange(5), Data(**SMALL, **settings)).copied.digest for settings in asked}
    assert len(found) == len(asked)


def test_how_often_observations_count_decides_the_digest(cohort):
    whole = np.ones(cohort.amounts.shape)
    assert sealed(cohort._replace(weights=whole)).digest != sealed(cohort._replace(weights=2 * whole)).digest


def test_copies_of_logarithms_stay_above_nothing():
    settings = {"source": "table", "dataset": "indometacin", "compartments": ["central"], "measured": "central"}
    cohort = load(Data(**settings, error="log"))
    with pytest.raises(ConfigError, match=r"data\.augment_sigma=5"):
        shown(cohort, np.arange(6), Data(**settings, error="log", augment=2, augment_sigma=5.0))
