"""Solver libraries, one file each, looked up in a closed set of names."""

from __future__ import annotations

import importlib
import pkgutil
import re
from importlib.metadata import PackageNotFoundError, entry_points, requires

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
        extra = _extra(name) or _extra(str(error.name))
        what = f"'pk-event-fit[{extra}]'" if extra else error.name
        raise ConfigError(
            f"framework={name}: the package {error.name!r} is not installed; pip install {what}"
        ) from error


def asked_packages() -> list[str]:
    """What this package asks for, as its metadata tell; nothing where it runs without having been installed."""
    try:
        return requires("pk-event-fit") or []
    except PackageNotFoundError:
        return []


def _extra(package: str) -> str | None:
    """An extra of this package that brings another one, and not everything."""
    brings = [line for line in asked_packages() if re.match(re.escape(package) + r"\b", line)]
    extras = [found[1] for line in brings if (found := re.search(r"extra == ['\"]([\w-]+)", line))]
    return next((extra for extra in extras if extra != "all"), None)
