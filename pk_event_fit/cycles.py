"""Steady states of a schedule: where they enter, and the cycle that each is the fixed point of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .doses import TIE, DoseParameters, arriving, brief
from .intervals import Interval, Steady
from .records import MODELLED_RATE, Records

HORIZON = 24.0  # h in which a constant infusion changes nothing once its steady state is reached; any would do


class Cycles(NamedTuple):
    """How the cycle of each steady state is cut, `[Z]`: numbers that stay when what arrives is differentiated.

    Attributes:
        whole: How many infusions run all the time.
        rests: 1 where one more runs for a part of the cycle, else 0.
        wraps: 1 where it runs across the phase of the record, else 0.
        constant: 1 for one infusion without end, else 0.
    """

    whole: Any
    rests: Any
    wraps: Any
    constant: Any


class Parts(NamedTuple):
    """What arrives in each cycle, `[Z]`; in NumPy, or in an array library where it is differentiated.

    Attributes:
        lag: h.
        length: Of an infusion, h; 0 for a bolus.
        interval: h; 0 for one infusion without end.
        amount: Of a bolus, mg.
        rate: Of an infusion, mg/h.
    """

    lag: Any
    length: Any
    interval: Any
    amount: Any
    rate: Any


def parts_of(records: Records, parameters: DoseParameters, record: np.ndarray) -> Parts:
    """What the steady states of these rows are made of."""
    amount, rate, length, lag = arriving(records, parameters, record)
    short = brief(records.time[record], length)
    rate, length = np.where(short, 0.0, rate), np.where(short, 0.0, length)
    where = records.subject[record], records.compartment[record].astype(np.int64) - 1
    kind, constant = records.rate[record], records.interval[record] == 0
    endless = np.where(kind == MODELLED_RATE, parameters.modelled_rate[where], np.maximum(kind, 0.0))
    return Parts(
        lag=np.where(constant, 0.0, lag),
        length=length,
        interval=records.interval[record],
        amount=np.where(rate > 0, 0.0, amount),
        rate=np.where(constant, endless, rate),
    )


def cycles_of(parts: Parts) -> Cycles:
    """How the cycles are cut."""
    constant = parts.interval == 0
    interval = np.where(constant, 1.0, parts.interval)
    nearest = np.round(parts.length / interval)
    # An infusion that ends as another begins is no gap, and no overlap, of a rounding error.
    exact = np.abs(parts.length - nearest * interval) <= TIE * np.spacing(parts.length)
    whole = np.where(exact, nearest, np.floor(parts.length / interval))
    over = parts.lag + np.where(exact, 0.0, parts.length - whole * interval) - interval
    wraps = (over > TIE * np.spacing(interval)) & ~constant
    return Cycles(*(np.asarray(leaf, np.float64) for leaf in (whole, ~exact, wraps, constant)))


def segments(cycles: Cycles, parts: Parts) -> tuple[list[Any], list[Any]]:
    """Durations and rates of the three segments of each cycle, h and mg/h; the dose comes with the second.

    The first begins at the phase of the record, a lag before the dose. Plain arithmetic, so that any array library can
    differentiate it.
    """
    lag, interval = parts.lag, parts.interval
    rest = (parts.length - cycles.whole * interval) * cycles.rests
    over, straight = lag + rest - interval, 1 - cycles.wraps
    durations = [
        lag * straight + over * cycles.wraps,
        rest * straight + (lag - over) * cycles.wraps,
        (interval - lag - rest) * straight + (interval - lag) * cycles.wraps + HORIZON * cycles.constant,
    ]
    through = cycles.whole + cycles.wraps
    return durations, [factor * parts.rate for factor in (through, cycles.whole + straight, through + cycles.constant)]


def steady_table(
    records: Records, cycles: Cycles, parts: Parts, record: np.ndarray, entered: np.ndarray, shape: tuple[int, int, int]
) -> Steady | None:
    """Steady states that enter a table of intervals; None where there are none.

    Args:
        records: Rows.
        cycles: How their cycles are cut.
        parts: What they are made of.
        record: Their rows, `[Z]`, by subject.
        entered: The interval that each enters, `[Z]`.
        shape: `(S, B, D)` of the table.
    """
    if not len(record):
        return None
    size, subjects, compartments = shape
    subject, slot = records.subject[record], slots_of(records, record)
    slots = int(slot.max()) + 1
    idle, place, still = np.ones((slots, subjects)), np.zeros((slots, size, subjects)), np.zeros((slots, subjects))
    idle[slot, subject], place[slot, entered, subject] = 0.0, 1.0
    still[slot, subject] = (parts.amount == 0) & (cycles.rests == 0)
    durations, rates = segments(cycles, parts)
    duration, start = np.zeros((3, slots, subjects)), np.zeros((3, slots, subjects))
    # What is left of a difference of equal times is a rounding error below zero.
    lengths = np.maximum(durations, 0.0)
    duration[:, slot, subject] = lengths
    # The cycle that follows the record, for a field that knows the time.
    start[:, slot, subject] = records.time[record] + np.cumsum(lengths, 0) - lengths
    bolus, rate = np.zeros((3, slots, subjects, compartments)), np.zeros((3, slots, subjects, compartments))
    compartment = records.compartment[record].astype(np.int64) - 1
    bolus[1, slot, subject, compartment] = parts.amount
    rate[:, slot, subject, compartment] = rates
    covariates = None
    if records.covariates is not None:
        # Those who have no steady state, and stand still, have covariates that a field can bear: their own first.
        first = np.minimum(np.searchsorted(records.subject, np.arange(subjects)), len(records.time) - 1)
        covariates = np.tile(records.covariates[first], (3, slots, 1, 1))
        covariates[:, slot, subject] = records.covariates[record]
    cycle = Interval(np.arange(3), start, duration, bolus, rate if rate.any() else None, covariates)
    return Steady(place, idle, still, cycle)


def slots_of(records: Records, record: np.ndarray) -> np.ndarray:
    """Which of its subject's steady states each is, from 0, `[Z]`."""
    subject = records.subject[record]
    return np.arange(len(record)) - np.searchsorted(subject, subject)
