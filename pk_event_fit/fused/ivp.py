"""Initial value problems without doses: a batch of them, each with its own span, report points and tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..arrays.base import tolerance_floor
from ..errors import ConfigError
from ..intervals import Interval, Report
from .engine import solve
from .forward import CONTROL, Engine
from .methods import METHODS


class Solution(NamedTuple):
    """What `solve_ivp` found.

    Attributes:
        states: `[B, K, D]`; no number where a solve failed.
        report: Steps kept and tried again, evaluations, whether it failed and how far it came, leaves `[B]`.
    """

    states: Any
    report: Report


def solve_ivp(
    f: Callable, y0: Any, t_eval: Any, params: Any = None, *, method: str = "dopri5", rtol: Any = 1e-5,
    atol: Any = 1e-7, control: tuple[float, float, float] = CONTROL, max_steps: int = 4096, memory: int = 128,
    forward_mode: bool = False,
) -> Solution:  # fmt: skip
    """Solve a batch of initial value problems, each in its own steps; it can be differentiated and compiled.

    Args:
        f: `f(t, y, params) -> dy/dt`, `[B], [B, D]`, each row by itself, in JAX.
        y0: Initial states, `[B, D]`.
        t_eval: Where to report, `[K]` for all or `[B, K]`: increasing, the first the beginning, the last the end.
        params: What `f` is to be differentiated by, a pytree of floats.
        method: `dopri5` or `tsit5`.
        rtol: Relative tolerance, a number or `[B]`.
        atol: Absolute tolerance, likewise.
        control: Coefficients P, I and D of the step size control.
        max_steps: Steps that one problem may take, tried ones included.
        memory: Trials of each problem that are kept at once for the way back.
        forward_mode: Whether `jax.jvp` and `jax.jacfwd` are to differentiate it, and not `jax.grad` and `jax.vjp`.

    Raises:
        ConfigError: An argument is not as said above, or the precision does not hold the tolerance.
    """
    y0, times = checked(y0, t_eval, method)
    settled(params, control, max_steps, memory)
    tolerance = tolerances(rtol, atol, y0)
    start, span, points, grid = clocks(times, y0)

    def rhs(s, y, params, row):
        return row.duration[:, None] * f(row.start + s * row.duration, y, params)

    table = Interval(None, start[None], span[None], jnp.zeros_like(y0)[None], points=points)
    engine = Engine(rhs, METHODS[method], control, max_steps, memory, grid)
    states, report = solve(engine, params, y0, table, tolerance, group=1, keep=None if forward_mode else True)
    return Solution(states[0].transpose(1, 0, 2), Report(*(leaf[0] for leaf in report)))


def checked(y0: Any, t_eval: Any, method: str) -> tuple[Any, Any]:
    """States `[B, D]` and times `[K]` or `[B, K]`.

    Raises:
        ConfigError: As `solve_ivp`.
    """
    if method not in METHODS:
        raise ConfigError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    y0 = jnp.asarray(y0)
    y0 = y0.astype(jnp.result_type(y0, float))
    times = np.asarray(t_eval, y0.dtype) if known(t_eval) else jnp.asarray(t_eval, y0.dtype)
    if y0.ndim != 2 or times.ndim not in (1, 2) or (times.ndim == 2 and len(times) != len(y0)) or times.shape[-1] < 2:
        raise ConfigError(
            f"y0 {list(y0.shape)}, t_eval {list(times.shape)}: need [B, D], and [K] or [B, K] with K at least 2"
        )
    if known(t_eval) and not (np.isfinite(times).all() and (np.diff(np.asarray(t_eval, float)) >= 0).all()):
        raise ConfigError("t_eval: must be finite, and increase")
    return y0, times


def clocks(times: Any, y0: Any) -> tuple[Any, Any, Any, np.ndarray | None]:
    """Start and span of each problem, `[B]`, and own times of its report points.

    The latter are `[1, K, B]`, or, where all problems have the same, numbers `[K]` that the compiler knows.
    """
    alike = times.ndim == 1 and known(times)
    xp = np if alike else jnp
    start, span = times[..., :1], times[..., -1:] - times[..., :1]
    own = (xp.asarray(times) - start) / xp.where(span > 0, span, 1)
    start, span = (jnp.broadcast_to(xp.asarray(part)[..., 0], len(y0)) for part in (start, span))
    if alike:
        own[-1] = 1
        return start, span, None, own
    return start, span, jnp.broadcast_to(own.at[..., -1].set(1), (len(y0), own.shape[-1])).T[None], None


def settled(params: Any, control: tuple[float, float, float], max_steps: int, memory: int) -> None:
    """Raise where a setting is out of range."""
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in jax.tree.leaves(params)):
        raise ConfigError("params: must be floats; put what is not into f")
    if len(control) != 3 or control[1] <= 0:
        raise ConfigError(f"control={control}: needs P, I and D, with I above 0")
    if max_steps < 1 or memory < 1:
        raise ConfigError(f"max_steps={max_steps}, memory={memory}: must be 1 or more")


def known(value: Any) -> bool:
    """Whether there are numbers, and not what stands for them in a program."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def tolerances(rtol: Any, atol: Any, y0: Any) -> tuple[Any, Any]:
    """Numbers, or `[B, 1]`."""
    found, least = [], {"rtol": tolerance_floor(float(jnp.finfo(y0.dtype).eps)), "atol": 0.0}
    for name, value in (("rtol", rtol), ("atol", atol)):
        here = np.asarray(value, float) if known(value) else None
        value = jnp.asarray(value, y0.dtype)
        if value.shape not in ((), (len(y0),)):
            raise ConfigError(f"{name} {list(value.shape)}: needs a number, or one for each of {len(y0)} problems")
        if here is not None and not (here >= least[name]).all():
            raise ConfigError(f"{name}={here}: {y0.dtype} holds {least[name]:.1e} at best")
        found.append(value[:, None] if value.ndim else value)
    return found[0], found[1]
