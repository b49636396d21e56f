"""The page: one file that holds its style and its pictures, and asks nothing of a network."""

from __future__ import annotations

import html as entities
from collections.abc import Sequence
from pathlib import Path
from string import Template

from . import advice, findings, story
from .document import Block, Bullets, Heading, Paragraph, contents, html
from .measures import Evidence
from .story import Figures, Tables

# Its policy tells the browser to load nothing, whatever is in the page.
SHELL, STYLE = Path(__file__).with_name("page.html"), Path(__file__).with_name("page.css")


def blocks(evidence: Evidence, tables: Tables, figures: Figures, problems: Sequence[str]) -> list[Block]:
    """The post, more compact: sentences, dashboard, tables, figures."""
    shown = [figures["dashboard"]] if "dashboard" in figures else []
    return [
        Heading(1, story.TITLE),
        Heading(2, "Summary"),
        Paragraph(f"{story.about(evidence)} {findings.counted(evidence)}"),
        *story.missing(evidence, problems),
        Bullets(findings.summary(evidence)),
        *shown,
        *_raised(story.performance(evidence, tables, figures)),
        *_raised(story.stability(evidence, tables, figures)),
        *story.dose(evidence, figures),
        *_raised(story.accuracy(evidence, tables, figures)),
        *_raised(story.reproducibility(evidence, tables)),
        Heading(2, "Strengths and considerations"),
        *advice.frameworks(evidence),
        Heading(2, "Decision matrix"),
        advice.matrix(evidence),
        Heading(2, "Runs"),
        *tables.get("runs", ()),
        *story.methodology(evidence),
        *story.repeat(evidence),
        *story.citation(evidence),
    ]


def _raised(parts: Sequence[Block]) -> list[Block]:
    """The same with its headings a level up, since the page has no heading above them."""
    return [part._replace(level=part.level - 1) if isinstance(part, Heading) else part for part in parts]


def page(parts: Sequence[Block]) -> str:
    """A whole HTML page; its first block is its title."""
    title, *rest = parts
    name = entities.escape(title.text if isinstance(title, Heading) else story.TITLE)
    return Template(SHELL.read_text()).substitute(
        title=name, style=STYLE.read_text(), contents=contents(rest), body=html(rest)
    )
