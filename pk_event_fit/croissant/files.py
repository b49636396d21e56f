"""Files of a folder or a zip, read with suspicion: nothing is unpacked, nothing outside is read, digests must fit."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import re
import reprlib
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from ..store import DAMAGE

NOTE = "croissant.json"
LARGEST = 2**30  # bytes of all files, unpacked
MOST = 100_000  # members of a zip

Take = Callable[[str], bytes]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Take]:
    """What gives a file's bytes by its name, as long as the block lasts.

    Raises:
        DataError: There is no such folder or zip, it is too large, or damaged, or a name leads out of it.
    """
    if path.is_dir():
        yield _of_folder(path)
        return
    if not path.is_file():
        raise DataError(f"{path}: there is no such folder or zip (looked from {Path.cwd()})")
    if (size := path.stat().st_size) > LARGEST:
        raise DataError(f"{path}: has {size} bytes, more than the limit of {LARGEST}")
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise DataError(f"{path}: is no folder and no readable zip ({error})") from error
    with archive:
        _check(archive, path)
        yield _of_zip(archive, path)


def _of_folder(path: Path) -> Take:
    inside, left = path.resolve(), LARGEST

    def take(name: str) -> bytes:
        nonlocal left
        try:
            target = (path / plain(name, str(path))).resolve()
            if not target.is_relative_to(inside):  # by a link
                raise DataError(f"{path}: {name!r} leads out of the folder")
            if not target.is_file():
                raise DataError(f"{path}: there is no file {name!r} in it")
            if (size := target.stat().st_size) > left:
                raise DataError(f"{path}: with the {size} bytes of {name!r} it is beyond the limit of {LARGEST}")
            left -= size
            return target.read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {name!r} cannot be read ({error})") from error

    return take


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    if len(entries) > MOST:
        raise DataError(f"{path}: has {len(entries)} members, more than the limit of {MOST}")
    seen: set[str] = set()
    for entry in entries:
        name = plain(entry.orig_filename, str(path))
        what = (
            "is a link" if stat.S_ISLNK(entry.external_attr >> 16)
            else "is encrypted" if entry.flag_bits & 1
            else "is there twice" if name in seen
            else None
        )  # fmt: skip
        if what is not None:
            raise DataError(f"{path}: member {name!r} {what}")
        seen.add(name)
    if (size := sum(entry.file_size for entry in entries)) > LARGEST:
        raise DataError(f"{path}: would unpack to {size} bytes, more than the limit of {LARGEST}")


def _of_zip(archive: zipfile.ZipFile, path: Path) -> Take:
    names = set(archive.namelist())
    notes = [name for name in names if PurePosixPath(name).name == NOTE and name.count("/") < 2]
    # Where a folder was packed, everything lies in that folder.
    root = "" if NOTE in notes else notes[0].removesuffix(NOTE) if len(notes) == 1 else ""

    def take(name: str) -> bytes:
        name = root + plain(name, str(path))
        if name not in names:
            raise DataError(f"{path}: there is no member {name!r} in it")
        try:
            return archive.read(name)
        except DAMAGE as error:
            raise DataError(f"{path}: member {name!r} is damaged ({error})") from error

    return take


def plain(name: str, place: str) -> str:
    """A name of a file below a folder, or DataError."""
    leads = name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name)
    if not name or "\0" in name or leads:
        raise DataError(f"{place}: {reprlib.repr(name)} leads out of the folder")
    if "://" in name:
        raise DataError(f"{place}: {reprlib.repr(name)} lies elsewhere; nothing is downloaded")
    return name


def note_of(take: Take, place: str) -> dict[str, Any]:
    """The content of `croissant.json`.

    Raises:
        DataError: It is missing, cut off, or no JSON object.
    """
    where = f"{place}: {NOTE}"
    try:
        note = json.loads(take(NOTE).decode())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON ({error})") from error
    if not isinstance(note, dict):
        raise DataError(f"{where}: holds no object")
    return note


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """Objects of a list; JSON-LD writes a list of one as that one."""
    found = value if isinstance(value, list) else [] if value is None else [value]
    for entry in found:
        if not isinstance(entry, dict):
            raise DataError(f"{where}: {reprlib.repr(entry)}: needs an object")
    return found


def text_of(entry: dict[str, Any], key: str, where: str) -> str:
    """A text of an object by its key."""
    if not isinstance(found := entry.get(key), str) or not found:
        raise DataError(f"{where}: {key} is {reprlib.repr(found)}; needs a text")
    return found


def rows_of(text: str, where: str) -> list[list[str]]:
    """Rows of CSV, the header among them, each as long as that.

    Raises:
        DataError: It is empty, or no such CSV.
    """
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"{where}: is no CSV ({error})") from error
    if not rows:
        raise DataError(f"{where}: is empty")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(rows[0]):
            raise DataError(f"{where}, row {number}: {len(row)} fields; the header has {len(rows[0])}")
    return rows


def contents(note: dict[str, Any], take: Take, place: str) -> dict[str, tuple[str, str]]:
    """Encoding format and text of every file that the note names, by its `@id`; digests have been checked.

    Raises:
        DataError: A file is missing, is no text, has no digest, or another.
    """
    found: dict[str, tuple[str, str]] = {}
    for entry in objects(note.get("distribution"), f"{place}: {NOTE}: distribution"):
        where = f"{place}: {NOTE}: {reprlib.repr(entry.get('@id'))}"
        if "containedIn" in entry or not str(entry.get("@type")).endswith("FileObject"):
            raise DataError(f"{where}: only files that lie beside {NOTE} are read")
        key, name = text_of(entry, "@id", where), text_of(entry, "contentUrl", where)
        if key in found:
            raise DataError(f"{where}: is there twice")
        content = take(name)
        _check_digest(entry, content, f"{place}: {name}")
        try:
            found[key] = text_of(entry, "encodingFormat", where), content.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{place}: {name}: byte {error.start} is no text in UTF-8") from error
    return found


def _check_digest(entry: dict[str, Any], content: bytes, where: str) -> None:
    told = {kind: entry[kind] for kind in ("sha256", "md5") if kind in entry}
    if not told:
        raise DataError(f"{where}: {NOTE} has no sha256 of it, and no md5")
    for kind, digest in told.items():
        # md5 is what Catalax writes; it tells damage, and nobody's intent.
        own = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
        if own != str(digest).lower():
            raise DataError(f"{where}: its {kind} is {own}, and {NOTE} says {digest}: it was changed, or cut off")
