"""`python -m pk_event_fit.data data=...`: what a cohort holds, before anything is fitted to it.

The words are those of `python -m pk_event_fit`: `data=nonmem data.path=mine.csv 'data.compartments=[depot,central]'
data.measured=central`. A figure of it is drawn where one is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli import compose
from ..errors import ConfigError, PKEventError
from . import judges, load, settled, shown, split
from .overview import summary, told, unfitted


def main(line: Sequence[str] | None = None) -> int:
    """Do what the command line asks for.

    Returns:
        0; 2 where the input is bad, or 1 where a file cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pk_event_fit.data", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="data=...", help="which cohort")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="a PNG of what was observed")
    asked = parser.parse_intermixed_args(line)
    try:
        if asked.figure is not None and asked.figure.suffix != ".png":
            raise ConfigError(f"--figure {asked.figure}: needs a name that ends with .png")
        settings = compose(asked.words).data
        if settings.source == "croissant":
            settings = settled(settings)
        cohort = load(settings)
        parts = split(cohort, settings)
        rows = summary(cohort)
        for text in told(rows, settings.observed_unit, settings.time_unit):
            print(text)
        if (line := unfitted(rows)) is not None:
            print(line)
        fitted, validation = judges(parts.train, settings, cohort)
        shown(cohort, fitted, settings)  # refused here as by a fit
        others = f", {len(validation)} judge the fit" if len(validation) else ""
        copies = f", each with {settings.augment} noisy copies" if settings.augment else ""
        print(f"{len(fitted)} subjects are fitted{copies}{others}, {len(parts.test)} held out")
        if settings.forecast is not None:
            print(f"what was observed after dose {settings.forecast} is to be foretold")
        if cohort.covariates:
            print(f"covariates: {', '.join(cohort.covariates)}")
        if asked.figure is not None:
            from ..report.cohorts import draw_cohort

            draw_cohort(
                asked.figure, cohort, unit=settings.observed_unit, time_unit=settings.time_unit,
                held_out=parts.test, log=settings.error == "log",
            )  # fmt: skip
            print(asked.figure)
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
