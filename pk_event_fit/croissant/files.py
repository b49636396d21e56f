"""Files of a folder or a zip, read with suspicion: nothing is unpacked, and nothing outside is read."""

from __future__ import annotations

import contextlib
import re
import reprlib
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..store import DAMAGE

NOTE = "croissant.json"
LARGEST = 2**30  # bytes of all files, unpacked
MOST = 100_000  # members of a zip
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Take = Callable[[str], bytes]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Take]:
    """What gives a file's bytes by its name, as long as the block lasts.

    Raises:
        DataError: There is no such folder or zip, it is too large, or damaged, or a name leads out of it.
    """
    if path.is_dir():
        yield _limited(_of_folder(path), path)
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
        yield _limited(_of_zip(archive, path), path)


def _limited(read: Callable[[str, int], bytes], path: Path) -> Take:
    """All that is read together stays within the limit, a file that is named again counted again."""
    left = LARGEST

    def take(name: str) -> bytes:
        nonlocal left
        content = read(name, left)
        if len(content) > left:
            raise DataError(f"{path}: with {name!r} it is beyond the limit of {LARGEST} bytes")
        left -= len(content)
        return content

    return take


def _of_folder(path: Path) -> Callable[[str, int], bytes]:
    inside = path.resolve()

    def read(name: str, most: int) -> bytes:
        try:
            target = (path / plain(name, str(path))).resolve()
            if not target.is_relative_to(inside):  # by a link
                raise DataError(f"{path}: {name!r} leads out of the folder")
            if not target.is_file():
                raise DataError(f"{path}: there is no file {name!r} in it")
            with target.open("rb") as file:
                return file.read(most + 1)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {name!r} cannot be read ({error})") from error

    return read


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
            # Others unpack a whole member, whatever size it claims.
            else "is packed in another way than deflate" if entry.compress_type not in PACKED
            else "is there twice" if name in seen
            else None
        )  # fmt: skip
        if what is not None:
            raise DataError(f"{path}: member {name!r} {what}")
        seen.add(name)
    if (size := sum(entry.file_size for entry in entries)) > LARGEST:
        raise DataError(f"{path}: would unpack to {size} bytes, more than the limit of {LARGEST}")


def _of_zip(archive: zipfile.ZipFile, path: Path) -> Callable[[str, int], bytes]:
    names = set(archive.namelist())
    notes = [name for name in names if PurePosixPath(name).name == NOTE and name.count("/") < 2]
    # Where a folder was packed, everything lies in that folder.
    root = "" if NOTE in notes else notes[0].removesuffix(NOTE) if len(notes) == 1 else ""

    def read(name: str, most: int) -> bytes:
        name = root + str(PurePosixPath(plain(name, str(path))))
        if name not in names:
            raise DataError(f"{path}: there is no member {name!r} in it")
        try:
            with archive.open(name) as member:
                return member.read(most + 1)
        except DAMAGE as error:
            raise DataError(f"{path}: member {name!r} is damaged ({error})") from error

    return read


def plain(name: str, place: str) -> str:
    """A name of a file below a folder, or DataError."""
    leads = name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name)
    if not name or "\0" in name or leads:
        raise DataError(f"{place}: {reprlib.repr(name)} leads out of the folder")
    if "://" in name:
        raise DataError(f"{place}: {reprlib.repr(name)} lies elsewhere; nothing is downloaded")
    return name
