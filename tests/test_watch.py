"""Warnings of a fit that goes wrong: each once, with its iteration, and none of one that goes well."""

import numpy as np
import pytest
from phases import create, small, steps

from pk_event_fit import training
from pk_event_fit.fields import Mlp, Normalised, Scales
from pk_event_fit.training import Phase, Training, Watch, dead_layers


@pytest.fixture(scope="module")
def torchode():
    return create("torchode")


def watching(framework, params=None, dead=None):
    params = {"weight_0": np.ones((2, 3)), "bias_0": np.zeros(3)} if params is None else params
    state = training.start(framework, params)
    return Watch(framework.arrays, Training(), state, dead), state


def rows(*pairs):
    return [{"iteration": k + 1, "loss": loss, "gradient_norm": norm} for k, (loss, norm) in enumerate(pairs)]


def told(watch, state, found):
    return [line for k in range(len(found)) for line in watch.of_iteration(state, found[: k + 1])]


CASES = {
    "gradient is 0": [(9, 1), (9, 0), (9, 0)],
    "vanished": [(9, 1), (8, 1e-7), (8, 1e-7)],
    "exploded": [(9, 1), (8, 2e3), (8, 3e3)],
}


@pytest.mark.parametrize("word", CASES)
def test_a_gradient_that_goes_wrong_is_told_once_with_its_iteration(torchode, word):
    watch, state = watching(torchode)
    (line,) = told(watch, state, rows(*CASES[word]))
    assert word in line
    assert "iteration 2" in line
    assert "Try" in line


def test_a_gradient_that_vanishes_because_the_fit_is_good_is_not_told(torchode):
    assert told(*watching(torchode), rows((9, 1), (1e-3, 1e-7))) == []


def test_a_gradient_is_compared_with_its_own_phase(torchode):
    watch, state = watching(torchode)
    later = state._replace(phase=1, began=1)
    assert list(watch.of_iteration(later, rows((9, 1e-5), (9, 1), (8, 2)))) == []


@pytest.mark.parametrize(("name", "times", "count"), [("weight_0", 99, 0), ("weight_0", 101, 1), ("bias_0", 101, 1)])
def test_a_parameter_that_grows_is_told_once(torchode, name, times, count):
    watch, state = watching(torchode)
    size = np.sqrt(0.5)  # of the weights and biases together, which is what biases are compared with
    scale = times * (size if name == "bias_0" else 1.0)
    larger = {name: torchode.arrays.asarray(np.full(state.params[name].shape, scale))}
    grown = state._replace(params=state.params | larger)
    lines = [*watch.of_parameters(grown), *watch.of_parameters(grown)]
    assert [name in line for line in lines] == [True] * count


def test_a_loss_that_has_not_fallen_is_told(torchode):
    watch, _ = watching(torchode)
    (line,) = watch.of_phase(0, 0, rows(*[(5, 1)] * 20))
    assert "phase 1 of 1" in line


def test_a_loss_that_has_fallen_is_not_told(torchode):
    watch, _ = watching(torchode)
    assert list(watch.of_phase(0, 0, rows(*[(5, 1)] * 19, (4.9, 1)))) == []


@pytest.mark.parametrize("normalised", [False, True])
def test_dead_rectifiers_are_found_layer_by_layer(tmp_path, normalised):
    network = Mlp(hidden=[3, 3])
    field = Normalised(network=network, scales=Scales((10.0,), (2.0,))) if normalised else network
    dead, params = dead_layers(field, small(tmp_path)), network.initial_params(2, 0)
    assert dead(params) == []
    assert dead(params | {"bias_1": np.full(3, -1e9)}) == [2]
    assert dead(params | {"bias_0": np.full(3, -1e9), "bias_1": np.ones(3)}) == [1]


def test_a_network_without_rectifiers_is_not_looked_at(tmp_path):
    assert dead_layers(Mlp(hidden=[3], activation="tanh"), small(tmp_path)) is None


def test_dead_rectifiers_are_told_once(torchode):
    watch, state = watching(torchode, dead=lambda params: [1])
    lines = [*watch.of_parameters(state), *watch.of_parameters(state)]
    assert len(lines) == 1
    assert "hidden layer 1" in lines[0]


def test_an_ordinary_fit_is_not_warned(torchode, tmp_path):
    cohort = small(tmp_path)
    progress = steps(torchode, cohort, [Phase(iterations=15, learning_rate=1e-2)])
    watch = Watch(torchode.arrays, Training(), training.start(torchode, _numpy(torchode, progress[0])), None)
    found = rows(*[(p.loss, p.gradient_norm) for p in progress])
    assert told(watch, progress[-1].state, found) == []
    assert [*watch.of_parameters(progress[-1].state), *watch.of_phase(0, 0, found)] == []


def _numpy(framework, progress):
    return {name: framework.arrays.to_numpy(value) for name, value in progress.state.params.items()}
