"""Records to text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from .. import store
from ..errors import DataError
from ..records import DOSE, OBSERVATION, RESET_AND_DOSE, Records, check, shortest
from .reader import KNOWN, Table, identity, is_missing, typed
from .text import check_header, key_of


def write(path: Path, table: Table) -> None:
    """Write a file that `read` reads as the same table; after a crash there is the old one or the new one."""
    store.write_text(Path(path).expanduser(), render(table))


def render(table: Table, missing: str = ".") -> str:
    """The table as text that `parse` reads as the same table, but for `line`.

    (With the same `negative`, and with the same `covariates` where they were named.) Commas; each number as the
    shortest text that reads as the same bits; `missing`, which may be nothing, for no DV or limit, for CMT 0, and for
    AMT, RATE, ADDL, II and SS that are 0 in a row that is no dose.

    Raises:
        DataError: There are no values for a column.
    """
    texts = _texts(table, missing)
    if absent := [column for column in table.columns if key_of(column) not in texts]:
        raise DataError(f"column {absent[0]}: the table has no values for it")
    lines = map(",".join, zip(*(texts[key_of(column)] for column in table.columns), strict=True))
    return "\n".join([",".join(map(quoted, table.columns)), *lines, ""])


def of_records(records: Records, ids: Sequence[str] | None = None, covariates: Sequence[str] = ()) -> Table:
    """A table with the columns that these records need.

    Args:
        records: From a file or not; amounts may be negative.
        ids: Label of each subject; None for 1, 2, ...
        covariates: Names of the columns of `records.covariates`.

    Raises:
        DataError: A row means nothing, a subject has no row, or a label, a name or a value could not be read again.
    """
    check(records, lambda row: f"subject {records.subject[row]}, row {row}", negative=True)
    rows = typed(records)
    labels = tuple(map(str, range(1, int(rows.subject.max(initial=-1)) + 2))) if ids is None else tuple(ids)
    _check_labels(rows, labels)
    _check_values(rows, covariates)
    observation, given = rows.kind == OBSERVATION, ~np.isnan(rows.observed)
    needed = {
        "EVID": rows.kind != ((rows.amount != 0) | (rows.rate != 0)),
        "AMT": (rows.amount != 0) | np.isin(rows.kind, (DOSE, RESET_AND_DOSE)),
        "CMT": rows.compartment != ~observation,
        "RATE": rows.rate != 0,
        "ADDL": rows.additional != 0,
        "II": rows.interval != 0,
        "SS": rows.steady != 0,
        "DV": given,
        "MDV": rows.used != (observation & given),
    }
    columns = ["ID", "TIME", *(column for column, where in needed.items() if where.any())]
    columns += [] if {"AMT", "DV"} & set(columns) else ["DV"]
    columns += [column for column, values in (("CENS", rows.censored), ("LLOQ", rows.limit)) if values is not None]
    columns += covariates
    check_header(columns, "covariates")
    return Table(rows, labels, tuple(covariates), tuple(columns), {})


def _check_labels(records: Records, labels: tuple[str, ...]) -> None:
    rows = np.bincount(records.subject, minlength=len(labels))
    if not len(rows):
        raise DataError("there are no rows")
    if len(rows) != len(labels):
        raise DataError(f"{len(labels)} ids for {len(rows)} subjects")
    if not rows.all():
        raise DataError(f"subject {int(rows.argmin())} has no row, and a file knows nobody without")
    seen: set[str | Decimal] = set()
    for number, label in enumerate(labels):
        plain = label == label.strip() and label.isprintable() and not label.startswith("#") and not is_missing(label)
        if not plain or identity(label) in seen:
            raise DataError(f"ids[{number}] {label!r}: must be a plain text of its own, not missing, no # in front")
        seen.add(identity(label))


def _check_values(records: Records, covariates: Sequence[str]) -> None:
    values = np.zeros((len(records.time), 0)) if records.covariates is None else records.covariates
    if values.shape != (len(records.time), len(covariates)):
        raise DataError(f"{len(covariates)} names of covariates, and values of shape {list(values.shape)}")
    for name, column in zip(covariates, values.T, strict=True):
        if key_of(name) in KNOWN or not np.isfinite(column).all():
            raise DataError(f"covariate {name!r}: must have a name that means nothing else, and be finite in every row")
    for name, known in (("DV", records.observed), ("LLOQ", records.limit)):
        if known is not None and (wrong := np.isinf(known)).any():
            raise DataError(f"row {int(wrong.argmax())}: {name} {known[wrong][0]}: must be finite, or NaN for none")


def _texts(table: Table, missing: str) -> dict[str, list[str]]:
    """What every column of the file could hold, by key."""
    records, labels = table.records, [quoted(label) for label in table.ids]
    gives = np.isin(records.kind, (DOSE, RESET_AND_DOSE))
    given = ~np.isnan(records.observed)
    mdv = np.where(records.used, "0", "1")
    idle = np.array(table.extra.get("MDV", "1"))
    texts = {
        "ID": [labels[subject] for subject in records.subject.tolist()],
        "TIME": shortest(records.time),
        "DV": _shown(records.observed, given, missing),
        "CMT": _shown(records.compartment, records.compartment != 0, missing),
        "EVID": shortest(records.kind),
        "MDV": np.where((records.kind == OBSERVATION) & given, mdv, idle).tolist(),
    }
    fields = {"AMT": "amount", "RATE": "rate", "ADDL": "additional", "II": "interval", "SS": "steady"}
    for key, field in fields.items():
        values = getattr(records, field)
        texts[key] = _shown(values, gives | (values != 0), missing)
    if records.censored is not None:
        texts["CENS"] = shortest(records.censored)
    if records.limit is not None:
        texts["LLOQ"] = _shown(records.limit, ~np.isnan(records.limit), missing)
    if records.covariates is not None:
        texts |= {key_of(name): shortest(records.covariates[:, k]) for k, name in enumerate(table.covariates)}
    return {key_of(name): [quoted(text) for text in column] for name, column in table.extra.items()} | texts


def _shown(values: np.ndarray, shown: np.ndarray, missing: str) -> list[str]:
    return [text if keep else missing for text, keep in zip(shortest(values), shown.tolist(), strict=True)]


def quoted(text: str) -> str:
    """A field of CSV, in quotes where it needs them; `csv.writer` leaves a lone carriage return without."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
