"""Files of a sweep, read with suspicion: what is in them is what was asked for, or one sentence of complaint."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import DataError

NUMBER, AMOUNT, COUNT, TEXT, FLAG = "a number", "a number from 0", "an integer from 0", "text", "true or false"
ANY = "*"  # stands for every name of a table
LARGEST = 1e100  # beyond any quantity here, and squares of it are still numbers
LIMIT = 64 * 2**20  # bytes; far above what any of these files holds
KEYS = 10_000  # settings of one config


def read_text(path: Path) -> str | None:
    """Text in UTF-8; None where there is no such file.

    Raises:
        DataError: What is there is no file, cannot be read, is too large or is not text; the message is without the
            path.
    """
    try:
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would be waited for without end
            raise DataError("is not a file")
        if path.stat().st_size > LIMIT:
            raise DataError(f"is larger than {LIMIT} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError("is not text in UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error


def read_json(path: Path, shape: Any) -> dict[str, Any] | None:
    """A JSON object of that shape (see `check`); None where there is no such file.

    Raises:
        DataError: It is damaged or of another shape.
    """
    if (text := read_text(path)) is None:
        return None
    try:
        content = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_small)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({str(error) or 'nested too deeply'})") from error
    if not isinstance(content, dict):
        raise DataError("is not a JSON object")
    check(content, shape)
    return content


def check(value: Any, shape: Any, where: str = "") -> None:
    """Compare with a shape: a word above, a list of one shape, or a table of shapes, `ANY` for every name.

    Whatever the shape names may be absent or null; what it does not name may be anything; a list may be empty.

    Raises:
        DataError: The first place that is of another shape.
    """
    if value is None:
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise DataError(f"{where or 'the whole'} is {_short(value)}, not a table")
        for name, inner in value.items():
            if (expected := shape.get(name, shape.get(ANY))) is not None:
                check(inner, expected, f"{where}.{name}" if where else str(name))
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise DataError(f"{where} is {_short(value)}, not a list")
        for k, inner in enumerate(value):
            if inner is None:
                raise DataError(f"{where}[{k}] is null, not a value")
            check(inner, shape[0], f"{where}[{k}]")
    elif not _fits(value, shape):
        raise DataError(f"{where} is {_short(value)}, not {shape}")


def _fits(value: Any, kind: str) -> bool:
    if kind in (TEXT, FLAG):
        return isinstance(value, str if kind == TEXT else bool)
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind == COUNT and not isinstance(value, int)):
        return False
    return kind == NUMBER or value >= 0


def read_settings(path: Path) -> dict[str, Any] | None:
    """A config as one flat table with dotted keys; None where there is no such file.

    Raises:
        DataError: It is damaged.
    """
    if (text := read_text(path)) is None:
        return None
    try:
        # An alias repeats what it stands for; a few lines of them are gigabytes.
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise DataError("holds aliases")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise DataError(f"is not YAML ({' '.join(str(error).split()) or 'nested too deeply'})") from error
    if not isinstance(content, dict) or not content:
        raise DataError("is not a table of settings")
    flat = dict(_flat(content, ""))
    if len(flat) > KEYS:
        raise DataError(f"holds more than {KEYS} settings")
    return flat


def _flat(node: Mapping, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """A table of finite numbers as columns by name; None where there is no such file.

    Raises:
        DataError: It is damaged, holds no row, or lacks a column.
    """
    if (text := read_text(path)) is None:
        return None
    try:
        head, *rows = csv.reader(io.StringIO(text))
        if missing := [name for name in names if name not in head]:
            raise DataError(f"has no column {', '.join(missing)}")
        # A column that is not asked for may have empty cells.
        table = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows], np.float64)
    except (ValueError, csv.Error) as error:
        raise DataError(f"is not a table of numbers ({error})") from error
    if table.ndim != 2 or table.shape[1] != len(head):
        raise DataError("has no rows, or rows of other lengths than its head")
    table = table[:, [head.index(name) for name in names]]
    if not (abs(table) <= LARGEST).all():
        raise DataError("holds a number that is not finite, or too large")
    return dict(zip(names, table.T, strict=True))


def noted(folder: Path, name: str, problems: list[str], reader: Callable[[Path], Any], *, wanted: bool = False) -> Any:
    """What `reader` makes of a file; None, and a sentence more in `problems`, where it is damaged (or missing)."""
    try:
        content = reader(folder / name)
    except DataError as error:
        problems.append(f"{name}: {error}")
        return None
    if content is None and wanted:
        problems.append(f"{name}: is missing")
    return content


def _refuse(word: str):
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    if not abs(value := float(text)) <= LARGEST:
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _small(text: str) -> int:
    if len(text) > 18:
        raise ValueError(f"{text[:20]}... is too large a number")
    return int(text)


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, dict | list) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
