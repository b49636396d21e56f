"""torchode: every subject has its own step size and clock."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035  TorchScript resolves these names

import torch
from torchode import (
    AutoDiffAdjoint,
    FixedStepController,
    InitialValueProblem,
    IntegralController,
    JointBacksolveAdjoint,
    ODETerm,
    Status,
)
from torchode.single_step_methods import Dopri5, Euler, Heun, StepResult, Tsit5
from torchode.step_size_controllers import IntegralState

from ..errors import ConfigError, SolverFailure
from ._torch import TorchFramework, Watch, apart, differentiated, independent, merged
from .base import Interval, Report

METHODS = {"dopri5": Dopri5, "tsit5": Tsit5}
FIXED = {"dopri5": Dopri5, "tsit5": Tsit5, "euler": Euler, "heun": Heun}


class _Checked(AutoDiffAdjoint):
    """torchode's loop, which tells failures by a status that nobody has to read, made to raise them."""

    def __init__(self, method, controller, *, fail: Callable, **settings):
        super().__init__(method, controller, **settings)
        self.fail = fail

    def solve(self, problem, term=None, dt0=None, args=None):
        solution = super().solve(problem, term, dt0=dt0, args=args)
        # One failed subject ends the solve for all: the values of the others are plausible and wrong.
        if bool((solution.status != 0).any()):
            self.fail(solution)
        return solution


class _Module(torch.nn.Module):
    """The right-hand side, with all that is differentiated registered where torchode's adjoint looks for it."""

    def __init__(self, rhs, params, interval):
        super().__init__()
        self.function = lambda s, y: rhs(s, y, params, interval)
        for k, tensor in enumerate(differentiated(params, interval)):
            # `register_parameter` takes leaves only; a dose or its time may be computed from other things.
            self._parameters[f"differentiated_{k}"] = tensor  # type: ignore[assignment]

    def forward(self, s, y):
        return self.function(s, y)


class _Limited(torch.nn.Module):
    """A step size controller with a limit of steps: the loop's own does not compile (`status` may be an int there)."""

    def __init__(self, controller: IntegralController, limit: int):
        super().__init__()
        self.controller, self.limit, self.tried = controller, limit, 0

    @torch.jit.export
    def init(
        self,
        term: Optional[ODETerm],  # noqa: UP045
        problem: InitialValueProblem,
        method_order: int,
        dt0: Optional[torch.Tensor],  # noqa: UP045
        *,
        stats: Dict[str, Any],  # noqa: UP006
        args: Any,
    ):
        self.tried = 0
        return self.controller.init(term, problem, method_order, dt0, stats=stats, args=args)

    @torch.jit.export
    def adapt_step_size(
        self,
        t0: torch.Tensor,
        dt: torch.Tensor,
        y0: torch.Tensor,
        step_result: StepResult,
        state: IntegralState,
        stats: Dict[str, Any],  # noqa: UP006
    ) -> Tuple[torch.Tensor, torch.Tensor, IntegralState, Optional[torch.Tensor]]:  # noqa: UP006, UP045
        self.tried += 1
        accept, dt_next, following, status = self.controller.adapt_step_size(t0, dt, y0, step_result, state, stats)
        if self.tried >= self.limit and status is not None:
            status = torch.where(status == 0, 3, status)  # Status.REACHED_MAX_STEPS
        return accept, dt_next, following, status

    @torch.jit.export
    def merge_states(self, running: torch.Tensor, current: IntegralState, previous: IntegralState) -> IntegralState:
        return self.controller.merge_states(running, current, previous)


class _Traced(torch.nn.Module):
    """A traced right-hand side, behind torchode's argument of any type."""

    def __init__(self, traced):
        super().__init__()
        self.traced = traced

    def forward(self, s: torch.Tensor, y: torch.Tensor, args: Any) -> torch.Tensor:
        if torch.jit.isinstance(args, List[torch.Tensor]):  # noqa: UP006  how TorchScript learns the type
            return self.traced(s, y, args)
        raise TypeError("the right-hand side takes a list of tensors")


class _Unpacked(torch.nn.Module):
    """The right-hand side as a function of one list of tensors: the parameters, and what the interval has."""

    def __init__(self, rhs, names: list[str], leaves: list[str]):
        super().__init__()
        self.rhs, self.names, self.leaves = rhs, names, leaves

    def forward(self, s, y, tensors):
        params = dict(zip(self.names, tensors, strict=False))
        rest = dict(zip(self.leaves, tensors[len(self.names) :], strict=True))
        return self.rhs(s, y, params, Interval(**{name: rest.get(name) for name in Interval._fields}))


class _Compiled:
    """Solves with one right-hand side by TorchScript; what was compiled is kept for each shape.

    Called with the arguments of `Framework.solve`, it returns torchode's `Solution`.
    """

    def __init__(self, rhs, solver):
        self.rhs, self.solver = rhs, solver
        self.loops: dict[tuple, Any] = {}

    def __call__(self, problem, params, interval):
        given = {name: leaf for name, leaf in interval._asdict().items() if leaf is not None}
        tensors = [*params.values(), *given.values()]
        key = (tuple(params), tuple(given), problem.y0.shape, tuple(tensor.shape for tensor in tensors))
        if key not in self.loops:
            self.loops[key] = self._script(problem.y0, list(params), list(given), tensors)
        return self.loops[key].solve(problem, args=tensors)

    def _script(self, y0, names, leaves, tensors):
        example = (y0.new_zeros(len(y0)), y0.detach(), [tensor.detach() for tensor in tensors])
        with warnings.catch_warnings():
            # torch calls TorchScript deprecated; it is what torchode can be compiled with.
            warnings.simplefilter("ignore")
            try:
                traced = torch.jit.trace(_Unpacked(self.rhs, names, leaves), example, check_trace=False)
                term = ODETerm(_Traced(traced), with_args=True)
                controller = IntegralController(self.solver.atol, self.solver.rtol, term=term)
                # One step more, as in `_loop`.
                limited = _Limited(controller, self.solver.max_steps + 1)
                method = METHODS[self.solver.method](term=term)
                return torch.jit.script(AutoDiffAdjoint(method, limited, backprop_through_step_size_control=False))
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:200]
                raise ConfigError(f"accelerator.compile: torch cannot compile the right-hand side: {reason}") from error


