"""Fits Neural ODEs to pharmacokinetic dosing data, with the solver library of your choice.

Importing this package loads no array library but NumPy. `load_model` and `save_model` bring trained models in and out:
see `pk_event_fit.saving`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {name: "saving" for name in ("SavedModel", "load_model", "save_model")}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
