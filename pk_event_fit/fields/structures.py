"""What a network's numbers mean: rates of change, flows between compartments, or what known kinetics lack."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..compartments import KINETICS
from ..errors import ConfigError
from .network import Mlp
from .scales import PLAIN, Scales, divided, standard, times


@dataclass(frozen=True, kw_only=True)
class Structure(abc.ABC):
    """A field made of a network that sees amounts and covariates, each on its own scale.

    Attributes:
        network: The network.
        scales: Of what enters and leaves it.
        covariates: Names of those that it sees, C of them, in the order of `Interval.covariates`.

    Raises:
        ConfigError: The scales are not those of so many covariates, or impossible.
    """

    network: Mlp
    scales: Scales = PLAIN
    covariates: tuple[str, ...] = ()

    autonomous: ClassVar[bool] = True

    def __post_init__(self):
        self.scales.check(len(self.covariates))

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As in `model.structure`."""

    @abc.abstractmethod
    def __call__(self, xp, params, t, y, covariates):
        """Rates of change, mg/h, of amounts `[..., D]` at covariates `[..., C]`."""

    def outputs(self, compartments: int) -> int:
        """How many numbers the network gives."""
        return compartments

    def compartments(self, outputs: int) -> int:
        """How many compartments a network of so many numbers is for."""
        return outputs

    def shapes(self, compartments: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name.

        Raises:
            ConfigError: The field is one of another number of compartments.
        """
        self._check(compartments)
        return self.network.layers(compartments + len(self.covariates), self.outputs(compartments))

    def initial_params(self, compartments: int, seed: int) -> dict[str, np.ndarray]:
        """Initial parameters, float64, the same bits for every framework.

        Raises:
            ConfigError: The field is one of another number of compartments.
        """
        self._check(compartments)
        return self.network.initial_layers(compartments + len(self.covariates), self.outputs(compartments), seed)

    def _check(self, compartments: int) -> None:
        if not self.scales.fit(compartments):
            raise ConfigError(f"{self.scales}: are not those of {compartments} compartments")

    def _standard(self, xp, covariates) -> Any:
        """The covariates on their scales, `[..., C]`; None where the field sees none."""
        if not self.covariates:
            return None
        found = 0 if covariates is None else covariates.shape[-1]
        if found != len(self.covariates):
            raise ConfigError(f"the field sees {', '.join(self.covariates)}, and the intervals have {found} covariates")
        return standard(xp, covariates, self.scales)

    def _network(self, xp, params, y, standardised) -> Any:
        """What the network says of amounts in mg and covariates on their scales."""
        x = divided(xp, y, self.scales.amount)
        x = x if standardised is None else xp.concatenate([x, standardised], -1)
        return self.network(xp, params, None, x, None)


@dataclass(frozen=True, kw_only=True)
class Normalised(Structure):
    """The network gives the rates of change themselves."""

    @property
    def name(self) -> str:
        return "covariate" if self.covariates else "mlp"

    def __call__(self, xp, params, t, y, covariates):
        found = self._network(xp, params, y, self._standard(xp, covariates))
        return times(xp, found, self.scales.rate)


@dataclass(frozen=True, kw_only=True)
class MassBalanced(Structure):
    r"""The network gives a rate constant of each flow, from compartment to compartment and out of each.

    $$F_{ij} = k_{ij}(y) y_i, \quad k_{ij} = \frac{r_i}{a_i} \mathrm{softplus}(\mathrm{net}_{ij}), \quad
    \frac{dy_j}{dt} = \sum_{i \ne j} F_{ij} - \sum_{i \ne j} F_{ji} - F_{jj}$$

    with scales r and a of rates and amounts. No flow leaves an empty compartment, so that amounts stay 0 or more; the
    sum changes by what leaves, $-\sum_j F_{jj}$, alone. Source: Jacquez & Simon, SIAM Rev. 35 (1993) 43.
    """

    @property
    def name(self) -> str:
        return "mass_balanced"

    def outputs(self, compartments: int) -> int:
        """A flow from each to each; one to itself stands for what leaves."""
        return compartments**2

    def compartments(self, outputs: int) -> int:
        return math.isqrt(outputs)

    def flows(self, xp, params, y, covariates) -> Any:
        """mg/h from compartment i to j, `[..., i, j]`; on the diagonal, out."""
        found = self._network(xp, params, y, self._standard(xp, covariates))
        pace = times(xp, y, self.scales.speed)
        return xp.softplus(found).reshape((*y.shape, y.shape[-1])) * pace[..., None]

    def __call__(self, xp, params, t, y, covariates):
        flows = self.flows(xp, params, y, covariates)
        return flows.sum(-2) - xp.diagonal(flows, 0, -2, -1) - flows.sum(-1)


@dataclass(frozen=True, kw_only=True)
class Hybrid(Structure):
    r"""Known kinetics, and a network that gives what they lack of the rates of change.

    Learned kinetic parameters are $p = p_0 \exp(\theta + B z)$ with covariates $z$ on their scales, so that they stay
    above 0. In a fit of concentrations (`Measured`) the central volume is the one by which amounts are divided.

    Attributes:
        kinetics: A name in `compartments.KINETICS`.
        parameters: Where its parameters begin, in its order and units, P of them.
        learned: Names of those that are fitted, L of them; the others stay.

    Raises:
        ConfigError: There are no such kinetics or parameters, or a value is impossible.
    """

    kinetics: str
    parameters: tuple[float, ...]
    learned: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.kinetics not in KINETICS:
            raise ConfigError(f"model.kinetics={self.kinetics}: choose one of {', '.join(KINETICS)}")
        names = KINETICS[self.kinetics].parameters
        if unknown := [name for name in self.learned if name not in names]:
            raise ConfigError(f"model.learned: there is no {', '.join(unknown)}; choose of {', '.join(names)}")
        if len(set(self.learned)) < len(self.learned):
            raise ConfigError(f"model.learned={list(self.learned)}: needs different names")
        if len(self.parameters) != len(names) or not all(0 < value < math.inf for value in self.parameters):
            raise ConfigError(f"model.parameters={self.parameters}: need {', '.join(names)}, above 0 and finite")

    @property
    def name(self) -> str:
        return "hybrid"

    def _check(self, compartments: int) -> None:
        super()._check(compartments)
        if compartments != (size := len(KINETICS[self.kinetics].compartments)):
            raise ConfigError(f"model.kinetics={self.kinetics}: has {size} compartments, and the data {compartments}")

    def shapes(self, compartments: int) -> dict[str, tuple[int, ...]]:
        own: dict[str, tuple[int, ...]] = {"log_kinetics": (len(self.learned),)} if self.learned else {}
        if self.learned and self.covariates:
            own["effects"] = (len(self.covariates), len(self.learned))
        return super().shapes(compartments) | own

    def initial_params(self, compartments: int, seed: int) -> dict[str, np.ndarray]:
        start = dict(zip(KINETICS[self.kinetics].parameters, self.parameters, strict=True))
        own = {"log_kinetics": np.log([start[name] for name in self.learned])}
        own["effects"] = np.zeros((len(self.covariates), len(self.learned)))
        wanted = self.shapes(compartments)
        layers = super().initial_params(compartments, seed)
        return layers | {name: value for name, value in own.items() if name in wanted}

    def kinetic_parameters(self, xp, params, standardised=None) -> dict[str, Any]:
        """By name: numbers, or arrays `[...]` of the covariates on their scales, `[..., C]`."""
        found: dict[str, Any] = dict(zip(KINETICS[self.kinetics].parameters, self.parameters, strict=True))
        if self.learned:
            logs = params["log_kinetics"]
            logs = logs if standardised is None else xp.affine(standardised, params["effects"], logs)
            values = xp.exp(logs)
            found |= {name: values[..., k] for k, name in enumerate(self.learned)}
        if "log_volume" in params:
            found["central_volume"] = xp.exp(params["log_volume"])[0]
        return found

    def __call__(self, xp, params, t, y, covariates):
        standardised = self._standard(xp, covariates)
        known = KINETICS[self.kinetics].change(xp, self.kinetic_parameters(xp, params, standardised), y)
        lacking = self._network(xp, params, y, standardised)
        return known + times(xp, lacking, self.scales.rate)
