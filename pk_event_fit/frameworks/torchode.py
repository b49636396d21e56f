"""torchode: every subject has its own step size and clock."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchode import AutoDiffAdjoint, InitialValueProblem, IntegralController, JointBacksolveAdjoint, ODETerm, Status
from torchode.single_step_methods import Dopri5, Tsit5

from ..errors import SolverFailure
from ._torch import TorchFramework, Watch, differentiated
from .base import Report

METHODS = {"dopri5": Dopri5, "tsit5": Tsit5}


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


class Torchode(TorchFramework):
    """torchode's `AutoDiffAdjoint` and `JointBacksolveAdjoint`. It counts steps for each subject.

    The joint adjoint solves the batch as one ODE: its steps are counted, and its tolerance held, for the worst subject.
    """

    name = "torchode"
    methods = tuple(METHODS)

    def solve(self, rhs, y0, params, interval, grid):
        term = ODETerm(_Module(rhs, params, interval))
        times = torch.as_tensor(grid, dtype=y0.dtype, device=y0.device).expand(len(y0), -1)
        problem = InitialValueProblem(y0, t_eval=times)
        if self.solver.gradient == "direct":
            solution = self._loop(term, interval).solve(problem, term)
        else:
            solution = self._joint(term, interval, *y0.shape).solve(problem, term)
        stats = solution.stats
        return solution.ys.transpose(0, 1), Report(
            accepted=stats["n_accepted"],
            rejected=stats["n_steps"] - stats["n_accepted"],
            evaluations=stats["n_f_evals"],
        )

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
        row = int((solution.status != 0).nonzero()[0, 0])
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
