"""An evaluation as a document: `evaluation.html` and `summary.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report.document import Block, Bullets, Figure, Heading, Paragraph, Table
from .measures import OVERALL

SAID = 6  # subjects of a fold by name
COLUMNS = (
    ("n", "n"), ("rmse", "RMSE ({unit})"), ("r2", "R²"), ("wmape_percent", "weighted MAPE (%)"),
    ("chi_square", "chi-square"), ("reduced_chi_square", "reduced chi-square"), ("parameters", "parameters"),
    ("aic", "AIC"), ("bic", "BIC"),
)  # fmt: skip
QUANTITIES = {
    "cmax": "Cmax", "tmax": "Tmax", "auc_last": "AUC to the last", "auc_inf": "AUC to infinity", "lambda_z": "lambda_z",
    "half_life": "half-life", "clearance": "CL", "volume": "Vz", "auc_tau": "AUCtau", "ctrough": "trough",
}  # fmt: skip


def blocks(content: Mapping[str, Any], pictures: Mapping[str, tuple[str, str]]) -> list[Block]:
    """The page.

    Args:
        content: Of `evaluation.json`.
        pictures: Caption and SVG of each figure, by name.
    """

    def figures(*names: str) -> list[Block]:
        return [
            Figure(name.replace("_", "-"), f"figures/{name}.svg", *pictures[name]) for name in names if name in pictures
        ]

    field, training = figures("field"), figures("training")
    fits = [Paragraph(content["no_curves"])] if content["no_curves"] else []
    return [
        Heading(1, f"Evaluation of {content['title']}"),
        Heading(2, "What was evaluated"),
        Bullets(_about(content)),
        Heading(2, "Goodness of fit"),
        *_goodness(content),
        *_folds(content),
        *figures("goodness_of_fit", "residuals"),
        Heading(2, "Individual fits"),
        *fits,
        *figures("individual_fits", "individual_fits_log"),
        Heading(2, "Non-compartmental analysis"),
        *_exposure(content),
        *([Heading(2, "Learned and true field"), *field] if field else []),
        *([Heading(2, "Training"), *training] if training else []),
    ]


def _about(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, parts = content["data"], content["parts"]
    who = ", ".join(f"{name} {count}" for name, count in parts.items())
    runs = ", ".join(content["runs"])
    items = [("Run:" if len(content["runs"]) == 1 else "Runs:", runs)]
    items += [
        ("Framework:", f"{content['framework']}, {content['precision']}"),
        ("Data:", data["words"]),
        ("Doses:", data["doses"]),
    ]
    items += [("Subjects:", who), ("Parameters of a run:", f"{content['parameters']:,}")]
    if content["members"] > 1:
        note = (
            f"median of {content['members']} runs; bands are those of an ensemble, without any noise of measurement, "
            "and no visual predictive check"
        )
        items.append(("Prediction:", note))
    if content["folds"]:
        items.append(("Prediction:", "each subject's is that of the run that left it out"))
    sigma = content["sigma"]
    scale = " (of the logarithm)" if data["settings"]["error"] == "log" else f" {content['unit']}"
    told = "not known, so there is no chi-square" if sigma is None else f"{sigma:g}{scale}"
    return [*items, ("Standard deviation of an observation:", told)]


def _goodness(content: Mapping[str, Any]) -> list[Block]:
    found: list[Block] = []
    scales = dict.fromkeys(scale for one in content["goodness"].values() for scale in one)
    for scale in scales:
        rows = [
            [f"{part}, {compartment}", *(number(told[key]) for key, _ in COLUMNS)]
            for part, own in content["goodness"].items()
            for compartment, told in own.get(scale, {}).items()
            if compartment != OVERALL or len(own[scale]) > 2  # of one compartment that is the same row again
        ]
        unit = content["unit"] if scale == "values" else "1"
        shown = [k for k in range(len(COLUMNS)) if any(row[k + 1] != "–" for row in rows)]
        head = ["subjects, compartment", *(COLUMNS[k][1].format(unit=unit) for k in shown)]
        cells = [[row[0], *(row[k + 1] for k in shown)] for row in rows]
        found.append(Table(f"Goodness of fit of {scale}", head, cells, _counted(content)))
    return found


def _folds(content: Mapping[str, Any]) -> list[Block]:
    """Each part of a cross-validation."""
    if not content["folds"]:
        return []
    head = ["fold", "subjects left out", "n", f"RMSE ({content['unit']})", "R²", "weighted MAPE (%)",
            "reduced chi-square"]  # fmt: skip
    names = ("n", "rmse", "r2", "wmape_percent", "reduced_chi_square")
    rows = [
        [str(one["fold"]), listed(one["subjects"]), *(number(one[name]) for name in names)] for one in content["folds"]
    ]
    return [Table("Fold by fold", head, rows)]


def listed(labels: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(labels[:SAID]) + (f" and {len(labels) - SAID} more" if len(labels) > SAID else "")


def _counted(content: Mapping[str, Any]) -> str:
    if content["members"] > 1:
        return "n is the number of observations. A median of runs has no likelihood: no AIC and BIC."
    text = (
        "n is the number of observations; parameters are those fitted to them, 0 for subjects or data that the fit did "
        "not see"
    )
    text = f"{text}, and one more where the standard deviation is estimated from the residuals."
    told = [row for scales in content["goodness"].values() for one in scales.values() for row in one.values()]
    if any(row["parameters"] >= row["n"] for row in told if row["aic"] is not None):
        text += (
            " Where there are no fewer parameters than observations, AIC and BIC say nothing of a model: both are for "
            "many more observations than parameters."
        )
    return text


def _exposure(content: Mapping[str, Any]) -> list[Block]:
    found: list[Block] = []
    units = content["nca_units"]
    gone: dict[tuple[str, str], list[str]] = {}
    for part, compartments in content["nca"].items():
        for compartment, told in compartments.items():
            rows = []
            for name, one in told.items():
                if "left_out" in one:
                    gone.setdefault((QUANTITIES[name], one["left_out"]), []).append(f"{part}, {compartment}")
                    continue
                rows.append([
                    f"{QUANTITIES[name]} ({units[name]})", str(one["profiles"]), number(one["observed_median"]),
                    number(one["predicted_median"]), number(one.get("median_error_percent")),
                    number(one.get("p90_absolute_error_percent")),
                ])  # fmt: skip
            head = ["quantity", "profiles", "data, median", "prediction, median", "median error (%)",
                    "90 % have less than (%)"]  # fmt: skip
            if rows:
                found.append(Table(f"{part}, {compartment}", head, rows))
    if not found:
        return [Paragraph("Nothing was observed after a dose.")]
    note = (
        "Each interval from a dose to the next is a profile; data and prediction are analysed at the same points, with "
        "areas linear up and logarithmic down. Of amounts, which are no concentrations, CL is a rate constant and Vz a "
        "number; doses are as the data have them, such as by weight. The error is that of each profile, in percent of "
        "its data; beside it what 90 % of profiles stay below."
    )
    items = [(f"{name}:", f"left out of {'; '.join(where)}: {why}.") for (name, why), where in gone.items()]
    return [Paragraph(note), *found, *([Bullets(items)] if items else [])]


def number(value: float | None) -> str:
    """To four figures; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 9999.5 else f"{value:.4g}"


def without_figures(parts: Sequence[Block]) -> list[Block]:
    """The tables and their sentences; sections that hold pictures alone are left out."""
    kept = [part for part in parts if not isinstance(part, Figure)]
    ends = [*kept[1:], Heading(1, "")]
    return [
        part
        for part, after in zip(kept, ends, strict=True)
        if not (isinstance(part, Heading) and isinstance(after, Heading) and part.level > 1)
    ]
