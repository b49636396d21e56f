"""`python -m pk_event_fit.report <sweep>`: tables, figures and pages again, from the files of a sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .build import FILES, build


def main(words: Sequence[str] | None = None) -> int:
    """Build the report that the command line names.

    Returns:
        0 where the sweep is complete, 1 where something failed, is missing or damaged, 2 for bad input.
    """
    parser = argparse.ArgumentParser(prog="python -m pk_event_fit.report", description=__doc__)
    parser.add_argument("sweep", type=Path, help="folder of a sweep, as outputs/<sweep>")
    folder = parser.parse_args(words).sweep
    try:
        problems = build(folder)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(" ".join(problem.split()), file=sys.stderr)
    for name in FILES:
        print(folder / name)
    figures = sorted((folder / "figures").glob("*.svg"))
    print(f"{folder / 'figures'}: {len(figures)} figures, as SVG and PNG")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
