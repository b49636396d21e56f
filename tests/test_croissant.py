"""Croissant data sets: what is written is read to the bit, what is damaged is refused, and others can read ours."""

import hashlib
import json
import stat
import subprocess
import sys
import zipfile

import mlcroissant
import numpy as np
import pytest
from histories import as_records, histories
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from test_nonmem import EVERY_KIND, same, tables

from pk_event_fit import croissant, data, nonmem, store
from pk_event_fit.cli import compose
from pk_event_fit.compartments import PARAMETERS
from pk_event_fit.config import decided
from pk_event_fit.croissant import Compartment, Dataset, files, writer
from pk_event_fit.croissant.__main__ import main
from pk_event_fit.croissant.reader import parse
from pk_event_fit.data import Data, describe
from pk_event_fit.errors import ConfigError, DataError
from pk_event_fit.job import run

NAN = np.nan
NAMES = ("events.csv", "subjects.csv", "compartments.csv", "columns.csv", "croissant.json")
QUIET = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def dataset(**changed) -> Dataset:
    """Every kind of record, and numbers that are easily lost."""
    table = nonmem.read(EVERY_KIND)
    places = (
        Compartment("depot", 'the "gut",\nor so', 0.1 + 0.2, 0.7),
        Compartment("central", "", 0.0, 1.0, 25.0, 2.5),
    )
    initial = np.array([[0.1 + 0.2, -0.0], [5e-324, 1e22], [0.0, -3.5]])
    whole = Dataset(table, places, initial, "central", {"TIME": "h", "DV": "µg/L", "WT": "kg"}, {"name": "Every kind"})
    return whole._replace(**changed)


def written(**changed):
    return croissant.render(dataset(**changed))


def again(content) -> Dataset:
    return parse(content.__getitem__, "a.zip")


def equal(found: Dataset, wanted: Dataset):
    same(found.table, wanted.table)
    assert found.initial.tobytes() == wanted.initial.tobytes()
    assert repr(found.compartments) == repr(wanted.compartments)  # of NaN too
    assert found[3:] == wanted[3:]


def leaves(value):
    """Every array of a cohort by its place in it, as bytes; what stands in which line of a file is left out."""
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "_asdict"):
        return {
            key: leaves(leaf) for key, leaf in value._asdict().items() if key not in ("line", "extra", "covariates")
        }
    return [leaves(leaf) for leaf in value]


def alike(one, other):
    """Cohorts to the bit, but for columns that no fit sees."""
    plain = [
        cohort._replace(table=cohort.table._replace(table=cohort.table.table._replace(columns=())))
        for cohort in (one, other)
    ]
    assert leaves(plain[0]) == leaves(plain[1])


# Round trips.

finite = st.floats(allow_nan=False, allow_infinity=False)
amounts = st.floats(min_value=0, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
titles = st.text("abZ ,\"'é#=", max_size=4).map(lambda text: f"c{text}e")
places = st.builds(Compartment, titles, texts, amounts, amounts, amounts | st.just(NAN), amounts | st.just(NAN))


@st.composite
def datasets(draw):
    table = draw(tables())
    high = max(3, int(table.records.compartment.max()))
    compartments = draw(st.lists(places, min_size=high, max_size=high, unique_by=lambda place: place.name))
    size = len(table.ids), high
    initial = draw(st.lists(finite, min_size=size[0] * high, max_size=size[0] * high))
    units = draw(st.dictionaries(st.sampled_from([name.upper() for name in table.columns]), texts.filter(bool)))
    about = draw(st.dictionaries(st.sampled_from(["description", "license", "citeAs", "version"]), texts))
    measured = draw(st.none() | st.sampled_from([place.name for place in compartments]))
    named = {"name": draw(titles), **about}
    return Dataset(table, tuple(compartments), np.array(initial).reshape(size), measured, units, named)


@QUIET
@given(datasets())
def test_any_data_set_is_read_as_it_was_written(whole):
    equal(again(croissant.render(whole)), whole)


@pytest.mark.parametrize("name", ["a.zip", "a.ZIP", "folder", "deep/folder"])
def test_a_file_is_read_as_it_was_written(tmp_path, name):
    croissant.write(tmp_path / name, dataset())
    equal(croissant.read(tmp_path / name), dataset())


def test_a_zip_holds_the_same_files_as_a_folder(tmp_path):
    croissant.write(tmp_path / "a.zip", dataset())
    croissant.write(tmp_path / "a", dataset())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}


