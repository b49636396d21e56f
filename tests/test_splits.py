"""Who is fitted and who is held out, and what is hidden of whom."""

import numpy as np
import pytest

from pk_event_fit.data import (
    Data,
    forecast,
    judges,
    k_fold,
    leave_one_out,
    load,
    split,
    summary,
    total_dose,
    train_test_split,
)  # fmt: skip
from pk_event_fit.data.splits import dose_counts
from pk_event_fit.errors import ConfigError

SUBJECTS = 23
INFUSED = {
    "doses": [
        {"time": 2.0, "amount": 50.0, "duration": 4.0, "every": 12.0, "count": 3},
        {"time": 20.0, "amount": 10.0},
    ],
    "end": 48.0,
}


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load(Data(subjects=SUBJECTS, points=3))


def doses(cohort):
    """Total doses of two kinds, in no order."""
    return np.where(np.arange(len(cohort.amounts)) % 3 == 0, 100.0, 200.0)


def halves(parts):
    return np.sort(np.concatenate(parts)).tolist()


SPLITS = {
    "a number": lambda cohort: [train_test_split(cohort, 5, 1)],
    "a share": lambda cohort: [train_test_split(cohort, 0.2, 1)],
    "by dose": lambda cohort: [train_test_split(cohort, 5, 1, doses(cohort))],
    "folds": lambda cohort: k_fold(cohort, 4, 1),
    "folds by dose": lambda cohort: k_fold(cohort, 4, 1, doses(cohort)),
    "one out": leave_one_out,
}


@pytest.mark.parametrize("way", SPLITS)
def test_every_subject_is_fitted_or_held_out(cohort, way):
    assert all(halves(parts) == list(range(SUBJECTS)) for parts in SPLITS[way](cohort))


@pytest.mark.parametrize("way", ["folds", "folds by dose", "one out"])
def test_every_subject_is_held_out_by_one_fold(cohort, way):
    assert halves([parts.test for parts in SPLITS[way](cohort)]) == list(range(SUBJECTS))


@pytest.mark.parametrize("way", ["folds", "folds by dose"])
def test_folds_are_alike_in_size(cohort, way):
    sizes = [len(parts.test) for parts in SPLITS[way](cohort)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("test", "count"), [(5, 5), (0.2, 5), (0, 0)])
def test_as_many_are_held_out_as_is_asked(cohort, test, count):
    assert len(train_test_split(cohort, test, 1).test) == count


@pytest.mark.parametrize("way", ["a number", "by dose", "folds", "folds by dose"])
def test_the_same_seed_gives_the_same_split(cohort, way):
    one, other = SPLITS[way](cohort), SPLITS[way](cohort)
    assert [parts.test.tolist() for parts in one] == [parts.test.tolist() for parts in other]


@pytest.mark.parametrize("ask", [lambda c, seed: train_test_split(c, 8, seed), lambda c, seed: k_fold(c, 3, seed)[0]])
def test_another_seed_gives_another_split(cohort, ask):
    assert ask(cohort, 1).test.tolist() != ask(cohort, 2).test.tolist()


def test_folds_by_dose_share_out_each_dose(cohort):
    given = doses(cohort)
    counts = [
        [int((given[parts.test] == dose).sum()) for dose in (100.0, 200.0)] for parts in k_fold(cohort, 4, 1, given)
    ]
    # 8 and 15 subjects: a block of four neighbours crosses from one dose to the other at most once.
    assert np.ptp(counts, axis=0).max() <= 1


def test_those_held_out_by_dose_have_each_dose_in_its_share(cohort):
    given = np.repeat([100.0, 200.0, 300.0], [8, 8, 7])
    assert sorted(given[train_test_split(cohort, 3, 1, given).test].tolist()) == [100.0, 200.0, 300.0]


def test_folds_by_dose_are_drawn(cohort):
    found = {k_fold(cohort, 4, seed, doses(cohort))[0].test.tobytes() for seed in range(5)}
    assert len(found) == 5


