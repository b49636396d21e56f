"""Units of their own for what enters a network and what leaves it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError


class Scales(NamedTuple):
    """What counts as one. A single number of the first two is for all compartments.

    Attributes:
        amount: Of the amount in each compartment, mg.
        rate: Of its rate of change, mg/h.
        centre: Of each covariate, what counts as zero, in its unit.
        spread: Of each covariate, by how much more counts as one.
    """

    amount: tuple[float, ...] = (1.0,)
    rate: tuple[float, ...] = (1.0,)
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def check(self, covariates: int) -> None:
        """Raise where these are no scales of so many covariates.

        Raises:
            ConfigError: They are too few or too many, not finite, or, but for a centre, not above 0.
        """
        if not (self.amount and self.rate and len(self.centre) == len(self.spread) == covariates):
            raise ConfigError(f"{self}: needs amounts, rates, and {covariates} centres and spreads")
        if not np.isfinite([*self.amount, *self.rate, *self.centre, *self.spread]).all():
            raise ConfigError(f"{self}: must be finite")
        if min(*self.amount, *self.rate, *self.spread) <= 0:
            raise ConfigError(f"{self}: amounts, rates and spreads must be above 0")

    @property
    def speed(self) -> tuple[float, ...]:
        """Of the rate constant out of each compartment, 1/h."""
        return tuple(float(value) for value in np.divide(self.rate, self.amount))

    def fit(self, compartments: int) -> bool:
        """Whether there are amounts and rates for so many compartments."""
        return {len(self.amount), len(self.rate)} <= {1, compartments}


PLAIN = Scales()


def divided(xp, x, values: tuple[float, ...]) -> Any:
    """`x / values` by the last axis; one value is for all."""
    return x if values == (1.0,) else x / _placed(xp, values, x)


def times(xp, x, values: tuple[float, ...]) -> Any:
    """`x * values`, likewise."""
    return x if values == (1.0,) else _placed(xp, values, x) * x


def standard(xp, x, scales: Scales) -> Any:
    """Covariates `[..., C]` as so many spreads from their centres."""
    return (x - _placed(xp, scales.centre, x)) / _placed(xp, scales.spread, x)


def _placed(xp, values: tuple[float, ...], like: Any) -> Any:
    # A plain number costs eager libraries less than an array of one.
    return values[0] if len(values) == 1 else xp.constant(values, like)
