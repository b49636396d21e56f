"""SciPy's L-BFGS-B, one iteration at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
from scipy.optimize import minimize

from ..arrays.base import Arrays, Params

MEMORY = 20  # pairs of steps and changes of the gradient that are kept


class Flat:
    """Parameters that move as one vector, `[N]`, float64, and back.

    Args:
        arrays: What the parameters are in.
        params: All of them.
        moving: Names of those that move; None for all.
    """

    def __init__(self, arrays: Arrays, params: Params, moving: frozenset[str] | None):
        self.arrays, self.held = arrays, {name: arrays.to_numpy(value) for name, value in params.items()}
        self.names = [name for name in self.held if moving is None or name in moving]

    def vector(self, values: Params) -> np.ndarray:
        """Parameters, or their gradient."""
        return np.concatenate([self.arrays.to_numpy(values[name]).ravel() for name in self.names]).astype(np.float64)

    def placed(self, x: np.ndarray) -> Params:
        """All parameters."""
        pieces = np.split(x, np.cumsum([self.held[name].size for name in self.names])[:-1])
        own = {name: piece.reshape(self.held[name].shape) for name, piece in zip(self.names, pieces, strict=True)}
        return {name: self.arrays.asarray(own.get(name, value)) for name, value in self.held.items()}


def iterates(function: Callable, start: np.ndarray, limit: int) -> Iterator[tuple[np.ndarray, float]]:
    """Each iterate and its value, until none is better.

    SciPy calls back where this has to yield, so it works in a thread, which waits whenever it is not its turn.

    Args:
        function: `function(x) -> (value, gradient)`; what it raises is raised here.
        start: `[N]`, float64.
        limit: Most iterations.
    """
    out: queue.Queue = queue.Queue()
    turn, over = threading.Semaphore(0), threading.Event()

    def note(intermediate_result):
        out.put((np.array(intermediate_result.x), float(intermediate_result.fun)))
        turn.acquire()
        if over.is_set():
            raise StopIteration

    def asked(x):
        if over.is_set():
            raise InterruptedError
        return function(x)

    def work():
        # Nothing is small enough to stop at: a fit ends where its iterations do, or where rounding ends it.
        options = {"maxiter": limit, "maxfun": 20 * limit + 20, "maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0}
        try:
            minimize(asked, start, jac=True, method="L-BFGS-B", callback=note, options=options)
            out.put(None)
        except BaseException as error:
            out.put(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while (found := out.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
            turn.release()
    finally:
        over.set()
        turn.release()
        worker.join()