def test_as_many_folds_as_subjects_leave_one_out(cohort):
    settings = Data(subjects=SUBJECTS, folds=SUBJECTS, fold=7)
    assert split(cohort, settings).test.tolist() == [7]


def test_the_settings_fold_is_that_of_the_function(cohort):
    settings = Data(subjects=SUBJECTS, folds=4, fold=2, seed=9)
    assert split(cohort, settings).test.tolist() == k_fold(cohort, 4, 9)[2].test.tolist()


def test_held_out_subjects_are_those_of_former_versions(cohort):
    """Files of runs that are there already say so."""
    order = np.random.Generator(np.random.PCG64([42, 3])).permutation(SUBJECTS)
    assert split(cohort, Data(subjects=SUBJECTS, held_out=6)).test.tolist() == sorted(order[:6].tolist())


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: train_test_split(c, SUBJECTS, 1),
        lambda c: train_test_split(c, -1, 1),
        lambda c: train_test_split(c, 2.5, 1),
        lambda c: train_test_split(c, 1.0, 1),
        lambda c: train_test_split(c, 0.0, 1),
        lambda c: train_test_split(c, -0.2, 1),
        lambda c: train_test_split(c, np.nan, 1),
        lambda c: train_test_split(c, np.float64(3.0), 1),
        lambda c: train_test_split(c, True, 1),
        lambda c: train_test_split(c, "3", 1),
        lambda c: train_test_split(c, 0.01, 1),
        lambda c: train_test_split(c, 0.99, 1),
        lambda c: train_test_split(c, 3, 1, np.zeros(4)),
        lambda c: k_fold(c, 1, 1),
        lambda c: k_fold(c, SUBJECTS + 1, 1),
        lambda c: leave_one_out(c.take(np.array([0]))),
    ],
)
def test_an_impossible_split_is_refused(cohort, ask):
    with pytest.raises(ConfigError):
        ask(cohort)


def test_numbers_of_numpy_are_numbers(cohort):
    assert len(train_test_split(cohort, np.int64(5), 1).test) == len(train_test_split(cohort, np.float32(0.2), 1).test)


def test_those_that_judge_have_each_dose_in_its_share(cohort):
    cohort.intervals.bolus[1] *= np.repeat([1.0, 2.0, 3.0], [8, 8, 7])[:, None]
    found = [judges(np.arange(SUBJECTS), Data(subjects=SUBJECTS, validation=3, stratify=True, seed=seed), cohort)
             for seed in range(10)]  # fmt: skip
    assert all(np.unique(total_dose(cohort)[those]).tolist() == [300.0, 400.0, 500.0] for _, those in found)
    assert all(halves(parts) == list(range(SUBJECTS)) for parts in found)
    assert len({those.tobytes() for _, those in found}) > 1


def test_those_that_judge_are_of_those_that_are_left(cohort):
    left = np.array([3, 5, 8, 13, 21])
    fitted, those = judges(left, Data(subjects=SUBJECTS, validation=2, stratify=True), cohort)
    assert halves((fitted, those)) == left.tolist()
    assert len(those) == 2


def test_those_that_judge_are_those_of_former_versions(cohort):
    """Files of runs that are there already say so."""
    order = np.random.Generator(np.random.PCG64([42, 6])).permutation(SUBJECTS)
    found = judges(np.arange(SUBJECTS), Data(subjects=SUBJECTS, validation=4), cohort)
    assert found[1].tolist() == sorted(order[:4].tolist())


def test_the_total_dose_is_of_boluses_and_infusions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(total_dose(load(Data(subjects=2, points=3, **INFUSED))), [160.0, 160.0], rtol=1e-14)


def test_doses_are_counted_where_they_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = load(Data(subjects=2, points=3, **INFUSED))
    # Infusions from 2 to 6, 14 to 18 and 26 to 30 h, and a bolus at 20 h.
    assert cohort.intervals.start[:, 0].tolist() == [0.0, 2.0, 6.0, 14.0, 18.0, 20.0, 26.0, 30.0]
    assert dose_counts(cohort)[:, 0].tolist() == [0, 1, 1, 2, 2, 3, 4, 4]


