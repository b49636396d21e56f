"""The table of what comes out again, and a number in a cell."""

from __future__ import annotations

from ..metrics.statistics import spread
from .document import Table
from .measures import Evidence

NONE = "–"


def number(evidence: Evidence, variant: str, metric: str, detail: str = "", why: str = "not measured") -> str:
    """Mean and standard deviation, or why there is none."""
    series = evidence.one(variant, metric, detail)
    if series is None:
        return why
    found = spread(list(series.values.values()))
    return evidence.numbers.spread(found.mean, found.sd)


def reproducibility(evidence: Evidence) -> list[Table]:
    """What comes out again, and how far apart where it does not."""
    n, rows = evidence.numbers, []
    head = ["variant", "repeated run", _threads(evidence), "between single and double precision, mg",
            "between seeds, mg", "consistency score"]  # fmt: skip
    for variant in evidence.frameworks:
        seeds = number(evidence, variant, "seed_sd", "", "fewer than two runs")
        if evidence.one(variant, "bitwise", "again") is None:
            why = evidence.why_no_probe("repeat", variant)
            rows.append([variant, why, NONE, NONE, seeds, number(evidence, variant, "consistency")])
            continue
        again = _alike(evidence, variant, "again")
        both = number(evidence, variant, "max_difference_mg", "precision")
        score = number(evidence, variant, "consistency", "", "fewer than two runs")
        rows.append([variant, again, _alike(evidence, variant, "threads"), both, seeds, score])
    steps = {str(c["iterations"]): c["iterations"] for c in evidence.sweep.probes.get("repeat", {}).values()
             if isinstance(c.get("iterations"), int)}  # fmt: skip
    after = " or ".join(n(step) for step in steps.values()) or "an unknown number of"
    note = (
        f"Largest differences of predictions after {after} training steps from the same start; between seeds the "
        "typical standard deviation of the whole fits. The score is one less the ratio of that to the mean dose."
    )
    return [Table("Reproducibility", head, rows, note)]


def _threads(evidence: Evidence) -> str:
    for content in evidence.sweep.probes.get("repeat", {}).values():
        counts = (content.get("threads") or {}).get("counts")
        if isinstance(counts, list) and len(counts) == 2:
            return f"threads: {evidence.numbers(counts[0])} against {evidence.numbers(counts[1])}"
    return "numbers of threads"


def _alike(evidence: Evidence, variant: str, case: str) -> str:
    same = evidence.mean(variant, "bitwise", case)
    if same is None:
        return "not measured"
    return "same bits" if same else f"{number(evidence, variant, 'max_difference_mg', case)} mg apart"
