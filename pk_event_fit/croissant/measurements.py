"""The layout that Catalax exports: files of measurements, and inline initial values.

Each measurement is a record set whose fields are columns of one file, `time` among them; another record set, of the
same name with `/inits` behind it, has its initial values as inline `data`, by species or by `<measurement>/inits/
<species>`. They hold at the first time of the measurement. There are no doses and no units.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import nonmem
from ..errors import DataError
from ..nonmem.reader import NUMBER
from ..records import OBSERVATION, Records
from .dataset import Compartment, Dataset, check
from .note import objects, rows_of, text_of

INITS = "/inits"
LINES = ("application/jsonlines", "application/jsonl", "application/x-jsonlines", "application/x-ndjson")
MISSING = ("", ".", "NA", "NaN", "nan")


class Measurement(NamedTuple):
    """Time, `[T]`, and what was measured of each species, `[T]` each, NaN where nothing was."""

    time: np.ndarray
    species: dict[str, np.ndarray]


def of_measurements(
    note: Mapping[str, Any], files: Mapping[str, tuple[str, str]], about: dict[str, str], place: str
) -> Dataset:
    """The data set of a note of that layout, one subject a measurement.

    Args:
        note: The content of `croissant.json`.
        files: Encoding format and text of each file, by `@id`.
        about: Texts to go with it.
        place: What messages call the data set.

    Raises:
        DataError: It is of another layout, or a value is missing or no number.
    """
    measured: dict[str, Measurement] = {}
    initial: dict[str, dict[str, float]] = {}
    seen: set[str] = set()
    for entry in objects(note.get("recordSet"), f"{place}: recordSet"):
        name = text_of(entry, "@id", f"{place}: recordSet")
        where = f"{place}: {name}"
        if name in seen:
            raise DataError(f"{where}: is there twice")
        seen.add(name)
        if name.endswith(INITS) and "data" in entry:
            initial[name.removesuffix(INITS)] = _initial(entry, name, where)
        else:
            measured[name] = _measurement(entry, files, where)
    if not measured:
        raise DataError(f"{place}: has neither the files of this package nor measurements with initial values")
    if without := [name for name in measured if name not in initial]:
        raise DataError(f"{place}: {without[0]}: has no initial values ({without[0]}{INITS})")
    if without := [name for name in initial if name not in measured]:
        raise DataError(f"{place}: {without[0]}{INITS}: has no measurement {without[0]}")
    return _dataset(measured, initial, about, place)


def _dataset(
    measured: dict[str, Measurement], initial: dict[str, dict[str, float]], about: dict[str, str], place: str
) -> Dataset:
    names = list(dict.fromkeys(name for key in measured for name in initial[key]))
    for key in measured:
        if lacking := [name for name in (*names, *measured[key].species) if name not in initial[key]]:
            raise DataError(f"{place}: {key}: has no initial value of {lacking[0]}")
    table = nonmem.of_records(_records(list(measured.values()), names), list(measured))
    amounts = np.array([[initial[key][name] for name in names] for key in measured], np.float64)
    compartments = tuple(Compartment(name) for name in names)
    dataset = Dataset(table, compartments, amounts, None, {}, about)
    check(dataset, place)
    return dataset


def _initial(entry: dict[str, Any], name: str, where: str) -> dict[str, float]:
    rows = objects(entry["data"], f"{where}: data")
    if len(rows) != 1:
        raise DataError(f"{where}: data has {len(rows)} rows; needs one")
    found = {key.removeprefix(f"{name}/"): _number(value, f"{where}: {key}") for key, value in rows[0].items()}
    if unknown := [key for key, value in found.items() if np.isnan(value)]:
        raise DataError(f"{where}: {unknown[0]}: must be a finite number")
    return found


def _measurement(entry: dict[str, Any], files: Mapping[str, tuple[str, str]], where: str) -> Measurement:
    columns, sources = {}, set()
    for field in objects(entry.get("field"), f"{where}: field"):
        name = text_of(field, "name", f"{where}: field")
        spot = f"{where}: {name}"
        if name in columns:
            raise DataError(f"{spot}: is there twice")
        source = _object(field, "source", spot)
        sources.add(text_of(_object(source, "fileObject", spot), "@id", spot))
        columns[name] = text_of(_object(source, "extract", spot), "column", spot)
    if len(sources) != 1 or "time" not in columns or len(columns) < 2:
        raise DataError(f"{where}: needs the fields time and one or more species, all of one file")
    if (file := sources.pop()) not in files:
        raise DataError(f"{where}: there is no file {file!r} in the distribution")
    values: dict[str, list[float]] = {name: [] for name in columns}
    for spot, row in _rows(*files[file], f"{where}: {file}"):
        for name, column in columns.items():
            if column not in row:
                raise DataError(f"{spot}: there is no {column}")
            values[name].append(_number(row[column], f"{spot}: {column}"))
    arrays = {name: np.array(column, np.float64) for name, column in values.items()}
    time = arrays.pop("time")
    if not len(time) or np.isnan(time).any():
        raise DataError(f"{where}: needs one or more rows, each with a time")
    order = np.argsort(time, kind="stable")
    return Measurement(time[order], {name: column[order] for name, column in arrays.items()})


def _object(entry: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    if not isinstance(found := entry.get(key), dict):
        raise DataError(f"{where}: {key} is {reprlib.repr(found)}; needs an object")
    return found


def _rows(encoding: str, text: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row's place and its values by column."""
    if encoding == "text/csv":
        header, *rows = rows_of(text, where)
        if len(set(header)) < len(header):
            raise DataError(f"{where}: a column of the header is there twice: {', '.join(header)}")
        for number, values in enumerate(rows, 1):
            yield f"{where}, row {number}", dict(zip(header, values, strict=True))
        return
    if encoding not in LINES:
        raise DataError(f"{where}: is {encoding}; JSON lines (application/jsonlines) and text/csv are read")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        spot = f"{where}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{spot}: is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{spot}: holds no object")
        yield spot, row


def _number(value: Any, where: str) -> float:
    """A number, NaN where it is missing."""
    if value is None or value in MISSING:
        return np.nan
    try:
        if isinstance(value, bool | list | dict) or (isinstance(value, str) and not NUMBER.fullmatch(value)):
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        raise DataError(f"{where} {reprlib.repr(value)}: must be a finite number") from None
    if np.isinf(found):
        raise DataError(f"{where} {reprlib.repr(value)}: must be a finite number")
    return found


def _records(measured: list[Measurement], names: list[str]) -> Records:
    """Every value is a row, those that are missing too; at one time, in the order of the compartments."""
    subject, time, compartment, observed = [], [], [], []
    for number, (times, species) in enumerate(measured):
        own = sorted(species, key=names.index)
        subject.append(np.full(len(times) * len(own), number))
        time.append(np.repeat(times, len(own)))
        compartment.append(np.tile([names.index(name) + 1 for name in own], len(times)))
        observed.append(np.stack([species[name] for name in own], 1).ravel())
    values = np.concatenate(observed)
    none, whole = np.zeros(len(values)), np.zeros(len(values), np.int64)
    return Records(
        np.concatenate(subject), np.concatenate(time), whole + OBSERVATION, none, np.concatenate(compartment), none,
        whole, none, whole, values, ~np.isnan(values),
    )  # fmt: skip