BACK_TO_BACK = {"doses": [{"time": 0.0, "amount": 50.0, "duration": 4.0, "every": 4.0, "count": 3}], "end": 24.0}


def test_infusions_back_to_back_are_doses_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = load(Data(subjects=2, points=3, **BACK_TO_BACK))
    assert cohort.intervals.rate[:, 0, 0].tolist() == [12.5, 12.5, 12.5, 0.0]
    assert dose_counts(cohort)[:, 0].tolist() == [1, 2, 3, 3]
    assert dose_counts(cohort.take(np.array([1]))).tolist() == [[1], [2], [3], [3]]
    assert np.isnan(forecast(cohort, 2).amounts).all((-2, -1))[0].tolist() == [False, False, True, True]
    assert summary(cohort)[0].doses == 6


def test_doses_at_one_time_are_one_though_something_is_observed_between(tmp_path):
    rows = "ID,TIME,AMT,DV\n1,0,10,.\n1,2,.,5\n1,4,10,.\n1,4,.,9\n1,4,10,.\n1,5,.,7\n"
    (tmp_path / "a.csv").write_text(rows)
    cohort = load(Data(source="table", path=str(tmp_path / "a.csv"), compartments=["central"], measured="central"))
    assert dose_counts(cohort)[:, 0].tolist() == [1, 2, 2]


def test_a_lagged_dose_of_a_steady_state_is_one(tmp_path):
    (tmp_path / "a.csv").write_text("ID,TIME,AMT,II,SS,DV\n1,0,10,12,1,.\n1,9,.,.,.,7\n1,12,10,.,.,.\n1,20,.,.,.,5\n")
    table = {"source": "table", "path": str(tmp_path / "a.csv"), "compartments": ["central"], "measured": "central"}
    cohort = load(Data(**table, lag=[1.0]))
    assert dose_counts(cohort)[:, 0].tolist() == [0, 1, 2]


def test_an_endless_infusion_that_led_to_a_steady_state_is_a_dose(tmp_path):
    (tmp_path / "a.csv").write_text("ID,TIME,AMT,RATE,SS,DV\n1,0,0,5,1,.\n1,9,.,.,.,7\n1,12,10,.,.,.\n1,20,.,.,.,5\n")
    cohort = load(Data(source="table", path=str(tmp_path / "a.csv"), compartments=["central"], measured="central"))
    assert dose_counts(cohort)[:, 0].tolist() == [1, 2]


def test_a_forecast_hides_what_comes_after_the_next_dose(cohort):
    seen = forecast(cohort, 2)
    np.testing.assert_array_equal(seen.amounts[:, :3], cohort.amounts[:, :3])
    assert np.isnan(seen.amounts[:, 3]).all()
    assert (seen.weights[:, :3] == 1).all()
    assert not seen.weights[:, 3].any()


def test_a_forecast_keeps_doses_and_clocks(cohort):
    for found, wanted in zip(forecast(cohort).intervals, cohort.intervals, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_forecast_has_another_digest(cohort):
    assert len({cohort.digest, forecast(cohort, 1).digest, forecast(cohort, 2).digest}) == 3


def test_each_subject_of_a_table_has_its_own_next_dose(tmp_path):
    text = "ID,TIME,AMT,DV\n1,0,10,.\n1,1,.,5\n1,4,10,.\n1,5,.,7\n2,0,10,.\n2,8,.,3\n2,9,10,.\n2,10,.,6\n"
    (tmp_path / "a.csv").write_text(text)
    cohort = load(Data(source="table", path=str(tmp_path / "a.csv"), compartments=["central"], measured="central"))
    seen = forecast(cohort, 1).amounts
    assert [np.unique(values[np.isfinite(values)]).tolist() for values in seen] == [[5.0], [3.0]]


@pytest.mark.parametrize("known", [3, 9])
def test_nothing_to_foretell_is_refused(cohort, known):
    with pytest.raises(ConfigError, match=rf"data\.forecast={known}: nothing was observed later"):
        forecast(cohort, known)
