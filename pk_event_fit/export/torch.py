"""A trained field as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from ..arrays.torch import SOFTPLUS_THRESHOLD, XP
from ..errors import ConfigError
from ..fields import Field, plain
from ..formats import layers


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
    stack: list[torch.nn.Module] = []
    for k in range(len(network.hidden) + 1):
        weight, bias = torch.as_tensor(params[f"weight_{k}"]), torch.as_tensor(params[f"bias_{k}"])
        linear = torch.nn.Linear(weight.shape[0], weight.shape[1], dtype=weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight.T)
            linear.bias.copy_(bias)
        stack += [linear, ACTIVATIONS[network.activation]()]
    return VectorField(torch.nn.Sequential(*stack[:-1]))


class FieldModule(torch.nn.Module):
    """dA/dt in mg/h of amounts in mg, `[..., D]` to `[..., D]`, at covariates `[..., C]`, or None: any field as it is.

    Its `state_dict` has the names and shapes of a `.safetensors` file by `save_model`:
    `module.load_state_dict(safetensors.torch.load_file(path))`.
    """

    def __init__(self, field: Field, params: Mapping[str, torch.Tensor]):
        super().__init__()
        self.field = field
        for name, value in params.items():
            self.register_parameter(name, torch.nn.Parameter(value))

    def forward(self, t, y, covariates=None):
        return self.field(XP, dict(self.named_parameters()), t, y, covariates)


def to_module(field: Field, params: Mapping[str, np.ndarray]) -> FieldModule:
    """The module of any field, in the precision of its parameters."""
    return FieldModule(field, {name: torch.tensor(value) for name, value in params.items()})


def params_of(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The parameters, NumPy, of a `state_dict`: that of a `FieldModule`, or of one stack of linear layers.

    Raises:
        ConfigError: It has two stacks.
    """
    arrays = {name: value.detach().cpu().numpy().copy() for name, value in state.items()}
    try:
        return layers.params_of(arrays) if layers.is_stack(arrays) else arrays
    except ValueError as error:
        raise ConfigError(f"state_dict: {error}") from error
