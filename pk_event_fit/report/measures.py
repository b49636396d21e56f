"""Every number of a sweep in one place: for the tables and texts, and as the long tidy table `measurements.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..metrics.statistics import spread
from .numbers import Numbers
from .series import MODES, Series, collect, inside
from .standing import Standing, compare, mean, standing
from .sweep import Run, Sweep

# Of what `measurements.csv` gives the ratio to the best: metric and detail, less is better in all.
COMPARED = (
    *((name, mode) for mode in MODES for name in ("forward", "gradient", "step")),
    ("step", "fit/median"), ("training", "fit"), ("memory_above", "fit"), ("rmse", ""), ("rmse", "held out"),
)  # fmt: skip


class Measurement(NamedTuple):
    """A row of `measurements.csv`; None stands for what does not apply.

    Attributes:
        variant: Framework, plain or compiled.
        framework: Its library.
        compiled: Whether it is the compiled one.
        seed: Of the run; None for what is of no one run.
        dimension: `performance`, `stability`, `accuracy` or `reproducibility`.
        metric: What was measured.
        detail: In what case.
        unit: Unit of the numbers.
        value: The number, or the mean of n.
        low: Lower end of a 95 % interval.
        high: Its upper end.
        sd: Standard deviation of the n.
        n: Of how many.
        source: File of the sweep that it came from, or several.
    """

    variant: str
    framework: str | None
    compiled: bool
    seed: int | None
    dimension: str
    metric: str
    detail: str
    unit: str
    value: float
    low: float | None
    high: float | None
    sd: float | None
    n: int
    source: str


class Evidence:
    """A sweep, what was measured in it, and who formats it.

    Args:
        sweep: The sweep.

    Attributes:
        sweep: The same.
        numbers: Formats every number of a text.
        problems: What was wrong, besides what the sweep says itself.
        frameworks: Of each variant: its framework, and whether it is compiled.
    """

    def __init__(self, sweep: Sweep):
        self.sweep, self.numbers = sweep, Numbers()
        self.series, self.problems = collect(sweep)
        self._places = {(one.variant, one.metric, one.detail): one for one in self.series}
        self.frameworks: dict[str, tuple[str | None, bool]] = {}
        for variant in sweep.variants:
            named = [run for run in sweep.runs if run.variant == variant]
            compiled = variant.endswith("-compiled")
            name = named[0].framework if named and named[0].framework else variant.removesuffix("-compiled")
            self.frameworks[variant] = (name, compiled)

    @property
    def plain(self) -> list[str]:
        """The variants that are not compiled."""
        return [variant for variant, (_, compiled) in self.frameworks.items() if not compiled]

    @property
    def completed(self) -> list[Run]:
        """Runs that ended well."""
        return [run for run in self.sweep.runs if run.status == "completed"]

    def one(self, variant: str, metric: str, detail: str = "") -> Series | None:
        """A series; None where nothing was measured."""
        return self._places.get((variant, metric, detail))

    def mean(self, variant: str, metric: str, detail: str = "") -> float | None:
        """Its mean."""
        series = self.one(variant, metric, detail)
        return None if series is None else mean(series)

    def all(self, metric: str, detail: str = "", among: Iterable[str] | None = None) -> dict[str, Series]:
        """The series of every variant that has it."""
        variants = self.frameworks if among is None else among
        found = {variant: self.one(variant, metric, detail) for variant in variants}
        return {variant: series for variant, series in found.items() if series is not None}

    def standing(self, metric: str, detail: str = "", among: Iterable[str] | None = None) -> Standing | None:
        """Who comes first, less being better; None where nobody was measured."""
        return standing(self.all(metric, detail, among))

    def setting(self, key: str):
        """A setting that all runs have, from the first that says it."""
        return next((run.settings[key] for run in self.sweep.runs if key in run.settings), None)

    def why_no_probe(self, probe: str, variant: str, *path: str) -> str:
        """In words, why a probe gave no number: of a place in its file, where a path is given."""
        if variant not in self.sweep.probes.get(probe, {}):
            return "not measured"
        content = self.sweep.probes[probe][variant]
        if inside(content, "status") == "completed" and path:
            content = inside(content, *path)
        status, error = inside(content, "status"), inside(content, "error")
        message = inside(error, "message") if isinstance(error, dict) else error
        word = {"unsupported": "not possible", "failed": "failed", "missing": "missing", "damaged": "damaged"}
        if status not in word:
            return "not measured"
        return f"{word[str(status)]}: {self.numbers.name(message)}" if message else word[str(status)]

    def why_no_run(self, variant: str) -> str:
        """In words, why no run of a variant gave a number."""
        runs = [run for run in self.sweep.runs if run.variant == variant]
        wrong = [run for run in runs if run.status != "completed"]
        if not wrong:
            return "not measured"
        return f"{wrong[0].status}: {self.numbers.name(wrong[0].error)}" if wrong[0].error else wrong[0].status


def measurements(evidence: Evidence) -> list[Measurement]:
    """The rows of `measurements.csv`: each run's numbers, their means, and ratios to the best with their intervals."""
    rows = [row for series in evidence.series for row in _rows(evidence, series)]
    for mode in MODES:
        for variant, gradient in evidence.all("gradient", mode).items():
            forward = evidence.one(variant, "forward", mode)
            ratio = None if forward is None else compare(gradient, forward)
            if ratio is not None:
                # The gradient's time holds the forward solve's.
                ends = [None if end is None else end - 1 for end in ratio[:3]]
                rows.append(_ratio(evidence, gradient, "backward_over_forward", mode, ends, ratio.n))
    for metric, detail in COMPARED:
        order = evidence.standing(metric, detail)
        for variant, ratio in order.ratios.items() if order else ():
            series = evidence.all(metric, detail)[variant]
            case = f"{detail}, to {order.best}" if order else detail
            rows.append(_ratio(evidence, series, f"{metric}_ratio", case.removeprefix(", "), ratio[:3], ratio.n))
    return rows