def test_the_same_data_set_makes_the_same_bytes(tmp_path):
    for name in ("a.zip", "b.zip"):
        croissant.write(tmp_path / name, dataset())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_folder_that_was_packed_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("__MACOSX/._croissant.json", "x")
        for name, content in written().items():
            archive.writestr(f"mine/{name}", content)
    equal(croissant.read(tmp_path / "a.zip"), dataset())


@QUIET
@given(histories(max_doses=8), st.integers(0, 2**32 - 1))
def test_a_table_as_croissant_makes_the_same_cohort(tmp_path, history, seed):
    """Of every kind of history; whatever its doses are made of is told by the file alone."""
    rows, model = history
    found = as_records([rows])
    seen = found.compartment[found.used]
    assume(len(seen))
    random = np.random.default_rng(seed)
    observed = np.where(found.used, random.normal(size=len(rows)), NAN)
    nonmem.write(tmp_path / "a.csv", nonmem.of_records(found._replace(observed=observed), covariates=["WT"]))
    names = [f"c{k}" for k in range(len(model.lag))]
    kept = ("lag", "bioavailability", "modelled_rate", "modelled_duration")
    own = {name: getattr(model, name) for name in kept} | {"compartments": names, "observed_unit": "ug/L"}
    asked = Data(source="table", path=str(tmp_path / "a.csv"), measured=names[int(seen[0]) - 1], **own)
    croissant.write(tmp_path / "a.zip", describe(asked))
    told = Data(source="croissant", path=str(tmp_path / "a.zip"))
    alike(data.load(told), data.load(asked))
    assert data.settled(told).observed_unit == "ug/L"


def test_a_table_that_was_read_from_croissant_is_written_as_it_was():
    assert nonmem.render(again(written()).table) == EVERY_KIND.read_text(encoding="utf-8")


GRIDS = {
    "boluses": {},
    "courses": {
        "doses": [
            {"time": 0, "amount": 100, "every": 12, "count": 4},
            {"time": 50, "amount": 80, "duration": 2, "compartment": 2, "every": 0.1, "count": 3},
            {"reset": 72},
            {"time": 72, "amount": 5},
            {"time": 120, "amount": 3, "every": 2, "count": 2},
        ],
        "end": 96.0,
    },
    "steady": {
        "doses": [
            {"time": 6, "amount": 100, "every": 12, "count": 4, "steady_state": True},
            {"time": 50, "amount": 80, "rate": 10, "every": 6, "count": 2, "steady_state": True},
        ],
        "end": 96.0,
    },
}


@pytest.fixture(params=GRIDS)
def grids(request, tmp_path):
    """A simulated cohort, and what its export makes."""
    asked = Data(path=str(tmp_path / "grid.npz"), subjects=3, points=4, noise_sd=0.1, **GRIDS[request.param])
    croissant.write(tmp_path / "a.zip", describe(asked))
    return data.load(asked), data.load(Data(source="croissant", path=str(tmp_path / "a.zip")))


@pytest.mark.parametrize("name", ["start", "duration", "bolus", "rate", "keep"])
def test_a_grid_keeps_its_intervals(grids, name):
    one, other = (getattr(cohort.intervals, name) for cohort in grids)
    assert leaves(other) == leaves(one)


@pytest.mark.parametrize("name", ["initial", "steady"])
def test_a_grid_keeps_its(grids, name):
    one, other = (getattr(cohort, name) for cohort in grids)
    assert leaves(other) == leaves(one)


def test_a_grid_keeps_its_covariates_and_their_units(tmp_path):
    asked = Data(path=str(tmp_path / "grid.npz"), subjects=3, points=4, covariates=["all"], **GRIDS["courses"])
    dataset = describe(asked)
    croissant.write(tmp_path / "a.zip", dataset)
    one, other = data.load(asked), data.load(Data(source="croissant", path=str(tmp_path / "a.zip"), covariates=["all"]))
    assert (dataset.units["CLEARANCE"], dataset.units["CENTRAL_VOLUME"]) == ("L/h", "L")
    assert other.covariates == one.covariates == PARAMETERS
    assert leaves(other.intervals.covariates) == leaves(one.intervals.covariates)


def test_a_grid_keeps_its_doses_after_the_end(grids):
    one, other = grids
    assert other.ignored == one.ignored * len(one.amounts)


