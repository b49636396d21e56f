"""A data set to the files of a Croissant folder or zip."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import nonmem, store
from ..errors import ConfigError, DataError
from ..nonmem.reader import KNOWN
from ..nonmem.text import key_of
from ..nonmem.writer import quoted
from ..records import shortest
from .dataset import Dataset, check, identical
from .files import LARGEST, NOTE
from .metadata import describe
from .reader import COLUMNS, COMPARTMENTS, parse


def write(path: Path | str, dataset: Dataset) -> None:
    """Write a zip, where the path ends with `.zip`, or a folder, which is a data set only once all is there.

    Args:
        path: A zip is replaced. A folder must be new or empty.
        dataset: What to write; what is written has been read back in memory, to the last bit.

    Raises:
        DataError: The data set contradicts itself, is too large, or could not be read again as it is.
        ConfigError: The folder holds something, or is none.
        OSError: It cannot be written.
    """
    path = Path(path).expanduser()
    files = render(dataset, str(path))
    if path.suffix.lower() == ".zip":
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a zip, or a folder without .zip")
        store.write_bytes(path, _zipped(files))
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path}: is there, and no empty folder; name a new one, or a zip")
    there = path.exists()
    try:
        for name, content in files.items():  # the note comes last: without it nobody takes the folder for a data set
            store.write_bytes(path / name, content)
    except BaseException:
        with contextlib.suppress(OSError):
            for name in files:
                (path / name).unlink(missing_ok=True)
            if not there:
                path.rmdir()
        raise


def render(dataset: Dataset, place: str = "data set") -> dict[str, bytes]:
    """The files by name, `croissant.json` last; the same data set gives the same bytes.

    Raises:
        DataError: As `write`; `place` is what messages call the data set.
    """
    check(dataset, place)
    table = dataset.table
    initial = zip(*(shortest(column) for column in dataset.initial.T), strict=True)
    headers = {
        "events": list(table.columns),
        "subjects": ["ID", *(f"initial_{compartment.name}" for compartment in dataset.compartments)],
        "compartments": list(COMPARTMENTS),
        "columns": list(COLUMNS),
    }
    texts = {
        "events": nonmem.render(table, missing=""),
        "subjects": _csv(headers["subjects"], ((ID, *row) for ID, row in zip(table.ids, initial, strict=True))),
        "compartments": _csv(COMPARTMENTS, _compartments(dataset)),
        "columns": _csv(COLUMNS, _columns(dataset)),
    }
    try:
        contents = {name: text.encode() for name, text in texts.items()}
        note = json.dumps(describe(dataset, contents, headers), indent=2, ensure_ascii=False) + "\n"
        files = {f"{name}.csv": content for name, content in contents.items()} | {NOTE: note.encode()}
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: {error.object[error.start]!r} is no text in UTF-8") from error
    if (size := sum(map(len, files.values()))) > LARGEST:
        raise DataError(f"{place}: takes {size} bytes, more than the limit of {LARGEST}")
    if not identical(parse(files.__getitem__, place), dataset):
        raise DataError(f"{place}: holds what could not be read again as it is")
    return files


def _compartments(dataset: Dataset) -> Iterable[list[str]]:
    for number, compartment in enumerate(dataset.compartments, 1):
        name, description, *values = compartment
        numbers = ["" if np.isnan(value) else shortest(np.array([value], np.float64))[0] for value in values]
        yield [str(number), name, description, str(int(name == dataset.measured)), *numbers]


def _columns(dataset: Dataset) -> Iterable[tuple[str, str, str]]:
    """Each column once, covariates among themselves in their own order."""
    table, units = dataset.table, dataset.units
    others = [column for column in table.columns if column not in table.covariates]
    for column in (*others, *table.covariates):
        role = "covariate" if column in table.covariates else "event" if key_of(column) in KNOWN else "text"
        yield column, role, units.get(key_of(column), "")


def _csv(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "".join(",".join(map(quoted, row)) + "\n" for row in (header, *rows))


def _zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            entry: Any = zipfile.ZipInfo(name)  # dated 1980: the same content gives the same bytes
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()
