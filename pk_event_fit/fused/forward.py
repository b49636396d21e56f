"""Forward: every subject in its own time, in one loop that tries one step of each at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params

from ..intervals import Interval
from .methods import Method
from .tape import Moment, Tape, packed, put, unpacked

LEAST, MOST, SAFETY = 0.2, 10.0, 0.9  # how much a step may change at once, and how much of what is allowed is taken
CONTROL = (0.1, 0.7, 0.0)  # P, I and D
RESTART = 7.0  # how much longer than the first step of the textbook, a cautious one, the first after a dose may be
LARGE = ("dot_general", "while", "scan", "cond")  # what a field has that is not a few operations
STRETCH = 1.01  # a step that comes this near to the end goes there


@dataclass(frozen=True, eq=False)
class Engine:
    """What stays the same for all chunks of a solve.

    Attributes:
        rhs: `rhs(s, y, params, interval) -> dy/ds`, `[B], [B, D]`.
        method: The Runge-Kutta method.
        control: Coefficients P, I and D of the step size control.
        max_steps: Steps that one interval may take, tried ones included.
        rows: Trials that are kept at once, R.
        grid: Own times of report points where all intervals share them, `[K]`; None where the table has each subject's.
    """

    rhs: Callable
    method: Method
    control: tuple[float, float, float]
    max_steps: int
    rows: int
    grid: np.ndarray | None = None

    def slope(self, own: Any, y: Any, params: Any, row: Interval) -> Any:
        """dy/ds, `[B, D]`; a field's one column is taken for all."""
        return jnp.broadcast_to(jnp.asarray(self.rhs(own, y, params, row), y.dtype), y.shape)

    def points(self, own: Any, dtype: Any) -> Any:
        """Own times of report points: what all intervals share, as numbers that the compiler knows, or the table's."""
        return own if self.grid is None else np.asarray(self.grid, dtype)


def rows_of(table: Interval, index: Any) -> Interval:
    """Each subject's own row of a table, leaves `[B, ...]`."""
    if len(table.duration) == 1:
        return jax.tree.map(lambda leaf: leaf[0], table)
    subjects = jnp.arange(len(index))
    return jax.tree.map(lambda leaf: leaf[index, subjects], table)


def inner(row: Interval) -> Interval:
    """What the right-hand side sees of a row."""
    return row._replace(bolus=None, keep=None)


def jump(
    engine: Engine, params: Any, table: Interval, tolerance: tuple[Any, Any], moment: Moment
) -> tuple[Moment, Interval]:
    """Those who enter an interval take its dose; the rows in which all are then."""
    enters = moment.enters[:, None]
    row = rows_of(table, jnp.minimum(moment.interval, len(table.duration) - 1))
    kept = moment.y if row.keep is None else row.keep[:, None] * moment.y
    y = jnp.where(enters, kept + row.bolus, moment.y)
    slope = jnp.where(enters, engine.slope(moment.own, y, params, inner(row)), moment.slope)
    moment = moment._replace(y=y, slope=slope, enters=jnp.zeros_like(moment.enters))
    # A step as long as those at the end of an interval may stride over all that a dose starts, and its error not tell.
    fresh = RESTART * first_step(engine, params, inner(row), moment, tolerance)
    step = jnp.where(moment.step > 0, jnp.minimum(moment.step, fresh), fresh)
    return moment._replace(step=jnp.where(enters[:, 0] & (row.duration > 0), step, moment.step)), row


def begin(y: Any, step: Any) -> Moment:
    """The beginning of the first interval, before its dose; a step of 0 h is one that nothing is known of."""
    size = len(y)
    zero, none = jnp.zeros(size, y.dtype), jnp.zeros(size, jnp.int32)
    well = jnp.isfinite(y).all(-1)
    y = jnp.where(well[:, None], y, 0)  # who failed before stands still; `judged` says again that it is no number
    ones = jnp.ones((2, size), y.dtype)
    return Moment(y, jnp.zeros_like(y), zero, step, ones, none, well, none, ~well, none - 1)


