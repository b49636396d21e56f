"""Keeps what a comparison found: `python -m experiments.framework_comparison.collect outputs/<sweep>`.

The report is made anew from the sweep's files, so that text, tables and figures are of one mind. With `--headline` its
shortest form goes into the README of the whole as well. With `--table MARK` that form alone is kept, in both pages
between `<!-- MARK, written by collect.py -->` and the end that follows, where they have it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from experiments.common import END, ROOT
from pk_event_fit import store
from pk_event_fit.report.build import build
from pk_event_fit.report.document import Table, markdown
from pk_event_fit.report.measures import Evidence
from pk_event_fit.report.results import tables
from pk_event_fit.report.setting import footnote
from pk_event_fit.report.sweep import read

HERE = Path(__file__).resolve().parent
BEGIN, TABLES = "<!-- written by collect.py -->", "# Comparison\n"
HEADLINES = {
    "A training step": ["training step, ms"],
    "The whole fit": ["training, s", "peak memory, MB"],
    "Accuracy of the fits": ["RMSE, mg"],
}


def main() -> None:
    """Build the report, copy article, figures and measurements, and write the tables into one README or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--headline", action="store_true", help="for the full comparison, complete")
    parser.add_argument("--table", metavar="MARK", help="keep the shortest form alone, at this mark")
    chosen = parser.parse_args()
    sweep = chosen.sweep
    if chosen.table:
        mark = BEGIN.replace("written", f"{chosen.table}, written")
        for page in (HERE / "README.md", ROOT / "README.md"):
            if mark in page.read_text():
                put(page, markdown([headline(sweep)]).strip(), mark)
        return
    problems = build(sweep)
    asked = json.loads((sweep / "plan.json").read_text()).get("experiment")
    if chosen.headline and (problems or asked != "framework_comparison"):
        parser.error(f"--headline: {sweep} is {asked}; {'; '.join(problems) or 'complete'}")
    shutil.copytree(sweep / "figures", HERE / "figures", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.png"))
    for name in ("post.md", "measurements.csv"):
        shutil.copy(sweep / name, HERE / name)
    put(HERE / "README.md", (sweep / "summary.md").read_text().partition(TABLES)[2].strip())
    if chosen.headline:
        put(ROOT / "README.md", markdown([headline(sweep)]).strip())


def headline(sweep: Path) -> Table:
    """A few columns of the tables, side by side."""
    evidence = Evidence(read(sweep))
    head, rows = ["variant"], {}
    for group in tables(evidence).values():
        for table in group:
            for asked in HEADLINES.get(table.title, []):
                column = table.head.index(asked)
                head.append(asked)
                for row in table.rows:
                    rows.setdefault(row[0], []).append(row[column])
    note = "Mean ± standard deviation: of a step over timed blocks, of the rest over seeds. " + footnote(evidence)
    return Table("The same fit in every library", head, [[name, *cells] for name, cells in rows.items()], note)


def put(page: Path, text: str, mark: str = BEGIN) -> None:
    """Write a text between a mark of a page and the end that follows it."""
    head, rest = page.read_text().split(mark, 1)
    store.write_text(page, f"{head}{mark}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
