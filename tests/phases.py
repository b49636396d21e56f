"""What the tests of training share: a small cohort, and fits of it, iteration by iteration."""

import numpy as np

from pk_event_fit import frameworks, training
from pk_event_fit.checkpoint import HISTORY
from pk_event_fit.data import Data, load
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.training import Training

MODEL = Mlp(hidden=[4], activation="tanh")
PARAMS = MODEL.initial_params(2, seed=3)


def small(folder, **settings):
    """Four subjects, four intervals of 12 h, five points each."""
    return load(Data(**{"subjects": 4, "points": 5, "path": str(folder / "cohort.npz")} | settings))


def create(name, precision="float32"):
    """In float64 as fits usually solve; in float32 in as few steps as will do for what is compared with itself."""
    solver = Solver() if precision == "float64" else Solver(rtol=1e-3, atol=1e-4)
    return frameworks.load(name).create(solver, precision=precision)


def steps(framework, cohort, phases, state=None, field=MODEL, **more):
    """Every iteration that is left."""
    settings, own = {}, {}
    for key, value in more.items():
        (settings if key in ("validate_every", "patience", "clip_norm") else own)[key] = value
    state = training.start(framework, PARAMS) if state is None else state
    return list(training.fit(framework, field, cohort, Training(phases=phases, **settings), state, seed=0, **own))


def rows_of(progress):
    return [dict(zip(HISTORY, (p.iteration, p.loss, p.gradient_norm, 0.0), strict=True)) for p in progress]


def numbers(framework, state):
    """All arrays of a state by name, NumPy, and its counters."""
    groups = {"params": state.params, "mean": state.moments.mean, "square": state.moments.square,
              "best": state.best_params, "": {"count": state.moments.count}}  # fmt: skip
    arrays = {
        f"{group}.{name}": np.asarray(framework.arrays.to_numpy(value))
        for group, values in groups.items()
        for name, value in values.items()
    }
    return arrays, (state.iteration, state.best_iteration, state.best_loss, state.phase, state.began)


def assert_same(framework, one, other):
    """To the bit."""
    (found, counters), (wanted, others) = numbers(framework, one), numbers(framework, other)
    assert counters == others
    for name in wanted:
        assert (name, found[name].dtype, found[name].tobytes()) == (name, wanted[name].dtype, wanted[name].tobytes())
