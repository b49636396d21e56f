"""Files: written whole or not at all, read with suspicion."""

import errno
import io
import json
import os
import re
import struct
import zipfile

import numpy as np
import pytest

from pk_event_fit import store
from pk_event_fit.errors import ConfigError, DataError
from pk_event_fit.tracking import slug

ARRAYS = {
    "amounts": np.arange(6.0).reshape(2, 3),
    "count": np.array([1, 2], np.int32),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 4)),
    "names": np.array(["clearance", "volume"]),
}


def entry(shape, payload=b"", descr="<f8"):
    """The bytes of an `.npy` file whose header may say anything."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + payload


def zipped(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)
    return path


def never_read(monkeypatch):
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("an array was read"))


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_with_its_type_shape_and_bits(tmp_path, name):
    store.write_npz(tmp_path / "a.npz", ARRAYS)
    found = store.read_npz(tmp_path / "a.npz")[0][name]
    wanted = np.asarray(ARRAYS[name])
    assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


def test_the_note_comes_back_with_the_digest(tmp_path):
    digest = store.write_npz(tmp_path / "a.npz", ARRAYS, {"seed": 3, "units": {"amount": "mg"}})
    assert store.read_npz(tmp_path / "a.npz")[1] == {"seed": 3, "units": {"amount": "mg"}, "digest": digest}


def test_the_file_holds_the_arrays_and_the_note_and_nothing_else(tmp_path):
    # NumPy below 2.2 takes `allow_pickle`, which it does not know in `savez`, for the name of one more array.
    store.write_npz(tmp_path / "a.npz", ARRAYS)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert set(archive.namelist()) == {f"{name}.npy" for name in [*ARRAYS, "about"]}


def test_numpy_reads_the_file_without_pickle(tmp_path):
    store.write_npz(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["amounts"], ARRAYS["amounts"])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        store.write_npz(tmp_path / name, ARRAYS, {"seed": 3})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_digest_does_not_depend_on_order_or_memory_layout():
    turned = {name: np.asfortranarray(ARRAYS[name]) for name in reversed(ARRAYS)}
    assert store.digest(turned) == store.digest(ARRAYS)


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.array([1.0, 3.0])},
        {"y": np.array([1.0, 2.0])},
        {"x": np.array([[1.0, 2.0]])},
        {"x": np.array([1.0, 2.0]).view(np.int64)},
    ],
    ids=["value", "name", "shape", "type"],
)
def test_the_digest_sees_every_change(changed):
    assert store.digest(changed) != store.digest({"x": np.array([1.0, 2.0])})


def test_an_object_array_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        store.write_npz(tmp_path / "a.npz", {"x": np.array([{}], object)})
    assert not list(tmp_path.iterdir())


def test_an_object_array_is_refused_and_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "a.npz", x=np.array([Trap()], object))
    with pytest.raises(DataError, match="Python objects"):
        store.read_npz(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


def test_an_object_field_in_a_record_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(1, [("time", float), ("note", object)]))
    with pytest.raises(DataError, match="Python objects"):
        store.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x93NUMPY", b"PK\x05\x06" + bytes(10)])
def test_what_is_no_zip_is_refused_with_its_path(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "a.npz"))):
        store.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["missing.npz", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="not a readable npz file"):
        store.read_npz(tmp_path / name)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    store.write_npz(tmp_path / "a.npz", ARRAYS)
    whole = (tmp_path / "a.npz").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "a.npz").write_bytes(whole[:length])
        with pytest.raises(DataError):
            store.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_flipped_bit_is_refused_or_changes_no_array(tmp_path, compression):
    arrays = {"x": np.arange(60.0), "y": np.arange(4)}
    store.write_npz(tmp_path / "plain.npz", arrays)
    with (
        zipfile.ZipFile(tmp_path / "plain.npz") as plain,
        zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as file,
    ):
        for name in plain.namelist():
            file.writestr(name, plain.read(name))
    assert store.read_npz(tmp_path / "a.npz")[0].keys() == arrays.keys()
    whole = (tmp_path / "a.npz").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "a.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            found, about = store.read_npz(tmp_path / "a.npz")
        except DataError:
            continue
        # A hit in the zip's directory can hide entries: where it hid the note, what is left is right, but not all.
        wanted = arrays if about else {name: arrays[name] for name in found}
        assert store.digest(found) == store.digest(wanted)


def test_a_header_that_promises_more_than_it_holds_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    never_read(monkeypatch)
    with pytest.raises(DataError, match="promises 8000000000000 bytes and holds 8"):
        store.read_npz(zipped(tmp_path / "a.npz", entry((10**12,), bytes(8))))


def test_a_header_that_promises_less_than_it_holds_is_refused(tmp_path):
    with pytest.raises(DataError, match="promises 8 bytes and holds 16"):
        store.read_npz(zipped(tmp_path / "a.npz", entry((1,), bytes(16))))


def test_a_bomb_that_unpacks_to_more_than_the_limit_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    bomb = zipped(tmp_path / "a.npz", entry((10**6,), bytes(8 * 10**6)), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10**5
    monkeypatch.setattr(store, "LIMIT", 10**6)
    never_read(monkeypatch)
    with pytest.raises(DataError, match="more than the limit"):
        store.read_npz(bomb)


def test_one_bad_header_stops_the_good_arrays_from_being_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("good.npy", entry((1,), bytes(8)))
        archive.writestr("bad.npy", entry((10**12,)))
    never_read(monkeypatch)
    with pytest.raises(DataError, match=r"bad\.npy"):
        store.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [
        entry((-1, -1), bytes(8)),
        entry((0, 10**30)),
        entry((10**30,), descr="|V0"),
        entry((True,), bytes(8)),
        b"",
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 12) + b"{'descr': ((",
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 3) + b"[1]",
        b"\x93NUMPY\x09\x00" + bytes(100),
    ],
    ids=["negative", "zero times huge", "huge of nothing", "bool", "no header", "open bracket", "list", "version 9"],
)
def test_an_impossible_header_is_refused(tmp_path, content):
    with pytest.raises(DataError):
        store.read_npz(zipped(tmp_path / "a.npz", content))


def test_a_changed_array_under_the_old_digest_is_refused(tmp_path):
    store.write_npz(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz") as archive:
        content = dict(archive)
    content["amounts"][0, 0] += 1
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match="digest"):
        store.read_npz(tmp_path / "a.npz")


def test_a_changed_note_under_the_old_digest_is_refused(tmp_path):
    """The note says what the arrays mean: doses of a cohort, activation of a model, iteration of a checkpoint."""
    store.write_npz(tmp_path / "a.npz", ARRAYS, {"iteration": 2})
    with np.load(tmp_path / "a.npz") as archive:
        content = dict(archive)
    content["about"] = np.array(str(content["about"]).replace('"iteration": 2', '"iteration": 1'))
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match="digest"):
        store.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("note", ["no JSON", "[1]", "3"])
def test_a_note_that_is_no_json_object_is_refused(tmp_path, note):
    np.savez(tmp_path / "a.npz", about=np.array(note))
    with pytest.raises(DataError, match="about"):
        store.read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, error):
    store.write_npz(tmp_path / "a.npz", {"x": np.zeros(3)})
    before = (tmp_path / "a.npz").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        store.write_npz(tmp_path / "a.npz", ARRAYS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.npz": before}


def test_a_write_goes_to_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    store.write_text(tmp_path / "a.txt", "µg")
    assert order[:2] == ["fsync", "replace"]


def test_missing_folders_are_made(tmp_path):
    store.write_text(tmp_path / "new" / "deep" / "a.txt", "µg")
    assert (tmp_path / "new" / "deep" / "a.txt").read_text(encoding="utf-8") == "µg"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_json_refuses_what_is_no_number(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "a.json", {"rmse": number})
    assert not list(tmp_path.iterdir())


def test_json_keeps_every_bit_of_a_float(tmp_path):
    store.write_json(tmp_path / "a.json", {"rmse": 0.1 + 0.2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"rmse": 0.1 + 0.2}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/x", "...", "", ".hidden", "a b\n\x00|é", "x" * 99, "a\\b"])
def test_a_slug_is_a_harmless_file_name(name):
    assert re.fullmatch(r"(?!\.)[A-Za-z0-9._-]{1,64}", slug(name))


def test_a_slug_keeps_a_harmless_name():
    assert slug("diffrax-seed0_v1.2") == "diffrax-seed0_v1.2"


def test_a_folder_is_held_by_one(tmp_path):
    with store.locked(tmp_path), pytest.raises(ConfigError, match="another process"), store.locked(tmp_path):
        pass


def test_a_folder_is_let_go(tmp_path):
    for _ in range(2):
        with store.locked(tmp_path):
            pass
