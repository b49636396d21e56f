"""How the loss of a fit in phases is drawn."""

import warnings

import numpy as np
import pytest

from pk_event_fit.report.phases import training_loss


def history(without: int) -> dict[str, np.ndarray]:
    """Three phases of 100 iterations, the first of them without a loss to draw."""
    phase = np.repeat([1.0, 2.0, 3.0], 100)
    return {"iteration": np.arange(1.0, 301.0), "phase": phase, "loss": np.where(phase <= without, np.nan, 1 / phase)}


@pytest.mark.parametrize(
    ("without", "names"), [(0, ["phase 1", "phase 2", "phase 3"]), (1, ["phase 2", "phase 3"]), (2, [])]
)
def test_phases_that_are_drawn_have_their_names_within_the_axes(without, names):
    figure = training_loss([history(without)], ["run"], unit="mg", title="loss")
    assert figure is not None
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == names
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a name outside leaves no room for the axes
        figure.canvas.draw()
    low, high = axis.get_xlim()
    assert all(low <= text.xy[0] <= high for text in axis.texts)
