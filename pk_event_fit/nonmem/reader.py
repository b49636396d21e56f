"""Text to records; see the package for what a table may look like."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..records import DOSE, OBSERVATION, RESET_AND_DOSE, Records, check, shortest
from .text import key_of, split

LARGEST = 2**30  # bytes of a file
KNOWN = ("ID", "TIME", "DV", "AMT", "CMT", "EVID", "MDV", "RATE", "ADDL", "II", "SS", "CENS", "LLOQ")
MISSING = dict.fromkeys(("", ".", "NA", "na"), "nan")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
WHOLE = ("subject", "kind", "compartment", "additional", "steady", "censored", "line")


class Table(NamedTuple):
    """A data set as its file has it.

    Attributes:
        records: The rows, N of them.
        ids: Label of each subject as written in its first row, B of them.
        covariates: Names of the columns of `records.covariates`, C of them, as the header spells them.
        columns: The header, in the file's order.
        extra: Text of the columns that are neither known nor covariates, by name, N rows each. Under `MDV`, that
            column, if it is not 1 in every row where it has no effect (EVID is not 0, or there is no DV).
    """

    records: Records
    ids: tuple[str, ...]
    covariates: tuple[str, ...]
    columns: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]


def read(path: Path, *, covariates: Sequence[str] | None = None, negative: bool = False) -> Table:
    """Read a file.

    Args:
        path: The file, of 1 GiB at most.
        covariates: Which columns are covariates, and in which order; None for those that are numbers, in the file's.
        negative: Whether amounts may be negative.

    Raises:
        DataError: There is no such file, it is too large or no text, or `parse` refuses it.
    """
    path = Path(path).expanduser()
    try:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file (looked from {Path.cwd()})")
        if (size := path.stat().st_size) > LARGEST:
            raise DataError(f"{path}: has {size} bytes, more than the limit of {LARGEST}")
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: byte {error.object[error.start]:#x} is no text in UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return parse(text, str(path), covariates=covariates, negative=negative)


def parse(text: str, name: str, *, covariates: Sequence[str] | None = None, negative: bool = False) -> Table:
    """As `read`, from text; `name` is what messages call the file.

    A covariate that is missing in a row has the value of the subject's row above; before the first value, the first.

    Raises:
        DataError: The header or a row is wrong; names file, line, column and value of the first row that is. Or a
            covariate asked for is not there, or a subject has no value of a covariate.
    """
    columns, rows, lines, fault = split(text, name)
    asked = _asked(covariates, columns, name)
    written = {key_of(column): column for column in columns}
    cells = {key: [row[k].strip() for row in rows] for k, key in enumerate(written)}

    def place(row: int) -> str:
        return f"{name}, line {lines[row]}"

    def told(row: int, key: str) -> str:
        return f"{place(row)}: {written[key]} {reprlib.repr(cells[key][row])}"

    subject, ids, what = _subjects(cells["ID"])
    numbers = {key: _numbers(cells[key], key) for key in written if key in asked or (key in KNOWN and key != "ID")}
    reach = {"ID": len(subject)} | {key: len(values) for key, values in numbers.items()}
    short = min(reach, key=lambda key: reach[key])
    if (end := reach[short]) < len(rows):
        must = {"ID": what, "MDV": "must be 0 or 1"}.get(short, "must be a finite number")
        fault = DataError(f"{told(end, short)}: {must}")
    # What could be read is checked first: something impossible above the row that cannot be read is the first fault.
    records, extra = _records(numbers, subject[:end], np.array(lines[:end], np.int64))
    check(records, place, negative=negative)
    if fault is not None:
        raise fault
    if "AMT" not in cells and (dosed := np.isin(records.kind, (DOSE, RESET_AND_DOSE))).any():
        row = int(dosed.argmax())
        raise DataError(f"{place(row)}: EVID {records.kind[row]:g}: gives a dose, and there is no column AMT")
    chosen = _filled(_recognised(cells) if covariates is None else {key: numbers[key] for key in asked}, subject, told)
    kept = {key: k for k, key in enumerate(written) if key not in KNOWN and key not in chosen}
    extra |= {written[key]: tuple(row[k] for row in rows) for key, k in kept.items()}
    records = records._replace(covariates=np.stack(list(chosen.values()), axis=1) if chosen else None)
    return Table(typed(records), ids, tuple(written[key] for key in chosen), tuple(columns), extra)


def _asked(covariates: Sequence[str] | None, columns: Sequence[str], name: str) -> list[str]:
    others = {key_of(column): column for column in columns if key_of(column) not in KNOWN}
    for covariate in covariates or ():
        if key_of(covariate) not in others:
            raise DataError(f"{name}: no covariate {covariate!r}; there is {', '.join(others.values()) or 'none'}")
    return list(dict.fromkeys(map(key_of, covariates or ())))


def _subjects(labels: list[str]) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Each row's subject and their labels, up to the first row whose ID is wrong; and what is wrong there."""
    begins: list[int] = []
    seen: set[str | Decimal] = set()
    last: str | Decimal | None = None
    end, what = len(labels), ""
    for row in [0, *(k for k, (above, label) in enumerate(pairwise(labels), 1) if label != above)]:
        key = identity(labels[row])
        if is_missing(labels[row]) or (key != last and key in seen):
            what = "comes back after another ID; rows of a subject must be together" if key in seen else "is missing"
            end = row
            break
        if key != last:
            begins.append(row)
            seen.add(key)
            last = key
    subject = np.zeros(end, np.int64)
    subject[begins] = 1
    return np.cumsum(subject) - 1, tuple(labels[row] for row in begins), what


