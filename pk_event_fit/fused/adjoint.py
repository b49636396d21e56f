r"""Backward: the discrete adjoint of the steps that were kept.

The search for steps has no derivative and is not gone through again. A step $y_1 = y_0 + h \sum_j b_j k_j$ hands the
cotangent of its end, $\lambda_1$, to its stages and its beginning:

$$\bar k_j = h b_j \lambda_1 + \text{dense output} + h \sum_{i>j} a_{ij} J_i^T \bar k_i, \qquad
\lambda_0 = \lambda_1 + \text{dense output} + \sum_j J_j^T \bar k_j.$$

One step after the other can only be done what depends on the next: the products $J^T \bar k$. The field is linearised
at all stages of a step in one call, and the gradient of the weights is one pull back of all its $\bar k_j$ together.
More steps than one at once would be larger products, but of arrays that fall out of the cache of a core.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..intervals import Interval
from .dense import Held, cumulate, gather
from .forward import Engine, inner, rows_of
from .linear import Linearised, merged
from .tape import Tape, at


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


class Ends(NamedTuple):
    """What report points ask of slopes at the end of an interval, which no next step takes as its first.

    Attributes:
        trial: The last of each interval that was kept, -1 for none, `[Q, B]`.
        y: What that asks of the state there, `[Q, B, D]`.
    """

    trial: Any
    y: Any


class Step(NamedTuple):
    """A step that was kept, each subject's own; where a subject has fewer, of length 0.

    Attributes:
        valid: Whether there is one, `[B]`.
        interval: `[B]`.
        begin: Own time, `[B]`.
        length: Own time, `[B]`.
        inputs: States of its stages, `[E, B, D]`.
        keep: What is kept of its end by what follows, `[B, 1]`; None where all is kept.
        end: What the slope at its end asks of the state there, where no step takes it over, `[B, D]`.
        asked: What report points ask of its beginning, `[B, D]`.
        slopes: And of its slopes but the last, `[E - 1, B, D]`; the first takes over from the last of the step before.
    """

    valid: Any
    interval: Any
    begin: Any
    length: Any
    inputs: Any
    keep: Any
    end: Any
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


def back(engine: Engine, params: Any, table: Interval, tape: Tape, held: Held, cotangent: Any, asked: Asked) -> Asked:
    """Go through a tape from its end to its beginning."""
    order, count = order_of(tape)
    asks = gather(held, cotangent, len(order))
    ends, asked = ended(engine, params, table, tape, asks, asked)

    def step_at(number):
        return step_of(engine, table, tape, asks, ends, order, count, number)

    def body(carry):
        number, asked = carry
        return number - 1, through(engine, params, table, step_at(number), asked)

    return jax.lax.while_loop(lambda carry: carry[0] >= 0, body, (count.max() - 1, asked))[1]


def ended(engine: Engine, params: Any, table: Interval, tape: Tape, asks: Any, asked: Asked) -> tuple[Ends, Asked]:
    """The ends of all intervals at once: nothing else is to be known for them than what report points ask."""
    rows, size = tape.accepted.shape
    subjects, number, intervals = jnp.arange(size), jnp.arange(rows)[:, None, None], jnp.arange(len(table.duration))
    here = tape.accepted[:, None] & (tape.interval[:, None] == intervals[:, None])  # [R, Q, B]
    trial = jnp.where(here, number, -1).max(0)
    there, index = trial >= 0, jnp.maximum(trial, 0)
    # Where there is none, where the tape began stands in, all of it: a state of one interval need not be one that the
    # field can take in another, and 0 times what is no number is none.
    state = jnp.where(there[..., None], tape.inputs[index, -1, subjects], tape.inputs[0, 0])
    row = jax.vmap(rows_of, (None, 0))(inner(table), jnp.where(there, intervals[:, None], tape.interval[0]))
    begin, length = tape.begin[index, subjects], jnp.where(there, tape.length[index, subjects], 0)
    dense = jnp.asarray(engine.method.dense[-1], state.dtype)
    slope = length[..., None] * jnp.einsum("m,qbmd->qbd", dense, asks[index, subjects, 1:], precision="highest")
    state, own, row = jax.tree.map(lambda leaf: merged(leaf)[None], (state, begin + length, row))  # one batch
    field = linear(engine, params, state, own, row, asked.table is not None)
    change, left = field.pull(0, merged(jnp.where(there[..., None], slope, 0)))
    more, varied = field.gather([left])
    asked = asked._replace(params=jax.tree.map(jnp.add, asked.params, more))
    if asked.table is not None:
        varied = jax.tree.map(lambda total, leaf: total + leaf.reshape(total.shape), asked.table, varied)
        asked = asked._replace(table=varied)
    return Ends(trial, change.reshape(slope.shape)), asked


def step_of(
    engine: Engine, table: Interval, tape: Tape, asks: Any, ends: Ends, order: Any, count: Any, number: Any
) -> Step:
    """Each subject's step of that number."""
    size = tape.accepted.shape[1]
    subjects, valid = jnp.arange(size), number < count
    index, earlier = at(order, number), at(order, jnp.maximum(number - 1, 0))
    interval = tape.interval[index, subjects]
    goes_on = valid & (number > 0) & (tape.interval[earlier, subjects] == interval)
    # Where there is no step, where the tape began stands in: a rejected one may be no number, and 0 times that is none.
    inputs = jnp.where(valid[:, None, None], tape.inputs[index, :, subjects], tape.inputs[0, 0][:, None])
    own = jnp.where(valid[:, None, None], asks[index, subjects], 0)  # [B, 5, D]
    before = jnp.where(goes_on[:, None, None], asks[earlier, subjects, 1:], 0)
    length = jnp.where(valid, tape.length[index, subjects], 0)
    dense = jnp.asarray(engine.method.dense, own.dtype)
    slopes = length[:, None] * jnp.einsum("jm,bmd->jbd", dense[:-1], own[:, 1:], precision="highest")
    handed = jnp.einsum("m,bmd->bd", dense[-1], before, precision="highest")
    slopes = slopes.at[0].add(tape.length[earlier, subjects][:, None] * handed)
    last = valid & (ends.trial[interval, subjects] == index)
    return Step(
        valid, interval, tape.begin[index, subjects], length, inputs.transpose(1, 0, 2),
        kept_of(table, interval, tape.ended[index, subjects] & valid),
        jnp.where(last[:, None], ends.y[interval, subjects], 0), own[:, 0], slopes,
    )  # fmt: skip


