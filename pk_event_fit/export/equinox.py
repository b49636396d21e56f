"""A trained field as an Equinox module, and as an `.eqx` file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import store
from ..arrays.jax import XP
from ..errors import CheckpointError, ConfigError
from ..fields import Field, Mlp, network_of, plain

KIND = "pk_event_fit field"
HEADER_LIMIT = 65536  # bytes


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
        if jnp.asarray(params[f"weight_{k}"]).dtype != params[f"weight_{k}"].dtype:
            raise ConfigError(
                'the weights are float64: jax.config.update("jax_enable_x64", True) before they are taken'
            )
        weight, bias = jnp.asarray(params[f"weight_{k}"]).T, jnp.asarray(params[f"bias_{k}"])
        linear = eqx.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype, key=jax.random.key(0))
        layers.append(eqx.tree_at(lambda layer: (layer.weight, layer.bias), linear, (weight, bias)))
    return VectorField(tuple(layers), getattr(XP, network.activation))


def save_eqx(path: Path, model: Field, field: VectorField) -> None:
    """Write the module as Equinox's documentation does: a line of JSON that says how to build it, then its leaves."""
    own, last = asdict(network_of(model)), field.layers[-1]
    header = {"kind": KIND, "model": own, "compartments": last.out_features, "dtype": str(last.weight.dtype)}
    stream = BytesIO()
    stream.write((json.dumps(header) + "\n").encode())
    eqx.tree_serialise_leaves(stream, field)
    store.write_bytes(Path(path), stream.getvalue())


def load_eqx(path: Path) -> tuple[Mlp, VectorField]:
    """The model's settings and the module that `save_eqx` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else.
    """
    try:
        with open(path, "rb") as stream:
            header = json.loads(stream.readline(HEADER_LIMIT))
            if header["kind"] != KIND:
                raise ValueError(f"kind {header['kind']!r}")
            model, dtype = Mlp(**header["model"]), np.dtype(header["dtype"])
            shapes = model.shapes(int(header["compartments"]))
            if sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize > os.fstat(stream.fileno()).st_size:
                raise ValueError("it promises more than it holds")
            blank = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
            return model, eqx.tree_deserialise_leaves(stream, to_equinox(model, blank))
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: not a field that save_eqx wrote ({error})") from error
