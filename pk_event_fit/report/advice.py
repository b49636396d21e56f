"""Strengths and considerations of each framework, and which to take for what, as the measurements have it."""

from __future__ import annotations

from .costs import compiled_gain
from .document import Bullets, Heading, Paragraph, Table
from .findings import CRITERIA, Criterion, measured, ordered
from .measures import Evidence
from .series import FIELDS, TREATED, TREATMENTS
from .setting import footnote, listed
from .standing import LEVEL, Standing


def frameworks(evidence: Evidence) -> list[Heading | Paragraph | Bullets]:
    """A part for each framework, plain and compiled."""
    blocks: list[Heading | Paragraph | Bullets] = []
    for variant in evidence.plain:
        both = [name for name, (framework, _) in evidence.frameworks.items() if framework == variant] or [variant]
        blocks.append(Heading(3, variant))
        for lead, items in (("Strengths", strengths(evidence, both)), ("Considerations", cautions(evidence, both))):
            if items:
                blocks += [Paragraph(f"{lead}:"), Bullets([("", item) for item in items])]
            else:
                blocks.append(Paragraph(f"{lead}: the measurements show none."))
    return blocks


def strengths(evidence: Evidence, variants: list[str]) -> list[str]:
    """Where one of these comes first, alone or with others that cannot be told apart, and somebody is told apart."""
    items = []
    for criterion in CRITERIA:
        order = ordered(evidence, criterion)
        if order is not None and _far(order) and (first := next(iter(order.means))) in variants:
            items.append(_ends(evidence, criterion, order, first))
        if order is None or not order.beaten:
            continue
        for variant in (name for name in order.level if name in variants):
            others = [name for name in order.level if name != variant]
            shared = f", no different from {listed(others)}" if others else ""
            value = evidence.numbers(order.means[variant], criterion.unit)
            items.append(f"{variant} has {criterion.least}: {value}{shared}.")
    return items + [text for text, quicker in _gains(evidence, variants) if quicker]


def cautions(evidence: Evidence, variants: list[str]) -> list[str]:
    """Where one of these comes last, told apart from the first; what it failed at, cannot do or does not count."""
    items, n = [], evidence.numbers
    for criterion in CRITERIA:
        order = ordered(evidence, criterion)
        if order is not None and _far(order) and (worst := list(order.means)[-1]) in variants:
            items.append(_ends(evidence, criterion, order, worst))
        if order is None or not order.beaten or order.beaten[-1] not in variants:
            continue
        last = order.beaten[-1]
        value, best = (n(order.means[name], criterion.unit) for name in (last, order.best))
        items.append(f"{last} has {criterion.most}: {value}, against {best} with {order.best}.")
    for run in evidence.sweep.runs:
        if run.variant in variants and run.status != "completed":
            why = f": {n.name(run.error)}" if run.error else ""
            items.append(f"Job {n.name(run.name)} of {run.variant} is {run.status}{why}.")
    for variant in variants:
        items += _unable(evidence, variant)
    return items + [text for text, quicker in _gains(evidence, variants) if not quicker]


def _far(order: Standing) -> bool:
    """Whether a few measurements lie so far apart that chance need not be asked: the last is twice the first."""
    values = list(order.means.values())
    return order.per != "once" and not order.ratios and len(values) > 1 and values[-1] >= 2 * values[0]


def _ends(evidence: Evidence, criterion: Criterion, order: Standing, name: str) -> str:
    """That a variant is the first or the last, and how far from the other end."""
    n, names = evidence.numbers, list(order.means)
    what, other = (criterion.least, names[-1]) if name == names[0] else (criterion.most, names[0])
    ends = [n(order.means[each], criterion.unit) for each in (name, other)]
    return f"{name} has {what}: {ends[0]}, against {ends[1]} with {other} ({measured(evidence, criterion)} each)."


def _gains(evidence: Evidence, variants: list[str]) -> list[tuple[str, bool]]:
    return [gain for gain in (compiled_gain(evidence, variant) for variant in variants) if gain]


def _unable(evidence: Evidence, variant: str) -> list[str]:
    items = []
    for treatment in TREATMENTS:
        why = {evidence.why_no_probe("stability", variant, "fields", field, treatment) for field in FIELDS}
        if len(why) == 1 and (reason := why.pop()).startswith(("not possible", "failed")):
            items.append(f"{variant}, “{TREATED[treatment]}”: {reason}.")
    if evidence.one(variant, "step", "direct") and evidence.one(variant, "accepted", "direct") is None:
        items.append(f"{variant} does not count its steps.")
    return items


def matrix(evidence: Evidence) -> Table:
    """Priority, the framework to take, and what shows it."""
    rows = [_choice(evidence, criterion) for criterion in CRITERIA]
    head = ["priority", "take", "because", "shown in"]
    note = (
        f"Where the {evidence.numbers.percent(LEVEL)} bootstrap interval of a ratio holds one, the two cannot be told "
        f"apart, and all of those are named. {footnote(evidence)}"
    )
    return Table("Decision matrix", head, rows, note)


def _choice(evidence: Evidence, criterion: Criterion) -> list[str]:
    order, n = ordered(evidence, criterion), evidence.numbers
    if order is None:
        return [criterion.priority, "not measured", "–", "–"]
    shown = criterion.shown
    if len(order.means) > 1 and not order.ratios:
        ends = [n(value, criterion.unit) for value in (min(order.means.values()), max(order.means.values()))]
        first = next(iter(order.means))
        why = "no ranking" if order.per == "once" else f"{first} is ahead, too few measurements to tell"
        return [criterion.priority, f"undecided: {why}", f"all lie between {ends[0]} and {ends[1]}", shown]
    values = listed([f"{n(order.means[name], criterion.unit)} ({name})" for name in order.level])
    if not order.beaten:
        alone = len(order.means) == 1
        return [
            criterion.priority,
            f"{order.best}, measured alone" if alone else "undecided: not told apart",
            values,
            shown,
        ]
    second = order.beaten[0]
    found = order.ratios.get(second)
    times = ""
    if found is not None and found.low is not None and found.high is not None:
        times = f", {n.ratio(found.ratio, found.low, found.high)} times as much"
    because = f"{criterion.least}: {values}; next {second} with {n(order.means[second], criterion.unit)}{times}"
    return [criterion.priority, listed(order.level), because, shown]
