"""Compartment models as vector fields: one to three compartments and what is added to them, in a closed set of names;
and an enzyme that uses up its substrate.

Sources: Gibaldi & Perrier, Pharmacokinetics, 2nd ed. 1982, chapters 1 and 2 (compartments) and 7 (Michaelis-Menten);
Michaelis & Menten, Biochem. Z. 49 (1913) 333 (substrate);
Sheiner et al., Clin. Pharmacol. Ther. 25 (1979) 358 (effect compartment); Dayneka, Garg & Jusko, J. Pharmacokinet.
Biopharm. 21 (1993) 457 (indirect response, model I).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError

# Unit and typical value of everything that a model may be made of.
QUANTITIES = {
    "clearance": ("L/h", 1.0),
    "elimination_rate": ("1/h", 0.1),
    "vmax": ("mg/h", 5.0),
    "km": ("mg/L", 5.0),
    "central_volume": ("L", 10.0),
    "intercompartmental_clearance": ("L/h", 0.5),
    "peripheral_volume": ("L", 20.0),
    "second_intercompartmental_clearance": ("L/h", 0.2),
    "second_peripheral_volume": ("L", 50.0),
    "k12": ("1/h", 0.05),
    "k21": ("1/h", 0.025),
    "k13": ("1/h", 0.02),
    "k31": ("1/h", 0.004),
    "absorption_rate": ("1/h", 1.0),
    "ke0": ("1/h", 0.3),
    "kin": ("response/h", 10.0),
    "kout": ("1/h", 0.1),
    "imax": ("1", 0.9),
    "ic50": ("mg/L", 2.0),
}
# What follows "pk_1c" in a name, and the parameters of elimination that it stands for.
ELIMINATION = {
    "": ("clearance", "central_volume"),
    "_rates": ("elimination_rate", "central_volume"),
    "_mm": ("vmax", "km", "central_volume"),
}
# Each peripheral compartment: by a flow and a volume, or by rate constants there and back. k13 and k31 are those of the
# second whether or not there is a depot, which NONMEM counts: its k23 and k32 are k12 and k21 here.
PERIPHERALS = (
    ("peripheral", ("intercompartmental_clearance", "peripheral_volume"), ("k12", "k21")),
    ("second_peripheral", ("second_intercompartmental_clearance", "second_peripheral_volume"), ("k13", "k31")),
)


@dataclass(frozen=True, kw_only=True)
class Kinetics:
    """A compartment model: a vector field whose covariates are its parameters. Their names say what it is made of.

    Attributes:
        name: As in `KINETICS`.
        parameters: P names from `QUANTITIES`, in the order of the covariates.
        compartments: D names, in the order of the state; a depot is the first. All hold amounts in mg but "response"
            and "substrate", which is a concentration. What "effect" holds is hypothetical: in equilibrium as much as
            the central compartment, out of which it takes nothing.
        quantities: Unit and typical value of each parameter, where they are not those of `QUANTITIES`.
        amount_unit: Of what the compartments hold.
        time_unit: Of time.
    """

    name: str
    parameters: tuple[str, ...]
    compartments: tuple[str, ...]
    quantities: tuple[tuple[str, float], ...] | None = None
    amount_unit: str = "mg"
    time_unit: str = "h"

    autonomous = True

    def __call__(self, xp, params, t, y, covariates):
        """Rates of change, mg/h, of amounts `[..., D]` at parameters `[..., P]`, in the arrays of `xp`."""
        return self.change(xp, _by_name(self.parameters, covariates), y)

    def change(self, xp, p: dict[str, Any], y) -> Any:
        """The same with each parameter by its name, a number or `[...]`."""
        amounts = _by_name(self.compartments, y)
        centre = self.compartments[self.observed]
        central = amounts[centre]
        inward = _eliminated(p, central)
        change: dict[str, Any] = {}
        for name, there, back in _exchange(p):
            flow = there * central - back * amounts[name]
            inward, change[name] = inward - flow, flow
        if "depot" in amounts:
            absorbed = p["absorption_rate"] * amounts["depot"]
            inward, change["depot"] = inward + absorbed, -absorbed
        if "effect" in amounts:
            change["effect"] = p["ke0"] * (central - amounts["effect"])
        if "response" in amounts:
            concentration = central / p["central_volume"]
            inhibition = p["imax"] * concentration / (p["ic50"] + concentration)
            change["response"] = p["kin"] * (1 - inhibition) - p["kout"] * amounts["response"]
        change[centre] = inward
        return xp.stack([change[name] for name in self.compartments], -1)

    @property
    def units(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(unit for unit, _ in self._quantities)

    @property
    def typical(self) -> tuple[float, ...]:
        """Parameters of the typical patient."""
        return tuple(value for _, value in self._quantities)

    @property
    def _quantities(self) -> tuple[tuple[str, float], ...]:
        return self.quantities or tuple(QUANTITIES[name] for name in self.parameters)

    @property
    def observed(self) -> int:
        """Which compartment's concentration is measured, from 0: the central one, or the substrate."""
        return self.compartments.index("central" if "central" in self.compartments else "substrate")

    @property
    def linear(self) -> bool:
        """Whether the field is a matrix times the state."""
        return "vmax" not in self.parameters and "imax" not in self.parameters

    def concentration(self, parameters, amounts):
        """Concentration in the central compartment, mg/L: `[..., P]` and mg `[..., D]` to `[...]`, in any arrays."""
        if "central_volume" not in self.parameters:
            return amounts[..., self.observed]
        return amounts[..., self.observed] / parameters[..., self.parameters.index("central_volume")]

    def resting(self, parameters: np.ndarray) -> np.ndarray:
        """The state before any dose, `[..., P]` to `[..., D]`: a response at kin / kout, and nothing anywhere else."""
        values = self.checked(parameters)
        state = np.zeros((*values.shape[:-1], len(self.compartments)))
        if "response" in self.compartments:
            p = _by_name(self.parameters, values)
            state[..., self.compartments.index("response")] = p["kin"] / p["kout"]
        return state

    def rate_matrix(self, parameters: np.ndarray) -> np.ndarray:
        """The matrix A of dy/dt = A y, 1/h, `[..., P]` to `[..., D, D]`, float64.

        Raises:
            ConfigError: The model is not linear, or a rate is not finite at these parameters.
        """
        if not self.linear:
            raise ConfigError(f"kinetics={self.name}: is not linear, so that it has no rate matrix and no closed form")
        values = self.checked(parameters)
        p, at = _by_name(self.parameters, values), {name: k for k, name in enumerate(self.compartments)}
        matrix = np.zeros((*values.shape[:-1], len(at), len(at)))
        centre = at["central"]
        with np.errstate(all="ignore"):
            matrix[..., centre, centre] = -_leaving(p)
            for name, there, back in _exchange(p):
                k = at[name]
                matrix[..., k, centre], matrix[..., centre, k], matrix[..., k, k] = there, back, -back
        if "depot" in at:
            matrix[..., centre, 0], matrix[..., 0, 0] = p["absorption_rate"], -p["absorption_rate"]
        if "effect" in at:
            matrix[..., at["effect"], centre], matrix[..., at["effect"], at["effect"]] = p["ke0"], -p["ke0"]
        self.refuse(~np.isfinite(matrix).all((-2, -1)), values, "a rate is not finite")
        return matrix

    def checked(self, parameters: np.ndarray) -> np.ndarray:
        """The parameters as float64, `[..., P]`.

        Raises:
            ConfigError: Their number is not P.
        """
        values, size = np.asarray(parameters, np.float64), len(self.parameters)
        if values.shape[-1:] != (size,):
            raise ConfigError(
                f"kinetics={self.name}: parameters have shape {list(values.shape)}; needs {size}: "
                + ", ".join(self.parameters)
            )
        return values

    def refuse(self, bad: Any, parameters: np.ndarray, reason: str) -> None:
        """Raise a `ConfigError` that tells the first of the parameters `[..., P]` that are `bad`, `[...]`, if any."""
        if not np.any(bad):
            return
        spot = tuple(int(k) for k in np.argwhere(bad)[0])
        subject = f"subject {', '.join(map(str, spot))}: " if spot else ""
        told = zip(self.parameters, parameters[spot], self.units, strict=True)
        values = ", ".join(f"{name} {value} {unit}" for name, value, unit in told)
        raise ConfigError(f"kinetics={self.name}, {subject}{reason}, with {values}")


