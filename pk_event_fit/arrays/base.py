"""What the package needs of an array library: the few things that differ between NumPy, JAX and torch."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
Params = dict[str, Array]


class Moments(NamedTuple):
    """The state of Adam, the same in every array library, so that a checkpoint fits them all.

    Attributes:
        count: Steps taken, a scalar.
        mean: Running mean of the gradient, by parameter.
        square: Running mean of its square, by parameter.
    """

    count: Array
    mean: Params
    square: Params


class Namespace:
    """An array module with a few names added; everything else is the module's own."""

    def __init__(self, module: Any, **added: Any):
        self._module = module
        self.__dict__.update(added)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def tolerance_floor(eps: float) -> float:
    """The least relative tolerance that a precision holds: below 20 rounding errors, steps chase noise."""
    return 20 * eps


class Counted:
    """A field that counts its calls, in libraries that call it each time that it is evaluated."""

    def __init__(self, field: Callable):
        self.field, self.calls = field, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)

    def __call__(self, xp, params, t, y, covariates):
        self.calls += 1
        return self.field(xp, params, t, y, covariates)

    def count(self) -> int:
        """Calls since the last time that this was asked."""
        calls, self.calls = self.calls, 0
        return calls


class Arrays(abc.ABC):
    """An array library at one precision on one device.

    Attributes:
        xp: The library's module with `affine(x, w, b)`, the activations `relu, silu, selu, softplus, rbf`, and
            `constant(values, like)`, a tuple of numbers as an array of the kind of `like`, added.
        dtype: The library's floating type.
        eps: Machine epsilon of that type.
    """

    xp: Any
    dtype: Any
    eps: float

    @abc.abstractmethod
    def asarray(self, x: Any) -> Array:
        """`x` at this precision, on this device."""

    @abc.abstractmethod
    def to_numpy(self, x: Array) -> np.ndarray:
        """`x` as a NumPy array that shares no memory with it."""

    @abc.abstractmethod
    def scan(self, advance: Callable, carry: Array, table: Any) -> tuple[Array, Any]:
        """Fold `advance(carry, row) -> (carry, out)` over the rows of a NamedTuple of arrays; stack what comes out."""

    @abc.abstractmethod
    def value_and_grad(self, function: Callable) -> Callable:
        """`function(params, *rest) -> (scalar, extra)` to `-> ((scalar, extra), gradient with regard to params)`."""

    @abc.abstractmethod
    def adam_init(self, params: Params) -> Moments:
        """Adam before its first step."""

    @abc.abstractmethod
    def adam_update(
        self, params: Params, gradient: Params, moments: Moments, learning_rate: float
    ) -> tuple[Params, Moments]:
        """One step of the library's own Adam (beta 0.9 and 0.999, eps 1e-8); the arguments stay as they are."""

    @abc.abstractmethod
    def adam_restore(self, count: int, mean: Params, square: Params) -> Moments:
        """Adam after `count` steps, with its counter in the library's own type."""

    def stop_gradient(self, x: Array) -> Array:
        """`x` as a constant."""
        return x

    @abc.abstractmethod
    def segment_sum(self, values: Array, index: np.ndarray, size: int) -> Array:
        """`[size]`: the sum of those of `values`, `[N]`, whose `index`, `[N]`, is that place."""

    @abc.abstractmethod
    def jacobian(self, function: Callable, y: Array) -> tuple[Array, Array, Any]:
        """Value, `[B, D]`, and derivative, `[B, D, D]`, of what treats each row by itself; and what it returns besides.

        Args:
            function: `function(y) -> (value, extra)`.
            y: `[B, D]`.
        """

    def iterate(self, body: Callable, state: Any, limit: int) -> Any:
        """`state, done = body(state)` until `done`, or `limit` times; no gradient goes through it."""
        for _ in range(limit):
            state, done = body(state)
            if bool(done):
                break
        return state

    def counting(self, field: Callable) -> tuple[Callable, Callable[[], int]]:
        """The same field, and what tells how often it was evaluated for the whole batch since it was last asked.

        Results have to be waited for first. A field within a compiled right-hand side of torch cannot be counted:
        only its first call, which compiles it, would be.
        """
        counted = Counted(field)
        return counted, counted.count

    def backward_memory(self, function: Callable, gradient: Callable, *arguments: Any) -> tuple[float, str]:
        """What the gradient of `function(params, *rest) -> (scalar, extra)` keeps or needs, MB, and what that measures.

        Parameters and inputs are left out. Numbers of different kinds do not compare. `gradient` is a compiled function
        that has been called with these arguments: XLA tells the memory of that instead of compiling another.
        """
        raise NotImplementedError("NumPy has no gradients: use a JAX or torch framework")

    def compile(self, function: Callable) -> Callable:
        """`function`, compiled where the library does that."""
        return function

    def wait(self, x: Any) -> Any:
        """`x` once every operation behind it is done, for honest timings."""
        return x

    def tell(self, note: Callable, value: Array) -> None:
        """Call `note(value)` each time that this place of a program is passed, compiled or not."""
        note(value)

    def table(self, rows: Any) -> Any:
        """A NamedTuple of NumPy arrays, or of such, as one of this library's arrays; `None` stays `None`."""
        if rows is None:
            return None
        if isinstance(rows, tuple):
            return type(rows)(*(self.table(leaf) for leaf in rows))
        return self.asarray(rows)


def scan_in_python(stack: Callable, advance: Callable, carry: Array, table: Any) -> tuple[Array, Any]:
    """`Arrays.scan` as a plain loop, for libraries that run as they are written."""
    outs = []
    for row in range(len(table.duration)):
        carry, out = advance(carry, type(table)(*(None if leaf is None else leaf[row] for leaf in table)))
        outs.append(out)
    return carry, _stack(stack, outs)


def _stack(stack: Callable, items: list) -> Any:
    first = items[0]
    if first is None:
        return None
    if isinstance(first, tuple):
        columns = [_stack(stack, [item[k] for item in items]) for k in range(len(first))]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    return stack(items)
