"""Cohorts as Croissant data sets (MLCommons, https://docs.mlcommons.org/croissant): a folder or a zip.

`write` makes one of `croissant.json` and four files of CSV, with nothing but the standard library; no text for missing:

* `events.csv`: one row an event, in NONMEM's terms, as `nonmem` reads and writes them
* `subjects.csv`: ID, and what was in each compartment before the subject's first row
* `compartments.csv`: number, name, description, which is measured, and what happens to a dose on its way in
* `columns.csv`: what each column of `events.csv` is (`event`, `covariate` or `text`), and its unit

`read` reads that to the same bits, and the layout of Catalax (https://github.com/JR-1991/Catalax): a file of JSON lines
for each measurement, with a column for the time and one for each species, and its initial values in `croissant.json`.
All that decides a fit is in files whose digests are checked.
"""

from .dataset import Compartment, Dataset
from .reader import read
from .writer import render, write

__all__ = ["Compartment", "Dataset", "read", "render", "write"]
