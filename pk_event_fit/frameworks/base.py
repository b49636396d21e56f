"""What a framework is: one solver library, asked to solve one interval for every subject at once."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays.base import Array, Arrays, Params
from ..errors import ConfigError, SolverFailure

METHODS = ("dopri5", "tsit5", "kvaerno5")
GRADIENTS = ("direct", "adjoint")


@dataclass(kw_only=True)
class Solver:
    """How an interval is solved.

    Attributes:
        method: `dopri5`; `tsit5` or, for stiff fields, the implicit `kvaerno5`, where the library has it.
        rtol: Relative tolerance, held by every subject whatever the batch.
        atol: Absolute tolerance, mg.
        max_steps: Steps that one solve may take, tried ones included: an interval's, or backward, in adjoint mode, one
            from report point to report point.
        gradient: `direct` through the solver's own steps, or `adjoint` by the library's adjoint equation.

    Raises:
        ConfigError: A value is out of range.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-7
    max_steps: int = 4096
    gradient: str = "direct"

    def __post_init__(self):
        for name, choices in (("method", METHODS), ("gradient", GRADIENTS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"solver.{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name, low, high in (("rtol", 0, 1), ("atol", 0, np.inf)):
            if not low < getattr(self, name) < high:
                raise ConfigError(f"solver.{name}={getattr(self, name)}: must be above {low} and below {high}")
        if not 1 <= self.max_steps <= 10_000_000:
            raise ConfigError(f"solver.max_steps={self.max_steps}: must be 1 to 10,000,000")


class Interval(NamedTuple):
    """One interval between dose times, for every subject of a batch (or a table of them, with a leading `[S]`).

    Attributes:
        number: Which interval this is, from 0, `[]`.
        start: Clock time at its start, h, `[B]`.
        duration: Its length, h, `[B]`; 0 marks padding.
        bolus: Amounts added at its start, mg, `[B, D]`.
        rate: Infusion rates within it, mg/h, `[B, D]`, or None where nobody is infused.
        covariates: Values that hold within it, `[B, C]`, or None.
    """

    number: Array
    start: Array
    duration: Array
    bolus: Array
    rate: Array = None
    covariates: Array = None


class Report(NamedTuple):
    """What a solver says of one interval. None stands for what the library does not count.

    Attributes:
        accepted: Steps kept, `[B]`, or `[1]` where the library steps the whole batch as one.
        rejected: Steps tried again, likewise.
        evaluations: Calls of the field, likewise.
        failed: Whether the end was not reached, `[B]`, or None where a failure raises at once.
        reached: Own time last known to be reached, in [0, 1], `[B]`, or None likewise.
    """

    accepted: Array = None
    rejected: Array = None
    evaluations: Array = None
    failed: Array = None
    reached: Array = None


Rhs = Callable[[Array, Array, Params, Interval], Array]


def tolerance_floor(eps: float) -> float:
    """The least relative tolerance that a precision holds: below 20 rounding errors, steps chase noise."""
    return 20 * eps


class Framework(abc.ABC):
    """One solver library behind one method.

    Attributes:
        takes_jumps: Whether the solver can be told of discontinuities.
        jumps: Own times of those that it was told of, see `with_jumps`.

    Args:
        arrays: The library's arrays.
        solver: Method, tolerances, limits.

    Raises:
        ConfigError: The library does not have the method, or the precision does not hold the tolerance.
    """

    name: str
    methods: tuple[str, ...]
    takes_jumps = False
    jumps: tuple[float, ...] = ()

    def __init__(self, arrays: Arrays, solver: Solver):
        if solver.method not in self.methods:
            raise ConfigError(
                f"solver.method={solver.method}: {self.name} does not have it; it has {', '.join(self.methods)}"
            )
        if solver.rtol < tolerance_floor(arrays.eps):
            wide = np.finfo(np.float64).eps
            raise ConfigError(
                f"solver.rtol={solver.rtol}: {arrays.dtype} holds {tolerance_floor(arrays.eps):.1e} at best; "
                + ("set accelerator.precision=float64" if solver.rtol >= tolerance_floor(wide) else "no precision does")
            )
        self.arrays = arrays
        self.solver = solver

    @classmethod
    @abc.abstractmethod
    def create(
        cls, solver: Solver, *, precision: str = "float32", device: str = "cpu", compile: bool = False
    ) -> Framework:
        """The framework over its own array library.

        Args:
            solver: Method, tolerances, limits.
            precision: `float32` or `float64`.
            device: `cpu` or `gpu`.
            compile: Whether a library that runs as it is written compiles what it can.

        Raises:
            ConfigError: The library cannot compile, or is always compiled.
        """

    def prepare(self, rhs: Rhs, field: Callable) -> Rhs:
        """What `solve` is handed for `rhs`: where the framework compiles, one and the same for each call with `field`.

        Args:
            rhs: The right-hand side, made anew for each call.
            field: The vector field that decides what it computes.
        """
        return rhs

    @abc.abstractmethod
    def solve(self, rhs: Rhs, y0: Array, params: Params, interval: Interval, grid: np.ndarray) -> tuple[Array, Report]:
        """Solve one interval in its own time, 0 to 1, for every subject.

        Args:
            rhs: `rhs(s, y, params, interval) -> dy/ds`; shapes `[B], [B, D]`, or `[], [D]` for one subject.
            y0: Amounts just after the dose, mg, `[B, D]`.
            params: Whatever the field is made of; adjoint methods must be handed it.
            interval: The interval, likewise handed on where it is differentiated.
            grid: Own times to report at, increasing, first 0, last 1, `[K]`.

        Returns:
            Amounts in mg, `[K, B, D]`, and what the solver says of it.

        Raises:
            SolverFailure: The end was not reached (or `Report.failed` says so, in libraries that cannot raise).
        """

    def with_jumps(self, own_times: Sequence[float]) -> Framework:
        """This framework, told where the field jumps: its solver steps exactly there, and starts anew behind.

        Own times are those of every subject. A field that takes the clock time should jump on the same bits: where an
        interval starts at 0 and lasts a power of two of hours, an own time times its length is exact.

        Args:
            own_times: Own times of the jumps, in (0, 1).

        Raises:
            ConfigError: The solver cannot be told, or a time is outside.
        """
        if not self.takes_jumps:
            raise ConfigError(f"{self.name}: its solver has no way to be told of a discontinuity")
        times = sorted({float(time) for time in own_times})
        if not all(0 < time < 1 for time in times):
            raise ConfigError(f"own_times={times}: jumps must lie inside the interval, above 0 and below 1")
        told = copy.copy(self)
        told.jumps = tuple(times)
        return told

    def guard(self, function: Callable, *arguments: Any) -> Any:
        """Call a compiled function; what the library raises of a solve in it comes out as `SolverFailure`."""
        return function(*arguments)

    def check(self, report: Report, intervals: Interval) -> None:
        """Raise the first failure that a stacked report holds.

        Args:
            report: Reports of all intervals, leaves `[S, ...]`.
            intervals: The table that was solved.

        Raises:
            SolverFailure: Some subject did not reach the end of some interval.
        """
        if report.failed is None or not (failed := self.arrays.to_numpy(report.failed)).any():
            return
        interval, subject = (int(k[0]) for k in np.nonzero(failed))
        start, duration, reached, accepted, rejected = (
            float(self.arrays.to_numpy(leaf)[interval, subject])
            for leaf in (intervals.start, intervals.duration, report.reached, report.accepted, report.rejected)
        )
        steps = int(accepted + rejected)
        reason = (
            f"solver.max_steps={self.solver.max_steps} reached"
            if steps >= self.solver.max_steps
            else "the step size fell to nothing or the state is not finite"
        )
        t = start + reached * duration
        raise SolverFailure(self.name, reason, subject=subject, interval=interval, t=t, steps=steps)
