"""What `croissant.json` names: files whose digests must fit, and their rows."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import reprlib
from typing import Any

from ..errors import DataError
from .files import NOTE, Take


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
