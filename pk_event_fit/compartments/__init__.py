"""Known kinetics: models as vector fields and, where they are linear, their exact solutions."""

from .exact import advance, propagators, rate_matrix, steady_state
from .models import COMPARTMENTS, KINETICS, PARAMETERS, TYPICAL, UNITS, Kinetics, TwoCompartment, lookup

__all__ = [
    "COMPARTMENTS",
    "KINETICS",
    "PARAMETERS",
    "TYPICAL",
    "UNITS",
    "Kinetics",
    "TwoCompartment",
    "advance",
    "lookup",
    "propagators",
    "rate_matrix",
    "steady_state",
]
