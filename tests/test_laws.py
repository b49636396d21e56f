"""Eight laws that hold whatever the history, each on sixty random ones, in every framework.

Histories and what each law makes of them lie side by side in one batch, which each framework solves once: a law has to
hold among ragged neighbours of all kinds. Kinetics are linear: otherwise amounts would neither add up nor be
proportional, and a steady state could not be split. Halves and multiples are exact in binary and move no time by a
rounding error; the shift does, and leaves out the histories that it would make others of.
"""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from clinic import DOSE, MODELLED_RATE, OBSERVATION, OTHER, RESET, RESET_AND_DOSE, Model, Row, given, same
from histories import clear, draw, event_times
from test_events import plan, told

from pk_event_fit import frameworks
from pk_event_fit.frameworks.base import Solver

NAMES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "framework").glob("*.yaml"))
COUNT, MAX_DOSES = 60, 10
BOUND = 1e-8  # of a history's largest amount: two solves at rtol 1e-10 differ by their errors, which a course adds up
SHIFT = 1000.0  # h
FACTOR = 4.0  # a power of two: amounts over rates stay, to the last bit, what they were
OWN_STEPS = ("diffrax", "torchode")  # libraries in which no subject's steps depend on another's


def gives(row):
    return row.kind in (DOSE, RESET_AND_DOSE)


def dealt(rng, rows):
    """Two histories, each dose in one of them. Where a history has none of a dose it keeps the row, with nothing to
    give: resets, and steady states that replace the state, are part of both.
    """
    hands = rng.integers(2, size=len(rows))
    return [
        [row._replace(amount=0.0, rate=0.0) if gives(row) and hand != own else row
         for row, hand in zip(rows, hands, strict=True)]
        for own in (0, 1)
    ]  # fmt: skip


def halved(row):
    """A dose as two of half the amount, infused side by side. The second adds its steady state, and resets nothing.

    Two cannot be halved: an infusion at a modelled rate, which would run half as long, and a reset and dose that comes
    again, whose reset would cancel what the second half has still to give.
    """
    if not gives(row) or row.rate == MODELLED_RATE or (row.kind == RESET_AND_DOSE and row.additional):
        return [row]
    half = row._replace(amount=row.amount / 2, rate=row.rate / 2 if row.rate > 0 else row.rate)
    return [half, half._replace(kind=DOSE, steady=2 if row.steady else 0)]


def later(rows):
    return [row._replace(time=row.time + SHIFT) for row in rows]


def moments(rows, model):
    """Which times of a history are one, as numbers in their order."""
    times = np.array([time for row in rows for time in event_times(row, model)])
    order = np.argsort(times, kind="stable")
    apart = np.diff(times[order]) > 4 * np.spacing(times[order][1:])
    numbers = np.empty(len(times), np.int64)
    numbers[order] = np.append(0, np.cumsum(apart))
    return numbers.tolist(), clear(times)


def may_shift(rows, model):
    """Whether times that are one stay so, and others do not become it: 1000 h rounds away what is below 1e-13 h."""
    return moments(later(rows), model) == (moments(rows, model)[0], True)


def crowded(rows):
    """Each dose with two more at its time: those that commute. Not where a row empties the body before it gives.

    All three have the row's covariate, since the first of them says which covariate held until then.
    """
    runs = [
        [row, Row(row.time, DOSE, 25.0, 2, covariate=row.covariate),
         Row(row.time, DOSE, 30.0, 3, rate=10.0, covariate=row.covariate)]
        if row.kind == DOSE and row.steady != 1 else [row]
        for row in rows
    ]  # fmt: skip
    return [list(itertools.chain(*runs)), list(itertools.chain(*(run[::-1] for run in runs)))]


def scaled(rows, model):
    """All that is given, times a factor; rates as well, so that infusions run as long as before."""
    more = [
        row._replace(amount=FACTOR * row.amount, rate=FACTOR * row.rate if row.rate > 0 else row.rate) for row in rows
    ]
    return more, model._replace(modelled_rate=[FACTOR * rate for rate in model.modelled_rate])


def with_nothing(rng, rows, model):
    """Doses of nothing at rows and between them, each with the covariate of the row that follows, which holds there."""
    known = [time for row in rows for time in event_times(row, model)]
    fuller = list(rows[:1])
    for before, row in itertools.pairwise(rows):
        time = row.time if rng.random() < 0.5 else (before.time + row.time) / 2
        site, repeats = int(rng.integers(3)) + 1, int(rng.integers(3))
        nothing = Row(time, DOSE, 0.0, site, additional=repeats, interval=3.7, covariate=row.covariate)
        # Left out where a time of its own could be taken for another's by some and not by others.
        if rng.random() < 0.4 and clear([*known, *event_times(nothing, model)]):
            known += event_times(nothing, model)
            fuller.append(nothing)
        fuller.append(row)
    return fuller


def closed(rows, model):
    """A third compartment collects what the two lose. Without resets, where amounts vanish, and steady states, where
    they appear.
    """

    def matrix(covariate):
        whole = np.zeros((3, 3))
        whole[:2, :2] = model.matrix(covariate)
        whole[2] = -whole.sum(0)
        return whole

    kept = [row for row in rows if row.kind != RESET and not (row.steady and row.interval == 0)]
    plain = [row._replace(kind=DOSE if row.kind == RESET_AND_DOSE else row.kind, steady=0) for row in kept]
    return plain, Model(
        matrix, [*model.bioavailability, 1.0], [*model.lag, 0.0], [*model.modelled_rate, 1.0],
        [*model.modelled_duration, 1.0],
    )  # fmt: skip


