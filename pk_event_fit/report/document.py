"""A document as blocks, and its two forms: Markdown and HTML. Text in blocks is plain; both forms escape it."""

from __future__ import annotations

import html as entities
import re
from collections.abc import Sequence
from typing import NamedTuple


class Heading(NamedTuple):
    """A heading; level from 1."""

    level: int
    text: str


class Paragraph(NamedTuple):
    """Sentences."""

    text: str


class Bullets(NamedTuple):
    """A list; each item is its bold lead, which may be empty, and its text."""

    items: Sequence[tuple[str, str]]


class Code(NamedTuple):
    """Lines to be typed."""

    text: str
    language: str = "bash"


class Table(NamedTuple):
    """Cells of text; `note` stands under it. The first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Figure(NamedTuple):
    """A picture: where it lies beside the document, and the SVG itself for a page that carries it."""

    name: str
    path: str
    caption: str
    svg: str = ""


Block = Heading | Paragraph | Bullets | Code | Table | Figure


def markdown(blocks: Sequence[Block]) -> str:
    """GitHub's Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return "#" * block.level + " " + escaped(block.text)
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"* {f'**{escaped(lead)}** ' if lead else ''}{escaped(text)}" for lead, text in block.items)
    if isinstance(block, Code):
        return f"```{block.language}\n{block.text}\n```"
    if isinstance(block, Figure):
        return f"![{escaped(block.caption)}]({block.path})\n\n*{escaped(block.caption)}*"
    lines = [block.head, ["---"] * len(block.head), *block.rows]
    cells = [
        "| " + " | ".join(cell if k == 1 else escaped(cell) for cell in line) + " |" for k, line in enumerate(lines)
    ]
    note = f"\n\n*{escaped(block.note)}*" if block.note else ""
    return f"**{escaped(block.title)}**\n\n" + "\n".join(cells) + note


def escaped(text: str) -> str:
    """Text whose signs Markdown does not take for its own."""
    text = re.sub(r"([\\`*|\[\]])", r"\\\1", " ".join(text.split()))
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # within a word it has no meaning
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def html(blocks: Sequence[Block]) -> str:
    """The body of a page; a heading of level 2 opens a section."""
    parts, opened = [], False
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            parts += ["</section>"] * opened + [f'<section id="{slug(block.text)}">']
            opened = True
        parts.append(_html(block))
    return "\n".join([*parts, *["</section>"] * opened])


def contents(blocks: Sequence[Block]) -> str:
    """A list of the sections, with links."""
    heads = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    items = "".join(f'<li><a href="#{slug(text)}">{_safe(text)}</a></li>' for text in heads)
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>'


def slug(text: str) -> str:
    """A heading as an address within the page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{_safe(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_safe(block.text)}</p>"
    if isinstance(block, Bullets):
        items = [f"<li>{f'<b>{_safe(lead)}</b> ' if lead else ''}{_safe(text)}</li>" for lead, text in block.items]
        return "<ul>" + "".join(items) + "</ul>"
    if isinstance(block, Code):
        return f"<pre><code>{_safe(block.text)}</code></pre>"
    if isinstance(block, Figure):
        picture = inline(block.svg, block.name, block.caption)
        return f'<figure><div class="scroll">{picture}</div><figcaption>{_safe(block.caption)}</figcaption></figure>'
    return _table(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_safe(cell)}</th>' for cell in table.head)
    rows = []
    for first, *rest in table.rows:
        cells = "".join(f"<td{_kind(cell)}>{_safe(cell)}</td>" for cell in rest)
        rows.append(f'<tr><th scope="row">{_safe(first)}</th>{cells}</tr>')
    note = f'<p class="note">{_safe(table.note)}</p>' if table.note else ""
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    # A box that scrolls must be reachable by the keyboard.
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{_safe(table.title)}">'
    return f'<div class="table"><h3>{_safe(table.title)}</h3>{box}<table>{body}</table></div>{note}</div>'


def _kind(cell: str) -> str:
    """Sentences in cells may break; numbers may not."""
    return ' class="words"' if len(cell) > 30 and not re.match(r"[\d-]", cell) else ""


def _safe(text: str) -> str:
    return entities.escape(text)


def inline(svg: str, prefix: str, label: str) -> str:
    """An SVG file as part of a page: its names made its own, its outside references gone, and words for who cannot see.

    Args:
        svg: Content of the file.
        prefix: Set before every id, since those of two figures may be the same.
        label: What it shows.
    """
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r'(\b(?:xlink:)?href)="#([^"]+)"', rf'\1="#{prefix}-\2"', body)
    opening, rest = body.split(">", 1)
    opening = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{_safe(label)}">{rest}'
