"""Each solver library used directly, as its documentation does: real time, a module of its own, its own optimiser.

Every function takes the weights (NumPy, by name), the amounts observed `[B, S, K, 2]` in mg, the doses `[S]` in mg, the
interval length in h and the tolerances, and returns a function that takes one training step and returns its loss, and a
function that says how many steps the last forward solve took, the mean over subjects where each has its own.
"""

import numpy as np


def diffrax(weights, observed, doses, length, rtol, atol, *, checkpoints=None, bounded=None, dense=False):
    """A vmapped scan over intervals with `SaveAt(ts=...)`.

    Its options: so many checkpoints; or `DirectAdjoint` with that many steps at most, kept one and all; or its dense
    output, evaluated at the report points.
    """
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    class Field(eqx.Module):
        layers: list

        def __call__(self, t, y, args):
            for weight, bias in self.layers[:-1]:
                y = jax.nn.relu(y @ weight + bias)
            weight, bias = self.layers[-1]
            return y @ weight + bias

    count = len(weights) // 2
    field = Field([(jnp.asarray(weights[f"weight_{k}"]), jnp.asarray(weights[f"bias_{k}"])) for k in range(count)])
    batch, intervals, points, _ = observed.shape
    observed, doses = jnp.asarray(observed), jnp.asarray(doses)
    times = jnp.linspace(0.0, length, points) + length * jnp.arange(intervals)[:, None]
    way_back = diffrax.DirectAdjoint() if bounded else diffrax.RecursiveCheckpointAdjoint(checkpoints=checkpoints)

    def trajectory(field, initial):
        def interval(y, row):
            ts, dose = row
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                diffrax.Dopri5(),
                t0=ts[0],
                t1=ts[-1],
                dt0=None,
                y0=y.at[0].add(dose),
                saveat=diffrax.SaveAt(dense=True) if dense else diffrax.SaveAt(ts=ts),
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
                adjoint=way_back,
                max_steps=bounded or 4096,
            )
            states = jax.vmap(solution.evaluate)(ts) if dense else solution.ys
            return states[-1], (states, solution.stats["num_steps"])

        return jax.lax.scan(interval, initial, (times, doses))[1]

    def loss(field):
        states, steps = jax.vmap(trajectory, in_axes=(None, 0))(field, jnp.zeros((batch, 2)))
        return ((states - observed) ** 2).mean(), steps

    adam = optax.adam(1e-3)

    @jax.jit
    def step(field, moments):
        (value, steps), gradient = jax.value_and_grad(loss, has_aux=True)(field)
        update, moments = adam.update(gradient, moments)
        return eqx.apply_updates(field, update), moments, value, steps

    state = [field, adam.init(field), None, None]

    def train():
        state[:] = step(*state[:2])
        return float(state[2])

    return train, lambda: float(np.asarray(state[3]).sum(1).mean())


def _torch_field(weights):
    import torch

    layers = []
    for k in range(len(weights) // 2):
        linear = torch.nn.Linear(*weights[f"weight_{k}"].shape)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(weights[f"weight_{k}"].T))
            linear.bias.copy_(torch.as_tensor(weights[f"bias_{k}"]))
        layers += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])

    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.steps = 0

        def forward(self, t, y):
            return self.network(y)

        def callback_step(self, t, y, dt):
            self.steps += 1

    return Field()


def _torch_training(field, observed, doses, length, solve):
    """The loop that the three torch libraries share when they are used by hand."""
    import torch

    observed = torch.as_tensor(observed)
    batch, intervals, points, _ = observed.shape
    times = torch.linspace(0.0, length, points) + length * torch.arange(intervals)[:, None]
    adam = torch.optim.Adam(field.parameters(), lr=1e-3)

    def train():
        adam.zero_grad()
        y, states = torch.zeros(batch, 2), []
        for k in range(intervals):
            y = y + torch.tensor([float(doses[k]), 0.0])
            states.append(solve(y, times[k]))
            y = states[-1][-1]
        loss = ((torch.stack(states) - observed.permute(1, 2, 0, 3)) ** 2).mean()
        loss.backward()
        adam.step()
        return float(loss.detach())

    return train


def torchdiffeq(weights, observed, doses, length, rtol, atol, *, guarded=False):
    """`odeint`; guarded by the norm that keeps every subject's tolerance."""
    import torch
    from torchdiffeq import odeint

    field = _torch_field(weights)

    def worst(error):
        with torch.no_grad():
            return error.square().mean(-1).amax().sqrt()

    options = {"norm": worst} if guarded else None

    def solve(y, times):
        return odeint(field, y, times, rtol=rtol, atol=atol, method="dopri5", options=options)

    train, last = _torch_training(field, observed, doses, length, solve), [0]

    def counted():
        field.steps = 0
        value = train()
        last[0] = field.steps
        return value

    return counted, lambda: last[0]


def torchode(weights, observed, doses, length, rtol, atol):
    """`AutoDiffAdjoint`, the PI-free controller that the other libraries have, without gradients through it."""
    import torch
    import torchode

    field = _torch_field(weights)
    term = torchode.ODETerm(field)
    method = torchode.Dopri5(term=term)
    control = torchode.IntegralController(atol=atol, rtol=rtol, term=term)
    solver = torchode.AutoDiffAdjoint(method, control, backprop_through_step_size_control=False)
    steps = []

    def solve(y, times):
        solution = solver.solve(torchode.InitialValueProblem(y0=y, t_eval=times.expand(len(y), -1)))
        steps.append(float(solution.stats["n_steps"].to(torch.float64).mean()))
        return solution.ys.transpose(0, 1)

    train = _torch_training(field, observed, doses, length, solve)
    return train, lambda: sum(steps[-len(doses) :])


def torchdyn(weights, observed, doses, length, rtol, atol, *, guarded=False):
    """`odeint` with interpolation; guarded by tolerances divided by sqrt(B)."""
    from torchdyn.numerics import odeint

    field = _torch_field(weights)
    scale = len(observed) ** -0.5 if guarded else 1.0
    calls = [0]

    def counted(t, y):
        calls[0] += 1
        return field(t, y)

    def solve(y, times):
        return odeint(counted, y, times, "dopri5", atol=atol * scale, rtol=rtol * scale, interpolator="4th")[1]

    train, last = _torch_training(field, observed, doses, length, solve), [0]

    def step():
        calls[0] = 0
        value = train()
        last[0] = (calls[0] - 2 * len(doses)) / 6  # two calls choose the first step, six make one
        return value

    return step, lambda: last[0]
