"""Tables and figure of the long sequences."""

from __future__ import annotations

import numpy as np

from experiments.common import cell, digits, table
from experiments.drawing import NullLocator, colour, label_ends, panels, plain_numbers

FIT_FROM = 16  # doses; below, what is the same for any number of them weighs too much
DRAWS = 2000
QUANTITIES = {"time": "ms", "memory kept": "kept_mb", "memory above the start": "above_mb"}


def lines(rows, subjects):
    found: dict[str, list[dict]] = {}
    for row in rows:
        if row["subjects"] == subjects:
            found.setdefault(row["framework"], []).append(row)
    return found


def exponent(line, key):
    """Slope of log quantity over log doses by least squares, its spread, and the slopes between neighbours.

    The spread of the time is the 95 % interval over blocks drawn again; memory is measured once and has none.

    Returns:
        None with fewer than two points, else `{"slope", "low", "high", "between"}`.
    """
    held = [row for row in line if row["ms"] and row.get(key) and row["doses"] >= FIT_FROM]
    if len(held) < 2:
        return None
    x = np.log([row["doses"] for row in held])
    middle = np.log([row[key]["median"] if key == "ms" else row[key] for row in held])
    found = {"slope": float(np.polyfit(x, middle, 1)[0]), "low": None, "high": None}
    found["between"] = [float(k) for k in np.diff(middle) / np.diff(x)]
    if key == "ms":
        random = np.random.default_rng(0)
        drawn = [np.median(random.choice(row[key]["blocks"], (DRAWS, row[key]["n"])), axis=1) for row in held]
        slopes = np.polyfit(x, np.log(np.stack(drawn)), 1)[0]
        found["low"], found["high"] = (float(k) for k in np.percentile(slopes, [2.5, 97.5]))
    return found


def tables(results):
    parts = []
    for subjects in results["batches"]:
        who = "one subject" if subjects == 1 else f"{subjects} subjects"
        found = lines(results["rows"], subjects)
        counts = dict.fromkeys(row["doses"] for line in found.values() for row in line)
        header = ["library", *(f"{count:,} doses" for count in counts)]

        def body(write, why=False, found=found):
            return [
                [name, *(write(row) if row["ms"] else failure(row, why) for row in line)]
                for name, line in found.items()
            ]

        parts += [
            f"Time of a training step in ms, {who}, median (10th to 90th percentile of n blocks):",
            table(header, body(lambda row: f"{cell(row['ms'])}, n {row['ms']['n']}", why=True)),
            f"Memory in MB, {who}: kept for the way back (XLA's temporary buffers, or what torch saves) / peak of a "
            "fresh process above what it held before its first step (XLA's compiler included):",
            table(header, body(lambda row: f"{_mb(row['kept_mb'])} / {_mb(row['above_mb'])}")),
            f"Exponents from {FIT_FROM} doses on, {who}, [95 % over blocks], slopes between neighbours in brackets:",
            table(
                ["library", *QUANTITIES],
                [[name, *(_slope(exponent(line, key)) for key in QUANTITIES.values())] for name, line in found.items()],
            ),
        ]
    return "\n\n".join(parts)


def _mb(value):
    return "not known" if value is None else digits(value)


def _slope(found):
    if found is None:
        return "too few points"
    interval = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['slope']:.2f}{interval} ({', '.join(f'{k:.2f}' for k in found['between'])})"


def failure(row, why):
    """In the first table with its reason."""
    return f"failed: {row['failed'][:120]}" if why else "failed"


def draw(results):
    subjects = results["batches"][0]
    keys = ((lambda row: row["ms"]["median"]), (lambda row: row["kept_mb"]), (lambda row: row["above_mb"]))
    figure, (axes,) = panels(3)
    for axis, key in zip(axes, keys, strict=True):
        ends = []
        for name, line in lines(results["rows"], subjects).items():
            held = [row for row in line if row["ms"] and key(row)]
            if not held:
                continue
            x, y = [row["doses"] for row in held], [key(row) for row in held]
            axis.plot(x, y, color=colour(name), marker="o", ms=5, lw=2)
            ends.append((x[-1], y[-1], name, colour(name)))
        axis.set(xscale="log", yscale="log", xlabel="doses of a subject")
        axis.set_xticks(results["doses"], [f"{count:,}" for count in results["doses"]])
        axis.xaxis.set_minor_locator(NullLocator())
        plain_numbers(axis)
        if axis is not axes[2]:
            _guide(axis)
        label_ends(axis, ends)
    who = "one subject" if subjects == 1 else f"{subjects} subjects"
    axes[0].set(ylabel="time of a training step (ms)", title=f"Time, {who}")
    axes[1].set(ylabel="memory kept for the way back (MB)", title="Memory of the gradient")
    axes[2].set(ylabel="peak above the start (MB)", title="Memory of the process")
    return figure


def _guide(axis):
    """A line of proportion through the middle of what is drawn, behind it."""
    drawn = [line.get_xydata() for line in axis.lines]
    if not drawn:
        return
    points = np.log(np.concatenate(drawn))
    limits, x = axis.get_ylim(), np.array(axis.get_xlim())
    axis.plot(x, np.exp(points[:, 1].mean() - points[:, 0].mean()) * x, color="#999999", lw=1, ls=":", zorder=0)
    axis.set(ylim=limits, xlim=x)
    axis.annotate(
        "dotted: in proportion", (0.02, 0.98), xycoords="axes fraction", va="top", fontsize=9.5, color="#555555"
    )
