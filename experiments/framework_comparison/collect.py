"""Keeps what a comparison found: `python -m experiments.framework_comparison.collect outputs/<sweep>`.

The report is made anew from the sweep's files, so that text, tables and figures are of one mind.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from experiments.common import END
from pk_event_fit import store
from pk_event_fit.report.build import build

HERE = Path(__file__).resolve().parent
BEGIN, TABLES = "<!-- written by collect.py -->", "# Comparison\n"


def main() -> None:
    """Build the report, copy article, figures and measurements, and write the tables into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    sweep = parser.parse_args().sweep
    problems = build(sweep)
    shutil.copytree(sweep / "figures", HERE / "figures", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.png"))
    for name in ("post.md", "measurements.csv"):
        shutil.copy(sweep / name, HERE / name)
    tables = (sweep / "summary.md").read_text().partition(TABLES)[2].strip()
    missing = "".join(f"* {problem}\n" for problem in problems)
    text = f"What is missing or not as it should be:\n\n{missing}\n{tables}" if problems else tables
    page = (HERE / "README.md").read_text()
    head, rest = page.split(BEGIN, 1)
    store.write_text(HERE / "README.md", f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
