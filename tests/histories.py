"""Dosing histories at random, of every kind that the rules allow; none that they refuse.

Many of their times meet, exactly or to a few ULP: an observation lands on a dose, on the end of an infusion, on a lag.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from clinic import DOSE, MODELLED_DURATION, MODELLED_RATE, OBSERVATION, OTHER, RESET, RESET_AND_DOSE, Model, Row, given
from hypothesis import strategies as st

from pk_event_fit.records import Records

SPAN = 36.0  # h in which records lie; further doses and infusions go on beyond


class Kinetics(NamedTuple):
    """Central and peripheral compartment, where `absorption` is given with a depot before them: a model's `matrix`.

    Attributes:
        clearance: L/h; the covariate multiplies it.
        volume: Of the central compartment, L.
        flow: Between the two, L/h.
        peripheral: Volume, L.
        absorption: 1/h, or None for no depot.
    """

    clearance: float
    volume: float
    flow: float
    peripheral: float
    absorption: float | None

    def __call__(self, covariate: float) -> np.ndarray:
        clearance, volume, flow, peripheral, absorption = self
        disposition = np.array(
            [
                [-(clearance * covariate + flow) / volume, flow / peripheral],
                [flow / volume, -flow / peripheral],
            ]
        )
        if absorption is None:
            return disposition
        matrix = np.zeros((3, 3))
        matrix[0, 0], matrix[1, 0] = -absorption, absorption
        matrix[1:, 1:] = disposition
        return matrix


History = tuple[list[Row], Model]


def histories(max_doses: int = 30, size: int | None = None) -> st.SearchStrategy[History]:
    """Rows of a subject and its model, as `draw` makes them; shrinks to fewer doses."""

    def make(seed: int, doses: int) -> History:
        return draw(np.random.default_rng(seed), doses, size)

    return st.builds(make, st.integers(0, 2**32 - 1), st.integers(0, max_doses))


def draw(rng: np.random.Generator, max_doses: int = 30, size: int | None = None) -> History:
    """Rows of a subject, in file order, and its model.

    Args:
        rng: Where chance comes from; the same one gives the same history.
        max_doses: Doses at most, further doses of ADDL counted.
        size: Compartments, 2 or 3 (with a depot); None for either.
    """
    model = _model(rng, int(rng.integers(2, 4)) if size is None else size)
    rows: list[Row] = []
    known: list[float] = []

    def add(make: Callable[[], Row]) -> Row:
        while not clear([*known, *event_times(row := make(), model)]):
            pass
        rows.append(row)
        known.extend(event_times(row, model))
        return row

    left = int(rng.integers(0, max_doses + 1))
    while left > 0:
        left -= 1 + add(partial(_dose, rng, model, known, left)).additional
    for _ in range(int(rng.integers(0, 3))):
        add(lambda: Row(_time(rng, known, SPAN), OTHER))
    if rng.random() < 0.3:
        add(lambda: Row(_time(rng, known, SPAN), RESET))
    until = SPAN if rng.random() < 0.7 else SPAN / 2  # where it is half, doses follow the last observation
    for _ in range(int(rng.integers(3, 16))):
        add(partial(_observation, rng, known, until, len(model.lag)))
    mixed = [rows[k] for k in rng.permutation(len(rows))]
    return _with_covariates(rng, sorted(mixed, key=lambda row: row.time)), model


def event_times(row: Row, model: Model) -> list[float]:
    """Every time at which a row brings something about: its own, doses, ends of infusions, resets; h."""
    times = [row.time]
    if row.kind not in (DOSE, RESET_AND_DOSE) or (row.steady and row.interval == 0):
        return times
    begin = row.time + model.lag[row.compartment - 1]
    hours = given(row, model, begin).hours
    for repeat in range(row.additional + 1):
        due = begin + repeat * row.interval
        times += [due, due + hours]
        if row.kind == RESET_AND_DOSE:
            times.append(row.time + repeat * row.interval)
    past = 1
    while row.steady and (end := begin - past * row.interval + hours) > row.time:
        times.append(end)
        past += 1
    return times


def clear(times: Sequence[float]) -> bool:
    """Whether nobody can doubt which times are one, within 4 ULP: they lie within 3 ULP, or are 8 ULP apart.

    In between, the order of additions decides, or which time is the first of several.
    """
    ordered = np.sort(np.array(times, np.float64))
    ulp = np.spacing(ordered)
    gaps = np.flatnonzero(np.diff(ordered) > 8 * ulp[1:])
    first, last = np.append(0, gaps + 1), np.append(gaps, len(ordered) - 1)
    return bool(np.all(ordered[last] - ordered[first] <= 3 * ulp[last]))


def smallest(rows: Sequence[Row], fails: Callable[[list[Row]], bool]) -> list[Row]:
    """What is left of a history that fails when each row is dropped without which it still does."""
    kept, k = list(rows), 0
    while k < len(kept):
        fewer = [*kept[:k], *kept[k + 1 :]]
        if fewer and fails(fewer):
            kept = fewer
        else:
            k += 1
    return kept


def as_records(subjects: Sequence[Sequence[Row]], models: Sequence[Model] | None = None) -> Records:
    """Several subjects' rows as one table; a used observation reads 1.

    Args:
        subjects: Rows of each, in file order.
        models: One for each subject, all of one size: `covariates` are then `[N, D * D]`, each row's matrix M row by
            row, so that one field, M y, serves them all. Without, `[N, 1]`, the covariate as it is.
    """
    rows = [row for subject in subjects for row in subject]
    used = np.array([row.used and row.kind == OBSERVATION for row in rows], bool)
    if models is None:
        covariates = np.array([row.covariate for row in rows], np.float64).reshape(len(rows), 1)
    else:
        pairs = [(model, row) for model, subject in zip(models, subjects, strict=True) for row in subject]
        covariates = np.array([np.ravel(model.matrix(row.covariate)) for model, row in pairs], np.float64)
    return Records(
        subject=np.repeat(np.arange(len(subjects)), np.array([len(subject) for subject in subjects], np.int64)),
        time=np.array([row.time for row in rows], np.float64),
        kind=np.array([row.kind for row in rows], np.int64),
        amount=np.array([row.amount for row in rows], np.float64),
        compartment=np.array([row.compartment for row in rows], np.float64),
        rate=np.array([row.rate for row in rows], np.float64),
        additional=np.array([row.additional for row in rows], np.int64),
        interval=np.array([row.interval for row in rows], np.float64),
        steady=np.array([row.steady for row in rows], np.int64),
        observed=np.where(used, 1.0, np.nan),
        used=used,
        covariates=covariates,
    )


def _model(rng: np.random.Generator, size: int) -> Model:
    spans = ((0.5, 5.0), (5.0, 30.0), (0.3, 3.0), (10.0, 50.0))
    disposition = [float(rng.uniform(*span)) for span in spans]
    kinetics = Kinetics(*disposition, absorption=float(rng.uniform(0.3, 2.0)) if size == 3 else None)
    return Model(
        kinetics,
        bioavailability=[float(rng.choice([1.0, 1.0, 0.5, rng.uniform(0.2, 1.0)])) for _ in range(size)],
        lag=[_lag(rng) for _ in range(size)],
        modelled_rate=[float(rng.choice([10.0, 20.0, 25.0, rng.uniform(8.0, 60.0)])) for _ in range(size)],
        modelled_duration=[_hours(rng, 0.5, 8.0) for _ in range(size)],
    )


def _lag(rng: np.random.Generator) -> float:
    """None, one that is lost in the ULP of most times, or up to 4 h."""
    way = rng.random()
    if way < 0.5:
        return 0.0
    return 1e-15 if way < 0.6 else _hours(rng, 0.5, 4.0)


def _hours(rng: np.random.Generator, low: float, high: float) -> float:
    """A time or a length, h: a multiple of 0.5, one of 0.1 with its rounding error, or anything."""
    way = rng.random()
    if way < 0.6:
        return 0.5 * int(rng.integers(math.ceil(2 * low), math.floor(2 * high) + 1))
    if way < 0.8:
        return 0.1 * int(rng.integers(math.ceil(10 * low), math.floor(10 * high) + 1))
    return float(rng.uniform(low, high))


def _time(rng: np.random.Generator, known: Sequence[float], until: float) -> float:
    """A new time, one where something happens already, or one or two ULP after that; h."""
    near = [time for time in known if time <= until]
    if not near or rng.random() < 0.6:
        return _hours(rng, 0.0, until)
    time = near[int(rng.integers(len(near)))]
    if time > 0 and rng.random() < 0.2:
        time += int(rng.integers(1, 3)) * float(np.spacing(time))
    return float(time)


def _observation(rng: np.random.Generator, known: Sequence[float], until: float, size: int) -> Row:
    time = _time(rng, known, until)
    return Row(time, OBSERVATION, compartment=int(rng.integers(size)) + 1, used=bool(rng.random() < 0.8))


def _dose(rng: np.random.Generator, model: Model, known: Sequence[float], left: int) -> Row:
    """A dose row, EVID 1 or 4, with `left` doses at most."""
    site = int(rng.integers(len(model.lag)))
    lag, share = model.lag[site], model.bioavailability[site]
    time = 0.0 if not known and rng.random() < 0.5 else _time(rng, known, SPAN)
    dose = Row(time, RESET_AND_DOSE if rng.random() < 0.12 else DOSE, compartment=site + 1)
    way = rng.random()
    if way < 0.05:
        return dose  # of nothing
    steady = 0 if way < 0.75 else int(rng.integers(1, 3))
    if steady and lag == 0 and rng.random() < 0.2:
        return dose._replace(rate=float(rng.uniform(1.0, 30.0)), steady=steady)
    amount = float(rng.choice([10.0, 50.0, 100.0, rng.uniform(5.0, 150.0)]))
    additional = int(rng.integers(0, min(left, 7))) if rng.random() < 0.4 else 0
    interval = 0.0
    if steady or additional:
        # A lag may be longer than ADDL's interval, but not than a steady state's.
        shortest = max(1.0, lag) if steady else 1.0
        interval = max(_hours(rng, shortest, shortest + float(rng.choice([2.0, 11.0]))), shortest)
    rate = _rate(rng, share * amount, interval)
    if not steady and rng.random() < 0.02 and time >= 1:
        rate = share * amount * 1e17  # over in less than an ULP
    return dose._replace(amount=amount, rate=rate, additional=additional, interval=interval, steady=steady)


def _rate(rng: np.random.Generator, amount: float, interval: float) -> float:
    way = rng.random()
    if way < 0.45:
        return 0.0
    if way < 0.65:
        return MODELLED_RATE if way < 0.55 else MODELLED_DURATION
    overlaps = interval > 0 and rng.random() < 0.5
    return amount / _hours(rng, 0.5, 2.6 * interval if overlaps else 6.0)


def _with_covariates(rng: np.random.Generator, rows: Sequence[Row]) -> list[Row]:
    """The rows, in half of the histories with covariates that change."""
    values = [1.0] if rng.random() < 0.5 else [float(value) for value in rng.uniform(0.5, 2.0, 3)]
    return [row._replace(covariate=values[int(rng.integers(len(values)))]) for row in rows]
