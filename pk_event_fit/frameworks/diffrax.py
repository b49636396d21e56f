"""JAX and Diffrax: one adaptive solve per subject, batched by `vmap`."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp

from ..arrays.jax import JaxArrays
from ..errors import ConfigError, SolverFailure
from .base import Framework, Report

METHODS = {"dopri5": diffrax.Dopri5, "tsit5": diffrax.Tsit5, "kvaerno5": diffrax.Kvaerno5}


class Diffrax(Framework):
    """Diffrax's `diffeqsolve`. It counts steps for each subject, and no evaluations."""

    name = "diffrax"
    methods = tuple(METHODS)
    takes_jumps = True

    @classmethod
    def create(cls, solver, *, precision="float32", device="cpu", compile=False):
        if compile:
            raise ConfigError("accelerator.compile: diffrax is always compiled")
        return cls(JaxArrays(precision, device), solver)

    def _controller(self, times, **settings):
        clipped = {}
        if self.solver.method == "kvaerno5":
            # Between steps it interpolates by a cubic, 60 tolerances off at rtol 1e-9: it steps onto report points.
            clipped["step_ts"] = times
        if self.jumps:
            clipped["jump_ts"] = jnp.asarray(self.jumps, times.dtype)
        tolerance = diffrax.PIDController(self.solver.rtol, self.solver.atol, **settings)
        return diffrax.ClipStepSizeController(tolerance, **clipped) if clipped else tolerance

    def _adjoint(self, times):
        if self.solver.gradient == "direct":
            return diffrax.RecursiveCheckpointAdjoint()
        # The seminorm leaves the gradient's quadratures out of the error: thousands of weights would else dilute
        # the error of the state in the mean.
        tolerance = self._controller(times, norm=diffrax.adjoint_rms_seminorm)
        # Nobody can see the result of the solve backward: it has to raise, see `guard`.
        return diffrax.BacksolveAdjoint(stepsize_controller=tolerance, max_steps=self.solver.max_steps, throw=True)

    def guard(self, function, *arguments):
        try:
            return self.arrays.wait(function(*arguments))
        except jax.errors.JaxRuntimeError as error:
            if self.solver.gradient != "adjoint" or "RESOURCE_EXHAUSTED" in str(error):
                raise  # memory, say, and no solve's failure
            reason = "the adjoint solve did not end: " + " ".join(str(error).split())[:200]
            raise SolverFailure(self.name, reason) from error

    def solve(self, rhs, y0, params, interval, grid):
        times = jnp.asarray(grid, y0.dtype)
        # After a failure the state is not finite. Such a subject stands still instead of starting its next interval.
        healthy = jnp.isfinite(y0).all(-1)
        y0 = jnp.where(healthy[:, None], y0, 0)
        interval = interval._replace(duration=jnp.where(healthy, interval.duration, 0))
        # The number is shared by all subjects: nothing to map over.
        number, interval = interval.number, interval._replace(number=None)

        def one(y0, interval):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(lambda s, y, args: rhs(s, y, args[0], args[1]._replace(number=number))),
                METHODS[self.solver.method](),
                t0=times[0],
                t1=times[-1],
                dt0=None,
                y0=y0,
                args=(params, interval),
                saveat=diffrax.SaveAt(ts=times),
                stepsize_controller=self._controller(times),
                adjoint=self._adjoint(times),
                max_steps=self.solver.max_steps,
                throw=False,
            )

        solution = jax.vmap(one)(y0, interval)
        solved = solution.result == diffrax.RESULTS.successful
        states = jnp.where((solved & healthy)[:, None, None], solution.ys, jnp.nan)
        report = Report(
            accepted=solution.stats["num_accepted_steps"],
            rejected=solution.stats["num_rejected_steps"],
            failed=~(solved & healthy),
            reached=jnp.where(jnp.isfinite(solution.ts), solution.ts, 0).max(-1),
        )
        return jnp.moveaxis(states, 0, 1), report


FRAMEWORK = Diffrax
