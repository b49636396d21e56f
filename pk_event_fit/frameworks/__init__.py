"""Solver libraries, one file each, looked up in a closed set of names."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

from ..errors import ConfigError
from .base import Framework

DEFAULT = "diffrax"
GROUP = "pk_event_fit.frameworks"


def available() -> list[str]:
    """Names of the frameworks of this package and of installed plug-ins, sorted; nothing is imported."""
    own = {module.name for module in pkgutil.iter_modules(__path__)} - {"base"}
    return sorted({name for name in own if not name.startswith("_")} | {e.name for e in entry_points(group=GROUP)})


def load(name: str) -> type[Framework]:
    """The framework class of that name; imports its solver library and no other.

    Raises:
        ConfigError: There is no such framework, or its library is not installed.
    """
    if name not in available():
        raise ConfigError(f"framework={name}: choose one of {', '.join(available())}")
    try:
        for entry in entry_points(group=GROUP, name=name):
            return entry.load()
        return importlib.import_module(f"{__name__}.{name}").FRAMEWORK
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("pk_event_fit"):
            raise
        raise ConfigError(
            f"framework={name}: the package {error.name!r} is not installed; "
            f"pip install 'pk-event-fit[{'torchdyn' if name == 'torchdyn' else 'torch'}]' (or [all])"
        ) from error