def identity(label: str) -> str | Decimal:
    """What labels of one subject have in common: 1 and 1.0 are one. As floats, long numbers would lose digits."""
    return Decimal(label) if NUMBER.fullmatch(label) else label


def is_missing(text: str) -> bool:
    return text in MISSING or text.lower() == "nan"


def _numbers(texts: list[str], key: str = "") -> np.ndarray:
    """A column as numbers, NaN where it is missing, up to the first text that it must not hold."""
    try:
        joined = "".join(texts)
        if "_" in joined or not joined.isascii():
            raise ValueError("float() would take 1_000, and digits of other scripts")
        values = np.fromiter((float(MISSING.get(text, text)) for text in texts), np.float64, len(texts))
    except ValueError:
        return _numbers(texts[: next(k for k, text in enumerate(texts) if not _is_number(text))], key)
    wrong = np.isinf(values)
    if key == "TIME":
        wrong |= np.isnan(values)
    if key == "MDV":
        wrong |= ~(np.isin(values, (0, 1)) | np.isnan(values))
    return values[: wrong.argmax()] if wrong.any() else values


def _is_number(text: str) -> bool:
    try:
        float(MISSING.get(text, text))
    except ValueError:
        return False
    return "_" not in text and text.isascii()


def _records(
    numbers: dict[str, np.ndarray], subject: np.ndarray, lines: np.ndarray
) -> tuple[Records, dict[str, tuple[str, ...]]]:
    """Known columns, with what holds where they are missing, still as floats; and MDV, if records do not tell it."""

    def column(key: str, default: Any = 0.0) -> np.ndarray:
        values = numbers[key][: len(subject)] if key in numbers else np.full(len(subject), np.nan)
        return np.where(np.isnan(values), default, values)

    amount, rate, observed = column("AMT"), column("RATE"), column("DV", np.nan)
    kind = column("EVID", (amount != 0) | (rate != 0))
    mdv = column("MDV", kind != OBSERVATION)
    used = (kind == OBSERVATION) & (mdv == 0) & ~np.isnan(observed)
    censored = column("CENS") if "CENS" in numbers else None
    limit = column("LLOQ", np.nan) if "LLOQ" in numbers else None
    records = Records(
        subject, column("TIME", np.nan), kind, amount, _compartment(column("CMT"), kind), rate, column("ADDL"),
        column("II"), column("SS"), observed, used, None, censored, limit, lines,
    )  # fmt: skip
    idle = (kind != OBSERVATION) | np.isnan(observed)
    return records, {"MDV": tuple(shortest(mdv))} if "MDV" in numbers and (mdv[idle] != 1).any() else {}


def typed(records: Records) -> Records:
    """Checked records with the types of their columns, and their usual compartments."""
    typed: dict[str, Any] = {}
    for name, values in records._asdict().items():
        dtype: Any = np.int64 if name in WHOLE else bool if name == "used" else np.float64
        typed[name] = None if values is None else np.asarray(values).astype(dtype)
    typed["compartment"] = _compartment(typed["compartment"], typed["kind"])
    return Records(**typed)


def _compartment(compartment: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """CMT with 1 for 0, unless in an observation."""
    return np.where((compartment == 0) & (kind != OBSERVATION), np.ones_like(compartment), compartment)


def _recognised(cells: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """The columns besides the known ones that are numbers in every row that has a value, if one has."""
    found = {}
    for k, (key, texts) in enumerate(cells.items()):
        if key not in KNOWN and (k, key) != (0, "C"):
            values = _numbers(texts)
            if len(values) == len(texts) and not np.isnan(values).all():
                found[key] = values
    return found


def _filled(
    chosen: dict[str, np.ndarray], subject: np.ndarray, told: Callable[[int, str], str]
) -> dict[str, np.ndarray]:
    filled = {key: _carried(values, subject) for key, values in chosen.items()}
    for key, values in filled.items():
        if (none := np.isnan(values)).any():
            raise DataError(f"{told(int(none.argmax()), key)}: no row of this ID has a value")
    return filled


def _carried(values: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """A covariate with each gap filled from above in its subject, else from below; NaN in a subject that has none."""
    count, rows, present = len(values), np.arange(len(values)), ~np.isnan(values)
    above = np.maximum.accumulate(np.where(present, rows, -1))
    below = np.minimum.accumulate(np.where(present, rows, count)[::-1])[::-1]
    source = np.where(above >= np.searchsorted(subject, subject), above, np.minimum(below, count - 1))
    return np.where(subject[source] == subject, values[source], np.nan)
