"""A trained field can be taken away, with the same numbers."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

from pk_event_fit.arrays.numpy import NumpyArrays
from pk_event_fit.errors import CheckpointError
from pk_event_fit.export.equinox import load_eqx, save_eqx, to_equinox
from pk_event_fit.export.torch import to_torch
from pk_event_fit.fields import ACTIVATIONS, Mlp

AMOUNTS = np.random.default_rng(0).normal(0.0, 50.0, (7, 2))
ROUNDING = 100 * np.finfo(np.float64).eps  # a few dozen additions


def numbers(model, params):
    return model(NumpyArrays().xp, params, None, AMOUNTS, None)


@pytest.fixture(params=ACTIVATIONS)
def trained(request):
    model = Mlp(hidden=[8, 5], activation=request.param, initial_scale=1.0)
    params = model.initial_params(2, 0)
    return model, {name: value + 0.1 for name, value in params.items()}  # so that biases count


def test_equinox_module_gives_the_same_numbers(trained):
    field = to_equinox(*trained)
    np.testing.assert_allclose(
        jax.vmap(lambda y: field(0.0, y))(AMOUNTS), numbers(*trained), rtol=ROUNDING, atol=ROUNDING
    )


def test_torch_module_gives_the_same_numbers(trained):
    found = to_torch(*trained)(torch.tensor(0.0), torch.as_tensor(AMOUNTS)).detach().numpy()
    np.testing.assert_allclose(found, numbers(*trained), rtol=ROUNDING, atol=ROUNDING)


def test_eqx_file_comes_back_as_it_was(trained, tmp_path):
    model, params = trained
    field = to_equinox(model, params)
    save_eqx(tmp_path / "field.eqx", model, field)
    found, loaded = load_eqx(tmp_path / "field.eqx")
    assert found == model
    assert eqx.tree_equal(loaded, field)


def test_eqx_file_cut_short_is_refused(trained, tmp_path):
    path = tmp_path / "field.eqx"
    save_eqx(path, trained[0], to_equinox(*trained))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"field\.eqx"):
        load_eqx(path)


@pytest.mark.parametrize("content", [b"", b"nothing\n", b'{"kind": "other"}\n', b"[]\n"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "field.eqx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_eqx(path)
