"""What `croissant.json` says of a data set: Croissant 1.0, as JSON-LD."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..nonmem.reader import KNOWN
from ..nonmem.text import key_of
from .dataset import ABOUT, Dataset

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
OWN = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
# The one that the specification asks for.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {name: f"cr:{name}" for name in OWN}
# A column of whole numbers may have gaps, which only numbers with a point can show.
TYPES = {"ID": "sc:Text", "EVID": "sc:Integer", "MDV": "sc:Integer", "CENS": "sc:Integer"}
MEANING = {
    "ID": "Subject",
    "TIME": "Time",
    "DV": "What was observed; empty where nothing was",
    "AMT": "Amount of a dose",
    "CMT": "Compartment that is dosed or observed, by its number; empty for the measured one",
    "EVID": "0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose",
    "MDV": "1 where DV does not count, else 0",
    "RATE": "0 bolus, above 0 the rate of an infusion, -1 modelled rate, -2 modelled duration",
    "ADDL": "Further doses",
    "II": "Time from dose to dose",
    "SS": "1: the state is replaced by the steady state at interval II; 2: it is added",
    "CENS": "1: the value lies below DV; -1: above it; 0: it is as observed",
    "LLOQ": "Limit of quantification",
}
FILES = {
    "events": "Doses and observations, one row an event, in the terms of NONMEM",
    "subjects": "What was in the compartments before each subject's first row",
    "compartments": "Compartments, and what happens to doses on their way in",
    "columns": "What each column of the events is",
}
NUMBERS = ("lag", "bioavailability", "modelled_rate", "modelled_duration")


def describe(dataset: Dataset, files: Mapping[str, bytes], headers: Mapping[str, list[str]]) -> dict[str, Any]:
    """The content of `croissant.json`.

    Args:
        dataset: What the files hold.
        files: Bytes of each, by the names in `FILES`.
        headers: Columns of each.
    """
    about = {key: dataset.about[key] for key in ABOUT if key in dataset.about}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        **about,
        "distribution": [_file(name, content) for name, content in files.items()],
        "recordSet": [_records(name, headers[name], dataset) for name in files],
    }


def _file(name: str, content: bytes) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{name}.csv",
        "name": f"{name}.csv",
        "description": FILES[name],
        "contentUrl": f"{name}.csv",
        "contentSize": f"{len(content)} B",
        "encodingFormat": "text/csv",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _records(name: str, header: list[str], dataset: Dataset) -> dict[str, Any]:
    fields = []
    for column in header:
        kind, meaning = _column(name, column, dataset)
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{name}/{quote(column, safe='')}",
                "name": column,
                "description": meaning,
                "dataType": kind,
                "source": {"fileObject": {"@id": f"{name}.csv"}, "extract": {"column": column}},
            }
        )
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": FILES[name], "field": fields}


def _column(name: str, column: str, dataset: Dataset) -> tuple[str, str]:
    """Type and meaning of a column."""
    if name == "events":
        key, unit = key_of(column), dataset.units.get(key_of(column), "")
        of = f", {unit}" if unit else ""
        if key in KNOWN:
            return TYPES.get(key, "sc:Float"), MEANING[key] + of
        known = column in dataset.table.covariates
        return ("sc:Float", f"Covariate {column}{of}") if known else ("sc:Text", f"{column}{of}")
    if name == "subjects" and column != "ID":
        return "sc:Float", f"Amount in {column.removeprefix('initial_')} before the first row"
    if name == "compartments":
        kinds = dict.fromkeys(NUMBERS, "sc:Float") | {"number": "sc:Integer", "measured": "sc:Integer"}
        return kinds.get(column, "sc:Text"), column.replace("_", " ").capitalize()
    return "sc:Text", MEANING["ID"] if column == "ID" else column.capitalize()
