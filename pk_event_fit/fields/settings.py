"""Which field a fit is to have."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default

import numpy as np

from ..compartments import KINETICS, lookup
from ..errors import ConfigError
from .network import Mlp, Network

STRUCTURES = ("mlp", "covariate", "mass_balanced", "hybrid")


@dataclass(kw_only=True)
class Model(Network):
    """The network, and what its numbers mean.

    Attributes:
        structure: `mlp`, rates of change; `covariate`, the same of a network that sees each subject's covariates;
            `mass_balanced`, flows between compartments and out of them; `hybrid`, what known kinetics lack.
        normalise: Whether scales of amounts and rates are taken from the data; None for all but `mlp`.
        kinetics: Of a hybrid field, a name in `compartments.KINETICS`; None for that of the simulated data.
        parameters: Of these kinetics, where they begin by name, where that is not their typical value.
        learned: Those that are fitted; None for all.

    Raises:
        ConfigError: A value is out of range, or a setting is for another structure.
    """

    structure: str = "mlp"
    normalise: bool | None = None
    kinetics: str | None = None
    parameters: dict[str, float] = default(default_factory=dict)
    learned: list[str] | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.structure not in STRUCTURES:
            raise ConfigError(f"model.structure={self.structure}: choose one of {', '.join(STRUCTURES)}")
        for name, usual in (("kinetics", None), ("parameters", {}), ("learned", None)):
            if self.structure != "hybrid" and (value := getattr(self, name)) != usual:
                raise ConfigError(f"model.{name}={value}: is for known kinetics alone (model=hybrid)")
        if self.kinetics is not None and self.kinetics not in KINETICS:
            raise ConfigError(f"model.kinetics={self.kinetics}: choose one of {', '.join(KINETICS)}")
        for name, value in self.parameters.items():
            if not 0 < value < np.inf:
                raise ConfigError(f"model.parameters.{name}={value}: must be above 0, and finite")

    @property
    def network(self) -> Mlp:
        """The network alone."""
        return Mlp(hidden=self.hidden, activation=self.activation, initial_scale=self.initial_scale)

    @property
    def normalised(self) -> bool:
        """Whether scales are taken from the data."""
        return self.structure != "mlp" if self.normalise is None else self.normalise

    @property
    def plain(self) -> bool:
        """Whether the field is the network of amounts itself."""
        return self.structure == "mlp" and not self.normalised

    def start(self, kinetics: str) -> tuple[float, ...]:
        """Where the parameters of these kinetics begin, in their order.

        Raises:
            ConfigError: One is named that they do not have.
        """
        found = lookup(kinetics)
        for name in (*self.parameters, *(self.learned or ())):
            if name not in found.parameters:
                key, has = "parameters" if name in self.parameters else "learned", ", ".join(found.parameters)
                raise ConfigError(f"model.{key}: there is no {name} in {kinetics}; it has {has}")
        usual = zip(found.parameters, found.typical, strict=True)
        return tuple(float(self.parameters.get(name, value)) for name, value in usual)