def test_a_grid_keeps_each_amount_in_its_interval(grids):
    one, other = grids
    rows, where = other.table.table.records, other.table.schedule.reports
    assert len(where.record) == one.amounts.size
    # In the order of the file: subject, interval, point, compartment.
    assert rows.observed[where.record].tobytes() == one.amounts.tobytes()
    subjects, spans, points, size = one.amounts.shape
    jumps = (one.intervals.bolus != 0).any((1, 2))
    interval = np.tile(np.repeat(np.arange(spans), points * size), subjects)
    # One on a dose must be on its own side of it; where nothing jumps, either interval will do.
    cuts = jumps[np.maximum(where.interval, interval)]
    np.testing.assert_array_equal(where.interval[cuts], interval[cuts])


def test_covariates_that_are_not_asked_for_are_kept_as_text():
    table = nonmem.read(EVERY_KIND, covariates=())
    found = again(written(table=table, units={}))
    assert (found.table.covariates, found.table.extra["WT"][:2]) == ((), ("70.5", "70.5"))


# What is refused, before anything is written.


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"initial": np.zeros((2, 2))}, r"initial has shape \[2, 2\]; needs finite amounts \[3, 2\]"),
        ({"initial": np.full((3, 2), NAN)}, "needs finite amounts"),
        ({"compartments": (Compartment("a"),), "initial": np.zeros((3, 1)), "measured": "a"}, "row 2: CMT 2: there"),
        ({"compartments": (Compartment("a"), Compartment("a"))}, "needs plain names, all different"),
        ({"compartments": (Compartment("a"), Compartment(" b"))}, "needs plain names"),
        ({"compartments": (Compartment("a", lag=-1.0), Compartment("central"))}, "lag -1.0 of compartment a"),
        ({"compartments": (Compartment("a", bioavailability=NAN), Compartment("central"))}, "bioavailability nan"),
        ({"measured": "liver"}, "measured is liver: choose one of depot, central"),
        ({"units": {"AGE": "a"}}, "unit of AGE: there is no such column"),
        ({"units": {"WT": ""}}, "unit of WT: must not be empty"),
        ({"about": {"name": "a", "author": "b"}}, "about author: choose of name"),
        ({"about": {}}, "a data set needs a name"),
        ({"about": {"name": "\ud800"}}, "no text in UTF-8"),
        ({"compartments": (Compartment("a", "x" * 200_000), Compartment("central"))}, "is no CSV"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_data_set_that_contradicts_itself_is_not_written(tmp_path, changed, told):
    with pytest.raises(DataError, match=told):
        croissant.write(tmp_path / "deep" / "a.zip", dataset(**changed))
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    other = dataset().initial
    other[2, 0] = 5e-324
    monkeypatch.setattr(writer, "parse", lambda *_: dataset(initial=other))
    with pytest.raises(DataError, match="holds what could not be read again as it is"):
        croissant.write(tmp_path / "a.zip", dataset())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_filled_is_as_it_was(tmp_path, monkeypatch, there):
    if there:
        (tmp_path / "a").mkdir()
    real, left = store.write_bytes, iter([True, True, False])

    def full(path, content):
        if not next(left):
            raise OSError("no space left")
        real(path, content)

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        croissant.write(tmp_path / "a", dataset())
    assert sorted(tmp_path.rglob("*")) == ([tmp_path / "a"] if there else [])


@pytest.mark.parametrize("name", ["full", "file", "full.zip"])
def test_a_place_that_is_taken_is_left_alone(tmp_path, name):
    for folder in ("full", "full.zip"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="folder"):
        croissant.write(tmp_path / name, dataset())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def folder(tmp_path):
    croissant.write(tmp_path / "a", dataset())
    return tmp_path / "a"


@pytest.mark.parametrize("name", NAMES[:-1])
@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c + b"\n", lambda c: c.replace(b"e", b"i", 1)], ids="cra"
)
def test_a_file_that_was_changed_is_refused(folder, name, damage):
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(damage(before))
    with pytest.raises(DataError, match=rf"{name}: its sha256 is .* it was changed, or cut off"):
        croissant.read(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"there is no file '{name}' in it"):
        croissant.read(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_note_that_is_cut_off_is_refused(folder, share):
    note = (folder / "croissant.json").read_bytes()
    (folder / "croissant.json").write_bytes(note[: int(share * len(note))])
    with pytest.raises(DataError, match=r"croissant\.json: is not JSON"):
        croissant.read(folder)


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000, '{"distribution": [1]}', '{"distribution": {}}'])
def test_a_note_that_is_something_else_is_refused(folder, text):
    (folder / "croissant.json").write_text(text)
    with pytest.raises(DataError, match=r"croissant\.json"):
        croissant.read(folder)


