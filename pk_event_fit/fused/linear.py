"""A field, linearised at many batches of states at once and pulled back one batch at a time.

`jax.vjp` at each batch would evaluate the field once more in the loop, and make the gradient of the weights by many
small products. Here the field is evaluated at all batches in one call, as one large batch, and the program of its pull
back is cut in two: what leads to the states is run batch by batch, and leaves behind the cotangents inside the field
that all else follows from; what leads to the weights is run once, in few large products.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from ..errors import ConfigError


class Pullback:
    """The program of a field's pull back, in two parts, for a batch of some size.

    Args:
        field: `field(y, shared, own, fixed)`.
        arguments: `y, shared, own, fixed`, arrays or their shapes.

    Attributes:
        kept: Makes of the arguments what the parts need.
        needs: Shapes of that.
        first: Of that and the cotangent of dy/dt: the cotangent of y, and what is left for the other part.
        left: Shapes of the latter.
        rest: Of that and of what is left: cotangents of those leaves of `(shared, own)` that the field depends on.
        lives: Which leaves these are.
    """

    def __init__(self, field: Callable, arguments: tuple):
        found: list[Any] = []

        def kept(y, shared, own, fixed):
            out, give = jax.vjp(lambda *given: field(*given, fixed), y, shared, own)
            leaves, structure = jax.tree.flatten(give)
            found[:] = [structure, jax.ShapeDtypeStruct(out.shape, out.dtype)]
            return leaves

        def pull(leaves, cotangent):
            return jax.tree.leaves(jax.tree.unflatten(structure, leaves)(cotangent))

        program = jax.make_jaxpr(kept)(*arguments)
        structure, out = found
        self.kept, self.needs = jaxpr_as_fun(program), program.out_avals
        self._cut(jax.make_jaxpr(pull)(program.out_avals, out))

    def _cut(self, program: ClosedJaxpr) -> None:
        jaxpr, inputs = program.jaxpr, program.jaxpr.invars
        linear = depends(jaxpr, inputs[-1])
        first, *others = jaxpr.outvars
        steps = needed(jaxpr, [first])
        done = [inputs[-1], *(out for step in steps for out in step.outvars if out in linear)]
        rest = [step for step in needed(jaxpr, others) if not set(done).issuperset(step.outvars)]
        # What the field does not depend on has a cotangent of zero, and no part in the second program.
        self.lives = [k for k, out in enumerate(others) if not isinstance(out, Literal) and out in linear]
        ends = [others[k] for k in self.lives]
        used = {variable for step in rest for variable in step.invars if not isinstance(variable, Literal)}
        left = [variable for variable in done if variable in used.union(ends)]
        self.left = [variable.aval for variable in left]
        self.first = evaluated(program, steps, inputs, [first, *left])
        self.rest = evaluated(program, rest, [*inputs[:-1], *left], ends)


class Linearised:
    """A field, linearised at N batches of B states each.

    Args:
        field: `field(y, shared, own, fixed) -> dy/dt`, each row by itself.
        y: `[N, B, D]`.
        shared: What all rows share, such as weights.
        own: What each row has of its own, leaves `[N, B, ...]`.
        fixed: Likewise, but no cotangent is asked of it.

    Raises:
        ConfigError: The field's program is another one for other numbers of rows.
    """

    def __init__(self, field: Callable, y: Any, shared: Any, own: Any, fixed: Any):
        self.batches, self.size = y.shape[:2]
        self.shared, self.own = shared, own
        whole = jax.tree.map(merged, (y, own, fixed))
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (y, own, fixed))
        self.one, self.whole = (Pullback(field, (y, shared, own, fixed)) for y, own, fixed in (one, whole))
        self.axes = self._axes(self.one.needs, self.whole.needs)
        self.sides = self._axes(self.one.left, self.whole.left)
        self.leaves = self.whole.kept(*jax.tree.leaves((whole[0], shared, *whole[1:])))

    def _axes(self, one: list, many: list) -> list[int | None]:
        """Along which axis of each array the batches follow one another; None where they share it, or are one."""
        alike, found = [leaf.ndim for leaf in one] == [leaf.ndim for leaf in many], []
        for small, large in zip(one, many, strict=False):
            axes = [k for k in range(small.ndim) if small.shape[k : k + 1] != large.shape[k : k + 1]]
            sizes = [(small.shape[k], *large.shape[k : k + 1]) for k in axes]
            alike &= sizes in ([], [(self.size, self.batches * self.size)])
            found.append(axes[0] if axes else None)
        if not alike:
            raise ConfigError("framework=fused: the field must do the same for any number of subjects, each by itself")
        return found

    def pull(self, k: int, cotangent: Any) -> tuple[Any, list]:
        """The cotangent of the k-th batch's states, and what that leaves for `gather`."""
        first, last = k * self.size, (k + 1) * self.size
        leaves = [
            leaf if axis is None else jax.lax.slice_in_dim(leaf, first, last, axis=axis)
            for leaf, axis in zip(self.leaves, self.axes, strict=True)
        ]
        change, *left = self.one.first(*leaves, cotangent)
        return change, left

    def gather(self, left: list[list]) -> tuple[Any, Any]:
        """Cotangents of `shared`, and of `own` with leaves `[N, B, ...]`, of what all batches left."""
        # What batches share is a sum over rows, as where one step of the program leads to all cotangents. The barrier
        # keeps the compiler from summing up each batch by itself, and from reading what is to be turned one by one.
        whole = [
            functools.reduce(jnp.add, parts)
            if axis is None
            else jax.lax.optimization_barrier(jnp.concatenate(parts, axis))
            for *parts, axis in zip(*left, self.sides, strict=True)
        ]
        flat, structure = jax.tree.flatten((self.shared, jax.tree.map(merged, self.own)))
        found = [jnp.zeros_like(leaf) for leaf in flat]
        for k, value in zip(self.whole.lives, self.whole.rest(*self.leaves, *whole), strict=True):
            found[k] = value
        shared, own = jax.tree.unflatten(structure, found)
        return shared, jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), own, self.own)


