"""The only event loop: jump, solve, hand over."""

from __future__ import annotations

import functools

import numpy as np

from .errors import ScheduleError, SolverFailure

ENDS = np.array([0.0, 1.0])
CYCLES = 100  # of a steady state, tried at most


def predict(framework, field, params, initial, intervals, grid=(0.0, 1.0), steady=None):
    r"""Amounts along every interval; the first of each is just after its dose, the last just before the next.

    Each interval is solved in its own time, $s = (t - t_k) / \Delta_k$,

    $$\frac{dy}{ds} = \Delta_k \left( f_\theta(t_k + s \Delta_k, y) + r_k \right), \quad y(0) = c_k y_k^- + b_k,$$

    so subjects with different clocks share one solve and padding ($\Delta_k = 0$) stands still.

    Args:
        framework: A `Framework`.
        field: `field(xp, params, t, y, covariates) -> dy/dt`, mg/h; one with `autonomous = True` gets None for t.
        params: What the field is made of, by name.
        initial: Amounts before the first record, mg, `[B, D]`.
        intervals: Doses and clocks, an `Interval` with leaves `[S, B, ...]`, in the framework's arrays.
        grid: Fractions of an interval to report at, increasing, in [0, 1], ending at 1, `[K]`; where the table has
            `points`, these are reported.
        steady: Steady states that enter the table, a `Steady` in the framework's arrays, or None.

    Returns:
        Amounts in mg, `[S, K, B, D]`, and the solver's `Report` with leaves `[S, ...]`.

    Raises:
        ScheduleError: The grid is not as said above.
        SolverFailure: A solve did not end. Compiled frameworks tell by `Report.failed`; see `Framework.check`.
    """
    grid, skip = _grid(grid)
    xp = framework.arrays.xp
    autonomous = getattr(field, "autonomous", False)

    def rhs(s, y, params, interval):
        # In eager libraries each operation here costs as much as a layer of the network: idle ones are left out.
        t = None if autonomous else interval.start + s * interval.duration
        derivative = field(xp, params, t, y, interval.covariates)
        if interval.rate is not None:
            derivative = derivative + interval.rate
        return interval.duration[..., None] * derivative

    prepared = framework.prepare(rhs, field)
    if steady is not None:
        found = steady_states(framework, prepared, params, steady, autonomous)
        # Chosen, not multiplied: one that is no number would else fail all intervals of its subject.
        entering = xp.where(steady.place[..., None] > 0, found[:, None], xp.zeros_like(found)[:, None]).sum(0)
        intervals = intervals._replace(bolus=intervals.bolus + entering)

    own = intervals.points is not None
    together = framework.solve_table or functools.partial(in_turn, framework)
    states, report = together(prepared, params, initial, intervals, grid)
    if intervals.drift is not None:
        # What the clock of a report point does to the state there: the field's own direction.
        states = states + intervals.drift[..., None] * rhs(intervals.points, states, params, _wide(xp, intervals))
    return states if own else states[:, skip:], report


def in_turn(framework, rhs, params, initial, intervals, grid):
    """Solve one interval after the other, all subjects together; arguments and result as in `Framework.solve_table`."""

    def advance(y, interval):
        inner = interval._replace(bolus=None, keep=None, points=None, drift=None)
        kept = y if interval.keep is None else interval.keep[..., None] * y
        points = grid if interval.points is None else interval.points
        states, report = framework.solve(rhs, kept + interval.bolus, params, inner, points)
        return states[-1], (states, report)

    return framework.arrays.scan(advance, initial, intervals)[1]


def _wide(xp, intervals):
    """What the right-hand side sees of a table at its report points, leaves `[S, 1, B, ...]`, or `[S, K, B, C]`."""
    covariates = intervals.covariates
    if covariates is not None:
        shape = (*intervals.points.shape, covariates.shape[-1])
        covariates = xp.broadcast_to(covariates[:, None], shape)
    rate = intervals.rate if intervals.rate is None else intervals.rate[:, None]
    return intervals._replace(
        start=intervals.start[:, None], duration=intervals.duration[:, None], rate=rate, covariates=covariates,
        bolus=None, keep=None, points=None, drift=None,
    )  # fmt: skip


