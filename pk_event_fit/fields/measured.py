"""Fields of what is measured as concentrations, and what there is to a network besides its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError
from .network import Mlp
from .scales import Scales
from .structures import Hybrid, Normalised, Structure


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A field of amounts that are measured as concentrations.

    Attributes:
        model: The field of amounts.
        volume: Volume of distribution to begin with, L, fitted along as its logarithm.

    Raises:
        ConfigError: The volume is not above 0, or not finite.
    """

    model: Mlp | Structure
    volume: float

    def __post_init__(self):
        if not 0 < self.volume < np.inf:
            raise ConfigError(f"data.volume={self.volume}: must be above 0, and finite")

    @property
    def autonomous(self) -> bool:
        """Whether the clock is no input."""
        return self.model.autonomous

    def shapes(self, compartments: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name."""
        return self.model.shapes(compartments) | {"log_volume": (1,)}

    def initial_params(self, compartments: int, seed: int) -> dict[str, np.ndarray]:
        """Initial parameters, float64, the same bits for every framework."""
        return self.model.initial_params(compartments, seed) | {"log_volume": np.log([self.volume])}

    def observe(self, xp, params, states):
        """What is measured of amounts, mg/L."""
        return states / xp.exp(params["log_volume"])

    def __call__(self, xp, params, t, y, covariates):
        return self.model(xp, params, t, y, covariates)


Field = Mlp | Structure | Measured


def measured(model: Mlp | Structure, scale: float = 1.0, volume: float | None = None) -> Field:
    """The model in units of `scale`, mg, measured as a concentration where there is a volume, L; else as it is."""
    if scale != 1 and isinstance(model, Mlp):
        model = Normalised(network=model, scales=Scales((float(scale),), (float(scale),)))
    return model if volume is None else Measured(model=model, volume=volume)


def inside(field: Field) -> Mlp | Structure:
    """The field of amounts, however these are measured."""
    return field.model if isinstance(field, Measured) else field


def network_of(field: Field) -> Mlp:
    """The network."""
    found = inside(field)
    return found if isinstance(found, Mlp) else found.network


def plain(field: Field, params: Mapping[str, np.ndarray]) -> tuple[Mlp, dict[str, np.ndarray]]:
    """The network of amounts in mg itself: scales go into its first and its last layer.

    Raises:
        ConfigError: The field is more than a network of amounts.
    """
    model, own = inside(field), {name: value for name, value in params.items() if name != "log_volume"}
    if isinstance(model, Mlp):
        return model, own
    if not isinstance(model, Normalised) or model.covariates:
        raise ConfigError(f"model.structure={model.name}: only a network of amounts alone can be taken away as one")
    last, kind = len(model.network.hidden), own["weight_0"].dtype
    amount, rate = (np.asarray(values, kind) for values in (model.scales.amount, model.scales.rate))
    own["weight_0"] = own["weight_0"] / amount[:, None]
    own |= {name: own[name] * rate for name in (f"weight_{last}", f"bias_{last}")}
    return model.network, own


def estimates(field: Field, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What parameters mean by themselves: `volume`, L, and `kinetics` by name, at the centre of the covariates."""
    found: dict[str, Any] = {}
    if "log_volume" in params:
        found["volume"] = float(np.exp(params["log_volume"][0]))
    if isinstance(model := inside(field), Hybrid):
        values = model.kinetic_parameters(np, params)
        found["kinetics"] = {name: float(value) for name, value in values.items()}
    return found
