"""A table of events, and what a table does not say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..nonmem import Table
from ..nonmem.text import key_of

ABOUT = ("name", "description", "license", "citeAs", "url", "version", "datePublished")


class Compartment(NamedTuple):
    """A compartment, and what happens to doses on their way into it.

    Attributes:
        name: A plain text of its own.
        description: Any text.
        lag: ALAG, h.
        bioavailability: F.
        modelled_rate: R, of infusions with RATE -1, mg/h; NaN for none.
        modelled_duration: D, of infusions with RATE -2, h; NaN for none.
    """

    name: str
    description: str = ""
    lag: float = 0.0
    bioavailability: float = 1.0
    modelled_rate: float = np.nan
    modelled_duration: float = np.nan


class Dataset(NamedTuple):
    """A cohort as it is handed on.

    Attributes:
        table: Doses, observations and covariates of B subjects.
        compartments: D of them, in the order of CMT.
        initial: What is in them before each subject's first row, in the unit of AMT, `[B, D]`, float64.
        measured: Name of the compartment that observations without CMT are of; None where that is not said.
        units: Of columns, by their names in capitals: `{"TIME": "h", "AMT": "mg", "DV": "mg/L", "WT": "kg"}`.
        about: Texts under `ABOUT`; `name` at least.
    """

    table: Table
    compartments: tuple[Compartment, ...]
    initial: np.ndarray
    measured: str | None
    units: Mapping[str, str]
    about: dict[str, str]


def check(dataset: Dataset, place: str) -> None:
    """Refuse what means nothing; `place` is what messages call the data set.

    Raises:
        DataError: Compartments, initial values, units or texts do not fit each other or the table.
    """
    names = [compartment.name for compartment in dataset.compartments]
    plain = all(name and name == name.strip() and name.isprintable() for name in names)
    if not names or not plain or len(set(names)) != len(names):
        raise DataError(f"{place}: compartments {names}: needs plain names, all different")
    for compartment in dataset.compartments:
        for field, value in zip(Compartment._fields[2:], compartment[2:], strict=True):
            optional = field.startswith("modelled")
            if not (0 <= value < np.inf or (optional and np.isnan(value))):
                raise DataError(f"{place}: {field} {value} of compartment {compartment.name}: must be 0 or more")
    if dataset.measured is not None and dataset.measured not in names:
        raise DataError(f"{place}: measured is {dataset.measured}: choose one of {', '.join(names)}")
    shape, subjects = dataset.initial.shape, len(dataset.table.ids)
    if shape != (subjects, len(names)) or not np.isfinite(dataset.initial).all():
        raise DataError(f"{place}: initial has shape {list(shape)}; needs finite amounts [{subjects}, {len(names)}]")
    high = dataset.table.records.compartment > len(names)
    if high.any():
        cmt = dataset.table.records.compartment[high][0]
        raise DataError(f"{place}: row {int(high.argmax())}: CMT {cmt:g}: there are {len(names)} compartments")
    if unknown := sorted(set(dataset.units) - {key_of(column) for column in dataset.table.columns}):
        raise DataError(f"{place}: unit of {unknown[0]}: there is no such column in {', '.join(dataset.table.columns)}")
    if bare := sorted(column for column, unit in dataset.units.items() if not unit):
        raise DataError(f"{place}: unit of {bare[0]}: must not be empty; leave out what is not known")
    if unknown := sorted(set(dataset.about) - set(ABOUT)):
        raise DataError(f"{place}: about {unknown[0]}: choose of {', '.join(ABOUT)}")
    if not dataset.about.get("name", "").strip():
        raise DataError(f"{place}: about: a data set needs a name")


def identical(one: Dataset, other: Dataset) -> bool:
    """Whether two are the same to the last bit, but for the lines that rows stand in."""
    plain = all(
        getattr(one.table, name) == getattr(other.table, name) for name in ("ids", "covariates", "columns", "extra")
    )
    texts = one.measured == other.measured and one.units == other.units and one.about == other.about
    places = len(one.compartments) == len(other.compartments) and all(
        a[:2] == b[:2] and _same(np.array(a[2:]), np.array(b[2:]))
        for a, b in zip(one.compartments, other.compartments, strict=True)
    )
    rows = zip(one.table.records._replace(line=None), other.table.records._replace(line=None), strict=True)
    return plain and texts and places and _same(one.initial, other.initial) and all(_same(a, b) for a, b in rows)


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    # -0 equals 0, but is not the same; any NaN is as good as another.
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(np.nan_to_num(a)), np.signbit(np.nan_to_num(b))
    )
