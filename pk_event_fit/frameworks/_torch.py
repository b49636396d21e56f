"""What the torch frameworks share: what is differentiated, and a watch over solves of the whole batch as one ODE."""

from __future__ import annotations

import math
import types
from collections import deque
from collections.abc import Callable

import numpy as np
import torch

from ..arrays.torch import TorchArrays
from ..errors import ConfigError, SolverFailure
from .base import Framework, Interval, Rhs, Solver


class TorchFramework(Framework):
    """A framework over torch tensors.

    Args:
        arrays: torch's arrays.
        solver: Method, tolerances, limits.
        compile: Whether to compile the right-hand side, once for each field and shape.

    Raises:
        ConfigError: As a `Framework`; or `compile` is asked for with the adjoint gradient.
    """

    def __init__(self, arrays: TorchArrays, solver: Solver, compile: bool = False):
        super().__init__(arrays, solver)
        if compile and solver.gradient == "adjoint":
            # torch's compiled backward frees what an adjoint solve, which asks it again and again, would need.
            raise ConfigError("accelerator.compile: needs solver.gradient=direct; the adjoint solve is not compiled")
        self.compile = compile
        self._compiled: dict[int, tuple[Callable, Rhs]] = {}

    @classmethod
    def create(cls, solver, *, precision="float32", device="cpu", compile=False):
        return cls(TorchArrays(precision, device), solver, compile)

    def prepare(self, rhs, field):
        if not self.compile:
            return rhs
        if id(field) not in self._compiled:
            # The field is kept with it, so that no other gets its id. A field need not be hashable.
            self._compiled[id(field)] = (field, self.compiled(rhs))
        return self._compiled[id(field)][1]

    def compiled(self, rhs: Rhs) -> Rhs:
        """`rhs` by `torch.compile`: one graph for each shape, one more without gradient."""
        # torch keeps compiled code by code object, and 8 versions of it at most: each field gets its own.
        own = types.FunctionType(
            rhs.__code__.replace(), rhs.__globals__, rhs.__name__, rhs.__defaults__, rhs.__closure__
        )
        function = torch.compile(own, fullgraph=True, dynamic=False)

        def call(s, y, params, interval):
            if not y.requires_grad and differentiated(params, interval):
                y = y.detach().requires_grad_()  # as in all other calls: else the first state compiles once more
            try:
                return function(s.reshape(()), y, params, interval)
            except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(f"accelerator.compile: torch cannot compile the right-hand side: {reason}") from error

        return call


def differentiated(params: dict, interval: Interval) -> list[torch.Tensor]:
    """All tensors that a gradient is asked for: what an adjoint is not handed would get a silent zero."""
    tensors = [*params.values(), *(leaf for leaf in interval if isinstance(leaf, torch.Tensor))]
    return [tensor for tensor in tensors if tensor.requires_grad]


def independent(params: dict, interval: Interval) -> tuple[dict, Interval]:
    """Aliases of all that a gradient is asked for, none of which is made of another.

    An adjoint differentiates by each of these and adds up the results. Where the start of an interval is made of a
    parameter, torch would count what goes through the start twice: once for each.
    """

    def alias(leaf):
        return leaf.view_as(leaf) if isinstance(leaf, torch.Tensor) and leaf.requires_grad else leaf

    return {name: alias(value) for name, value in params.items()}, Interval(*(alias(leaf) for leaf in interval))


def merged(grid, ulp: float = 0.0) -> tuple[np.ndarray, np.ndarray | None]:
    """Report points of a solve that has one clock for the whole batch: all subjects' together, `[U]`.

    Args:
        grid: As `Framework.solve` takes it.
        ulp: What the points are rounded to a multiple of; 0 leaves them.

    Returns:
        The points, and which of them are each subject's own, `[K, B]`, or None where all subjects share them.
    """
    if isinstance(grid, np.ndarray):
        return ((grid / ulp).round() * ulp if ulp else grid), None
    points = grid.detach().cpu().numpy().astype(np.float64)
    points, index = np.unique((points / ulp).round() * ulp if ulp else points, return_inverse=True)
    return points, index.reshape(grid.shape)


