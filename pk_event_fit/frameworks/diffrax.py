"""JAX and Diffrax: one solve per subject, batched by `vmap`."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp

from ..arrays.jax import JaxArrays
from ..errors import ConfigError, SolverFailure
from .base import IMPLICIT, Framework, Report

METHODS = {"dopri5": diffrax.Dopri5, "tsit5": diffrax.Tsit5, "kvaerno5": diffrax.Kvaerno5}
# Left out are those that need a field in two parts (SemiImplicitEuler, Sil3, KenCarp). The errors of LeapfrogMidpoint
# and ReversibleHeun contain a part that grows as fast as a compartment empties: they need very short steps.
FIXED = METHODS | {
    "euler": diffrax.Euler,
    "implicit_euler": diffrax.ImplicitEuler,
    "heun": diffrax.Heun,
    "midpoint": diffrax.Midpoint,
    "ralston": diffrax.Ralston,
    "leapfrog_midpoint": diffrax.LeapfrogMidpoint,
    "reversible_heun": diffrax.ReversibleHeun,
    "bosh3": diffrax.Bosh3,
    "kvaerno3": diffrax.Kvaerno3,
    "kvaerno4": diffrax.Kvaerno4,
    "dopri8": diffrax.Dopri8,
}


class Diffrax(Framework):
    """Diffrax's `diffeqsolve`. It counts steps for each subject, and no evaluations.

    Report points between the ends of equal steps are interpolated; those of `kvaerno5` by a cubic, of order 4.
    """

    name = "diffrax"
    methods = tuple(METHODS)
    fixed = tuple(FIXED)
    takes_jumps = True

    @classmethod
    def create(cls, solver, *, precision="float32", device="cpu", compile=False):
        if compile:
            raise ConfigError("accelerator.compile: diffrax is always compiled")
        return cls(JaxArrays(precision, device), solver)

    def _method(self):
        method = FIXED[self.solver.method]
        if self.solver.steps is None or self.solver.method not in IMPLICIT:
            return method()
        # Equal steps have no controller whose tolerances its equations could take.
        return method(root_finder=diffrax.VeryChord(rtol=self.solver.rtol, atol=self.solver.atol))

    def _controller(self, times, **settings):
        if self.solver.steps is not None:
            return diffrax.StepTo(jnp.asarray(self.solver.ticks, times.dtype))
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

    def settled(self, states, reached, subjects):
        # A compiled program cannot raise: what is no number fails the solve that it enters.
        return jnp.where(reached[:, None], states, jnp.nan)

    def solve(self, rhs, y0, params, interval, grid):
        times = jnp.asarray(grid, y0.dtype)
        own = times.ndim == 2  # each subject's own
        # After a failure the state is not finite. Such a subject stands still instead of starting its next interval.
        healthy = jnp.isfinite(y0).all(-1)
        y0 = jnp.where(healthy[:, None], y0, 0)
        interval = interval._replace(duration=jnp.where(healthy, interval.duration, 0))
        # The number is shared by all subjects: nothing to map over.
        number, interval = interval.number, interval._replace(number=None)

        def one(y0, interval, times):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(lambda s, y, args: rhs(s, y, args[0], args[1]._replace(number=number))),
                self._method(),
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

        solution = jax.vmap(one, in_axes=(0, 0, 1 if own else None))(y0, interval, times)
        return self._judged(solution, healthy)

    def _judged(self, solution, healthy):
        """States and report of each subject's solution; what failed is no number."""
        known = jnp.isfinite(solution.ts)
        solved = solution.result == diffrax.RESULTS.successful
        if self.solver.steps is not None:
            # No error estimate refuses a step to what is no number: such a solve comes to its end.
            known = jnp.isfinite(solution.ys).all(-1)
            solved = solved & known[:, -1]
        states = jnp.where((solved & healthy)[:, None, None], solution.ys, jnp.nan)
        report = Report(
            accepted=solution.stats["num_accepted_steps"],
            rejected=solution.stats["num_rejected_steps"],
            failed=~(solved & healthy),
            reached=jnp.where(known, solution.ts, 0).max(-1),
        )
        return jnp.moveaxis(states, 0, 1), report


FRAMEWORK = Diffrax
