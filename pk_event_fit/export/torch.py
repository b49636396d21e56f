"""A trained field as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from ..arrays.torch import SOFTPLUS_THRESHOLD
from ..fields import Field, plain


class Rbf(torch.nn.Module):
    """exp(-x^2)."""

    def forward(self, x):
        return torch.exp(-x * x)


ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "silu": torch.nn.SiLU,
    "selu": torch.nn.SELU,
    "softplus": partial(torch.nn.Softplus, threshold=SOFTPLUS_THRESHOLD),
    "rbf": Rbf,
}


class VectorField(torch.nn.Module):
    """dA/dt in mg/h of amounts in mg, `[..., D]` to `[..., D]`; called as torchdiffeq does, `field(t, y)`."""

    def __init__(self, network: torch.nn.Sequential):
        super().__init__()
        self.network = network

    def forward(self, t, y):
        return self.network(y)


def to_torch(model: Field, params: Mapping[str, np.ndarray]) -> VectorField:
    """The module with these parameters, in their precision.

    Raises:
        ConfigError: The field is more than a network of amounts.
    """
    network, params = plain(model, params)
    layers: list[torch.nn.Module] = []
    for k in range(len(network.hidden) + 1):
        weight, bias = torch.as_tensor(params[f"weight_{k}"]), torch.as_tensor(params[f"bias_{k}"])
        linear = torch.nn.Linear(weight.shape[0], weight.shape[1], dtype=weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias)
        layers += [linear, ACTIVATIONS[network.activation]()]
    return VectorField(torch.nn.Sequential(*layers[:-1]))