def merged(leaf: Any) -> Any:
    """All batches as one."""
    return leaf.reshape(-1, *leaf.shape[2:])


def depends(jaxpr: Jaxpr, on: Any) -> set:
    """The variables of a program that may depend on one of them."""
    reached = {on}
    for step in jaxpr.eqns:
        if any(not isinstance(variable, Literal) and variable in reached for variable in step.invars):
            reached.update(step.outvars)
    return reached


def needed(jaxpr: Jaxpr, outs: Iterable) -> list:
    """The steps of a program that lead to some of its variables, in order."""
    wanted, steps = {out for out in outs if not isinstance(out, Literal)}, []
    for step in reversed(jaxpr.eqns):
        if wanted.intersection(step.outvars):
            wanted.update(variable for variable in step.invars if not isinstance(variable, Literal))
            steps.append(step)
    return steps[::-1]


def part_of(program: ClosedJaxpr, steps: list, inputs: list, outs: list) -> Callable:
    """Some steps of a program as a function."""
    jaxpr = program.jaxpr
    part = Jaxpr(jaxpr.constvars, inputs, outs, steps, jaxpr.effects, jaxpr.debug_info.with_unknown_names())
    return jaxpr_as_fun(ClosedJaxpr(part, program.consts))


def evaluated(program: ClosedJaxpr, steps: list, inputs: list, outs: list) -> Callable:
    """Some steps of a program as a function that takes products as they are fast."""

    def function(*given):
        known = dict(zip(inputs, given, strict=True))
        for step in steps:
            operands = [variable for variable in step.invars if not isinstance(variable, Literal)]
            used = list(dict.fromkeys(variable for variable in operands if variable in known))
            if step.primitive.name == "dot_general" and len(used) == 2:
                found = [product(*(known[variable] for variable in step.invars), **step.params)]
            else:
                found = part_of(program, [step], used, step.outvars)(*map(known.get, used))
            known.update(zip(step.outvars, found, strict=True))
        return [known[out] for out in outs]

    return function


def product(one: Any, other: Any, *, dimension_numbers: tuple, precision: Any, preferred_element_type: Any, **_: Any):
    """A product of two matrices, laid out as those are that are fast on a CPU.

    One that sums over the rows of both, the gradient of a layer, with the narrow one first, and that by its columns:
    the other way round those take six times as long, and the compiler spreads such sums over all cores, though these
    have work of their own. One with a matrix that is to be read by columns, of weights, with that turned, once for
    all batches. The compiler would turn all of them round again if nothing were in its way.
    """
    (first, second), batches = dimension_numbers
    plain, sums = one.ndim == other.ndim == 2 and not any(batches), (*first, *second)
    barrier = jax.lax.optimization_barrier
    multiply = functools.partial(jnp.matmul, precision=precision, preferred_element_type=preferred_element_type)
    if plain and sums == (1, 1):
        return multiply(one, barrier(other.T))
    if not plain or sums != (0, 0):
        return jax.lax.dot_general(one, other, dimension_numbers, precision, preferred_element_type)
    if one.shape[1] <= other.shape[1]:
        return barrier(multiply(barrier(one.T), other))
    return barrier(multiply(barrier(other.T), one)).T
