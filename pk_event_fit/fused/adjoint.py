r"""Backward: the discrete adjoint of the steps that were kept.

The search for steps has no derivative and is not gone through again. A step $y_1 = y_0 + h \sum_j b_j k_j$ hands the
cotangent of its end, $\lambda_1$, to its stages and its beginning:

$$\bar k_j = h b_j \lambda_1 + \text{dense output} + h \sum_{i>j} a_{ij} J_i^T \bar k_i, \qquad
\lambda_0 = \lambda_1 + \text{dense output} + \sum_j J_j^T \bar k_j.$$

One step after the other can only be done what depends on the next: the products $J^T \bar k$. All else is done for many
steps at once: the field is linearised at all their stages in one call, and the gradient of the weights is one pull back
of all $\bar k_j$ together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..intervals import Interval
from .dense import Held, cumulate, gather
from .forward import Engine, inner, rows_of
from .linear import Linearised, merged
from .tape import Tape, at, put

STEPS = 3  # that are linearised at once: what they leave behind is to stay in the cache of a core


class Asked(NamedTuple):
    """Cotangents, as far as they are gathered.

    Attributes:
        y: Of the state at the beginning of the step that was gone through last, `[B, D]`.
        params: By name.
        table: Of what the right-hand side sees of the intervals, leaves `[Q, B, ...]`; None where nobody asks.
        bolus: `[Q, B, D]`; None likewise.
    """

    y: Any
    params: Any
    table: Interval
    bolus: Any


class Steps(NamedTuple):
    """Some steps that were kept, C of each subject, in turn; where a subject has fewer, of length 0.

    Attributes:
        valid: Whether there is one, `[C, B]`.
        interval: `[C, B]`.
        ended: Whether the interval was at its end with it, `[C, B]`.
        closes: Whether no step of this tape takes its last stage as its first, `[C, B]`.
        begin: Own time, `[C, B]`.
        length: Own time, `[C, B]`.
        inputs: States of its stages, `[C, E, B, D]`.
        asked: What report points ask of its beginning, `[C, B, D]`.
        slopes: And of its slopes, `[C, E, B, D]`; the first takes over from the last of the step before.
    """

    valid: Any
    interval: Any
    ended: Any
    closes: Any
    begin: Any
    length: Any
    inputs: Any
    asked: Any
    slopes: Any


def order_of(tape: Tape) -> tuple[Any, Any]:
    """The trial that was each subject's n-th to be kept, `[R, B]`, and how many were, `[B]`."""
    rows, size = tape.accepted.shape
    so_far = cumulate(tape.accepted.T.astype(tape.begin.dtype)).T.astype(jnp.int32)
    place = jnp.where(tape.accepted, so_far - 1, rows)  # outside: nothing is written
    order = jnp.zeros((rows, size), jnp.int32)
    order = order.at[place, jnp.arange(size)].set(jnp.arange(rows, dtype=jnp.int32)[:, None], mode="drop")
    return order, so_far[-1]


def steps_of(engine: Engine, tape: Tape, asks: Any, order: Any, count: Any, first: Any) -> Steps:
    """The steps from the `first` on."""
    size = tape.accepted.shape[1]
    subjects = jnp.arange(size)
    numbers = first + jnp.arange(STEPS)
    valid = numbers[:, None] < count
    index = order[jnp.clip(numbers, 0, len(order) - 1)]
    earlier = order[jnp.clip(numbers - 1, 0, len(order) - 1)]

    def take(leaf, at):
        return leaf[at, subjects]

    def asked(at, there):  # [C, B, 5, D]
        return jnp.where(there[..., None, None], take(asks, at), 0)

    # Where there is no step, where the tape began stands in: a rejected one may be no number, and 0 times that is none.
    inputs = jnp.where(valid[..., None, None], tape.inputs[index, :, subjects], tape.inputs[0, 0][:, None])
    ended = take(tape.ended, index) & valid
    goes_on = valid & (numbers > 0)[:, None] & ~take(tape.ended, earlier)
    own, last = asked(index, valid), asked(earlier, goes_on)
    length = jnp.where(valid, take(tape.length, index), 0)
    dense = jnp.asarray(engine.method.dense, own.dtype)
    slopes = length[:, None, :, None] * jnp.einsum("jm,cbmd->cjbd", dense, own[:, :, 1:], precision="highest")
    handed = jnp.einsum("m,cbmd->cbd", dense[-1], last[:, :, 1:], precision="highest")
    slopes = slopes.at[:, 0].add(take(tape.length, earlier)[..., None] * handed)
    return Steps(
        valid, take(tape.interval, index), ended,
        valid & (ended | (numbers[:, None] == count - 1)), take(tape.begin, index), length,
        inputs.transpose(0, 2, 1, 3), own[:, :, 0], slopes,
    )  # fmt: skip


def back(engine: Engine, params: Any, table: Interval, tape: Tape, held: Held, cotangent: Any, asked: Asked) -> Asked:
    """Go through a tape from its end to its beginning."""
    order, count = order_of(tape)
    asks = gather(held, cotangent, len(order))

    def go_on(carry):
        return carry[0] >= 0

    def steps_at(block):
        return steps_of(engine, tape, asks, order, count, block * STEPS)

    def body(carry):
        block, asked, room = carry
        return block - 1, *through(engine, params, table, steps_at(block), asked, room)

    last = (count.max() + STEPS - 1) // STEPS - 1
    # One room for all blocks: to make it anew would be to write as much as all that goes into it.
    shapes = jax.eval_shape(lambda: linear(engine, params, table, steps_at(last), asked.table is not None).room())
    room = [jnp.zeros(part.shape, part.dtype) for part in shapes]
    return jax.lax.while_loop(go_on, body, (last, asked, room))[1]


