"""Tables and figure of the gradient modes."""

from __future__ import annotations

from experiments.common import cell, digits, table
from experiments.drawing import colour, label_ends, panels
from experiments.gradient_modes.problems import MOVING, REST, SITUATIONS

LINES = {"direct": "-", "adjoint": "--"}
MARKS = {"direct": "o", "adjoint": "s"}


def power(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def curves(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Rows by library and mode, in the order of the tolerances."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in sorted(rows, key=lambda row: row["framework"]):
        found.setdefault((row["framework"], row["mode"]), []).append(row)
    return found


def tables(results: dict) -> str:
    lines, middle = [], 1e-5
    header = ["library", "mode", "forward, ms", "gradient, ms", "gradient / forward", "kept, MB", "error"]
    for row in sorted(results["rows"], key=lambda row: row["framework"]):
        if abs(row["rtol"] / middle - 1) < 1e-6:
            lines.append([row["framework"], row["mode"], *_costs(row)])
    parts = [
        f"At rtol 1e-5, {results['subjects']} subjects dosed at 0, 12, 24 and 36 h, {results['points']} report points "
        "an interval; median (10th to 90th percentile) of the blocks' mean time; forward without gradients.",
        table(header, lines),
    ]
    wanted = [f"rtol {rtol:.0e}".replace("e-0", "e-") for rtol in results["tolerances"]]
    for situation in SITUATIONS:
        for what, about in (("bias_error", "the biases"), ("error", "all weights and biases")):
            parts.append(f"Relative error of the gradient with regard to {about}, {situation}:")
            body = [
                [*key, *(power(row[what][situation]) if not row["failed"] else "failed" for row in rows)]
                for key, rows in curves(results["rows"]).items()
            ]
            parts.append(table(["library", "mode", *wanted], body))
    if results["doses"]:
        parts += _dose_tables(results)
    apart = max(value for kinds in results["uncertainty"].values() for value in kinds.values())
    failed = [
        f"* {row['framework']}, {row['mode']}, rtol {row['rtol']:.0e}: {row['failed']}"
        for row in results["rows"] + results["doses"]
        if row["failed"]
    ]
    parts.append(f"The two ways to the exact gradients differ by {apart:.1e} at most.")
    return "\n\n".join(parts + (["Failed:\n\n" + "\n".join(failed)] if failed else []))


def _dose_tables(results: dict) -> list[str]:
    body = [
        [*key, f"{row['rtol']:.0e}".replace("e-0", "e-"), *_doses(row)]
        for key, rows in curves(results["doses"]).items()
        for row in rows
    ]
    columns = [f"{what}, {situation}" for situation in SITUATIONS for what in ("time", "amount")]
    title = (
        "Relative error of the gradient with regard to times and amounts of the doses (the field has a daily rhythm):"
    )
    return [title, table(["library", "mode", "rtol", *columns], body)]


def _costs(row: dict) -> list[str]:
    if row["failed"]:
        return [f"failed: {row['failed'][:80]}", "", "", "", ""]
    ratio = row["gradient_ms"]["median"] / row["forward_ms"]["median"]
    kept = digits(row["kept_mb"])
    return [cell(row["forward_ms"]), cell(row["gradient_ms"]), f"{ratio:.1f}", kept, power(row["error"][MOVING])]


def _doses(row: dict) -> list[str]:
    if row["failed"]:
        return [f"failed: {row['failed'][:80]}", "", "", ""]
    return [power(row["error"][situation][what]) for situation in SITUATIONS for what in ("time", "amount")]


def draw(results: dict):
    figure, ((rest, moving, cost),) = panels(3)
    ends: dict = {axis: [] for axis in (rest, moving, cost)}
    for (name, mode), rows in curves(results["rows"]).items():
        rows = [row for row in rows if not row["failed"] and row["gradient_ms"]]
        if not rows:
            continue
        style = {"color": colour(name), "ls": LINES[mode], "marker": MARKS[mode], "ms": 4.5, "lw": 1.8}
        for axis, situation in ((rest, REST), (moving, MOVING)):
            errors = [row["bias_error"][situation] for row in rows]
            axis.plot([row["rtol"] for row in rows], errors, **style)
            ends[axis].append((rows[-1]["rtol"], errors[-1], f"{name} {mode}", colour(name)))
        times = [row["gradient_ms"]["median"] for row in rows]
        errors = [row["error"][MOVING] for row in rows]
        cost.plot(times, errors, **style)
        ends[cost].append((times[-1], errors[-1], f"{name} {mode}", colour(name)))
    good = [row for row in results["rows"] if not row["failed"]]
    low = min((row["bias_error"][situation] for row in good for situation in SITUATIONS), default=1e-12)
    for axis in (rest, moving):
        axis.plot(results["tolerances"], results["tolerances"], color="#555555", lw=1, ls=":")
        axis.annotate(
            "error = rtol", (results["tolerances"][len(results["tolerances"]) // 2],) * 2, xytext=(-6, -4),
            textcoords="offset points", color="#555555", fontsize=9.5, ha="right", va="top",
        )  # fmt: skip
        axis.set(xlabel="rtol", xscale="log", yscale="log", ylim=(low / 3, 1))
        axis.invert_xaxis()
    cost.set(xlabel="time of a gradient (ms)", xscale="log", yscale="log", ylim=(low / 3, 1))
    rest.set(ylabel="relative error of the biases' gradient", title=f"Biases, {REST}")
    moving.set(ylabel="relative error of the biases' gradient", title=f"Biases, {MOVING}")
    cost.set(ylabel="relative error of the whole gradient", title=f"All weights, {MOVING}")
    for axis in (rest, moving, cost):
        label_ends(axis, ends[axis])
    return figure