def first_step(engine: Engine, params: Any, row: Interval, moment: Moment, tolerance: tuple[Any, Any]) -> Any:
    """Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4; in hours."""
    y, slope = moment.y, moment.slope
    rtol, atol = tolerance
    scale = atol + rtol * jnp.abs(y)
    size, speed = norm(y / scale), norm(slope / scale)
    small = jnp.minimum(size, speed) < 1e-5
    short = jnp.minimum(jnp.where(small, 1e-6, 0.01 * size / jnp.where(small, 1, speed)), 1)
    ahead = engine.slope(short, y + short[:, None] * slope, params, row)
    bend = jnp.maximum(norm((ahead - slope) / scale) / short, speed)
    flat = bend <= 1e-15
    order = engine.method.order
    long = jnp.where(flat, jnp.maximum(1e-6, 1e-3 * short), (0.01 / jnp.where(flat, 1, bend)) ** (1 / order))
    own = jnp.minimum(jnp.minimum(100 * short, long), 1)
    return jnp.where(jnp.isfinite(own), own, 1e-6) * row.duration


def norm(x: Any) -> Any:
    """Root mean square over compartments: `[B, D]` to `[B]`."""
    return jnp.sqrt((x * x).mean(-1))


def stages(engine: Engine, params: Any, row: Interval, moment: Moment, h: Any) -> tuple[list, list]:
    """States at which the field is evaluated in a step of length h, and its values there, each `[B, D]`."""
    # Written out: in a loop, what each stage takes besides the field is as much time as a small field itself. The
    # compiler takes as long for either, but for a field with loops inside a sixth longer.
    states, slopes = [moment.y], [moment.slope]
    for weights, c in zip(engine.method.a[1:], engine.method.c[1:].tolist(), strict=True):
        states.append(moment.y + h[:, None] * weighted(weights, slopes))
        slopes.append(engine.slope(moment.own + c * h, states[-1], params, row))
    return states, slopes


def heavy(engine: Engine, params: Any, row: Interval, y: Any) -> bool:
    """Whether the field is more than a few operations."""

    def large(program: Jaxpr) -> bool:
        inside = [part for step in program.eqns for part in jaxprs_in_params(step.params)]
        return any(step.primitive.name in LARGE for step in program.eqns) or any(map(large, inside))

    return large(jax.make_jaxpr(engine.rhs)(y[:, 0], y, params, row).jaxpr)


def weighted(weights: np.ndarray, slopes: Any, *, every: bool = False) -> Any:
    """A sum over stages, `[B, D]`, written out: so it is part of the kernel that needs it."""
    terms = [float(weight) * slope for weight, slope in zip(weights, slopes, strict=False) if weight or every]
    return functools.reduce(jnp.add, terms)


def trial(
    engine: Engine, params: Any, row: Interval, moment: Moment, tolerance: tuple[Any, Any], number: Any, count: int
) -> tuple[Moment, Tape]:
    """One step of every subject that is not done, kept or not."""
    active = unfinished(moment, count)
    h, final = length_of(row, moment, active)
    inputs, slopes = stages(engine, params, inner(row), moment, h)
    ratio = error_of(engine, tolerance, h, inputs, slopes)
    kept = active & (ratio <= 1)  # what is no number is not
    ended = kept & final
    stop = jnp.where(final, 1, moment.own + h)
    tried = moment.tried + active
    step = h * row.duration * change(engine, ratio, moment.errors)
    step = jnp.where(ended, jnp.maximum(step, moment.step), step)  # cut short by the end, it tells too little
    after = Moment(
        y=jnp.where(kept[:, None], inputs[-1], moment.y),
        slope=jnp.where(kept[:, None], slopes[-1], moment.slope),
        own=jnp.where(ended, 0, jnp.where(kept, stop, moment.own)),
        step=jnp.where(active & (row.duration > 0), step, moment.step),
        # Of a step that was cut short by the end the error says nothing of the next.
        errors=jnp.where(ended, 1, jnp.where(kept, jnp.stack([ratio, moment.errors[0]]), moment.errors)),
        interval=moment.interval + ended,
        enters=ended & (moment.interval + 1 < count),
        tried=jnp.where(ended, 0, tried),
        failed=moment.failed | (active & ~ended & hopeless(engine, row, moment, h, kept, tried)),
        kept=jnp.where(kept, number, moment.kept),
    )
    parts = (kept, active & ~kept, ended, moment.interval, number - moment.kept)
    numbers = jnp.stack([part.astype(jnp.int32) for part in parts])
    return after, Tape(numbers, jnp.stack(inputs), dense_of(engine, moment, h, stop, inputs, slopes))


