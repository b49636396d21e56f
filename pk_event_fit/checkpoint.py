"""Fits on disk: checkpoints, with all that a fit needs to go on bit for bit, and the weights it ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import store
from .errors import CheckpointError, ConfigError, DataError
from .fields import Field, Structure, described, inside, network_of, restored
from .frameworks.base import Framework
from .training import State

HISTORY = ("iteration", "loss", "gradient_norm", "step_ms")
GROUPS = ("params", "mean", "square", "best")

Rows = list[dict[str, float]]


def write_checkpoint(path: Path, framework: Framework, state: State, rows: Sequence[Mapping[str, float]], digest: str):
    """Write parameters, Adam's moments, the best so far and the history.

    Args:
        path: File to replace.
        framework: Whose arrays the state is in.
        state: Where the fit stands.
        rows: Its history so far.
        digest: Of the data that is fitted.
    """
    arrays = {f"history.{name}": np.array([row[name] for row in rows], np.float64) for name in HISTORY}
    params = (state.params, state.moments.mean, state.moments.square, state.best_params)
    for group, values in zip(GROUPS, params, strict=True):
        arrays |= {f"{group}.{name}": framework.arrays.to_numpy(value) for name, value in values.items()}
    arrays["best_loss"] = np.array(state.best_loss, np.float64)
    note = {"iteration": state.iteration, "best_iteration": state.best_iteration, "data_digest": digest}
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
    groups: dict[str, dict] = {group: {} for group in GROUPS}
    for group in GROUPS:
        own = {name.partition(".")[2]: arrays[name] for name in arrays if name.startswith(f"{group}.")}
        _check_shapes(path, own, shapes)
        groups[group] = {name: framework.arrays.asarray(own[name]) for name in shapes}
    try:
        columns = [arrays[f"history.{name}"].tolist() for name in HISTORY]
        rows = [dict(zip(HISTORY, (int(row[0]), *row[1:]), strict=True)) for row in zip(*columns, strict=True)]
        iteration, best = int(note["iteration"]), (int(note["best_iteration"]), float(arrays["best_loss"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its history or its counters are not usable ({error})") from error
    moments = framework.arrays.adam_restore(iteration, groups["mean"], groups["square"])
    return State(iteration, groups["params"], moments, *best, groups["best"]), rows


def write_weights(path: Path, field: Field, params: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write weights, and structure, settings and scales of their field, so that the file alone makes it."""
    store.write_npz(path, params, {"kind": "pk_event_fit weights", **described(field), **about})


def read_weights(path: Path) -> tuple[Field, dict[str, np.ndarray]]:
    """The field and its parameters, NumPy, as any framework takes them.

    Raises:
        CheckpointError: The file is missing, damaged, changed, or holds something else.
    """
    params, note = _read(path, "pk_event_fit weights")
    try:
        field = restored(note)
        model, last = inside(field), params.get(f"bias_{len(network_of(field).hidden)}", np.empty(0))
        size = model.compartments(last.size) if isinstance(model, Structure) else last.size
        shapes = field.shapes(size)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path}: the model's settings are not usable ({error})") from error
    _check_shapes(path, params, shapes)
    return field, params


def _read(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        arrays, note = store.read_npz(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
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
