"""Text to header and fields, whatever stands between them."""

from __future__ import annotations

import csv
import io
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence

from ..errors import DataError


def _remark(line: str) -> bool:
    """Whether a line above the rows is a comment, and not a header behind a `#`."""
    words = re.split(r"[\s,]+", line.strip().lstrip("#").strip().upper())
    return line.lstrip().startswith("#") and not {"ID", "TIME"} <= set(words)


def split(text: str, name: str) -> tuple[list[str], list[list[str]], list[int], DataError | None]:
    """Header, rows and their lines up to the first row that cannot be split; and the error that there is then."""
    if (spot := text.find("\0")) >= 0:
        line = text.count("\n", 0, spot) + 1
        raise DataError(f"{name}, line {line}: holds a NUL character, so it is no text")
    stream = io.StringIO(text.removeprefix("\ufeff"), newline="")
    lines_of = ((k, line) for k, line in enumerate(stream, 1) if line.strip() and not _remark(line))
    above, header = next(lines_of, (1, ""))
    if header.lstrip().startswith("#"):
        header = header.lstrip().lstrip("#")
    delimiter = next((mark for mark in ",\t" if mark in header), None)
    columns = [field.strip() for _, fields in _fields([header], delimiter, name, above) for field in fields]
    check_header(columns, f"{name}, line {above}")
    rows: list[list[str]] = []
    lines: list[int] = []
    fault: DataError | None = None
    comments = columns[0].upper() == "C"
    try:
        for line, fields in _fields(stream, delimiter, name, above + 1):
            first = fields[0].strip() if fields else ""
            if first[:1] == "#" or (comments and first == "C") or (not first and len(fields) < 2):
                continue
            if len(fields) != len(columns):
                told = f"{len(fields)} fields, the last {reprlib.repr(fields[-1])}"
                raise DataError(f"{name}, line {line}: {told}; the header has {len(columns)}, the last {columns[-1]}")
            rows.append(fields)
            lines.append(line)
    except DataError as error:
        fault = error
    if not rows:
        raise fault or DataError(f"{name}: has a header and no rows")
    return columns, rows, lines, fault


def _fields(lines: Iterable[str], delimiter: str | None, name: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """In which line each row begins, counted from `first`, and its fields."""
    if delimiter is None:
        yield from ((number, line.split()) for number, line in enumerate(lines, first))
        return
    reader, number = csv.reader(lines, delimiter=delimiter, strict=True), first
    try:
        for fields in reader:
            yield number, fields
            number = first + reader.line_num
    except csv.Error as error:
        raise DataError(f"{name}, line {number}: cannot be split into fields ({error})") from error


def check_header(columns: Sequence[str], where: str) -> None:
    seen: dict[str, int] = {}
    for number, column in enumerate(columns, 1):
        if not column or column != column.strip() or not column.isprintable() or column.startswith("#"):
            raise DataError(f"{where}: column {number} is named {reprlib.repr(column)}: must be a plain text")
        if (key := key_of(column)) in seen:
            raise DataError(f"{where}: column {number}, {column}, is there as column {seen[key]} already")
        seen[key] = number
    for needed in (("ID",), ("TIME",), ("DV", "AMT")):
        if not seen.keys() & set(needed):
            raise DataError(f"{where}: no column {' or '.join(needed)}; there is {', '.join(columns) or 'nothing'}")


def key_of(column: str) -> str:
    """What columns that mean the same have in common."""
    return "LLOQ" if column.upper() == "LIMIT" else column.upper()
