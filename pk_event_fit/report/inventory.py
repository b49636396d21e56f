"""What a sweep holds where nothing may be compared: mixed settings, or no run that finished."""

from __future__ import annotations

from collections.abc import Sequence

from .document import Block, Bullets, Heading, Paragraph, Table
from .measures import Evidence
from .sweep import Sweep


def refusal(sweep: Sweep) -> str | None:
    """Why there is no comparison; None where there is one."""
    if not any(run.status == "completed" for run in sweep.runs):
        reasons = "; ".join(f"job {run.name} {run.status}: {run.error or 'no reason given'}" for run in sweep.runs)
        return f"no run finished: {reasons}" if reasons else "no run finished: there is none"
    if sweep.differing:
        told = "; ".join(f"job {name} has {words}" for name, words in sweep.differing.items())
        return f"the settings of the runs differ in more than framework, compilation and seed: {told}"
    return None


def inventory(evidence: Evidence, why: str, problems: Sequence[str]) -> list[Block]:
    """Each job, its state and the setting that sets it apart, and what probes there are; nothing side by side."""
    n, sweep = evidence.numbers, evidence.sweep
    rows = []
    for run in sweep.runs:
        seed = "not known" if run.seed is None else n(run.seed)
        apart = n.whole(sweep.differing[run.name]) if run.name in sweep.differing else "as most others"
        error = n.name(run.error) if run.error else "–"
        rows.append([n.name(run.name), n.name(run.variant), seed, run.status, apart if run.settings else "–", error])
    probes = [
        [n.name(probe), n.name(variant), str(content.get("status"))]
        for probe, variants in sweep.probes.items()
        for variant, content in variants.items()
    ]
    blocks: list[Block] = [
        Heading(1, "Inventory of a sweep that is not compared"),
        Heading(2, "Why there is no comparison"),
        Paragraph(f"{n.whole(why[0].upper() + why[1:])}."),
        Paragraph(
            "Runs are compared only where nothing but framework, compilation and seed differs. Here is what there is."
        ),
        Heading(2, "What is there"),
        Table("Jobs", ["job", "variant", "seed", "status", "setting that differs", "reason"], rows),
    ]
    if probes:
        blocks.append(Table("Probes", ["probe", "variant", "status"], probes))
    if problems:
        blocks += [Heading(2, "Problems"), Bullets([("", n.whole(problem)) for problem in problems])]
    return blocks
