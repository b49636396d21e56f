"""Cohorts: what the file holds, what is refused, and what is handed to a fit."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pk_event_fit import store
from pk_event_fit.compartments import PARAMETERS, TYPICAL
from pk_event_fit.data import Data, batches, load
from pk_event_fit.errors import ConfigError, DataError
from pk_event_fit.metrics.accuracy import accuracy
from pk_event_fit.simulate import simulate

DEFAULT = "data/pk_dataset_2C.npz"
SMALL = {"subjects": 3, "points": 5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test in a folder of its own, since the default file is made where one stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def from_file(path="a.npz", **settings):
    return load(Data(source="file", path=str(path), **settings))


def save(path="a.npz", **arrays):
    """A file as anybody makes one."""
    np.savez(path, **arrays)
    return path


@pytest.fixture
def amounts():
    """Amounts of a small simulated cohort, mg, `[3, 4, 5, 2]`."""
    return load(Data(**SMALL)).amounts


def test_the_default_file_is_made_on_first_use(folder):
    load(Data())
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.npz")] == [DEFAULT]


def test_the_default_file_is_the_same_bytes_each_time(folder):
    load(Data())
    first = (folder / DEFAULT).read_bytes()
    (folder / DEFAULT).unlink()
    load(Data())
    assert (folder / DEFAULT).read_bytes() == first


def test_a_file_that_is_there_is_read_and_not_written_again(folder):
    load(Data())
    before = (folder / DEFAULT).stat()
    load(Data())
    after = (folder / DEFAULT).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("all_solutions", "float64", (100, 4, 200, 2)),
        ("times", "float64", (4, 200)),
        ("parameters", "float64", (100, 4)),
        ("dose_times", "float64", (3,)),
        ("dose_amounts", "float64", (3,)),
        ("dose_compartments", "int64", (3,)),
    ],
)
def test_the_default_file_holds(folder, name, dtype, shape):
    load(Data())
    array = store.read_npz(folder / DEFAULT)[0][name]
    assert (array.dtype, array.shape) == (np.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("parameter_names", list(PARAMETERS)),
        ("dose_times", [12.0, 24.0, 36.0]),
        ("dose_amounts", [100.0, 100.0, 100.0]),
        ("dose_compartments", [1, 1, 1]),
    ],
)
def test_the_default_file_says(folder, name, values):
    load(Data())
    assert store.read_npz(folder / DEFAULT)[0][name].tolist() == values


def test_the_default_file_says_units_seed_and_schema(folder):
    load(Data())
    about = store.read_npz(folder / DEFAULT)[1]
    units = {"amount": "mg", "time": "h", **dict(zip(PARAMETERS, ("L/h", "L", "L/h", "L"), strict=True))}
    assert (about["units"], about["seed"], about["schema_version"]) == (units, 42, 1)


def test_the_times_are_those_of_the_solutions(folder):
    load(Data())
    times = store.read_npz(folder / DEFAULT)[0]["times"]
    assert times[:, [0, -1]].tolist() == [[0.0, 12.0], [12.0, 24.0], [24.0, 36.0], [36.0, 48.0]]


def test_each_interval_of_the_file_starts_with_the_state_after_its_dose(folder):
    load(Data())
    solutions = store.read_npz(folder / DEFAULT)[0]["all_solutions"]
    np.testing.assert_array_equal(solutions[:, 1:, 0], solutions[:, :-1, -1] + [100.0, 0.0])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 4), st.integers(2, 6), st.integers(0, 2**32), st.floats(0.0, 0.5),
    st.lists(st.floats(0.0, 1e6), min_size=3, max_size=3),
)  # fmt: skip
def test_any_cohort_is_read_as_it_was_simulated(subjects, points, seed, cv, doses):
    Path("any.npz").unlink(missing_ok=True)
    asked = Data(subjects=subjects, points=points, seed=seed, cv=cv, dose_amounts=doses, covariates=["all"],
                 path="any.npz")  # fmt: skip
    drawn, cohort = simulate(asked, asked), load(asked)
    other = from_file("any.npz", covariates=["all"], seed=seed)
    for found in (cohort, other):
        np.testing.assert_array_equal(found.amounts, drawn.amounts)
        np.testing.assert_array_equal(found.times, drawn.times)
        np.testing.assert_array_equal(found.intervals.covariates[-1], drawn.parameters)
        np.testing.assert_array_equal(found.intervals.bolus[1:, 0, 0], doses)
        assert found.digest == cohort.digest


@pytest.mark.parametrize("settings", [{"subjects": 3}, {"cv": 0.2}, {"seed": 1}, {"points": 5}, {"end": 60.0}], ids=str)
def test_other_settings_get_a_file_of_their_own(folder, settings):
    load(Data(**settings))
    (path,) = (folder / "data").iterdir()
    assert re.fullmatch(r"pk_dataset_2C-[0-9a-f]{12}\.npz", path.name)


def test_noise_needs_no_file_of_its_own(folder):
    load(Data(noise_sd=1.0))
    assert [path.name for path in (folder / "data").iterdir()] == ["pk_dataset_2C.npz"]


def test_the_typical_patient_is_every_subject_without_variation(folder):
    load(Data(cv=0.0, path="typical.npz", **SMALL))
    assert store.read_npz(folder / "typical.npz")[0]["parameters"].tolist() == [list(TYPICAL)] * 3


def test_a_file_made_with_other_settings_is_refused_and_kept(folder):
    load(Data(path="a.npz", **SMALL))
    before = (folder / "a.npz").read_bytes()
    with pytest.raises(DataError, match=r"a\.npz: was made with other settings"):
        load(Data(path="a.npz", subjects=4, points=5))
    assert (folder / "a.npz").read_bytes() == before


def test_a_file_of_somebody_else_is_not_taken_for_simulated(amounts):
    with pytest.raises(DataError, match="other settings"):
        load(Data(path=str(save(all_solutions=amounts)), **SMALL))


def test_a_damaged_simulated_file_is_named_by_its_own_path(folder):
    load(Data(**SMALL))
    (path,) = (folder / "data").iterdir()
    arrays, about = store.read_npz(path)
    about.pop("digest")
    store.write_npz(path, {**arrays, "all_solutions": arrays["all_solutions"] * np.nan}, about)
    with pytest.raises(DataError, match=re.escape(path.name)):
        load(Data(**SMALL))


@pytest.mark.parametrize("name", ["amounts", "initial", "grid", "times"])
def test_a_file_with_solutions_alone_is_the_same_cohort(amounts, name):
    save(all_solutions=amounts)
    np.testing.assert_array_equal(getattr(from_file(), name), getattr(load(Data(**SMALL)), name))


def test_a_file_with_solutions_alone_is_dosed_by_the_settings(amounts):
    save(all_solutions=amounts)
    for found, wanted in zip(from_file().intervals, load(Data(**SMALL)).intervals, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_files_own_doses_are_used(folder):
    load(Data(path="a.npz", dose_times=[6.0], dose_amounts=[30.0], dose_compartments=[2], **SMALL))
    assert from_file("a.npz").intervals.bolus[:, 0].tolist() == [[0.0, 0.0], [0.0, 30.0]]


def test_float32_solutions_are_read_as_float64(amounts):
    save(all_solutions=amounts.astype(np.float32))
    cohort = from_file()
    assert cohort.amounts.dtype == np.float64
    np.testing.assert_array_equal(cohort.amounts, amounts.astype(np.float32))


def test_a_state_before_the_first_dose_is_read(amounts):
    save(all_solutions=amounts + np.array([7.0, 3.0]))
    assert from_file().initial.tolist() == [[7.0, 3.0]] * 3


def test_a_dose_at_the_start_is_not_part_of_the_initial_state():
    cohort = load(Data(dose_times=[0.0], dose_amounts=[50.0], dose_compartments=[1], **SMALL))
    assert cohort.initial.tolist() == [[0.0, 0.0]] * 3


def spoiled(spot, value):
    amounts = np.zeros((3, 4, 5, 2))
    amounts[spot] = value
    return amounts


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        (
            {"solutions": np.zeros((3, 4, 5, 2)), "times": np.zeros(4)},
            "no array 'all_solutions'; it holds solutions, times",
        ),
        ({"all_solutions": np.zeros((3, 4, 5))}, r"shape \[3, 4, 5\]"),
        ({"all_solutions": np.zeros((0, 4, 5, 2))}, r"shape \[0, 4, 5, 2\]"),
        ({"all_solutions": np.zeros((3, 4, 1, 2))}, "two points or more"),
        ({"all_solutions": np.float64(3)}, r"shape \[\]"),
        ({"all_solutions": np.zeros((3, 4, 5, 2), int)}, "int64"),
        ({"all_solutions": np.zeros((3, 4, 5, 2), complex)}, "complex128"),
        ({"all_solutions": np.full((3, 4, 5, 2), "7")}, "<U1"),
        ({"all_solutions": spoiled((2, 1, 4, 1), np.inf)}, r"all_solutions\[2, 1, 4, 1\] is inf"),
        ({"all_solutions": spoiled(1, np.nan)}, "subject 1 has no observation"),
        ({"all_solutions": spoiled((..., 1), np.nan)}, "compartment peripheral has no observation"),
        ({"all_solutions": spoiled((2, 0, 0, 1), np.nan)}, "what subject 2 begins with in peripheral is missing"),
        ({"all_solutions": np.zeros((3, 4, 5, 2)), "initial": np.zeros(2)}, r"initial has shape \[2\]"),
        ({"all_solutions": np.zeros((3, 4, 5, 2)), "initial": spoiled(0, np.inf)[:, 0, 0]}, "initial: what subject 0"),
        ({"all_solutions": spoiled((0, 3, 0, 0), -np.inf)}, r"all_solutions\[0, 3, 0, 0\] is -inf"),
        ({"all_solutions": np.array([{}], object)}, "Python objects"),
    ],
    ids=[
        "name",
        "3-d",
        "empty",
        "one point",
        "scalar",
        "int",
        "complex",
        "text",
        "+inf",
        "nobody",
        "nowhere",
        "start",
        "initial",
        "infinite initial",
        "inf",
        "object",
    ],
)
def test_a_file_that_is_no_cohort_is_refused_with_the_spot(arrays, word):
    save(**arrays)
    with pytest.raises(DataError, match=rf"a\.npz: .*{word}"):
        from_file()


@pytest.mark.parametrize("path", ["missing.npz", "."])
def test_a_file_that_is_not_there_is_refused_with_its_path(path):
    with pytest.raises(DataError, match=re.escape(f"data.path={path}")):
        from_file(path)


def test_a_truncated_file_is_refused(folder, amounts):
    save(all_solutions=amounts)
    (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:-30])
    with pytest.raises(DataError, match="not a readable npz file"):
        from_file()


@pytest.mark.parametrize(
    ("doses", "word"),
    [
        ({"dose_times": [12.0], "dose_amounts": [100.0], "dose_compartments": [1]}, "has 4 intervals, and doses at"),
        ({"dose_amounts": [100.0, 50.0, 100.0]}, r"interval 2 starts 100 mg .* the doses say 50 mg"),
        ({"dose_compartments": [1, 1, 2]}, r"interval 3 starts 100 mg .* compartment 1"),
    ],
    ids=["number", "amount", "compartment"],
)
def test_doses_that_do_not_fit_the_file_are_refused_with_the_spot(amounts, doses, word):
    save(all_solutions=amounts)
    with pytest.raises(DataError, match=word):
        from_file(**doses)


@pytest.mark.parametrize(
    "note",
    [
        "no JSON",
        "[]",
        '{"compartments": 5}',
        '{"compartments": ["one"]}',
    ],
)
def test_a_note_that_makes_no_sense_is_refused(amounts, note):
    save(all_solutions=amounts, about=np.array(note))
    with pytest.raises(DataError, match=r"a\.npz"):
        from_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dose_times", np.array(["a", "b", "c"])),
        ("dose_times", np.array([[12.0, 24.0, 36.0]])),
        ("dose_times", np.array([12.0, np.nan, 36.0])),
        ("dose_amounts", np.array([100.0])),
        ("times", np.array(48.0)),
        ("times", np.linspace(0, 48, 4)[:, None] ** 2 + np.zeros((4, 200))),
    ],
)
def test_doses_or_times_that_make_no_sense_are_refused(amounts, name, value):
    save(**{"all_solutions": amounts, name: value})
    with pytest.raises(DataError, match=r"a\.npz"):
        from_file()


def test_doses_that_a_file_tells_are_taken(amounts):
    save(all_solutions=amounts, dose_times=np.array([6.0, 24.0, 36.0]))
    assert from_file(end=48.0).intervals.start[:, 0].tolist() == [0.0, 6.0, 24.0, 36.0]


def test_doses_that_contradict_the_file_are_refused(amounts):
    save(all_solutions=amounts, dose_times=np.array([6.0, 24.0, 36.0]))
    with pytest.raises(DataError, match="dose_times"):
        from_file(dose_times=[8.0, 24.0, 36.0])


@pytest.mark.parametrize("end", [48.0, 60.0])
def test_the_end_of_a_file_without_times_is_the_one_that_is_set(amounts, end):
    save(all_solutions=amounts, dose_times=np.array([6.0, 24.0, 36.0]))
    assert from_file(end=end).times[-1, -1] == end


def test_the_last_interval_of_a_file_without_times_is_not_stretched_to_the_usual_end(amounts):
    save(all_solutions=amounts, dose_times=np.array([6.0, 24.0, 30.0]))
    with pytest.raises(DataError, match=r"a\.npz: has no times.*set data\.end"):
        from_file()


def test_times_of_a_file_tell_its_end(amounts):
    times = np.linspace([0.0, 6.0, 24.0, 30.0], [6.0, 24.0, 30.0, 31.0], amounts.shape[2], axis=1)
    save(all_solutions=amounts, dose_times=np.array([6.0, 24.0, 30.0]), times=times)
    assert from_file().intervals.duration[:, 0].tolist() == [6.0, 18.0, 6.0, 1.0]


def test_noise_has_the_standard_deviation_asked_for():
    noise = load(Data(noise_sd=3.0)).amounts - load(Data()).amounts
    # 160,000 draws: the standard error is 3 / sqrt(2 n) = 0.2 %; five of them.
    np.testing.assert_allclose([noise.std(), noise.mean()], [3.0, 0.0], atol=5 * 3.0 / (2 * noise.size) ** 0.5, rtol=0)


def test_noise_is_not_in_the_initial_state():
    np.testing.assert_array_equal(load(Data(noise_sd=3.0, **SMALL)).initial, load(Data(**SMALL)).initial)


def test_noise_is_the_same_for_the_same_seed():
    one, other = (load(Data(noise_sd=3.0, **SMALL)).amounts for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_the_digest_is_of_what_is_fitted():
    digests = {load(Data(noise_sd=sd, **SMALL)).digest for sd in (0.0, 3.0)}
    assert len(digests) == 2
    assert load(Data(**SMALL)).digest in digests


def test_an_end_that_a_sum_of_durations_misses_by_rounding_is_taken():
    """(7.2 - 1.1) + 1.1 is less than 7.2."""
    settings = {"dose_times": [1.1], "dose_amounts": [100.0], "dose_compartments": [1], "end": 7.2}
    assert load(Data(**settings, **SMALL)).times[-1, -1] == pytest.approx(7.2, rel=1e-15)


def test_noise_alone_is_no_contradiction_to_the_doses(amounts):
    noise = np.random.default_rng(0).normal(0.0, 20.0, (1, *amounts.shape[1:]))
    save(all_solutions=amounts[:1] + noise)
    assert from_file().amounts.shape[0] == 1


def test_a_dose_after_the_end_is_counted():
    settings = {"dose_times": [12.0, 240.0], "dose_amounts": [100.0] * 2, "dose_compartments": [1, 1]}
    assert load(Data(**settings, **SMALL)).ignored == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"volume": 10.0},
        {"source": "web"},
        {"source": "file"},
        {"noise_sd": -1.0},
        {"noise_sd": np.nan},
        {"noise_sd": np.inf},
        {"cv": -1},
        {"fold": 0},
        {"folds": 1, "fold": 0},
        {"folds": 101, "fold": 0},
        {"folds": 5, "fold": 5},
        {"folds": 5, "fold": 0, "held_out": 1},
        {"forecast": 0},
        {"stratify": True},
        {"augment": -1},
        {"augment_sigma": 0.0},
        {"initial": []},
        {"initial": [-1.0]},
        {"initial": ["much"]},
        {"initial": [[1.0, 2.0, 3.0]]},
        {"initial": [1.0], "source": "file", "path": "a.npz"},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=r"^data\."):
        Data(**settings)


def test_observed_is_in_the_order_of_a_prediction():
    cohort = load(Data(**SMALL))
    assert cohort.observed.shape == (4, 5, 3, 2)
    np.testing.assert_array_equal(cohort.observed[2, 3], cohort.amounts[:, 2, 3])


def test_taken_subjects_come_in_the_order_given():
    cohort = load(Data(noise_sd=1.0, **SMALL))
    chosen = cohort.take(np.array([2, 0]))
    np.testing.assert_array_equal(chosen.amounts, cohort.amounts[[2, 0]])
    np.testing.assert_array_equal(chosen.initial, cohort.initial[[2, 0]])


def test_taken_subjects_keep_their_intervals():
    cohort = load(Data(**SMALL))
    own = cohort.intervals._replace(bolus=cohort.intervals.bolus * np.array([1.0, 2.0, 3.0])[:, None])
    chosen = cohort._replace(intervals=own).take(np.array([2, 0])).intervals
    assert chosen.bolus[1].tolist() == [[300.0, 0.0], [100.0, 0.0]]
    assert (chosen.number.tolist(), chosen.start.shape, chosen.rate) == ([0, 1, 2, 3], (4, 2), None)


def test_without_a_size_every_batch_is_everybody():
    assert batches(5, None, 0)(17).tolist() == [0, 1, 2, 3, 4]


def test_the_batches_of_an_epoch_are_a_permutation():
    select = batches(6, 2, seed=0)
    for epoch in range(4):
        assert sorted(np.concatenate([select(3 * epoch + k) for k in (1, 2, 3)])) == list(range(6))


def test_each_epoch_has_an_order_of_its_own():
    select = batches(50, 50, seed=0)
    assert len({tuple(select(iteration)) for iteration in (1, 2, 3)}) == 3


def test_what_is_left_over_is_left_out():
    select = batches(7, 3, seed=0)
    for epoch in range(4):
        drawn = np.concatenate([select(2 * epoch + k) for k in (1, 2)])
        assert len(set(drawn)) == 6


def test_batches_are_the_same_for_the_same_seed_whatever_was_asked_before():
    one, other = batches(50, 7, seed=3), batches(50, 7, seed=3)
    in_order = [one(k).tolist() for k in range(1, 20)]
    assert [other(k).tolist() for k in range(19, 0, -1)] == in_order[::-1]


def test_batches_differ_by_seed():
    assert batches(50, 50, seed=3)(1).tolist() != batches(50, 50, seed=4)(1).tolist()


def test_a_batch_larger_than_the_cohort_is_refused():
    with pytest.raises(ConfigError, match=r"training\.batch_size=6: the cohort has 5 subjects"):
        batches(5, 6, 0)


def test_the_floor_of_the_original_file_is_known(root):
    path = root.parent / "shared" / "data" / "seed_pk_dataset_2C.npz"
    if not path.exists():
        pytest.skip(f"NOT TESTED: that the original data set loads and has its floor; it belongs at {path}")
    cohort = from_file(path)
    # Known to two decimals.
    assert accuracy(cohort.amounts, cohort.amounts).rmse_floor == pytest.approx(42.37, abs=0.005)


def test_a_note_of_the_file_is_plain_json(folder):
    load(Data(path="a.npz", correlation=np.eye(4).tolist(), **SMALL))
    with np.load(folder / "a.npz", allow_pickle=False) as archive:
        assert json.loads(str(archive["about"]))["population"]["correlation"] == np.eye(4).tolist()