def noted(folder, **changed):
    """The note with its first file described otherwise; None takes an entry away."""
    note = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    first = {key: value for key, value in {**note["distribution"][0], **changed}.items() if value is not None}
    note["distribution"][0] = first
    (folder / "croissant.json").write_text(json.dumps(note), encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sha256": None}, r"events\.csv: croissant\.json has no sha256 of it, and no md5"),
        ({"sha256": "0" * 64}, "its sha256 is"),
        ({"sha256": 3}, "its sha256 is"),
        ({"md5": "0" * 32}, "its md5 is"),
        ({"contentUrl": None}, "contentUrl is None; needs a text"),
        ({"contentUrl": "../secret.csv"}, r"'\.\./secret\.csv' leads out of the folder"),
        ({"contentUrl": "deep/../../secret.csv"}, "leads out of the folder"),
        ({"contentUrl": "/etc/hostname"}, "leads out of the folder"),
        ({"contentUrl": "..\\secret.csv"}, "leads out of the folder"),
        ({"contentUrl": "C:secret.csv"}, "leads out of the folder"),
        ({"contentUrl": "events.csv\0"}, "leads out of the folder"),
        ({"contentUrl": "link.csv"}, "'link.csv' leads out of the folder"),
        ({"contentUrl": "\ud800.csv"}, "cannot be read|is no file"),
        ({"contentUrl": "https://example.org/events.csv"}, "lies elsewhere; nothing is downloaded"),
        ({"containedIn": {"@id": "a"}}, "only files that lie beside"),
        ({"@type": "cr:FileSet"}, "only files that lie beside"),
        ({"@id": "subjects.csv"}, "'subjects.csv': is there twice"),
        ({"@id": None}, "@id is None; needs a text"),
    ],
    ids=str,
)
def test_a_file_that_must_not_be_read_is_refused(folder, changed, told):
    (folder.parent / "secret.csv").write_text("ID")
    (folder / "link.csv").symlink_to(folder.parent / "secret.csv")
    noted(folder, **changed)
    with pytest.raises(DataError, match=told):
        croissant.read(folder)


