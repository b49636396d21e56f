"""Figures of an evaluation as PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from .ink import STYLE

DPI = 150


def drawn(draw: Callable[[], Figure | None], caption: str) -> dict[str, bytes] | None:
    """What `draw` makes, as `png` and `svg`, in the style of all figures; the same figure gives the same bytes."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        if figure is None:
            return None
        found = {}
        for kind in ("png", "svg"):
            stream = io.BytesIO()
            about: dict[str, Any] = {"Title": caption} | ({"Date": None} if kind == "svg" else {})
            figure.savefig(stream, format=kind, dpi=DPI, metadata=about)
            figure.set_layout_engine("none")  # what was laid out once need not be again
            found[kind] = stream.getvalue()
    return found
