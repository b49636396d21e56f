"""Fits on disk: checkpoints, with all that a fit needs to go on bit for bit, and the weights it ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import formats, store
from .errors import CheckpointError, ConfigError, DataError
from .fields import Field, Structure, described, inside, network_of, restored
from .formats import layers
from .frameworks.base import Framework
from .training import State

HISTORY = ("iteration", "loss", "gradient_norm", "step_ms")
MORE = ("phase", "validation")  # columns that only some fits have, and only some of their rows
GROUPS = ("params", "mean", "square", "best")
FIRST = "first"  # a group that only some checkpoints have
WEIGHTS = "pk_event_fit weights"
NETWORK = "pk_event_fit field"  # an `.eqx` file by `export.equinox.save_eqx`: a network alone, as Equinox has it

Rows = list[dict[str, float]]


def write_checkpoint(path: Path, framework: Framework, state: State, rows: Sequence[Mapping[str, float]], digest: str):
    """Write parameters, Adam's moments, the best so far, where an L-BFGS phase began, and the history.

    Args:
        path: File to replace.
        framework: Whose arrays the state is in.
        state: Where the fit stands.
        rows: Its history so far.
        digest: Of the data that is fitted.
    """
    columns = HISTORY + tuple(name for name in MORE if any(name in row for row in rows))
    arrays = {f"history.{name}": np.array([row.get(name, np.nan) for row in rows], np.float64) for name in columns}
    params = (state.params, state.moments.mean, state.moments.square, state.best_params)
    groups = dict(zip(GROUPS, params, strict=True)) | ({} if state.first is None else {FIRST: state.first})
    for group, values in groups.items():
        arrays |= {f"{group}.{name}": framework.arrays.to_numpy(value) for name, value in values.items()}
    arrays["best_loss"] = np.array(state.best_loss, np.float64)
    note = {"iteration": state.iteration, "best_iteration": state.best_iteration, "data_digest": digest}
    note |= {"phase": state.phase, "began": state.began}
    store.write_npz(path, arrays, {"kind": "pk_event_fit checkpoint", **note})


def read_checkpoint(path: Path, framework: Framework, shapes: Mapping[str, tuple], digest: str) -> tuple[State, Rows]:
    """The state, in the framework's arrays, and the history.

    Args:
        path: The file.
        framework: Whose arrays to use.
        shapes: Of the model's parameters.
        digest: Of the data that is fitted.

    Raises:
        CheckpointError: It is missing, damaged, changed, or of another model or other data.
    """
    arrays, note = _read(path, "pk_event_fit checkpoint")
    if note.get("data_digest") != digest:
        raise CheckpointError(f"{path}: belongs to other data; the digest of this data is {digest[:12]}")
    has_first = any(name.startswith(f"{FIRST}.") for name in arrays)
    groups: dict[str, dict] = {group: {} for group in (*GROUPS, *((FIRST,) if has_first else ()))}
    for group in groups:
        own = {name.partition(".")[2]: arrays[name] for name in arrays if name.startswith(f"{group}.")}
        _check_shapes(path, own, shapes)
        groups[group] = {name: framework.arrays.asarray(own[name]) for name in shapes}
    try:
        names = HISTORY + tuple(name for name in MORE if f"history.{name}" in arrays)
        columns = [arrays[f"history.{name}"].tolist() for name in names]
        rows = [dict(zip(names, (int(row[0]), *row[1:]), strict=True)) for row in zip(*columns, strict=True)]
        rows = [{name: value for name, value in row.items() if name in HISTORY or value == value} for row in rows]
        iteration, best = int(note["iteration"]), (int(note["best_iteration"]), float(arrays["best_loss"]))
        place = int(note.get("phase", 0)), int(note.get("began", 0))  # there were none before there were phases
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its history or its counters are not usable ({error})") from error
    if not 0 <= place[1] <= iteration or place[0] < 0:
        raise CheckpointError(f"{path}: its phase {place[0]} began at iteration {place[1]} of {iteration}")
    moments = framework.arrays.adam_restore(iteration - place[1], groups["mean"], groups["square"])
    return State(iteration, groups["params"], moments, *best, groups["best"], *place, groups.get(FIRST)), rows


def write_weights(
    path: Path, field: Field, params: Mapping[str, np.ndarray], about: Mapping[str, Any], *, new: bool = False
) -> None:
    """Write weights, and structure, settings and scales of their field, so that the file alone makes it.

    Args:
        path: File to replace; its name ends with one of `formats.SUFFIXES`.
        field: The field.
        params: Its parameters, float32 or float64.
        about: What else JSON is to hold of it.
        new: Whether there must be no such file yet.

    Raises:
        ConfigError: The name ends otherwise, or the parameters are not finite or not those of the field.
        FileExistsError: There is such a file, and `new` was asked.
    """
    try:
        _check_weights(path, field, params)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    # In the order in which JAX takes the leaves of a dictionary: an `.eqx` file holds them one after the other.
    arrays = {name: params[name] for name in sorted(params)}
    formats.write(path, arrays, {"kind": WEIGHTS, **described(field), **about}, new=new)


def read_weights(path: Path) -> tuple[Field, dict[str, np.ndarray]]:
    """The field and its parameters, NumPy, as any framework takes them.

    Raises:
        CheckpointError: The file is missing, damaged, changed, or holds something else.
    """
    return read_noted(path)[:2]


def read_noted(path: Path, field: Field | None = None) -> tuple[Field, dict[str, np.ndarray], dict[str, Any]]:
    """The same, and all that the file says besides.

    Args:
        path: An npz, safetensors or `.eqx` file.
        field: Of which field somebody else's layers are: leaves of an Equinox module, or a torch `state_dict`. Such
            files have no digest. Ours say it themselves.

    Raises:
        CheckpointError: The file is missing, damaged, changed, holds something else, or another field.
    """
    arrays, note = _opened(path)
    try:
        if note.get("kind") == WEIGHTS and "digest" in note:
            found = restored(note)
        elif note.get("kind") == NETWORK:
            found, arrays = restored(note), layers.params_of(arrays)
        elif field is not None and layers.is_stack(arrays):
            found, arrays = field, layers.params_of(arrays)
        else:
            raise CheckpointError(f"{path}: is no file of {WEIGHTS}")
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path}: the model's settings are not usable ({error})") from error
    if field is not None and json.dumps(described(field)) != json.dumps(described(found)):
        raise CheckpointError(f"{path}: holds another field than was said: {described(found)}")
    return found, _check_weights(path, found, arrays), note


def compartments_of(field: Field, params: Mapping[str, np.ndarray]) -> int:
    """How many compartments a field with these parameters has."""
    model, last = inside(field), params.get(f"bias_{len(network_of(field).hidden)}", np.empty(0))
    return model.compartments(last.size) if isinstance(model, Structure) else last.size


def _check_weights(path: Path, field: Field, params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters in the order of the field's own.

    Raises:
        CheckpointError: They are other ones, not finite, or neither float32 nor float64.
    """
    try:
        shapes = field.shapes(compartments_of(field, params))
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path}: the model's settings are not usable ({error})") from error
    _check_shapes(path, params, shapes)
    for name, value in params.items():
        if value.dtype.type not in (np.float32, np.float64) or not np.isfinite(value).all():
            raise CheckpointError(f"{path}: parameter {name} is not finite, or {value.dtype}, no float32 or float64")
    return {name: params[name] for name in shapes}


def _opened(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        return formats.read(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error


def _read(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, note = _opened(path)
    if note.get("kind") != kind or "digest" not in note:
        raise CheckpointError(f"{path}: is no file of {kind}")
    return arrays, note


def _check_shapes(path: Path, params: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> None:
    for name in sorted(params.keys() | shapes.keys()):
        found = params[name].shape if name in params else None
        if found != shapes.get(name) or params[name].dtype.kind != "f":
            kind = "" if found is None else f" and type {params[name].dtype}"
            raise CheckpointError(
                f"{path}: parameter {name} has shape {found}{kind}; the model's is {shapes.get(name)}"
            )