def arrived(rows, model):
    """What was given until each report, mg: boluses, and of infusions that run what has run in."""
    totals = []
    for place, seen in enumerate(rows):
        if seen.kind not in (OBSERVATION, OTHER):
            continue
        total = 0.0
        for number, row in enumerate(rows):
            begin = row.time + model.lag[row.compartment - 1]
            for repeat in range(row.additional + 1 if row.kind == DOSE else 0):
                due, dose = begin + repeat * row.interval, given(row, model, begin)
                # What is due with its own row acts in file order; what was scheduled, before the rows of its time.
                at_once = same(due, row.time)
                acted = number < place if at_once else due < seen.time or same(due, seen.time)
                total += dose.bolus * acted + dose.rate * min(max(seen.time - due, 0.0), dose.hours)
        totals.append(total)
    return np.array(totals)


@functools.cache
def batch():
    """Histories by the part that they play; in every list, except `later` and `closed`, they come from `whole`."""
    rng = np.random.default_rng(11)
    whole = [draw(rng, MAX_DOSES, 3) for _ in range(COUNT)]
    models = [model for _, model in whole]
    parts = zip(*(dealt(rng, rows) for rows, _ in whole), strict=True)
    orders = zip(*(crowded(rows) for rows, _ in whole), strict=True)
    written = {
        **dict(zip(("one", "other"), parts, strict=True)),
        **dict(zip(("forth", "back"), orders, strict=True)),
        "halved": [[half for row in rows for half in halved(row)] for rows, _ in whole],
        "nothing": [with_nothing(rng, *case) for case in whole],
    }
    return {
        "whole": whole,
        **{part: list(zip(rows, models, strict=True)) for part, rows in written.items()},
        "scaled": [scaled(*case) for case in whole],
        "later": [(later(rows), model) for rows, model in whole if may_shift(rows, model)],
        "closed": [closed(*draw(rng, MAX_DOSES, 2)) for _ in range(COUNT)],
    }


def create(name):
    solver = Solver(rtol=1e-10, atol=1e-11, max_steps=100_000)
    return frameworks.load(name).create(solver, precision="float64")


@functools.cache
def solved(name):
    """Amounts at the reports of each history of `batch`, `[Q, 3]` each."""
    cases = list(itertools.chain(*batch().values()))
    planned = plan(cases)
    found, owner = told(create(name), planned), planned.reports.subject
    each = iter([found[owner == subject] for subject in range(len(cases))])
    return {part: [next(each) for _ in histories] for part, histories in batch().items()}


def worst(found, wanted, cases):
    """The largest difference, as a share of the largest amount that its history shows, or gives at once."""
    shares = []
    for one, other, (rows, _) in zip(found, wanted, cases, strict=True):
        largest = max(1.0, np.abs(other).max(initial=0.0), *(row.amount for row in rows))
        shares.append(np.abs(one - other).max(initial=0.0) / largest)
    return max(shares)


@pytest.mark.parametrize("name", NAMES)
def test_amounts_of_two_histories_add_up_to_those_of_both_together(name):
    amounts = solved(name)
    both = [one + other for one, other in zip(amounts["one"], amounts["other"], strict=True)]
    assert worst(both, amounts["whole"], batch()["whole"]) <= BOUND


@pytest.mark.parametrize("name", NAMES)
def test_a_dose_split_in_two_is_the_same_dose(name):
    amounts = solved(name)
    assert worst(amounts["halved"], amounts["whole"], batch()["whole"]) <= BOUND


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_of_all_times_changes_no_amount(name):
    chosen = [k for k, case in enumerate(batch()["whole"]) if may_shift(*case)]
    wanted, cases = ([of[k] for k in chosen] for of in (solved(name)["whole"], batch()["whole"]))
    assert len(chosen) >= COUNT / 2
    assert worst(solved(name)["later"], wanted, cases) <= BOUND


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_doses_at_one_time_does_not_matter(name):
    amounts = solved(name)
    assert worst(amounts["back"], amounts["forth"], batch()["forth"]) <= BOUND


@pytest.mark.parametrize("name", NAMES)
def test_amounts_are_proportional_to_what_is_given(name):
    amounts = solved(name)
    assert worst([states / FACTOR for states in amounts["scaled"]], amounts["whole"], batch()["whole"]) <= BOUND


@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_and_what_was_eliminated_is_what_was_given(name):
    found = [states.sum(1) for states in solved(name)["closed"]]
    wanted = [arrived(*case) for case in batch()["closed"]]
    assert worst(found, wanted, batch()["closed"]) <= BOUND


@pytest.mark.parametrize("name", NAMES)
def test_a_dose_of_nothing_changes_nothing(name):
    amounts = solved(name)
    assert worst(amounts["nothing"], amounts["whole"], batch()["whole"]) <= BOUND


@functools.cache
def few():
    """Four short histories, with a dose or more and without steady states: whose search goes on for all until the last
    is there, and refines the others' within the tolerance.
    """
    rng = np.random.default_rng(12)
    drawn = (draw(rng, 3, 3) for _ in itertools.count())
    plain = (case for case in drawn if any(map(gives, case[0])) and not any(row.steady for row in case[0]))
    return list(itertools.islice(plain, 4))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_what_its_subjects_are_alone(name):
    """To a few rounding errors where each subject has its own steps, and else to the tolerance."""
    framework, together = create(name), plan(few())
    found, owner = told(framework, together), together.reports.subject
    crowd = [found[owner == subject] for subject in range(len(few()))]
    alone = [told(framework, plan([case])) for case in few()]
    assert worst(crowd, alone, few()) <= (1e-12 if name in OWN_STEPS else BOUND)