def zipped(path, content, **changed):
    """A zip with members that are described otherwise."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changed.items():
                setattr(entry, key, value)
            archive.writestr(entry, text)
    return path


@pytest.mark.parametrize("name", ["../a.csv", "/a.csv", "a/../../b", "..\\a.csv", "C:\\a.csv"])
def test_a_member_that_leads_out_of_a_zip_is_refused(tmp_path, name):
    zipped(tmp_path / "a.zip", [*written().items(), (name, "x")])
    with pytest.raises(DataError, match="leads out of the folder"):
        croissant.read(tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_link_in_a_zip_is_refused(tmp_path):
    zipped(tmp_path / "a.zip", written().items(), external_attr=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(DataError, match=r"member 'events\.csv' is a link"):
        croissant.read(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path):
    zipped(tmp_path / "a.zip", [*written().items(), ("events.csv", "x")])
    with pytest.raises(DataError, match=r"member 'events\.csv' is there twice"):
        croissant.read(tmp_path / "a.zip")


def test_a_zip_that_would_unpack_to_too_much_is_refused_unread(tmp_path, monkeypatch):
    zipped(tmp_path / "a.zip", [*written().items(), ("zeros", b"0" * 1_000_000)])
    monkeypatch.setattr(files, "LARGEST", 900_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"would unpack to 10\d+ bytes, more than the limit of 900000"):
        croissant.read(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_whose_claim_of_its_size_cannot_be_trusted_is_refused(tmp_path, kind):
    zipped(tmp_path / "a.zip", written().items(), compress_type=kind)
    with pytest.raises(DataError, match=r"member 'events\.csv' is packed in another way than deflate"):
        croissant.read(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a", "a.zip"])
def test_a_file_that_is_named_often_counts_as_often(tmp_path, name, monkeypatch):
    content, lines = written(), written()["events.csv"]
    note = json.loads(content["croissant.json"])
    first = next(entry for entry in note["distribution"] if entry["contentUrl"] == "events.csv")
    note["distribution"] += [first | {"@id": f"again-{k}"} for k in range(20)]
    content["croissant.json"] = json.dumps(note).encode()
    if name == "a":
        (tmp_path / "a").mkdir()
        for own, text in content.items():
            (tmp_path / "a" / own).write_bytes(text)
    else:
        zipped(tmp_path / name, content.items())
    monkeypatch.setattr(files, "LARGEST", sum(map(len, content.values())) + 10 * len(lines))
    with pytest.raises(DataError, match=r"with 'events\.csv' it is beyond the limit"):
        croissant.read(tmp_path / name)


def test_a_zip_with_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST", 4)
    with pytest.raises(DataError, match="has 5 members, more than the limit of 4"):
        croissant.read(zipped(tmp_path / "a.zip", written().items()))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", (folder / "croissant.json").stat().st_size + 10)
    monkeypatch.setattr(nonmem, "parse", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"'events\.csv' it is beyond the limit"):
        croissant.read(folder)


@pytest.mark.parametrize("name", ["missing", "missing.zip", "text.zip", "empty.zip"])
def test_what_is_no_data_set_is_refused(tmp_path, name):
    (tmp_path / "text.zip").write_text("no zip")
    zipped(tmp_path / "empty.zip", [])
    with pytest.raises(DataError, match=r"there is no|no readable zip"):
        croissant.read(tmp_path / name)


PACKED = croissant.writer._zipped(written())


@QUIET
@example(at=len(PACKED) - 1)
@given(st.integers(0, len(PACKED) - 1))
def test_a_zip_that_is_cut_off_is_refused(tmp_path, at):
    (tmp_path / "a.zip").write_bytes(PACKED[:at])
    with pytest.raises(DataError):
        croissant.read(tmp_path / "a.zip")


@QUIET
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_zip_with_a_byte_changed_is_refused_or_means_the_same(tmp_path, at, change):
    """There are bytes that mean nothing, such as the hour of a member."""
    spoiled = bytearray(PACKED)
    spoiled[at] ^= change
    (tmp_path / "a.zip").write_bytes(spoiled)
    try:
        found = croissant.read(tmp_path / "a.zip")
    except DataError:
        return
    equal(found, dataset())


@QUIET
@given(st.data())
def test_a_note_with_a_byte_changed_is_refused_or_says_another_text(folder, data):
    """Nothing that a fit depends on stands in the note."""
    content = written()
    at = data.draw(st.integers(0, len(content["croissant.json"]) - 1))
    spoiled = bytearray(content["croissant.json"])
    spoiled[at] ^= data.draw(st.integers(1, 255))
    try:
        found = again({**content, "croissant.json": bytes(spoiled)})
    except (DataError, KeyError):  # a file of another name
        return
    equal(found._replace(about={}), dataset(about={}))


def resealed(**changed):
    """The files with some contents changed, and digests that fit."""
    content = written()
    note = json.loads(content["croissant.json"])
    for entry in note["distribution"]:
        name = entry["@id"].removesuffix(".csv")
        if name in changed:
            content[f"{name}.csv"] = changed[name](content[f"{name}.csv"].decode()).encode()
            entry["sha256"] = hashlib.sha256(content[f"{name}.csv"]).hexdigest()
    return {**content, "croissant.json": json.dumps(note).encode()}


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("subjects", "\n2,", "\n5,", "its IDs are not those of events.csv"),
        ("subjects", "5e-324", "nan", "'nan': must be a finite number"),
        ("subjects", "5e-324", "1_0", "'1_0': must be a finite number"),
        ("subjects", "5e-324", "1e999", "needs finite amounts"),
        ("subjects", "initial_depot", "depot", "its columns are ID, depot"),
        ("subjects", "5e-324,", "", "row 2: 2 fields; the header has 3"),
        ("compartments", "2,central", "3,central", "number '3', measured '1': needs 2"),
        ("compartments", ",0,0.3", ",1,0.3", "one compartment at most"),
        ("compartments", "measured", "seen", "its columns are number, name, description, seen"),
        ("columns", "WT,covariate", "NOTE,covariate", "NOTE 'below the limit': must be a finite number"),
        ("columns", "WT,", "BMI,", "no covariate 'BMI'"),
        ("events", "1,0,1,100,1", "1,0,1,100,9", "CMT 9: there are 2 compartments"),
        ("events", "1,0,1,100,1", "1,0,1,inf,1", "AMT 'inf'"),
    ],
    ids=str,
)
def test_files_that_contradict_each_other_are_refused(name, old, new, told):
    with pytest.raises(DataError, match=told):
        again(resealed(**{name: lambda text: text.replace(old, new, 1)}))


# Catalax.


def catalax(content, kind="application/jsonlines", prefix=True, listed=False):
    """The layout of Catalax's exports, from the rows of each measurement and its initial values."""
    note = {"name": "menten", "distribution": [], "recordSet": []}
    made = {}
    for name, (rows, initial) in content.items():
        text = rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))
        made[f"{name}.jsonl"] = text.encode()
        file = {"@type": "cr:FileObject", "@id": f"{name}_data", "contentUrl": f"{name}.jsonl", "encodingFormat": kind}
        note["distribution"].append(file | {"md5": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()})
        columns = text.splitlines()[0].split(",") if kind == "text/csv" else rows[0]
        source = {"fileObject": {"@id": f"{name}_data"}}
        fields = [{"name": column, "source": source | {"extract": {"column": column}}} for column in columns]
        values = {f"{name}/inits/{key}" if prefix else key: value for key, value in initial.items()}
        inits = {"@id": f"{name}/inits", "field": [], "data": [values] if listed else values}
        note["recordSet"] += [{"@id": name, "field": fields}, inits]
    return made | {"croissant.json": json.dumps(note).encode()}


