"""The solve of a whole table, and its gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..errors import ConfigError
from ..intervals import Interval, Report
from .adjoint import Asked, back
from .dense import Held, interpolate
from .forward import Engine, begin, heavy, inner, run
from .tape import Moment, Tape, blank

MARKS = 32  # checkpoints in a chunk
SUBJECTS = 128  # that are solved at once: what a step reads and writes of more falls out of the cache
LIGHT = 1024  # and of a field that is a few operations


class Solved(NamedTuple):
    """A chunk of intervals, solved.

    Attributes:
        states: At the report points, `[Q, K, B, D]`; no number behind a failure.
        y: At the end, `[B, D]`.
        step: Next step, h, `[B]`.
        report: Leaves `[Q, B]`.
    """

    states: Any
    y: Any
    step: Any
    report: Report


class Marks(NamedTuple):
    """Where tapes of a chunk began: all of them, or every second, fourth, ... where they are many.

    Attributes:
        start: Moments, each laid out flat, `[MARKS, M]`.
        stride: Tapes from one to the next.
        tapes: How many tapes there were.
    """

    start: Any
    stride: Any
    tapes: Any


class Written(NamedTuple):
    """What the way back needs: the last tape, its report points, and where the tapes before it began."""

    tape: Tape
    held: Held
    marks: Marks


def solve(
    engine: Engine, params: Any, initial: Any, table: Interval, tolerance: tuple, *, group: int, keep: bool | None,
    most: int | None = None,
) -> tuple[Any, Report]:  # fmt: skip
    """Solve a table of intervals.

    Args:
        engine: Field, method, limits and report points.
        params: What the field is made of.
        initial: mg, `[B, D]`.
        table: Leaves `[S, B, ...]`.
        tolerance: Relative and absolute, numbers or `[B, 1]`.
        group: Intervals in a chunk: at its end subjects wait for each other.
        keep: Whether the tapes are kept for the way back; else each chunk is solved once more there. None for
            derivatives in forward mode, and none backward.
        most: Subjects in a loop; None for what suits the cache of a CPU.

    Returns:
        `[S, K, B, D]`, and a `Report` with leaves `[S, B]`.
    """
    work = functools.partial(together, engine, params, group=group, keep=keep)
    row = by_axis(lambda _, leaf, __: leaf[0], table._replace(points=None))
    most = most or (SUBJECTS if heavy(engine, params, inner(row), initial) else LIGHT)
    if len(initial) > most:
        return in_blocks(work, initial, table, tolerance, most)
    # In a program for a batch of one, a batch could not be told from what is broadcast.
    states, report = work(*more_subjects(initial, table, tolerance, max(len(initial), 2)))
    return states[:, :, : len(initial)], jax.tree.map(lambda leaf: leaf[:, : len(initial)], report)


def together(engine: Engine, params: Any, initial: Any, table: Interval, tolerance: tuple, *, group, keep):
    """See `solve`, of as many subjects as a loop takes."""
    count = len(table.duration)
    chunk = functools.partial(plain, engine) if keep is None else differentiable(engine, keep)

    def advance(carry, rows):
        y, step = carry
        solved = chunk(params, rows._replace(points=None), y, step, tolerance, rows.points)
        return (solved.y, solved.step), (solved.states, solved.report)

    carry = (initial, jnp.zeros(len(initial), initial.dtype))
    _, (states, report) = jax.lax.scan(advance, carry, in_chunks(table, group))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], (states, report))


def in_blocks(work, initial, table: Interval, tolerance: tuple, most: int):
    """Many subjects, block after block of the same size, at `most` so many."""
    size = len(initial)
    blocks = -(-size // most)
    each = -(-size // blocks)

    def split(leaf, axis):
        leaf = leaf.reshape(*leaf.shape[:axis], blocks, each, *leaf.shape[axis + 1 :])
        return jnp.moveaxis(leaf, axis, 0)

    initial, table, tolerance = more_subjects(initial, table, tolerance, blocks * each)
    limits = [split(part, 0) if jnp.ndim(part) else jnp.broadcast_to(part, blocks) for part in tolerance]
    parts = split(initial, 0), by_axis(lambda _, leaf, axis: split(leaf, axis), table), limits
    states, report = jax.lax.map(lambda part: work(*part), parts)

    def joined(leaf, axis):
        leaf = jnp.moveaxis(leaf, 0, axis)
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])[(slice(None),) * axis + (slice(size),)]

    return joined(states, 2), jax.tree.map(lambda leaf: joined(leaf, 1), report)


def by_axis(change: Callable, table: Interval) -> Interval:
    """A table with `change(name, leaf, axis)` for each leaf that a solve reads, `axis` that of the subjects."""
    given = table._replace(number=None, drift=None)._asdict()  # which the caller of a solve sees to
    return Interval(**{
        name: None if leaf is None else change(name, leaf, 2 if name == "points" else 1) for name, leaf in given.items()
    })  # fmt: skip


def more_subjects(initial: Any, table: Interval, tolerance: tuple, size: int) -> tuple[Any, Interval, tuple]:
    """`size` subjects: those added are as the last, but stand still, and nothing is differentiated by them."""

    def filled(leaf, axis, rest=False):
        last = jax.lax.stop_gradient(jax.lax.slice_in_dim(leaf, leaf.shape[axis] - 1, None, axis=axis))
        more = jnp.repeat(jnp.zeros_like(last) if rest else last, size - leaf.shape[axis], axis)
        return jnp.concatenate([leaf, more], axis)

    if size == len(initial):
        return initial, table, tolerance
    table = by_axis(lambda name, leaf, axis: filled(leaf, axis, name in ("duration", "bolus")), table)
    return filled(initial, 0), table, tuple(filled(part, 0) if jnp.ndim(part) else part for part in tolerance)


def in_chunks(table: Interval, group: int) -> Interval:
    """A table in chunks, the last filled up with intervals of no time, leaves `[chunks, group, B, ...]`."""
    count = len(table.duration)
    chunks = -(-count // group)

    def padded(leaf):  # by its last row: covariates may be divided by
        fill = jnp.broadcast_to(leaf[-1:], (chunks * group - count, *leaf.shape[1:]))
        return jnp.concatenate([leaf, fill]).reshape(chunks, group, *leaf.shape[1:])

    real = (jnp.arange(chunks * group) < count).reshape(chunks, group, 1)
    rows = by_axis(lambda _, leaf, __: padded(leaf), table)
    return rows._replace(
        duration=jnp.where(real, rows.duration, 0),
        bolus=jnp.where(real[..., None], rows.bolus, 0),
        keep=None if rows.keep is None else jnp.where(real, rows.keep, 1),
    )


def plain(engine: Engine, *arguments: Any) -> Solved:
    """A chunk, as JAX differentiates it in forward mode."""
    return forward(engine, *arguments, inputs=False)[0]


def differentiable(engine: Engine, keep: bool):
    """`(params, table, y, step, tolerance, points) -> Solved`, with its gradient."""

    @jax.custom_vjp
    def chunk(*arguments):
        return plain(engine, *arguments)

    def there(*given):
        arguments = jax.tree.map(lambda leaf: leaf.value, given)
        solved, written = forward(engine, *arguments)
        # Whether anybody asks for the table's gradient: in a fit of weights, nobody. Told by a shape, not a value.
        moves = any(leaf.perturbed for leaf in jax.tree.leaves(given[1]))
        if any(leaf.perturbed for leaf in jax.tree.leaves(given[5])):
            raise ConfigError("framework=fused: report times have no derivative backward; see drift, or forward_mode")
        return solved, (arguments, written if keep else None, jnp.zeros(int(moves)))

    def home(saved, cotangent):
        arguments, written, moves = saved
        states, y = (zeros(leaf) for leaf in (cotangent.states, cotangent.y))
        written = written or forward(engine, *arguments)[1]
        return backward(engine, arguments, written, states, y, moves.size > 0)

    chunk.defvjp(there, home, symbolic_zeros=True)
    return chunk


def zeros(cotangent: Any) -> Any:
    """Zeros for what nobody asks for."""
    known = isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
    return jnp.zeros(cotangent.shape, cotangent.dtype) if known else cotangent


def forward(engine: Engine, params, table, y, step, tolerance, points, *, inputs=True) -> tuple[Solved, Written]:
    """Solve a chunk, tape after tape; in most solves there is one."""
    count, size, stages = len(table.duration), len(y), len(engine.method.c) if inputs else 0
    points = engine.points(points, y.dtype)
    start, shape = begin(y, step), (size, count, points.shape[0 if points.ndim == 1 else 1])

    def go_on(carry):
        moment, _, written, _ = carry
        return (written.marks.tapes == 0) | ((moment.interval < count) & ~moment.failed).any()

    def body(carry):
        moment, states, written, counts = carry
        marks = marked(written.marks, ravel_pytree(moment)[0])
        moment, tape = run(engine, params, table, tolerance, moment, written.tape)
        found, held = interpolate(tape, moment.kept, points, count)
        states = jnp.where((held.trial >= 0).reshape(shape)[..., None], found, states)
        there = jnp.arange(count)[:, None, None] == tape.interval
        more = jnp.stack([(there & flag).sum(1, dtype=jnp.int32) for flag in (tape.accepted, tape.rejected)])
        return moment, states, Written(tape, held, marks), counts + more

    held = Held(jnp.zeros((size, shape[1] * shape[2]), jnp.int32), jnp.zeros(shape, y.dtype))
    room = jnp.zeros((MARKS, ravel_pytree(start)[0].size), y.dtype)
    written = Written(blank(engine.rows, stages, y), held, Marks(room, jnp.int32(1), jnp.int32(0)))
    states = jnp.full((*shape, y.shape[1]), jnp.nan, y.dtype)
    counts = jnp.zeros((2, count, size), jnp.int32)
    moment, states, written, counts = jax.lax.while_loop(go_on, body, (start, states, written, counts))
    return Solved(states.transpose(1, 2, 0, 3), *judged(engine, moment, counts)), written


def judged(engine: Engine, moment: Moment, counts: Any) -> tuple[Any, Any, Report]:
    """The end of a chunk, the next step, and what is to be said of each interval."""
    accepted, rejected = counts
    tried = accepted + rejected
    number = jnp.arange(len(accepted))[:, None]
    report = Report(
        accepted=accepted,
        rejected=rejected,
        evaluations=jnp.where(tried > 0, engine.method.trials * tried + 2, 0),  # two choose the first step
        failed=moment.failed & (number >= moment.interval),
        reached=jnp.where(number < moment.interval, 1, jnp.where(number == moment.interval, moment.own, 0)),
    )
    return jnp.where(moment.failed[:, None], jnp.nan, moment.y), moment.step, report


def marked(marks: Marks, start: Any) -> Marks:
    """Marks with that of the next tape; where they are full, every second goes, and half as many are made from now."""
    full = marks.tapes == MARKS * marks.stride
    fewer = jnp.concatenate([marks.start[::2], jnp.zeros_like(marks.start[::2])])
    room, stride = jnp.where(full, fewer, marks.start), jnp.where(full, 2, 1) * marks.stride
    place = jnp.where(marks.tapes % stride == 0, marks.tapes // stride, MARKS)  # outside: nothing is written
    return Marks(room.at[place].set(start, mode="drop"), stride, marks.tapes + 1)


def backward(engine: Engine, arguments: tuple, written: Written, states: Any, y: Any, moves: bool) -> tuple:
    """Cotangents of `forward`'s arguments, by those of the states and of the end, y.

    `moves` tells whether anybody asks for that of the table.
    """
    params, table, initial, _, tolerance, points = arguments
    points = engine.points(points, initial.dtype)
    marks, count = written.marks, len(table.duration)
    laid_out = ravel_pytree(begin(initial, initial[:, 0]))[1]

    def again(number, tape, held):
        """The tape of that number, from the last mark before it; the last of all is there still."""
        first, last = number // marks.stride, number == marks.tapes - 1

        def next_one(_, carry):
            return run(engine, params, table, tolerance, *carry)

        # No turn where it is there: a branch would copy it.
        turns = jnp.where(last, 0, number + 1 - first * marks.stride)
        moment, tape = jax.lax.fori_loop(0, turns, next_one, (laid_out(marks.start[first]), tape))
        return tape, jax.lax.cond(last, lambda: held, lambda: interpolate(tape, moment.kept, points, count)[1])

    def body(carry):
        number, tape, held, asked = carry
        tape, held = again(number, tape, held)
        return number - 1, tape, held, back(engine, params, table, tape, held, states, asked)

    given, *rows = jax.tree.map(jnp.zeros_like, (params, inner(table), table.bolus))
    asked = Asked(y, given, *(rows if moves else (None, None)))
    start = (marks.tapes - 1, written.tape, written.held, asked)
    *_, asked = jax.lax.while_loop(lambda carry: carry[0] >= 0, body, start)
    first = asked.y if table.keep is None else table.keep[0][:, None] * asked.y
    if not moves:
        return asked.params, None, first, None, None, None
    keep = None if table.keep is None else jnp.zeros_like(table.keep)
    return asked.params, asked.table._replace(bolus=asked.bolus, keep=keep), first, None, None, None
