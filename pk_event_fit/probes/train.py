"""A short fit, left as predictions and a digest of its weights, to be compared with the same one made otherwise."""

from __future__ import annotations

import numpy as np

from .. import store, training
from .bench import Bench


def probe(bench: Bench):
    """`study.iterations` training steps from the config's own initial weights."""
    yield
    config, framework, model = bench.config, bench.framework(), bench.config.model.network
    settings = training.Training(
        iterations=config.study.iterations, learning_rate=config.training.learning_rate,
        batch_size=config.training.batch_size, clip_norm=config.training.clip_norm,
    )  # fmt: skip
    state = training.start(framework, model.initial_params(bench.cohort.amounts.shape[-1], config.seed))
    losses = []
    for progress in training.fit(
        framework, model, bench.cohort, settings, state, seed=config.seed, subjects=bench.fitted
    ):
        losses.append(progress.loss)
        last = progress.state
    weights = {name: framework.arrays.to_numpy(value) for name, value in last.params.items()}
    # The best parameters are taken out of the state: what is to be compared are the last ones.
    predicted = training.finish(
        framework, model, bench.cohort, last._replace(best_iteration=last.iteration, best_params=last.params)
    ).predicted
    store.write_npz(bench.out.with_suffix(".npz"), {"predicted": predicted, "losses": np.array(losses), **weights})
    return {"weights_digest": store.digest(weights), "loss": losses[-1]}
