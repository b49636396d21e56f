"""Finished runs, read from their folders, and whether they suit data."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ..checkpoint import compartments_of, read_weights
from ..compartments import lookup
from ..config import Config, from_dict, without_idle
from ..data import Data
from ..errors import CheckpointError, ConfigError, DataError
from ..fields import Field, Measured, Mlp, inside
from ..report.files import TEXT, read_json, read_text


class Run(NamedTuple):
    """A finished run.

    Attributes:
        folder: Where it lies.
        config: Its settings.
        field: Its field.
        params: The field's parameters.
        digest: Of the data that it was fitted to; None where its provenance does not say.
        history: Columns of `history.csv`; of numbers where all are, else of text. None where there is none.
    """

    folder: Path
    config: Config
    field: Field
    params: dict[str, np.ndarray]
    digest: str | None
    history: dict[str, np.ndarray] | None

    @property
    def size(self) -> int:
        """Number of fitted parameters: of those that moved in some phase."""
        moved: set[str] = set()
        for phase in self.config.training.plan:
            names = phase.moving(self.params.keys())
            moved |= set(self.params) if names is None else names
        return sum(self.params[name].size for name in moved)

    @property
    def width(self) -> int:
        """Number of compartments."""
        return compartments_of(self.field, self.params)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of those that the field sees."""
        model = inside(self.field)
        return () if isinstance(model, Mlp) else model.covariates


def read_run(folder: Path) -> Run:
    """A run from its `config.yaml`, `weights.npz`, `provenance.json` and `history.csv`; the last two may be missing.

    Raises:
        CheckpointError: One of the first two is missing, or any is damaged.
    """
    folder = Path(folder).expanduser()
    for name in ("config.yaml", "weights.npz"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: holds no finished run (has no {name})")
    try:
        settings = yaml.safe_load(read_text(folder / "config.yaml") or "")
        if not isinstance(settings, dict):
            raise ConfigError("is no table of settings")
        config = from_dict(without_idle(settings))
    except (ConfigError, DataError, yaml.YAMLError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.yaml'}: {' '.join(str(error).split())}") from error
    field, params = read_weights(folder / "weights.npz")
    try:
        about = read_json(folder / "provenance.json", {"data_digest": TEXT}) or {}
        history = _history(folder / "history.csv")
    except DataError as error:
        raise CheckpointError(f"{folder}: provenance.json or history.csv {error}") from error
    return Run(folder, config, field, params, about.get("data_digest"), history)


def _history(path: Path) -> dict[str, np.ndarray] | None:
    """Whatever columns there are: those of later versions have phases, and other losses."""
    if (text := read_text(path)) is None:
        return None
    head, *rows = [row for row in csv.reader(text.splitlines()) if row] or [[]]
    if not head or not rows or any(len(row) != len(head) for row in rows):
        return None if not rows else _refuse()
    return {name: _column([row[k] for row in rows]) for k, name in enumerate(head)}


def _refuse() -> Any:
    raise DataError("has rows of other lengths than its head")


def _column(texts: list[str]) -> np.ndarray:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return np.array(texts)


def suited(run: Run, settings: Data) -> Data:
    """The settings of data as the run's field takes them: with the covariates that it sees, in its order.

    Raises:
        ConfigError: They are measured in something else, or their compartments are others.
    """
    own = run.config.data
    concentration = isinstance(run.field, Measured)
    if concentration != (settings.volume is not None):
        has, asked = ("concentrations", "amounts") if concentration else ("amounts", "concentrations")
        raise ConfigError(f"data.volume={settings.volume}: the run predicts {has}, and the data are {asked}")
    for name in ("observed_unit", "time_unit", "per"):
        if getattr(own, name) != getattr(settings, name):
            raise ConfigError(f"data.{name}={getattr(settings, name)}: the run was fitted in {getattr(own, name)}")
    names = _compartments(own), _compartments(settings)
    if None not in names and names[0] != names[1]:
        raise ConfigError(f"data: the run has {', '.join(names[0] or ())}, and the data {', '.join(names[1] or ())}")
    return replace(settings, covariates=list(run.covariates) or None)


def _compartments(settings: Data) -> tuple[str, ...] | None:
    """Names of compartments as far as the settings tell them."""
    if settings.source == "simulated":
        return lookup(settings.kinetics).compartments
    return None if settings.compartments is None else tuple(settings.compartments)