def apart(states: torch.Tensor, index: np.ndarray | None) -> torch.Tensor:
    """Each subject's own of merged report points: `[U, B, D]` to `[K, B, D]`."""
    if index is None:
        return states
    return states[torch.as_tensor(index, device=states.device), torch.arange(states.shape[1], device=states.device)]


class Watch:
    """Measures, counts and limits one joint solve: the libraries mix subjects' errors, and fail by `assert` or never.

    Args:
        name: The framework's.
        interval: The interval being solved.
        limit: Most steps to try, in the whole solve or, where it is cut, in each segment.
        cuts: Own times at which an adjoint begins a new solve, increasing.
    """

    def __init__(self, name: str, interval: Interval, limit: int, cuts: np.ndarray | None = None):
        self._cuts, self._segment = cuts, -1
        self.name, self.interval, self.limit = name, interval, limit
        self.tried = self.accepted = 0
        self._squares: deque[torch.Tensor] = deque(maxlen=8)

    @torch.no_grad()
    def norm(self, error: torch.Tensor) -> torch.Tensor:
        """Root mean square over compartments, of the worst subject: `[B, D]`, or several of these stacked, to `[]`.

        The libraries take the mean over the batch as well, so that a subject's error is diluted by its neighbours:
        7.5e-6 alone becomes 7.9e-4 beside 4,095 idle ones. Without gradient, because that of sqrt(0) is not a number.
        """
        squares = error.square().mean(-1)
        self._squares.append(squares)
        return squares.amax().sqrt()

    @property
    def worst(self) -> int:
        """The subject whose error is the largest, or was the first that was no number."""
        if not self._squares:
            return 0
        # One subject that is no number makes the common step none, and so all subjects at the next norm.
        first = next((squares for squares in self._squares if not squares.isfinite().all()), self._squares[-1])
        return int(first.nan_to_num(nan=math.inf).argmax()) % len(self.interval.duration)

    def step(self, s: torch.Tensor, dt: torch.Tensor) -> None:
        """Called before each try at own time `s` with the step `dt`.

        Raises:
            SolverFailure: The step does not move the clock or is not finite, or it is one too many.
        """
        if (
            self._cuts is not None
            and (segment := int(np.searchsorted(self._cuts, abs(float(s.detach()))))) != self._segment
        ):
            self._segment, self.tried = segment, 0
        if self.tried >= self.limit:
            self.fail(f"solver.max_steps={self.limit} reached", s)
        # A field or state that is not finite ends here as well: its error estimate makes the next step size NaN.
        clock, step = float(s.detach()), float(dt.detach())
        if clock + step == clock or not math.isfinite(step):
            self.fail("the step size fell to nothing or the state is not finite", s)
        self.tried += 1

    def reached(self, states: torch.Tensor, times: torch.Tensor) -> None:
        """Called with what equal steps led to, since no error estimate refuses a step to what is no number.

        Args:
            states: Amounts at the report points, mg, `[K, B, D]`.
            times: Own times of these, `[K]` or each subject's `[K, B]`.

        Raises:
            SolverFailure: The last state of a subject is not finite.
        """
        if states[-1].isfinite().all():
            return
        self.norm(states[-1])  # tells `worst`
        last = max(int(states[:, self.worst].isfinite().all(-1).sum()) - 1, 0)
        self.fail("the state is not finite", times[last] if times.ndim == 1 else times[last, self.worst])

    def fail(self, reason: str, s: torch.Tensor) -> None:
        """Raise the failure at own time `s`, of the subject whose error was the largest."""
        subject, number = self.worst, int(self.interval.number)
        # TorchDyn runs its clock backward on negative times.
        t = float(self.interval.start[subject] + abs(float(s.detach())) * self.interval.duration[subject])
        raise SolverFailure(self.name, reason, subject=subject, interval=number, t=t, steps=self.tried)
