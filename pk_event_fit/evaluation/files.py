"""What an evaluation leaves in a folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import store
from ..report import page
from ..report.document import markdown
from . import pages
from .cases import Case
from .exposure import QUANTITIES, Exposure, relative_errors
from .figures import CAPTIONS, Drawn
from .measures import MEASURES

FILES = ("evaluation.json", "evaluation.csv", "nca.csv", "summary.md", "evaluation.html")
PICTURES = tuple(f"figures/{name}.{kind}" for name in CAPTIONS for kind in ("png", "svg"))


def exposures(case: Case, exposed: Exposure) -> str:
    """One row for each subject, compartment and dose."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [f"{name}_{what}" for name in QUANTITIES for what in ("observed", "predicted", "error_percent")]
    writer.writerow(["subject", "part", "compartment", "dose", "dose_time", "dose_amount", *columns])
    for part, who in case.parts.items():
        for name, pairs in exposed.found.items():
            for subject in who.tolist():
                for k in np.flatnonzero(np.isfinite(exposed.begin[name][subject])).tolist():
                    cells = [
                        value
                        for quantity in QUANTITIES
                        for value in _pair(pairs[quantity] if quantity in pairs else None, subject, k)
                    ]
                    begin, dose = exposed.begin[name][subject, k], exposed.dose[name][subject, k]
                    writer.writerow(
                        [case.labels[subject], part, name, k + 1, _cell(begin), _cell(dose), *map(_cell, cells)]
                    )
    return stream.getvalue()


def _pair(pair: tuple[np.ndarray, np.ndarray] | None, subject: int, dose: int) -> tuple[float, float, float]:
    if pair is None:
        return np.nan, np.nan, np.nan
    one, other = pair[0][subject, dose], pair[1][subject, dose]
    return float(one), float(other), float(relative_errors(one, other))


def _cell(value: Any) -> str:
    return "" if value is None or not np.isfinite(value) else repr(float(value))


def measured(content: Mapping[str, Any]) -> str:
    """One row for each measure."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["subjects", "scale", "compartment", "measure", "unit", "value"])
    for part, scales in content["goodness"].items():
        for scale, compartments in scales.items():
            for compartment, told in compartments.items():
                for name, value in told.items():
                    of_values = content["unit"] if scale == "values" else "1"
                    unit = of_values if MEASURES[name] == "observed" else MEASURES[name]
                    writer.writerow([part, scale, compartment, name, unit, "" if value is None else value])
    return stream.getvalue()


def write(folder: Path, content: Mapping[str, Any], drawn: Drawn, profiles: str) -> None:
    """Write everything; `evaluation.json` last, so that where it is, all is.

    Args:
        folder: Where to.
        content: Of `evaluation.json`.
        drawn: PNG and SVG of each figure.
        profiles: Of `nca.csv`.

    Raises:
        OSError: A file cannot be written.
    """
    pictures = {name: (content["figures"][name], kinds["svg"].decode()) for name, kinds in drawn.items()}
    parts = pages.blocks(content, pictures)
    files = {f"figures/{name}.{kind}": picture for name, kinds in drawn.items() for kind, picture in kinds.items()}
    files |= {
        "evaluation.csv": measured(content).encode(),
        "nca.csv": profiles.encode(),
        "summary.md": markdown(pages.without_figures(parts)).encode(),
        "evaluation.html": page.page(parts).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").unlink(missing_ok=True)
    for name, made in files.items():  # each takes the place of an earlier one
        store.write_bytes(folder / name, made)
    for name in PICTURES:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    store.write_json(folder / "evaluation.json", content)
