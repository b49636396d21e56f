"""A trained field as an Equinox module, and as an `.eqx` file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import formats
from ..arrays.jax import XP
from ..checkpoint import NETWORK, read_weights
from ..errors import CheckpointError, ConfigError
from ..fields import Field, Mlp, described, network_of, plain, restored


class VectorField(eqx.Module):
    """dA/dt in mg/h of amounts in mg, `[D]` to `[D]`; called as Diffrax calls a term, `field(t, y, args)`."""

    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable = eqx.field(static=True)

    def __call__(self, t, y, args=None):
        for layer in self.layers[:-1]:
            y = self.activation(layer(y))
        return self.layers[-1](y)


def to_equinox(model: Field, params: Mapping[str, np.ndarray]) -> VectorField:
    """The module with these parameters, in their precision.

    Raises:
        ConfigError: They are float64, and JAX is not told to compute in it; or the field is more than a network of
            amounts.
    """
    network, params = plain(model, params)
    layers = []
    for k in range(len(network.hidden) + 1):
        weight, bias = _placed(params[f"weight_{k}"]).T, _placed(params[f"bias_{k}"])
        linear = eqx.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype, key=jax.random.key(0))
        layers.append(eqx.tree_at(lambda layer: (layer.weight, layer.bias), linear, (weight, bias)))
    return VectorField(tuple(layers), getattr(XP, network.activation))


class FieldModule(eqx.Module):
    """dA/dt in mg/h of amounts in mg, `[D]` to `[D]`, at covariates `args`, `[C]`, or None: any field as it is.

    Its leaves are those of an `.eqx` file by `save_model`, in the same order.

    Attributes:
        params: By name.
        structure: The field as `fields.described` has it, in JSON: what is static must be hashable.
    """

    params: dict[str, jax.Array]
    structure: str = eqx.field(static=True)

    def __call__(self, t, y, args=None):
        return restored(json.loads(self.structure))(XP, self.params, t, y, args)


def to_module(field: Field, params: Mapping[str, np.ndarray]) -> FieldModule:
    """The module of any field, in the precision of its parameters.

    Raises:
        ConfigError: They are float64, and JAX is not told to compute in it.
    """
    return FieldModule({name: _placed(value) for name, value in params.items()}, json.dumps(described(field)))


def save_eqx(path: Path, model: Field, field: VectorField) -> None:
    """Write the module as Equinox's documentation does: a line of JSON that says how to build it, then its leaves.

    Raises:
        ConfigError: The name does not end with .eqx.
    """
    if Path(path).suffix.lower() != ".eqx":
        raise ConfigError(f"{path}: must end with .eqx")
    own, last = asdict(network_of(model)), field.layers[-1]
    header = {"kind": NETWORK, "model": own, "compartments": last.out_features, "dtype": str(last.weight.dtype)}
    layers = enumerate(field.layers)
    leaves = {f"{k}.{name}": np.asarray(getattr(layer, name)) for k, layer in layers for name in ("weight", "bias")}
    formats.write(Path(path), leaves, header)


def load_eqx(path: Path) -> tuple[Mlp, VectorField]:
    """The model's settings and the module that `save_eqx` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else.
    """
    model, params = read_weights(Path(path))
    if not isinstance(model, Mlp):
        raise CheckpointError(f"{path}: holds more than a network of amounts; see to_module")
    try:
        return model, to_equinox(model, params)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _placed(value: np.ndarray) -> jax.Array:
    if (array := jnp.asarray(value)).dtype != value.dtype:
        raise ConfigError('the weights are float64: jax.config.update("jax_enable_x64", True) before they are taken')
    return array
