"""Networks of other ecosystems: stacks of linear layers, whose weights are `[outputs, inputs]`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

LAYER = re.compile(r"(?:.*\.)?(\d+)\.(weight|bias)")


def is_stack(names) -> bool:
    """Whether every name is that of a layer's weight or bias, such as `network.2.weight`."""
    return bool(names) and all(LAYER.fullmatch(name) for name in names)


def params_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters by our names, `weight_0 [inputs, outputs], bias_0 [outputs]...`, of layers in the order of their
    numbers, which may have gaps: torch counts activations too.

    Raises:
        ValueError: They are not one stack of layers.
    """
    if not is_stack(arrays):
        raise ValueError(f"{', '.join(arrays) or 'nothing'}: these are not weights and biases of a stack of layers")
    found = {name: LAYER.fullmatch(name) for name in arrays}
    parts = {name: (int(match[1]), match[2]) for name, match in found.items() if match}
    place = {number: k for k, number in enumerate(sorted({number for number, _ in parts.values()}))}
    own = {f"{kind}_{place[number]}": np.array(arrays[name].T, order="C") for name, (number, kind) in parts.items()}
    if len(own) < len(arrays):
        raise ValueError(f"{', '.join(arrays)}: these are more than one stack of layers")
    return own
