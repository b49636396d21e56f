"""Makes every table, figure and page of a sweep again from its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import store
from . import page, story
from .document import Block, Figure, Heading, Paragraph, markdown
from .inventory import inventory, refusal
from .measures import Evidence, measurements, to_csv
from .plots import CAPTIONS, FIGURES, write_figures
from .results import tables
from .sweep import Sweep, read
from .tables import NUMBERS, write_summary

FILES = ("summary.csv", "summary.md", "measurements.csv", "post.md", "report.html")


def build(folder: Path) -> list[str]:
    """Write `summary.csv`, `summary.md`, `measurements.csv`, `figures/`, `report.html` and `post.md`.

    Where runs may not be compared, or none finished, the texts are an inventory of what is there, and figures of an
    earlier time are removed.

    Args:
        folder: Of the sweep.

    Returns:
        What failed, is missing or is damaged, a sentence each; empty where all is complete.

    Raises:
        DataError: There is no such folder, or it holds no sweep.
    """
    evidence = Evidence(read(Path(folder)))
    sweep, why = evidence.sweep, refusal(evidence.sweep)
    problems = [*sweep.problems, *evidence.problems]
    if why is not None:
        _write_inventory(evidence, why, problems)
        return [why, *problems]
    grids = tables(evidence)
    figures = _figures(sweep)
    post = story.article(evidence, grids, figures, problems)
    store.write_text(sweep.folder / "post.md", markdown(post))
    store.write_text(sweep.folder / "report.html", page.page(page.blocks(evidence, grids, figures, problems)))
    store.write_text(sweep.folder / "measurements.csv", to_csv(measurements(evidence)))
    parts: list[Block] = [Heading(1, "Comparison"), *story.missing(evidence, problems)]
    topics = ("performance", "gradients", "stability", "accuracy", "precision", "reproducibility")
    parts += [table for topic in topics for table in grids[topic]]
    _summary(sweep, also=markdown(parts))
    return problems


def _figures(sweep: Sweep) -> dict[str, Figure]:
    written = write_figures(sweep, sweep.folder / "figures")
    return {
        name: Figure(name.replace("_", "-"), f"figures/{name}.svg", CAPTIONS[name], path.read_text())
        for name, path in written.items()
    }


def _write_inventory(evidence: Evidence, why: str, problems: Sequence[str]) -> None:
    sweep = evidence.sweep
    parts = inventory(evidence, why, problems)
    store.write_text(sweep.folder / "post.md", markdown(parts))
    store.write_text(sweep.folder / "report.html", page.page(parts))
    store.write_text(sweep.folder / "measurements.csv", to_csv([]))
    for name in FIGURES:
        for kind in ("svg", "png"):
            (sweep.folder / "figures" / f"{name}.{kind}").unlink(missing_ok=True)
    # An ordinary sweep may vary what it likes: its table keeps settings apart. The experiment may not.
    if sweep.differing and (sweep.plan or {}).get("experiment"):
        _summary(sweep, instead=markdown(parts))
    else:
        _summary(sweep, also=markdown([Heading(1, "No comparison"), Paragraph(evidence.numbers.whole(why))]))


def _summary(sweep: Sweep, *, also: str = "", instead: str | None = None) -> None:
    told: dict[Path, dict[str, Any]] = {}
    for run in sweep.runs:
        if run.status not in ("completed", "failed"):
            about = {"status": "failed", "error": run.error, "framework": run.framework, "seed": run.seed}
            told[run.folder] = dict.fromkeys(NUMBERS) | about
    write_summary(sweep.folder, [run.folder for run in sweep.runs], told=told, also=also, instead=instead)
