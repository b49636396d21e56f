"""The network, and the plain field that it makes of amounts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from dataclasses import field as default

import numpy as np

from ..errors import ConfigError

ACTIVATIONS = ("relu", "tanh", "silu", "selu", "softplus", "rbf")


@dataclass(kw_only=True)
class Network:
    """A multilayer perceptron.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: `relu`, `tanh`, `silu`, `selu`, `softplus`, or `rbf`, exp(-x^2): with weights and biases before it a
            Gaussian of any width and centre.
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

    def layers(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """Shape of every weight and bias by name, in the order of the layers."""
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (fan_in, fan_out) in enumerate(itertools.pairwise([inputs, *self.hidden, outputs])):
            shapes |= {f"weight_{k}": (fan_in, fan_out), f"bias_{k}": (fan_out,)}
        return shapes

    def initial_layers(self, inputs: int, outputs: int, seed: int) -> dict[str, np.ndarray]:
        """Initial weights and biases, float64, the same bits for every framework.

        Weights are normal with variance 1 / fan-in, those of the last layer times `initial_scale`; biases are zero.
        """
        random = np.random.Generator(np.random.PCG64(seed))
        params = {
            name: random.standard_normal(shape) / np.sqrt(shape[0]) if len(shape) == 2 else np.zeros(shape)
            for name, shape in self.layers(inputs, outputs).items()
        }
        params[f"weight_{len(self.hidden)}"] *= self.initial_scale
        return params


@dataclass(kw_only=True)
class Mlp(Network):
    """The network as a field: from amounts (mg) to their rates of change (mg/h)."""

    @property
    def autonomous(self) -> bool:
        """True: the clock is not an input."""
        return True

    def shapes(self, compartments: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name, in the order of the layers."""
        return self.layers(compartments, compartments)

    def initial_params(self, compartments: int, seed: int) -> dict[str, np.ndarray]:
        """Initial parameters, float64, the same bits for every framework."""
        return self.initial_layers(compartments, compartments, seed)

    def __call__(self, xp, params, t, y, covariates):
        activation = getattr(xp, self.activation)
        for k in range(len(self.hidden)):
            y = activation(xp.affine(y, params[f"weight_{k}"], params[f"bias_{k}"]))
        return xp.affine(y, params[f"weight_{len(self.hidden)}"], params[f"bias_{len(self.hidden)}"])
