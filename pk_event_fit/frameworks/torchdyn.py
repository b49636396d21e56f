"""TorchDyn: the batch is one ODE with one step size."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torchdyn.numerics.interpolators import str_to_interp
from torchdyn.numerics.odeint import _adaptive_odeint, _fixed_odeint
from torchdyn.numerics.sensitivity import _gather_odefunc_adjoint
from torchdyn.numerics.solvers.ode import DormandPrince45, Euler, Midpoint, RungeKutta4, Tsitouras45
from torchdyn.numerics.utils import init_step

from ._torch import TorchFramework, Watch, apart, differentiated, merged
from .base import Interval, Report

METHODS = {"dopri5": DormandPrince45, "tsit5": Tsitouras45}
# Its loop of equal steps cannot take those above, which return an error as well. Left out are its implicit Euler, whose
# result no gradient passes, and its leapfrog, which needs a field of state and velocity.
FIXED = {"euler": Euler, "midpoint": Midpoint, "rk4": RungeKutta4}


def watched(method: type, watch: Watch, rtol: float, atol: float, shape: tuple[int, int], states: int):
    """TorchDyn's own method, with its error estimate told in full, its steps counted and its failures raised.

    TorchDyn has no hook for the norm: it takes the root mean square of error / (atol + rtol |y|) over everything. So
    the method returns the estimate that has the worst subject's norm everywhere, whatever mean is taken of it.

    Args:
        method: Class of the method.
        watch: Counts and limits.
        rtol: Relative tolerance.
        atol: Absolute tolerance, mg.
        shape: `(B, D)` of one state.
        states: How many such states lead the vector that is solved: 1, or state and adjoint.
    """

    def rows(vector):
        return vector.detach().reshape(-1)[: states * shape[0] * shape[1]].reshape(-1, shape[1])

    class Watched(method):
        def step(self, f, x, t, dt, k1=None, args=None):
            if watch.tried == 0:
                watch.norm(rows(k1))  # so that the watch knows whose derivative is no number from the start
            watch.step(t, dt)
            # Its step size is float32 from the second step on, and would round the method's coefficients with it: at
            # rtol 1e-9 that makes the error 30 times larger.
            derivative, x_new, error, stages = super().step(f, x, t, dt.to(x.dtype), k1=k1, args=args)
            with torch.no_grad():
                scale = atol + rtol * torch.maximum(x.abs(), x_new.abs())
                worst = watch.norm(rows(error / scale))
                watch.accepted += int(worst <= 1)
            return derivative, x_new, scale * worst, stages

    return Watched


class TorchDyn(TorchFramework):
    """TorchDyn's `odeint` and its adjoint sensitivity."""

    name = "torchdyn"
    methods = tuple(METHODS)
    fixed = tuple(FIXED)

    @property
    def _dense(self) -> str | None:
        # Without interpolation TorchDyn steps onto every report point; its Tsit5 comes without.
        return "4th" if self.solver.method == "dopri5" else None

    def solve(self, rhs, y0, params, interval, grid):
        if self.solver.steps is not None:
            return self._equal(rhs, y0, params, interval, grid)
        solver, dtype, calls = self.solver, y0.dtype, [0]
        watch = Watch(self.name, interval, solver.max_steps)
        method = watched(METHODS[solver.method], watch, solver.rtol, solver.atol, y0.shape, states=1)(dtype)
        # TorchDyn ends a solve when its clock equals a report point. On multiples of half an epsilon the last step's
        # `T - t` is exact; elsewhere rounding can jump over the point, and the adjoint then skips it in silence.
        grid, index = merged(grid, torch.finfo(dtype).eps / 2)
        times = torch.as_tensor(grid, dtype=dtype, device=y0.device)

        def field(s, y):
            calls[0] += 1
            return rhs(s, y, params, interval)

        if solver.gradient == "direct":
            reached, states = self._direct(field, y0, times, method)
        else:
            reached, states = self._adjoint(rhs, y0, params, interval, times, method, calls)
        if len(reached) != len(times):
            watch.fail(f"{len(reached)} of {len(times)} report points came back", reached[-1])
        counts = (watch.accepted, watch.tried - watch.accepted, calls[0])
        return apart(states, index), Report(*(torch.tensor([count]) for count in counts))

    def _equal(self, rhs, y0, params, interval, grid):
        """Equal steps, and one more for each report point between their ends, which TorchDyn has to step onto."""
        watch, calls = Watch(self.name, interval, self.solver.max_steps), [0]
        method = FIXED[self.solver.method](y0.dtype)
        if method.tableau is not None:
            # TorchDyn takes stages 2 to 4 at the nodes of stages 1 to 3: of order 1, where the field knows the time.
            nodes, *rest = method.tableau
            method.tableau = (nodes[1:], *rest)
        # A report point that is the end of a step but for rounding is that end.
        ulp = 4 * torch.finfo(y0.dtype).eps
        grid, index = merged(grid, ulp)
        points = np.union1d(grid, (self.solver.ticks / ulp).round() * ulp)
        y0, times = method.sync_device_dtype(y0, torch.as_tensor(points, dtype=y0.dtype, device=y0.device))

        def field(s, y):
            calls[0] += 1
            return rhs(s, y, params, interval)

        y, states, stops = y0, [], np.searchsorted(points, grid)
        for first, last in itertools.pairwise([0, *stops]):
            span = times[first : last + 1]
            if last > first:  # not at the start
                # Told to keep every point, it fails where two are within a relative 1e-5. The last kept is the end.
                y = _fixed_odeint(field, y, span, method, save_at=span[-1:])[1][-1]
            states.append(y)
        watch.tried = len(points) - 1
        found = torch.stack(states)
        watch.reached(found, times[torch.as_tensor(stops, device=times.device)])
        counts = (watch.tried, 0, calls[0])
        return apart(found, index), Report(*(torch.tensor([count]) for count in counts))

    def _direct(self, field, y0, times, method):
        """TorchDyn's `odeint`, whose first step is a number here.

        There it is part of the gradient's graph, and with it the clock and every report point's interpolation.
        """
        solver = self.solver
        y0, times = method.sync_device_dtype(y0, times)
        derivative = field(times[0], y0)
        dt = init_step(field, derivative, y0, times[0], method.order, solver.atol, solver.rtol).detach()
        dense = None if self._dense is None else str_to_interp(self._dense, y0.dtype)
        if dense is not None:
            dense.sync_device_dtype(y0, times)
        return _adaptive_odeint(field, derivative, y0, dt, times, method, solver.atol, solver.rtol, interpolator=dense)

    def _adjoint(self, rhs, y0, params, interval, times, method, calls):
        solver = self.solver
        watch = Watch(self.name, interval, solver.max_steps, cuts=times.cpu().numpy())
        backward = watched(METHODS[solver.method], watch, solver.rtol, solver.atol, y0.shape, states=2)(y0.dtype)
        module = _Module(rhs, params, interval, calls)
        # The class is made as `torchdyn.core.ODEProblem` makes it; importing that would import pytorch_lightning.
        function = _gather_odefunc_adjoint(
            module, module.flat, method, solver.atol, solver.rtol, self._dense, backward, solver.atol, solver.rtol,
            None, "standard",
        )  # fmt: skip
        return function.apply(module.flat, y0, times)


class _Module:
    """The right-hand side as a function of one flat vector of all that is differentiated, as TorchDyn's adjoint asks.

    One vector, because TorchDyn gives a tensor that the field does not touch a gradient of one zero, of whatever shape.
    """

    def __init__(self, rhs, params, interval, calls):
        self.rhs, self.params, self.interval, self.calls = rhs, params, interval, calls
        tensors = differentiated(params, interval)
        # The leading zero is there for the case that only the initial state is differentiated.
        lead = interval.duration.new_zeros(1).requires_grad_()
        self.flat = torch.cat([lead, *(tensor.reshape(-1) for tensor in tensors)])

    def parameters(self):
        return [self.flat]

    def __call__(self, s, y):
        self.calls[0] += 1
        rest = self.flat[1:]

        def take(leaf):
            nonlocal rest
            if not isinstance(leaf, torch.Tensor) or not leaf.requires_grad:
                return leaf
            part, rest = rest[: leaf.numel()].reshape(leaf.shape), rest[leaf.numel() :]
            return part

        params = {name: take(value) for name, value in self.params.items()}
        return self.rhs(s, y, params, Interval(*(take(leaf) for leaf in self.interval)))


FRAMEWORK = TorchDyn
