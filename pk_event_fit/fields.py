"""Learnable vector fields, written once for every array library.

A field is called as `field(xp, params, t, y, covariates) -> dy/dt` in mg/h, where `xp` is `Arrays.xp`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as default

import numpy as np

from .errors import ConfigError

ACTIVATIONS = ("relu", "tanh", "silu", "selu", "softplus")


@dataclass(kw_only=True)
class Mlp:
    """A multilayer perceptron from amounts (mg) to their rates of change (mg/h).

    Attributes:
        hidden: Widths of the hidden layers.
        activation: `relu`, `tanh`, `silu`, `selu` or `softplus`.
        initial_scale: Scale of the last layer's initial weights; small, so that training starts from slow dynamics.

    Raises:
        ConfigError: A value is out of range.
    """

    hidden: list[int] = default(default_factory=lambda: [64, 64])
    activation: str = "relu"
    initial_scale: float = 0.1

    def __post_init__(self):
        if not self.hidden or not all(1 <= width <= 65536 for width in self.hidden):
            raise ConfigError(f"model.hidden={list(self.hidden)}: needs one or more widths, each 1 to 65536")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"model.activation={self.activation}: choose one of {', '.join(ACTIVATIONS)}")
        if not 0 <= self.initial_scale < np.inf:
            raise ConfigError(f"model.initial_scale={self.initial_scale}: must be 0 or more, and finite")

    @property
    def autonomous(self) -> bool:
        """True: the clock is not an input."""
        return True

    def shapes(self, compartments: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name, in the order of the layers."""
        sizes = [compartments, *self.hidden, compartments]
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            shapes |= {f"weight_{k}": (fan_in, fan_out), f"bias_{k}": (fan_out,)}
        return shapes

    def initial_params(self, compartments: int, seed: int) -> dict[str, np.ndarray]:
        """Initial parameters, float64, the same bits for every framework.

        Weights are normal with variance 1 / fan-in, those of the last layer times `initial_scale`; biases are zero.
        """
        random = np.random.Generator(np.random.PCG64(seed))
        params = {
            name: random.standard_normal(shape) / np.sqrt(shape[0]) if len(shape) == 2 else np.zeros(shape)
            for name, shape in self.shapes(compartments).items()
        }
        params[f"weight_{len(self.hidden)}"] *= self.initial_scale
        return params

    def __call__(self, xp, params, t, y, covariates):
        activation = getattr(xp, self.activation)
        for k in range(len(self.hidden)):
            y = activation(xp.affine(y, params[f"weight_{k}"], params[f"bias_{k}"]))
        return xp.affine(y, params[f"weight_{len(self.hidden)}"], params[f"bias_{len(self.hidden)}"])


@dataclass(kw_only=True, eq=False)
class Measured:
    """A field of amounts that are large or small, measured as concentrations: what a table's data need of a model.

    Attributes:
        model: The field of amounts in units of `scale`.
        scale: mg.
        volume: Volume of distribution to begin with, L, fitted along as its logarithm; None where amounts are measured.
    """

    model: Mlp
    scale: float = 1.0
    volume: float | None = None

    @property
    def autonomous(self) -> bool:
        """Whether the clock is no input."""
        return self.model.autonomous

    def shapes(self, compartments: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name."""
        return self.model.shapes(compartments) | ({} if self.volume is None else {"log_volume": (1,)})

    def initial_params(self, compartments: int, seed: int) -> dict[str, np.ndarray]:
        """Initial parameters, float64, the same bits for every framework."""
        own = {} if self.volume is None else {"log_volume": np.log([self.volume])}
        return self.model.initial_params(compartments, seed) | own

    def observe(self, xp, params, states):
        """What is measured of amounts: mg, or mg/L."""
        return states if self.volume is None else states / xp.exp(params["log_volume"])

    def __call__(self, xp, params, t, y, covariates):
        return self.scale * self.model(xp, params, t, y / self.scale, covariates)


def plain(model: Mlp | Measured, params: Mapping[str, np.ndarray]) -> tuple[Mlp, dict[str, np.ndarray]]:
    """The network of amounts in mg itself: the scale goes into its first and its last layer."""
    if isinstance(model, Mlp):
        return model, dict(params)
    own, last = {name: value for name, value in params.items() if name != "log_volume"}, len(model.model.hidden)
    own["weight_0"] = own["weight_0"] / model.scale
    own |= {name: own[name] * model.scale for name in (f"weight_{last}", f"bias_{last}")}
    return model.model, own


def measured(model: Mlp, scale: float, volume: float | None) -> Mlp | Measured:
    """The model as it is, where nothing has to be scaled."""
    return model if scale == 1 and volume is None else Measured(model=model, scale=scale, volume=volume)
