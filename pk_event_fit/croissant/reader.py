"""A Croissant folder or zip to a data set."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import nonmem
from ..errors import DataError
from ..nonmem.reader import NUMBER
from ..nonmem.text import key_of
from .dataset import ABOUT, Compartment, Dataset, check
from .files import Take, opened
from .measurements import of_measurements
from .note import contents, note_of, rows_of

COMPARTMENTS = (
    "number", "name", "description", "measured", "lag", "bioavailability", "modelled_rate", "modelled_duration"
)  # fmt: skip
COLUMNS = ("column", "role", "unit")
OWN = {"events.csv", "subjects.csv", "compartments.csv", "columns.csv"}


def read(path: Path | str) -> Dataset:
    """Read a folder or a zip, this package's own or one of Catalax; nothing is unpacked or written.

    Raises:
        DataError: There is no such data set, it is damaged, too large, leads elsewhere, or holds what means nothing.
    """
    path = Path(path).expanduser()
    with opened(path) as take:
        return parse(take, str(path))


def parse(take: Take, place: str) -> Dataset:
    """As `read`, from what gives a file's bytes by its name; `place` is what messages call the data set."""
    note = note_of(take, place)
    about = {key: note[key] for key in ABOUT if isinstance(note.get(key), str)}
    files = contents(note, take, place)
    if not OWN <= files.keys():
        return of_measurements(note, files, {"name": place, **about}, place)
    texts = {name.removesuffix(".csv"): files[name][1] for name in OWN}
    columns = _rows(texts["columns"], COLUMNS, f"{place}: columns.csv")
    covariates = [column for column, role, _ in columns if role == "covariate"]
    table = nonmem.parse(texts["events"], f"{place}: events.csv", covariates=covariates, negative=True)
    compartments, measured = _compartments(texts["compartments"], f"{place}: compartments.csv")
    header = ["ID", *(f"initial_{compartment.name}" for compartment in compartments)]
    where = f"{place}: subjects.csv"
    subjects = _rows(texts["subjects"], header, where)
    if tuple(row[0] for row in subjects) != table.ids:
        raise DataError(f"{where}: its IDs are not those of events.csv, in their order")
    initial = [[_number(text, where) for text in row[1:]] for row in subjects]
    units = {key_of(column): unit for column, _, unit in columns if unit}
    shape = len(subjects), len(compartments)
    dataset = Dataset(table, compartments, np.array(initial, np.float64).reshape(shape), measured, units, about)
    check(dataset, place)
    return dataset


def _compartments(text: str, where: str) -> tuple[tuple[Compartment, ...], str | None]:
    rows = _rows(text, COMPARTMENTS, where)
    found, measured = [], []
    for k, (number, name, description, marked, *numbers) in enumerate(rows, 1):
        if number != str(k) or marked not in ("0", "1"):
            raise DataError(f"{where}: row {k}: number {number!r}, measured {marked!r}: needs {k}, and 0 or 1")
        values = (np.nan if not value else _number(value, where) for value in numbers)
        found.append(Compartment(name, description, *values))
        measured += [name] if marked == "1" else []
    if len(measured) > 1:
        raise DataError(f"{where}: measured: one compartment at most is the measured one, not {', '.join(measured)}")
    return tuple(found), measured[0] if measured else None


def _rows(text: str, header: Sequence[str], where: str) -> list[list[str]]:
    """Rows of CSV below a header that must be this one."""
    first, *rows = rows_of(text, where)
    if first != list(header):
        raise DataError(f"{where}: its columns are {', '.join(first)}; needs {', '.join(header)}")
    return rows


def _number(text: str, where: str) -> float:
    if not NUMBER.fullmatch(text):
        raise DataError(f"{where}: {reprlib.repr(text)}: must be a finite number")
    return float(text)