def length_of(row: Interval, moment: Moment, active: Any) -> tuple[Any, Any]:
    """Own time that the next step takes, 0 where nothing is to be done, and whether it goes to the end."""
    lasts = row.duration > 0
    asked = jnp.where(lasts, moment.step / jnp.where(lasts, row.duration, 1), 1)
    left = 1 - moment.own
    final = STRETCH * asked >= left
    # The derivative is that of the steps as they are: how they were chosen has none.
    return jax.lax.stop_gradient(jnp.where(active, jnp.where(final, left, asked), 0)), final


def error_of(engine: Engine, tolerance: tuple[Any, Any], h: Any, inputs: Any, slopes: Any) -> Any:
    """The error of a step, as a part of what the tolerance allows, `[B]`."""
    rtol, atol = tolerance
    scale = atol + rtol * jnp.maximum(jnp.abs(inputs[0]), jnp.abs(inputs[-1]))
    # With the slopes of no weight: a step through one that is no number is not to be kept.
    return norm(h[:, None] * weighted(engine.method.error, slopes, every=True) / scale)


def hopeless(engine: Engine, row: Interval, moment: Moment, h: Any, kept: Any, tried: Any) -> Any:
    """Whether there were too many steps, or this one was rejected and a shorter one would not move the clock."""
    eps = jnp.finfo(h.dtype).eps
    vanished = (row.duration <= 0) | (h * LEAST <= eps * jnp.maximum(moment.own, eps**0.5))
    return (tried >= engine.max_steps) | (~kept & vanished)


def dense_of(engine: Engine, moment: Moment, h: Any, stop: Any, inputs: Any, slopes: Any) -> Any:
    """What report points need of a step: see `Tape.dense`."""
    powers = [h[:, None] * weighted(column, slopes) for column in engine.method.dense.T]
    return jnp.concatenate([inputs[0], *powers, inputs[-1], jnp.stack([moment.own, h, stop], -1)], -1)


def change(engine: Engine, ratio: Any, errors: Any) -> Any:
    """By how much the next step is longer, by the errors of the last three; not longer after one that was rejected."""
    p, i, d = engine.control
    tiny = 1e-10
    terms = ((ratio, p + i + d), (errors[0], -p - 2 * d), (errors[1], d))
    factor: Any = SAFETY
    for error, power in terms:
        if power:
            factor = factor * jnp.maximum(error, tiny) ** (-power / engine.method.order)
    factor = jnp.clip(factor, LEAST, jnp.where(ratio <= 1, MOST, 1))
    return jnp.where(jnp.isfinite(ratio), factor, LEAST)


def run(
    engine: Engine, params: Any, table: Interval, tolerance: tuple[Any, Any], moment: Moment, tape: Tape
) -> tuple[Moment, Tape]:
    """Try steps until all subjects are done or the tape is full; what was written on it before is written over."""
    count = len(table.duration)

    def go_on(carry):
        number, parts, _, _ = carry
        return (number < engine.rows) & unfinished(unpacked(parts), count).any()

    def body(carry):
        number, parts, row, tape = carry

        def enter():
            moment, row = jump(engine, params, table, tolerance, unpacked(parts))
            return packed(moment), row

        # Packed, or a kernel would take each of its parts out for the branches.
        then, row = jax.lax.cond(unpacked(parts).enters.any(), enter, lambda: (parts, row))
        moment, tried = trial(engine, params, row, unpacked(then), tolerance, number, count)
        tried = tried._replace(inputs=tried.inputs[: tape.inputs.shape[1]])
        tape = jax.tree.map(lambda leaf, value: put(leaf, number, value), tape, tried)
        return number + 1, packed(moment), row, tape

    moment = moment._replace(kept=jnp.full_like(moment.kept, -1))
    row = rows_of(table, jnp.minimum(moment.interval, count - 1))
    tape = tape._replace(numbers=jnp.zeros_like(tape.numbers))
    _, parts, _, tape = jax.lax.while_loop(go_on, body, (jnp.int32(0), packed(moment), row, tape))
    return unpacked(parts), tape


def unfinished(moment: Moment, count: int) -> Any:
    """Who has something to do, `[B]`."""
    return (moment.interval < count) & ~moment.failed
