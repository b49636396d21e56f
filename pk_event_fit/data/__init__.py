"""Cohorts: files in, arrays out, batches."""

from __future__ import annotations

from .archives import describe, load_archive, settled
from .arrays import of_arrays, write_cohort
from .cohort import Batch, Cohort, batch_of, batches
from .copies import Shown, augment, shown
from .grids import DEFAULT_PATH, SCHEMA_VERSION, load_grid, write
from .joining import joined
from .overview import summary, unfitted
from .regimens import jitter, superpose
from .settings import Data
from .splits import Split, forecast, judges, k_fold, leave_one_out, split, total_dose, train_test_split
from .tables import load_table
from .units import units_of

__all__ = [
    "DEFAULT_PATH", "SCHEMA_VERSION", "Batch", "Cohort", "Data", "Shown", "Split", "augment", "batch_of", "batches",
    "describe", "forecast", "jitter", "joined", "judges", "k_fold", "leave_one_out", "load", "of_arrays", "settled",
    "shown", "split", "summary", "superpose", "total_dose", "train_test_split", "unfitted", "units_of", "write",
    "write_cohort",
]  # fmt: skip


def load(settings: Data) -> Cohort:
    """The cohort that the settings ask for; a simulated one is made, and its file written, where it is missing.

    Raises:
        DataError: The file is damaged, does not hold what it should, or is not what the settings ask for.
        ScheduleError: A row of a table is impossible for its compartments.
    """
    loaders = {"table": load_table, "croissant": load_archive}
    return loaders.get(settings.source, load_grid)(settings)
