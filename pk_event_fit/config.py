"""The typed schema: the settings of each part under one roof. Values and ranges are checked where they are defined."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from . import frameworks
from .arrays.base import tolerance_floor
from .data import Data, settled
from .errors import ConfigError
from .fields import Mlp, Model
from .frameworks.base import Solver
from .study import Study
from .training import FLAT, Training

PRECISIONS = ("auto", "float32", "float64")
DEVICES = ("cpu", "gpu")
MODES = ("offline", "online", "disabled")


@dataclass(kw_only=True)
class FrameworkChoice:
    """Which framework, and settings that only some have (`Framework.settings`); None leaves them to it.

    Attributes:
        name: Its name; None where none was named.
        memory: Trials of steps that are kept at once for the way back, of every eight intervals.
        shards: Devices, or threads of a CPU, that share the subjects.
        control: Coefficients P, I and D by which a step's error decides the next step.

    Raises:
        ConfigError: A value is out of range.
    """

    name: str | None = None
    memory: int | None = None
    shards: int | None = None
    control: list[float] | None = None

    def __post_init__(self):
        for name in ("memory", "shards"):
            if (value := getattr(self, name)) is not None and not 1 <= value <= 1_000_000:
                raise ConfigError(f"framework.{name}={value}: must be 1 to 1,000,000")
        if self.control is not None and not (
            len(self.control) == 3 and all(0 <= k <= 1 for k in self.control) and self.control[1] > 0
        ):
            raise ConfigError(f"framework.control={self.control}: needs three coefficients, each 0 to 1, I above 0")

    def own(self, known: Sequence[str]) -> dict[str, Any]:
        """The settings that were given.

        Args:
            known: Those that the framework has.

        Raises:
            ConfigError: One that it does not have was given.
        """
        given = {key: value for key in ("memory", "shards", "control") if (value := getattr(self, key)) is not None}
        for key in given:
            if key not in known:
                raise ConfigError(f"framework.{key}={given[key]}: {self.name} has no such setting")
        return given


@dataclass(kw_only=True)
class Accelerator:
    """What the run computes on.

    Attributes:
        device: `cpu` or `gpu`.
        precision: `float32`, `float64`, or `auto`: float32 where that holds `solver.rtol`, float64 below.
        threads: CPU threads; None leaves it to the libraries.
        compile: Whether to compile what the library leaves uncompiled: the field, or in torchode the solver.

    Raises:
        ConfigError: A value is out of range.
    """

    device: str = "cpu"
    precision: str = "auto"
    threads: int | None = None
    compile: bool = False

    def __post_init__(self):
        for name, choices in (("device", DEVICES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"accelerator.{name}={getattr(self, name)}: choose one of {', '.join(choices)}")
        if self.threads is not None and not 1 <= self.threads <= 4096:
            raise ConfigError(f"accelerator.threads={self.threads}: must be 1 to 4096")


@dataclass(kw_only=True)
class Tracking:
    """Where progress goes besides the run's own files.

    Attributes:
        mode: Weights & Biases `offline`, `online`, or `disabled`.
        project: Its project there.
        group: Its group there; None for the sweep's folder.

    Raises:
        ConfigError: The mode does not exist.
    """

    mode: str = "offline"
    project: str = "pk_event_fit"
    group: str | None = None

    def __post_init__(self):
        if self.mode not in MODES:
            raise ConfigError(f"tracking.mode={self.mode}: choose one of {', '.join(MODES)}")


@dataclass(kw_only=True)
class Config:
    """Everything that decides what a run does.

    Attributes:
        framework: Which solver library.
        solver: How an interval is solved.
        accelerator: On what.
        data: Which cohort.
        model: Which field.
        training: How it is fitted.
        tracking: Where progress goes.
        study: What a sweep measures beside its fits.
        seed: Draws the initial weights and the order of batches.
        resume: Folder of an earlier run to go on with; None for a new run.

    Raises:
        ConfigError: A value is out of range.
    """

    framework: FrameworkChoice = field(default_factory=FrameworkChoice)
    solver: Solver = field(default_factory=Solver)
    accelerator: Accelerator = field(default_factory=Accelerator)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    tracking: Tracking = field(default_factory=Tracking)
    study: Study = field(default_factory=Study)
    seed: int = 0
    resume: str | None = None

    def __post_init__(self):
        if isinstance(self.model, Mlp):  # a network alone is the model that it makes
            self.model = Model(**asdict(self.model))
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed={self.seed}: must be 0 or more")
        size = self.training.batch_size
        data = self.data
        most = data.subjects * (1 + data.augment)
        if size is not None and data.source == "simulated" and size > most:
            raise ConfigError(f"training.batch_size={size}: the cohort has {most} subjects")
        self._check_model()
        if self.training.validate_every is not None and not data.validation:
            raise ConfigError(f"training.validate_every={self.training.validate_every}: needs data.validation")
        if self.study.cross_validate and (data.folds is None or self.study.probes):
            raise ConfigError("study.cross_validate: needs data.folds, and no study.probes")
        if self.study.probes and data.tabular:
            raise ConfigError("study.probes: a comparison needs amounts on a grid, which a table does not hold")
        if self.study.probes and (data.augment or data.forecast or data.validation or self.training.phases):
            raise ConfigError(
                "study.probes: a comparison is of one fit to what was observed: leave out data.augment, forecast and "
                "validation, and training.phases"
            )
        if self.study.probes and (data.doses is not None or data.kinetics != "pk_2c" or data.scale != 1 or data.volume):
            raise ConfigError(
                "study.probes: a comparison is of pk_2c dosed by boluses, in mg: leave out data.doses, kinetics, scale "
                "and volume"
            )

    def _check_model(self) -> None:
        """Raise where the model and the data do not suit each other, or a comparison does not suit the model."""
        model, data = self.model, self.data
        if model.structure == "mlp" and data.covariates is not None:
            raise ConfigError(f"data.covariates={data.covariates}: model=mlp sees none; choose another model")
        if model.structure == "covariate" and data.covariates is None:
            raise ConfigError("data.covariates: model=covariate needs their names, or [all] for all that the data have")
        if self.study.probes and not model.plain:
            raise ConfigError(
                f"study.probes: a comparison is of model=mlp as it is, not of model.structure={model.structure}, "
                f"model.normalise={model.normalise}"
            )
        if model.structure == "hybrid":
            if model.kinetics is None and data.source != "simulated":
                raise ConfigError("model.kinetics: name known kinetics for the data, such as pk_1c_depot")
            model.start(model.kinetics or data.kinetics)


def without_idle(values: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config without what it set beside phases: earlier versions took that and did nothing with it."""
    training = values.get("training")
    if not isinstance(training, Mapping) or training.get("phases") is None:
        return dict(values)
    return {**values, "training": {name: value for name, value in training.items() if name not in FLAT}}


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config that `dataclasses.asdict` made a dictionary of; every check runs again.

    Raises:
        ConfigError: A key is unknown, or a value is out of range.
    """
    kinds = get_type_hints(Config)
    try:
        parts = {
            name: kinds[name](**value) if is_dataclass(kinds.get(name)) else value for name, value in values.items()
        }
        return Config(**parts)
    except TypeError as error:
        raise ConfigError(f"config: {error}") from error


def decided(config: Config, group: str | None) -> Config:
    """The config with what it left open decided: framework and precision, which are said, group, absolute path, and
    what a Croissant file tells of itself.

    Raises:
        DataError: That file cannot be read, or says something else than the config.
    """
    if config.tracking.group is None:
        config = replace(config, tracking=replace(config.tracking, group=group))
    if config.data.path is not None:  # a run may be resumed from another folder
        config = replace(config, data=replace(config.data, path=str(Path(config.data.path).expanduser().absolute())))
    if config.data.source == "croissant":
        config = replace(config, data=settled(config.data))
    if config.framework.name is None:
        others = ", ".join(name for name in frameworks.available() if name != frameworks.DEFAULT)
        print(f"no framework named: taking {frameworks.DEFAULT}; the others are {others} (framework=NAME)", flush=True)
        config = replace(config, framework=replace(config.framework, name=frameworks.DEFAULT))
    if config.accelerator.precision == "auto":
        single = config.solver.rtol >= tolerance_floor(float(np.finfo(np.float32).eps))
        if not single:
            print(f"solver.rtol={config.solver.rtol} is below what float32 holds: computing in float64", flush=True)
        chosen = replace(config.accelerator, precision="float32" if single else "float64")
        config = replace(config, accelerator=chosen)
    return config


def forget_compiled() -> tempfile.TemporaryDirectory:
    """Make torch compile anew: it would else take what an earlier process compiled, and its time with it.

    Returns:
        The cache's folder, to be held as long as the process compiles.
    """
    folder = tempfile.TemporaryDirectory()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder.name
    return folder


def set_threads(threads: int | None) -> None:
    """Hold every library that is not imported yet, and torch in any case, to that many CPU threads."""
    if threads is None:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC", "PJRT_NPROC"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
