"""Fields as plain values that JSON can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import ConfigError
from .measured import Field, Measured, inside, measured, network_of
from .network import Mlp
from .scales import Scales
from .structures import Hybrid, MassBalanced, Normalised, Structure

STRUCTURES: dict[str, type[Structure]] = {
    "mlp": Normalised,
    "covariate": Normalised,
    "mass_balanced": MassBalanced,
    "hybrid": Hybrid,
}


def described(field: Field) -> dict[str, Any]:
    """All that a field is besides its parameters: `model`, the network, and, where it is more, `structure` and
    `volume`."""
    found: dict[str, Any] = {"model": asdict(network_of(field))}
    if not isinstance(model := inside(field), Mlp):
        own = {name: value for name, value in vars(model).items() if name != "network"}
        found["structure"] = {"name": model.name} | own | {"scales": model.scales._asdict()}
    return found | ({"volume": field.volume} if isinstance(field, Measured) else {})


def restored(note: Mapping[str, Any]) -> Field:
    """The field that was `described`.

    Raises:
        ConfigError: The values make no field.
        KeyError, TypeError, ValueError: They are not of their kinds.
    """
    network = Mlp(**note["model"])
    if "measured" in note:  # as it was written before there were structures
        return measured(network, **note["measured"])
    model: Mlp | Structure = network
    if "structure" in note:
        kept: dict[str, Any] = note["structure"]
        own: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()}
        if (name := own.pop("name")) not in STRUCTURES:
            raise ConfigError(f"structure {name!r}: choose one of {', '.join(STRUCTURES)}")
        scales = Scales(**{key: tuple(float(one) for one in value) for key, value in own.pop("scales").items()})
        model = STRUCTURES[name](network=network, scales=scales, **own)
    return measured(model, volume=note.get("volume"))
