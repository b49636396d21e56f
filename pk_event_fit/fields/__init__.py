"""Learnable vector fields, written once for every array library.

A field is called as `field(xp, params, t, y, covariates) -> dy/dt` in mg/h, where `xp` is `Arrays.xp`.
"""

from __future__ import annotations

from .measured import Field, Measured, estimates, inside, measured, network_of, plain
from .network import ACTIVATIONS, Mlp
from .saved import described, restored
from .scales import Scales
from .settings import STRUCTURES, Model
from .structures import Hybrid, MassBalanced, Normalised, Structure

__all__ = [
    "ACTIVATIONS",
    "STRUCTURES",
    "Field",
    "Hybrid",
    "MassBalanced",
    "Measured",
    "Mlp",
    "Model",
    "Normalised",
    "Scales",
    "Structure",
    "described",
    "estimates",
    "inside",
    "measured",
    "network_of",
    "plain",
    "restored",
]