def _by_name(names: tuple[str, ...], values: Any) -> dict[str, Any]:
    return {name: values[..., k] for k, name in enumerate(names)}


def _eliminated(p: dict[str, Any], central: Any) -> Any:
    """What elimination does to the central amount, mg/h."""
    if "vmax" in p:
        km = p["km"] * p["central_volume"] if "central_volume" in p else p["km"]
        return -p["vmax"] * central / (km + central)
    if "clearance" in p:
        return -p["clearance"] / p["central_volume"] * central
    return -p["elimination_rate"] * central


def _exchange(p: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Each peripheral compartment that the parameters tell of, with the rate constants there and back, 1/h."""
    found = []
    for name, (flow, volume), (there, back) in PERIPHERALS:
        if flow in p:
            found.append((name, p[flow] / p["central_volume"], p[flow] / p[volume]))
        elif there in p:
            found.append((name, p[there], p[back]))
    return found


def _leaving(p: dict[str, Any]) -> Any:
    """Rate constant of all that leaves the central compartment, 1/h, where elimination is of first order."""
    if "clearance" in p:
        return sum((p[flow] for _, (flow, _), _ in PERIPHERALS if flow in p), p["clearance"]) / p["central_volume"]
    return sum((p[there] for _, _, (there, _) in PERIPHERALS if there in p), p["elimination_rate"])


def _catalogue() -> dict[str, Kinetics]:
    models = []
    for size, depot, (suffix, first) in itertools.product((1, 2, 3), (False, True), ELIMINATION.items()):
        others = PERIPHERALS[: size - 1]
        pairs = [rates if suffix == "_rates" else flows for _, flows, rates in others]
        parameters: tuple[str, ...] = (*first, *itertools.chain(*pairs))
        compartments: tuple[str, ...] = ("central", *(name for name, _, _ in others))
        if depot:
            parameters, compartments = (*parameters, "absorption_rate"), ("depot", *compartments)
        name = f"pk_{size}c{'_depot' if depot else ''}{suffix}"
        models.append(Kinetics(name=name, parameters=parameters, compartments=compartments))
    for name, state, added in (
        ("pk_1c_effect", "effect", ("ke0",)),
        ("pk_1c_indirect", "response", ("kin", "kout", "imax", "ic50")),
    ):
        parameters = ("clearance", "central_volume", *added)
        models.append(Kinetics(name=name, parameters=parameters, compartments=("central", state)))
    models.append(Kinetics(
        name="michaelis_menten", parameters=("vmax", "km"), compartments=("substrate",),
        quantities=(("mmol/L/min", 7.0), ("mmol/L", 100.0)), amount_unit="mmol/L", time_unit="min",
    ))  # fmt: skip
    return {model.name: model for model in models}


KINETICS = _catalogue()
TWO = KINETICS["pk_2c"]
PARAMETERS, UNITS, TYPICAL, COMPARTMENTS = TWO.parameters, TWO.units, TWO.typical, TWO.compartments


def TwoCompartment() -> Kinetics:
    """`pk_2c`: dA1/dt = -(CL + Q) / V1 A1 + Q / V2 A2, dA2/dt = Q / V1 A1 - Q / V2 A2, in CL, V1, Q, V2."""
    return TWO


def lookup(name: str) -> Kinetics:
    """The model of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in KINETICS:
        raise ConfigError(f"kinetics={name}: choose one of {', '.join(KINETICS)}")
    return KINETICS[name]
