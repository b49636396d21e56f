"""Every number that goes into a text is formatted here, and what was written is kept, so that a test can compare."""

from __future__ import annotations

import math

NONE = "not measured"
MESSAGE = 240  # characters of an error that a table shows


class Numbers:
    """Formats values for readers.

    Attributes:
        written: Every string that was handed out and holds a digit.
    """

    def __init__(self) -> None:
        self.written: set[str] = set()

    def __call__(self, value: float | None, unit: str = "") -> str:
        """A value with three digits that count, and its unit; in words where there is none."""
        if value is None:
            return NONE
        return self._keep(plain(value)) + (f" {unit}" if unit else "")

    def spread(self, mean: float | None, sd: float | None, unit: str = "") -> str:
        """Mean and standard deviation to the same place, the latter left out where there is none."""
        if mean is None:
            return NONE
        if sd is None:
            return self(mean, unit)
        first, second = _together(mean, sd)
        return f"{self._keep(first)} ± {self._keep(second)}" + (f" {unit}" if unit else "")

    def time(self, hours: float) -> str:
        """A time on the clock, as it is set."""
        return self._keep(f"{hours:g}")

    def ratio(self, ratio: float, low: float, high: float) -> str:
        """A ratio and its interval, to the same place."""
        places = 2 if max(abs(ratio), abs(high)) < 100 else 0
        while places < 6 and any(end != 1 and float(f"{end:.{places}f}") == 1 for end in (low, high)):
            places += 1  # on which side of 1 an end lies must show
        first, *ends = (self._keep(f"{value:.{places}f}") for value in (ratio, low, high))
        return f"{first} [{ends[0]}, {ends[1]}]"

    def percent(self, share: float) -> str:
        """A share of one as per cent."""
        return self._keep(f"{100 * share:.3g}") + " %"

    def name(self, text: object) -> str:
        """A name, a version or a message from the files, on one line, as it stands."""
        words = " ".join(str(text).split())
        return self._keep(words if len(words) <= MESSAGE else words[: MESSAGE - 1] + "…")

    def whole(self, text: object) -> str:
        """As `name`, however long."""
        return self._keep(" ".join(str(text).split()))

    def _keep(self, text: str) -> str:
        if any(c.isdigit() for c in text):
            self.written.add(text)
        return text


def plain(value: float) -> str:
    """Three digits that count; counts whole, large numbers with thousands marked, small ones as a power of ten."""
    if isinstance(value, int) or value == 0:
        return f"{int(value):,d}"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.{_places(value)}f}"


def _places(value: float) -> int:
    """Decimals that give three digits that count."""
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return max(0, 2 - exponent)


def _together(mean: float, sd: float) -> tuple[str, str]:
    """Both to the same place, one that shows the deviation."""
    if sd == 0 or mean == 0 or abs(mean) < 1e-3 or abs(mean) >= 999.5:
        return plain(mean), plain(sd)
    places = _places(mean)
    while round(sd, places) == 0 and places < 6:
        places += 1
    return f"{mean:.{places}f}", f"{sd:.{places}f}"
