"""`python -m pk_event_fit.croissant OUT data=...`: the cohort of a fit as a Croissant data set, to hand on.

OUT is a new folder, or a zip where it ends with .zip. The other words are those of `python -m pk_event_fit`:
`data=nonmem data.path=mine.csv 'data.compartments=[depot,central]' data.measured=central`. What is written is read by
`data=croissant data.path=OUT`; a folder is checked by `mlcroissant validate --jsonld OUT/croissant.json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..cli import compose
from ..data import describe
from ..errors import ConfigError, PKEventError
from .dataset import Dataset
from .writer import write

TEXTS = {
    "name": "name", "description": "description", "license": "license", "cite": "citeAs", "url": "url",
    "version": "version", "date": "datePublished",
}  # fmt: skip


def main(line: Sequence[str] | None = None) -> int:
    """Do what the command line asks for.

    Returns:
        0; 2 where the input is bad, or 1 where nothing can be written: there is no new file then.
    """
    words = _parser().parse_intermixed_args(line)
    covariates = None if words.covariates is None else [name for name in words.covariates.split(",") if name]
    try:
        dataset = _told(describe(compose(words.words).data, covariates), words)
        write(words.out, dataset)
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    table, names = dataset.table, [compartment.name for compartment in dataset.compartments]
    print(f"{len(table.ids)} subjects, {len(table.records.time)} rows; compartments {', '.join(names)}")
    print(words.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pk_event_fit.croissant", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("out", metavar="OUT", help="a new folder, or a zip")
    add("words", nargs="*", metavar="data=...", help="which cohort")
    for text in TEXTS:
        add(f"--{text}", metavar="TEXT", help=f"{TEXTS[text]} of the data set")
    add("--unit", action="append", default=[], metavar="COLUMN=UNIT", help="such as WT=kg; TIME and DV are known")
    add("--describe", action="append", default=[], metavar="COMPARTMENT=TEXT", help="what a compartment stands for")
    add("--covariates", metavar="A,B", help="columns of a table that are; usually all that are numbers")
    return parser


def _told(dataset: Dataset, words: argparse.Namespace) -> Dataset:
    """The data set with what the command line says of it."""
    about = {key: value for text, key in TEXTS.items() if (value := getattr(words, text)) is not None}
    units = {column.upper(): unit for column, unit in _pairs("--unit", words.unit)}
    places = dict(_pairs("--describe", words.describe))
    if unknown := places.keys() - {compartment.name for compartment in dataset.compartments}:
        raise ConfigError(f"--describe {sorted(unknown)[0]}: there is no such compartment")
    compartments = tuple(
        compartment._replace(description=places.get(compartment.name, compartment.description))
        for compartment in dataset.compartments
    )
    return dataset._replace(compartments=compartments, units={**dataset.units, **units}, about=dataset.about | about)


def _pairs(option: str, words: Sequence[str]) -> list[tuple[str, str]]:
    found = [word.partition("=") for word in words]
    for name, mark, text in found:
        if not (name and mark and text):
            raise ConfigError(f"{option} {name}{mark}{text}: needs NAME=TEXT")
    return [(name, text) for name, _, text in found]


if __name__ == "__main__":
    sys.exit(main())