ONE = [{"s1": 300.1, "p": None, "time": 0.0}, {"s1": NAN, "p": 2.5, "time": 0.1}, {"s1": 1e-7, "p": -0.0, "time": 5}]
TWO = [{"p": 4.0, "time": 1.0}]
MENTEN = {"a-1": (ONE, {"s1": 300.25, "p": 0.5}), "b-2": (TWO, {"s1": 7.0, "p": 3.0})}


@pytest.mark.parametrize("options", [{}, {"prefix": False}, {"listed": True}], ids=str)
def test_initial_values_of_catalax_are_read(options):
    found = again(catalax(MENTEN, **options))
    assert [compartment.name for compartment in found.compartments] == ["s1", "p"]
    assert found.initial.tolist() == [[300.25, 0.5], [7.0, 3.0]]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("subject", [0, 0, 0, 0, 0, 0, 1]),
        ("time", [0, 0, 0.1, 0.1, 5, 5, 1]),
        ("compartment", [1, 2, 1, 2, 1, 2, 2]),
        ("observed", [300.1, NAN, NAN, 2.5, 1e-7, -0.0, 4]),
        ("used", [True, False, False, True, True, True, True]),
        ("kind", [0] * 7),
    ],
)
def test_measurements_of_catalax_are_read_and_what_is_missing_is_masked(name, values):
    np.testing.assert_array_equal(getattr(again(catalax(MENTEN)).table.records, name), values)


def test_a_single_measurement_of_catalax_stands_without_a_list():
    content = catalax({"a": (TWO, {"p": 3.0})})
    note = json.loads(content["croissant.json"])
    note["distribution"] = note["distribution"][0]
    assert again({**content, "croissant.json": json.dumps(note).encode()}).table.ids == ("a",)


def test_measurements_as_csv_are_read():
    text = "time,s1\n0,300.1\n0.30000000000000004,\n"
    found = again(catalax({"a": (text, {"s1": 1.0})}, kind="text/csv")).table.records
    assert (found.time[1], found.observed[0], found.used.tolist()) == (0.1 + 0.2, 300.1, [True, False])


def test_rows_of_a_measurement_come_in_the_order_of_time():
    found = again(catalax({"a": (ONE[::-1], {"s1": 1.0, "p": 0.0})})).table.records
    assert found.time.tolist() == [0, 0, 0.1, 0.1, 5, 5]


def test_what_was_read_of_catalax_is_ours_when_it_is_written():
    found = again(catalax(MENTEN))
    equal(again(croissant.render(found)), found)


def test_a_cohort_of_catalax_begins_with_its_initial_values(tmp_path):
    zipped(tmp_path / "a.zip", catalax(MENTEN).items())
    found = data.load(Data(source="croissant", path=str(tmp_path / "a.zip")))
    assert (found.initial.tolist(), found.compartments) == ([[300.25, 0.5], [7.0, 3.0]], ("s1", "p"))
    assert found.intervals.start[0].tolist() == [0, 1]  # of each, its first row
    assert found.weights.sum() == 5