def linear(engine: Engine, params: Any, table: Interval, steps: Steps, moves: bool) -> Linearised:
    """The field at all stages of some steps; `moves`: whether anybody asks for the cotangent of the intervals."""
    rows = rows_at(table, steps)
    stages, begin = engine.method.trials, steps.begin
    own = begin[:, None] + jnp.asarray(engine.method.c[:stages], begin.dtype)[:, None] * steps.length[:, None]
    inside = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], stages, 1), inner(rows))
    inputs, own, inside = jax.tree.map(merged, (steps.inputs[:, :stages], own, inside))
    varied, fixed = (inside, None) if moves else (None, inside)

    def rhs(y, params, varied, fixed):
        own, row = fixed
        return engine.rhs(own, y, params, row if varied is None else varied)

    return Linearised(rhs, inputs, params, varied, (own, fixed))


def rows_at(table: Interval, steps: Steps) -> Interval:
    """The rows that steps are in, leaves `[C, B, ...]`."""
    return jax.vmap(rows_of, (None, 0))(table, steps.interval)


def through(engine: Engine, params: Any, table: Interval, steps: Steps, asked: Asked, room: list) -> tuple[Asked, list]:
    """Go backward through some steps; `room` is of steps before."""
    method, rows = engine.method, rows_at(table, steps)
    stages, moves = method.trials, asked.table is not None
    field = linear(engine, params, table, steps, moves)
    kept = kept_of(table, steps)
    a = jnp.asarray(method.a, steps.begin.dtype)[:, :stages, None, None]

    def body(number, carry):
        k = STEPS - 1 - number
        y, closing, room, starts = carry
        if kept is not None:
            y = at(kept, k)[:, None] * y
        y, closing = closed(engine, params, rows, steps, k, y, closing)
        h = at(steps.length, k)[:, None]
        slopes = h * a[-1] * y + at(steps.slopes, k)[:stages]

        def stage(number, carry):
            j = stages - 1 - number
            y, slopes, room = carry
            change, room = field.pull(k * stages + j, at(slopes, j), room)
            return y + change, slopes + h * at(a, j) * change, room

        y, _, room = jax.lax.fori_loop(0, stages, stage, (y + at(steps.asked, k), slopes, room))
        return y, closing, room, put(starts, k, y)

    closing = (asked.params, jax.tree.map(jnp.zeros_like, inner(rows)) if moves else None)
    carry = (asked.y, closing, field.again(room), jnp.zeros_like(steps.asked))
    y, (given, ends), room, starts = jax.lax.fori_loop(0, STEPS, body, carry)
    more, varied = field.gather(room)
    asked = asked._replace(y=y, params=jax.tree.map(jnp.add, given, more))
    if not moves:
        return asked, room
    varied = jax.tree.map(lambda leaf, end: leaf.reshape(STEPS, stages, *leaf.shape[1:]).sum(1) + end, varied, ends)
    return by_interval(steps, len(table.duration), varied, starts, asked), room


def kept_of(table: Interval, steps: Steps) -> Any:
    """What the next interval keeps of a step's end, `[C, B]`; None where all is kept."""
    if table.keep is None:
        return None
    follows = jnp.minimum(steps.interval + 1, len(table.duration) - 1)
    hands_on = steps.ended & (steps.interval + 1 < len(table.duration))
    return jnp.where(hands_on, table.keep[follows, jnp.arange(follows.shape[1])], 1)


def closed(engine: Engine, params: Any, rows: Interval, steps: Steps, k: Any, y: Any, closing: Any) -> tuple[Any, Any]:
    """What report points ask of a last stage that no next step takes over."""
    row = jax.tree.map(lambda leaf: at(leaf, k), inner(rows))
    closes = at(steps.closes, k)[:, None]
    slope = jnp.where(closes, at(steps.slopes, k)[-1], 0)

    def pull():
        own = at(steps.begin, k) + at(steps.length, k)
        state = at(steps.inputs, k)[-1]
        _, give = jax.vjp(lambda state, params, row: engine.rhs(own, state, params, row), state, params, row)
        there, given, table = give(slope)
        total, ends = closing
        ends = None if ends is None else jax.tree.map(lambda leaf, value: put(leaf, k, value), ends, table)
        return y + there, (jax.tree.map(jnp.add, total, given), ends)

    return jax.lax.cond(closes.any(), pull, lambda: (y, closing))


def by_interval(steps: Steps, count: int, rows: Interval, starts: Any, asked: Asked) -> Asked:
    """What some steps ask of intervals and doses, added where it belongs."""
    mine = (steps.interval[:, None] == jnp.arange(count)[:, None]) & steps.valid[:, None]  # [C, Q, B]

    def add(total, leaf):
        chosen = mine.reshape(*mine.shape, *(1,) * (leaf.ndim - 2))
        return total + jnp.where(chosen, leaf[:, None], 0).sum(0)

    first = (steps.valid & (steps.begin == 0))[..., None]
    return asked._replace(
        table=jax.tree.map(add, asked.table, rows), bolus=add(asked.bolus, jnp.where(first, starts, 0))
    )
