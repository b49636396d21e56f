"""Files of named arrays with a note in JSON and the digest of both: npz, safetensors, and Equinox's `.eqx`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import store
from ..errors import ConfigError, DataError

SUFFIXES = (".npz", ".safetensors", ".eqx")


def check_suffix(path: Path) -> None:
    """Raise where no such file can be written.

    Raises:
        ConfigError: The name ends with something else, or the library that the format needs is not installed.
    """
    if (suffix := path.suffix.lower()) not in SUFFIXES:
        raise ConfigError(f"{path}: the name of a model's file ends with one of {', '.join(SUFFIXES)}")
    if suffix != ".npz":
        _format(suffix, path)


def write(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], *, new: bool = False) -> None:
    """Write arrays, in the order given, and a note, in the format that the name ends with.

    The same content gives the same bytes. What is not little-endian, or not in C order, is written so.

    Args:
        path: The file.
        arrays: Of numbers, by name.
        about: What JSON can hold; the keys `digest` and `leaves` are the file's own.
        new: Whether there must be no such file yet.

    Raises:
        ConfigError: The name ends with something else, or a library is not installed.
        FileExistsError: There is such a file, and `new` was asked.
    """
    check_suffix(path)
    plain = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    if path.suffix.lower() == ".npz":
        store.write_npz(path, plain, about, new=new)
        return
    note = {**about, "digest": store.digest(plain, about)}
    store.write_bytes(path, _format(path.suffix.lower(), path).dumped(plain, note), new=new)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and the note; where it has a digest, that has been checked. Any other name is that of an npz.

    Raises:
        DataError: There is no such file, it is damaged, holds objects, promises more than it holds, or was changed.
        ConfigError: The library that the format needs is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES[1:]:
        return store.read_npz(path)
    parsed, unreadable = (_format(suffix, path), store.DAMAGE)
    try:
        if (size := path.stat().st_size) > store.LIMIT:
            raise DataError(f"{path}: its {size} bytes are more than the limit of {store.LIMIT}")
        arrays, about = parsed.parsed(path.read_bytes())
    except (*unreadable, *parsed.DAMAGE) as error:
        raise DataError(f"{path}: not a readable {suffix[1:]} file ({error})") from error
    note = {key: value for key, value in about.items() if key != "digest"}
    if "digest" in about and about["digest"] != store.digest(arrays, note):
        raise DataError(f"{path}: the digest does not fit the content; the file was changed after it was written")
    return arrays, about


def _format(suffix: str, path: Path) -> ModuleType:
    """The module with `dumped(arrays, note) -> bytes`, `parsed(bytes) -> (arrays, note)` and `DAMAGE`, what that
    raises."""
    if suffix == ".eqx":
        from . import eqx

        return eqx
    try:
        from . import safetensors
    except ModuleNotFoundError as error:
        if error.name != "safetensors":
            raise
        raise ConfigError(
            f"{path}: the package 'safetensors' is not installed; pip install 'pk-event-fit[safetensors]'"
        ) from error
    return safetensors