class Torchode(TorchFramework):
    """torchode's `AutoDiffAdjoint` and `JointBacksolveAdjoint`. It counts steps for each subject.

    The joint adjoint solves the batch as one ODE: its steps are counted, and its tolerance held, for the worst subject.
    """

    name = "torchode"
    methods = tuple(METHODS)
    fixed = tuple(FIXED)

    def __init__(self, arrays, solver, compile=False):
        super().__init__(arrays, solver, compile)
        if compile and solver.steps is not None:
            raise ConfigError("accelerator.compile: torchode compiles adaptive solves alone; leave out solver.steps")

    def compiled(self, rhs):
        return _Compiled(rhs, self.solver)

    def solve(self, rhs, y0, params, interval, grid):
        index = None
        if self.solver.gradient == "adjoint":
            params, interval = independent(params, interval)
            grid, index = merged(grid)  # its joint adjoint has one clock
        times = torch.as_tensor(grid, dtype=y0.dtype, device=y0.device)
        times = times.T if times.ndim == 2 else times.expand(len(y0), -1)
        problem = InitialValueProblem(y0, t_eval=times)
        term = ODETerm(_Module(rhs, params, interval))
        if self.compile:
            solution = rhs(problem, params, interval)
            if bool((solution.status != 0).any()):
                self._fail(solution, interval, None)
        elif self.solver.steps is not None:
            solution = self._equal(problem, term, interval)
        elif self.solver.gradient == "direct":
            solution = self._loop(term, interval).solve(problem, term)
        else:
            solution = self._joint(term, interval, *y0.shape).solve(problem, term)
        stats = solution.stats
        return apart(solution.ys.transpose(0, 1), index), Report(
            accepted=stats["n_accepted"],
            rejected=stats["n_steps"] - stats["n_accepted"],
            evaluations=stats["n_f_evals"],
        )

    def _equal(self, problem, term, interval):
        """Equal steps, whose lengths torchode adds up."""
        count = len(self.solver.ticks) - 1
        # By as much too long that rounding cannot let their sum fall short of the end, which would be one step more.
        # What would go beyond the end, torchode cuts off.
        length = problem.y0.new_full((len(problem.y0),), (1 + count * self.arrays.eps) / count)
        method = FIXED[self.solver.method](term=term)
        loop = AutoDiffAdjoint(method, FixedStepController(), backprop_through_step_size_control=False)
        solution = loop.solve(problem, term, dt0=length)
        watch = Watch(self.name, interval, self.solver.max_steps)
        watch.tried = count
        watch.reached(solution.ys.transpose(0, 1), solution.ts.T)
        return solution

    def _loop(self, term, interval, watch=None, norm=None):
        settings = {} if norm is None else {"norm": norm}
        return _Checked(
            METHODS[self.solver.method](term=term),
            IntegralController(self.solver.atol, self.solver.rtol, term=term, **settings),
            fail=lambda solution: self._fail(solution, interval, watch),
            max_steps=self.solver.max_steps + 1,  # torchode fails a subject that ends with the last step of its limit
            # True, the default, makes gradients NaN as soon as one subject is padded.
            backprop_through_step_size_control=False,
        )

    def _joint(self, term, interval, batch, compartments):
        """The joint adjoint, whose two loops have no step limit of their own and a mean over the batch for a norm."""
        watch = Watch(self.name, interval, self.solver.max_steps)

        def norm(flat):  # [1, N]: the joint state; on the way back clock, state, adjoint, and then the weights
            size = batch * compartments
            lead = flat[0] if flat.shape[1] == size else flat[0, 1 : 1 + 2 * size]
            return watch.norm(lead.reshape(-1, compartments)).reshape(1)

        loops = [self._loop(None, interval, watch, norm) for _ in range(2)]
        adjoint = JointBacksolveAdjoint(term, loops[0].step_method, loops[0].step_size_controller)
        adjoint.forward_loop, adjoint.backward_loop = loops
        return adjoint

    def _fail(self, solution, interval, watch):
        failed, steps = solution.status != 0, solution.stats["n_steps"]
        # A compiled loop gives the status of its last step to all; whose steps are most did not come to its end.
        row = int(torch.where(failed, steps, -1).argmax()) if self.compile else int(failed.nonzero()[0, 0])
        subject = row if watch is None else watch.worst
        # Report points that were filled: the last of them is the last own time known to be reached.
        filled = int(solution.stats["n_initialized"][row])
        s = float(solution.ts[row, max(filled - 1, 0)])
        raise SolverFailure(
            self.name,
            f"the solve stopped: {Status(int(solution.status[row])).name.lower().replace('_', ' ')}",
            subject=subject,
            interval=int(interval.number),
            t=float(interval.start[subject]) + s * float(interval.duration[subject]),
            steps=min(int(solution.stats["n_steps"][row]), self.solver.max_steps),
        )


FRAMEWORK = Torchode