def kept_of(table: Interval, interval: Any, ended: Any) -> Any:
    """What the next interval keeps of a step's end, `[B, 1]`; None where all is kept."""
    if table.keep is None:
        return None
    follows = jnp.minimum(interval + 1, len(table.duration) - 1)
    hands_on = ended & (interval + 1 < len(table.duration))
    return jnp.where(hands_on, table.keep[follows, jnp.arange(len(interval))], 1)[:, None]


def linear(engine: Engine, params: Any, states: Any, own: Any, row: Interval, moves: bool) -> Linearised:
    """The field at `[N, B, D]` states; `moves`: whether anybody asks for the cotangent of the intervals."""
    varied, fixed = (row, None) if moves else (None, row)

    def rhs(y, params, varied, fixed):
        own, row = fixed
        return engine.slope(own, y, params, row if varied is None else varied)

    return Linearised(rhs, states, params, varied, (own, fixed))


def through(engine: Engine, params: Any, table: Interval, step: Step, asked: Asked) -> Asked:
    """Go backward through a step."""
    method, moves, h = engine.method, asked.table is not None, step.length[:, None]
    own = step.begin + jnp.asarray(method.c[: method.trials], h.dtype)[:, None] * step.length
    row = inner(rows_of(table, step.interval))
    row = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (method.trials, *leaf.shape)), row)
    field = linear(engine, params, step.inputs[: method.trials], own, row, moves)
    a, stages = method.a.tolist(), range(method.trials)
    y = (asked.y if step.keep is None else step.keep * asked.y) + step.end
    slopes = [h * a[-1][j] * y + step.slopes[j] for j in stages]
    y = y + step.asked
    left: list[list] = [[] for _ in stages]
    for j in reversed(stages):
        change, left[j] = field.pull(j, slopes[j])
        y = y + change
        slopes[:j] = [slopes[i] + h * a[j][i] * change if a[j][i] else slopes[i] for i in range(j)]
    more, varied = field.gather(left)
    asked = asked._replace(y=y, params=jax.tree.map(jnp.add, asked.params, more))
    if moves:
        varied = jax.tree.map(lambda leaf: leaf.sum(0), varied)
        asked = by_interval(step, len(table.duration), varied, asked)
    return asked


def by_interval(step: Step, count: int, row: Interval, asked: Asked) -> Asked:
    """What a step asks of its interval and dose, added where it belongs."""
    mine = (step.interval == jnp.arange(count)[:, None]) & step.valid  # [Q, B]

    def add(total, leaf):
        return total + jnp.where(mine.reshape(*mine.shape, *(1,) * (leaf.ndim - 1)), leaf, 0)

    first = (step.valid & (step.begin == 0))[:, None]
    return asked._replace(
        table=jax.tree.map(add, asked.table, row), bolus=add(asked.bolus, jnp.where(first, asked.y, 0))
    )