def backward_cost(evidence: Evidence, variant: str, mode: str) -> tuple[float, float, float] | None:
    """Time of the backward pass over that of the forward solve, and the ends of its interval."""
    gradient, forward = evidence.one(variant, "gradient", mode), evidence.one(variant, "forward", mode)
    ratio = compare(gradient, forward) if gradient and forward else None
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return ratio.ratio - 1, ratio.low - 1, ratio.high - 1


def _rows(evidence: Evidence, series: Series) -> list[Measurement]:
    framework, compiled = evidence.frameworks.get(series.variant, (None, False))
    values = spread(list(series.values.values()))
    about = (series.dimension, series.metric, series.detail, series.unit)
    head = (series.variant, framework, compiled)
    rows = []
    if series.per == "seed":
        rows = [
            Measurement(*head, seed, *about, value, None, None, None, 1, series.sources[seed])
            for seed, value in series.values.items()
        ]
    source = " ".join(dict.fromkeys(series.sources.values()))
    if series.per != "seed" or values.n > 1:
        rows.append(Measurement(*head, None, *about, values.mean, None, None, values.sd, values.n, source))
    return rows


def _ratio(
    evidence: Evidence, series: Series, metric: str, detail: str, ends: Sequence[float | None], n: int
) -> Measurement:
    framework, compiled = evidence.frameworks[series.variant]
    value, low, high = ends
    source = " ".join(dict.fromkeys(series.sources.values()))
    return Measurement(
        series.variant, framework, compiled, None, series.dimension, metric, detail, "1", float(value or 0), low, high,
        None, n, source,
    )  # fmt: skip


def to_csv(rows: Iterable[Measurement]) -> str:
    """`measurements.csv`, every bit of every number kept."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(Measurement._fields)
    writer.writerows(rows)
    return stream.getvalue()
