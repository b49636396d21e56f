"""NumPy: the simulator's and the test oracle's arrays. It has no gradients."""

from __future__ import annotations

import numpy as np

from .base import Arrays, Namespace, scan_in_python

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, section 2


def _selu(x):
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


class NumpyArrays(Arrays):
    """NumPy at `float32` or `float64`."""

    def __init__(self, precision: str = "float64"):
        self.dtype = np.dtype(precision)
        self.eps = float(np.finfo(self.dtype).eps)
        self.xp = Namespace(
            np,
            affine=lambda x, w, b: x @ w + b,
            relu=lambda x: np.maximum(x, 0),
            silu=lambda x: x / (1 + np.exp(-x)),
            selu=_selu,
            softplus=lambda x: np.logaddexp(x, 0),
            rbf=lambda x: np.exp(-x * x),
            constant=lambda values, like: np.asarray(values, like.dtype),
        )

    def asarray(self, x):
        return np.asarray(x, self.dtype)

    def to_numpy(self, x):
        return np.array(x)

    def scan(self, advance, carry, table):
        return scan_in_python(np.stack, advance, carry, table)

    def segment_sum(self, values, index, size):
        return np.bincount(index, values, size).astype(self.dtype)

    def jacobian(self, function, y):
        # By differences: enough for an iteration that checks what it has reached.
        (value, extra), columns = function(y), []
        for k in range(y.shape[-1]):
            step = np.zeros_like(y)
            step[..., k] = np.sqrt(self.eps) * np.maximum(1.0, np.abs(y[..., k]))
            columns.append((function(y + step)[0] - value) / step[..., k, None])
        return value, np.stack(columns, -1), extra

    def value_and_grad(self, function):
        raise NotImplementedError("NumPy has no gradients: use a JAX or torch framework")

    def adam_init(self, params):
        raise NotImplementedError("NumPy has no gradients: use a JAX or torch framework")

    def adam_update(self, params, gradient, moments, learning_rate):
        raise NotImplementedError("NumPy has no gradients: use a JAX or torch framework")

    def adam_restore(self, count, mean, square):
        raise NotImplementedError("NumPy has no gradients: use a JAX or torch framework")
