"""Report points: which step holds each, what the dense output is there, and the way back.

Points are the last axis here, and subjects come before them: what is summed up lies side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .tape import Tape

BLOCK = 32


class Held(NamedTuple):
    """Report points in the steps of a tape.

    Attributes:
        trial: The trial that holds each point, -1 for none of the tape, `[B, Q K]`.
        share: How far in its step each point is, 0 to 1, `[B, Q, K]`.
    """

    trial: Any
    share: Any


def before(points: Any, interval: Any, own: Any) -> Any:
    """How many report points of an interval come before an own time, by halving, `[..., B]`.

    Args:
        points: Own times, numbers `[K]` for all, or `[Q, K, B]`.
        interval: `[..., B]`.
        own: `[..., B]`.
    """
    shared = points.ndim == 1
    number, subjects = points.shape[0 if shared else 1], jnp.arange(own.shape[-1])
    least, more = at_least(points, own) if shared else (jnp.zeros(own.shape, jnp.int32), number)
    widths = 2 ** np.arange(more.bit_length(), dtype=np.int32)[::-1]

    def body(k, found):
        more = found + jnp.asarray(widths)[k]
        at = jnp.minimum(more, number) - 1
        point = jnp.asarray(points)[at] if shared else points[interval, at, subjects]
        return jnp.where((more <= number) & (point < own), more, found)

    return jax.lax.fori_loop(0, len(widths), body, least)


def at_least(points: np.ndarray, own: Any) -> tuple[Any, int]:
    """How many points there are in cells of time before that of an own time, and the most that there are in a cell.

    Points that lie evenly are one in a cell at most, and little is left to halve. There are as many cells as some power
    of two, so that the cell of a time is no question of rounding.
    """
    cells = 2 ** len(points).bit_length()
    counts = np.bincount(np.clip(points * cells, 0, cells).astype(int), minlength=cells + 1)
    table = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    return jnp.asarray(table)[jnp.clip(own * cells, 0, cells).astype(jnp.int32)], int(counts.max())


def holder(tape: Tape, last: Any, points: Any, count: int) -> Any:
    """The trial that holds each report point, -1 for none of this tape, `[B, Q K]`, by counting.

    A search for each point would cost more than the solve. Each step leaves at the first point that it holds how many
    trials it comes after the step before it. The running sum of these is, at each point, the trial that holds it.

    Args:
        tape: The tape.
        last: Each subject's last trial that was kept, -1 for none, `[B]`.
        points: Own times, numbers `[K]` for all, or `[Q, K, B]`.
        count: Number of intervals, Q.
    """
    number, size = points.shape[0 if points.ndim == 1 else 1], len(last)
    subjects, dtype = jnp.arange(size), tape.begin.dtype
    # A step that holds no point leaves its mark where the next one does; behind the last step no point is held.
    first = tape.interval * number + before(points, tape.interval, tape.begin)
    place = jnp.where(tape.accepted, first, count * number + 1)
    marks = jnp.zeros((size, count * number + 1), dtype)
    marks = marks.at[subjects, place].add(tape.gap.astype(dtype), mode="drop")
    interval, stop, ended = (leaf[jnp.maximum(last, 0), subjects] for leaf in (tape.interval, tape.stop, tape.ended))
    behind = interval * number + jnp.where(ended, number, before(points, interval, stop))
    marks = marks.at[subjects, behind].add(jnp.where(last < 0, 0, -last - 1).astype(dtype))
    return cumulate(marks[:, :-1]).astype(jnp.int32) - 1


def interpolate(tape: Tape, last: Any, points: Any, count: int) -> tuple[Any, Held]:
    """The dense output at the report points that are held.

    Args:
        tape: The tape.
        last: As in `holder`.
        points: Own times, numbers `[K]` for all, or `[Q, K, B]`.
        count: Number of intervals, Q.

    Returns:
        `[B, Q, K, D]`, and which are held.
    """
    number, size, compartments = points.shape[0 if points.ndim == 1 else 1], len(last), tape.inputs.shape[-1]
    own = points if points.ndim == 1 else points.transpose(2, 0, 1)
    trial = holder(tape, last, points, count)
    found = tape.dense[jnp.maximum(trial, 0), jnp.arange(size)[:, None]]
    found = found.reshape(size, count, number, -1)
    held = trial.reshape(size, count, number) >= 0
    begin, length, stop = (found[..., 6 * compartments + k] for k in range(3))
    share = jnp.where(own < stop, (own - begin) / jnp.where(length > 0, length, 1), 1)
    share = jnp.where(held, share, 0)
    parts = [found[..., k * compartments : (k + 1) * compartments] for k in range(6)]
    y = parts[4]
    for part in parts[3::-1]:
        y = y * share[..., None] + part
    # The end of a step as it is handed on, and not but for rounding.
    return jnp.where(share[..., None] >= 1, parts[5], y), Held(trial, share)


def cumulate(x: Any) -> Any:
    """Running sums along the last axis, by products with triangles: a scan would go through memory once a doubling."""
    length, rest = x.shape[-1], x.shape[:-1]
    # A divisor, if there is one that is not too small, needs no filling up.
    block = next((size for size in range(BLOCK, BLOCK // 2, -1) if length % size == 0), BLOCK)
    if length <= BLOCK:
        return jnp.matmul(x, jnp.triu(jnp.ones((length, length), x.dtype)), precision="highest")
    blocks = -(-length // block)
    filled = jnp.concatenate([x, jnp.zeros((*rest, blocks * block - length), x.dtype)], -1)
    inside = jnp.matmul(
        filled.reshape(-1, block), jnp.triu(jnp.ones((block, block), x.dtype)), precision="highest"
    ).reshape(*rest, blocks, block)
    total = inside[..., -1]
    ahead = cumulate(total) - total
    return (inside + ahead[..., None]).reshape(*rest, -1)[..., :length]


def gather(held: Held, cotangent: Any, rows: int) -> Any:
    """What report points ask of each trial: cotangents times powers 0 to 4 of the share, summed up, `[R, B, 5, D]`.

    Args:
        held: Points in their steps.
        cotangent: `[Q, K, B, D]`.
        rows: Trials, R.
    """
    size, points = held.trial.shape
    share = held.share.reshape(size, points, 1)
    terms = [cotangent.transpose(2, 0, 1, 3).reshape(size, points, -1)]
    for _ in range(4):
        terms.append(terms[-1] * share)
    # Trial and subject as one number: pairs would need a further array, and a slower scatter.
    subjects = jnp.arange(size, dtype=jnp.int32)[:, None]
    place = jnp.where(held.trial < 0, rows * size, held.trial * size + subjects)  # outside: nothing is added
    sums = jnp.zeros((rows * size, 5 * terms[0].shape[-1]), share.dtype)
    sums = sums.at[place.ravel()].add(jnp.concatenate(terms, -1).reshape(size * points, -1), mode="drop")
    return sums.reshape(rows, size, 5, -1)
