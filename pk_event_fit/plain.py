"""What a config may be made of, as it is written: what its values do not show once they have types."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .config import Config
from .errors import ConfigError
from .training import FLAT

LISTED = re.compile(r"data\.doses\.\d+\.\w+|training\.phases\.\d+\.\w+(\.\w+)?")  # settings by name within a list


def check_shape(plain: Any) -> None:
    """Refuse what the schema lets through, or would refuse without naming the key.

    Raises:
        ConfigError: A part is no table of settings, a value is missing or asks a resolver, a list holds settings.
    """
    if not isinstance(plain, dict):
        raise ConfigError(f"config: is a {type(plain).__name__}; needs settings by name")
    for part in dataclasses.fields(Config):
        value = plain.get(part.name, {})
        if part.default_factory is not dataclasses.MISSING and not isinstance(value, dict):
            names = ", ".join(entry.name for entry in dataclasses.fields(part.default_factory()))  # type: ignore[arg-type]
            raise ConfigError(f"{part.name}={value}: needs settings by name: {names}")
    for key, value in _leaves(plain):
        if isinstance(value, str) and "${" in re.sub(r"\$\{[\w.\[\]]+\}", "", value):
            raise ConfigError(f"{key}={value}: only plain references such as ${{seed}} are resolved")
        if value == "???":
            raise ConfigError(f"{key}=???: needs a value")
        if re.search(r"\.\d+\.\D", key) and not LISTED.fullmatch(key):
            raise ConfigError(f"{key}={value}: a list takes plain values, not settings by name")


def check_words(words: Sequence[str], config: Config) -> None:
    """Refuse words that change nothing, which their values do not show where they are the defaults.

    Raises:
        ConfigError: A word sets for all of a fit what its phases have, each its own.
    """
    if config.training.phases is None:
        return
    for word in words:
        if re.match(rf"\+*training\.({'|'.join(FLAT)})=", word):
            raise ConfigError(f"{word}: training.phases is set, and each phase has its own; set it there")


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}{key}.")
    elif isinstance(node, list):
        for k, value in enumerate(node):
            yield from _leaves(value, f"{prefix}{k}.")
    else:
        yield prefix[:-1], node
