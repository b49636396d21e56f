"""Dosing records to the doses that are given: what arrives, when, and for how long."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .errors import ScheduleError
from .records import DOSE, MODELLED_DURATION, MODELLED_RATE, RESET_AND_DOSE, Records, place

TIE = 4  # units in the last place within which two times are one
MOST = 10_000_000  # doses, further ones (ADDL) counted: what is beyond would fill the memory


class DoseParameters(NamedTuple):
    """What happens to a dose on its way in; by subject and compartment.

    Attributes:
        bioavailability: F, the fraction that arrives, `[B, D]`.
        lag: ALAG, how much later it does, h, `[B, D]`.
        modelled_rate: R, of infusions with RATE -1, mg/h, `[B, D]`; NaN where there is none.
        modelled_duration: D, of infusions with RATE -2, h, `[B, D]`; NaN where there is none.
    """

    bioavailability: np.ndarray
    lag: np.ndarray
    modelled_rate: np.ndarray
    modelled_duration: np.ndarray


class Doses(NamedTuple):
    """Each dose that is given, `[M]`: repeats apart, and what infusions implied by a steady state still give.

    Attributes:
        record: Its row.
        repeat: Which of the row's doses, from 0.
        implied: 0; or k, for the infusion that began k intervals before a dose at steady state.
        start: When it starts to arrive, h.
        length: How long it runs, h; 0 for a bolus.
        amount: What arrives, mg.
        rate: mg/h; 0 for a bolus.
    """

    record: np.ndarray
    repeat: np.ndarray
    implied: np.ndarray
    start: np.ndarray
    length: np.ndarray
    amount: np.ndarray
    rate: np.ndarray


def dose_parameters(subjects: int, compartments: int, *values: Any) -> DoseParameters:
    """Each value, in the order of the fields, for every subject and compartment; one, `[D]` or `[B, D]` is given.

    Raises:
        ScheduleError: A shape is wrong, or a value is out of range.
    """
    full = []
    for name, value in zip(DoseParameters._fields, values, strict=True):
        array = np.asarray(value, np.float64)
        try:
            array = np.broadcast_to(array, (subjects, compartments))
        except ValueError:
            raise ScheduleError(
                f"{name}: has shape {list(array.shape)}; needs one, [{compartments}] or [{subjects}, {compartments}]"
            ) from None
        wrong = ~np.isfinite(array) | (array < 0) if name in ("bioavailability", "lag") else array < 0
        if wrong.any():
            subject, compartment = (int(k) for k in np.argwhere(wrong)[0])
            raise ScheduleError(
                f"{name} {array[subject, compartment]} of subject {subject}, compartment {compartment + 1}: must be "
                "0 or more, and finite"
            )
        full.append(array)
    return DoseParameters(*full)


def given(records: Records, parameters: DoseParameters) -> Doses:
    """Every dose of the records, with its lag, bioavailability and modelled rate or duration.

    Raises:
        ScheduleError: A modelled rate or duration is missing, or a lag is longer than the interval of a steady state.
    """
    dosed = np.flatnonzero((records.kind == DOSE) | (records.kind == RESET_AND_DOSE))
    # A constant infusion that led to a steady state ends with its record: nothing is given after it.
    dosed = dosed[~((records.steady[dosed] > 0) & (records.interval[dosed] == 0))]
    counts = records.additional[dosed] + 1
    if counts.sum() > MOST:
        n = int(counts.argmax())
        raise ScheduleError(f"{place(records, dosed[n])}: ADDL {counts[n] - 1}: more than {MOST:,} doses in all")
    record = np.repeat(dosed, counts)
    repeat = np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts)
    amount, rate, length, lag = arriving(records, parameters, record)
    # Multiplied, not added up: the hundredth dose is on its hour to the last bit.
    start = records.time[record] + lag + repeat * records.interval[record]
    short = brief(start, length)
    rate, length = np.where(short, 0.0, rate), np.where(short, 0.0, length)
    doses = Doses(record, repeat, np.zeros_like(record), start, length, amount, rate)
    steady = np.flatnonzero((records.steady[record] > 0) & (repeat == 0))
    return _joined(doses, _implied(records, doses, steady, lag)) if len(steady) else doses


def arriving(records: Records, parameters: DoseParameters, record: np.ndarray) -> tuple[np.ndarray, ...]:
    """Amount (mg), rate (mg/h), length (h) and lag (h) of the doses of these rows, `[M]` each.

    Raises:
        ScheduleError: A modelled rate or duration is missing.
    """
    where = records.subject[record], records.compartment[record].astype(np.int64) - 1
    kind = records.rate[record]
    amount = parameters.bioavailability[where] * records.amount[record]
    rate = np.where(kind == MODELLED_RATE, parameters.modelled_rate[where], np.maximum(kind, 0.0))
    duration = parameters.modelled_duration[where]
    for code, values, name in ((MODELLED_RATE, rate, "rate"), (MODELLED_DURATION, duration, "duration")):
        if (wrong := (kind == code) & ~((values > 0) & np.isfinite(values))).any():
            n = int(np.flatnonzero(wrong)[0])
            raise ScheduleError(
                f"{place(records, record[n])}: RATE {code} in compartment {where[1][n] + 1} needs "
                f"modelled_{name} above 0; it is {values[n]}"
            )
    infused = (kind != 0) & (amount != 0)
    length = np.zeros(len(record))
    np.divide(amount, rate, out=length, where=infused & (kind != MODELLED_DURATION))
    modelled = infused & (kind == MODELLED_DURATION)
    length[modelled] = duration[modelled]
    rate = np.where(infused, rate, 0.0)
    np.divide(amount, duration, out=rate, where=modelled)
    return amount, rate, length, parameters.lag[where]


def brief(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Where an infusion is too short for the clock: it is a bolus then, since its amount would else be lost."""
    return length <= TIE * np.spacing(np.abs(start) + length)


def _implied(records, doses, steady, lag) -> Doses:
    """Infusions that a steady state implies and that still run when its record comes."""
    record, interval, lag = doses.record[steady], records.interval[doses.record[steady]], lag[steady]
    if (late := lag > interval).any():
        n = int(np.flatnonzero(late)[0])
        raise ScheduleError(
            f"{place(records, record[n])}: a lag of {lag[n]:g} h is longer than the interval of its "
            f"steady-state dose, {interval[n]:g} h"
        )
    beyond = (lag + doses.length[steady]) / interval
    # Those that end with the record itself, to a rounding error, run no more.
    counts = np.maximum(np.ceil(beyond * (1 - TIE * np.finfo(float).eps)).astype(np.int64) - 1, 0)
    counts[doses.length[steady] == 0] = 0
    source = np.repeat(steady, counts)
    number = 1 + np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = Doses(*(leaf[source] for leaf in doses))
    return chosen._replace(implied=number, start=chosen.start - number * records.interval[chosen.record])


def _joined(first: Doses, second: Doses) -> Doses:
    return Doses(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