def steady_states(framework, rhs, params, steady, autonomous=False):
    r"""What an endless repetition of each cycle leads to, mg, `[R, B, D]`: the fixed point of one cycle, by Newton.

    A linear field's is found in one step, since its cycle is linear. Where Newton's step makes things worse, a cycle is
    gone through instead. The gradient is that of the fixed point, $(I - \partial P / \partial y)^{-1} \partial P$.

    Where what arrives never changes, the state is at rest: P is one Euler step there, whose fixed point is the same. A
    solver takes a course at rest in one stride, beyond its stability, and its derivative would be no number to use.

    Args:
        framework: A `Framework`.
        rhs: The right-hand side, as `prepare` made it.
        params: What the field is made of.
        steady: A `Steady` in the framework's arrays.
        autonomous: Whether the field knows no clock; one that does is never at rest.

    Raises:
        SolverFailure: A solve did not end, or no steady state was reached in 100 cycles.
    """
    arrays, xp = framework.arrays, framework.arrays.xp
    slots, subjects = steady.idle.shape
    count, size = slots * subjects, steady.cycle.bolus.shape[-1]
    idle, still = steady.idle.reshape(count), steady.still.reshape(count)[:, None] * float(autonomous) > 0
    cycle = type(steady.cycle)(
        *(leaf if leaf is None or leaf.ndim == 1 else leaf.reshape((len(leaf), count, *leaf.shape[3:]))
          for leaf in steady.cycle)
    )  # fmt: skip

    def around(y, params, cycle):
        def advance(y, interval):
            states, _ = framework.solve(rhs, y + interval.bolus, params, interval._replace(bolus=None), ENDS)
            return states[-1], None

        try:
            return arrays.scan(advance, y, cycle)[0]
        except SolverFailure as failure:
            subject = None if failure.subject is None else failure.subject % subjects
            raise SolverFailure(
                failure.framework, f"in a steady state: {failure.reason}", subject=subject, steps=failure.steps
            ) from failure

    frozen = {name: arrays.stop_gradient(value) for name, value in params.items()}
    fixed = type(cycle)(*(None if leaf is None else arrays.stop_gradient(leaf) for leaf in cycle))

    def passed(y, params, cycle):
        last = type(cycle)(*(None if leaf is None else leaf[-1] for leaf in cycle))
        # Its own segment may last no time: any length would do.
        whole, flow = last._replace(duration=cycle.duration.sum(0), bolus=None), around(y, params, cycle)
        return xp.where(still, y + rhs(0.0, y, params, whole), flow), flow

    unit, zero = (arrays.asarray(leaf) for leaf in (np.tile(np.eye(size), (count, 1, 1)), np.zeros((count, size))))

    def newton(jacobian, change):
        # An idle subject's cycle changes nothing: without the added one its equation would have no solution.
        matrix = (1 + idle[:, None, None]) * unit - jacobian
        return _solve(xp, matrix, change[..., None], unit)[..., 0]

    def step(state):
        best, after, onward, jacobian, error, tried, plain = state
        value, slope, flow = arrays.jacobian(lambda y: passed(y, frozen, fixed), tried)
        scale = framework.solver.atol + framework.solver.rtol * xp.abs(tried)
        # At rest what counts is how far the state is from there, not how fast it changes: that depends on the unit of
        # time, and rounding alone could keep it above the tolerance.
        change = xp.where(still, newton(slope, value - tried), value - tried)
        found = xp.amax(xp.abs(change) / scale, -1)
        # Who has arrived stays, however long others take.
        better = (error > 1) & (plain | (found < error))
        pairs = (tried, best), (value, after), (flow, onward)
        best, after, onward = (xp.where(better[:, None], new, old) for new, old in pairs)
        jacobian, error = xp.where(better[:, None, None], slope, jacobian), xp.where(better, found, error)
        tried = xp.where(better[:, None], best + newton(jacobian, after - best), onward)
        return (best, after, onward, jacobian, error, tried, ~better), (error <= 1).all()

    start = (zero, zero, zero, 0 * unit, arrays.asarray(np.full(count, np.inf)), zero, idle == idle)
    best, _, _, jacobian, error, _, _ = arrays.iterate(step, start, CYCLES)
    # At rest it is the field's own derivative that must lead there, whatever the step: its Cayley transform tells.
    half = (jacobian - unit) / 2
    lasting = xp.where(still[..., None], _solve(xp, unit - half, unit + half, unit), jacobian)
    best = framework.settled(best, (error <= 1) & (_attracting(xp, lasting) | (idle > 0)), subjects)
    states = best + newton(jacobian, passed(best, params, cycle)[0] - best)
    return states.reshape((slots, subjects, size))


def _solve(xp, matrix, right, unit):
    """`matrix^-1 right`; where there is no inverse, `right`: libraries raise an error of their own there, or not."""
    solvable = xp.abs(xp.linalg.det(matrix)) > 0
    return xp.linalg.solve(xp.where(solvable[:, None, None], matrix, unit), right)


def _attracting(xp, jacobian):
    """Whether cycles lead to the fixed point and not away from it, as where more grows than is lost, `[N]`."""
    power = jacobian
    for _ in range(40):
        power = xp.einsum("nij,njk->nik", power, power)
    return xp.amax(xp.abs(power), (-2, -1)) < 1


def place(framework, field, schedule):
    """A schedule's intervals and steady states in a framework's arrays.

    Args:
        framework: A `Framework`.
        field: The field that is to be solved; one that is autonomous needs no clock.
        schedule: A `Schedule`.

    Raises:
        ScheduleError: In this precision the field's clock could not tell the end of an interval from its start.
    """
    table = schedule.intervals
    if not getattr(field, "autonomous", False):
        kind = np.float32 if framework.arrays.eps > 1e-10 else np.float64
        start, duration = table.start.astype(kind), table.duration.astype(kind)
        if (gone := (table.duration > 0) & (start + duration == start)).any():
            interval, subject = (int(k) for k in np.argwhere(gone)[0])
            raise ScheduleError(
                f"subject {subject}, interval {interval}: {table.duration[interval, subject]:g} h from "
                f"{table.start[interval, subject]:.10g} h vanish in {kind.__name__}; set accelerator.precision=float64"
            )
    return framework.arrays.table(table), framework.arrays.table(schedule.steady)


def _grid(grid) -> tuple[np.ndarray, int]:
    """The grid with 0 in front, and how many points that is too many."""
    points = np.asarray(grid, np.float64)
    if points.ndim != 1 or not len(points) or points[0] < 0 or points[-1] != 1 or not (np.diff(points) > 0).all():
        raise ScheduleError(f"grid={grid}: needs fractions of an interval that increase, from 0 or above to exactly 1")
    return (points, 0) if points[0] == 0 else (np.concatenate([[0.0], points]), 1)
