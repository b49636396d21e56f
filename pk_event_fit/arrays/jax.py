"""JAX arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..errors import ConfigError
from .base import Arrays, Counted, Moments, Namespace


def _affine(x, w, b):
    # By default GPUs may multiply in TF32, whose rounding is a hundred times what a tolerance of 1e-5 allows.
    return jnp.matmul(x, w, precision="highest") + b


XP = Namespace(
    jnp,
    affine=_affine,
    relu=jax.nn.relu,
    silu=jax.nn.silu,
    selu=jax.nn.selu,
    softplus=jax.nn.softplus,
    rbf=lambda x: jnp.exp(-x * x),
    constant=lambda values, like: np.asarray(values, like.dtype),
)


class _Counted(Counted):
    """Counts when the compiled field runs, once for all subjects that `vmap` runs together.

    The number returned by the callback is part of the result, so that it is called as often as the result is
    computed. `jax.debug.callback` would be simpler, and counts 237 where a gradient takes 158 evaluations.
    """

    def __call__(self, xp, params, t, y, covariates):
        derivative = self.field(xp, params, t, y, covariates)
        like = jax.ShapeDtypeStruct(y.shape[:-1], y.dtype)
        # By `broadcast_all` the callback sees all subjects at once, [B, D], and answers [B].
        tick = jax.pure_callback(self._tick, like, jax.lax.stop_gradient(y), vmap_method="broadcast_all")
        return derivative + tick[..., None]

    def _tick(self, y):
        self.calls += 1
        return np.zeros(y.shape[:-1], y.dtype)


class JaxArrays(Arrays):
    """JAX at `float32` or `float64`, on `cpu` or `gpu`.

    Raises:
        ConfigError: There is no such device.
    """

    def __init__(self, precision: str = "float32", device: str = "cpu"):
        if precision == "float64":
            # JAX reads this flag when it makes an array: it has to be set before the first one.
            jax.config.update("jax_enable_x64", True)
        try:
            self.device = jax.devices(device)[0]
        except RuntimeError as error:
            raise ConfigError(f"accelerator.device={device}: JAX sees no such device ({error})") from error
        self.xp = XP
        self.dtype = jnp.dtype(precision)
        self.eps = float(jnp.finfo(self.dtype).eps)

    def asarray(self, x):
        return jax.device_put(np.asarray(x, self.dtype), self.device)

    def table(self, rows):
        # All leaves in one call, which costs little more than one of them alone.
        return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, self.dtype), rows), self.device)

    def to_numpy(self, x):
        return np.array(x)

    def scan(self, advance, carry, table):
        # Scanned, not unrolled: the time to compile the gradient stays flat in the number of doses.
        return jax.lax.scan(advance, carry, table)

    def value_and_grad(self, function):
        return jax.value_and_grad(function, has_aux=True)

    def stop_gradient(self, x):
        return jax.lax.stop_gradient(x)

    def segment_sum(self, values, index, size):
        return jnp.zeros(size, values.dtype).at[index].add(values)

    def jacobian(self, function, y):
        value, pull, extra = jax.vjp(function, y, has_aux=True)
        rows = [pull(jnp.broadcast_to(row, y.shape))[0] for row in jnp.eye(y.shape[-1], dtype=y.dtype)]
        return value, jnp.stack(rows, -2), extra

    def iterate(self, body, state, limit):
        def go_on(carry):
            return ~carry[1] & (carry[2] < limit)

        def step(carry):
            return *body(carry[0]), carry[2] + 1

        return jax.lax.while_loop(go_on, step, (state, jnp.asarray(False), 0))[0]

    def counting(self, field):
        counted = _Counted(field)
        return counted, counted.count

    def backward_memory(self, function, gradient, *arguments):
        analysis: Any = gradient.lower(*arguments).compile().memory_analysis()
        return analysis.temp_size_in_bytes / 1e6, "XLA temporary buffers"

    def compile(self, function):
        return jax.jit(function)

    def wait(self, x):
        return jax.block_until_ready(x)

    def tell(self, note, value):
        jax.debug.callback(note, value)

    def adam_init(self, params):
        # Zeros by NumPy: for those of each shape JAX would compile a program.
        mean, square = ({name: self.asarray(np.zeros(value.shape)) for name, value in params.items()} for _ in range(2))
        return self.adam_restore(0, mean, square)

    def adam_update(self, params, gradient, moments, learning_rate):
        state = optax.ScaleByAdamState(count=moments.count, mu=moments.mean, nu=moments.square)
        step, state = optax.scale_by_adam().update(gradient, state)
        params = {name: params[name] - learning_rate * step[name] for name in params}
        return params, Moments(state.count, state.mu, state.nu)

    def adam_restore(self, count, mean, square):
        # Put on the device like what an update returns: it would else be compiled again at its second call.
        return Moments(jax.device_put(np.asarray(count, np.int32), self.device), mean, square)