def spoiled(rows=ONE, initial=None, **options):
    return catalax({"a": (rows, {"s1": 1.0, "p": 2.0} if initial is None else initial)}, **options)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (spoiled(initial={"s1": 1.0}), "a: has no initial value of p"),
        (spoiled(initial={"s1": 1.0, "p": None}), "a/inits: p: must be a finite number"),
        (spoiled(initial={"s1": 1.0, "p": "high"}), "'high': must be a finite number"),
        (spoiled(initial={"s1": 1.0, "p": True}), "True: must be a finite number"),
        (spoiled([*ONE, {"s1": 1, "time": 6}]), "a_data, line 4: there is no p"),
        (spoiled([*ONE, {"s1": 1, "p": "x", "time": 6}]), "a_data, line 4: p 'x': must be a finite number"),
        (spoiled([*ONE, {"s1": 1, "p": np.inf, "time": 6}]), "p inf: must be a finite number"),
        (spoiled([*ONE, {"s1": 1, "p": 1, "time": None}]), "each with a time"),
        (spoiled([*ONE, {"s1": 1, "p": "1_0", "time": 6}]), "p '1_0': must be a finite number"),
        (spoiled([*ONE, {"s1": 1, "p": "-nan", "time": 6}]), "p '-nan': must be a finite number"),
        (spoiled("time,p,p\n0,1,2\n", kind="text/csv"), "a: p: is there twice"),
        (spoiled([*ONE, 5]), "a_data, line 4: holds no object"),
        (spoiled([{"s1": 1, "p": 2}]), "needs the fields time and one or more species"),
        (spoiled([{"time": 1}]), "needs the fields time and one or more species"),
        (spoiled(kind="application/x-parquet"), "is application/x-parquet; JSON lines"),
        ({"croissant.json": b"{}"}, "neither the files of this package nor measurements"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_measurements_that_cannot_be_used_are_refused(content, told):
    with pytest.raises(DataError, match=told):
        again(content)


def test_measurements_that_were_changed_are_refused():
    content = catalax(MENTEN)
    with pytest.raises(DataError, match=r"a-1\.jsonl: its md5 is"):
        again({**content, "a-1.jsonl": content["a-1.jsonl"].replace(b"300", b"301")})


def test_a_measurement_without_initial_values_is_refused():
    content = catalax(MENTEN)
    note = json.loads(content["croissant.json"])
    del note["recordSet"][1]
    with pytest.raises(DataError, match="a-1: has no initial values"):
        again({**content, "croissant.json": json.dumps(note).encode()})


def test_initial_values_without_a_measurement_are_refused():
    content = catalax(MENTEN)
    note = json.loads(content["croissant.json"])
    del note["recordSet"][2]
    with pytest.raises(DataError, match="b-2/inits: has no measurement b-2"):
        again({**content, "croissant.json": json.dumps(note).encode()})


# Settings, and the command.


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"compartments": ["gut", "central"], "measured": "central"}, r"its compartments is \['depot', 'central'\]"),
        ({"lag": [0.0, 0.0]}, "its lag is"),
        ({"modelled_rate": [25.0, 25.0]}, "its modelled_rate is"),
        ({"time_unit": "min"}, "its time_unit is h, and data.time_unit=min"),
        ({"observed_unit": "mg/L"}, "its observed_unit is µg/L, and data.observed_unit=mg/L"),
    ],
    ids=str,
)
def test_settings_that_contradict_the_file_are_refused(folder, asked, told):
    with pytest.raises(DataError, match=told):
        data.load(Data(source="croissant", path=str(folder), **asked))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "needs the path"),
        ({"path": "a", "dataset": "theophylline"}, "needs the path"),
        ({"path": "a", "noise_sd": 1.0}, "leave it 0"),
        ({"path": "a", "compartments": ["a", "b"], "measured": "c"}, "choose one of a, b"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(asked, told):
    with pytest.raises(ConfigError, match=told):
        Data(source="croissant", **asked)


def test_a_comparison_is_refused():
    with pytest.raises(ConfigError, match=r"study\.probes: a comparison needs amounts on a grid"):
        compose(["+experiment=framework_comparison_quick", "data=croissant", "data.path=a"])


def test_the_measured_compartment_may_be_another(folder):
    found = decided(compose(["data=croissant", f"data.path={folder}", "data.measured=depot"]), None).data
    assert (found.measured, found.compartments) == ("depot", ["depot", "central"])


def test_a_decided_config_tells_what_the_file_tells(folder):
    config = decided(compose(["data=croissant", f"data.path={folder}"]), None)
    assert (config.data.lag, config.data.observed_unit) == ([0.1 + 0.2, 0.0], "µg/L")
    assert decided(config, None) == config


def test_initial_amounts_are_divided_as_doses_are(tmp_path):
    table = nonmem.parse("ID,TIME,AMT,DV,WT\n1,0,8,.,4\n1,1,.,2,5\n2,0,8,.,2\n2,1,.,3,2\n", "a.csv")
    whole = Dataset(table, (Compartment("central"),), np.array([[4.0], [6.0]]), None, {}, {"name": "a"})
    croissant.write(tmp_path / "a.zip", whole)
    found = data.load(Data(source="croissant", path=str(tmp_path / "a.zip"), per="WT"))
    assert (found.initial.tolist(), found.intervals.bolus[0].tolist()) == ([[1.0], [3.0]], [[2.0], [4.0]])


def test_a_fit_begins_with_the_initial_amounts_and_is_resumed(tmp_path):
    """Nothing is dosed: without them there would be nothing to fit."""
    zipped(tmp_path / "a.zip", catalax(MENTEN).items())
    words = ["framework=torchode", "data=croissant", f"data.path={tmp_path / 'a.zip'}", "tracking=disabled"]
    run(compose([*words, "training.iterations=1"]), tmp_path / "run")
    run(compose([*words, "training.iterations=2", f"resume={tmp_path / 'run'}"]), tmp_path / "run")
    about = json.loads((tmp_path / "run" / "result.json").read_text())
    with np.load(tmp_path / "run" / "predictions.npz", allow_pickle=False) as found:
        first = found["predicted"][found["times"] == 0]
    assert about["status"] == "completed"
    np.testing.assert_allclose(first, [300.25], rtol=1e-6)


def words_of(tmp_path, *more):
    return [str(tmp_path / "out"), "data=theophylline", *more]


def test_the_command_writes_what_a_fit_would_see(tmp_path, capsys):
    assert main(words_of(tmp_path)) == 0
    assert "12 subjects, 144 rows; compartments depot, central" in capsys.readouterr().out
    told = Data(source="croissant", path=str(tmp_path / "out"), volume=0.5)
    alike(data.load(told), data.load(compose(["data=theophylline"]).data))


def test_the_command_says_what_it_is_told(tmp_path):
    more = ["--license", "CC0-1.0", "--unit", "WT=kg", "--describe", "depot=the gut", "--date", "2026-01-31"]
    assert main(words_of(tmp_path, *more)) == 0
    found = croissant.read(tmp_path / "out")
    assert found.about == {"name": "theophylline", "license": "CC0-1.0", "datePublished": "2026-01-31"}
    assert found.units == {"TIME": "h", "DV": "mg/L", "WT": "kg"}
    assert [compartment.description for compartment in found.compartments] == ["the gut", ""]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--describe", "liver=large"], "--describe liver: there is no such compartment"),
        (["--unit", "AGE=a"], "unit of AGE: there is no such column"),
        (["--unit", "AGE"], "--unit AGE: needs NAME=TEXT"),
        (["data=pk_2c", "--covariates", "WT"], "covariates=WT: is for tables alone"),
        (["data.speed=3"], "data.speed"),
        (["data=nonmem", "data.path=missing.csv"], "there is no such file"),
    ],
    ids=str,
)
def test_a_command_that_is_refused_writes_nothing(tmp_path, capsys, more, told):
    assert main(words_of(tmp_path, *more)) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_another_package_wrote_becomes_ours(tmp_path):
    zipped(tmp_path / "a.zip", catalax(MENTEN).items())
    assert main([str(tmp_path / "b"), "data=croissant", f"data.path={tmp_path / 'a.zip'}"]) == 0
    found, wanted = croissant.read(tmp_path / "b"), croissant.read(tmp_path / "a.zip")
    equal(found, wanted._replace(measured="s1"))


