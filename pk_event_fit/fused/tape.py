"""Where subjects stand in the loop, and what is kept of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Moment(NamedTuple):
    """Where the subjects stand.

    Attributes:
        y: Amounts, `[B, D]`.
        slope: dy/ds there, `[B, D]`.
        own: Own time in the interval, `[B]`.
        step: Length of the next step, h (hours, not own time), `[B]`.
        errors: Ratios of error to tolerance of the last two steps that were kept, `[2, B]`.
        interval: Which one, from 0; as many as there are at the end, `[B]`.
        enters: Whether its dose is still to be taken, `[B]`.
        tried: Steps tried in it, `[B]`.
        failed: Whether it could not be solved, `[B]`.
        kept: Trial of this tape that was kept last, -1 for none yet, `[B]`.
    """

    y: Any
    slope: Any
    own: Any
    step: Any
    errors: Any
    interval: Any
    enters: Any
    tried: Any
    failed: Any
    kept: Any


class Packed(NamedTuple):
    """A `Moment` in three arrays: a loop, and its compiler, take as long for each array as for one of these.

    Attributes:
        states: y and slope, `[2, B, D]`.
        clocks: own, step and errors, `[4, B]`.
        counts: interval, enters, tried, failed and kept, `[5, B]`.
    """

    states: Any
    clocks: Any
    counts: Any


def packed(moment: Moment) -> Packed:
    """See `Packed`."""
    counts = (moment.interval, moment.enters, moment.tried, moment.failed, moment.kept)
    return Packed(
        jnp.stack([moment.y, moment.slope]),
        jnp.stack([moment.own, moment.step, *moment.errors]),
        jnp.stack([count.astype(jnp.int32) for count in counts]),
    )


def unpacked(parts: Packed) -> Moment:
    """See `Packed`."""
    (y, slope), (own, step, *_), (interval, enters, tried, failed, kept) = parts
    return Moment(y, slope, own, step, parts.clocks[2:], interval, enters > 0, tried, failed > 0, kept)


class Tape(NamedTuple):
    """What was tried, R trials of B subjects.

    Attributes:
        numbers: Those below, `[R, 5, B]`: the compiler takes as long for each array as for this one.
        inputs: States at which the field was evaluated, `[R, E, B, D]`; the first is that at the beginning, the last
            that at the end. Of a solve that nobody differentiates, none.
        dense: What a report point needs: state at the beginning, four coefficients of the dense output, state at the
            end, and own times at the beginning, of the length and at the end, `[R, B, 6 D + 3]`.
    """

    numbers: Any
    inputs: Any
    dense: Any

    @property
    def accepted(self) -> Any:
        """`[R, B]`, as all that follow."""
        return self.numbers[:, 0] > 0

    @property
    def rejected(self) -> Any:
        """Neither where a subject has nothing more to do."""
        return self.numbers[:, 1] > 0

    @property
    def ended(self) -> Any:
        """Whether the interval was at its end with it."""
        return self.numbers[:, 2] > 0

    @property
    def interval(self) -> Any:
        """Which one it was in."""
        return self.numbers[:, 3]

    @property
    def gap(self) -> Any:
        """Trials since the one that was kept before it."""
        return self.numbers[:, 4]

    @property
    def begin(self) -> Any:
        """Own time at its beginning."""
        return self.dense[..., -3]

    @property
    def length(self) -> Any:
        """Own time that it takes."""
        return self.dense[..., -2]

    @property
    def stop(self) -> Any:
        """Own time at its end."""
        return self.dense[..., -1]


def at(leaf: Any, k: Any) -> Any:
    """Row k of an array. `leaf[k]` would look whether k is within, and each such look is a kernel, in every turn."""
    return jax.lax.dynamic_index_in_dim(leaf, k, 0, keepdims=False, allow_negative_indices=False)


def put(leaf: Any, k: Any, value: Any) -> Any:
    """The array with another row k; likewise."""
    return jax.lax.dynamic_update_index_in_dim(leaf, value, k, 0, allow_negative_indices=False)


def blank(rows: int, stages: int, like: Any) -> Tape:
    """A tape for states as these, `[B, D]`, on which nothing is written; of no stages where nobody goes back."""
    (size, compartments), dtype = like.shape, like.dtype
    return Tape(
        jnp.zeros((rows, 5, size), jnp.int32),
        jnp.zeros((rows, stages, size, compartments), dtype),
        jnp.zeros((rows, size, 6 * compartments + 3), dtype),
    )
