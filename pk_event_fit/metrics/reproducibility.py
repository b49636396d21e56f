"""Whether two runs gave the same, and by how much they differ where they did not."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import alike


def bitwise(a: Any, b: Any) -> bool:
    """Whether two arrays have the same type, shape and bits.

    Bits are compared, not values: 0 and -0 differ, and the same NaN is the same.
    """
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def drift(a: Any, b: Any) -> dict[str, float | bool]:
    """How far two predictions lie apart; both in mg, of one shape, of whatever precision.

    Returns:
        `max_difference_mg`, the largest absolute difference, mg, taken in float64; and `bitwise`, as the function.

    Raises:
        DataError: The shapes differ, an array is empty, or a number is not finite.
    """
    one, other = alike("the first prediction", a, "the second prediction", b)
    return {"max_difference_mg": float(abs(one - other).max()), "bitwise": bitwise(a, b)}