# The format itself.


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "a"
    told = {"license": "CC0-1.0", "citeAs": "Nobody", "version": "1.0.0", "datePublished": "2026-01-31"}
    croissant.write(path, dataset(about={"name": "Every kind", "description": "Rows", **told}))
    return path


def test_the_validator_of_croissant_finds_nothing_to_say(exported):
    line = [sys.executable, "-m", "mlcroissant.scripts.validate", "--jsonld", str(exported / "croissant.json")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=exported)
    assert (done.returncode, "warning" in done.stderr.lower()) == (0, False), done.stderr


def test_names_of_any_kind_validate(tmp_path):
    table = nonmem.parse('ID,TIME,AMT,DV,"a, b/c?#é %"\n1,0,8,.,4\n1,1,.,2,5\n', "a.csv")
    places = (Compartment('the "gut" / <1>, #2', "\n"),)
    croissant.write(tmp_path / "a", Dataset(table, places, np.zeros((1, 1)), None, {}, {"name": "ä: b"}))
    rows = list(mlcroissant.Dataset(tmp_path / "a" / "croissant.json").records("events"))
    assert [row["events/a%2C%20b%2Fc%3F%23%C3%A9%20%25"] for row in rows] == [4, 5]


def test_another_reader_finds_the_same_rows(exported):
    rows = list(mlcroissant.Dataset(exported / "croissant.json").records("events"))
    wanted = dataset().table.records
    for column, name in (("TIME", "time"), ("EVID", "kind"), ("DV", "observed"), ("LLOQ", "limit")):
        found = [NAN if row[f"events/{column}"] is None else row[f"events/{column}"] for row in rows]
        np.testing.assert_array_equal(found, getattr(wanted, name), err_msg=column)
