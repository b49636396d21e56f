"""What every metric demands of the numbers it is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError


def numbers(name: str, values: Any, ndim: int | None = None) -> np.ndarray:
    """Values as float64.

    Args:
        name: What to call them in an error.
        values: An array, or what becomes one.
        ndim: How many axes they must have; None for any number.

    Raises:
        DataError: They are no real numbers, have another number of axes, are none at all, or one is not finite.
    """
    array = real(name, values)
    if ndim is not None and array.ndim != ndim:
        raise DataError(f"{name}: has the shape {array.shape}, and needs {ndim} axes")
    if not array.size:
        raise DataError(f"{name}: is empty (shape {array.shape})")
    if not np.isfinite(array).all():
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{name}: {array[place]} at {place}: must be finite")
    return array


def alike(first: str, a: Any, second: str, b: Any, ndim: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays as float64, which must have one shape.

    Raises:
        DataError: As `numbers`, or the shapes differ.
    """
    one, other = numbers(first, a, ndim), numbers(second, b, ndim)
    if one.shape != other.shape:
        raise DataError(f"{first} and {second}: have the shapes {one.shape} and {other.shape}, and need the same")
    return one, other


def real(name: str, values: Any) -> np.ndarray:
    """Values as float64; NaN and infinity pass.

    Raises:
        DataError: They are no real numbers.
    """
    if np.iscomplexobj(values):
        raise DataError(f"{name}: needs real numbers")
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: needs numbers ({error})") from error


def together(*named: tuple[str, np.ndarray]) -> list[np.ndarray]:
    """Arrays of one shape.

    Raises:
        DataError: Their shapes do not fit.
    """
    try:
        return [*np.broadcast_arrays(*(array for _, array in named))]
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in named)
        raise DataError(f"shapes do not fit: {shapes}") from error


def where(wrong: np.ndarray) -> tuple[int, ...]:
    """Place of the first that is wrong."""
    return tuple(int(k) for k in np.argwhere(wrong)[0])


def broadcast(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values as float64 of a shape; NaN and infinity pass.

    Raises:
        DataError: They are no real numbers, or of a shape that does not fit.
    """
    array = real(name, values)
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise DataError(f"{name}: has the shape {array.shape}, and needs {shape}") from error
