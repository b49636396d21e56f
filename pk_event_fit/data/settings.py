"""Which cohort a fit is to have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..simulate import Design, Population

SOURCES = ("simulated", "file", "table", "croissant")
ERRORS = ("additive", "log")
ALL = "all"  # covariates


@dataclass(kw_only=True)
class Data(Population, Design):
    """Where the cohort comes from.

    Attributes:
        source: `simulated`, from a file that is made on first use; `file`, any npz with `all_solutions`; `table`, a
            NONMEM-style table of doses and observations; or `croissant`, a folder or zip of one with what it leaves
            unsaid: compartments, initial amounts, units, what happens to doses on their way in.
        path: The file; None for `data/pk_dataset_2C.npz`, with a digest of the settings where they are not the default.
        dataset: In its place, a table that the package knows: `theophylline`, `indometacin`, `phenobarbital` or
            `remifentanil`.
        noise_sd: Standard deviation of noise added to what is observed, mg; not in tables.
        held_out: Subjects that the fit does not see, drawn by `seed`.
        folds: In its place, how many parts the subjects are divided into, drawn by `seed`; of as many as there are
            subjects each is alone. None for none.
        fold: Which of the parts the fit does not see, from 0; None for a fit that sees them all.
        stratify: Whether those that are not seen, and those of `validation`, are drawn evenly along the subjects' total
            doses.
        forecast: Doses that the fit sees of each subject, whose later ones it is to foretell; None for all.
        augment: Noisy copies of each subject that is fitted, besides itself, drawn by `seed`.
        augment_sigma: Standard deviation of the noise of one observation, relative to the value, or in the unit of what
            is observed.
        augment_relative: Which of the two.
        validation: Subjects of those left to fit that judge the fit on its way instead, drawn by `seed`.
        compartments: Names of a table's compartments, in the order of CMT; None for those that the file tells.
        measured: The one that observations without CMT are of, likewise.
        volume: Where concentrations were measured, the volume of distribution to begin with, L: an amount divided by
            it is a concentration, and it is fitted with the weights. None where amounts were measured.
        scale: Amount that counts as one to the network, mg: about the largest there is.
        error: `additive`, or `log` for errors of the logarithm.
        per: Covariate that a table's amounts are divided by, such as a weight; None for none.
        lag: ALAG of each compartment, h; None for none. Likewise `bioavailability` (F), `modelled_rate` (R, mg/h, or
            that by `per`) and `modelled_duration` (D, h).
        covariates: Those that the field sees, by name, or `[all]`; None for none. Of simulated subjects these are their
            kinetic parameters; of a file its `covariates`, too; of a table any column of numbers.
        observed_unit: Of what a table's observations are, for figures and messages.
        time_unit: Of its times, likewise.

    Raises:
        ConfigError: A value is out of range.
    """

    source: str = "simulated"
    path: str | None = None
    dataset: str | None = None
    noise_sd: float = 0.0
    held_out: int = 0
    folds: int | None = None
    fold: int | None = None
    stratify: bool = False
    forecast: int | None = None
    augment: int = 0
    augment_sigma: float = 0.01
    augment_relative: bool = True
    validation: int = 0
    compartments: list[str] | None = None
    measured: str | None = None
    volume: float | None = None
    scale: float = 1.0
    error: str = "additive"
    per: str | None = None
    lag: list[float] | None = None
    bioavailability: list[float] | None = None
    modelled_rate: list[float] | None = None
    modelled_duration: list[float] | None = None
    covariates: list[str] | None = None
    observed_unit: str = "mg"
    time_unit: str = "h"

    @property
    def tabular(self) -> bool:
        """Whether each subject has doses and observations of its own."""
        return self.source in ("table", "croissant")

    def __post_init__(self):
        Population.__post_init__(self)
        Design.__post_init__(self)
        for name, choices in (("source", SOURCES), ("error", ERRORS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"data.{name}={getattr(self, name)}: choose one of {', '.join(choices)}")
        if self.source == "file" and not self.path:
            raise ConfigError("data.path: data=file needs the path of an npz file")
        if not 0 <= self.noise_sd < np.inf:
            raise ConfigError(f"data.noise_sd={self.noise_sd}: must be 0 or more, and finite")
        if self.held_out < 0 or (self.source == "simulated" and self.held_out >= self.subjects):
            raise ConfigError(f"data.held_out={self.held_out}: must be 0 or more, and leave subjects to fit")
        self._check_parts()
        left = self.subjects - self.held_out if self.source == "simulated" else np.inf
        if not 0 <= self.validation < left:
            raise ConfigError(f"data.validation={self.validation}: must be 0 or more, and leave subjects to fit")
        if self.source != "file" and self.end is None:  # of a file its times may tell it
            self.end = self.until
        if self.initial is not None:
            if self.source != "simulated":
                raise ConfigError(f"data.initial={self.initial}: is for simulated subjects alone")
            self.begin(self.model, np.tile(self.typical_parameters(), (len(self.initial), 1)))
        names = self.covariates
        if names is not None and (not names or len(set(names)) < len(names) or (ALL in names and len(names) > 1)):
            raise ConfigError(f"data.covariates={names}: needs different names, or [{ALL}]")
        for name in ("volume", "scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ConfigError(f"data.{name}={value}: must be above 0, and finite")
        if self.tabular:
            self._check_table()
            return
        for name in ("dataset", "volume", "per", "lag", "bioavailability", "modelled_rate", "modelled_duration"):
            if getattr(self, name) is not None:
                raise ConfigError(f"data.{name}={getattr(self, name)}: is for tables alone (data=nonmem)")
        if self.error != "additive":
            raise ConfigError(f"data.error={self.error}: is for tables alone (data=nonmem)")

    def _check_parts(self) -> None:
        """What is fitted of the subjects, and what is not."""
        if self.folds is None and self.fold is not None:
            raise ConfigError(f"data.fold={self.fold}: needs data.folds, how many parts there are")
        if self.folds is not None:
            if self.held_out:
                raise ConfigError(f"data.held_out={self.held_out}, data.folds={self.folds}: choose one of the two")
            most = self.subjects if self.source == "simulated" else np.inf
            if not 2 <= self.folds <= most:
                raise ConfigError(f"data.folds={self.folds}: must be 2 or more, and no more than there are subjects")
            if self.fold is not None and not 0 <= self.fold < self.folds:
                raise ConfigError(f"data.fold={self.fold}: must be 0 to {self.folds - 1}")
        if self.stratify and self.folds is None and not (self.held_out or self.validation):
            raise ConfigError("data.stratify=true: needs data.held_out, data.folds or data.validation")
        if self.forecast is not None and not 1 <= self.forecast <= 1_000_000:
            raise ConfigError(f"data.forecast={self.forecast}: must be 1 or more")
        if not 0 <= self.augment <= 100_000:
            raise ConfigError(f"data.augment={self.augment}: must be 0 to 100,000")
        if not 0 < self.augment_sigma < np.inf:
            raise ConfigError(f"data.augment_sigma={self.augment_sigma}: must be above 0, and finite")

    def _check_table(self) -> None:
        told = self.source == "croissant"
        if told and (self.path is None or self.dataset is not None):
            raise ConfigError("data.path: data=croissant needs the path of a folder or zip, and no data.dataset")
        if not told and (self.path is None) == (self.dataset is None):
            raise ConfigError("data.path, data.dataset: a table needs one of the two")
        if self.noise_sd:
            raise ConfigError(f"data.noise_sd={self.noise_sd}: what a table holds has been measured; leave it 0")
        names = self.compartments
        if told and names is None:
            return
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"data.compartments={names}: a table needs their names, all different")
        if self.measured not in names and not (told and self.measured is None):
            raise ConfigError(f"data.measured={self.measured}: choose one of {', '.join(names)}")
        for name in ("lag", "bioavailability", "modelled_rate", "modelled_duration"):
            values: Any = getattr(self, name)
            if values is not None and len(values) != len(names):
                raise ConfigError(f"data.{name}={values}: needs {len(names)} values, one for each compartment")
