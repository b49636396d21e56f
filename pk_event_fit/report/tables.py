"""The table of a sweep, from the files of its jobs."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import store

COLUMNS = (
    "job", "framework", "seed", "status", "rmse", "rmse_floor", "skill", "compile_s", "step_ms", "training_s",
    "rss_baseline_mb", "rss_peak_mb", "accepted", "rejected", "evaluations", "error",
)  # fmt: skip
HELD_OUT = "held_out_rmse"  # a column where somebody is
NUMBERS = COLUMNS[4:-1]
MEANS = ("rmse", "skill", "compile_s", "step_ms", "training_s", "rss_peak_mb")
UNITS = {
    "compile_s": "s", "step_ms": "ms", "training_s": "s", "rss_baseline_mb": "MB",
    "rss_peak_mb": "MB",
}  # fmt: skip


def row(folder: Path) -> dict[str, Any]:
    """One job's row, from its `result.json`; a damaged or missing file is a failed row that says so."""
    try:
        result = json.loads((folder / "result.json").read_text())
        performance, solver, score, error = (
            result.get(k) or {} for k in ("performance", "solver", "accuracy", "error")
        )
        step = performance.get("step_ms") or {}
        flat = {
            **result,
            **score,
            **performance,
            **solver,
            "step_ms": step.get("median"),
            "error": error.get("message"),
            HELD_OUT: (score.get("held_out") or {}).get("rmse"),
        }
        wrong = [name for name in (*NUMBERS, HELD_OUT) if not isinstance(flat.get(name), int | float | None)]
        if flat["status"] not in ("completed", "failed") or wrong:
            raise ValueError(f"no usable {', '.join(wrong) or 'status'}")
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        flat = {"status": "failed", "error": f"result.json is missing or damaged: {type(error).__name__}: {error}"}
    own = {column: flat.get(column) for column in (*COLUMNS, HELD_OUT)}
    return own | {"job": folder.name, "unit": flat.get("unit", "mg") if flat["status"] == "completed" else None}


def _refusal(folder: Path) -> str | None:
    """Why a job was refused, where its folder is its own and says so."""
    try:
        error = json.loads((folder / "result.json").read_text())["error"]
        return error["message"] if error["type"] == "Refused" else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def differing(folders: Sequence[Path]) -> dict[Path, str]:
    """What sets each job's settings apart from the others', besides framework and seed, as `key=value` words."""
    settings = {}
    for folder in folders:
        try:
            settings[folder] = dict(_flat(yaml.safe_load((folder / "config.yaml").read_text())))
        except (OSError, ValueError, yaml.YAMLError):
            settings[folder] = {}
    keys = sorted({key for one in settings.values() for key in one} - {"framework.name", "seed", "resume"})
    varied = [key for key in keys if len({repr(one.get(key)) for one in settings.values() if one}) > 1]
    return {folder: " ".join(f"{key}={one.get(key)}" for key in varied if one) for folder, one in settings.items()}


def _flat(node: Any, prefix: str = ""):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], node


def write_summary(
    sweep: Path, folders: Sequence[Path], refused: Collection[Path] = (), *,
    told: Mapping[Path, Mapping[str, Any]] | None = None, also: str = "", instead: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write `summary.csv` (one row a run) and `summary.md` (that, and mean and standard deviation by framework).

    Args:
        sweep: Where to write.
        folders: Of the jobs.
        refused: Those of them whose job never began; what lies there is another run's.
        told: What is known of a job and its row is to say, whatever its files do.
        also: Markdown to stand after the tables in `summary.md`.
        instead: Markdown to stand in their place.

    Returns:
        The rows.
    """
    apart = differing(folders)
    rows = [{**row(folder), "settings": apart[folder]} for folder in folders]
    for entry, folder in zip(rows, folders, strict=True):
        if folder in refused:
            entry |= dict.fromkeys((*NUMBERS, HELD_OUT)) | {
                "status": "failed",
                "error": _refusal(folder) or "refused; its message is on the console",
            }
        entry |= (told or {}).get(folder, {})
    columns = [*COLUMNS[:3], "settings", *COLUMNS[3:]] if any(apart.values()) else list(COLUMNS)
    if any(entry.get(HELD_OUT) is not None for entry in rows):
        columns.insert(columns.index("rmse") + 1, HELD_OUT)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    store.write_text(sweep / "summary.csv", stream.getvalue())
    text = markdown(rows, columns) if instead is None else instead
    store.write_text(sweep / "summary.md", f"{text}\n{also}" if also else text)
    return rows


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """The same as Markdown, and mean and standard deviation of completed runs by framework and settings.

    Folds of one division are told together: their mean is that of a cross-validation.
    """
    shown = [column for column in columns if any(entry.get(column) is not None for entry in rows)]
    known = {str(entry["unit"]) for entry in rows if entry.get("unit")}
    unit = known.pop() if len(known) == 1 else "" if known else "mg"  # of errors, where all runs have the same
    parts = [
        "# Runs",
        _table([_title(column, unit) for column in shown], [[_cell(e.get(c)) for c in shown] for e in rows]),
    ]
    groups: dict[tuple, list[dict]] = {}
    for entry in rows:
        settings = re.sub(r"\bdata\.fold=\S+\s?", "", entry.get("settings") or "").strip()
        groups.setdefault((entry["framework"], settings), []).append(entry)
    means = [MEANS[0], *([HELD_OUT] if HELD_OUT in shown else []), *MEANS[1:]]
    lines = []
    for (framework, settings), members in groups.items():
        done = [entry for entry in members if entry["status"] == "completed"]
        cells = [_spread([entry[column] for entry in done if entry[column] is not None]) for column in means]
        lines.append([_cell(framework), _cell(settings), f"{len(done)} of {len(members)}", *cells])
    head = ["framework", "settings", "completed", *(_title(column, unit) for column in means)]
    if not any(line[1] for line in lines):
        head, lines = [head[0], *head[2:]], [[line[0], *line[2:]] for line in lines]
    parts += ["# Mean and standard deviation over completed runs", _table(head, lines)]
    return "\n\n".join(parts) + "\n"


def _title(column: str, error_unit: str) -> str:
    unit = error_unit if column in ("rmse", "rmse_floor", HELD_OUT) else UNITS.get(column)
    name = column.removesuffix("_s").removesuffix("_ms").removesuffix("_mb").replace("_", " ")
    return f"{name} ({unit})" if unit else name


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4g}{deviation}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])
