"""torch tensors."""

from __future__ import annotations

import functools
import weakref

import torch
from torch.optim.adam import adam
from torch.utils._pytree import tree_leaves

from ..errors import ConfigError
from .base import Arrays, Moments, Namespace, scan_in_python


def _affine(x, w, b):
    # One kernel instead of two; it takes matrices only, and a field may be called on one subject's vector.
    return torch.addmm(b, x, w) if x.dim() == 2 else x @ w + b


def _constant(values, like):
    return _tensor(values, like.dtype, like.device)


@functools.lru_cache(maxsize=256)
def _tensor(values, dtype, device):
    # Kept: a field asks for its own at each evaluation.
    return torch.tensor(values, dtype=dtype, device=device)


# torch takes softplus(x) for x above 20, which is 2e-9 off; above 40 it is so to the last bit of float64.
SOFTPLUS_THRESHOLD = 40


XP = Namespace(
    torch,
    affine=_affine,
    silu=torch.nn.functional.silu,
    softplus=lambda x: torch.nn.functional.softplus(x, threshold=SOFTPLUS_THRESHOLD),
    rbf=lambda x: torch.exp(-x * x),
    constant=_constant,
)


class _Saved:
    """A tensor that a gradient keeps. It goes with the last operation that needs it."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor


class TorchArrays(Arrays):
    """torch at `float32` or `float64`, on `cpu` or `gpu`.

    Raises:
        ConfigError: There is no such device.
    """

    def __init__(self, precision: str = "float32", device: str = "cpu"):
        if device == "gpu" and not torch.cuda.is_available():
            raise ConfigError("accelerator.device=gpu: torch sees no GPU")
        self.device = torch.device("cuda" if device == "gpu" else "cpu")
        self.xp = XP
        self.dtype = getattr(torch, precision)
        self.eps = torch.finfo(self.dtype).eps

    def asarray(self, x):
        return torch.as_tensor(x, dtype=self.dtype, device=self.device)

    def to_numpy(self, x):
        return x.detach().cpu().numpy().copy()

    def scan(self, advance, carry, table):
        return scan_in_python(torch.stack, advance, carry, table)

    def stop_gradient(self, x):
        return x.detach()

    def segment_sum(self, values, index, size):
        return values.new_zeros(size).index_add(0, torch.as_tensor(index, device=values.device), values)

    @torch.enable_grad()
    def jacobian(self, function, y):
        y = y.detach().requires_grad_()
        value, extra = function(y)
        rows = [torch.autograd.grad(column.sum(), y, retain_graph=True)[0] for column in value.unbind(-1)]
        return value.detach(), torch.stack(rows, -2), extra.detach()

    def value_and_grad(self, function):
        def wrapped(params, *rest):
            leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
            value, extra = function(leaves, *rest)
            # A parameter that the loss does not touch has the gradient zero, as in JAX.
            gradient = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
            return (value.detach(), extra), dict(zip(leaves, gradient, strict=True))

        return wrapped

    def backward_memory(self, function, gradient, *arguments):
        params, *rest = arguments
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        saved: weakref.WeakSet[_Saved] = weakref.WeakSet()

        def keep(tensor):
            saved.add(holder := _Saved(tensor))
            return holder

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
            kept = function(leaves, *rest)
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((leaves, rest)) if torch.is_tensor(leaf)}
        storages = [holder.tensor.untyped_storage() for holder in saved]
        sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
        del kept  # until here, because the graph is what keeps the tensors
        return sum(size for at, size in sizes.items() if at not in given) / 1e6, "bytes saved by torch"

    def wait(self, x):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return x

    def adam_init(self, params):
        count = torch.zeros((), device="cpu")
        zeros = {name: torch.zeros_like(value) for name, value in params.items()}
        return Moments(count, zeros, {name: value.clone() for name, value in zeros.items()})

    def adam_update(self, params, gradient, moments, learning_rate):
        new = {name: value.detach().clone() for name, value in params.items()}
        mean = {name: value.clone() for name, value in moments.mean.items()}
        square = {name: value.clone() for name, value in moments.square.items()}
        # torch's kernel counts in one tensor per parameter; the package keeps one for all.
        counts = [moments.count.to(torch.float32, copy=True) for _ in new]
        adam(
            list(new.values()),
            [gradient[name] for name in new],
            list(mean.values()),
            list(square.values()),
            [],
            counts,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        return new, Moments(counts[0], mean, square)

    def adam_restore(self, count, mean, square):
        return Moments(torch.tensor(float(count)), mean, square)
